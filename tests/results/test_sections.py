"""Sections of RESULT.json: typed in memory, and on disk what they were, to the byte."""

import ast
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from importlib import resources
from pathlib import Path

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.results.record import Result
from cosmos_eval.results.sections import (
    BenchmarkSection,
    DatasetSection,
    EnvironmentSection,
    ModelSection,
    SamplesSection,
    Section,
    TextsSection,
    TimingSection,
)
from cosmos_eval.results.store import write_result
from cosmos_eval.results.versions import SCHEMA, with_checksum
from tests.results.test_results import make_result

ROOT = Path(__file__).parents[2]
FROZEN = sorted((ROOT / "tests/compatibility/frozen").rglob("RESULT.json"))
SECTIONS: dict[str, type[Section]] = {
    "benchmark": BenchmarkSection,
    "dataset": DatasetSection,
    "model": ModelSection,
    "environment": EnvironmentSection,
    "timing": TimingSection,
    "samples": SamplesSection,
}
NEWEST = {
    "schema": 3,
    "benchmark": {
        "name": "toy", "version": 2, "task": "probe", "fingerprint": "a" * 64, "scoring_version": 2,
        "plugins": {"task": "extras 1.1"}, "parts": {"metrics": {"primary": "0" * 12}, "templates": ["1" * 12]},
    },
    "dataset": {"fingerprint": "b" * 64, "n": {"images": 4, "left_out": 1}, "n_expected": {}},
    "model": {
        "arch": None, "activation": "gelu", "extra": {"keys": [1, None]}, "key_order": "of an adapter", "source": "x",
        "spec": "late:2", "label": None, "digest": "", "plugin": "extras 1.1",
    },
    "metrics": {"top1": {"value": 0.75, "low": 0.25, "high": 1.0, "n": 4, "method": "mid-p"}},
    "primary": "top1",
    "precision": "fp32",
    "limit": None,
    "environment": {
        "python": "3.11.7", "system": "Linux", "packages": {}, "hardware": {"cpu": "x", "cores": 2},
        "memory_format": "channels_last", "weights": "cast to bf16 once", "compiled": "image tower",
        "resized": "c" * 64,
        "decoder": {"name": "draft", "drift": {"mean": 0.5}}, "of the future": [{}],
        "fetched": {"val2017": {"source": "publisher", "files": 1}},
    },
    "timing": {
        "seconds": 3, "started": "2026-01-01T00:00:00+00:00", "batch_size": 64, "batch_size_auto": False,
        "batch_size_used": {"images": 64}, "workers": 0, "workers_auto": True, "ranks": 1,
        "seed": 0, "encoded": {"images": 0, "pairs": 2},
        "texts": {"read": 4, "truncated": None, "context_length": None}, "energy": 1.0,
    },
    "samples": {"file": "samples.parquet", "rows": 4, "sha256": "d" * 64},
    "warnings": ["größer"],
}  # fmt: skip
"""A record with every field of schema.json, null where it may be, and fields of other versions and adapters."""


def text_of(record: dict) -> str:
    """RESULT.json as a version wrote it: version 1 has no checksum."""
    whole = record if record["schema"] == 1 else with_checksum(record)
    return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def rewritten(text: str) -> str:
    """The text that must come out where a result is read and written: only `schema` and `checksum` are today's."""
    record = {**json.loads(text), "schema": SCHEMA}
    record.pop("checksum", None)
    return text_of(record)


def as_version_1() -> str:
    """The fields that the first release wrote, and one of an adapter."""
    record = json.loads(FROZEN[0].read_text(encoding="utf-8"))
    record = {**record, "schema": 1}
    del record["checksum"]
    for metric in record["metrics"].values():
        metric.pop("method", None)
    later = ("batch_size_auto", "batch_size_used", "ranks", "encoded")
    record["timing"] = {key: value for key, value in record["timing"].items() if key not in later}
    return text_of(record)


def schema_properties() -> dict:
    return json.loads(resources.files("cosmos_eval.results").joinpath("schema.json").read_text("utf-8"))["properties"]


@pytest.mark.parametrize("path", FROZEN, ids=lambda path: "/".join(path.parts[-4:-1]))
def test_frozen_results_are_written_as_they_were_read(path):
    text = path.read_text(encoding="utf-8")
    assert text_of({key: value for key, value in json.loads(text).items() if key != "checksum"}) == text
    assert Result.from_json(text, path).to_json() == rewritten(text)


def test_there_are_frozen_results():
    assert len(FROZEN) == 16


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_record_of_every_version_is_written_as_it_was_read(version):
    text = as_version_1() if version == 1 else text_of({**NEWEST, "schema": version})
    result = Result.from_json(text, "x")
    assert result.file_version == version
    assert result.to_json() == rewritten(text)
    assert Result.from_json(result.to_json(), "x").to_json() == result.to_json()
    assert result.checksum == json.loads(rewritten(text))["checksum"]


REQUIRED = {
    (section, name)
    for section, kind in SECTIONS.items()
    for name, field in kind.attributes().items()
    if field.default is MISSING and field.default_factory is MISSING
}
OPTIONAL = [
    (section, name)
    for section, kind in SECTIONS.items()
    for name in kind.attributes()
    if (section, name) not in REQUIRED
]


@pytest.mark.parametrize(("section", "name"), OPTIONAL, ids=".".join)
def test_a_field_that_a_record_lacks_has_its_default_and_stays_absent(section, name):
    record = json.loads(json.dumps(NEWEST))
    del record[section][name]
    text = text_of(record)
    result = Result.from_json(text, "x")
    default = {"scoring_version": 1, "plugins": {}, "parts": {}, "packages": {}, "hardware": {}, "fetched": {}}.get(
        name
    )
    assert getattr(getattr(result, section), name) == default
    assert result.to_json() == text


