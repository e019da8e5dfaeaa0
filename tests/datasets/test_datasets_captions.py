"""COCO and Karpathy files: order, unchanged captions, and everything that can be wrong with the files."""

from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.data import RetrievalData
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.datasets_on_disk import COCO, coco_files, define, write_image, write_json


def refusal(tmp_path: Path, dataset: dict[str, Any] = COCO) -> str:
    with pytest.raises(RequestError) as caught:
        datasets.load(define(tmp_path, "retrieval", dataset))
    message = str(caught.value)
    assert "\n" not in message
    assert datasets.check(define(tmp_path, "retrieval", dataset)).problems
    return message


def changed_coco(tmp_path: Path, **tables: Any) -> None:
    write_json(tmp_path / COCO["annotations"], {**coco_files(tmp_path), **tables})


def test_coco_is_sorted_by_file_and_annotation_and_keeps_every_caption_as_it_is(tmp_path: Path):
    coco_files(tmp_path)
    data = datasets.load(define(tmp_path, "retrieval", {**COCO, "expected": {"images": 2, "texts": 5}}))
    assert isinstance(data, RetrievalData)
    assert [image.key for image in data.images] == ["000000000003.jpg", "000000000007.jpg"]
    assert data.texts == [" cats on a mat", "cats", "two cats", "A dog runs.", "a dog "]
    assert data.image_of_text.tolist() == [0, 0, 0, 1, 1]


def test_ids_may_be_texts(tmp_path: Path):
    images = [{"id": name, "file_name": f"00000000000{name}.jpg"} for name in "73"]
    captions = [
        {"id": i, "image_id": name, "caption": f"{name}{i}"} for i, name in (("b", "3"), ("a", "7"), ("c", "3"))
    ]
    changed_coco(tmp_path, images=images, annotations=captions)
    data = datasets.load(define(tmp_path, "retrieval", COCO))
    assert isinstance(data, RetrievalData)
    assert data.texts == ["3b", "3c", "7a"]


def test_half_of_coco_is_refused_with_counts_and_the_first_names(tmp_path: Path):
    coco_files(tmp_path)
    (tmp_path / "coco/images/val2017/000000000003.jpg").unlink()
    benchmark = define(
        tmp_path, "retrieval", {**COCO, "expected": {"images": 2, "texts": 5}, "needs": "unzip it again"}
    )
    report = datasets.check(benchmark)
    assert report.expected == {"images": 2, "texts": 5}
    assert report.found == {"images": 1, "texts": 5}
    folder = tmp_path / "coco/images/val2017"
    assert report.problems == (f"mine needs 2 images in {folder}, found 1; missing: 000000000003.jpg (unzip it again)",)
    with pytest.raises(RequestError, match="found 1; missing: 000000000003"):
        datasets.load(benchmark)


def test_a_smaller_annotation_file_than_expected_is_refused(tmp_path: Path):
    coco_files(tmp_path)
    check = datasets.check(load_benchmark("coco-val2017-retrieval"), tmp_path)
    assert check.found == {"images": 2, "texts": 5}
    assert "needs 5,000 images" in check.problems[0]
    assert "found 2" in check.problems[0]
    assert "needs 25,014 texts, found 5" in check.problems[1]


def test_everything_missing_is_listed_at_once(tmp_path: Path):
    check = datasets.check(load_benchmark("coco-val2017-retrieval"), tmp_path)
    assert len(check.problems) == 2
    assert "needs the folder" in check.problems[0]
    assert "coco/images/val2017" in check.problems[0]
    assert "captions_val2017.json" in check.problems[1]


def test_captions_of_unknown_images_are_named(tmp_path: Path):
    changed_coco(tmp_path, annotations=[{"id": 5, "image_id": 99, "caption": "a bird"}])
    assert "1 caption of images that are not listed" in refusal(tmp_path)
    assert "annotation 5 (image 99)" in refusal(tmp_path)


def test_images_without_a_caption_are_named(tmp_path: Path):
    changed_coco(tmp_path, annotations=[{"id": 5, "image_id": 7, "caption": "a dog"}])
    assert "1 image without a caption: 000000000003.jpg" in refusal(tmp_path)


def test_an_image_without_a_name_is_refused(tmp_path: Path):
    content = coco_files(tmp_path)
    content["images"][0]["file_name"] = " "
    write_json(tmp_path / COCO["annotations"], content)
    with pytest.raises(RequestError, match=r"names 1 image of .*val2017 with an empty name"):
        datasets.load(define(tmp_path, "retrieval", COCO))


