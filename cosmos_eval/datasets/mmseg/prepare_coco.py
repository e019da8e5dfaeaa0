"""Masks of COCO-Stuff and COCO-Object for val2017 (Caesar et al., CVPR 2018; Xu et al., CVPR 2022).

The published maps (`stuffthingmaps_trainval2017.zip`) hold a category's id less one: things 0 to 89 of which 80 exist,
stuff 91 to 181, and 255 where nothing was labelled. COCO-Stuff's benchmark numbers the 171 categories that exist in
order. COCO-Object's has the things as 1 to 80, and everything else, unlabelled pixels included, as background 0: the
conversion that GroupViT introduced and SCLIP and COSMOS use. That is the way to published numbers.

Where only `instances_val2017.json` is there, its polygons and run-length masks are drawn instead: regions of crowds
first, then objects from the largest to the smallest, so that where objects overlap the smaller one is on top (a cup on
a table, a tie on a person). COCO-Stuff's authors decided overlaps for each image; so both agree inside objects and
may differ where objects overlap and by a pixel along outlines. Results from the two do not agree to the last digit and
have different dataset fingerprints.
"""

from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_eval.datasets.dataset_checks import escapes
from cosmos_eval.datasets.mmseg.making import VOID, Made, first_folder, labels_in, make_masks, translate
from cosmos_eval.progress import Reporter

RAW = "[0-9]*[0-9].png"
"""Published maps are named by the image's number alone."""
STUFF_PLACES = tuple(
    f"{dataset}/{folder}/val2017"
    for dataset in ("coco_stuff164k", "coco-stuff164k", "coco", ".")
    for folder in ("annotations", "stuffthingmaps")
)
INSTANCES = ("coco/annotations", "coco", "coco_object/annotations", "coco_stuff164k/annotations", "annotations")
THINGS, CATEGORIES = 80, 171
ABSENT = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""Ids less one of the things that COCO planned and never annotated."""
LAST = 181


def stuff_table() -> np.ndarray:
    """(256,) the class of each published label: 171 in order, 255 as it is, -1 for what is not defined."""
    table = np.full(256, -1, dtype=np.int64)
    there = [label for label in range(LAST + 1) if label not in ABSENT]
    table[there] = np.arange(CATEGORIES)
    table[VOID] = VOID
    return table


def object_table() -> np.ndarray:
    """(256,) things as 1 to 80, stuff and unlabelled pixels as 0, -1 for what is not defined."""
    table = stuff_table()
    return np.where(table < 0, -1, np.where(table < THINGS, table + 1, 0))


def prepare_stuff(data_root: Path, out: Path, reporter: Reporter) -> Made:
    """`*_labelTrainIds.png` in `coco_stuff164k/annotations/val2017`, from the published maps.

    Raises:
        RequestError: no published maps.
    """
    source = first_folder(data_root, STUFF_PLACES, RAW)
    if source is None:
        raise RequestError(
            f"coco-stuff needs the maps of stuffthingmaps_trainval2017.zip in {data_root / STUFF_PLACES[0]}; unzip it "
            "there"
        )
    folder = out / "coco_stuff164k/annotations/val2017"
    table = stuff_table()
    jobs = [(path, folder / f"{path.stem}_labelTrainIds.png") for path in sorted(source.glob(RAW))]
    return make_masks(jobs, lambda path: translate(labels_in(path), table, path), folder, f"maps in {source}", reporter)


def prepare_object(data_root: Path, out: Path, reporter: Reporter) -> Made:
    """`*_instanceTrainIds.png` in `coco_object/annotations/val2017`, from the published maps of COCO-Stuff, or where
    there are none from `instances_val2017.json`.

    Raises:
        RequestError: neither is there, or the JSON is not COCO's.
    """
    folder = out / "coco_object/annotations/val2017"
    source = first_folder(data_root, STUFF_PLACES, RAW)
    if source is not None:
        table = object_table()
        jobs = [(path, folder / f"{path.stem}_instanceTrainIds.png") for path in sorted(source.glob(RAW))]
        return make_masks(
            jobs, lambda path: translate(labels_in(path), table, path), folder, f"maps in {source}", reporter
        )
    place = first_folder(data_root, INSTANCES, "instances_val2017.json")
    if place is None:
        raise RequestError(
            f"coco-object needs the maps of stuffthingmaps_trainval2017.zip in {data_root / STUFF_PLACES[0]}, or "
            f"{data_root / INSTANCES[0] / 'instances_val2017.json'} of annotations_trainval2017.zip; unzip one there"
        )
    path = place / "instances_val2017.json"
    drawn = [
        (image, folder / f"{Path(image['file_name']).stem}_instanceTrainIds.png")
        for image in images_with_objects(read_json(path), path)
    ]
    return make_masks(drawn, lambda image: draw(image, path), folder, f"objects of {path}", reporter)


def images_with_objects(content: Any, path: Path) -> list[dict[str, Any]]:
    """Every image of the JSON, with `objects`: its annotations in the order of drawing, each with its `class`.

    Raises:
        RequestError: not COCO's instances; names what is wrong.
    """

    def refuse(what: str) -> RequestError:
        return RequestError(f"{path} is not COCO's instances_val2017.json: {what}")

    tables = {}
    needed: dict[str, dict[str, Any]] = {
        "images": {"id": int, "file_name": str, "height": int, "width": int},
        "categories": {"id": int},
        "annotations": {"image_id": int, "category_id": int, "segmentation": dict | list},
    }
    for name, keys in needed.items():
        rows = content.get(name) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise refuse(f"no list {name!r}")
        for i, row in enumerate(rows):
            for key, kind in keys.items():
                if not isinstance(row, dict) or not isinstance(row.get(key), kind):
                    raise refuse(f"no {key!r} in {name}[{i}]")
        tables[name] = rows
    ids = sorted({row["id"] for row in tables["categories"]})
    if len(ids) != THINGS:
        raise refuse(f"{len(ids)} categories, not {THINGS}")
    class_of = {category: i for i, category in enumerate(ids, start=1)}
    images = {row["id"]: {**row, "objects": []} for row in tables["images"]}
    for row in tables["annotations"]:
        if row["image_id"] not in images or row["category_id"] not in class_of:
            raise refuse(f"annotation {row.get('id')} is of no image or category")
        images[row["image_id"]]["objects"].append({**row, "class": class_of[row["category_id"]]})
    for image in images.values():
        if escapes(image["file_name"]):
            raise refuse(f"the image {image['file_name']!r} lies outside its folder")
        image["objects"].sort(key=lambda one: (-one.get("iscrowd", 0), -one.get("area", 0.0), one.get("id", 0)))
    return sorted(images.values(), key=lambda one: one["file_name"])


def draw(image: dict[str, Any], path: Path) -> np.ndarray:
    """(H, W) uint8: background 0, objects 1 to 80; later ones cover earlier ones."""
    from pycocotools import mask as coco_masks

    height, width = image["height"], image["width"]
    labels = np.zeros((height, width), dtype=np.uint8)
    for one in image["objects"]:
        given = one["segmentation"]
        try:
            if isinstance(given, dict) and not isinstance(given.get("counts"), list):
                encoded = given  # compressed run lengths
            else:
                encoded = coco_masks.frPyObjects(given, height, width)
            if isinstance(encoded, list):
                encoded = coco_masks.merge(encoded)
            labels[coco_masks.decode(encoded).astype(bool)] = one["class"]
        except Exception as error:  # pycocotools raises what its C code makes of a broken shape
            said = " ".join(str(error).split())
            raise RequestError(f"cannot draw annotation {one.get('id')} of {path}: {said}; unzip it again") from error
    return labels
