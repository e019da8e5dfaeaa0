"""CREPE, productivity (Ma et al., CVPR 2023): a caption of a region against five hard negatives."""

import ast
from pathlib import Path
from typing import Any

from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import parse_whole_number, read_table
from cosmos_eval.datasets.perception.aro import box_in_pixels
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

FOILS = ("atom", "swap", "negate")
COMPLEXITIES = range(4, 13)
NEGATIVES = 5
COLUMNS = ("image_id", "caption", "hard_negs", "x", "y", "width", "height")
IMAGE_FOLDERS = ("VG_100K", "VG_100K_2")
MAX_LITERAL = 100_000
"""Most characters of a list of hard negatives, which is parsed as a Python literal."""


def read_crepe(benchmark: Any, data_root: Path) -> Data:
    """Read items of a box of an image, its caption and five hard negatives from the 27 tables
    `<foil>/prod_vg_hard_negs_<foil>_complexity_<n>.csv`, of atom, swap and negate and of 4 to 12.

    The subset of an item is its foil and complexity (`swap 7`); the groups are `foil` and `complexity`. The box is cut
    out of the image before preprocessing. `hard_negs` is a list written as in Python. Images are
    `VG_100K/<image_id>.jpg` or `VG_100K_2/<image_id>.jpg` below `images`.

    Options: `path` (folder of the tables), `images` (folder with VG_100K and VG_100K_2), `leave_out_missing`.

    Raises:
        DataProblems: tables, columns or images are missing, an item without five negatives, an empty caption.
    """
    checker = DatasetChecker(benchmark, data_root)
    (base,) = checker.require(checker.find_path("path", "folder", containing=FOILS[0]))
    (image_folder,) = checker.require(checker.find_path("images", "folder", containing=IMAGE_FOLDERS[0]))
    paths = {
        (foil, n): base / foil / f"prod_vg_hard_negs_{foil}_complexity_{n}.csv" for foil in FOILS for n in COMPLEXITIES
    }
    for path in paths.values():
        if not path.is_file():
            checker.add_missing(f"the file {path}", path)
    checker.raise_if_problems()
    collector = ItemCollector(checker)
    for (foil, complexity), path in paths.items():
        for line, row in read_table(path, COLUMNS, checker):
            where = f"{path}:{line}"
            image_id = parse_whole_number(row["image_id"], "image_id", where, checker)
            box = tuple(float(parse_whole_number(row[key], key, where, checker)) for key in COLUMNS[3:])
            collector.add(
                AnnotatedItem(
                    name=f"{foil} {complexity}, line {line}",
                    images=(_find_image(image_id, image_folder),),
                    texts=(row["caption"], *_parse_negatives(row["hard_negs"], where, checker)),
                    subset=f"{foil} {complexity}",
                    box=box_in_pixels(box, where, checker),
                    groups={"foil": foil, "complexity": str(complexity)},
                )
            )
    return checker.finish(collector.build(image_folder))


def _find_image(image_id: int, folder: Path) -> str:
    """Return the path of an image of Visual Genome, which is in one of two folders; that in the first if in neither."""
    names = [f"{part}/{image_id}.jpg" for part in IMAGE_FOLDERS]
    return next((name for name in names if (folder / name).is_file()), names[0])


def _parse_negatives(cell: str, where: str, checker: DatasetChecker) -> list[str]:
    """Return the hard negatives in a cell: a list of texts as Python writes it. Nothing else is evaluated."""
    try:
        negatives = ast.literal_eval(cell) if len(cell) <= MAX_LITERAL else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        negatives = None
    if not isinstance(negatives, list | tuple) or not all(isinstance(text, str) for text in negatives):
        checker.refuse(f"finds {short_repr(cell)} for 'hard_negs' in {where}; it must be a list of texts")
    if len(negatives) != NEGATIVES:
        checker.refuse(f"finds {len(negatives)} hard negatives in {where}; an item has {NEGATIVES}")
    return list(negatives)
