"""The reader `parquet` says in one line what it cannot use."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.parquet import images as parquet_images
from cosmos_eval.datasets.parquet import table_file
from tests.helpers.datasets_on_disk import write_image
from tests.helpers.parquet_reading import A, load, refusal
from tests.helpers.tables_on_disk import encode_image, structs, write_table


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
        (b"a,b\n1,2\n", "is not a Parquet file"),
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
    assert load(tmp_path).remarks == ("1 of 2 Parquet files without rows: a.parquet",)
    assert "has a pattern in dataset.path" in refusal(tmp_path, path="data/*.parquet")


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
