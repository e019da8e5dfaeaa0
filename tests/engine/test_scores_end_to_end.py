"""Models with their own score, through the command line: cache, resume, ranks, and the commands that read results."""

import json
from pathlib import Path

import pytest
import yaml

from cosmos_core.errors import RequestError
from cosmos_eval import evaluate
from cosmos_eval.cache.contents import find_cache_folder, list_cached_models
from cosmos_eval.cli.main import run_command
from cosmos_eval.profiling import PHASES
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.engine.test_distributed_run import exit_codes, printed_messages
from tests.helpers import scoring_models
from tests.helpers.killing_runs import outcome, read_features
from tests.helpers.rank_runs import start, world

MODELS = "python:tests.helpers.scoring_models:"
TASKS = ["retrieval", "classification", "perception"]


@pytest.fixture(scope="module")
def definitions(tmp_path_factory) -> dict[str, Path]:
    """A small benchmark of each task, and retrieval with rerank."""
    root = tmp_path_factory.mktemp("world")
    world(root)
    paths = {task: root / f"tiny-{task}.yaml" for task in TASKS}
    content = yaml.safe_load(paths["retrieval"].read_text())
    paths["rerank"] = root / "tiny-rerank.yaml"
    rerank = {**content, "name": "tiny-rerank", "metrics": {**content["metrics"], "rerank": 3}}
    paths["rerank"].write_text(yaml.safe_dump(rerank, sort_keys=False))
    return paths


def command(definitions: dict[str, Path], model: str, out: Path, batch_size: int = 4) -> list[str]:
    benchmarks = [part for path in definitions.values() for part in ("--benchmark", str(path))]
    return ["run", "--model", MODELS + model, *benchmarks, "--out", str(out), "--batch-size", str(batch_size)]


def metric_values(results) -> dict[str, dict[str, float]]:
    return {
        result.benchmark.name: {name: metric.value for name, metric in result.metrics.items()} for result in results
    }


def test_rerank_is_part_of_the_fingerprint_only_if_it_is_set(definitions):
    without_rerank, with_rerank = (load_benchmark(definitions[name]) for name in ("retrieval", "rerank"))
    assert "rerank" not in without_rerank.metrics
    assert with_rerank.metrics["rerank"] == 3
    assert without_rerank.fingerprint != with_rerank.fingerprint


@pytest.mark.parametrize("value", [0, -1, True, "3", 2.5])
def test_rerank_must_be_a_positive_integer(definitions, tmp_path, value):
    content = yaml.safe_load(definitions["rerank"].read_text())
    content["metrics"]["rerank"] = value
    path = tmp_path / "tiny-rerank.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RequestError, match=r"tiny-rerank\.yaml:\d+: .*rerank"):
        load_benchmark(path)


@pytest.mark.parametrize("model", ["Late", "Both", "Pairs"])
def test_features_and_pair_scores_are_cached_and_a_run_continues(definitions, tmp_path, model):
    model_class = getattr(scoring_models, model)
    paths, cache = [definitions["rerank"], *(definitions[task] for task in TASKS)], tmp_path / "cache"
    whole = evaluate(model_class(), paths, batch_size=4)
    first = evaluate(model_class(), paths[:1], out=tmp_path / "out", cache=cache, batch_size=4)
    encoded = first[0].timing.encoded
    assert encoded["pairs"] == 17 * 34 if model == "Pairs" else encoded["texts"] == 34
    rest = evaluate(model_class(), paths, out=tmp_path / "out", cache=cache, batch_size=4)
    assert metric_values(rest) == metric_values(whole)
    assert rest[0].timing == first[0].timing  # already done, kept
    again = evaluate(model_class(), paths, cache=cache, batch_size=4)
    assert metric_values(again) == metric_values(whole)
    assert {count for result in again for count in result.timing.encoded.values()} == {0}
    (cached_model,) = list_cached_models(find_cache_folder(cache))
    assert cached_model.info["spec"].endswith(f":{model}")


