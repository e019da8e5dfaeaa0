"""RESULT.json over the years and under damage: old ones are read, newer ones and damaged ones are refused by name."""

import hashlib
import json
from dataclasses import asdict, replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval.report.tables import FORMATS, render
from cosmos_eval.results.record import Result, refuse_unchecked, renamed
from cosmos_eval.results.sections import EnvironmentSection, ModelSection, TimingSection
from cosmos_eval.results.store import find_finished, read_result, read_samples, write_result, write_samples
from cosmos_eval.results.versions import SCHEMA, NewerSchema, checksum
from cosmos_eval.tasks.outcome import Metric
from tests.results.test_results import make_result, stored

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=4)


def numbers(name: str) -> st.SearchStrategy:
    """Value, low and high of a metric: the value in its interval, and that within 0..1 or, for a rank, from 1 on."""
    one = st.floats(1, 1e6) if name.endswith("_rank") else st.floats(0, 1)
    return st.lists(one, min_size=3, max_size=3).map(sorted).map(lambda three: (three[1], three[0], three[2]))


@st.composite
def records(draw) -> Result:
    """Anything that a result may hold."""
    names = TEXTS.filter(lambda name: not name.endswith("_rank")) | st.just("text_to_image_mean_rank")
    metrics = {
        name: Metric(*draw(numbers(name)), draw(st.integers(1, 10**9)), draw(st.sampled_from(["", "mid-p"])))
        for name in draw(st.lists(names, min_size=1, max_size=4, unique=True))
    }
    base = make_result()
    return make_result(
        metrics=metrics,
        primary=draw(st.sampled_from(sorted(metrics))),
        precision=draw(st.sampled_from(["fp32", "bf16", "fp16"])),
        limit=draw(st.none() | st.integers(1, 10**6)),
        benchmark=replace(base.benchmark, name=draw(st.text(min_size=1, max_size=9))),
        dataset=replace(base.dataset, n=draw(st.dictionaries(TEXTS, st.integers(0, 10**9), max_size=3))),
        model=ModelSection.from_record({**draw(OBJECTS), **base.model.record()}),
        environment=EnvironmentSection.from_record(draw(OBJECTS)),
        timing=TimingSection.from_record(
            {**draw(OBJECTS), **base.timing.record(), "seconds": draw(st.floats(0, 1e300))}
        ),
        warnings=tuple(draw(st.lists(TEXTS, max_size=2))),
    )


