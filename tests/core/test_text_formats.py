"""Text, JSON and YAML of a user: bounded, each key once, and every refusal one line that names the place."""

import io
import json
import os
from pathlib import Path

import pytest

from cosmos_core import text_files
from cosmos_core.config import load_preset
from cosmos_core.errors import RequestError
from cosmos_core.json_text import MAX_DEPTH, MAX_DIGITS, parse_json, read_json
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import read_lines, read_text
from cosmos_core.yaml_text import MAX_REPEATED, parse_yaml, read_yaml
from tests.core.wrong_files import WRONG_FILES

ALIASES = "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
BOMB = f"a: &a [{', '.join('x' * 10)}]\n{ALIASES}\n"


def refusal(read, *arguments) -> str:
    with pytest.raises(RequestError) as caught:
        read(*arguments)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 1000
    return said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("9" * 5000, "a whole number of 5,000 digits"),
        ('{"id": -' + "9" * (MAX_DIGITS + 1) + "}", "digits"),
        ("[" * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
        ('{"a":' * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH} levels"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "it has 'c' twice in one map"),
        (json.dumps({"k" * 5000: 1})[:-1] + ', "' + "k" * 5000 + '": 2}', "twice in one map"),
        ('{"a": 1,\n"b" 2}', "line 2 column 5"),
        ("", "line 1 column 1"),
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html>\n<title>404</title>", "HTML page"),
        *WRONG_FILES.items(),
    ],
)
def test_json_beyond_its_bounds_is_refused_with_its_place(text: str | bytes, said: str):
    message = refusal(parse_json, text, "x.json")
    assert message.startswith("x.json")
    assert said in message


def test_what_json_may_hold_is_read_with_and_without_a_byte_order_mark(tmp_path: Path):
    value = {"deep": None, "big": 10 ** (MAX_DIGITS - 1), "ß\u2028": [1.5, -0.0, True]}
    for _ in range(MAX_DEPTH - 1):
        value["deep"] = [value["deep"]]
    text = json.dumps(value, ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "x.json").write_text(text, encoding=encoding)
        assert read_json(tmp_path / "x.json") == value
    assert parse_json("\ufeff[1]", "x") == [1]


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", "1e999", "-" + "9" * 400 + ".0"])
def test_numbers_that_are_not_finite_are_refused_where_numbers_are_meant(text: str):
    assert "is not a finite number" in refusal(parse_json, text, "x.json", True)
    parse_json(text, "x.json")  # in fields that nobody reads pandas leaves NaN


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, f"x.yaml:1: aliases repeat more than {MAX_REPEATED:,} values"),
        ("a: &a [*a]", "x.yaml:1: an alias is inside the value that it repeats"),
        ("a: &a {b: *a}", "x.yaml:1: an alias is inside the value that it repeats"),
        ("name: 2024-13-45", "x.yaml:1: '2024-13-45' is read as a date; put it in quotes"),
        ("name: 2024-01-01", "x.yaml:1: '2024-01-01' is read as a date; put it in quotes"),
        ("x: 1\nname: 2024-01-01 10:00:00", "x.yaml:2: '2024-01-01 10:00:00' is read as a date"),
        ("[" * 10_000, "nested deeper"),
        ("{a: " * 10_000, "nested deeper"),
        ("- " * 5_000, "nested deeper"),
        ("[" * 102 + "]" * 102, "nested deeper"),
        ("lr: 0.1\nlr: 0.001", "x.yaml:2: 'lr' is given twice"),
        ("a: {b: 1, 'b': 2}", "x.yaml:1: 'b' is given twice"),
        ("seed: " + "9" * 5000, "x.yaml:1: a number of 5,000 digits"),
        ("a: !!python/object/apply:os.system [ls]", "x.yaml:1: the tag"),
        ("a: !!binary aGk=", "x.yaml:1: 'aGk=' is read as binary data"),
        ("a: !!set {b}", "x.yaml:1: the tag"),
        ("a: !!int ''", "x.yaml:1: '' is not a YAML int"),
        ("a: !!bool maybe", "x.yaml:1: 'maybe' is not a YAML bool"),
        ("a: !!timestamp x", "x.yaml:1: 'x' is read as a date"),
        ("a: 0b_", "x.yaml:1: '0b_' is not a YAML int"),
        ("yes: 1", "x.yaml:1: the key 'yes' is read as a bool; quote it"),
        ("? [a]\n: 1", "x.yaml:1: the key before the colon is read as a list; quote it"),
        ("a\n--- b", "not YAML"),
        ("a: \0", "not YAML"),
        ('a: "\\ud800"', "x.yaml:1: half a character"),
    ],
)
def test_yaml_beyond_its_bounds_is_refused_with_its_line(text: str, said: str):
    message = refusal(parse_yaml, text, "x.yaml")
    assert message.startswith("x.yaml")
    assert said in message


