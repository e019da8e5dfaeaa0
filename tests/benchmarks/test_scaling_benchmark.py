"""benchmarks/scaling.py: its data can be evaluated, and the last line is the record."""

import json

import pytest

from benchmarks import scaling
from benchmarks.timing import Times
from cosmos_eval.datasets import load
from cosmos_eval.run.plan import make_plan


def test_both_datasets_can_be_evaluated(tmp_path):
    plan = scaling.ScalingPlan(images=50, repetitions=1)
    scaling.write_images(plan, tmp_path)
    planned = make_plan([tmp_path / "retrieval.yaml", tmp_path / "classification.yaml"])
    assert not any(benchmark.problems for benchmark in planned)
    retrieval, classification = (load(benchmark.benchmark, benchmark.data_root) for benchmark in planned)
    assert (len(retrieval.images), len(retrieval.texts)) == (50, 100)
    assert retrieval.images[0].load().size == (640, 480)
    assert len(classification.images) == 50


def test_the_table_and_the_record_have_the_ratio():
    plan = scaling.ScalingPlan(images=50, repetitions=2, ranks=2)
    times = Times({"one": [10.0, 12.0], "all": [5.0, 8.0]})
    assert "| seconds | 11.0 | 6.5 | 1.75 (1.62 to 1.88) |" in scaling.table(times, plan, 1)
    last = scaling.record(times, plan, 1, 0.5)
    assert last["name"] == "scaling"
    assert last["ratios"] == {"scaling": 1.75}
    assert last["figures"]["images_per_second"] == 15.4
    assert last["environment"]["load_before"] == 0.5


@pytest.mark.slow
def test_the_quick_run_ends_with_one_json_line(capsys):
    assert scaling.main(["--quick"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ratios"]["scaling"] > 0
