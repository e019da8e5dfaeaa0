"""The reader `parquet`: columns found or named, images as bytes or paths, and the choice of files."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cosmos_eval.datasets.data import ClassificationData, PerceptionData, RetrievalData
from tests.helpers.datasets_on_disk import write_image
from tests.helpers.parquet_reading import A, load, refusal
from tests.helpers.tables_on_disk import encode_image, structs, write_table

NOT_UTF8 = pa.array([b"a", b"\xff"]).cast(pa.string(), safe=False)


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
    assert "no class name for 1 label: dog" in refusal(tmp_path, "classification", {**A, "class_names": {"cat": "c"}})
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
    assert "a.parquet, row 1, column negative_captions: 1 wrong caption, in place of 2 as in the first row" in message


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


def test_links_inside_the_folder_are_followed_and_the_folder_may_be_a_link(tmp_path: Path):
    write_image(tmp_path / "disk/real/a.png")
    (tmp_path / "disk/b.png").symlink_to("real/a.png")
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    write_table(tmp_path / "disk/a.parquet", {"image": ["real/a.png", "b.png"], "text": ["one", "two"]})
    assert len(load(tmp_path).images) == 2


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