def test_aliases_and_merges_within_reason_are_read():
    text = "a: &a {lr: 1, steps: 2}\nb: {<<: *a, lr: 3}\nc: [*a, *a]\n'2024-01-01': '2024-01-01'\n"
    lines: dict = {}
    value = parse_yaml(text, "x.yaml", lines)
    assert value["b"] == {"lr": 3, "steps": 2}
    assert value["c"] == [{"lr": 1, "steps": 2}] * 2
    assert value["2024-01-01"] == "2024-01-01"
    assert lines["b", "lr"] == 2
    assert parse_yaml("", "x.yaml") is None


def test_a_refused_value_is_printed_in_one_short_line_however_often_aliases_repeat_it():
    shared = ["x" * 1000]
    for _ in range(60):  # 2^60 texts, by reference
        shared = [shared, shared]
    assert len(short_repr(shared)) <= 80
    assert len(short_repr({"k" * 500: "v" * 500})) <= 80
    assert "bits" in short_repr(10**5000)
    assert short_repr("ab") == "'ab'"


@pytest.mark.parametrize("read", [read_text, read_lines, read_json, read_yaml])
def test_only_regular_files_are_read_and_nothing_is_waited_for(tmp_path: Path, read):
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "a named pipe" in refusal(read, tmp_path / "pipe.yaml")
    assert "a device" in refusal(read, Path("/dev/zero"))
    assert "Is a directory" in refusal(read, tmp_path)
    assert "No such file" in refusal(read, tmp_path / "none")


def test_a_read_asks_for_the_size_of_the_file_and_not_for_the_most_that_is_read(tmp_path: Path, monkeypatch):
    """A read reserves what it asks for: 4 GiB for any JSON, where the process may have less."""
    asked: list[int] = []

    class Counted(io.BufferedReader):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    monkeypatch.setattr(text_files, "open_regular", lambda path: Counted(io.FileIO(path)))
    path = tmp_path / "a.json"
    path.write_text('["a"]')
    assert read_json(path) == ["a"]
    assert asked == [6]


def test_a_file_that_is_longer_than_its_size_is_read_to_its_bound(tmp_path: Path):
    path = tmp_path / "grown"
    path.write_bytes(bytes(range(200)) * 12_000)  # 2.4 million bytes
    for most, length in ((2**30, 2_400_000), (1_500_000, 1_500_001), (2, 3)):
        with path.open("rb") as file:
            assert text_files._read_at_most(file, 1, most) == path.read_bytes()[:length]


def test_a_text_file_is_bounded_and_has_no_byte_order_mark(tmp_path: Path):
    path = tmp_path / "x.txt"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text("red thing\r\ngrün\u2028\n", encoding=encoding, newline="")
        assert read_lines(path) == ["red thing", "grün\u2028"]
    for content in (b"a\xffb", "red".encode("utf-16"), "red".encode("utf-16-le")):
        path.write_bytes(content)
        assert "save it as UTF-8" in refusal(read_text, path)
    with path.open("wb") as file:
        file.truncate(2**40)  # a terabyte of nothing: refused by its size, not read
    assert "1,099,511,627,776 bytes" in refusal(read_text, path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: 2024-13-45\n", "mine.yaml:1: '2024-13-45' is read as a date"),
        ("lr: " + "[" * 5000, "nested deeper"),
        ("preset: toybox\nlr: 0.1\nlr: 0.001\n", "mine.yaml:3: 'lr' is given twice"),
        ("seed: " + "1" * 5000, "a number of 5,000 digits"),
        ("seed: " + "1" * 300, "beyond 64 bits"),
        ("lr: " + "1" * 300, "beyond 64 bits"),
        ("lr: .inf", "finite"),
        ("views: {blur: [.nan, 0, 0]}", ""),
        ("objective: " + "x" * 5000, "is not one of"),
        ("preset: [toybox]", "is not one of"),
        ("x" * 1000 + ": 1", "unknown key"),
        (BOMB.replace("i:", "lr:"), "aliases repeat"),
        ("&a name: &b [*b]", "an alias is inside"),
    ],
)
def test_a_training_file_beyond_its_bounds_is_refused(tmp_path: Path, text: str, said: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert said in refusal(load_preset, path)


@pytest.mark.parametrize(
    "change",
    ["lr=" + "9" * 400, "lr=" + "9" * 5000, "steps=" + "9" * 400, "seed=1" + "0" * 30, "batch_size=" + "9" * 5000,
     "views.blur=" + "[" * 5000, "lr=1e999", "momentum_teacher=nan", "views.flip=" + "9" * 400, "x" * 5000 + "=1",
     "workers=1000000000000", "threads=1000000000000", "captions=1000000000000", "batch_size=1000000000000000",
     "views.local_crops=1000000000000", "views.global_size=1000000000000",
     "objective=" + "x" * 5000, "model.embed_dim=" + "9" * 400, "model.text_cfg.layers=1e999"],
)  # fmt: skip
def test_a_setting_beyond_its_bounds_is_refused(change: str):
    refusal(load_preset, "toybox", [change])


def test_a_date_on_the_command_line_is_the_text_that_it_is():
    assert load_preset("toybox", ["name=2024-01-01"]).name == "2024-01-01"
