"""ImageInWords (Garg et al., 2024): the human descriptions of its three sets, as LoTLIP and FLAIR join them."""

from pathlib import Path
from typing import Any

from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.json_lines import read_json_lines
from cosmos_eval.datasets.long_captions.captioned import build_retrieval, rejoin_sentences, require_text

PARTS = {"DOCCI_Test": "docci", "IIW-400": "docci_aar", "DCI_Test": "dci"}
"""Folder of data.jsonl -> folder of the images, as LoTLIP's and FLAIR's code has them."""
OTHER_SPELLINGS = {"DOCCI_Test": "DOCCI_TEST", "DCI_Test": "DCI_TEST"}
"""The repository has had both."""


def read_iiw(benchmark: Any, data_root: Path) -> Data:
    """Read the images of DOCCI-Test, IIW-400 and DCI-Test with their description `IIW`, sentences rejoined.

    Options: `path` (folder with DOCCI_Test, IIW-400 and DCI_Test, a data.jsonl in each), `images` (folder with docci,
    docci_aar and dci).

    Raises:
        DataProblems: files missing, a line without its keys (with file and line), images missing.
    """
    checker = DatasetChecker(benchmark, data_root)
    base, folder = checker.find_path("path", "folder"), checker.find_path("images", "folder")
    base, folder = checker.require(base, folder)
    paths = {}
    for part in PARTS:
        spellings = [base / name / "data.jsonl" for name in (part, OTHER_SPELLINGS.get(part, part))]
        paths[part] = next((path for path in spellings if path.is_file()), spellings[0])
        if not paths[part].is_file():
            checker.add_missing(f"the file {paths[part]}", paths[part])
    checker.raise_if_problems()
    captioned = []
    for part, path in paths.items():
        for number, record in read_json_lines(path, checker):
            if not isinstance(record, dict):
                checker.refuse(f"cannot use {path}:{number}: it must be a map")
            image = require_text(record.get("image", record.get("image/key")), f"{path}:{number}: image", checker)
            name = image if ".jpg" in image else f"{image}.jpg"
            caption = require_text(record.get("IIW"), f"{path}:{number}: IIW", checker)
            captioned.append((f"{PARTS[part]}/{name}", [rejoin_sentences(caption)]))
    return checker.finish(build_retrieval(checker, folder, captioned))
