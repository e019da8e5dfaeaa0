"""The reader `parquet`: columns found or named, images as bytes or paths, and one line for what cannot be used."""

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.data import ClassificationData, PerceptionData, RetrievalData
from cosmos_eval.datasets.parquet import images as parquet_images
from cosmos_eval.datasets.parquet import table_file
from tests.helpers.datasets_on_disk import define, write_image
from tests.helpers.tables_on_disk import encode_image, structs, write_table

READER = {"reader": "parquet", "path": "data"}
NOT_UTF8 = pa.array([b"a", b"\xff"]).cast(pa.string(), safe=False)
A = {"templates": ["a {c}"]}
TASKS = {"retrieval": None, "classification": A, "perception": None}


def load(root: Path, task: str = "retrieval", prompts: dict[str, Any] | None = None, **options: Any) -> Any:
    return datasets.load(define(root, task, {**READER, **options}, prompts or TASKS[task]))


def refusal(root: Path, task: str = "retrieval", prompts: dict[str, Any] | None = None, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load(root, task, prompts, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.count("mine ") <= 1
    return message


def test_captions_in_the_order_of_files_and_rows(tmp_path: Path):
    write_table(tmp_path / "data/b.parquet", {"image": structs(2), "caption": ["three", "four"]})
    write_table(tmp_path / "data/a.parquet", {"image": structs(2, 9), "caption": ["one", "two "]})
    data = load(tmp_path, expected={"images": 4, "texts": 4})
    assert isinstance(data, RetrievalData)
    assert [image.key for image in data.images] == ["a.parquet:0", "a.parquet:1", "b.parquet:0", "b.parquet:1"]
    assert data.texts == ["one", "two ", "three", "four"]
    assert data.image_of_text.tolist() == [0, 1, 2, 3]
    assert data.images[2].content() == encode_image(0)


@pytest.mark.parametrize(
    ("columns", "texts"),
    [
        ({"captions": [["one", "two"], ["three"]]}, ["one", "two", "three"]),
        ({"text": ["one", "two"]}, ["one", "two"]),
        ({"caption_10": ["d", "e"], "caption_2": ["a", "b"]}, ["a", "d", "b", "e"]),
        ({"sentences": pa.array([["x"], ["y"]], pa.large_list(pa.large_string()))}, ["x", "y"]),
        ({"caption": pa.array(["x", "x"]).dictionary_encode()}, ["x", "x"]),
    ],
)
def test_columns_of_captions(tmp_path: Path, columns: dict[str, Any], texts: list[str]):
    write_table(tmp_path / "data/a.parquet", {"img": [encode_image(0), encode_image(1)], **columns, "n": [1, 2]})
    assert load(tmp_path).texts == texts


def test_named_columns_come_before_usual_names(tmp_path: Path):
    columns = {"image": structs(1), "own": [encode_image(7)], "caption": ["a"], "alt": ["b"], "title": ["c"]}
    write_table(tmp_path / "data/a.parquet", columns)
    data = load(tmp_path, image_column="own", caption_columns=["title", "alt"])
    assert data.texts == ["c", "b"]
    assert data.images[0].content() == encode_image(7)


def test_labels_with_the_class_names_of_the_features(tmp_path: Path):
    write_table(tmp_path / "data/a.parquet", {"image": structs(3), "label": [1, 0, 1]}, class_names=["cat", "dog"])
    data = load(tmp_path, "classification")
    assert isinstance(data, ClassificationData)
    assert (data.class_names, data.labels.tolist()) == (["cat", "dog"], [1, 0, 1])
    prompts = {**A, "class_names": {"dog": "a hound", "cat": "a kitten"}}
    assert load(tmp_path, "classification", prompts).class_names == ["a kitten", "a hound"]
    prompts = {**A, "class_names": ["Cats", "Dogs"]}
    assert load(tmp_path, "classification", prompts).class_names == ["Cats", "Dogs"]
    message = refusal(tmp_path, "classification", {**A, "class_names": ["dog", "cat"]})
    assert "in another order than the dataset: 'dog' is number 0" in message


def test_labels_that_are_names(tmp_path: Path):
    write_table(tmp_path / "data/a.parquet", {"image": structs(3), "cls": ["dog", "cat", "dog"]})
    data = load(tmp_path, "classification")
    assert (data.class_names, data.labels.tolist()) == (["cat", "dog"], [1, 0, 1])
    data = load(tmp_path, "classification", {**A, "class_names": ["dog", "cat"]})
    assert (data.class_names, data.labels.tolist()) == (["dog", "cat"], [0, 1, 0])
    data = load(tmp_path, "classification", {**A, "class_names": {"dog": "hound", "cat": "kitten"}})
    assert (data.class_names, data.labels.tolist()) == (["kitten", "hound"], [1, 0, 1])
    assert "no class name for 1 labels: dog" in refusal(tmp_path, "classification", {**A, "class_names": {"cat": "c"}})
    message = refusal(tmp_path, "classification", {**A, "class_names": ["dog", "bird"]})
    assert "the label 'cat' is not among prompts.class_names" in message


def test_cifar_100_has_its_fine_labels(tmp_path: Path):
    columns = {"img": structs(2), "fine_label": [1, 0], "coarse_label": [0, 0]}
    write_table(tmp_path / "data/test.parquet", columns, class_names=["apple", "pear"], label="fine_label")
    assert load(tmp_path, "classification").labels.tolist() == [1, 0]


def test_right_and_wrong_captions(tmp_path: Path):
    columns = {
        "image": structs(2),
        "caption": ["a cat", "a dog"],
        "negative_captions": [["a car", "a cap"], ["a log", "a dot"]],
        "subset": ["swap", "add"],
    }
    write_table(tmp_path / "data/a.parquet", columns)
    data = load(tmp_path, "perception")
    assert isinstance(data, PerceptionData)
    assert data.item_images.tolist() == [[0], [1]]
    texts = [[data.texts[j] for j in indices] for indices in data.item_texts]
    assert texts == [["a cat", "a car", "a cap"], ["a dog", "a log", "a dot"]]
    assert data.subsets == ["swap", "add"]
    columns["negative_captions"] = [["a car", "a cap"], ["a log"]]
    write_table(tmp_path / "data/a.parquet", columns)
    message = refusal(tmp_path, "perception")
    assert "a.parquet, row 1, column negative_captions: 1 wrong captions, in place of 2 as in the first row" in message


def test_rows_with_the_same_id_share_an_image(tmp_path: Path):
    columns = {"image": [structs(1)[0], structs(1)[0], structs(1, 5)[0]], "text": ["a", "b", "c"], "cocoid": [7, 7, 3]}
    write_table(tmp_path / "data/a.parquet", columns, group=2)
    data = load(tmp_path, image_id_column="cocoid")
    assert [image.key for image in data.images] == ["a.parquet:0", "a.parquet:2"]
    assert data.image_of_text.tolist() == [0, 0, 1]
    assert data.remarks == ()
    assert load(tmp_path).remarks == ("1 of 3 images equals an earlier one and tie: a.parquet:1",)
    write_table(tmp_path / "data/a.parquet", {**columns, "cocoid": [7, None, 3]})
    assert "row 1, column cocoid: null in place of an id" in refusal(tmp_path, image_id_column="cocoid")
    write_table(tmp_path / "data/a.parquet", {**columns, "label": ["a", "b", "c"]})
    message = refusal(tmp_path, "classification", image_id_column="cocoid")
    assert "row 1, column label: its image has a label already, in row 0 of a.parquet" in message
    write_table(tmp_path / "data/a.parquet", {"image": ["a.png"], "text": ["a"], "cocoid": [7]})
    assert "images are paths, which already say" in refusal(tmp_path, image_id_column="cocoid")


def test_paths_are_read_below_the_folder_and_rows_with_the_same_path_share_the_image(tmp_path: Path):
    for i, name in enumerate(["data/a.png", "data/more/b.png", "elsewhere/a.png", "elsewhere/more/b.png"]):
        write_image(tmp_path / name, seed=i)
    columns = {"file_name": ["more/b.png", "a.png", "more/b.png"], "text": ["one", "two", "three"]}
    write_table(tmp_path / "data/a.parquet", columns)
    data = load(tmp_path)
    assert [image.key for image in data.images] == ["more/b.png", "a.png"]
    assert data.texts == ["one", "three", "two"]
    assert data.image_of_text.tolist() == [0, 0, 1]
    assert data.images[1].content() == (tmp_path / "data/a.png").read_bytes()
    assert load(tmp_path, images="elsewhere").images[1].content() == (tmp_path / "elsewhere/a.png").read_bytes()


def test_structs_without_bytes_are_paths(tmp_path: Path):
    write_image(tmp_path / "data/a.png")
    columns = {
        "image": pa.array([{"bytes": None, "path": "a.png"}], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    }
    write_table(tmp_path / "data/a.parquet", {**columns, "text": ["one"]})
    assert load(tmp_path).images[0].key == "a.png"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/a.png", "the image '/etc/a.png' leads out of the data root"),
        ("../a.png", "the image '../a.png' leads out of the data root"),
        ("c:\\a.png", "leads out of the data root"),
        (
            "https://example.org/a.png",
            "'https://example.org/a.png' is an address; download the images, and write paths",
        ),
        ("link/a.png", "the image 'link/a.png' is a link that leads out of"),
        ("link.png", "the image 'link.png' is a link that leads out of"),
        (None, "null in place of an image's path"),
        (" ", "an empty text in place of an image's path"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, name: str | None, why: str):
    write_image(tmp_path / "outside/a.png")
    write_image(tmp_path / "data/a.png")
    (tmp_path / "data/link").symlink_to(tmp_path / "outside")
    (tmp_path / "data/link.png").symlink_to(tmp_path / "outside/a.png")
    write_table(tmp_path / "data/a.parquet", {"image": ["a.png", name], "text": ["one", "two"]})
    message = refusal(tmp_path)
    assert "data/a.parquet, row 1, column image: " in message
    assert why in message


def test_links_inside_the_folder_are_followed_and_the_folder_may_be_a_link(tmp_path: Path):
    write_image(tmp_path / "disk/real/a.png")
    (tmp_path / "disk/b.png").symlink_to("real/a.png")
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    write_table(tmp_path / "disk/a.parquet", {"image": ["real/a.png", "b.png"], "text": ["one", "two"]})
    assert len(load(tmp_path).images) == 2


@pytest.mark.parametrize(
    ("columns", "task", "why"),
    [
        ({"text": ["a", None]}, "retrieval", "row 1, column text: null in place of a text"),
        ({"text": [["a"], []]}, "retrieval", "row 1, column text: an empty list in place of a text"),
        ({"text": [["a"], ["b", None]]}, "retrieval", "row 1, column text: null in place of a text"),
        ({"text": [1, 2]}, "retrieval", "it holds int64, and must hold texts, or lists of texts"),
        (
            {"text": pa.array([b"a", b"\xff"]).cast(pa.string(), safe=False)},
            "retrieval",
            "row 1, column text: a text that",
        ),
        ({"label": ["a", None]}, "classification", "row 1, column label: null in place of a label"),
        ({"label": ["a", ""]}, "classification", "row 1, column label: an empty text in place of a label"),
        ({"label": [0.5, 1.0]}, "classification", "it holds double, and must hold whole numbers, or texts"),
        ({"label": [True, False]}, "classification", "it holds bool, and must hold whole numbers"),
        ({"label": [0, 1]}, "classification", "and no names for them; give prompts.class_names as a list"),
        ({"label": ["a", "b"], "cls": ["c", "d"]}, "classification", "2 columns that may be the labels in "),
        ({"text": ["a", "b"], "caption": ["c", "d"]}, "retrieval", "2 columns that may be the captions in "),
        ({"caption": ["a", "b"]}, "perception", "finds none of the columns negative, negatives, "),
        ({"caption": ["a", "b"], "negative": ["c", None]}, "perception", "row 1, column negative: null in place of"),
        ({"caption": ["a", "b"], "pixels": [b"x", b"y"], "pic": [b"x", b"y"]}, "retrieval", ""),
        ({"n": [1, 2]}, "retrieval", "finds none of the columns caption, captions, text, texts, ..."),
    ],
)
def test_columns_that_cannot_be_used_are_refused(tmp_path: Path, columns: dict[str, Any], task: str, why: str):
    images = {} if "pixels" in columns else {"image": structs(2)}
    write_table(tmp_path / "data/a.parquet", {**images, **columns})
    message = refusal(tmp_path, task)
    assert (why or "2 columns that may be the images in ") in message
    assert "data/a.parquet" in message


def test_labels_out_of_range_are_refused_with_their_row(tmp_path: Path):
    write_table(tmp_path / "data/a.parquet", {"image": structs(6), "label": [0, 1, 1, 0, 0, 2]}, class_names="ab")
    assert "row 5, column label: the label 2 is not from 0 to 1" in refusal(tmp_path, "classification")
    write_table(tmp_path / "data/a.parquet", {"image": structs(2), "label": [-1, -1]}, class_names="ab")
    message = refusal(tmp_path, "classification")
    assert "the label -1 is not from 0 to 1: the hub writes -1 where labels are not published" in message


def test_a_null_image_is_refused_without_reading_the_images(tmp_path: Path, monkeypatch):
    monkeypatch.delattr(parquet_images.ParquetImage, "content")
    columns = {"image": [encode_image(i) for i in range(5)] + [None], "text": list("abcdef")}
    write_table(tmp_path / "data/a.parquet", columns)
    message = refusal(tmp_path)
    assert "a.parquet, rows 4 to 5, column image: null in place of an image in 1 of them; leave these" in message
    columns["image"] = [{"bytes": image, "path": None} for image in columns["image"]]
    write_table(tmp_path / "data/a.parquet", columns)
    assert "a.parquet, rows 4 to 5, column image.bytes: null in place of an image" in refusal(tmp_path)
    columns["image"][5] = None
    write_table(tmp_path / "data/a.parquet", columns, group=5)
    assert "a.parquet, row 5, column image.bytes: null in place of an image" in refusal(tmp_path)


def test_a_null_image_without_statistics_is_refused_when_it_is_read(tmp_path: Path):
    table = pa.table({"image": [*structs(5), None], "text": list("abcdef")})
    (tmp_path / "data").mkdir()
    parquet.write_table(table, tmp_path / "data/a.parquet", write_statistics=False)
    assert "a.parquet, row 5, column image.bytes: null in place of an image; leave the row out" in refusal(tmp_path)


def test_a_row_that_repeats_an_image_by_its_id_needs_no_image(tmp_path: Path):
    images = [*structs(1), None, *structs(1, 1)]
    write_table(tmp_path / "data/a.parquet", {"image": images, "id": [1, 1, 2], "text": list("abc")})
    assert load(tmp_path, image_id_column="id").counts() == {"images": 2, "texts": 3}


def test_files_that_do_not_agree_are_refused(tmp_path: Path):
    write_table(tmp_path / "data/a.parquet", {"image": structs(2), "label": [0, 1]}, class_names=["cat", "dog"])
    write_table(tmp_path / "data/b.parquet", {"image": structs(2), "label": [0, 1]}, class_names=["dog", "cat"])
    assert "has other class names in " in refusal(tmp_path, "classification")
    write_table(tmp_path / "data/b.parquet", {"img": structs(2), "label": [0, 1]}, class_names=["cat", "dog"])
    assert "has different images in its files: image in " in refusal(tmp_path, "classification")
    write_table(tmp_path / "data/b.parquet", {"image": structs(2), "label": ["a", "b"]})
    assert "has the column 'label' as numbers in some files and as texts in others" in refusal(
        tmp_path, "classification"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty; download or write it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"<!doctype html><title>no</title>", "is an HTML page"),
        (b"PARE" + b"0" * 40 + b"PARE", "is encrypted; write it without encryption"),
        (b"PAR1" + b"0" * 40, "is cut short"),
        (b"PAR1" + b"\xff" * 40 + b"\x28\x00\x00\x00PAR1", "cannot read "),
        (b"a,b\n1,2\n", "is no Parquet file"),
    ],
)
def test_other_files_and_damaged_ones_are_refused(tmp_path: Path, content: bytes, why: str):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.parquet").write_bytes(content)
    with pytest.raises(RequestError) as caught:
        load(tmp_path)
    assert why in str(caught.value)
    assert "data/a.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_named_pipe_is_refused(tmp_path: Path):
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data/a.parquet")
    with pytest.raises(RequestError, match=r"a\.parquet is a named pipe"):
        load(tmp_path)


def test_no_files_and_no_rows_are_refused(tmp_path: Path):
    assert "needs the folder" in refusal(tmp_path)
    (tmp_path / "data").mkdir()
    assert "has no Parquet files in" in refusal(tmp_path)
    write_table(tmp_path / "data/a.parquet", {"image": pa.array([], pa.binary()), "text": pa.array([], pa.string())})
    assert "has no rows in" in refusal(tmp_path)
    write_table(tmp_path / "data/b.parquet", {"image": [encode_image(0)], "text": ["one"]})
    assert load(tmp_path).remarks == ("1 of 2 Parquet files have no rows: a.parquet",)
    assert "has a pattern in dataset.path" in refusal(tmp_path, path="data/*.parquet")


def write_splits(root: Path, *names: str) -> None:
    for i, name in enumerate(names):
        write_table(root / "data" / name, {"image": structs(1, i), "text": [name]})


def test_files_are_chosen_by_split_or_by_patterns(tmp_path: Path):
    write_splits(tmp_path, "train-00000-of-00001.parquet", "test-00000-of-00002.parquet", "test-00001-of-00002.parquet")
    assert "has files of several splits in" in (message := refusal(tmp_path))
    assert "test, train; give dataset.split" in message
    assert load(tmp_path, split="test").texts == ["test-00000-of-00002.parquet", "test-00001-of-00002.parquet"]
    assert load(tmp_path, files=["train*", "test-00001*"]).texts == [
        "test-00001-of-00002.parquet",
        "train-00000-of-00001.parquet",
    ]
    assert "no Parquet files of the split 'val'" in refusal(tmp_path, split="val")
    assert "has no Parquet file val* in" in refusal(tmp_path, files=["val*"])
    assert "names files outside of" in refusal(tmp_path, files=["../*"])
    (tmp_path / "data/test-00000-of-00002.parquet").unlink()
    message = refusal(tmp_path, split="test")
    assert "needs 2 files test-*-of-00002.parquet" in message
    assert "missing: test-00000-of-00002.parquet" in message


def test_folders_name_splits_too_and_a_part_of_a_split_is_refused(tmp_path: Path):
    write_splits(tmp_path, "default/train/0000.parquet", "default/test/0000.parquet", "latest/a.parquet")
    assert load(tmp_path, split="test").texts == ["default/test/0000.parquet"]
    write_splits(tmp_path, "default/partial-test/0000.parquet")
    assert "would read only the first part of the data" in refusal(tmp_path, split="test")
    assert load(tmp_path, files=["default/partial-test/*"]).texts == ["default/partial-test/0000.parquet"]


def test_more_rows_than_are_read_are_refused_before_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_table(tmp_path / "data/a.parquet", {"image": structs(3), "text": ["a", "b", "c"]})
    monkeypatch.setattr("cosmos_eval.datasets.parquet.reader.MAX_ROWS", 2)
    assert "has 3 rows in" in refusal(tmp_path)


def test_a_column_with_more_bytes_than_are_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_table(tmp_path / "data/a.parquet", {"image": structs(2), "text": ["a" * 99, "b" * 99]})
    monkeypatch.setattr(table_file, "MAX_COLUMN_BYTES", 100)
    with pytest.raises(RequestError, match=r"the column text has .* bytes in row group 0, more than the 100"):
        load(tmp_path)


def test_an_image_with_more_bytes_than_are_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_table(tmp_path / "data/a.parquet", {"image": structs(2), "text": ["a", "b"]})
    monkeypatch.setattr(parquet_images, "MAX_IMAGE_BYTES", 50)
    with pytest.raises(RequestError, match=r"a\.parquet, row 0, column image\.bytes: an image of .* bytes"):
        load(tmp_path)


def test_labels_of_imagenet_in_another_order_are_refused_by_the_names_of_the_images(tmp_path: Path):
    """ILSVRC2012_val_00000001 has class 65; the devkit's ids are in another order."""
    images = [{"bytes": encode_image(i), "path": f"ILSVRC2012_val_{i + 1:08d}_n01751748.JPEG"} for i in range(2)]
    write_table(tmp_path / "data/a.parquet", {"image": images, "label": [489, 360]})
    prompts = {**A, "class_names": "imagenet1k"}
    options = {"candidates_without_images": "allow"}
    assert "ILSVRC2012_val_00000001.JPEG labelled 489" in refusal(tmp_path, "classification", prompts, **options)
    write_table(tmp_path / "data/a.parquet", {"image": images, "label": [65, 970]})
    assert load(tmp_path, "classification", prompts, **options).labels.tolist() == [65, 970]


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is kept of the images that were read, in a process that has not read any; a few rows are decoded at once."""
    monkeypatch.setattr(parquet_images, "BATCH_BYTES", 1500)
    monkeypatch.setattr(parquet_images, "_READING", parquet_images._Reading())
    return parquet_images._READING


def forty(root: Path, group: int) -> Path:
    return write_table(root / "data/a.parquet", {"image": structs(40), "text": list(map(str, range(40)))}, group)


def test_images_read_in_order_are_decoded_once_and_travel_to_other_processes(tmp_path: Path, reading, monkeypatch):
    forty(tmp_path, group=20)
    data = datasets.read(define(tmp_path, "retrieval", READER))
    assert reading.decoded_rows == 0  # listing reads no image but the first
    assert 1 < data.images[0].column.batch_rows[0] < 20
    for i, image in enumerate(data.images):
        assert image.content() == image.content() == encode_image(i)
    assert reading.decoded_rows == 40
    image = pickle.loads(pickle.dumps(data.images[33]))
    monkeypatch.setattr(parquet_images, "_READING", parquet_images._Reading())
    assert image.content() == encode_image(33)
    assert np.array_equal(np.asarray(image.load()), np.asarray(data.images[33].load()))


def test_images_read_by_threads_in_nearly_their_order_are_decoded_once(tmp_path: Path, reading):
    forty(tmp_path, group=40)
    images = datasets.read(define(tmp_path, "retrieval", READER)).images
    for i in range(10):
        for thread in range(4):  # as four threads that hash ten images each
            assert images[10 * thread + i].content() == encode_image(10 * thread + i)
    assert reading.decoded_rows == 40
    assert reading.ahead.size == 0


def test_images_in_any_order_are_right_and_what_is_kept_is_bounded(tmp_path: Path, reading):
    forty(tmp_path, group=40)
    images = datasets.read(define(tmp_path, "retrieval", READER)).images
    reading.ahead.most_bytes, reading.recent.most_bytes = 2000, 1000
    for i in np.random.default_rng(0).permutation(40).tolist() + list(range(39, -1, -1)):
        assert images[i].content() == encode_image(i)
        for kept in (reading.ahead, reading.recent):
            assert kept.size == sum(len(image) for image in kept.images.values()) <= kept.most_bytes


def test_a_forked_process_starts_anew(tmp_path: Path, reading):
    forty(tmp_path, group=40)
    images = datasets.read(define(tmp_path, "retrieval", READER)).images
    with reading.lock, ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(images[7].content).result(timeout=60) == encode_image(7)


def test_a_table_that_changes_after_it_was_hashed_is_refused(tmp_path: Path):
    path = write_table(tmp_path / "data/a.parquet", {"image": structs(3), "text": ["a", "b", "c"]})
    data = load(tmp_path)
    data.images[1].load()
    write_table(path, {"image": structs(3, start=5), "text": ["a", "b", "c"]})
    with pytest.raises(RequestError, match=r"the image a\.parquet:1.* was changed after it was hashed"):
        data.images[1].load()
    write_table(path, {"image": structs(1), "text": ["a"]})
    with pytest.raises(RequestError, match="row group 0 ends before its row 1"):
        data.images[1].load()
