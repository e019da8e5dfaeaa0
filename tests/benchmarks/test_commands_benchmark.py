"""The benchmark of whole commands: both read the same files, failures are told, and the last line is the record."""

import json

import pytest

from benchmarks import commands
from cosmos_core.errors import RequestError
from cosmos_eval.datasets import load
from cosmos_eval.run.evaluate import evaluate
from cosmos_eval.run.plan import make_plan

PLAN = commands.CommandsPlan(classes=6, per_class=2, pairs=6, repetitions=2, workers=0)
FOUND = {"seconds": {"peer": [9.0, 12.0], "ours": [3.0, 3.0]}, "figures": {}, "apart": 2e-8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("commands")
    commands.write_data(PLAN, root)
    return root


def definitions(root):
    return [root / f"{name}.yaml" for name in commands.METRICS]


def test_our_reader_and_the_peers_find_the_same_samples(data):
    from clip_benchmark.datasets.builder import build_dataset, get_dataset_default_task

    things, pairs = (load(planned.benchmark, planned.data_root) for planned in make_plan(definitions(data), data))
    theirs = build_dataset(f"wds/{commands.CLASSIFICATION}", root=str(data / commands.CLASSIFICATION), transform=None)
    assert (
        theirs.classes
        == list(things.class_names)
        == ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead shark", "electric ray"]
    )
    assert theirs.templates == list(things.templates)
    assert len(theirs.templates) == 80
    assert [label for _, label in theirs] == things.labels.tolist() == [i // 2 for i in range(12)]
    theirs = build_dataset(
        f"wds/{commands.RETRIEVAL}",
        root=str(data / commands.RETRIEVAL),
        transform=lambda x: x,
        task="zeroshot_retrieval",
    )
    assert [text for _, texts in theirs for text in texts] == pairs.texts
    assert (len(pairs.images), len(pairs.texts), len(set(pairs.texts))) == (6, 30, 30)
    assert get_dataset_default_task(commands.RETRIEVAL) == "zeroshot_retrieval"
    assert get_dataset_default_task(commands.CLASSIFICATION) == "zeroshot_classification"


def test_figures_of_both_are_found_under_one_name(data):
    evaluate("python:tests.helpers.tiny_models:Colours", definitions(data), data, out=data / "out")
    ours = commands.our_figures(data)
    for dataset, names in commands.METRICS.items():
        metrics = {theirs: ours[f"{dataset} {own}"] for theirs, own in names.items()}
        (data / f"peer-{dataset}.json").write_text(json.dumps({"metrics": metrics}))
    assert commands.peer_figures(data) == ours
    assert len(ours) == 9


def test_a_command_that_fails_is_told_with_what_it_said():
    with pytest.raises(RequestError, match=r"^-c .* ended with 3: no such weights$"):
        commands.run(["-c", "import sys; print('no such weights', file=sys.stderr); sys.exit(3)"])


def test_figures_that_differ_are_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(commands, "measure", lambda plan, root: {**FOUND, "apart": float("nan")})
    assert commands.main(["--quick"]) == 1
    assert "figures differ by nan" in capsys.readouterr().err


def test_the_last_line_is_the_record_and_the_page_gets_a_section(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(commands, "measure", lambda plan, root: FOUND)
    assert commands.main(["--out", str(tmp_path / "speed.md")]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["ratios"] == {"commands": 3.5}
    page = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert "## Whole commands (" in page
    assert "| seconds | 10.5 | 3.0 | 3.50 [3.25, 3.75] |" in page


@pytest.mark.slow
def test_the_quick_run_gives_the_same_figures(capsys):
    assert commands.main(["--quick"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]["apart"] <= commands.SAME
