"""The classes of a result: measured, written beside RESULT.json, read, merged, printed; older results have none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cosmos_eval
from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.results.class_file import CLASSES, read_classes, write_classes
from cosmos_eval.results.store import read_result
from cosmos_eval.results.versions import with_checksum
from cosmos_eval.tasks.class_table import ClassEntry, ClassTable, class_table, distinguish_names
from cosmos_eval.tasks.outcome import Metric
from tests.compatibility.test_frozen import FROZEN
from tests.helpers.stand_ins import Constant, Given, benchmark, random_images
from tests.helpers.worlds import captions_world, classes_world

COLOURS = "python:tests.helpers.tiny_models:Colours"
SAMPLES = "d" * 64
TABLE = ClassTable(
    "recall",
    (
        ClassEntry("tench, a fish", 4, Metric(0.75, 0.25, 1.0, 4, "mid-p")),
        ClassEntry('=1+1 "quoted" \udcff', 0, None, ("a {c}", "it swims"), ("fish", "water")),
    ),
    ("a photo of a {c}.",),
)


def outcome_of(engine, labels, names="wxyz", templates=("{c}",)):
    data = ClassificationData(
        random_images(len(labels)), np.array(labels), list(names), list(templates), empty_classes_allowed=True
    )
    return tasks.run(benchmark("classification"), data, engine)


def test_four_images_and_four_classes_by_hand():
    rows = np.array([[0.8, 0.6, 0, 0], [0.6, 0.8, 0, 0], [0.5, 0.5, 0.5, 0.5], [0, 0, 0, 1]])
    given = Given({f"image-{i}": row for i, row in enumerate(rows)}, dict(zip("wxyz", np.eye(4), strict=True)))
    table = outcome_of(given, [0, 0, 1, 2]).classes
    frame = table.frame()
    assert list(frame.columns) == ["class", "n", "recall", "low", "high"]
    assert frame["class"].tolist() == list("wxyz")
    assert frame["n"].tolist() == [2, 1, 1, 0]
    assert frame["recall"].tolist()[:3] == [0.5, 0.25, 0.0]
    assert frame.loc[3, ["recall", "low", "high"]].isna().all()
    assert table.templates == ("{c}",)
    assert [entry.name for entry in table.from_worst()] == ["y", "x", "w"]


def test_a_perfect_model_has_a_recall_of_one_and_a_constant_model_of_chance():
    labels = [0, 1, 2, 3, 3]
    perfect = Given(
        {f"image-{i}": np.eye(4)[c] for i, c in enumerate(labels)}, dict(zip("wxyz", np.eye(4), strict=True))
    )
    assert set(outcome_of(perfect, labels).classes.frame()["recall"]) == {1.0}
    assert set(outcome_of(Constant(), labels).classes.frame()["recall"]) == {0.25}


def test_templates_of_each_class_are_kept_with_the_class():
    metric = Metric(1.0, 0.5, 1.0, 1)
    table = class_table("recall", ["cat", "dog"], [1, 1], [metric, metric], [["a {c}", "it purrs"], ["a {c}"]])
    assert table.templates == ()
    assert [entry.templates for entry in table.classes] == [("a {c}", "it purrs"), ("a {c}",)]
    words = class_table("iou", ["sky", "road"], [1, 1], [metric, metric], ["a {c}"], [["sky"], ["road", "street"]])
    assert [entry.words for entry in words.classes] == [(), ("road", "street")]


def test_names_that_occur_twice_are_numbered():
    assert distinguish_names(["missile", "crane", "missile"]) == ["missile (0)", "crane", "missile (2)"]


def test_a_table_reads_back_as_it_was_written_and_no_table_removes_it(tmp_path):
    write_classes(tmp_path, TABLE, SAMPLES)
    assert read_classes(tmp_path, SAMPLES) == TABLE
    lines = (tmp_path / CLASSES).read_text(encoding="ascii").splitlines()
    assert sum('"name"' in line for line in lines) == len(TABLE.classes)  # a line for each class
    write_classes(tmp_path, None, SAMPLES)
    assert read_classes(tmp_path, SAMPLES) is None


def test_a_thousand_classes_are_stored_once(tmp_path):
    metric = Metric(0.123456789012345, 0.0123456789012345, 0.923456789012345, 50, "mid-p and bootstrap")
    names = [f"a name of class {i}" for i in range(1000)]
    write_classes(tmp_path, class_table("recall", names, [50] * 1000, [metric] * 1000, ["a {c}."] * 80), SAMPLES)
    assert (tmp_path / CLASSES).stat().st_size < 200_000


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda record: record["classes"][0].update(value=0.9), "its checksum differs"),
        (lambda record: record.update(samples="e" * 64, checksum=""), "its checksum differs"),
        (lambda record: record.pop("checksum"), "not a valid table of classes"),
        (lambda record: record.update(schema=2), "written by a newer cosmos-eval"),
    ],
)
def test_edited_tables_are_refused_by_file(tmp_path, edit, why):
    write_classes(tmp_path, TABLE, SAMPLES)
    record = json.loads((tmp_path / CLASSES).read_text())
    edit(record)
    (tmp_path / CLASSES).write_text(json.dumps(record))
    with pytest.raises(RequestError, match=why) as caught:
        read_classes(tmp_path, SAMPLES)
    assert str(tmp_path / CLASSES) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": [{"name": 7, "n": 1}]},
        {"classes": [{"name": "a", "n": -1}]},
        {"classes": [{"name": "a", "n": True}]},
        {"classes": [{"name": "a", "n": 1, "value": 2, "low": 0, "high": 1}]},
        {"classes": [{"name": "a", "n": 1, "value": 0.5}]},
        {"classes": [["a"]]},
        {"classes": 7},
        {"templates": [None]},
        {"metric": []},
    ],
)
def test_tables_of_another_form_are_refused(tmp_path, change):
    write_classes(tmp_path, TABLE, SAMPLES)
    record = json.loads((tmp_path / CLASSES).read_text())
    (tmp_path / CLASSES).write_text(json.dumps(with_checksum({**record, **change})))
    with pytest.raises(RequestError, match="not a valid table of classes"):
        read_classes(tmp_path, SAMPLES)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"schema": 1}', "\x00\x01"])
def test_files_that_are_no_tables_are_refused(tmp_path, text):
    (tmp_path / CLASSES).write_text(text)
    with pytest.raises(RequestError, match=r"CLASSES\.json"):
        read_classes(tmp_path, SAMPLES)


def test_the_table_of_another_measurement_is_refused(tmp_path):
    write_classes(tmp_path, TABLE, SAMPLES)
    with pytest.raises(RequestError, match="belongs to another measurement"):
        read_classes(tmp_path, "e" * 64)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run with classes and without."""
    folder = tmp_path_factory.mktemp("classes")
    worlds = [captions_world(folder), classes_world(folder, per_class=4)]
    command = [word for world in worlds for word in ("--benchmark", str(world))]
    assert run_command(["run", "--model", COLOURS, *command, "--out", str(folder / "eval"), "--no-cache"]) == 0
    return folder / "eval"


