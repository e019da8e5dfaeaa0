"""SugarCrepe (Hsieh et al., NeurIPS 2023): a caption of a COCO val2017 image against one that is nearly it."""

from pathlib import Path
from typing import Any

from cosmos_core.json_text import read_json
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.perception.items import Item, Items
from cosmos_eval.datasets.perception.rows import value

SUBSETS = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att")
GROUP = "of three"


def read_sugarcrepe(benchmark: Any, data_root: Path) -> Data:
    """The seven files, `replace_obj.json` and so on, each a map of rows {filename, caption, negative_caption}.

    Subsets are the files; the group `of three` is replace, swap and add. Images have the keys of the reader
    coco-captions, so that they are those of COCO retrieval.

    Options: `path` (folder of the seven), `images` (val2017), `leave_out_missing`.

    Raises:
        DataProblems: files or images missing, a row without one of its keys or with an empty text.
        RequestError: not JSON, or a row's number twice in a file.
    """
    survey = Survey(benchmark, data_root)
    base = survey.place("path", "folder", holding=f"{SUBSETS[0]}.json")
    if base is None:
        survey.place("images", "folder")
        survey.stop_if_any()
    assert base is not None
    paths = {subset: base / f"{subset}.json" for subset in SUBSETS}
    for path in paths.values():
        if not path.is_file():
            survey.missing(f"the file {path}", path)
    items = Items(survey)
    for subset, path in paths.items():
        if path.is_file():
            _rows(subset, path, items)
    folder = items.folder()
    if folder is None or survey.problems:
        survey.stop_if_any()
    assert folder is not None
    return survey.finish(items.data(folder))


def _rows(subset: str, path: Path, items: Items) -> None:
    survey = items.survey
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        survey.refuse(f"finds no map of rows in {path}")
    for number, row in content.items():
        where = f"row {number} of {path}"
        texts = (value(row, "caption", str, where, survey), value(row, "negative_caption", str, where, survey))
        items.add(
            Item(
                name=f"{subset} {number}",
                images=(value(row, "filename", str, where, survey),),
                texts=texts,
                subset=subset,
                parts={GROUP: subset.partition("_")[0]},
            )
        )
