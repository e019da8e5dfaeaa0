"""Winoground (Thrush et al., CVPR 2022): two images and two captions, which have the same words in another order."""

from pathlib import Path
from typing import Any

from cosmos_core.json_text import read_json
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import LARGEST_TEXT
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.json_lines import read_json_lines
from cosmos_eval.datasets.perception.annotation_files import require_value
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

TAGS = ("tag", "secondary_tag")
NO_TAG = "No Tag"


def read_winoground(benchmark: Any, data_root: Path) -> Data:
    """Read items of two images and two captions from `examples.jsonl`; image k and caption k belong together.

    Subsets are the collapsed tags (Object, Relation, Both); the groups are `tag` and `secondary_tag`, which most items
    lack. Images are `images/<image_0>.png`, or with another ending.

    Options: `path` (the file), `images` (folder), `tags` (a map of id -> list of tags, as Diwan et al., EMNLP 2022,
    publish: each tag is a group of its own, and items of none are tagged `No Tag`), `leave_out_missing`.

    Raises:
        DataProblems: a line that is not a JSON object or lacks a key, an empty caption, a repeated id, missing images,
            an id without a list of tags.
    """
    checker = DatasetChecker(benchmark, data_root)
    path, image_folder = checker.require(checker.find_path("path", "file"), checker.find_path("images", "folder"))
    tags_of_id = _read_tags(checker)
    collector = ItemCollector(checker, any_ending=True)
    line_of_id: dict[str, int] = {}
    for number, row in read_json_lines(path, checker, LARGEST_TEXT):
        where = f"{path}:{number}"
        item_id = str(require_value(row, "id", int, where, checker))
        if item_id in line_of_id:
            checker.refuse(f"has the id {item_id} twice, in lines {line_of_id[item_id]} and {number} of {path}")
        line_of_id[item_id] = number
        image_0, image_1, caption_0, caption_1 = (
            require_value(row, key, str, where, checker) for key in ("image_0", "image_1", "caption_0", "caption_1")
        )
        collector.add(
            AnnotatedItem(
                name=f"example {item_id}",
                images=(image_0, image_1),
                texts=(caption_0, caption_1),
                subset=_read_tag(row, "collapsed_tag", where, checker) or "untagged",
                groups={
                    **{tag: _read_tag(row, tag, where, checker) for tag in TAGS if tag in row},
                    **_tag_groups(tags_of_id, item_id, where, checker),
                },
            )
        )
    return checker.finish(collector.build(image_folder))


def _read_tag(row: dict[str, Any], key: str, where: str, checker: DatasetChecker) -> str:
    """Return a tag without spaces around it; "" if there is none."""
    tag = row.get(key)
    if tag is None:
        return ""
    if not isinstance(tag, str):
        checker.refuse(f"finds {short_repr(tag)} as {key!r} in {where}; it must be a text")
    return tag.strip()


def _read_tags(checker: DatasetChecker) -> dict[str, list[str]] | None:
    """Return the tags of each id from the file of the option `tags`; None without the option."""
    if "tags" not in checker.options:
        return None
    (path,) = checker.require(checker.find_path("tags", "file"))
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        checker.refuse(f"finds no map of tags in {path}")
    for item_id, tags in content.items():
        if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
            checker.refuse(f"finds {short_repr(tags)} as tags of {item_id} in {path}; they must be a list of texts")
    return content


def _tag_groups(
    tags_of_id: dict[str, list[str]] | None, item_id: str, where: str, checker: DatasetChecker
) -> dict[str, str]:
    """Return a group of its own for each tag of an item."""
    if tags_of_id is None:
        return {}
    if item_id not in tags_of_id:
        checker.refuse(f"finds no tags of {item_id} ({where}) in the file of tags")
    return {tag: tag for tag in tags_of_id[item_id] or [NO_TAG]}
