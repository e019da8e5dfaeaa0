"""benchmarks/commands.py: both commands read the same files, failures are reported, the last line is the record."""

import json

import pytest

from benchmarks import commands
from cosmos_core.errors import RequestError
from cosmos_eval.datasets import load
from cosmos_eval.run.evaluate import evaluate
from cosmos_eval.run.plan import make_plan

PLAN = commands.CommandsPlan(classes=6, per_class=2, pairs=6, repetitions=2, workers=0)
MEASURED = {"seconds": {"peer": [9.0, 12.0], "ours": [3.0, 3.0]}, "figures": {}, "largest_difference": 2e-8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("commands")
    commands.write_data(PLAN, root)
    return root


def definitions(root):
    return [root / f"{name}.yaml" for name in commands.METRICS]


def test_our_reader_and_the_peers_read_the_same_samples(data):
    from clip_benchmark.datasets.builder import build_dataset, get_dataset_default_task

    classification, retrieval = (
        load(planned.benchmark, planned.data_root) for planned in make_plan(definitions(data), data)
    )
    peer_data = build_dataset(
        f"wds/{commands.CLASSIFICATION}", root=str(data / commands.CLASSIFICATION), transform=None
    )
    assert (
        peer_data.classes
        == list(classification.class_names)
        == ["tench", "goldfish", "great white shark", "tiger shark", "hammerhead shark", "electric ray"]
    )
    assert peer_data.templates == list(classification.templates)
    assert len(peer_data.templates) == 80
    assert [label for _, label in peer_data] == classification.labels.tolist() == [i // 2 for i in range(12)]
    peer_data = build_dataset(
        f"wds/{commands.RETRIEVAL}",
        root=str(data / commands.RETRIEVAL),
        transform=lambda x: x,
        task="zeroshot_retrieval",
    )
    assert [text for _, texts in peer_data for text in texts] == retrieval.texts
    assert (len(retrieval.images), len(retrieval.texts), len(set(retrieval.texts))) == (6, 30, 30)
    assert get_dataset_default_task(commands.RETRIEVAL) == "zeroshot_retrieval"
    assert get_dataset_default_task(commands.CLASSIFICATION) == "zeroshot_classification"


def test_figures_of_both_have_the_same_names(data):
    evaluate("python:tests.helpers.tiny_models:Colours", definitions(data), data, out=data / "out")
    ours = commands.our_figures(data)
    for dataset, names in commands.METRICS.items():
        metrics = {peer_name: ours[f"{dataset} {name}"] for peer_name, name in names.items()}
        (data / f"peer-{dataset}.json").write_text(json.dumps({"metrics": metrics}))
    assert commands.peer_figures(data) == ours
    assert len(ours) == 9


def test_a_failing_command_is_reported_with_its_last_line():
    with pytest.raises(RequestError, match=r"^-c .* ended with exit code 3: no such weights$"):
        commands.run(["-c", "import sys; print('no such weights', file=sys.stderr); sys.exit(3)"])


def test_figures_that_differ_are_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(commands, "measure", lambda plan, root: {**MEASURED, "largest_difference": float("nan")})
    assert commands.main(["--quick"]) == 1
    assert "figures differ by nan" in capsys.readouterr().err


def test_the_last_line_is_the_record_and_the_page_gets_a_section(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(commands, "measure", lambda plan, root: MEASURED)
    assert commands.main(["--out", str(tmp_path / "speed.md")]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["ratios"] == {"commands": 3.5}
    page = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert "## Whole commands (" in page
    assert "| seconds | 10.5 | 3.0 | 3.50 [3.25, 3.75] |" in page


@pytest.mark.slow
def test_the_quick_run_gives_the_same_figures(capsys):
    assert commands.main(["--quick"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]["largest_difference"] <= commands.SAME
