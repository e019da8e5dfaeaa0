"""Models with scores of their own through the command: cache, resume, ranks, and what reads results."""

from pathlib import Path

import pytest
import yaml

from cosmos_core.errors import RequestError
from cosmos_eval import evaluate
from cosmos_eval.cache.contents import held, store_at
from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.engine.test_distributed_run import codes, told
from tests.helpers import scoring_models
from tests.helpers.killing_runs import outcome, rows_of
from tests.helpers.rank_runs import start, world

HERE = "python:tests.helpers.scoring_models:"
TASKS = ["retrieval", "classification", "perception"]


@pytest.fixture(scope="module")
def definitions(tmp_path_factory) -> dict[str, Path]:
    """A small benchmark of each task, and retrieval with rerank."""
    root = tmp_path_factory.mktemp("world")
    world(root)
    found = {task: root / f"tiny-{task}.yaml" for task in TASKS}
    content = yaml.safe_load(found["retrieval"].read_text())
    found["rerank"] = root / "tiny-rerank.yaml"
    rerank = {**content, "name": "tiny-rerank", "metrics": {**content["metrics"], "rerank": 3}}
    found["rerank"].write_text(yaml.safe_dump(rerank, sort_keys=False))
    return found


def command(definitions: dict[str, Path], model: str, out: Path) -> list[str]:
    benchmarks = [part for path in definitions.values() for part in ("--benchmark", str(path))]
    return ["run", "--model", HERE + model, *benchmarks, "--out", str(out), "--batch-size", "4"]


def values(results) -> dict[str, dict[str, float]]:
    return {one.benchmark.name: {name: metric.value for name, metric in one.metrics.items()} for one in results}


def test_rerank_enters_the_fingerprint_only_where_it_is_given(definitions):
    plain, again = (load_benchmark(definitions[name]) for name in ("retrieval", "rerank"))
    assert "rerank" not in plain.metrics
    assert again.metrics["rerank"] == 3
    assert plain.fingerprint != again.fingerprint


@pytest.mark.parametrize("value", [0, -1, True, "3", 2.5])
def test_rerank_is_a_whole_number_from_1(definitions, tmp_path, value):
    content = yaml.safe_load(definitions["rerank"].read_text())
    content["metrics"]["rerank"] = value
    path = tmp_path / "tiny-rerank.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RequestError, match=r"tiny-rerank\.yaml:\d+: .*rerank"):
        load_benchmark(path)


@pytest.mark.parametrize("model", ["Late", "Both", "Pairs"])
def test_features_and_pairs_are_stored_and_read_again_and_a_run_goes_on(definitions, tmp_path, model):
    made = getattr(scoring_models, model)
    paths, store = [definitions["rerank"], *(definitions[task] for task in TASKS)], tmp_path / "store"
    whole = evaluate(made(), paths, batch_size=4)
    first = evaluate(made(), paths[:1], out=tmp_path / "out", cache=store, batch_size=4)
    assert first[0].timing.encoded["pairs" if model == "Pairs" else "texts"] == (578 if model == "Pairs" else 34)
    rest = evaluate(made(), paths, out=tmp_path / "out", cache=store, batch_size=4)
    assert values(rest) == values(whole)
    assert rest[0].timing == first[0].timing  # already done, kept
    again = evaluate(made(), paths, cache=store, batch_size=4)
    assert values(again) == values(whole)
    assert {count for one in again for count in one.timing.encoded.values()} == {0}
    (one,) = held(store_at(store))
    assert one.about["spec"].endswith(f":{model}")


def test_tokens_cannot_be_exported_as_embeddings_and_are_verified_and_cleared(definitions, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_command(command({"retrieval": definitions["retrieval"]}, "Late", out)) == 0
    capsys.readouterr()
    target = ["cache", "export", HERE + "Late", "--cache", str(out), "--out", str(tmp_path / "folder")]
    assert run_command(target) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "keeps 4 x 4 numbers for each of its images, and embeddings: folders hold one vector an item" in line
    assert run_command(["cache", "verify", "--cache", str(out)]) == 0
    assert run_command(["cache", "clear", "--cache", str(out)]) == 0


@pytest.mark.parametrize("model", ["Late", "Pairs", "Both"])
def test_two_ranks_give_the_samples_of_one_process(definitions, tmp_path, model):
    found = {}
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        run = command(definitions, model, folder / "out")
        assert codes(start(run, ranks, folder / "said")) == [0] * ranks, told(folder / "said", ranks)
        found[ranks] = outcome(folder / "out"), rows_of(folder / "out/.embeddings")
        said = (folder / "said/0").read_text()
        assert ("scoring pairs: " in said) == (model != "Late")
    assert found[1] == found[2]
    assert len(found[1][0]) == 4
    assert found[1][1]


def test_a_score_that_is_not_finite_on_another_rank_is_one_line(definitions, tmp_path):
    run = command({"retrieval": definitions["retrieval"]}, "InfinitePairs", tmp_path / "out")
    assert codes(start(run, 2, tmp_path / "said")) == [2, 2]
    (line,) = told(tmp_path / "said", 2)
    assert line.startswith("cosmos-eval: rank 1: ")
    assert "is not finite" in line


def test_what_reads_results_takes_those_of_pairs(definitions, tmp_path, capsys):
    out = tmp_path / "out"
    some = {"retrieval": definitions["retrieval"], "perception": definitions["perception"]}
    for model in ("Pairs", "ConstantPairs", "Late"):
        assert run_command(command(some, model, out)) == 0
    assert run_command(["leaderboard", str(out)]) == 0
    assert run_command(["results", "list", str(out)]) == 0
    folders = sorted(path.parent.parent for path in out.glob("*/tiny-retrieval/RESULT.json"))
    assert run_command(["results", "diff", *map(str, folders[:2])]) in (0, 1)
    capsys.readouterr()
    assert run_command(["regress", *map(str, folders[:2])]) == 2
    assert "with 17 independent units" in capsys.readouterr().out  # too few for a test, which is all that is said


@pytest.mark.parametrize("model", ["Late", "Pairs"])
@pytest.mark.parametrize("shown", ["retrieval", "perception"])
def test_show_takes_any_score(definitions, tmp_path, model, shown):
    named = ["--benchmark", str(definitions[shown]), "--model", HERE + model, "--out", str(tmp_path / "shown")]
    assert run_command(["show", shown, *named]) == 0
    assert list((tmp_path / "shown").rglob("*.png"))


@pytest.mark.parametrize("model", ["Late", "Pairs"])
def test_segmentation_says_in_one_line_what_it_lacks(tmp_path, model, capsys):
    world(tmp_path)
    path = tmp_path / "tiny-segmentation.yaml"
    assert run_command(command({"segmentation": path}, model, tmp_path / "out")) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval: ")]
    assert "has no encode_patches" in line


def test_a_profile_and_a_limit_work_with_pairs(definitions, tmp_path):
    run = [*command({"retrieval": definitions["retrieval"]}, "Pairs", tmp_path / "out"), "--limit", "5", "--profile"]
    assert run_command(run) == 0
