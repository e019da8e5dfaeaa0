"""What was changed in a definition since a result was measured."""

from dataclasses import replace

import pytest

from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.parts import changed_parts, protocol_parts


@pytest.fixture
def benchmark(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nversion: 1\ntask: classification\nmetrics: {primary: top1}\n"
        "dataset: {reader: image-folder, path: im}\n"
        "prompts: {class_names: [cat, dog], templates: ['a {c}', 'the {c}']}\n"
    )
    return load_benchmark(path)


def test_nothing_changed_is_nothing_told(benchmark):
    assert changed_parts(benchmark, protocol_parts(benchmark)) == []
    assert changed_parts(benchmark, {}) == []  # an older result: it cannot be told


@pytest.mark.parametrize(
    ("change", "told"),
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
def test_what_changed_is_named(benchmark, change, told):
    before = protocol_parts(benchmark)
    change = {key: benchmark.prompts | value if key == "prompts" else value for key, value in change.items()}
    assert changed_parts(replace(benchmark, **change), before) == told


def test_a_list_too_long_for_digests_of_its_entries_has_one(benchmark):
    many = replace(benchmark, prompts={**benchmark.prompts, "class_names": [f"class {i}" for i in range(1000)]})
    parts = protocol_parts(many)
    assert isinstance(parts["class_names"], str)
    other = replace(many, prompts={**many.prompts, "class_names": [f"class {i}" for i in range(999)]})
    assert changed_parts(other, parts) == ["the class names"]
