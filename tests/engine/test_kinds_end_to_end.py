"""Every kind of model spec through a whole run: interrupted, continued, from its cache, with a limit, on two ranks."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cosmos_eval import evaluate
from cosmos_eval.engine.batch_splitter import BatchSplitter
from cosmos_eval.models import load_model
from cosmos_eval.models.abilities import is_pair_scorer
from cosmos_eval.models.spec import KINDS
from tests.engine.test_distributed_run import exit_codes, printed_messages
from tests.engine.test_scores_end_to_end import metric_values
from tests.helpers.killing_runs import outcome, read_features
from tests.helpers.open_clip_folders import shallow_timm, write_architecture
from tests.helpers.rank_runs import start
from tests.helpers.tiny_hf import BUILD, save
from tests.models.test_models_flair import checkpoint, network

__all__ = ["checkpoint", "network"]
DATA = {"reader": "toybox", "split": "test", "seed": 0}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "retrieval": {
        "dataset": {**DATA, "scenes": 9},
        "metrics": {"primary": "text_to_image_recall@1", "k": [1, 5], "rerank": 3},
    },
    "classification": {
        "dataset": {**DATA, "per_class": 1},
        "metrics": {"primary": "top1"},
        "prompts": {"class_names": "dataset", "templates": ["{c}"]},
    },
    "perception": {"dataset": {**DATA, "scenes": 7, "seed": 1}, "metrics": {"primary": "macro_accuracy"}},
}
NEEDS_ST = pytest.mark.skipif(not find_spec("sentence_transformers"), reason="sentence-transformers is not installed")
MODELS = [
    "cosmos", "cosmos-cross", "open_clip", "hf", "hf-patches", "hf-queries", "hf-itm", "flair", "flair-clip",
    pytest.param("st", marks=NEEDS_ST), pytest.param("st-conversation", marks=NEEDS_ST),
]  # fmt: skip
"""What is read or scored in ways of its own. `python:` and `embeddings:` have their tests in test_scores_end_to_end,
test_distributed_run and test_killed_run."""
BATCH_SIZE = 4
TWO_RANKS = [pytest.param(name, marks=pytest.mark.slow) if isinstance(name, str) else name for name in MODELS]
"""Two ranks of each would take CI half a minute; those of the vectors of different lengths stay."""

PLAIN = ("open_clip", "hf", "flair-clip")
"""One embedding for each input, from batches of equal sizes: the same path as `cosmos`."""


@pytest.fixture(scope="module")
def spec_of(tmp_path_factory, checkpoint) -> Callable[[str], str]:
    """A function: one of `MODELS` -> the spec of a tiny random model."""
    root = tmp_path_factory.mktemp("models")

    def open_clip() -> str:
        with shallow_timm():
            write_architecture("ViT-B-32", root / "open_clip")
        return f"open_clip:local-dir:{root / 'open_clip'}"

    def st(name: str) -> str:
        from tests.helpers import tiny_st

        tiny_st.BUILD[name](root / f"{name}-parts").save_pretrained(str(root / name))
        return f"st:{root / name}"

    specs: dict[str, Callable[[], str]] = {
        "cosmos": lambda: "cosmos:untrained-toybox",
        "cosmos-cross": lambda: "cosmos:untrained-toybox?scorer=cross",
        "open_clip": open_clip,
        "hf": lambda: f"hf:{save(root / 'hf', BUILD['chinese_clip'])}",
        "hf-patches": lambda: f"hf:{save(root / 'patches', BUILD['siglip2'])}",
        "hf-queries": lambda: f"hf:{save(root / 'queries', BUILD['blip_2'])}",
        "hf-itm": lambda: f"hf:{save(root / 'itm', BUILD['blip'])}?scorer=itm",
        "flair": lambda: f"flair:{checkpoint}",
        "flair-clip": lambda: f"flair:{checkpoint}?scorer=clip",
        "st": lambda: st("clip"),
        "st-conversation": lambda: st("qwen3_vl") + "?text-prompt=query&image-prompt=document",
    }
    return cache(lambda name: specs[name]())


@pytest.fixture(scope="module")
def model_of(spec_of):
    return cache(lambda name: load_model(spec_of(name)))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def definitions(root: Path, name: str, *tasks: str) -> list[Path]:
    """The definitions of `tasks`; with a rerank if the model scores pairs."""
    paths = []
    for task in tasks:
        fields = {**DEFINITIONS[task], "metrics": dict(DEFINITIONS[task]["metrics"])}
        if name not in ("cosmos-cross", "hf-itm"):
            fields["metrics"].pop("rerank", None)
        paths.append(root / f"tiny-{task}.yaml")
        content = {"name": paths[-1].stem, "version": 1, "task": task, "source": "made by a test", **fields}
        paths[-1].write_text(yaml.safe_dump(content, sort_keys=False))
    return paths


def test_the_list_of_models_has_every_kind():
    names = {getattr(name, "values", (name,))[0].split("-")[0] for name in MODELS}
    assert names | {"python", "embeddings"} == set(KINDS)


def interrupt_after(monkeypatch, unit: str, batches: int) -> None:
    """Let the model take so many batches of images or pairs, and press Ctrl-C."""
    encode, taken = BatchSplitter.encode, []

    def interrupted(self: Any, encoded_unit: str, *arguments: Any) -> Any:
        if encoded_unit == unit:
            if len(taken) == batches:
                raise KeyboardInterrupt
            taken.append(1)
        return encode(self, encoded_unit, *arguments)

    monkeypatch.setattr(BatchSplitter, "encode", interrupted)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in PLAIN else name for name in MODELS]
)
def test_an_interrupted_run_continues_from_its_cache_with_the_same_numbers(model_of, tmp_path, monkeypatch, name):
    model = model_of(name)
    paths = definitions(tmp_path, name, "retrieval")
    whole = evaluate(model, paths, batch_size=BATCH_SIZE)
    unit = "pairs" if is_pair_scorer(model) else "images"
    with monkeypatch.context() as patch:
        interrupt_after(patch, unit, 2)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, paths, out=tmp_path / "out", batch_size=BATCH_SIZE)
    rest = evaluate(model, paths, out=tmp_path / "out", batch_size=BATCH_SIZE)
    assert metric_values(rest) == metric_values(whole)
    assert 0 < rest[0].timing.encoded[unit] < whole[0].timing.encoded[unit]
    assert unit == "images" or rest[0].timing.encoded["images"] == 0

    again = evaluate(model, paths, cache=tmp_path / "out/.embeddings", batch_size=BATCH_SIZE)
    assert metric_values(again) == metric_values(whole)
    assert {number for result in again for number in result.timing.encoded.values()} == {0}
    few = evaluate(model, paths, cache=tmp_path / "out/.embeddings", batch_size=BATCH_SIZE, limit=5)
    assert metric_values(few) == metric_values(evaluate(model, paths, batch_size=BATCH_SIZE, limit=5))
    assert few[0].timing.encoded["images"] == 0


@pytest.mark.parametrize("name", TWO_RANKS)
def test_two_ranks_give_the_samples_and_features_of_one_process(spec_of, tmp_path, name):
    paths = definitions(tmp_path, name, "retrieval")
    results = {}
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        run = ["run", "--model", spec_of(name), "--out", str(folder / "out"), "--batch-size", str(BATCH_SIZE)]
        run += [word for path in paths for word in ("--benchmark", str(path))]
        codes = exit_codes(start(run, ranks, folder / "output"))
        assert codes == [0] * ranks, printed_messages(folder / "output", ranks)
        results[ranks] = outcome(folder / "out"), read_features(folder / "out/.embeddings")
    assert results[1] == results[2]
    assert len(results[1][0]) == 1
    assert results[1][1]


def test_pair_scores_are_kept_by_the_digest_of_the_model_within_the_limit_of_the_cache(model_of, spec_of, tmp_path):
    (path,) = definitions(tmp_path, "hf-itm", "retrieval")
    kept, model = tmp_path / "cache", model_of("hf-itm")
    other = load_model(spec_of("hf-itm").removesuffix("?scorer=itm"))
    assert other.digest != model.digest
    evaluate(model, path, cache=kept, batch_size=BATCH_SIZE)
    (folder,) = [file.parent for file in kept.rglob("pairs-*.safetensors")]
    assert model.digest in (folder / "space.json").read_text()
    size = sum(file.stat().st_size for file in kept.rglob("*.safetensors"))
    evaluate(model_of("cosmos-cross"), path, cache=kept, cache_limit=size, batch_size=BATCH_SIZE)
    assert sum(file.stat().st_size for file in kept.rglob("*.safetensors")) <= size
    assert not list(folder.glob("pairs-*.safetensors"))  # the least recently used
    assert list(kept.rglob("pairs-*.safetensors"))


@NEEDS_ST
@pytest.mark.parametrize("name", [pytest.param("st", marks=pytest.mark.slow), "st-conversation"])
def test_models_of_sentence_transformers_run_on_every_task_with_workers(model_of, tmp_path, name):
    paths = definitions(tmp_path, name, *DEFINITIONS)
    results = evaluate(model_of(name), paths, limit=8, batch_size=3, workers=2)
    assert [result.benchmark.task for result in results] == list(DEFINITIONS)
    assert metric_values(results) == metric_values(evaluate(model_of(name), paths, limit=8, batch_size=3, workers=0))
    assert metric_values(results)["tiny-retrieval"]
