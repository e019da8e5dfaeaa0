"""VALSE (Parcalabescu et al., ACL 2022): a caption against a foil, for six linguistic phenomena."""

from pathlib import Path
from typing import Any

from cosmos_core.json_text import read_json
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.perception.annotation_files import require_value
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

PIECES = {
    "existence": "existence",
    "plurals": "plurality",
    "counting-small-quant": "counting",
    "counting-hard": "counting",
    "counting-adversarial": "counting",
    "relations": "relations",
    "action-replacement": "actions",
    "actant-swap": "actions",
    "coreference-standard": "coreference",
    "coreference-hard": "coreference",
    "foil-it": "foil it",
}
"""File without its ending -> the phenomenon. The subsets are the files: the authors' instruments."""
LEAST_VOTES = 2
"""Of three annotators, those who must have chosen the caption alone; foils with fewer are not valid (their README)."""


def read_valse(benchmark: Any, data_root: Path) -> Data:
    """Read items of an image, its caption and its foil from the eleven files, maps of id -> {image_file, caption, foil,
    dataset, mturk: {caption, foil, other}}.

    Only valid items are used: those whose caption, and not the foil, at least two of three annotators chose. The group
    `phenomenon` joins files. An image is `<dataset>/<image_file>` below `images` if that exists, else `<image_file>`.

    Options: `path` (folder of the files), `images` (folder), `leave_out_missing`. `expected.rows` is the number of rows
    of all files, valid or not.

    Raises:
        DataProblems: files or images are missing, or a row lacks one of its keys or has an empty text.
        RequestError: not JSON.
    """
    checker = DatasetChecker(benchmark, data_root)
    (base,) = checker.require(checker.find_path("path", "folder", containing="existence.json"))
    paths = {piece: base / f"{piece}.json" for piece in PIECES}
    for path in paths.values():
        if not path.is_file():
            checker.add_missing(f"the file {path}", path)
    (image_folder,) = checker.require(checker.find_path("images", "folder"))
    checker.raise_if_problems()
    collector = ItemCollector(checker)
    row_count = 0
    for piece, path in paths.items():
        content = read_json(path)
        if not isinstance(content, dict) or not content:
            checker.refuse(f"finds no map of rows in {path}")
        row_count += len(content)
        for row_id, row in content.items():
            where = f"row {row_id} of {path}"
            votes = require_value(row, "mturk", dict, where, checker)
            if require_value(votes, "caption", int, f"'mturk' of {where}", checker) < LEAST_VOTES:
                continue
            collector.add(
                AnnotatedItem(
                    name=f"{piece} {row_id}",
                    images=(_find_image(row, where, image_folder, checker),),
                    texts=tuple(require_value(row, key, str, where, checker) for key in ("caption", "foil")),
                    subset=piece,
                    groups={"phenomenon": PIECES[piece]},
                )
            )
    checker.record_counts(rows=row_count)
    return checker.finish(collector.build(image_folder))


def _find_image(row: Any, where: str, folder: Path, checker: DatasetChecker) -> str:
    """Return the path of a row's image below the folder."""
    name = str(require_value(row, "image_file", str, where, checker))
    source = row.get("dataset")
    if isinstance(source, str) and source.strip():
        nested = f"{source}/{name}"
        if not is_outside_folder(nested) and (folder / nested).is_file():
            return nested
    return name
