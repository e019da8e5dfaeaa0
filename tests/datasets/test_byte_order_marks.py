"""Files with a byte order mark (BOM) give the same data as files without one."""

from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from tests.datasets.test_datasets_jsonl import MINE, write
from tests.datasets.test_datasets_webdataset import WDS, make_image, shards, write_tar
from tests.helpers.datasets_on_disk import define


def test_a_byte_order_mark_in_webdataset_files_is_ignored(tmp_path: Path):
    folder = shards(tmp_path)
    captions = tmp_path / "captions/test/0.tar"
    fingerprints = []
    for encoding in ("utf-8", "utf-8-sig"):
        for name, text in (("classnames.txt", "cat\ndog \nfish\n\n"), ("test/nshards.txt", "2\n")):
            (folder / name).write_text(text, encoding=encoding)
        (folder / "zeroshot_classification_templates.txt").write_text("a {c}\nthe {c}.\n", encoding=encoding)
        write_tar(captions, [("s0.png", make_image(0)), ("s0.txt", "red thing\ngreen".encode(encoding))])
        (tmp_path / "captions/test/nshards.txt").write_text("1", encoding=encoding)
        labels = datasets.load(define(tmp_path, "classification", WDS, {"templates": "dataset"}))
        texts: Any = datasets.load(define(tmp_path, "retrieval", {**WDS, "path": "captions"}))
        assert texts.texts == ["red thing", "green"]
        fingerprints.append((labels.fingerprint, texts.fingerprint))
    assert fingerprints[0] == fingerprints[1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_in_files_of_class_names_and_templates_is_ignored(tmp_path: Path, encoding: str):
    for name, text in (("names.txt", "red thing\r\ngreen\n"), ("templates.txt", "a {c}\n")):
        (tmp_path / name).write_text(text, encoding=encoding, newline="")
    (tmp_path / "names.json").write_text('["red thing", "green"]', encoding=encoding)
    (tmp_path / "templates.json").write_text('["a {c}"]', encoding=encoding)
    fingerprints = set()
    for ending in ("txt", "json"):
        prompts = {"class_names": f"names.{ending}", "templates": f"templates.{ending}"}
        benchmark = define(tmp_path, "classification", MINE, prompts)
        words = benchmark.resolve_prompts()
        assert (words.class_names, words.templates) == (("red thing", "green"), ("a {c}",))
        fingerprints.add(benchmark.fingerprint)
    inline = {"class_names": ["red thing", "green"], "templates": ["a {c}"]}
    assert fingerprints == {define(tmp_path, "classification", MINE, inline).fingerprint}


def test_a_byte_order_mark_in_a_jsonl_file_is_ignored(tmp_path: Path):
    write(tmp_path, '{"image": "a.jpg", "captions": ["one"]}', '{"image": "b.png", "captions": ["two"]}')
    plain = datasets.load(define(tmp_path, "retrieval", MINE)).fingerprint
    content = (tmp_path / "mine.jsonl").read_bytes()
    (tmp_path / "mine.jsonl").write_bytes(b"\xef\xbb\xbf" + content)
    assert datasets.load(define(tmp_path, "retrieval", MINE)).fingerprint == plain


def test_a_caption_of_a_byte_order_mark_alone_is_empty(tmp_path: Path):
    folder = tmp_path / "captions"
    write_tar(folder / "test/0.tar", [("s0.png", make_image(0)), ("s0.txt", b"\xef\xbb\xbf")])
    (folder / "test/nshards.txt").write_text("1", encoding="utf-8")
    with pytest.raises(RequestError, match="caption") as caught:
        datasets.load(define(tmp_path, "retrieval", {**WDS, "path": "captions"}))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
