"""ShareGPT4V's captions of SA-1B (Chen et al., ECCV 2024): the first 1,000 or 10,000 records of its JSON."""

from pathlib import Path
from typing import Any

from cosmos_core.json_text import read_json
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.long_captions.captioned import build_retrieval, rejoin_sentences, require_text


def read_sharegpt4v(benchmark: Any, data_root: Path) -> Data:
    """Read the first records with their caption, the answer in `conversations`.

    Options: `path` (share-captioner_coco_lcs_sam_1246k_1107.json, or LoTLIP's share4v_sam_10k.json with its first
    10,000 records), `images` (folder; the `image` of a record is below it, or, as FLAIR's code has it, without
    `/images` in its path), `first` (number of records), `rejoin_sentences` (true: as LoTLIP and FLAIR; without it, line
    ends become blanks, as in Long-CLIP).

    Raises:
        DataProblems: fewer records than `first`, a record of another form, images missing.
        RequestError: not JSON (with line and column).
    """
    checker = DatasetChecker(benchmark, data_root)
    path, folder = checker.find_path("path", "file"), checker.find_path("images", "folder")
    path, folder = checker.require(path, folder)
    first = checker.options["first"]
    records = read_json(path)
    if not isinstance(records, list) or len(records) < first:
        found = f"a list of {len(records):,}" if isinstance(records, list) else "no list"
        checker.refuse(f"needs a list of at least {first:,} records in {path}, found {found}")
    captioned = []
    for number, record in enumerate(records[:first]):
        where = f"record {number} of {path}"
        turns = record.get("conversations") if isinstance(record, dict) else None
        if not isinstance(turns, list) or len(turns) < 2 or not isinstance(turns[1], dict):
            checker.refuse(f"cannot use {where}: it needs conversations, a question and an answer")
        caption = require_text(turns[1].get("value"), f"{where}: conversations[1].value", checker)
        rejoin = checker.options.get("rejoin_sentences")
        caption = rejoin_sentences(caption) if rejoin else caption.replace("\n", " ")
        captioned.append((require_text(record.get("image"), f"{where}: image", checker), [caption]))
    if captioned and not is_outside_folder(captioned[0][0]) and not (folder / captioned[0][0]).is_file():
        shorter = [(name.replace("/images", ""), captions) for name, captions in captioned]
        if (folder / shorter[0][0]).is_file():
            captioned = shorter
    return checker.finish(build_retrieval(checker, folder, captioned))
