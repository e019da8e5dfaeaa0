"""CREPE (Ma et al., CVPR 2023): a caption of a region of an image against hard negatives.

- Productivity: captions of 4 to 12 parts, five hard negatives each.
- Systematicity: captions whose combinations of words are, or are not, in the training data of a model; any number of
  hard negatives.
"""

from pathlib import Path
from typing import Any

from cosmos_core.printable import plural
from cosmos_eval.datasets.data import ChoiceData, Data
from cosmos_eval.datasets.data.choices import Choice
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import parse_text_list, parse_whole_number, read_table
from cosmos_eval.datasets.perception.aro import box_in_pixels
from cosmos_eval.datasets.perception.crops import Box, CroppedImage
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

FOILS = ("atom", "swap", "negate")
COMPLEXITIES = range(4, 13)
NEGATIVES = 5
BOX = ("x", "y", "width", "height")
COLUMNS = ("image_id", "caption", "hard_negs", *BOX)
COMPOUNDS = ("seen", "unseen")
"""Whether the training data have the combinations of words of a caption."""
KINDS = ("atom", "comp", "combined")
"""Hard negatives of systematicity: one word is replaced, several are, or any of both."""
SYSTEMATICITY_COLUMNS = ("image_id", "caption", *(f"valid_hard_negs_{kind}" for kind in KINDS), *BOX)
TRAINING = ("cc12m", "yfcc", "laion")
IMAGE_FOLDERS = ("VG_100K", "VG_100K_2")


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
            image, numbers = _find_image(row, where, image_folder, checker), _read_numbers(row, where, checker)
            negatives = parse_text_list(row["hard_negs"], "hard_negs", where, checker)
            if len(negatives) != NEGATIVES:
                checker.refuse(f"finds {plural(len(negatives), 'hard negative')} in {where}; an item has {NEGATIVES}")
            collector.add(
                AnnotatedItem(
                    name=f"{foil} {complexity}, line {line}",
                    images=(image,),
                    texts=(row["caption"], *negatives),
                    subset=f"{foil} {complexity}",
                    box=box_in_pixels(numbers, where, checker),
                    groups={"foil": foil, "complexity": str(complexity)},
                )
            )
    return checker.finish(collector.build(image_folder))


def read_crepe_systematicity(benchmark: Any, data_root: Path) -> Data:
    """Read items of a box of an image, its caption and its hard negatives from the two tables
    `syst_vg_hard_negs_<compounds>_compounds_in_<training>.csv`, of seen and of unseen compounds.

    Each row makes an item for each of its three lists of hard negatives: `valid_hard_negs_atom` (a word replaced),
    `valid_hard_negs_comp` (several replaced) and `valid_hard_negs_combined`. The subset is `unseen atom` and so on.
    Lists may have any length; an empty one makes no item, and is counted in a remark. The box is cut out of the image
    before preprocessing.

    Options: `path` (folder of the tables), `images` (folder with VG_100K and VG_100K_2), `training` (cc12m, yfcc or
    laion: the training data that compounds are seen in).

    Raises:
        DataProblems: tables, columns or images are missing, a list of negatives of another form, an empty text.
    """
    checker = DatasetChecker(benchmark, data_root)
    training = checker.options["training"]
    if training not in TRAINING:
        checker.refuse(f"has training {training!r}; known: {', '.join(TRAINING)}")
    names = {compounds: f"syst_vg_hard_negs_{compounds}_compounds_in_{training}.csv" for compounds in COMPOUNDS}
    (base,) = checker.require(checker.find_path("path", "folder", containing=names["seen"]))
    (image_folder,) = checker.require(checker.find_path("images", "folder", containing=IMAGE_FOLDERS[0]))
    for name in names.values():
        if not (base / name).is_file():
            checker.add_missing(f"the file {base / name}", base / name)
    checker.raise_if_problems()
    index: dict[tuple[str, Box], int] = {}
    items: list[Choice] = []
    empty = 0
    for compounds, name in names.items():
        for line, row in read_table(base / name, SYSTEMATICITY_COLUMNS, checker):
            where = f"{base / name}:{line}"
            box = box_in_pixels(_read_numbers(row, where, checker), where, checker)
            region = _find_image(row, where, image_folder, checker), box
            for kind in KINDS:
                column = f"valid_hard_negs_{kind}"
                negatives = parse_text_list(row[column], column, where, checker)
                if not all(text.strip() for text in (row["caption"], *negatives)):
                    checker.refuse(f"has an empty text in {where}")
                if not negatives:
                    empty += 1
                    continue
                position = index.setdefault(region, len(index))
                items.append(Choice((position,), (row["caption"], *negatives), (0,), f"{compounds} {kind}"))
    if not items:
        checker.refuse(f"finds no hard negatives in {base}")
    if empty:
        lists = plural(empty, "list of hard negatives is empty and makes", "lists of hard negatives are empty and make")
        checker.add_remark(f"{lists} no item")
    checker.check_images(image_folder, list(dict.fromkeys(name for name, _ in index)))
    images = [CroppedImage(f"{name}[{','.join(map(str, box))}]", image_folder / name, box) for name, box in index]
    checker.record_counts(images=len(images))
    return checker.finish(ChoiceData.from_items(images, items))


def _find_image(row: dict[str, str], where: str, folder: Path, checker: DatasetChecker) -> str:
    """Return the path of an image of Visual Genome, which is in one of two folders; that in the first if in neither."""
    image_id = parse_whole_number(row["image_id"], "image_id", where, checker)
    names = [f"{part}/{image_id}.jpg" for part in IMAGE_FOLDERS]
    return next((name for name in names if (folder / name).is_file()), names[0])


def _read_numbers(row: dict[str, str], where: str, checker: DatasetChecker) -> list[float]:
    """Return x, y, width and height of a region."""
    return [float(parse_whole_number(row[key], key, where, checker)) for key in BOX]
