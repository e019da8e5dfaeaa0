"""benchmarks/shared_images.py: both sides give the same figures, and the table and the record have them."""

import json

import pytest

from benchmarks import shared_images
from benchmarks.shared_images_cases import COCO, SUGARCREPE, SharedImagesPlan, definitions, measure, write_sets
from cosmos_core.world import World
from cosmos_eval.datasets.perception.sugarcrepe import SUBSETS
from cosmos_eval.run.evaluate import evaluate
from tests.benchmarks.test_head_benchmark import CONFIG
from tests.helpers.tiny_models import Colours

PLAN = SharedImagesPlan(part=500, repetitions=2, workers=0, model="tiny", config=CONFIG)


def test_both_sides_give_the_same_figures_and_the_peer_encodes_every_image_again():
    measured = measure(World(), PLAN)
    assert measured["largest_difference"] < 1e-6
    assert measured["encoded"] == {"peer": 10 + sum(PLAN.rows.values()), "ours": 10}
    assert {arm: len(seconds) for arm, seconds in measured["seconds"].items()} == {"peer": 2, "ours": 2}
    assert 0 < measured["figures"]["T2I R@1"] < 1


def test_the_files_can_be_read_and_have_the_proportions_of_the_datasets(tmp_path):
    write_sets(PLAN, tmp_path)
    model = Colours()
    model.spec = "python:colours"
    model.describe = lambda: {"arch": "colours", "activation": "none"}
    coco, sugarcrepe = evaluate(model, definitions(PLAN), tmp_path)
    assert coco.benchmark.name == COCO
    assert coco.dataset.n["images"] == 10
    assert coco.dataset.n["texts"] == 50
    assert sugarcrepe.benchmark.name == SUGARCREPE
    assert sugarcrepe.dataset.n["images"] == 3
    assert sugarcrepe.dataset.n["items"] == sum(PLAN.rows.values())
    assert PLAN.rows["add_obj"] == max(PLAN.rows.values()) == 4
    assert {name.split("/")[0] for name in sugarcrepe.metrics} >= set(SUBSETS)


def test_figures_that_differ_are_reported_and_no_times_are_compared(monkeypatch, capsys):
    monkeypatch.setattr(
        shared_images, "run_in_processes", lambda sizes, work, plan, threads: {1: {"largest_difference": 0.5}}
    )
    assert shared_images.main(["--quick"]) == 1
    assert "figures differ by 0.5" in capsys.readouterr().err


def test_the_record_and_the_table_have_the_measured_figures():
    measured = {
        "seconds": {"peer": [9.0, 12.0], "ours": [3.0, 3.0]},
        "largest_difference": 2e-8,
        "encoded": {"peer": 24, "ours": 10},
        "threads": 2,
    }
    record = json.loads(json.dumps(shared_images.record(measured, PLAN, load=0.5)))
    assert record["ratios"] == {"shared_images": pytest.approx(3.5)}
    assert record["figures"]["ours_images_encoded"] == 10
    text = "\n".join(shared_images.table(measured, PLAN))
    assert "| seconds | 10.5 | 3.0 | 3.50 [3.25, 3.75] |" in text
    assert "| images encoded | 24 | 10 |" in text