def as_version_1(result: Result) -> str:
    """As the first release wrote it."""
    record = {**result.record(), "schema": 1}
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_version_2(result: Result) -> str:
    """As the releases before the column `image` wrote it."""
    record = json.loads(result.to_json())
    record["schema"] = 2
    return json.dumps({**record, "checksum": checksum(record)}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(result=records())
def test_whatever_a_result_holds_reads_back_to_the_bit(tmp_path, result):
    path = write_result(tmp_path, result)
    again = read_result(path)
    assert again == result
    for name, metric in result.metrics.items():  # == takes -0.0 for 0.0
        ours, theirs = asdict(metric), asdict(again.metrics[name])
        assert ours.pop("method") == theirs.pop("method")
        assert {key: float(value).hex() for key, value in ours.items()} == {
            key: float(value).hex() for key, value in theirs.items()
        }
    assert again.to_json() == result.to_json()
    assert again.checksum == result.checksum == json.loads(path.read_bytes())["checksum"]


def test_the_checksum_is_what_the_schema_says_it_is():
    record = json.loads(make_result(warnings=("größer",)).to_json())
    said = record.pop("checksum")
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert said == hashlib.sha256(text.encode("utf-8")).hexdigest()


def test_the_order_of_fields_and_spaces_are_no_change_and_every_value_is():
    result = make_result()
    record = json.loads(result.to_json())
    turned = json.dumps(dict(reversed(list(record.items()))), indent=7)
    assert Result.from_json(turned, "x") == result
    for field, value in (
        ("warnings", []), ("limit", 3), ("precision", "bf16"), ("environment", {"python": "3.12"}),
        ("metrics", {"top1": {**record["metrics"]["top1"], "value": 0.7500000000000001}}),
        ("model", {**record["model"], "label": "another"}), ("checksum", "0" * 64),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=r"^x was edited or damaged after it was written .*; copy it again"):
            Result.from_json(json.dumps({**record, field: value}), "x")


def test_a_result_of_version_1_is_read_and_known_as_done(tmp_path):
    result = stored(tmp_path)
    path = tmp_path / "RESULT.json"
    path.write_text(as_version_1(result))
    assert read_result(path) == result
    assert find_finished(tmp_path, result.identity) == result
    assert path.read_text() == as_version_1(result)  # migrated in memory only
    assert json.loads(read_result(path).to_json())["schema"] == SCHEMA


def test_a_result_of_version_2_is_read_and_known_as_done(tmp_path):
    result = stored(tmp_path)
    path = tmp_path / "RESULT.json"
    path.write_text(as_version_2(result))
    assert read_result(path) == result
    assert not read_result(path).unchecked
    assert find_finished(tmp_path, result.identity) == result
    assert path.read_text() == as_version_2(result)
    assert json.loads(read_result(path).to_json())["schema"] == SCHEMA == 3


def test_an_edited_result_of_version_2_is_refused():
    """The checksum in the file covers the record in the file, not the migrated one."""
    record = json.loads(as_version_2(make_result()))
    for edited in ({**record, "limit": 3}, {**record, "checksum": make_result().checksum}, {**record, "schema": 3}):
        with pytest.raises(RequestError, match=r"^x was edited or damaged after it was written"):
            Result.from_json(json.dumps(edited), "x")
    with pytest.raises(RequestError, match=r"^x was edited or damaged after it was written"):
        Result.from_json(make_result().to_json().replace('"schema": 3', '"schema": 2'), "x")
    del record["checksum"]
    with pytest.raises(RequestError, match="x is not a valid result: 'checksum' is a required property"):
        Result.from_json(json.dumps(record), "x")


@pytest.mark.parametrize("as_written", [as_version_1, as_version_2])
def test_samples_of_older_versions_have_the_column_image(tmp_path, as_written):
    frame = pd.DataFrame({"image": ["a", "b"], "correct": [1.0, 0.0]})
    result = make_result(samples=write_samples(tmp_path, frame))
    path = tmp_path / "RESULT.json"
    path.write_text(as_written(result))
    old = read_result(path)
    for read_again in (old, renamed(old, "mine")):
        assert read_samples(path, read_again).columns.tolist() == ["image", "correct"]
    assert read_samples(path, old)["image"].tolist() == ["a", "b"]
    assert pd.read_parquet(tmp_path / "samples.parquet").columns.tolist() == ["image", "correct"]
    path.write_text(result.to_json())  # a column of that name in a new result is the task's own
    assert read_samples(path, read_result(path)).columns.tolist() == ["image", "correct"]


def test_version_1_asks_for_the_same_fields():
    record = json.loads(as_version_1(make_result()))
    del record["precision"]
    with pytest.raises(RequestError, match="x is not a valid result: 'precision' is a required property"):
        Result.from_json(json.dumps(record), "x")
    with pytest.raises(RequestError, match="x is not a valid result: schema"):
        Result.from_json(make_result().to_json().replace('"schema": 3', '"schema": 1'), "x")


def test_a_newer_result_asks_for_a_newer_program_and_is_never_replaced(tmp_path):
    result = stored(tmp_path)
    path = tmp_path / "RESULT.json"
    newer = json.dumps({"schema": SCHEMA + 1, "other": "fields"})
    path.write_text(newer)
    with pytest.raises(NewerSchema, match=r"RESULT\.json was written by a newer cosmos-eval .*; update cosmos-eval$"):
        read_result(path)
    for identity in (result.identity, ""):
        with pytest.raises(NewerSchema):
            find_finished(tmp_path, identity)
    assert path.read_text() == newer


@pytest.mark.parametrize("version", [0, -1, True, None, "2", 1.5, [2], 10**299])
def test_a_version_that_is_none_is_refused(version):
    record = {**json.loads(make_result().to_json()), "schema": version}
    with pytest.raises(RequestError, match="schema") as refused:
        Result.from_json(json.dumps(record), "x")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "2", '"schema"', "{}", "[" * 100_000, '{"schema": 2, "model": ' + "[" * 900 + "]" * 900 + "}",
        "\ufeff{}", '{"schema": 1, "schema": 2}', "{\"schema\": 2, \"limit\": " + "9" * 5000 + "}",
    ],
    ids=[*map(str, range(11))],
)  # fmt: skip
def test_what_is_no_record_is_refused_in_one_line(text, tmp_path):
    path = tmp_path / "RESULT.json"
    path.write_text(text)
    with pytest.raises(RequestError, match=r"RESULT\.json is not a (valid )?result: .*; copy it again") as refused:
        read_result(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400, "NaN", "Infinity"])
