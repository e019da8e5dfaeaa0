"""Descriptions of what was changed in a definition since a result was measured."""

from dataclasses import replace

import pytest

from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.definition_changes import describe_changes, digest_definition


@pytest.fixture
def benchmark(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nversion: 1\ntask: classification\nmetrics: {primary: top1}\n"
        "dataset: {reader: image-folder, path: im}\n"
        "prompts: {class_names: [cat, dog], templates: ['a {c}', 'the {c}']}\n"
    )
    return load_benchmark(path)


def test_an_unchanged_definition_has_no_changes(benchmark):
    assert describe_changes(benchmark, digest_definition(benchmark)) == []
    assert describe_changes(benchmark, {}) == []  # an older result, without digests


@pytest.mark.parametrize(
    ("change", "descriptions"),
    [
        ({"prompts": {"templates": ["a {c}", "one {c}"]}}, ["the templates (new: 'one {c}'; 1 removed)"]),
        ({"prompts": {"templates": ["the {c}", "a {c}"]}}, ["the templates (in another order)"]),
        ({"prompts": {"templates": ["a {c}"]}}, ["the templates (1 removed)"]),
        ({"prompts": {"class_names": ["cat", "hound"]}}, ["the class names (new: 'hound'; 1 removed)"]),
        ({"metrics": {"primary": "top5"}}, ["the metrics (primary)"]),
        ({"version": 2}, ["the version"]),
        ({"version": 2, "metrics": {}}, ["the version", "the metrics (primary)"]),
    ],
)
def test_changes_are_described(benchmark, change, descriptions):
    stored = digest_definition(benchmark)
    change = {key: benchmark.prompts | value if key == "prompts" else value for key, value in change.items()}
    assert describe_changes(replace(benchmark, **change), stored) == descriptions


def test_a_long_list_has_a_single_digest(benchmark):
    long = replace(benchmark, prompts={**benchmark.prompts, "class_names": [f"class {i}" for i in range(1000)]})
    digests = digest_definition(long)
    assert isinstance(digests["class_names"], str)
    shorter = replace(long, prompts={**long.prompts, "class_names": [f"class {i}" for i in range(999)]})
    assert describe_changes(shorter, digests) == ["the class names"]
