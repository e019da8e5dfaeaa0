"""Lines `image.jpg,caption` below a header: captions of Flickr's sets as Kaggle and clip-benchmark keep them."""

from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.text_files import read_lines
from cosmos_eval.datasets.data import Data, RetrievalData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_sources import FileImage

SEPARATOR = ".jpg,"


def read_flickr_captions(benchmark: Any, data_root: Path) -> Data:
    """Read images with their captions, in the order in which the images first occur.

    The first line is a header. Each other line is the name of a `.jpg`, a comma and a caption, without quotes: further
    commas belong to the caption.

    Options: `path` (the file), `images` (folder).

    Raises:
        DataProblems: a line of another form (with file and line), images missing, no line.
    """
    checker = DatasetChecker(benchmark, data_root)
    path = checker.find_path("path", "file")
    folder = checker.find_path("images", "folder")
    path, folder = checker.require(path, folder)
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if number == 1 or not line.strip():
            continue
        stem, separator, caption = line.strip().partition(SEPARATOR)
        if not separator or not stem or not caption.strip():
            checker.refuse(f"cannot use {path}:{number}: a line is an image, a comma and a caption: a.jpg,a dog runs")
        captions.setdefault(f"{stem}.jpg", []).append(caption.strip())
    names = list(captions)
    if not names:
        checker.refuse(f"has no captions in {path} below its header")
    folder = checker.find_path("images", "folder", containing=names[0]) or folder
    checker.check_images(folder, names)
    counts = [len(of_image) for of_image in captions.values()]
    return checker.finish(
        RetrievalData(
            images=[FileImage(name, folder / name) for name in names],
            texts=[caption for of_image in captions.values() for caption in of_image],
            image_of_text=np.repeat(np.arange(len(names), dtype=np.int64), counts),
        )
    )
