"""Make masks of COCO-Stuff and COCO-Object for val2017 (Caesar et al., CVPR 2018; Xu et al., CVPR 2022).

The published maps (`stuffthingmaps_trainval2017.zip`) have labels of a category's id minus one: things 0 to 89, of
which 80 exist, stuff 91 to 181, and 255 for unlabelled pixels. COCO-Stuff numbers the 171 existing categories in this
order. COCO-Object has the things as 1 to 80 and everything else, unlabelled pixels too, as background 0: the conversion
that GroupViT introduced and that SCLIP and COSMOS use. Published numbers come from these masks.

If there is only `instances_val2017.json`, its polygons and run-length masks are drawn instead: first the regions of
crowds, then objects from the largest to the smallest, so that a smaller object is on top of a larger one (a cup on a
table, a tie on a person). COCO-Stuff's authors decided overlaps for each image. So the two kinds of masks agree inside
objects, and may differ where objects overlap and by a pixel along outlines: results differ in the last digits, and the
dataset fingerprints differ.
"""

from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_eval.datasets.coco_regions import ShapeError, draw_runs, read_runs
from cosmos_eval.datasets.dataset_checks import is_outside_folder
from cosmos_eval.datasets.mmseg.mask_files import (
    VOID,
    PreparedMasks,
    find_folder,
    map_labels,
    read_label_png,
    write_masks,
)
from cosmos_eval.progress import Reporter

