"""benchmarks/segmentation.py: both arms give the same label maps, and the last line is the record."""

import json

import numpy as np
import pytest

from benchmarks import segmentation
from benchmarks.segmentation_cases import ARMS, SegmentationArms, SegmentationPlan, large_image, measure, peak
from cosmos_core.errors import RequestError
from cosmos_core.world import World
from tests.helpers.patch_models import settings

TINY = SegmentationPlan(
    voc=3,
    toybox=2,
    repetitions=2,
    large=(60, 90),
    batch_size=3,
    model="tiny",
    vision={
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    },
    classes=12,
    settings=settings(short_side=40, crop=16, stride=12, attention="csa"),
)


@pytest.fixture(scope="module")
def times():
    return measure(World(), TINY)


def test_both_arms_give_the_same_labels():
    arms = SegmentationArms(TINY)
    images = [large_image((37, 50)), large_image((50, 37))]
    for batched, sequential in zip(arms.batched(images), arms.sequential(images), strict=True):
        assert np.mean(batched == sequential) > 0.999
        assert len(np.unique(batched)) > 1


def test_the_tower_and_the_whole_are_timed_for_each_set_of_images(times):
    for name, count in (("voc", 3), ("toybox", 2)):
        case = times[name]
        assert case["images"] == count
        assert case["windows"] > count
        assert set(case["seconds"]) == set(ARMS)
        for arm in ARMS:
            assert len(case["seconds"][arm]) == 2
            assert 0 < case["tower_seconds"][arm] < sum(case["seconds"][arm])
    assert segmentation.describe_differences(times) == []


def test_results_that_differ_are_reported_and_no_times_are_compared(times, monkeypatch, capsys):
    times = {**times, "toybox": {**times["toybox"], "difference": {"logits": float("nan"), "labels": 0.0}}}
    monkeypatch.setattr(segmentation, "run", lambda plan, threads: {"times": times, "memory": {}})
    assert segmentation.main(["--quick"]) == 1
    assert "toybox: logits by nan" in capsys.readouterr().err


def test_the_last_line_is_the_record(times, monkeypatch, capsys, tmp_path):
    memory = {arm: peak(World(), TINY, arm) for arm in ARMS}
    memory["sequential"]["large"] = None  # as if there were too little memory
    monkeypatch.setattr(segmentation, "run", lambda plan, threads: {"times": times, "memory": memory})
    assert segmentation.main(["--quick", "--out", str(tmp_path / "page.md")]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["name"] == "segmentation"
    assert set(record["ratios"]) == {"segmentation"}
    assert record["ratios"]["segmentation"] == pytest.approx(
        min(record["figures"][name]["ratio"] for name in ("voc", "toybox")), rel=1e-2
    )
    assert record["figures"]["voc_ours_peak_bytes_above_weights"] >= 0
    assert record["figures"]["large_peer_peak_bytes_above_weights"] is None
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "Made by `python benchmarks/segmentation.py --quick" in page
    assert "not run: too little memory" in page


def test_a_refusal_is_one_line(monkeypatch, capsys):
    def refuse(plan, threads):
        raise RequestError("no device cuda")

    monkeypatch.setattr(segmentation, "run", refuse)
    assert segmentation.main(["--device", "cuda"]) == 2
    assert capsys.readouterr().err == "segmentation: no device cuda\n"