@pytest.mark.parametrize("place", ['"value": 0.75', '"seconds": 0.5', '"python": "3.11"'])
@pytest.mark.parametrize("version", [1, 2])
def test_a_number_that_no_float_holds_is_refused_wherever_it_stands(number, place, version):
    text = as_version_1(make_result()) if version == 1 else make_result().to_json()
    changed = text.replace(place, place.split(":")[0] + ": " + number)
    assert changed != text
    with pytest.raises(RequestError, match=r"^x "):
        Result.from_json(changed, "x")


TEXT = make_result(warnings=("größer", "a\\b\n\t")).to_json().encode()
OLD = as_version_1(make_result()).encode()


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_damage_anywhere_is_refused_in_one_line_or_changes_nothing(tmp_path, data):
    whole = data.draw(st.sampled_from([TEXT, TEXT, OLD]))
    at = data.draw(st.integers(0, len(whole) - 1))
    damage = data.draw(st.sampled_from(["cut", "flip", "byte", "insert", "remove", "zeros", "twice"]))
    rest = whole[at + 1 :]
    damaged = {
        "cut": whole[:at],
        "flip": whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + rest,
        "byte": whole[:at] + bytes([data.draw(st.integers(0, 255))]) + rest,
        "insert": whole[:at] + data.draw(st.binary(min_size=1, max_size=3)) + whole[at:],
        "remove": whole[:at] + rest,
        "zeros": whole[:at] + bytes(len(whole) - at),
        "twice": whole[:at] + whole,
    }[damage]
    path = tmp_path / "RESULT.json"
    path.write_bytes(damaged)
    try:
        found = read_result(path)
    except RequestError as error:
        said = str(error)
    else:
        said = str(path)
        assert whole is OLD or found == Result.from_json(TEXT.decode(), "x")
    assert "\n" not in said
    assert str(path) in said


def test_every_cut_and_every_flipped_bit_is_refused_or_changes_nothing():
    whole = Result.from_json(TEXT.decode(), "x")
    accepted = 0
    for at in range(0, len(TEXT), 3):
        cut = TEXT[:at]
        flipped = TEXT[:at] + bytes([TEXT[at] ^ (1 << (at % 7))]) + TEXT[at + 1 :]
        for damaged in (cut, flipped):
            try:
                assert Result.from_json(damaged.decode("utf-8", "replace"), "x") == whole
                accepted += 1
            except RequestError:
                continue
    assert 0 < accepted < len(TEXT) / 3  # a blank that became another blank


