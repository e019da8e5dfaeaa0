"""Numbers beyond reason, wherever a user or a file gives one: refused at once, in one line, never counted up to."""

import json
from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.resized import INDEX, read_resized
from cosmos_eval.engine.batch_size import check_batch_size
from cosmos_eval.models.embeddings import EmbeddingsModel, write_embeddings
from cosmos_eval.models.open_clip_files import file_says
from cosmos_eval.published.references import read_file
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.session import Session
from tests.datasets.test_datasets_captions import karpathy
from tests.datasets.test_datasets_jsonl import MINE, write
from tests.datasets.test_datasets_wds import WDS, make_image, shards, write_tar
from tests.helpers.datasets_on_disk import COCO, coco_files, define

LONG = "9" * 5000


def refusal(call, *arguments: Any, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        call(*arguments, **options)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 700
    return said


@pytest.mark.parametrize("number", ["1000000000", "9" * 40, LONG, "-1", "1e9", "٣", "0"])
def test_a_number_of_shards_is_not_believed_before_they_are_there(tmp_path: Path, number: str):
    folder = shards(tmp_path)
    (folder / "test/nshards.txt").write_text(number, encoding="utf-8")
    said = refusal(datasets.load, define(tmp_path, "classification", WDS, {"templates": "dataset"}))
    assert "needs 1,000,000,000 shards" in said if number == "1000000000" else "must be the number of shards" in said


@pytest.mark.parametrize("label", ["1000000000", "9" * 40, LONG, "-1", "1.0", "٣", ""])
def test_a_class_index_is_small(tmp_path: Path, label: str):
    folder = shards(tmp_path)
    write_tar(folder / "test/0.tar", [("s0.cls", label.encode()), ("s0.png", make_image(0))])
    said = refusal(datasets.load, define(tmp_path, "classification", WDS, {"templates": "dataset"}))
    assert "labels outside 0 to 2" in said if label == "1000000000" else "must be a class index from 0" in said


def test_names_templates_and_captions_are_the_same_with_a_byte_order_mark(tmp_path: Path):
    folder = shards(tmp_path)
    captions = tmp_path / "captions/test/0.tar"
    found = []
    for encoding in ("utf-8", "utf-8-sig"):
        for name, text in (("classnames.txt", "cat\ndog \nfish\n\n"), ("test/nshards.txt", "2\n")):
            (folder / name).write_text(text, encoding=encoding)
        (folder / "zeroshot_classification_templates.txt").write_text("a {c}\nthe {c}.\n", encoding=encoding)
        write_tar(captions, [("s0.png", make_image(0)), ("s0.txt", "red thing\ngreen".encode(encoding))])
        (tmp_path / "captions/test/nshards.txt").write_text("1", encoding=encoding)
        labels = datasets.load(define(tmp_path, "classification", WDS, {"templates": "dataset"}))
        texts: Any = datasets.load(define(tmp_path, "retrieval", {**WDS, "path": "captions"}))
        assert texts.texts == ["red thing", "green"]
        found.append((labels.fingerprint, texts.fingerprint))
    assert found[0] == found[1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_class_names_and_templates_in_files_have_no_byte_order_mark(tmp_path: Path, encoding: str):
    for name, text in (("names.txt", "red thing\r\ngreen\n"), ("templates.txt", "a {c}\n")):
        (tmp_path / name).write_text(text, encoding=encoding, newline="")
    (tmp_path / "names.json").write_text('["red thing", "green"]', encoding=encoding)
    (tmp_path / "templates.json").write_text('["a {c}"]', encoding=encoding)
    prints = set()
    for ending in ("txt", "json"):
        prompts = {"class_names": f"names.{ending}", "templates": f"templates.{ending}"}
        benchmark = define(tmp_path, "classification", MINE, prompts)
        words = benchmark.words()
        assert (words.class_names, words.templates) == (("red thing", "green"), ("a {c}",))
        prints.add(benchmark.fingerprint)
    inline = {"class_names": ["red thing", "green"], "templates": ["a {c}"]}
    assert prints == {define(tmp_path, "classification", MINE, inline).fingerprint}


def test_a_line_file_with_a_byte_order_mark_is_the_same_data(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "captions": ["one"]}', '{"image": "b.png", "captions": ["two"]}')
    plain = datasets.load(define(tmp_path, "retrieval", MINE)).fingerprint
    content = (tmp_path / "mine.jsonl").read_bytes()
    (tmp_path / "mine.jsonl").write_bytes(b"\xef\xbb\xbf" + content)
    assert datasets.load(define(tmp_path, "retrieval", MINE)).fingerprint == plain


@pytest.mark.parametrize("number", [LONG, "9" * 301])
def test_annotations_with_numbers_of_thousands_of_digits_are_refused_with_their_place(tmp_path: Path, number: str):
    coco_files(tmp_path)
    path = tmp_path / COCO["annotations"]
    path.write_text(path.read_text(encoding="utf-8").replace('"id": 7,', f'"id": {number},'), encoding="utf-8")
    said = refusal(datasets.load, define(tmp_path, "retrieval", COCO))
    assert said.startswith(f"{path} is not JSON: a whole number of {len(number):,} digits")

    dataset = karpathy(tmp_path)
    text = (tmp_path / "dataset.json").read_text(encoding="utf-8").replace('"split"', f'"cocoid": {number}, "split"', 1)
    (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
    assert "digits" in refusal(datasets.load, define(tmp_path, "retrieval", dataset))

    write(tmp_path, '{"image": "a.jpg", "label": "dog"}', f'{{"image": "b.png", "label": {number}}}')
    prompts = {"templates": ["a {c}"], "class_names": ["cat", "dog"]}
    said = refusal(datasets.load, define(tmp_path, "classification", MINE, prompts))
    assert f"cannot use {tmp_path / 'mine.jsonl'}:2: not JSON: a whole number of {len(number):,} digits" in said


def test_the_same_in_all_other_json_that_a_user_gives(tmp_path: Path):
    write_embeddings(tmp_path, ["a"], [[1.0]], ["t"], [[1.0]])
    (tmp_path / "meta.json").write_text(f'{{"seed": {LONG}}}', encoding="utf-8")
    assert "meta.json is not JSON: a whole number of 5,000 digits" in refusal(EmbeddingsModel, tmp_path)
    (tmp_path / INDEX).write_text(f'{{"form": {LONG}}}', encoding="utf-8")
    assert "5,000 digits" in refusal(read_resized, tmp_path)
    (tmp_path / "open_clip_config.json").write_text(f'{{"model_cfg": {LONG}}}', encoding="utf-8")
    assert "5,000 digits" in refusal(file_says, tmp_path / "x.pt", {})
    published = {"dataset": "wds/vtab/cifar10", "model": "a", "pretrained": "b", "task": "x", "language": "en"}
    text = json.dumps({**published, "metrics": {"acc1": 0}}).replace(": 0", f": {LONG}")
    (tmp_path / "published.json").write_text(text, encoding="utf-8")
    assert "5,000 digits" in refusal(read_file, tmp_path / "published.json")


@pytest.mark.parametrize("option", ["workers", "limit", "seed"])
def test_settings_of_a_run_have_a_bound(option: str):
    assert f"{option} must be at most" in refusal(RunOptions, **{option: 10**30})
    assert "must be 1 to 1,000,000, or auto" in refusal(check_batch_size, 10**30)
    assert "must be 1 to 1,000,000, or auto" in refusal(check_batch_size, LONG)


@pytest.mark.parametrize("option", ["workers", "limit", "seed"])
@pytest.mark.parametrize("value", [1.5, "3", True, [1]])
def test_settings_of_a_run_are_whole_numbers(option: str, value: object):
    assert f"{option} must be a whole number" in refusal(RunOptions, **{option: value})
    assert "unknown device 5.5" in refusal(Session, None, RunOptions(device=5.5))
    assert "must be 1 to 1,000,000, or auto" in refusal(check_batch_size, None)


def test_a_caption_that_is_a_byte_order_mark_alone_is_no_caption(tmp_path: Path):
    folder = tmp_path / "captions"
    write_tar(folder / "test/0.tar", [("s0.png", make_image(0)), ("s0.txt", b"\xef\xbb\xbf")])
    (folder / "test/nshards.txt").write_text("1", encoding="utf-8")
    assert "caption" in refusal(datasets.load, define(tmp_path, "retrieval", {**WDS, "path": "captions"}))


def test_a_batch_size_that_python_cannot_print_is_refused():
    assert "got a whole number of 16,610 bits" in refusal(check_batch_size, 10**5000)
