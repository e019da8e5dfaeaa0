"""Former module of image_sources.py and masks.py, for imports that are not changed yet."""

from cosmos_eval.datasets.dataset_checks import DataCheck
from cosmos_eval.datasets.image_sources import ArrayImage, FileImage, ImageSource, UprightImage, decode
from cosmos_eval.datasets.masks import ArrayMask, Mask

__all__ = ["ArrayImage", "ArrayMask", "DataCheck", "FileImage", "ImageSource", "Mask", "UprightImage", "decode"]
