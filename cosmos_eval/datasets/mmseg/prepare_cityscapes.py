"""Make `*_labelTrainIds.png` of Cityscapes val, which the publisher does not provide (Cordts et al., CVPR 2016).

Polygons are drawn in the order of the file, later ones over earlier ones, with the published label table: 19 classes
are evaluated; the other labels, and pixels without a polygon, are void. `NAMEgroup` counts as NAME. Deleted polygons
and license plates, which have no id, are not drawn. `csCreateTrainIdLabelImgs` and mmsegmentation's converter do the
same, with the same Pillow function. If the polygons are not on disk, the ids in `*_labelIds.png` are mapped.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_eval.datasets.mmseg.mask_files import (
    VOID,
    PreparedMasks,
    find_folder,
    map_labels,
    read_label_png,
    write_masks,
)
from cosmos_eval.progress import Reporter

FOLDERS = ("cityscapes/gtFine/val", "Cityscapes/gtFine/val", "gtFine/val")
POLYGONS, LABEL_IDS, TRAIN_IDS = "_gtFine_polygons.json", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
"""Endings of file names."""
NOT_DRAWN = "license plate"
ID_AND_CLASS = {
    "unlabeled": (0, VOID),
    "ego vehicle": (1, VOID),
    "rectification border": (2, VOID),
    "out of roi": (3, VOID),
    "static": (4, VOID),
    "dynamic": (5, VOID),
    "ground": (6, VOID),
    "road": (7, 0),
    "sidewalk": (8, 1),
    "parking": (9, VOID),
    "rail track": (10, VOID),
    "building": (11, 2),
    "wall": (12, 3),
    "fence": (13, 4),
    "guard rail": (14, VOID),
    "bridge": (15, VOID),
    "tunnel": (16, VOID),
    "pole": (17, 5),
    "polegroup": (18, VOID),
    "traffic light": (19, 6),
    "traffic sign": (20, 7),
    "vegetation": (21, 8),
    "terrain": (22, 9),
    "sky": (23, 10),
    "person": (24, 11),
    "rider": (25, 12),
    "car": (26, 13),
    "truck": (27, 14),
    "bus": (28, 15),
    "caravan": (29, VOID),
    "trailer": (30, VOID),
    "train": (31, 16),
    "motorcycle": (32, 17),
    "bicycle": (33, 18),
}
"""The published label table: name -> (id in `*_labelIds.png`, class in `*_labelTrainIds.png`)."""


def prepare_cityscapes(data_root: Path, out: Path, reporter: Reporter) -> PreparedMasks:
    """Write `*_labelTrainIds.png` beside the polygons, or below `out` in `cityscapes/gtFine/val`.

    Raises:
        RequestError: neither polygons nor label ids are found, or a file is damaged.
    """
    for ending, read_labels, kind in ((POLYGONS, draw_polygons, "polygons"), (LABEL_IDS, map_label_ids, "label ids")):
        source = find_folder(data_root, FOLDERS, f"*/*{ending}")
        if source is None:
            continue
        folder = source if out == data_root else out / FOLDERS[0]
        jobs = [
            (path, folder / path.parent.name / (path.name.removesuffix(ending) + TRAIN_IDS))
            for path in sorted(source.glob(f"*/*{ending}"))
        ]
        return write_masks(jobs, read_labels, folder, f"{kind} in {source}", reporter)
    raise RequestError(
        f"cityscapes needs {data_root / FOLDERS[0]}/*/*{POLYGONS} of gtFine_trainvaltest.zip; unzip it in "
        f"{data_root / 'cityscapes'}"
    )


def draw_polygons(path: Path) -> np.ndarray:
    """Return the labels (H, W) uint8 of one polygon file.

    Raises:
        RequestError: not a polygon file of Cityscapes; says why.
    """
    content = read_json(path)

    def refuse(reason: str) -> RequestError:
        return RequestError(f"{path} is not a polygon file of Cityscapes: {reason}; unzip it again")

    if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
        raise refuse("no list of objects")
    width, height = content.get("imgWidth"), content.get("imgHeight")
    if not isinstance(width, int) or not isinstance(height, int) or width < 1 or height < 1:
        raise refuse("no imgWidth and imgHeight")
    image = Image.new("L", (width, height), VOID)
    pen = ImageDraw.Draw(image)
    for i, polygon in enumerate(content["objects"]):
        if not isinstance(polygon, dict) or not isinstance(polygon.get("label"), str):
            raise refuse(f"objects[{i}] has no label")
        if polygon.get("deleted"):
            continue
        label = polygon["label"]
        if label not in ID_AND_CLASS and label.endswith("group"):
            label = label.removesuffix("group")
        if label == NOT_DRAWN:
            continue
        if label not in ID_AND_CLASS:
            raise refuse(f"objects[{i}] has the label {polygon['label']!r}, which Cityscapes does not define")
        try:
            pen.polygon([(x, y) for x, y in polygon["polygon"]], fill=ID_AND_CLASS[label][1])
        except (KeyError, TypeError, ValueError) as error:
            raise refuse(f"objects[{i}] has no polygon ({' '.join(str(error).split())})") from error
    return np.array(image)


def map_label_ids(path: Path) -> np.ndarray:
    """Return the labels (H, W) uint8 of one map of label ids."""
    table = np.full(256, -1, dtype=np.int64)
    for label_id, class_index in ID_AND_CLASS.values():
        table[label_id] = class_index
    return map_labels(read_label_png(path), table, path)
