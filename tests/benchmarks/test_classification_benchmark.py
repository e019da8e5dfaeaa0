"""benchmarks/classification.py: both sides give the same figures, and the last line is the record."""

import json
from dataclasses import replace

import pytest

from benchmarks import classification
from benchmarks.classification_cases import ClassificationPlan, imagenet, measure, ours, peer, timed, write_images
from benchmarks.random_model import random_model
from cosmos_core.errors import RequestError
from cosmos_core.world import World
from cosmos_eval import datasets
from tests.benchmarks.test_head_benchmark import CONFIG

TINY = ClassificationPlan(classes=6, repetitions=2, per_class=3, workers=0, batch_size=4, model="tiny", config=CONFIG)


@pytest.fixture(scope="module")
def measured():
    return measure(World(), TINY)


def test_both_sides_give_the_same_figures(tmp_path):
    write_images(TINY, tmp_path)
    model = random_model("tiny", config=CONFIG)
    our_result, peer_result = (side(model, TINY, tmp_path, imagenet(TINY)) for side in (ours, peer))
    assert our_result[0] == pytest.approx(peer_result[0], abs=1e-6)
    assert set(our_result[0]) == {"top1", "top5", "mean_per_class"}
    assert 0 < our_result[0]["top5"] < 1
    assert all(seconds > 0 for result in (our_result, peer_result) for seconds in result[1].values())


def test_the_data_have_imagenets_layout_names_and_proportions(tmp_path):
    write_images(TINY, tmp_path)
    data = datasets.load(imagenet(TINY), tmp_path)
    assert len(data.images) == 18
    assert list(data.class_names)[:2] == ["tench", "goldfish"]
    assert len(data.templates) == 80
    assert data.images[0].key == "n01440764/ILSVRC2012_val_00000001.JPEG"
    assert len({image.digest() for image in data.images}) == 18
    sizes = {image.load().size for image in data.images}
    assert sizes == {(500, 375), (375, 500), (500, 333)}


def test_all_1000_classes_use_the_imagenet_reader():
    definition = imagenet(replace(TINY, classes=1000, per_class=10))
    assert definition.dataset["reader"] == "imagenet"
    assert definition.dataset["expected"] == {"images": 10000, "classes": 1000}


def test_the_whole_and_its_parts_are_timed(measured):
    assert {arm: len(seconds) for arm, seconds in measured["seconds"].items()} == {"peer": 2, "ours": 2}
    for arm in ("peer", "ours"):
        for head, images, whole in zip(
            measured["parts"][f"{arm} head"], measured["parts"][f"{arm} images"], measured["seconds"][arm], strict=True
        ):
            assert 0 < head + images < whole
    assert measured["largest_difference"] < 1e-6
    assert measured["decode_rate"] > 0
    assert measured["forward_rate"] > 0
    assert {"forward pass of images", "forward pass of texts", "scoring"} <= set(measured["phases"])
    assert min(measured["phases"].values()) >= 0


def test_a_function_is_timed_inside_the_context_and_restored():
    class Owner:
        @staticmethod
        def work(x):
            if x < 0:
                raise ValueError(x)
            return x + 1

    before = vars(Owner)["work"]
    with timed(Owner, "work") as seconds:
        assert Owner.work(1) == 2
        with pytest.raises(ValueError, match="-1"):
            Owner.work(-1)
    assert len(seconds) == 2
    assert vars(Owner)["work"] is before


def test_the_last_line_is_the_record(measured, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(classification, "run_in_processes", lambda sizes, work, plan, threads: {1: measured})
    assert classification.main(["--quick", "--workers", "1", "--out", str(tmp_path / "page.md")]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["name"] == "classification"
    assert set(record["ratios"]) == {"classification"}
    figures = record["figures"]
    assert figures["images_ratio"] > 0
    assert figures["workers"] == 1
    assert figures["share_of_bound"] > 0
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "Made by `python benchmarks/classification.py --quick --workers 1 --out" in page
    assert "| images alone |" in page
    assert "Where the time of cosmos-eval goes (`run --profile`): " in page
    assert record["figures"]["phase_seconds"]["forward pass of texts"] > 0


def test_the_bound_is_the_lower_rate_or_on_shared_cores_that_of_one_after_the_other():
    measured = {"decode_rate": 60.0, "forward_rate": 30.0, "parts": {"peer images": [9.0], "ours images": [1.2]}}
    assert classification.bound(measured, replace(TINY, device="cuda")) == 30
    assert classification.bound(measured, TINY) == pytest.approx(20)
    assert classification.share_of_bound(measured, TINY) == pytest.approx(18 / 1.2 / 20)


def test_figures_that_differ_are_reported_and_no_times_are_compared(measured, monkeypatch, capsys):
    monkeypatch.setattr(
        classification, "run_in_processes", lambda *a, **k: {1: {**measured, "largest_difference": float("nan")}}
    )
    assert classification.main(["--quick"]) == 1
    assert "figures differ by nan" in capsys.readouterr().err


def test_a_refusal_is_one_line(monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise RequestError("no device cuda")

    monkeypatch.setattr(classification, "run_in_processes", refuse)
    assert classification.main(["--device", "cuda"]) == 2
    assert capsys.readouterr().err == "classification: no device cuda\n"