def test_a_name_that_is_no_utf_8_can_be_kept(tmp_path):
    result = make_result(warnings=("image caf\udce9.jpg",))
    assert read_result(write_result(tmp_path, result)) == result
    assert checksum(json.loads((tmp_path / "RESULT.json").read_text())) == result.checksum


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timing", {"seconds": 0.5, "started": "2026-01-01T00:00:00+00:00", "batch_size_used": {"images": 4}}),
        ("timing", {"seconds": 0.5, "started": "2026-01-01T00:00:00+00:00", "ranks": 1}),
        ("environment", {"python": "3.11", "decoder": "torchvision"}),
        ("precision", "fp32+compile"),
        ("metrics", {"top1": {"value": 0.9, "low": 0.5, "high": 1.0, "n": 4, "method": "Wilson"}}),
        ("dataset", {"fingerprint": "b" * 64, "n": {}, "n_expected": {}, "truncated_texts": 3}),
        ("notes", "x"),
    ],
)
def test_a_file_that_lost_its_checksum_does_not_pass_for_one_of_version_1(field, value):
    record = {**json.loads(as_version_1(make_result())), field: value}
    with pytest.raises(
        RequestError, match=r"^x is not a valid result: it says schema 1 and has .*its checksum was taken"
    ):
        Result.from_json(json.dumps(record), "x")


def test_a_result_without_a_checksum_is_marked_wherever_it_is_named():
    result = Result.from_json(as_version_1(make_result()), "x")
    assert result.label == "python:m:f (unchecked)"
    assert make_result().label == renamed(make_result(), "python:m:f").label == "python:m:f"
    assert renamed(result, "mine").label == "mine (unchecked)"
    for name in FORMATS:
        text = render([result], name)
        assert "python:m:f (unchecked)" in text
        if name != "csv":
            assert "unchecked: its file has no checksum (schema 1)" in text
        assert "unchecked" not in render([make_result()], name)


def test_an_unchecked_result_decides_nothing_unless_that_is_asked_for():
    result = Result.from_json(as_version_1(make_result()), "x")
    with pytest.raises(RequestError, match=r"no checksum in the files of python:m:f .* on toy .*--allow-unchecked"):
        refuse_unchecked([make_result(), result], allowed=False)
    refuse_unchecked([make_result(), result], allowed=True)
    refuse_unchecked([make_result()], allowed=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": 1.5, "high": 1.5}, "not a fraction from 0 to 1"),
        ({"value": -0.1, "low": -0.1}, "not a fraction from 0 to 1"),
        ({"value": 0.2}, r"the value 0.2 lies outside its interval \[0.25, 1\]"),
        ({"low": 0.9, "high": 0.3}, "outside its interval"),
        ({"n": 10**299}, "n: 1000.* is impossibly large"),
        ({"n": 10**13}, "impossibly large"),
        ({"value": 10**299, "high": 10**299}, "not a fraction"),
    ],
)
@pytest.mark.parametrize("write", [as_version_1, lambda result: result.to_json()])
def test_metrics_that_no_measurement_gives_are_refused(change, said, write):
    metric = Metric(**{"value": 0.75, "low": 0.25, "high": 1.0, "n": 4, **change})
    with pytest.raises(RequestError, match=f"x is not a valid result: metrics.top1: .*{said}") as refused:
        Result.from_json(write(make_result(metrics={"top1": metric})), "x")
    assert len(str(refused.value)) < 300


def test_ranks_are_places_and_counts_have_a_bound():
    rank = {"text_to_image_mean_rank": Metric(17.5, 1.0, 40.0, 4)}
    result = make_result(metrics=rank, primary="text_to_image_mean_rank")
    assert Result.from_json(result.to_json(), "x") == result
    low = make_result(metrics={"a_rank": Metric(0.5, 0.5, 2.0, 4)}, primary="a_rank")
    with pytest.raises(RequestError, match="not a rank from 1"):
        Result.from_json(low.to_json(), "x")
    many = make_result(dataset=replace(make_result().dataset, n={"images": 10**20}))
    with pytest.raises(RequestError, match=r"dataset.n.images: 100000000000000000000 is impossibly large"):
        Result.from_json(many.to_json(), "x")
