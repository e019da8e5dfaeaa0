"""docs/python.md: its code runs as written, one block after the other, with small models in place of downloads."""

import re
from pathlib import Path

import open_clip
import pytest
import transformers

import cosmos_eval
from tests.models.test_held_models import TOKENIZER, network, preprocess
from tests.models.test_models_hf import clip, clip_tokenizer

PAGE = Path(__file__).parents[2] / "docs/python.md"
DOCS = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", DOCS, re.S)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def no_downloads(tmp_path, monkeypatch):
    """The calls on the page that download give small models of the same classes."""
    folder = clip(tmp_path / "clip")
    processor = transformers.CLIPProcessor(transformers.CLIPImageProcessorPil.from_pretrained(folder), clip_tokenizer())
    held = transformers.CLIPModel.from_pretrained(folder)
    monkeypatch.setattr(open_clip, "create_model_and_transforms", lambda *_, **__: (network(), None, preprocess()))
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda *_: TOKENIZER)
    monkeypatch.setattr(transformers.CLIPModel, "from_pretrained", lambda *_: held)
    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lambda *_: processor)
    monkeypatch.chdir(tmp_path)


def test_the_code_of_the_page_runs_in_order(no_downloads, capsys):
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "1.0"  # toybox knows its colours
    frame = names["frame"]
    assert set(frame["benchmark"]) == {"squares"}
    assert frame["limited"].tolist() == [False] * len(frame)
    assert "squares" in shown
    assert "cosmos:toybox" in shown


def test_every_data_class_and_constructor_of_the_page_exists_and_all_are_on_it():
    rows = re.findall(r"^\| `(\w+Data)` \| (.*) \|$", DOCS, re.M)
    exported = {name for name in cosmos_eval.__all__ if name.endswith("Data")} - {"Data", "SplitData"}
    assert {name for name, _ in rows} == exported
    for name, constructors in rows:
        for constructor, parameters in re.findall(r"`(\w+)\(([^)]*)\)`", constructors):
            code = getattr(getattr(cosmos_eval, name), constructor).__func__.__code__
            known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            for parameter in parameters.split(", "):
                assert parameter in known or parameter == "captions", (name, constructor, parameter)
