"""From where shipped benchmarks are streamed, and which are not."""

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.stream.plan import addresses_of, plan_stream, streamed_readers
from cosmos_eval.protocol.benchmark import load_benchmark, load_every_benchmark
from tests.helpers.datasets_on_disk import define

RESTRICTED = ["fer2013-wds", "flickr30k-wds", "flickr8k-wds", "imagenet1k-wds"]


def test_every_shipped_set_of_shards_is_streamed_unless_its_publisher_wants_to_be_asked(tmp_path):
    assert streamed_readers() == ["wds"]
    streamed = 0
    for benchmark in load_every_benchmark():
        reason = r"cannot be streamed: only WebDataset shards can \(reader: wds\)"
        if benchmark.name in RESTRICTED:
            reason = f"people who ask for them; `cosmos-eval data fetch {benchmark.name} --dry-run` lists the steps"
        has_splits = bool(benchmark.dataset.get("splits"))
        if has_splits and benchmark.dataset["reader"] == "wds":
            reason = "it has several splits"
        if benchmark.name in RESTRICTED or benchmark.dataset["reader"] != "wds" or has_splits:
            with pytest.raises(RequestError, match=reason):
                plan_stream(benchmark, tmp_path, asked=True)
            continue
        streamed += 1
        plan = plan_stream(benchmark, tmp_path, asked=True)
        assert plan is not None
        assert plan_stream(benchmark, tmp_path, asked=False) is None
        first = plan.sources[0]
        assert (first.kind, first.artifact != "", first.page in plan.describe()) == ("hub", True, True)
        assert first.terms in plan.describe()
    assert streamed >= 31


def test_the_advice_for_data_that_need_a_person_can_be_followed(tmp_path, capsys):
    assert run_command(["data", "fetch", "imagenet1k-wds", "--dry-run", "--data-root", str(tmp_path)]) == 0
    assert "cosmos-eval data fetch imagenet1k" in capsys.readouterr().out


def test_addresses_are_for_readers_of_shards_alone(tmp_path):
    dataset = {"reader": "image-folder", "path": "https://host/pictures"}
    benchmark = define(tmp_path, "classification", dataset, {"class_names": "dataset", "templates": ["{c}"]})
    assert addresses_of(benchmark) == ["https://host/pictures"]
    with pytest.raises(RequestError, match="the reader image-folder reads files on disk only; give a path inside"):
        plan_stream(benchmark, tmp_path, asked=False)
    report = datasets.check(benchmark, tmp_path)
    assert report.problems == (
        "mine has the address https://host/pictures, which the reader image-folder does not read; give a path inside "
        "the data root",
    )


def test_a_definition_without_a_known_source_says_where_to_write_it(tmp_path):
    dataset = {"reader": "wds", "path": "mine"}
    benchmark = define(tmp_path, "classification", dataset, {"class_names": "dataset", "templates": "dataset"})
    with pytest.raises(RequestError, match="no source of its data is known; write their address as a path"):
        plan_stream(benchmark, tmp_path, asked=True)


def test_the_check_of_streamed_data_says_that_nothing_is_on_disk(tmp_path):
    dataset = {"reader": "wds", "path": "hf://datasets/a/b"}
    benchmark = define(tmp_path, "classification", dataset, {"class_names": "dataset", "templates": "dataset"})
    report = datasets.check(benchmark, tmp_path)
    assert report.problems == ("mine has no data on disk: `cosmos-eval run` streams it from hf://datasets/a/b",)
    assert load_benchmark(tmp_path / "mine.yaml").fingerprint == benchmark.fingerprint
