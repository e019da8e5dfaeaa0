"""Karpathy's split files (Karpathy & Fei-Fei, CVPR 2015), such as dataset_coco.json and dataset_flickr30k.json.

The list of {image, caption} that the released COSMOS and FLAIR code reads (flickr30k_val.json) is accepted, too.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cosmos_core.json_text import read_json
from cosmos_eval.datasets.data import Data, RetrievalData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_sources import FileImage


def read_karpathy(benchmark: Any, data_root: Path) -> Data:
    """Read the images of one split with all of their captions, in the order of the file and as they are written.

    Options: `images` (folder), `annotations` (the JSON), `split` (test, val, train, restval). The image of a record is
    `filepath/filename` below the folder, or `filename` if there is no `filepath` (Flickr). A plain list of
    {image, caption: [...]} is a single split: `split` is ignored, and only the file name of `image` is used.

    Raises:
        DataProblems: files missing, an empty split, images without a caption or listed twice.
        RequestError: not JSON (with line and column).
    """
    checker = DatasetChecker(benchmark, data_root)
    folder, path = checker.require(checker.find_path("images", "folder"), checker.find_path("annotations", "file"))
    content = read_json(path)
    if isinstance(content, list):
        captioned_images = [_read_list_record(record, i, path, checker) for i, record in enumerate(content)]
    else:
        captioned_images = _read_split(content, checker.options["split"], path, checker)
    names = [name for name, _ in captioned_images]
    folder = checker.find_path("images", "folder", containing=names[0] if names else None) or folder
    checker.check_images(folder, names)
    counts = [len(captions) for _, captions in captioned_images]
    return checker.finish(
        RetrievalData(
            images=[FileImage(name, folder / name) for name in names],
            texts=[caption for _, captions in captioned_images for caption in captions],
            image_of_text=np.repeat(np.arange(len(names), dtype=np.int64), counts),
        )
    )


def _read_list_record(record: Any, i: int, path: Path, checker: DatasetChecker) -> tuple[str, list[str]]:
    """Return the file name and the captions of the record `i` of a plain list."""
    name, captions = (record.get("image"), record.get("caption")) if isinstance(record, dict) else (None, None)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(name, str) or not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        checker.refuse(f"has no 'image' with a list 'caption' of texts in record {i} of {path}")
    file_name = PurePosixPath(name.replace("\\", "/")).name
    if not file_name.strip():
        checker.refuse(f"has {name!r} as 'image' in record {i} of {path}, which names no file")
    return file_name, captions


def _read_split(content: Any, split: str, path: Path, checker: DatasetChecker) -> list[tuple[str, list[str]]]:
    """Return the path and the captions of every image of a split."""
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        checker.refuse(f"has no list 'images' in {path}; is it one of Karpathy's split files?")
    captioned_images: list[tuple[str, list[str]]] = []
    splits: set[str] = set()
    for i, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("split"), str):
            checker.refuse(f"has no 'split' in images[{i}] of {path}; is it one of Karpathy's split files?")
        splits.add(image["split"])
        if image["split"] != split:
            continue
        name, sentences = image.get("filename"), image.get("sentences")
        if not isinstance(name, str) or not isinstance(sentences, list):
            checker.refuse(f"has no 'filename' with 'sentences' in images[{i}] of {path}")
        if not all(isinstance(sentence, dict) and isinstance(sentence.get("raw"), str) for sentence in sentences):
            checker.refuse(f"has a sentence without 'raw' in images[{i}] of {path}")
        folder = image.get("filepath") or ""
        captioned_images.append((f"{folder}/{name}" if folder else name, [sentence["raw"] for sentence in sentences]))
    if not captioned_images:
        checker.refuse(f"has no image of the split {split!r} in {path}; its splits: {', '.join(sorted(splits))}")
    return captioned_images