def test_fields_without_a_default_are_those_that_the_schema_requires():
    properties = schema_properties()
    assert {(section, name) for section in SECTIONS for name in properties[section].get("required", [])} == REQUIRED


def test_the_attributes_of_a_section_are_the_fields_that_the_schema_names():
    properties = schema_properties()
    for name, kind in SECTIONS.items():
        assert set(kind.attributes()) == set(properties[name]["properties"]), name
    assert set(TextsSection.attributes()) == set(properties["timing"]["properties"]["texts"]["properties"])
    assert [field.name for field in fields(Result)] == [
        name for name in properties if name not in ("schema", "checksum")
    ]


def test_a_default_that_a_record_states_is_kept():
    record = json.loads(json.dumps(NEWEST))
    record["benchmark"] |= {"scoring_version": 1, "plugins": {}, "parts": {}}
    record["environment"] = {"python": None, "packages": {}, "decoder": None}
    record["timing"] |= {"seed": None, "batch_size": None}
    text = text_of(record)
    assert Result.from_json(text, "x").to_json() == text


def test_fields_without_an_attribute_are_kept_where_they_were():
    result = Result.from_json(text_of(NEWEST), "x")
    assert result.model.extra == {"extra": {"keys": [1, None]}, "key_order": "of an adapter", "source": "x"}
    assert result.environment.extra == {"of the future": [{}]}
    assert result.timing.extra == {"energy": 1.0}
    renamed = replace(result, model=replace(result.model, label="mine"))
    assert list(renamed.model.record()) == list(NEWEST["model"])
    assert renamed.model.record() == {**NEWEST["model"], "label": "mine"}


def test_any_order_of_fields_is_kept():
    dice = random.Random(0)
    for _ in range(20):
        record = json.loads(json.dumps(NEWEST))
        for section in SECTIONS:
            items = list(record[section].items())
            dice.shuffle(items)
            record[section] = dict(items)
        text = text_of(record)
        result = Result.from_json(text, "x")
        assert result.to_json() == text
        assert result == Result.from_json(text_of(NEWEST), "x")


def test_a_new_section_is_written_in_the_order_of_its_fields_without_what_it_leaves_out():
    assert BenchmarkSection("toy", 1, "probe", "a" * 64).record() == {
        "name": "toy", "version": 1, "task": "probe", "fingerprint": "a" * 64
    }  # fmt: skip
    texts = TextsSection(read=2, truncated=None, context_length=77)
    timing = TimingSection(0.5, "2026-01-01", seed=0, texts=texts, extra={"energy": 1.0})
    assert list(timing.record().items()) == [
        ("seconds", 0.5),
        ("started", "2026-01-01"),
        ("seed", 0),
        ("texts", {"read": 2, "truncated": None, "context_length": 77}),
        ("energy", 1.0),
    ]
    assert TimingSection.from_record(timing.record()) == timing


def test_what_is_set_on_a_section_that_was_read_is_written_behind_it():
    read = TimingSection.from_record({"energy": 1.0, "started": "2026-01-01", "seconds": 0.5})
    assert list(replace(read, seconds=2.0, seed=7).record().items()) == [
        ("energy", 1.0),
        ("started", "2026-01-01"),
        ("seconds", 2.0),
        ("seed", 7),
    ]


def test_identity_and_equality_do_not_depend_on_how_a_default_is_written():
    plain = make_result()
    stated = replace(
        plain, benchmark=BenchmarkSection.from_record({**plain.benchmark.record(), "scoring_version": 1, "plugins": {}})
    )
    assert stated.benchmark.record() != plain.benchmark.record()
    assert stated == plain
    assert stated.identity == plain.identity
    assert replace(plain, benchmark=replace(plain.benchmark, scoring_version=2)).identity != plain.identity
    assert replace(plain, benchmark=replace(plain.benchmark, plugins={"task": "x 1"})).identity != plain.identity


def test_a_required_field_that_an_adapter_leaves_out_is_named_when_the_result_is_written(tmp_path):
    model = ModelSection.from_record({"spec": "late:2", "digest": "", "activation": None})
    assert model.arch is None
    assert model.record() == {"spec": "late:2", "digest": "", "activation": None}
    with pytest.raises(RequestError, match="would not be valid: model: 'arch' is a required property"):
        write_result(tmp_path, make_result(model=model))


def test_a_misspelt_field_is_an_error():
    result = make_result()
    with pytest.raises(AttributeError):
        _ = result.benchmark.fingerprnt  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        replace(result.model, lable="x")
    with pytest.raises(TypeError):
        _ = result.model["label"]  # type: ignore[index]


def string_accesses(source: str) -> Iterator[str]:
    """`X.section["field"]` and `X.section.get("field")` where the field is one that a section has as an attribute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript):
            owner, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
            owner, key = node.func.value, node.args[0] if node.args else None
        else:
            continue
        if isinstance(owner, ast.Attribute) and isinstance(key, ast.Constant):
            kind = SECTIONS.get(owner.attr)
            if kind is not None and key.value in kind.attributes():
                yield f"{node.lineno}: {ast.unparse(node)}"


def test_the_product_reads_results_by_attribute():
    assert list(string_accesses('x.benchmark["name"]; y[0].timing.get("seed", 0); z.model["vision_cfg"]')) == [
        "1: x.benchmark['name']",
        "1: y[0].timing.get('seed', 0)",
    ]
    sources = itertools.chain.from_iterable(
        (ROOT / top).rglob("*.py") for top in ("cosmos_core", "cosmos_eval", "benchmarks")
    )
    found = [
        f"{path.relative_to(ROOT)}:{line}" for path in sources for line in string_accesses(path.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)
