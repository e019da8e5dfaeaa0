"""Data classes: what a reader gives, one class for each kind of data, with everything that is asked of it."""

from cosmos_eval.datasets.data.base import Data
from cosmos_eval.datasets.data.classification import ClassificationData
from cosmos_eval.datasets.data.perception import PerceptionData
from cosmos_eval.datasets.data.retrieval import RetrievalData
from cosmos_eval.datasets.data.segmentation import IGNORED, SegmentationData
from cosmos_eval.datasets.data.splits import SplitData

__all__ = ["IGNORED", "ClassificationData", "Data", "PerceptionData", "RetrievalData", "SegmentationData", "SplitData"]
