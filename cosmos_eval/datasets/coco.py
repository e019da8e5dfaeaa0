"""COCO captions: the official annotation JSON with a folder of images (cocodataset.org, "captions_val2017.json")."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.json_text import read_json
from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import Data, RetrievalData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_sources import FileImage


def read_captions(benchmark: Any, data_root: Path) -> Data:
    """Read every image of the annotation file with all of its captions.

    Images are sorted by file name, and the captions of each image by annotation id, whatever their order in the file.
    All captions are kept, and as they are written: 25,014 for the 5,000 images of val2017, not 5 for each.

    Options: `images` (folder), `annotations` (JSON with `images` and `annotations`).

    Raises:
        DataProblems: files missing, captions of unknown images, images without a caption, ids that occur twice.
        RequestError: not JSON (with line and column).
    """
    checker = DatasetChecker(benchmark, data_root)
    folder, path = checker.require(checker.find_path("images", "folder"), checker.find_path("annotations", "file"))
    content = read_json(path)
    images, captions = _read_records(content, path, checker)
    _refuse_mixed_ids(images, captions, path, checker)

    for noun, records in (("image", images), ("annotation", captions)):
        repeated = [str(record_id) for record_id, times in Counter(r["id"] for r in records).items() if times > 1]
        if repeated:
            checker.add_problem(f"has {noun} ids twice in {path}: {format_names(repeated)}")

    images = sorted(images, key=lambda image: image["file_name"])
    index_of_image = {image["id"]: i for i, image in enumerate(images)}
    known, orphans = [], []
    for caption in captions:
        if caption["image_id"] in index_of_image:
            known.append(caption)
        else:
            orphans.append(f"annotation {caption['id']} (image {caption['image_id']})")
    if orphans:
        checker.add_problem(
            f"has {plural(len(orphans), 'caption')} of images that are not listed in {path}: {format_names(orphans)}"
        )
    names = [image["file_name"] for image in images]
    folder = checker.find_path("images", "folder", containing=names[0] if names else None) or folder
    checker.check_images(folder, names)
    # Ids are numbers or texts, which cannot be compared: numbers come first.
    known.sort(key=lambda c: (index_of_image[c["image_id"]], isinstance(c["id"], str), c["id"]))
    return checker.finish(
        RetrievalData(
            images=[FileImage(name, folder / name) for name in names],
            texts=[caption["caption"] for caption in known],
            image_of_text=np.array([index_of_image[caption["image_id"]] for caption in known], dtype=np.int64),
        )
    )


def _read_records(
    content: Any, path: Path, checker: DatasetChecker
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the lists `images` and `annotations` of the file; each record has the keys and types that are used."""
    lists = []
    fields: tuple[tuple[str, tuple[str, ...], str], ...] = (
        ("images", ("id",), "file_name"),
        ("annotations", ("id", "image_id"), "caption"),
    )
    for list_name, id_keys, text_key in fields:
        records = content.get(list_name) if isinstance(content, dict) else None
        if not isinstance(records, list):
            checker.refuse(f"has no list {list_name!r} in {path}; is it a COCO captions file?")
        for i, record in enumerate(records):
            where = f"{list_name}[{i}] of {path}"
            for key in (*id_keys, text_key):
                if not isinstance(record, dict) or key not in record:
                    checker.refuse(f"has no {key!r} in {where}; is it a COCO captions file?")
                if key in id_keys and (not isinstance(record[key], int | str) or isinstance(record[key], bool)):
                    checker.refuse(f"has {record[key]!r:.40} as {key!r} in {where}; ids are whole numbers or texts")
            if not isinstance(record[text_key], str):
                checker.refuse(f"has {record[text_key]!r:.40} as {text_key!r} in {where}; it must be a text")
        lists.append(records)
    return lists[0], lists[1]


def _refuse_mixed_ids(
    images: list[dict[str, Any]], captions: list[dict[str, Any]], path: Path, checker: DatasetChecker
) -> None:
    """Refuse image ids that are numbers in one place and texts in another: 7 and "7" are different in JSON."""
    ids = [image["id"] for image in images] + [caption["image_id"] for caption in captions]
    if len({type(image_id) for image_id in ids}) > 1:
        text = next(image_id for image_id in ids if isinstance(image_id, str))
        checker.refuse(
            f"has image ids in {path} that are whole numbers in some places and texts in others, such as {text!r:.40}; "
            "write all of them in the same way"
        )
