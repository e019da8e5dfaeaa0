"""`show geometry`: its values are those of the task and of the formulas, its files, its refusals, the command."""

import json
import math

import numpy as np
import pytest
import yaml
from PIL import Image

from cosmos_core.collapse import alignment, uniformity
from cosmos_core.errors import RequestError
from cosmos_eval import load_model
from cosmos_eval.cli.main import run_command
from cosmos_eval.cli.show_geometry import as_images
from cosmos_eval.datasets.kinds import CLASSIFICATION
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.embedding_geometry import effective_rank, modality_gap
from cosmos_eval.page.report import write_report
from cosmos_eval.results.store import read_results
from cosmos_eval.run.evaluate import evaluate
from cosmos_eval.show.geometry import show_geometry
from cosmos_eval.show.opening import read_data
from tests.helpers.worlds import classes_world

MODEL = "cosmos:untrained-toybox?seed=3"
COLOURS = "python:tests.helpers.tiny_models:Colours"
CONSTANT = "python:tests.helpers.tiny_models:Constant"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return classes_world(tmp_path_factory.mktemp("world"), per_class=4)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return classes_world(tmp_path_factory.mktemp("other"), name="others", classes=2)


@pytest.fixture(scope="module")
def shown(world, other, tmp_path_factory):
    return show_geometry(MODEL, world, tmp_path_factory.mktemp("shown"), against=other)


def test_the_values_are_those_of_the_formulas(shown, world):
    _, data = read_data(world, (CLASSIFICATION,), None, None)
    engine = Engine(load_model(MODEL))
    images = engine.image_features(data.images)
    texts = engine.text_features([f"a photo of a thing {c}." for c in range(3)])
    expected = {
        "images": 12, "texts": 3, "modality_gap": modality_gap(images, texts),
        "alignment": alignment(images, texts[list(data.labels)]), "uniformity_images": uniformity(images),
        "uniformity_texts": uniformity(texts), "effective_rank_images": effective_rank(images),
        "matching_similarity": float((images * texts[list(data.labels)]).sum(1).mean()),
    }  # fmt: skip
    assert {name: shown.figures[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_the_accuracy_is_that_of_the_task(shown, world, tmp_path):
    (result,) = evaluate(MODEL, [world], out=tmp_path)
    assert shown.figures["accuracy"] == pytest.approx(result.metrics["top1"].value)
    assert 1 / 3 <= shown.figures["mean_confidence"] <= 1
    assert 0 <= shown.figures["expected_calibration_error"] <= 1
    wrong = sum(pair["images"] for pair in shown.confused)
    assert wrong == pytest.approx(12 * (1 - shown.figures["accuracy"]))


def test_images_of_the_benchmark_itself_are_not_told_apart(world, tmp_path):
    done = show_geometry(MODEL, world, tmp_path, against=world)
    figures = done.figures
    assert "12 of 12 images of classes are in classes, too" in done.remarks
    assert figures["ood_auroc_score"] == figures["ood_auroc_probability"] == 1 / 2
    assert figures["ood_fpr95_score"] == 1


def test_files_are_written(shown):
    content = json.loads(shown.files["Values"].read_text())
    assert content["figures"] == pytest.approx(shown.figures)
    assert sum(one["count"] for one in content["reliability"]) == 12
    # counts, the scale and figures of the classes alone have no interval; all others contain their value
    fixed = {"images", "texts", "dimensions", "logit_scale", "ood_images", "uniformity_texts", "effective_rank_texts"}
    assert set(content["figures"]) - set(content["intervals"]) == fixed
    for name, (low, high) in content["intervals"].items():
        assert low <= content["figures"][name] <= high, name
    for one in [*content["confused"], *(one for one in content["reliability"] if one["count"])]:
        assert one["low"] <= one.get("images", one.get("accuracy")) <= one["high"]
    with Image.open(shown.files["Figure"]) as picture:
        assert picture.width > picture.height > 300


def test_a_model_without_a_logit_scale_has_no_calibration(world, other, tmp_path):
    shown = show_geometry(COLOURS, world, tmp_path, against=other)
    assert not any("calibration" in name or "probability" in name for name in shown.figures)
    assert "ood_auroc_score" in shown.figures
    assert any("logit scale" in remark for remark in shown.remarks)


def test_a_collapsed_model_is_seen(world, tmp_path):
    figures = show_geometry(CONSTANT, world, tmp_path).figures
    assert figures["effective_rank_images"] == 0
    assert figures["uniformity_images"] == pytest.approx(0, abs=1e-6)


def test_captions_are_queries_of_retrieval(tmp_path):
    definition = tmp_path / "few.yaml"
    counts = "expected: {images: 30, texts: 60}"
    definition.write_text(f"name: few\nbase: toybox-retrieval\ndataset: {{scenes: 30, {counts}}}\n")
    figures = show_geometry(MODEL, definition, tmp_path).figures
    (result,) = evaluate(MODEL, [definition], out=tmp_path / "out")
    assert figures["accuracy"] == pytest.approx(result.metrics["text_to_image_recall@1"].value)
    assert figures["texts"] == result.dataset.n["texts"]


def test_other_benchmarks_and_models_are_refused(world, tmp_path):
    for name in ("toybox-perception", "toybox-probe"):
        with pytest.raises(RequestError, match="; show geometry needs a benchmark of retrieval or classification"):
            show_geometry(MODEL, name, tmp_path)
    definition = yaml.safe_load(world.read_text()) | {"name": "german", "task": "multilingual-classification"}
    del definition["prompts"]
    definition["languages"] = {"own": {"de": {"class_names": {"class0": "Ding 0"}}}}
    world.with_name("german.yaml").write_text(yaml.safe_dump(definition))
    with pytest.raises(
        RequestError, match=r"german has the task multilingual-classification and no templates .*; write a definition"
    ):
        show_geometry(MODEL, world.with_name("german.yaml"), tmp_path)
    with pytest.raises(RequestError, match="one embedding for each input"):
        show_geometry("python:tests.helpers.scoring_models:Pairs", world, tmp_path)


def test_counts_of_confused_images_are_numbers_of_images():
    assert [as_images(count) for count in (1.0, 3.0, 0.75)] == ["1 image", "3 images", "0.8 images"]


def test_the_command_reads_the_cache_of_a_run(world, tmp_path, capsys):
    out = tmp_path / "run"
    evaluate(COLOURS, [world], out=out)
    command = ["show", "geometry", "--model", COLOURS, "--benchmark", str(world), "--out", str(out / "shown")]
    assert run_command(command) == 0
    printed = capsys.readouterr().out
    assert "modality gap: " in printed
    assert "12 of 12 images" in printed
    assert (out / "shown/geometry.png").is_file()
    content = json.loads((out / "shown/geometry.json").read_text())
    values = content["figures"]
    (result,) = read_results(out)
    assert (content["digest"], content["precision"]) == (result.model.digest, result.precision)
    assert (content["protocol"], content["dataset"]) == (result.benchmark.fingerprint, result.dataset.fingerprint)
    report = write_report(out)
    assert report.left_out == []
    shown = f"{values['alignment']:.6g}"
    assert f'"alignment":{float(shown)}' in report.path.read_text()
    assert math.isfinite(values["alignment"])
    assert np.isfinite([value for value in values.values() if value is not None]).all()
