"""Token ids, whole and folded, against the original's tokenizer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cosmos_core.tokenizer import OPENAI_VOCABULARY, Tokenizer
from tests.parity.golden import Pack, flatten


@pytest.fixture(scope="module")
def pack(parity_dir: Path) -> Pack:
    return Pack.at(parity_dir)


def texts(pack: Pack) -> list[str]:
    return [case["text"] for case in pack.json("text/tokenizer.json")["cases"]]


def encoded(pack: Pack) -> dict[str, Any]:
    whole = Tokenizer()
    start, end = whole("")[0, :2].tolist()
    stored = pack.json("text/tokenizer.json")
    cases = []
    for text, case in zip(texts(pack), stored["cases"], strict=True):
        row = whole(text)[0]
        ids = whole.encode(text)
        ours: dict[str, Any] = {"encode": ids, "decode": whole.decode(ids)}
        for key in case:
            if key.startswith("n_nonpad_"):
                ours[key] = int((whole(text, int(key.removeprefix("n_nonpad_")))[0] != 0).sum())
            elif key.startswith("last_of_"):
                ours[key] = int(whole(text, int(key.removeprefix("last_of_")))[0, -1])
            elif key.startswith("ids_"):
                ours[key] = whole(text, int(key.removeprefix("ids_")))[0].tolist()
        assert len(row) == stored["context_length"]
        cases.append(ours)
    tree = {"vocab_size": OPENAI_VOCABULARY, "sot": start, "eot": end, "context_length": whole.context_length}
    return dict(flatten({**tree, "cases": cases}))


def padded(pack: Pack) -> dict[str, Tensor]:
    stored = pack.tensors("text/tokenizer_ids.safetensors")
    return {key: Tokenizer()(texts(pack), int(key.removeprefix("ids_"))) for key in stored}


FILES = {"text/tokenizer.json": encoded, "text/tokenizer_ids.safetensors": padded}


@pytest.mark.parametrize("file", FILES)
def test_every_stored_id_comes_out_again(pack: Pack, file: str):
    pack.compare(file, pack.ours(file, FILES[file]))


def test_our_padding_is_open_clips_own_on_every_stored_text(pack: Pack):
    from open_clip import SimpleTokenizer

    assert torch.equal(Tokenizer()(texts(pack)), SimpleTokenizer()(texts(pack)))
