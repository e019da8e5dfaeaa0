"""docs/own_models.md: its adapters run as written, and its figures are those of the code."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from cosmos_core.errors import RequestError
from cosmos_eval import evaluate, load_model
from cosmos_eval.engine import scores
from cosmos_eval.models.abilities import require_languages
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.rank_runs import world

DOCS = (Path(__file__).parents[2] / "docs/own_models.md").read_text(encoding="utf-8")
MODULES = dict(
    zip(re.findall(r"`(\w+)\.py`, this one is", DOCS), re.findall(r"```python\n(.*?)```", DOCS, re.S), strict=True)
)


@pytest.fixture
def adapters(tmp_path, monkeypatch):
    """The modules of the page, saved in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for name, source in MODULES.items():
        Path(f"{name}.py").write_text(source)
        sys.modules.pop(name, None)
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["late", "pairs"])
def test_the_adapters_run_as_written_and_are_better_than_chance(adapters, name):
    world(adapters)
    paths = [adapters / f"tiny-{task}.yaml" for task in ("retrieval", "classification", "perception")]
    assert len(load_model(f"python:{name}:build").digest) == 64
    retrieval, *others = evaluate(f"python:{name}:build", paths, batch_size=64)
    # 17 images with two texts each: chance is a mean rank of 9
    assert retrieval.metrics["text_to_image_mean_rank"].value < 7
    assert len(others) == 2  # classes and negatives differ in more than colour


def test_the_definition_with_rerank_is_valid(adapters):
    world(adapters)
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.S)
    path = adapters / "tiny-retrieval.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **yaml.safe_load(block)}))
    assert load_benchmark(path).metrics["rerank"] == 16


def test_the_adapter_with_languages_is_told_them(adapters):
    model = load_model("python:told:build")
    with model.use_language("de"):
        german = model.encode_text(["rot und blau"])
    assert german.tolist() == model.encode_text(["red und blue"]).tolist() != model.encode_text(["rot"]).tolist()
    with pytest.raises(RequestError, match="use_language failed: ValueError: no names of colours in fr"):
        require_languages(model, ["de", "fr"], "some-benchmark")


def test_figures_are_those_of_the_code():
    assert f"beyond {scores.MAX_PAIRS:,} pairs" in DOCS
