"""SugarCrepe (Hsieh et al., NeurIPS 2023): a caption of a COCO val2017 image against a false one that is similar."""

from pathlib import Path
from typing import Any

from cosmos_core.json_text import read_json
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import require_value
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

SUBSETS = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att")
GROUP = "of three"


def read_sugarcrepe(benchmark: Any, data_root: Path) -> Data:
    """Read the seven files, `replace_obj.json` and so on: maps of number -> {filename, caption, negative_caption}.

    Each file is a subset; the group `of three` joins them to replace, swap and add. The keys of images are those of the
    reader coco-captions, so that COCO retrieval shares their features.

    Options: `path` (folder of the seven files), `images` (val2017), `leave_out_missing`.

    Raises:
        DataProblems: files or images are missing, or a row lacks one of its keys or has an empty text.
        RequestError: not JSON, or a repeated number in a file.
    """
    checker = DatasetChecker(benchmark, data_root)
    base = checker.find_path("path", "folder", containing=f"{SUBSETS[0]}.json")
    if base is None:
        checker.find_path("images", "folder")
        checker.raise_if_problems()
    assert base is not None
    paths = {subset: base / f"{subset}.json" for subset in SUBSETS}
    for path in paths.values():
        if not path.is_file():
            checker.add_missing(f"the file {path}", path)
    collector = ItemCollector(checker)
    for subset, path in paths.items():
        if path.is_file():
            _read_subset(subset, path, collector)
    return checker.finish(collector.build(collector.require_image_folder()))


def _read_subset(subset: str, path: Path, collector: ItemCollector) -> None:
    checker = collector.checker
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        checker.refuse(f"finds no map of rows in {path}")
    for number, row in content.items():
        where = f"row {number} of {path}"
        collector.add(
            AnnotatedItem(
                name=f"{subset} {number}",
                texts=(
                    require_value(row, "caption", str, where, checker),
                    require_value(row, "negative_caption", str, where, checker),
                ),
                images=(require_value(row, "filename", str, where, checker),),
                subset=subset,
                groups={GROUP: subset.partition("_")[0]},
            )
        )
