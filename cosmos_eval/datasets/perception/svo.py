"""SVO-Probes (Hendricks & Nematzadeh, Findings of ACL 2021): a sentence, an image of it, and one that differs in the
subject, the verb or the object."""

from pathlib import Path
from typing import Any

from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.perception.items import Item, Items
from cosmos_eval.datasets.perception.rows import read_table, whole

SUBSETS = {"subj_neg": "subject", "verb_neg": "verb", "obj_neg": "object"}
COLUMNS = ("sentence", "pos_image_id", "neg_image_id", *SUBSETS)
TRUE, FALSE = ("true", "1"), ("false", "0")


def read_svo(benchmark: Any, data_root: Path) -> Data:
    """Items of two images, the right one first, and the sentence, from `svo_probes.csv`.

    As the authors' notebook does, rows whose negative differs in several parts (or in none) are no items, and a row
    that repeats sentence, images and part of another is one item. Images are fetched by the user from the
    addresses in the table and saved as `<image id>.jpg`, or with any other ending.

    Options: `path` (the csv), `images` (folder), `leave_out_missing`: items whose images are gone, or are no
    images, are counted and left out. `expected.rows` counts the table's rows.

    Raises:
        DataProblems: a column missing, an empty sentence, a cell that is no id or no truth value, images missing.
    """
    survey = Survey(benchmark, data_root)
    path, folder = survey.there(survey.place("path", "file"), survey.place("images", "folder"))
    rows = read_table(path, COLUMNS, survey)
    survey.count(rows=len(rows))
    items = Items(survey, any_ending=True)
    seen: set[tuple[str, str, str, str]] = set()
    for line, row in rows:
        where = f"{path}:{line}"
        differs = [subset for column, subset in SUBSETS.items() if _truth(row[column], column, where, survey)]
        if not row["sentence"].strip():
            survey.refuse(f"has an empty sentence in {where}")
        right, wrong = (str(whole(row[key], key, where, survey)) for key in ("pos_image_id", "neg_image_id"))
        if len(differs) != 1 or (row["sentence"], right, wrong, differs[0]) in seen:
            continue
        seen.add((row["sentence"], right, wrong, differs[0]))
        items.add(Item(f"line {line}", (right, wrong), (row["sentence"],), differs[0]))
    return survey.finish(items.data(folder))


def _truth(cell: str, column: str, where: str, survey: Survey) -> bool:
    word = cell.strip().lower()
    if word not in TRUE + FALSE:
        survey.refuse(f"finds {cell!r} for {column!r} in {where}; it is True or False")
    return word in TRUE