def of_benchmark(folder: Path, name: str) -> Path:
    (path,) = folder.glob(f"*/{name}/RESULT.json")
    return path


def test_a_run_writes_the_classes_beside_the_result_which_stays_as_it_was(run_folder):
    path = of_benchmark(run_folder, "classes")
    result = read_result(path)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert (record["schema"], "classes" in record) == (3, False)
    samples = pd.read_parquet(path.with_name("samples.parquet"))
    frame = result.classes.frame()
    assert frame["class"].tolist() == ["thing 0", "thing 1", "thing 2"]
    assert frame["recall"].tolist() == pytest.approx(samples.groupby("label")["correct"].mean().tolist())
    assert frame["n"].tolist() == [4, 4, 4]
    assert result.classes.templates == ("a photo of a {c}.",)
    assert result.metrics["mean_per_class"].value == pytest.approx(frame["recall"].mean())
    retrieval = of_benchmark(run_folder, "pairs")
    assert read_result(retrieval).classes is None
    assert not retrieval.with_name(CLASSES).exists()


def test_results_in_memory_have_their_classes(tmp_path):
    (result,) = cosmos_eval.evaluate(COLOURS, classes_world(tmp_path))
    assert [entry.name for entry in result.classes.classes] == ["thing 0", "thing 1", "thing 2"]
    frame = cosmos_eval.class_frame([result, result])
    assert len(frame) == 6
    assert set(frame["metric"]) == {"recall"}
    assert frame["value"].between(0, 1).all()


