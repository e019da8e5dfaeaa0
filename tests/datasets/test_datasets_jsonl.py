"""A user's own data, one object a line, for every kind of data."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.data import ClassificationData, PerceptionData, RetrievalData
from tests.helpers.datasets_on_disk import define, write_image

MINE = {"reader": "jsonl", "path": "mine.jsonl"}
A = {"templates": ["a {c}"]}


def write(root: Path, *lines: str) -> None:
    (root / "mine.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for i, name in enumerate(["a.jpg", "b.png", "more/c.webp"]):
        write_image(root / name, seed=i)


def refusal(tmp_path: Path, task: str, prompts: dict[str, Any] | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        datasets.load(define(tmp_path, task, MINE, prompts))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_captions_in_the_order_of_the_file(tmp_path: Path):
    write(
        tmp_path,
        '{"image": "b.png", "captions": ["one", "two "]}',
        "",
        '{"image": "more/c.webp", "captions": ["three"]}',
        '{"image": "b.png", "captions": ["four"]}',
    )
    data = datasets.load(define(tmp_path, "retrieval", {**MINE, "expected": {"images": 2, "texts": 4}}))
    assert isinstance(data, RetrievalData)
    assert [image.key for image in data.images] == ["b.png", "more/c.webp"]
    assert data.texts == ["one", "two ", "four", "three"]
    assert data.image_of_text.tolist() == [0, 0, 0, 1]


def test_other_keys_are_ignored_and_a_text_is_a_list_of_one(tmp_path: Path):
    write(
        tmp_path,
        '{"image": "b.png", "captions": "one", "split": 1, "width": [3]}',
        '{"image": "b.png", "captions": ["two"]}',
    )
    data = datasets.load(define(tmp_path, "retrieval", MINE))
    assert data.texts == ["one", "two"]
    assert data.image_of_text.tolist() == [0, 0]


def test_the_metadata_of_an_imagefolder_is_read(tmp_path: Path):
    write(
        tmp_path, '{"file_name": "b.png", "text": "one", "seed": 3}', '{"file_name": "more/c.webp", "caption": "two"}'
    )
    data = datasets.load(define(tmp_path, "retrieval", MINE))
    assert [image.key for image in data.images] == ["b.png", "more/c.webp"]
    assert data.texts == ["one", "two"]
    write(tmp_path, '{"file_name": "b.png", "label": 1}', '{"file_name": "a.jpg", "label": 0}')
    data = datasets.load(define(tmp_path, "classification", MINE, {**A, "class_names": ["cat", "dog"]}))
    assert data.labels.tolist() == [1, 0]


def test_empty_captions_are_counted_in_a_remark(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "captions": ["x", ""]}', '{"image": "b.png", "captions": [" \\t"]}')
    data = datasets.load(define(tmp_path, "retrieval", MINE))
    assert data.remarks == ("2 of 3 captions are empty, of a.jpg, b.png",)


def test_labels_by_name_and_by_index(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "label": "dog"}', '{"image": "b.png", "label": 0}')
    prompts = {**A, "class_names": ["cat", "dog"]}
    data = datasets.load(define(tmp_path, "classification", MINE, prompts))
    assert isinstance(data, ClassificationData)
    assert data.labels.tolist() == [1, 0]
    assert data.class_names == ["cat", "dog"]


def test_without_class_names_the_labels_are_the_names_in_alphabetical_order(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "label": "dog"}', '{"image": "b.png", "label": "cat"}')
    data = datasets.load(define(tmp_path, "classification", MINE, A))
    assert isinstance(data, ClassificationData)
    assert data.class_names == ["cat", "dog"]
    assert data.labels.tolist() == [1, 0]


def test_right_and_wrong_texts_share_images(tmp_path: Path):
    write(
        tmp_path,
        '{"image": "b.png", "positive": "a", "negative": "b", "subset": "swap"}',
        '{"image": "a.jpg", "positive": "c", "negative": "d"}',
        '{"image": "b.png", "positive": "e", "negative": "f", "subset": "add"}',
    )
    data = datasets.load(define(tmp_path, "perception", MINE))
    assert isinstance(data, PerceptionData)
    assert [image.key for image in data.images] == ["b.png", "a.jpg"]
    assert data.item_images.tolist() == [[0], [1], [0]]
    assert [[data.texts[j] for j in indices] for indices in data.item_texts] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert data.subsets == ["swap", "all", "add"]


def test_of_several_names_of_a_key_the_one_with_a_value_is_taken(tmp_path: Path):
    """Tables with empty cells become such lines when they are converted to JSON."""
    write(tmp_path, '{"image": null, "file_name": "a.jpg", "captions": null, "caption": "one", "text": null}')
    data = datasets.load(define(tmp_path, "retrieval", MINE))
    assert (data.images[0].key, data.texts) == ("a.jpg", ["one"])


@pytest.mark.parametrize("text", ['[{"image": "a.jpg", "captions": "one"}]', '[\n{"image": "a.jpg"}\n]'])
def test_a_list_in_place_of_lines_is_refused_with_advice(tmp_path: Path, text: str):
    write(tmp_path, text)
    assert "mine.jsonl:1: " in (message := refusal(tmp_path, "retrieval"))
    assert message.endswith("write the objects of the list, each on a line of its own")


def test_a_table_in_place_of_lines_is_refused_with_advice(tmp_path: Path):
    (tmp_path / "metadata.csv").write_text("file_name,text\na.jpg,one\n")
    with pytest.raises(RequestError, match=r"metadata\.csv:1: not JSON: .*a table is not read here"):
        datasets.load(define(tmp_path, "retrieval", {**MINE, "path": "metadata.csv"}))


def test_an_index_in_quotes_is_no_name(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "label": "1"}', '{"image": "b.png", "label": "0"}')
    message = refusal(tmp_path, "classification", {**A, "class_names": ["zero", "one"]})
    assert message.endswith("the label '1' is not among the class names; an index is written without quotes")


def test_a_wrong_caption_equal_to_the_right_one_is_remarked(tmp_path: Path):
    pairs = [("a dog", "a cat"), ("a dog", "a  dog "), ("two", "two")]
    records = [{"image": "a.jpg", "positive": right, "negative": wrong} for right, wrong in pairs]
    write(tmp_path, *map(json.dumps, records))
    data = datasets.load(define(tmp_path, "perception", MINE))
    assert data.remarks == ("2 of 3 items have a wrong caption equal to the right one: a dog, two",)


def test_a_caption_cut_inside_a_character_is_named(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "captions": ["a smile \\ud83d", "\\ud83d\\ude00 whole"]}')
    assert "1 text with half a character: 'a smile" in refusal(tmp_path, "retrieval")


def test_images_may_be_in_another_folder(tmp_path: Path):
    write(tmp_path, '{"image": "c.webp", "captions": ["one"]}')
    data = datasets.load(define(tmp_path, "retrieval", {**MINE, "images": "more"}))
    assert data.images[0].key == "c.webp"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "b.png", "captions": ["x"}', "mine.jsonl:2: not JSON: column 36"),
        ('["b.png"]', "mine.jsonl:2: a line is one object"),
        ('{"captions": ["x"]}', "mine.jsonl:2: the key 'image' is missing"),
        (
            '{"image": "b.png", "words": ["x"]}',
            "2: the key 'captions' is missing; there is 'image', 'words'",
        ),
        ('{"image": "b.png", "captions": 7}', "2: 'captions' must be a text or a list with at least one text, found 7"),
        ('{"image": "b.png", "captions": []}', "'captions' must be a text or a list with at least one text, found []"),
        ('{"image": "b.png", "captions": ["x", null]}', "a list with at least one text, found null"),
        ('{"image": "b.png", "captions": null}', "a list with at least one text, found null"),
        ('{"file_name": "b.png", "text": {}}', "mine.jsonl:2: 'text' must be a text or a list"),
        ('{"image": 3, "captions": ["x"]}', "mine.jsonl:2: 'image' must be a text"),
        ('{"file_name": 3, "captions": ["x"]}', "mine.jsonl:2: 'file_name' must be a text, not 3"),
        ('{"image": "more\\\\c.webp", "captions": ["x"]}', "with Windows' separators: more\\c.webp; write / in place"),
        ('{"image": "3\\n.jpg", "captions": ["x"]}', "missing: 3\\n.jpg"),
        ('{"image": "\\u001b[31m.jpg", "captions": ["x"]}', "missing: \\x1b[31m.jpg"),
        ('{"image": "/etc/a.png", "captions": ["x"]}', "mine.jsonl:2: the image '/etc/a.png' leads out"),
        ('{"image": "../b.png", "captions": ["x"]}', "mine.jsonl:2: the image '../b.png' leads out"),
        ('{"image": "d.png", "captions": ["x"]}', "missing: d.png"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str, message: str):
    write(tmp_path, '{"image": "a.jpg", "captions": ["x"]}', line)
    assert message in refusal(tmp_path, "retrieval")


@pytest.mark.parametrize("labels", [('"n1"', '"n0"'), ("1", "0")])
def test_a_map_of_class_names_renames_labels(tmp_path: Path, labels: tuple[str, str]):
    write(tmp_path, f'{{"image": "a.jpg", "label": {labels[0]}}}', f'{{"image": "b.png", "label": {labels[1]}}}')
    first, second = (label.strip('"') for label in labels)
    names = {second: "a cat", first: "a dog"}  # class order is the map's
    data = datasets.load(define(tmp_path, "classification", MINE, {**A, "class_names": names}))
    assert isinstance(data, ClassificationData)
    assert (list(data.class_names), data.labels.tolist()) == (["a cat", "a dog"], [1, 0])
    message = refusal(tmp_path, "classification", {**A, "class_names": {first: "a dog"}})
    assert "mine.jsonl:2: the label " in message
    assert message.endswith("is not a key of the map prompts.class_names; add its name")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "b.png", "label": 2}', "mine.jsonl:3: the label 2 is not from 0 to 1"),
        ('{"image": "b.png", "label": -1}', "mine.jsonl:3: the label -1 is not from 0 to 1"),
        ('{"image": "b.png", "label": "dgo"}', "mine.jsonl:3: the label 'dgo' is not among the class names"),
        ('{"image": "b.png", "label": true}', "mine.jsonl:3: 'label' must be"),
        ('{"image": "b.png", "label": 1.0}', "mine.jsonl:3: 'label' must be"),
        ('{"image": "a.jpg", "label": 1}', "mine.jsonl:3: a.jpg has a label already, in line 1"),
    ],
)
def test_an_invalid_label_is_named(tmp_path: Path, line: str, message: str):
    write(tmp_path, '{"image": "a.jpg", "label": 0}', '{"image": "more/c.webp", "label": 1}', line)
    assert message in refusal(tmp_path, "classification", {**A, "class_names": ["cat", "dog"]})


def test_a_class_without_images_and_an_index_without_names_are_refused(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "label": 0}')
    assert "1 class without an image: dog" in refusal(tmp_path, "classification", {**A, "class_names": ["cat", "dog"]})
    assert "needs prompts.class_names" in refusal(tmp_path, "classification", A)


def test_an_empty_or_missing_file_is_refused(tmp_path: Path):
    write(tmp_path)
    assert "no line" in refusal(tmp_path, "retrieval")
    (tmp_path / "mine.jsonl").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refusal(tmp_path, "retrieval")
    (tmp_path / "mine.jsonl").unlink()
    assert "mine.jsonl, which is not there" in refusal(tmp_path, "retrieval")


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, character: str):
    if character in "\x0b\x0c\x1c":  # not allowed inside a JSON text; but a line of it alone is blank
        write(tmp_path, '{"image": "a.jpg", "captions": ["one"]}', f" {character} ", '{"image": "b.png"}')
        assert "mine.jsonl:3: the key 'captions' is missing" in refusal(tmp_path, "retrieval")
        return
    line = json.dumps({"image": "a.jpg", "captions": [f"one{character}two"]}, ensure_ascii=False) + "\r"
    write(tmp_path, line, '{"image": "b.png"}')
    assert "mine.jsonl:2: the key 'captions' is missing" in refusal(tmp_path, "retrieval")
    write(tmp_path, line)
    data = datasets.load(define(tmp_path, "retrieval", MINE))
    assert isinstance(data, RetrievalData)
    assert data.texts == [f"one{character}two"]


@pytest.mark.parametrize(
    ("task", "line", "expected"),
    [
        (
            "retrieval",
            '{"image": "\\ud800.jpg", "captions": ["x"]}',
            "1 image name with half a character: '\\ud800.jpg",
        ),
        ("retrieval", '{"image": "a.jpg", "captions": ["x\\ud800"]}', "1 text with half a character"),
        ("classification", '{"image": "a.jpg", "label": "x\\ud800"}', "1 class name with half a character"),
        (
            "perception",
            '{"image": "a.jpg", "positive": "x", "negative": "y", "subset": "z\\udfff"}',
            "1 subset with half a character",
        ),
    ],
)
def test_half_a_character_anywhere_is_one_printable_problem(tmp_path: Path, task: str, line: str, expected: str):
    write(tmp_path, line)
    prompts = A if task == "classification" else None
    message = refusal(tmp_path, task, prompts)
    assert expected in message
    assert message.encode()  # can be printed and written
    assert all(problem.encode() for problem in datasets.check(define(tmp_path, task, MINE, prompts)).problems)


def test_of_several_folders_the_one_that_has_the_images_is_read(tmp_path: Path):
    (tmp_path / "other").mkdir()
    write(tmp_path, '{"image": "c.webp", "captions": ["one"]}')
    data = datasets.load(define(tmp_path, "retrieval", {**MINE, "images": ["other", "more"]}))
    assert data.images[0].load().size == (8, 8)


def test_what_a_task_requires_of_the_data_is_checked_before_compute(tmp_path: Path):
    lines = [f'{{"image": "{name}", "label": {i}}}' for i, name in enumerate(["a.jpg", "b.png", "more/c.webp"])]
    write(tmp_path, *lines)
    benchmark = define(tmp_path, "classification", MINE, {**A, "class_names": ["x", "y", "z"]})
    assert not datasets.check(benchmark, validate=tasks.validate).problems
    top5 = replace(benchmark, metrics={"primary": "top5"})
    assert not datasets.check(top5).problems
    report = datasets.check(top5, deep=True, validate=tasks.validate)
    assert report.problems == ("mine: no metric 'top5' here; metrics.primary may be top1, mean_per_class",)
    assert report.found == {"images": 3, "classes": 3}


def test_the_subset_of_a_primary_metric_must_be_in_the_data(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "positive": "x", "negative": "y", "subset": "swap"}')
    benchmark = define(tmp_path, "perception", MINE)
    for primary, problems in (("swap/accuracy", 0), ("add/accuracy", 1)):
        changed = replace(benchmark, metrics={"primary": primary})
        assert len(datasets.check(changed, validate=tasks.validate).problems) == problems


def test_two_spellings_of_one_path_are_one_image(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "captions": ["x"]}', '{"image": "./a.jpg", "captions": ["y"]}')
    assert "has 1 image twice: a.jpg" in refusal(tmp_path, "retrieval")


def test_an_empty_label_is_no_class(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "label": "cat"}', '{"image": "b.png", "label": " "}')
    assert "mine.jsonl:2: 'label' must be a class name" in refusal(tmp_path, "classification", A)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "is a named pipe"),
        (Path.mkdir, "is a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
    ],
)
def test_whatever_is_in_place_of_the_file_is_named(tmp_path: Path, make: Callable[[Path], None], message: str):
    make(tmp_path / "mine.jsonl")
    assert f"needs the file {tmp_path / 'mine.jsonl'}, but {tmp_path / 'mine.jsonl'} {message}" in refusal(
        tmp_path, "retrieval"
    )
