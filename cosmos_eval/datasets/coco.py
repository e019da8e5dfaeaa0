"""COCO captions: the official annotation JSON with a folder of images (cocodataset.org, "captions_val2017.json")."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.json_text import read_json
from cosmos_eval.datasets.base import FileImage
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.data import Data, RetrievalData
from cosmos_eval.datasets.dataset_checks import Survey


def read_captions(benchmark: Any, data_root: Path) -> Data:
    """Every image of the annotation file with all of its captions.

    Images are sorted by file name and each one's captions by annotation id, whatever their order in the file.
    Captions are kept as they are written, and all of them: 25,014 for val2017's 5,000 images, not 5 each.

    Options: `images` (folder), `annotations` (JSON with `images` and `annotations`).

    Raises:
        DataProblems: files missing, captions that point at no image, images without a caption, ids given twice.
        RequestError: not JSON (with line and column).
    """
    survey = Survey(benchmark, data_root)
    folder, path = survey.there(survey.place("images", "folder"), survey.place("annotations", "file"))
    content = read_json(path)
    images, annotations = _tables(content, path, survey)
    _refuse_mixed_ids(images, annotations, path, survey)

    twice = [str(i) for i, times in Counter(image["id"] for image in images).items() if times > 1]
    if twice:
        survey.add(f"has image ids twice in {path}: {first(twice)}")
    twice = [str(i) for i, times in Counter(caption["id"] for caption in annotations).items() if times > 1]
    if twice:
        survey.add(f"has annotation ids twice in {path}: {first(twice)}")

    images = sorted(images, key=lambda image: image["file_name"])
    place = {image["id"]: i for i, image in enumerate(images)}
    lost = [f"annotation {one['id']} (image {one['image_id']})" for one in annotations if one["image_id"] not in place]
    if lost:
        survey.add(f"has {len(lost):,} captions that point at no image in {path}: {first(lost)}")
    names = [image["file_name"] for image in images]
    folder = survey.place("images", "folder", holding=names[0] if names else None) or folder
    survey.images(folder, names)
    captions = sorted(
        (one for one in annotations if one["image_id"] in place),
        key=lambda one: (place[one["image_id"]], isinstance(one["id"], str), one["id"]),
    )
    return survey.finish(
        RetrievalData(
            images=[FileImage(image["file_name"], folder / image["file_name"]) for image in images],
            texts=[one["caption"] for one in captions],
            image_of_text=np.array([place[one["image_id"]] for one in captions], dtype=np.int64),
        )
    )


def _tables(content: Any, path: Path, survey: Survey) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The two lists of the file, each row with the keys and types that are read below."""
    tables = []
    kinds: tuple[tuple[str, tuple[str, ...], str], ...] = (
        ("images", ("id",), "file_name"),
        ("annotations", ("id", "image_id"), "caption"),
    )
    for table, ids, text in kinds:
        rows = content.get(table) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            survey.refuse(f"finds no list {table!r} in {path}; is it a COCO captions file?")
        for i, row in enumerate(rows):
            where = f"{table}[{i}] of {path}"
            for key in (*ids, text):
                if not isinstance(row, dict) or key not in row:
                    survey.refuse(f"finds no {key!r} in {where}; is it a COCO captions file?")
                if key in ids and (not isinstance(row[key], int | str) or isinstance(row[key], bool)):
                    survey.refuse(f"finds {row[key]!r:.40} as {key!r} in {where}; ids are whole numbers or texts")
            if not isinstance(row[text], str):
                survey.refuse(f"finds {row[text]!r:.40} as {text!r} in {where}; it is a text")
        tables.append(rows)
    return tables[0], tables[1]


def _refuse_mixed_ids(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], path: Path, survey: Survey
) -> None:
    """Refuse ids that are numbers in one place and texts in another: 7 and "7" are not the same to JSON."""
    kinds = {type(image["id"]) for image in images} | {type(one["image_id"]) for one in annotations}
    if len(kinds) > 1:
        every = [image["id"] for image in images] + [one["image_id"] for one in annotations]
        text = next(one for one in every if isinstance(one, str))
        survey.refuse(
            f"has image ids in {path} that are whole numbers in some places and texts in others, such as {text!r:.40}; "
            "write all of them one way"
        )