def test_ids_given_twice_are_named(tmp_path: Path):
    twice = [{"id": 7, "file_name": "000000000007.jpg"}, {"id": 7, "file_name": "000000000003.jpg"}]
    changed_coco(tmp_path, images=twice)
    assert "image ids twice" in refusal(tmp_path)
    changed_coco(
        tmp_path, images=[{"id": 7, "file_name": "000000000007.jpg"}, {"id": 3, "file_name": "000000000007.jpg"}]
    )
    assert "1 image twice: 000000000007.jpg" in refusal(tmp_path)
    changed_coco(tmp_path, annotations=[{"id": 1, "image_id": i, "caption": "x"} for i in (3, 7)])
    assert "annotation ids twice" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a/../../b.jpg", "C:\\b.jpg", "..\\b.jpg"])
def test_an_image_outside_the_folder_is_not_read(tmp_path: Path, name: str):
    changed_coco(tmp_path, images=[{"id": 7, "file_name": name}, {"id": 3, "file_name": "000000000003.jpg"}])
    assert "outside its folder" in refusal(tmp_path)


@pytest.mark.parametrize("path", ["../coco", "/coco", "coco/../.."])
def test_a_definition_cannot_lead_out_of_the_data_root(tmp_path: Path, path: str):
    coco_files(tmp_path)
    assert "leads out of the data root" in refusal(tmp_path, {**COCO, "images": path})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "line 1 column 13"),
        ('{"images":\n [}', "line 2 column 3"),
        ("[]", "no list 'images'"),
        ('{"images": [{"id": 1.5}]}', "has 1.5 as 'id' in images[0]"),
        ('{"images": [{"id": 1.0, "file_name": "a"}]}', "has 1.0 as 'id' in images[0]"),
        ('{"images": [{"id": true, "file_name": "a"}]}', "ids are whole numbers or texts"),
        ('{"images": [{"file_name": "a"}]}', "no 'id' in images[0]"),
        (
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"id": 1, "image_id": "1", "caption": "c"}]}',
            "whole numbers in some places and texts in others, such as '1'",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"id": 1, "image_id": 1, "caption": null}]}',
            "has None as 'caption' in annotations[0]",
        ),
        ('{"images": [{"id": 1}]}', "no 'file_name' in images[0]"),
        ('{"images": [], "annotations": [{"id": 1, "image_id": 2}]}', "no 'caption' in annotations[0]"),
        ('{"images": [], "annotations": []}', "has no images"),
        ("", "line 1 column 1"),
    ],
)
def test_a_file_that_is_not_coco_is_refused_with_the_position(tmp_path: Path, content: str, message: str):
    coco_files(tmp_path)
    (tmp_path / COCO["annotations"]).write_text(content, encoding="utf-8")
    assert message in refusal(tmp_path)


def karpathy(tmp_path: Path, **record: Any) -> dict[str, Any]:
    """Four records of three splits; `record` changes the second."""
    records: list[dict[str, Any]] = [
        {"filename": f"{name}.jpg", "split": split, "sentences": [{"raw": f"{name} {i}"} for i in range(count)]}
        for name, split, count in [("d", "train", 1), ("c", "test", 2), ("b", "val", 1), ("a", "test", 1)]
    ]
    records[1].update(record)
    write_json(tmp_path / "dataset.json", {"dataset": "mine", "images": records})
    for name in "abcd":
        write_image(tmp_path / "images" / f"{name}.jpg", seed=ord(name))
    return {"reader": "karpathy", "images": "images", "annotations": "dataset.json", "split": "test"}


def test_karpathy_keeps_the_order_of_the_file_and_reads_one_split(tmp_path: Path):
    data = datasets.load(define(tmp_path, "retrieval", karpathy(tmp_path)))
    assert isinstance(data, RetrievalData)
    assert [image.key for image in data.images] == ["c.jpg", "a.jpg"]
    assert data.texts == ["c 0", "c 1", "a 0"]
    assert data.image_of_text.tolist() == [0, 0, 1]


def test_a_record_with_a_filepath_is_read_below_it(tmp_path: Path):
    dataset = karpathy(tmp_path, filepath="val2014")
    write_image(tmp_path / "images/val2014/c.jpg")
    data = datasets.load(define(tmp_path, "retrieval", dataset))
    assert isinstance(data.images[0], FileImage)
    assert data.images[0].key == "val2014/c.jpg"
    assert data.images[0].path == tmp_path / "images/val2014/c.jpg"


def test_the_first_alternative_that_exists_is_read(tmp_path: Path):
    dataset = {**karpathy(tmp_path), "images": ["images", "images"], "annotations": ["absent.json", "dataset.json"]}
    assert len(datasets.load(define(tmp_path, "retrieval", dataset)).images) == 2
    (tmp_path / "dataset.json").unlink()
    problem = datasets.check(define(tmp_path, "retrieval", dataset)).problems[0]
    assert f"{tmp_path / 'absent.json'} or {tmp_path / 'dataset.json'}" in problem


