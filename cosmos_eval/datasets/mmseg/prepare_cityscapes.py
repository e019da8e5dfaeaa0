"""`*_labelTrainIds.png` of Cityscapes val, which the publisher leaves to its users (Cordts et al., CVPR 2016).

Polygons are drawn in the order of the file, later ones over earlier ones, by the published table: 19 classes are
evaluated, the others and what no polygon covers are void. `NAMEgroup` counts as NAME; deleted polygons and license
plates, which have no id, are not drawn. That is what `csCreateTrainIdLabelImgs` and mmsegmentation's converter do, with
the same Pillow routine. Where the polygons were not unpacked, the ids in `*_labelIds.png` are translated.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_eval.datasets.mmseg.making import VOID, Made, first_folder, labels_in, make_masks, translate
from cosmos_eval.progress import Reporter

PLACES = ("cityscapes/gtFine/val", "Cityscapes/gtFine/val", "gtFine/val")
POLYGONS, IDS, MADE = "_gtFine_polygons.json", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
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
"""The published labels: name -> (id in `*_labelIds.png`, class that is evaluated)."""


def prepare_cityscapes(data_root: Path, out: Path, reporter: Reporter) -> Made:
    """`*_labelTrainIds.png` beside the polygons, or below `out` in `cityscapes/gtFine/val`.

    Raises:
        RequestError: neither polygons nor label ids, or a file that is neither.
    """
    for ending, labels_of, words in ((POLYGONS, draw, "polygons"), (IDS, from_ids, "label ids")):
        source = first_folder(data_root, PLACES, f"*/*{ending}")
        if source is None:
            continue
        folder = source if out == data_root else out / PLACES[0]
        jobs = [
            (path, folder / path.parent.name / (path.name.removesuffix(ending) + MADE))
            for path in sorted(source.glob(f"*/*{ending}"))
        ]
        return make_masks(jobs, labels_of, folder, f"{words} in {source}", reporter)
    raise RequestError(
        f"cityscapes needs {data_root / PLACES[0]}/*/*{POLYGONS} of gtFine_trainvaltest.zip; unzip it in "
        f"{data_root / 'cityscapes'}"
    )


def draw(path: Path) -> np.ndarray:
    """(H, W) uint8 of one polygon file."""
    content = read_json(path)

    def refuse(what: str) -> RequestError:
        return RequestError(f"{path} is no polygon file of Cityscapes: {what}; unzip it again")

    if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
        raise refuse("no list of objects")
    width, height = content.get("imgWidth"), content.get("imgHeight")
    if not isinstance(width, int) or not isinstance(height, int) or width < 1 or height < 1:
        raise refuse("no imgWidth and imgHeight")
    image = Image.new("L", (width, height), VOID)
    pen = ImageDraw.Draw(image)
    for i, one in enumerate(content["objects"]):
        if not isinstance(one, dict) or not isinstance(one.get("label"), str):
            raise refuse(f"objects[{i}] has no label")
        if one.get("deleted"):
            continue
        label = one["label"]
        if label not in ID_AND_CLASS and label.endswith("group"):
            label = label.removesuffix("group")
        if label == NOT_DRAWN:
            continue
        if label not in ID_AND_CLASS:
            raise refuse(f"the label {one['label']!r} of objects[{i}] is not in its table")
        try:
            pen.polygon(_points(one["polygon"]), fill=ID_AND_CLASS[label][1])
        except (KeyError, TypeError, ValueError) as error:
            raise refuse(f"objects[{i}] has no polygon ({' '.join(str(error).split())})") from error
    return np.array(image)


def from_ids(path: Path) -> np.ndarray:
    """(H, W) uint8 of one map of label ids."""
    table = np.full(256, -1, dtype=np.int64)
    for label, of_class in ID_AND_CLASS.values():
        table[label] = of_class
    return translate(labels_in(path), table, path)


def _points(given: Any) -> list[tuple[float, float]]:
    return [(x, y) for x, y in given]