PUBLISHED_MAPS = "[0-9]*[0-9].png"
"""Pattern of the published maps: the number of the image, without an ending such as `_labelTrainIds`."""
STUFF_FOLDERS = tuple(
    f"{dataset}/{folder}/val2017"
    for dataset in ("coco_stuff164k", "coco-stuff164k", "coco", ".")
    for folder in ("annotations", "stuffthingmaps")
)
INSTANCE_FOLDERS = ("coco/annotations", "coco", "coco_object/annotations", "coco_stuff164k/annotations", "annotations")
THINGS, CATEGORIES = 80, 171
UNUSED_LABELS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""Labels of categories that COCO planned and never annotated."""
LAST_LABEL = 181


def build_stuff_table() -> np.ndarray:
    """Return the class of each published label, (256,) int64: 0 to 170 in order, 255 for 255, -1 for undefined ones."""
    table = np.full(256, -1, dtype=np.int64)
    used_labels = [label for label in range(LAST_LABEL + 1) if label not in UNUSED_LABELS]
    table[used_labels] = np.arange(CATEGORIES)
    table[VOID] = VOID
    return table


def build_object_table() -> np.ndarray:
    """Return the class of each published label, (256,) int64: things 1 to 80, stuff and 255 0, undefined ones -1."""
    table = build_stuff_table()
    return np.where(table < 0, -1, np.where(table < THINGS, table + 1, 0))


def prepare_coco_stuff(data_root: Path, out: Path, reporter: Reporter) -> PreparedMasks:
    """Write `*_labelTrainIds.png` in `coco_stuff164k/annotations/val2017`, from the published maps.

    Raises:
        RequestError: the published maps are missing or damaged.
    """
    source = find_folder(data_root, STUFF_FOLDERS, PUBLISHED_MAPS)
    if source is None:
        raise RequestError(
            f"coco-stuff needs the maps of stuffthingmaps_trainval2017.zip in {data_root / STUFF_FOLDERS[0]}; unzip it "
            "there"
        )
    folder = out / "coco_stuff164k/annotations/val2017"
    return _map_published(source, build_stuff_table(), folder, "_labelTrainIds.png", reporter)


def _map_published(source: Path, table: np.ndarray, folder: Path, ending: str, reporter: Reporter) -> PreparedMasks:
    """Write the published maps in `source` with other labels (`table`) to files with another ending in `folder`."""
    jobs = [(path, folder / f"{path.stem}{ending}") for path in sorted(source.glob(PUBLISHED_MAPS))]
    return write_masks(
        jobs, lambda path: map_labels(read_label_png(path), table, path), folder, f"maps in {source}", reporter
    )


def prepare_coco_object(data_root: Path, out: Path, reporter: Reporter) -> PreparedMasks:
    """Write `*_instanceTrainIds.png` in `coco_object/annotations/val2017`, from the published maps of COCO-Stuff, or if
    there are none from `instances_val2017.json`.

    Raises:
        RequestError: both are missing, or the JSON is not COCO's.
    """
    folder = out / "coco_object/annotations/val2017"
    source = find_folder(data_root, STUFF_FOLDERS, PUBLISHED_MAPS)
    if source is not None:
        return _map_published(source, build_object_table(), folder, "_instanceTrainIds.png", reporter)
    json_folder = find_folder(data_root, INSTANCE_FOLDERS, "instances_val2017.json")
    if json_folder is None:
        raise RequestError(
            f"coco-object needs the maps of stuffthingmaps_trainval2017.zip in {data_root / STUFF_FOLDERS[0]}, or "
            f"{data_root / INSTANCE_FOLDERS[0] / 'instances_val2017.json'} of annotations_trainval2017.zip; unzip one "
            "there"
        )
    path = json_folder / "instances_val2017.json"
    jobs = [
        (image, folder / f"{Path(image['file_name']).stem}_instanceTrainIds.png")
        for image in collect_images(read_json(path), path)
    ]
    return write_masks(jobs, lambda image: draw_objects(image, path), folder, f"objects of {path}", reporter)


def collect_images(content: Any, path: Path) -> list[dict[str, Any]]:
    """Return every image of the JSON, with its annotations in drawing order as `objects`, each with its `class`.

    Raises:
        RequestError: not COCO's instances; says why.
    """
    lists = _require_lists(content, path)
    ids = sorted({category["id"] for category in lists["categories"]})
    if len(ids) != THINGS:
        raise _refuse(path, f"{len(ids)} categories, not {THINGS}")
    class_of_id = {category_id: i for i, category_id in enumerate(ids, start=1)}
    images = {image["id"]: {**image, "objects": []} for image in lists["images"]}
    for annotation in lists["annotations"]:
        image_id, category_id = annotation["image_id"], annotation["category_id"]
        if image_id not in images or category_id not in class_of_id:
            raise _refuse(path, f"annotation {annotation.get('id')} has an unknown image or category")
        images[image_id]["objects"].append({**annotation, "class": class_of_id[category_id]})
    for image in images.values():
        if is_outside_folder(image["file_name"]):
            raise _refuse(path, f"the image {image['file_name']!r} is outside its folder")
        image["objects"].sort(key=_drawing_order)
    return sorted(images.values(), key=lambda image: image["file_name"])


def _require_lists(content: Any, path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the lists `images`, `categories` and `annotations`, whose entries have all keys that are read here."""
    required_keys: dict[str, dict[str, Any]] = {
        "images": {"id": int, "file_name": str, "height": int, "width": int},
        "categories": {"id": int},
        "annotations": {"image_id": int, "category_id": int, "segmentation": dict | list},
    }
    lists = {}
    for name, keys in required_keys.items():
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise _refuse(path, f"no list {name!r}")
        for i, entry in enumerate(entries):
            for key, kind in keys.items():
                if not isinstance(entry, dict) or not isinstance(entry.get(key), kind):
                    raise _refuse(path, f"no {key!r} in {name}[{i}]")
        lists[name] = entries
    return lists


def _refuse(path: Path, reason: str) -> RequestError:
    return RequestError(f"{path} is not COCO's instances_val2017.json: {reason}; unzip it again")


def _drawing_order(annotation: dict[str, Any]) -> tuple[float, float, int]:
    """Sort key: crowds before objects, large objects before small ones; what is drawn later covers what is below."""
    return -annotation.get("iscrowd", 0), -annotation.get("area", 0.0), annotation.get("id", 0)


def draw_objects(image: dict[str, Any], path: Path) -> np.ndarray:
    """Return the labels (H, W) uint8 of one image: background 0, objects 1 to 80; later ones cover earlier ones.

    Args:
        image: one of `collect_images`.
        path: the JSON, for the error.
    """
    height, width = image["height"], image["width"]
    labels = np.zeros((height, width), dtype=np.uint8)
    for annotation in image["objects"]:
        try:
            region = draw_runs(read_runs(annotation["segmentation"], height, width), height, width)
        except ShapeError as error:
            raise RequestError(
                f"cannot draw annotation {annotation.get('id')} of {path}: {error}; unzip it again"
            ) from error
        labels[region] = annotation["class"]
    return labels
