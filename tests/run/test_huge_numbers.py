"""Absurdly large numbers from a user or a file are refused at once and in one line; nothing counts up to them."""

import json
from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.resized import INDEX, read_resized
from cosmos_eval.engine.batch_size import check_batch_size
from cosmos_eval.models.embeddings import EmbeddingsModel, write_embeddings
from cosmos_eval.models.open_clip_files import find_declared_settings
from cosmos_eval.published.references import read_file
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.session import Session
from tests.datasets.test_datasets_captions import karpathy
from tests.datasets.test_datasets_jsonl import MINE, write
from tests.datasets.test_datasets_webdataset import WDS, make_image, shards, write_tar
from tests.helpers.datasets_on_disk import COCO, coco_files, define

LONG = "9" * 5000


def refusal(call, *arguments: Any, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


@pytest.mark.parametrize("number", ["1000000000", "9" * 40, LONG, "-1", "1e9", "٣", "0"])
def test_a_wrong_number_of_shards_is_refused(tmp_path: Path, number: str):
    folder = shards(tmp_path)
    (folder / "test/nshards.txt").write_text(number, encoding="utf-8")
    message = refusal(datasets.load, define(tmp_path, "classification", WDS, {"templates": "dataset"}))
    assert (
        "needs 1,000,000,000 shards" in message if number == "1000000000" else "must be the number of shards" in message
    )


@pytest.mark.parametrize("label", ["1000000000", "9" * 40, LONG, "-1", "1.0", "٣", ""])
def test_a_wrong_class_index_is_refused(tmp_path: Path, label: str):
    folder = shards(tmp_path)
    write_tar(folder / "test/0.tar", [("s0.cls", label.encode()), ("s0.png", make_image(0))])
    message = refusal(datasets.load, define(tmp_path, "classification", WDS, {"templates": "dataset"}))
    expected = "1 label outside 0 to 2" if label == "1000000000" else "must be a class index from 0"
    assert expected in message


@pytest.mark.parametrize("number", [LONG, "9" * 301])
def test_annotations_with_numbers_of_many_digits_are_refused_with_their_position(tmp_path: Path, number: str):
    coco_files(tmp_path)
    path = tmp_path / COCO["annotations"]
    path.write_text(path.read_text(encoding="utf-8").replace('"id": 7,', f'"id": {number},'), encoding="utf-8")
    message = refusal(datasets.load, define(tmp_path, "retrieval", COCO))
    assert message.startswith(f"{path} is not JSON: a whole number of {len(number):,} digits")

    dataset = karpathy(tmp_path)
    text = (tmp_path / "dataset.json").read_text(encoding="utf-8").replace('"split"', f'"cocoid": {number}, "split"', 1)
    (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
    assert "digits" in refusal(datasets.load, define(tmp_path, "retrieval", dataset))

    write(tmp_path, '{"image": "a.jpg", "label": "dog"}', f'{{"image": "b.png", "label": {number}}}')
    prompts = {"templates": ["a {c}"], "class_names": ["cat", "dog"]}
    message = refusal(datasets.load, define(tmp_path, "classification", MINE, prompts))
    assert f"cannot use {tmp_path / 'mine.jsonl'}:2: not JSON: a whole number of {len(number):,} digits" in message


def test_numbers_of_many_digits_in_other_json_files_are_refused(tmp_path: Path):
    write_embeddings(tmp_path, ["a"], [[1.0]], ["t"], [[1.0]])
    (tmp_path / "meta.json").write_text(f'{{"seed": {LONG}}}', encoding="utf-8")
    assert "meta.json is not JSON: a whole number of 5,000 digits" in refusal(EmbeddingsModel, tmp_path)
    (tmp_path / INDEX).write_text(f'{{"form": {LONG}}}', encoding="utf-8")
    assert "5,000 digits" in refusal(read_resized, tmp_path)
    (tmp_path / "open_clip_config.json").write_text(f'{{"model_cfg": {LONG}}}', encoding="utf-8")
    assert "5,000 digits" in refusal(find_declared_settings, tmp_path / "x.pt", {})
    published = {"dataset": "wds/vtab/cifar10", "model": "a", "pretrained": "b", "task": "x", "language": "en"}
    text = json.dumps({**published, "metrics": {"acc1": 0}}).replace(": 0", f": {LONG}")
    (tmp_path / "published.json").write_text(text, encoding="utf-8")
    assert "5,000 digits" in refusal(read_file, tmp_path / "published.json")


@pytest.mark.parametrize("option", ["workers", "limit", "seed"])
def test_options_of_a_run_have_a_maximum(option: str):
    assert f"{option} must be at most" in refusal(RunOptions, **{option: 10**30})
    assert "must be 1 to 1,000,000, or auto" in refusal(check_batch_size, 10**30)
    assert "must be 1 to 1,000,000, or auto" in refusal(check_batch_size, LONG)


@pytest.mark.parametrize("option", ["workers", "limit", "seed"])
@pytest.mark.parametrize("value", [1.5, "3", True, [1]])
def test_options_of_a_run_must_be_whole_numbers(option: str, value: object):
    assert f"{option} must be a whole number" in refusal(RunOptions, **{option: value})
    assert "unknown device 5.5" in refusal(Session, None, RunOptions(device=5.5))
    assert "must be 1 to 1,000,000, or auto" in refusal(check_batch_size, None)


def test_a_batch_size_that_python_cannot_print_is_refused():
    assert "got a whole number of 16,610 bits" in refusal(check_batch_size, 10**5000)