def test_tokens_cannot_be_exported_as_embeddings_and_are_verified_and_cleared(definitions, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_command(command({"retrieval": definitions["retrieval"]}, "Late", out)) == 0
    capsys.readouterr()
    export = ["cache", "export", MODELS + "Late", "--cache", str(out), "--out", str(tmp_path / "folder")]
    assert run_command(export) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has 4 x 4 numbers for each of its images, and an embeddings: folder holds one vector for each" in line
    assert run_command(["cache", "verify", "--cache", str(out)]) == 0
    assert run_command(["cache", "clear", "--cache", str(out)]) == 0


@pytest.mark.parametrize("model", ["Late", "Pairs", "Both"])
def test_two_ranks_give_the_samples_of_one_process(definitions, tmp_path, model):
    results = {}
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        run = command(definitions, model, folder / "out", batch_size=16)
        assert exit_codes(start(run, ranks, folder / "output")) == [0] * ranks, printed_messages(
            folder / "output", ranks
        )
        results[ranks] = outcome(folder / "out"), read_features(folder / "out/.embeddings")
        output = (folder / "output/0").read_text()
        assert ("scoring image-text pairs: " in output) == (model != "Late")
    assert results[1] == results[2]
    assert len(results[1][0]) == 4
    assert results[1][1]


def test_a_score_that_is_not_finite_on_another_rank_is_reported_in_one_line(definitions, tmp_path):
    run = command({"retrieval": definitions["retrieval"]}, "InfinitePairs", tmp_path / "out")
    assert exit_codes(start(run, 2, tmp_path / "output")) == [2, 2]
    (line,) = printed_messages(tmp_path / "output", 2)
    assert line.startswith("cosmos-eval: rank 1: ")
    assert "is not finite" in line


def test_commands_that_read_results_accept_those_of_pair_scorers(definitions, tmp_path, capsys):
    out = tmp_path / "out"
    two_tasks = {"retrieval": definitions["retrieval"], "perception": definitions["perception"]}
    for model in ("Pairs", "ConstantPairs", "Late"):
        assert run_command(command(two_tasks, model, out)) == 0
    assert run_command(["leaderboard", str(out)]) == 0
    assert run_command(["results", "list", str(out)]) == 0
    folders = sorted(path.parent.parent for path in out.glob("*/tiny-retrieval/RESULT.json"))
    assert run_command(["results", "diff", *map(str, folders[:2])]) in (0, 1)
    capsys.readouterr()
    assert run_command(["regress", *map(str, folders[:2])]) == 2
    assert "with 17 independent units" in capsys.readouterr().out  # too few for a paired test


@pytest.mark.parametrize("model", ["Late", "Pairs"])
@pytest.mark.parametrize("task", ["retrieval", "perception"])
def test_show_accepts_any_score(definitions, tmp_path, model, task):
    options = ["--benchmark", str(definitions[task]), "--model", MODELS + model, "--out", str(tmp_path / "shown")]
    assert run_command(["show", task, *options]) == 0
    assert list((tmp_path / "shown").rglob("*.png"))


@pytest.mark.parametrize("model", ["Late", "Pairs"])
def test_a_model_without_patch_features_is_refused_for_segmentation_in_one_line(tmp_path, model, capsys):
    world(tmp_path)
    path = tmp_path / "tiny-segmentation.yaml"
    assert run_command(command({"segmentation": path}, model, tmp_path / "out")) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval: ")]
    assert "has no encode_patches" in line


def test_a_profile_and_a_limit_work_with_pairs(definitions, tmp_path):
    run = [*command({"retrieval": definitions["retrieval"]}, "Pairs", tmp_path / "out"), "--limit", "5", "--profile"]
    assert run_command(run) == 0
    (path,) = (tmp_path / "out").glob("*/profile.json")
    seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    assert seconds["pairs"] > 0
    assert set(seconds) <= set(PHASES)  # or the sentence on the slowest phase would fail


def test_a_cosmos_with_its_cross_scorer_runs_on_every_task_and_reranks(definitions, tmp_path, capsys):
    benchmarks = [part for task in TASKS for part in ("--benchmark", str(definitions[task]))]
    spec, out = "cosmos:untrained-toybox?scorer=cross", tmp_path / "out"
    run = ["run", "--model", spec, *benchmarks, "--rerank", "3", "--limit", "8", "--out", str(out)]
    assert run_command(run) == 0
    records = {path.parent.name: json.loads(path.read_text()) for path in out.rglob("RESULT.json")}
    assert len(records) == 3
    assert {record["model"]["scorer"] for record in records.values()} == {"cross"}
    encoded = {name: record["timing"]["encoded"] for name, record in records.items()}
    retrieval = encoded["tiny-retrieval"]
    assert 8 * 3 <= retrieval["pairs"] <= 8 * 3 + 16 * 3
    assert (retrieval["images"], retrieval["texts"]) == (8, 16)
    assert all(counts["pairs"] > 0 for counts in encoded.values())
    # Kept, and known by its digest and not by its spec: the plain model measures everything itself.
    capsys.readouterr()
    assert run_command([*run[:2], "cosmos:untrained-toybox", *run[3:5], "--limit", "8", "--out", str(out)]) == 0
    assert len(list(out.rglob("RESULT.json"))) == 4