def test_show_prints_the_worst_and_the_best_classes_and_the_templates(run_folder, capsys):
    path = of_benchmark(run_folder, "classes")
    assert run_command(["results", "show", str(path)]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    fields = {field: value for field, value in rows if field.startswith("classes")}
    assert fields["classes"] == "3, recall of each"
    assert fields["classes.templates"] == "a photo of a {c}."
    worst = read_result(path).classes.from_worst()
    assert fields["classes.worst"].startswith(f"{worst[0].name}: {100 * worst[0].metric.value:.2f} [")
    assert fields["classes.best"].startswith(f"{worst[-1].name}: ")


def test_classes_are_printed_from_the_worst_and_exported(run_folder, tmp_path, capsys):
    path = of_benchmark(run_folder, "classes")
    assert run_command(["results", "classes", str(path)]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [name for name, *_ in rows] == [entry.name for entry in read_result(path).classes.from_worst()]
    assert run_command(["results", "classes", str(run_folder)]) == 0  # the other result below it has no classes
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == rows
    out = tmp_path / "classes.csv"
    assert run_command(["results", "classes", str(run_folder), "--out", str(out)]) == 0
    assert f"{out}: 3 classes of 1 of 2 results" in capsys.readouterr().out
    assert pd.read_csv(out)["value"].tolist() == read_result(path).classes.frame()["recall"].tolist()


def test_a_result_without_classes_says_how_to_get_them(run_folder, capsys):
    for arguments in ([], ["--out", "x.csv"]):
        assert run_command(["results", "classes", str(of_benchmark(run_folder, "pairs")), *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "has no classes" in line


def test_merge_takes_the_classes_along_and_refuses_damaged_ones(run_folder, tmp_path, capsys):
    shutil.copytree(run_folder, tmp_path / "there")
    assert run_command(["results", "merge", str(tmp_path / "there"), "--out", str(tmp_path / "all")]) == 0
    merged, source = (of_benchmark(tmp_path / name, "classes") for name in ("all", "there"))
    assert merged.with_name(CLASSES).read_bytes() == source.with_name(CLASSES).read_bytes()
    assert read_result(merged).classes == read_result(source).classes
    shutil.copytree(tmp_path / "all", tmp_path / "existing")
    shutil.rmtree(of_benchmark(tmp_path / "existing", "classes").parent)
    assert run_command(["results", "merge", str(tmp_path / "there"), "--out", str(tmp_path / "existing")]) == 0
    assert read_result(of_benchmark(tmp_path / "existing", "classes")).classes is not None
    text = source.with_name(CLASSES).read_text()
    source.with_name(CLASSES).write_text(text.replace("thing 1", "thing 9"))
    capsys.readouterr()
    assert run_command(["results", "merge", str(tmp_path / "there"), "--out", str(tmp_path / "new")]) == 2
    assert "its checksum differs" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert run_command(["results", "show", str(source)]) == 0  # it decides no number of the result
    assert "its checksum differs" in capsys.readouterr().out


def test_results_of_before_have_the_classes_that_their_metrics_name():
    classification, segmentation = (
        read_result(next(FROZEN.glob(f"results/cosmos-toybox-*/frozen-{name}/RESULT.json")))
        for name in ("classification", "segmentation")
    )
    assert classification.classes is None
    table = segmentation.classes
    assert table.metric == "iou"
    assert {f"{entry.name}/iou": entry.metric for entry in table.classes} == {
        name: metric for name, metric in segmentation.metrics.items() if name.endswith("/iou")
    }
