"""Densely Captioned Images (Urbanek et al., CVPR 2024): a JSON for each image, and splits.json with their names."""

from pathlib import Path
from typing import Any

from cosmos_core.json_text import read_json
from cosmos_core.printable import plural
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.long_captions.captioned import build_retrieval, rejoin_sentences, require_text

CAPTIONS = ("long", "short")


def read_dci(benchmark: Any, data_root: Path) -> Data:
    """Read images of all splits with one caption each, in the order of splits.json.

    Long: the short caption, a line end, and the extra caption (which is empty for some images), rejoined as the code of
    LoTLIP and FLAIR does (`captioned.rejoin_sentences`). Short: the short caption as it is written.

    Options: `path` (folder with splits.json), `annotations` (folder of the images' JSON files), `images` (folder),
    `caption` (long or short).

    Raises:
        DataProblems: files missing, a JSON without its keys, a name that leads out of its folder, images missing.
        RequestError: not JSON (with line and column).
    """
    checker = DatasetChecker(benchmark, data_root)
    if checker.options["caption"] not in CAPTIONS:
        checker.refuse(f"has dataset.caption {checker.options['caption']!r}; it must be long or short")
    is_long = checker.options["caption"] == "long"
    base = checker.find_path("path", "folder", containing="splits.json")
    annotations, folder = checker.find_path("annotations", "folder"), checker.find_path("images", "folder")
    base, annotations, folder = checker.require(base, annotations, folder)
    if not (base / "splits.json").is_file():
        checker.add_missing(f"the file {base / 'splits.json'}", base / "splits.json")
        checker.raise_if_problems()
    splits = read_json(base / "splits.json")
    lists = list(splits.values()) if isinstance(splits, dict) else []
    names = [name for of_split in lists if isinstance(of_split, list) for name in of_split]
    if not names or not all(isinstance(name, str) and not is_outside_folder(name) for name in names):
        checker.refuse(f"cannot use {base / 'splits.json'}: it must be a map from split to names of JSON files")
    missing = [name for name in names if not (annotations / name).is_file()]
    if missing:
        checker.add_missing(f"{plural(len(missing), 'file')} of splits.json in {annotations}, such as {missing[0]}")
        checker.raise_if_problems()
    captioned = []
    for name in names:
        record = read_json(annotations / name)
        if not isinstance(record, dict):
            checker.refuse(f"cannot use {annotations / name}: it must be a map")
        image = require_text(record.get("image"), f"{annotations / name}: image", checker)
        caption = require_text(record.get("short_caption"), f"{annotations / name}: short_caption", checker)
        if is_long:
            extra = record.get("extra_caption")
            if not isinstance(extra, str):
                checker.refuse(f"cannot use {annotations / name}: extra_caption must be a text")
            caption = rejoin_sentences(f"{caption}\n{extra}")
        captioned.append((image, [caption]))
    return checker.finish(build_retrieval(checker, folder, captioned))
