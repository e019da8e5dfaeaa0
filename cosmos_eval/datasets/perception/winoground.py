"""Winoground (Thrush et al., CVPR 2022): two images, and two captions of the same words in another order."""

from pathlib import Path
from typing import Any

from cosmos_core.json_text import JsonError, load_json
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import read_lines
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.perception.items import Item, Items
from cosmos_eval.datasets.perception.rows import value

TAGS = ("tag", "secondary_tag")


def read_winoground(benchmark: Any, data_root: Path) -> Data:
    """Items of two images and two captions from `examples.jsonl`; image k and caption k belong together.

    Subsets are the collapsed tags (Object, Relation, Both), groups `tag` and `secondary_tag`, each as it is written;
    most items have no secondary tag. Images are `images/<image_0>.png`, or with any other ending.

    Options: `path` (the file), `images` (folder), `leave_out_missing`.

    Raises:
        DataProblems: a line that is no object or lacks a key, an empty caption, an id twice, images missing.
    """
    survey = Survey(benchmark, data_root)
    path, folder = survey.there(survey.place("path", "file"), survey.place("images", "folder"))
    items = Items(survey, any_ending=True)
    lines: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = load_json(line)
        except JsonError as error:
            survey.refuse(f"cannot use {where}: not JSON: {str(error).removeprefix('line 1 ')}")
        name = str(value(row, "id", int, where, survey))
        if name in lines:
            survey.refuse(f"has the id {name} twice, in lines {lines[name]} and {number} of {path}")
        lines[name] = number
        first, second, one, other = (
            value(row, key, str, where, survey) for key in ("image_0", "image_1", "caption_0", "caption_1")
        )
        items.add(
            Item(
                name=f"example {name}",
                images=(first, second),
                texts=(one, other),
                subset=_tag(row, "collapsed_tag", where, survey) or "untagged",
                parts={tag: _tag(row, tag, where, survey) for tag in TAGS if tag in row},
            )
        )
    return survey.finish(items.data(folder))


def _tag(row: dict[str, Any], key: str, where: str, survey: Survey) -> str:
    found = row.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        survey.refuse(f"finds {short_repr(found)} as {key!r} in {where}; it is a text")
    return found.strip()