def test_a_plain_list_is_one_split_by_itself(tmp_path: Path):
    dataset = karpathy(tmp_path)
    records = [{"image": f"flickr30k-images/{name}.jpg", "caption": [f"{name} 0", f" {name} 1"]} for name in "ba"]
    write_json(tmp_path / "dataset.json", records)
    data = datasets.load(define(tmp_path, "retrieval", dataset))
    assert isinstance(data, RetrievalData)
    assert [image.key for image in data.images] == ["b.jpg", "a.jpg"]
    assert data.texts == ["b 0", " b 1", "a 0", " a 1"]


def test_whatever_a_karpathy_file_lacks_is_named(tmp_path: Path):
    dataset = karpathy(tmp_path)
    assert "no image of the split 'tset'" in refusal(tmp_path, {**dataset, "split": "tset"})
    assert "test, train, val" in refusal(tmp_path, {**dataset, "split": "tset"})
    assert "1 image without a caption: c.jpg" in refusal(tmp_path, karpathy(tmp_path, sentences=[]))
    assert "without 'raw' in images[1]" in refusal(tmp_path, karpathy(tmp_path, sentences=[{"tokens": ["a"]}]))
    assert "found 1; missing: e.jpg" in refusal(tmp_path, karpathy(tmp_path, filename="e.jpg"))
    assert "outside its folder" in refusal(tmp_path, karpathy(tmp_path, filename="../c.jpg"))
    assert "outside its folder" in refusal(tmp_path, karpathy(tmp_path, filepath="/etc"))
    write_json(tmp_path / "dataset.json", {"info": 1})
    assert "no list 'images'" in refusal(tmp_path, dataset)


def test_a_name_of_control_characters_stays_in_one_line(tmp_path: Path):
    dataset = karpathy(tmp_path)
    for name, expected in (("\n", "'\\n' as 'image' in record 0"), ("a\n\x1b[2Jb.jpg", r"a\n\x1b[2Jb.jpg")):
        write_json(tmp_path / "dataset.json", [{"image": name, "caption": ["t"]}, {"image": "a.jpg", "caption": ["u"]}])
        message = refusal(tmp_path, dataset)
        assert expected in message
        assert message.isprintable()


def test_empty_captions_are_counted_in_a_remark_of_every_reader(tmp_path: Path):
    blank = [{"raw": "c 0"}, {"raw": " \n"}]
    data = datasets.load(define(tmp_path, "retrieval", karpathy(tmp_path, sentences=blank)))
    assert data.remarks == ("1 of 3 captions is empty, of c.jpg",)
    content = coco_files(tmp_path)
    content["annotations"][0]["caption"] = ""
    write_json(tmp_path / COCO["annotations"], content)
    assert datasets.load(define(tmp_path, "retrieval", COCO)).remarks == (
        "1 of 5 captions is empty, of 000000000007.jpg",
    )


def test_of_several_folders_the_one_that_has_the_images_is_read(tmp_path: Path):
    """Karpathy's val2014 images beside `coco/images` with val2017."""
    write_image(tmp_path / "coco/images/val2017/000000000139.jpg")
    write_image(tmp_path / "coco/val2014/COCO_val2014_000000000042.jpg")
    record = {
        "filepath": "val2014",
        "filename": "COCO_val2014_000000000042.jpg",
        "split": "test",
        "sentences": [{"raw": "a dog"}],
    }
    write_json(tmp_path / "coco/dataset_coco.json", {"images": [record]})
    shipped = load_benchmark("coco-karpathy-retrieval").dataset
    checked = datasets.check(define(tmp_path, "retrieval", {**shipped, "expected": {"images": 1, "texts": 1}}))
    assert checked.problems == ()
    dataset = {**COCO, "images": ["coco/empty", "coco/images/val2017"]}
    coco_files(tmp_path)
    (tmp_path / "coco/empty").mkdir()
    assert not datasets.check(define(tmp_path, "retrieval", dataset)).problems


def test_if_no_folder_has_the_first_image_the_first_folder_is_named(tmp_path: Path):
    coco_files(tmp_path)
    (tmp_path / "coco/images/val2017/000000000003.jpg").unlink()
    (tmp_path / "coco/empty").mkdir()
    dataset = {**COCO, "images": ["coco/images/val2017", "coco/empty"]}
    assert "coco/images/val2017, found 1; missing: 000000000003.jpg" in refusal(tmp_path, dataset)
