"""SugarCrepe++ (Dumpala et al., NeurIPS 2024): two captions of a COCO image in different words, and a false one."""

from pathlib import Path
from typing import Any

from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import read_rows, require_value
from cosmos_eval.datasets.perception.items import AnnotatedItem, ItemCollector

SUBSETS = ("replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
KEYS = ("caption", "caption2", "negative_caption")


def read_sugarcrepe_pp(benchmark: Any, data_root: Path) -> Data:
    """Read the five files: lists of {filename, caption, caption2, negative_caption}, the last one false.

    Each file is a subset; the group `of two` joins them to replace and swap.

    Options: `path` (folder of the five files), `images` (val2017), `leave_out_missing`.

    Raises:
        DataProblems: files or images are missing, or a row lacks one of its keys or has an empty text.
        RequestError: not JSON.
    """
    checker = DatasetChecker(benchmark, data_root)
    (base,) = checker.require(checker.find_path("path", "folder", containing=f"{SUBSETS[0]}.json"))
    paths = {subset: base / f"{subset}.json" for subset in SUBSETS}
    for path in paths.values():
        if not path.is_file():
            checker.add_missing(f"the file {path}", path)
    checker.raise_if_problems()
    collector = ItemCollector(checker)
    for subset, path in paths.items():
        for number, row, where in read_rows(path, checker):
            collector.add(
                AnnotatedItem(
                    name=f"{subset} {number}",
                    images=(require_value(row, "filename", str, where, checker),),
                    texts=tuple(require_value(row, key, str, where, checker) for key in KEYS),
                    subset=subset,
                    groups={"of two": subset.partition("_")[0]},
                )
            )
    return checker.finish(collector.build(collector.require_image_folder(), right_texts=2))
