"""Karpathy's split files (Karpathy & Fei-Fei, CVPR 2015), such as dataset_coco.json and dataset_flickr30k.json.

The list of {image, caption} that the released COSMOS and FLAIR code reads (flickr30k_val.json) is understood too.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cosmos_core.json_text import read_json
from cosmos_eval.datasets.base import FileImage
from cosmos_eval.datasets.data import Data, RetrievalData
from cosmos_eval.datasets.dataset_checks import Survey


def read_karpathy(benchmark: Any, data_root: Path) -> Data:
    """The images of one split with all of their captions, both in the order of the file and as they are written.

    Options: `images` (folder), `annotations` (the JSON), `split` (test, val, train, restval). A record's image is
    `filepath/filename` below the folder, or `filename` where there is no `filepath` (Flickr). A plain list of
    {image, caption: [...]} is one split by itself: `split` is not looked at, and an image is found by its file name.

    Raises:
        DataProblems: files missing, an empty split, images without a caption or given twice.
        RequestError: not JSON (with line and column).
    """
    survey = Survey(benchmark, data_root)
    folder, path = survey.there(survey.place("images", "folder"), survey.place("annotations", "file"))
    content = read_json(path)
    if isinstance(content, list):
        rows = [_from_list(row, i, path, survey) for i, row in enumerate(content)]
    else:
        rows = _from_splits(content, survey.options["split"], path, survey)
    folder = survey.place("images", "folder", holding=rows[0][0] if rows else None) or folder
    survey.images(folder, [name for name, _ in rows])
    return survey.finish(
        RetrievalData(
            images=[FileImage(name, folder / name) for name, _ in rows],
            texts=[caption for _, captions in rows for caption in captions],
            image_of_text=np.repeat(np.arange(len(rows), dtype=np.int64), [len(captions) for _, captions in rows]),
        )
    )


def _from_list(row: Any, i: int, path: Path, survey: Survey) -> tuple[str, list[str]]:
    name, captions = (row.get("image"), row.get("caption")) if isinstance(row, dict) else (None, None)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(name, str) or not isinstance(captions, list) or not all(isinstance(one, str) for one in captions):
        survey.refuse(f"finds no 'image' with a list 'caption' of texts in row {i} of {path}")
    file = PurePosixPath(name.replace("\\", "/")).name
    if not file.strip():
        survey.refuse(f"finds {name!r} as 'image' in row {i} of {path}, which names no file")
    return file, captions


def _from_splits(content: Any, split: str, path: Path, survey: Survey) -> list[tuple[str, list[str]]]:
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        survey.refuse(f"finds no list 'images' in {path}; is it one of Karpathy's split files?")
    rows: list[tuple[str, list[str]]] = []
    splits: set[str] = set()
    for i, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("split"), str):
            survey.refuse(f"finds no 'split' in images[{i}] of {path}; is it one of Karpathy's split files?")
        splits.add(image["split"])
        if image["split"] != split:
            continue
        name, sentences = image.get("filename"), image.get("sentences")
        if not isinstance(name, str) or not isinstance(sentences, list):
            survey.refuse(f"finds no 'filename' with 'sentences' in images[{i}] of {path}")
        if not all(isinstance(sentence, dict) and isinstance(sentence.get("raw"), str) for sentence in sentences):
            survey.refuse(f"finds a sentence without 'raw' in images[{i}] of {path}")
        captions = [sentence["raw"] for sentence in sentences]
        folder = image.get("filepath") or ""
        rows.append((f"{folder}/{name}" if folder else name, captions))
    if not rows:
        survey.refuse(f"finds no image of the split {split!r} in {path}; its splits: {', '.join(sorted(splits))}")
    return rows
