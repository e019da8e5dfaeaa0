"""Masks made from publishers' files: every mapping checked by hand, interrupted work, and what is refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.cli import main as cli
from cosmos_eval.datasets.mmseg.prepare import prepare_masks
from cosmos_eval.datasets.mmseg.prepare_cityscapes import ID_AND_CLASS
from cosmos_eval.datasets.mmseg.prepare_coco import build_object_table, build_stuff_table
from cosmos_eval.datasets.mmseg.prepare_context import FREQUENT
from tests.helpers.datasets_on_disk import write_json
from tests.helpers.segmentation_on_disk import small, write_labels, write_pixels


def labels(path: Path) -> list[list[int]]:
    return np.array(Image.open(path)).tolist()


def refusal(name: str, root: Path) -> str:
    with pytest.raises(RequestError) as caught:
        prepare_masks(name, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def stuff_maps(root: Path, values: list[int]) -> Path:
    folder = root / "coco_stuff164k/annotations/val2017"
    write_labels(folder / "000000000139.png", np.array([values]))
    write_pixels(root / "coco_stuff164k/images/val2017/000000000139.jpg", (1, len(values)))
    return folder


@pytest.mark.parametrize("name", ["voc20-maskclip", "voc21", "ade20k-csa"])
def test_masks_that_are_read_as_published_are_not_made(name: str, tmp_path: Path):
    assert refusal(name, tmp_path) == (
        f"{name} is read as published, so no masks are made; check it with `cosmos-eval data check`"
    )


def test_a_benchmark_stands_for_the_step_of_its_data(tmp_path: Path):
    stuff_maps(tmp_path, PUBLISHED)
    written = [prepare_masks(name, tmp_path).written for name in ("coco-stuff164k-naclip", "coco-stuff")]
    assert written == [1, 0]  # the second one keeps the masks of the first


PUBLISHED = [0, 10, 12, 24, 26, 27, 30, 89, 91, 180, 181, 255]
"""person, fire hydrant, stop sign (11 does not exist), ..., toothbrush, banner, window-other, wood, unlabelled."""


def test_published_maps_of_coco_stuff_become_171_classes(tmp_path: Path):
    folder = stuff_maps(tmp_path, PUBLISHED)
    prepared = prepare_masks("coco-stuff", tmp_path)
    assert (prepared.written, prepared.existing) == (1, 0)
    expected = [[0, 10, 11, 23, 24, 25, 26, 79, 80, 169, 170, 255]]
    assert labels(folder / "000000000139_labelTrainIds.png") == expected
    data = datasets.load(small("coco-stuff164k", images=1), tmp_path)
    names = [data.class_names[label] for label in expected[0][:-1]]
    assert names[0] == "person"
    assert names[1:3] == ["fire hydrant", "stop sign"]
    assert names[7:] == ["toothbrush", "banner", "window-other", "wood"]
    assert data.masks[0].load().tolist() == expected


def test_published_maps_of_coco_stuff_become_objects_on_background(tmp_path: Path):
    stuff_maps(tmp_path, PUBLISHED)
    prepared = prepare_masks("coco-object", tmp_path)
    file = tmp_path / "coco_object/annotations/val2017/000000000139_instanceTrainIds.png"
    assert prepared.folder == file.parent
    expected = [[1, 11, 12, 24, 25, 26, 27, 80, 0, 0, 0, 0]]
    assert labels(file) == expected
    # the images stay where they are
    data = datasets.load(small("coco-object", images=1), tmp_path)
    assert data.masks[0].load().tolist() == expected
    assert [data.class_names[label] for label in (1, 11, 80, 0)] == [
        "person", "fire hydrant", "toothbrush", "background",
    ]  # fmt: skip


def test_every_category_has_one_class():
    stuff, objects = build_stuff_table(), build_object_table()
    assert sorted(stuff[(stuff >= 0) & (stuff < 255)].tolist()) == list(range(171))
    assert sorted(objects[objects > 0].tolist()) == list(range(1, 81))
    assert np.flatnonzero(stuff < 0).tolist() == np.flatnonzero(objects < 0).tolist()
    assert (stuff < 0).sum() == 256 - 171 - 1
    assert len(FREQUENT) == 59
    assert sorted(FREQUENT) == list(FREQUENT)
    evaluated = [class_index for _, class_index in ID_AND_CLASS.values() if class_index != 255]
    assert evaluated == list(range(19))
    assert [label for label, _ in ID_AND_CLASS.values()] == list(range(34))


def instances(root: Path, annotations: list[dict], categories: int = 80) -> Path:
    ids = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)][:categories]
    content = {
        "images": [
            {"id": 139, "file_name": "000000000139.jpg", "height": 4, "width": 6},
            {"id": 42, "file_name": "000000000042.jpg", "height": 2, "width": 2},
        ],
        "categories": [{"id": i, "name": str(i)} for i in reversed(ids)],
        "annotations": annotations,
    }
    return write_json(root / "coco/annotations/instances_val2017.json", content)


def box(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def test_objects_are_drawn_with_the_smaller_on_top_and_crowds_below(tmp_path: Path):
    small_tie = {"id": 1, "image_id": 139, "category_id": 32, "segmentation": box(1, 1, 3, 3), "area": 4.0}
    large_person = {"id": 2, "image_id": 139, "category_id": 1, "segmentation": box(0, 0, 5, 4), "area": 20.0}
    # run lengths go down the columns: 16 pixels outside, then the last two columns
    crowd = {
        "id": 3, "image_id": 139, "category_id": 90, "iscrowd": 1, "area": 1.0,
        "segmentation": {"size": [4, 6], "counts": [16, 8]},
    }  # fmt: skip
    instances(tmp_path, [small_tie, large_person, crowd])
    prepared = prepare_masks("coco-object", tmp_path)
    assert prepared.written == 2
    assert "objects of" in prepared.source
    assert labels(prepared.folder / "000000000139_instanceTrainIds.png") == [
        [1, 1, 1, 1, 1, 80],
        [1, 28, 28, 1, 1, 80],
        [1, 28, 28, 1, 1, 80],
        [1, 1, 1, 1, 1, 80],
    ]
    assert labels(prepared.folder / "000000000042_instanceTrainIds.png") == [[0, 0], [0, 0]]


def test_json_that_is_not_cocos_is_refused(tmp_path: Path):
    path = instances(tmp_path, [], categories=6)
    assert "6 categories, not 80" in refusal("coco-object", tmp_path)
    instances(tmp_path, [{"id": 1, "image_id": 5, "category_id": 1, "segmentation": []}])
    assert "annotation 1 has an unknown image or category" in refusal("coco-object", tmp_path)
    instances(tmp_path, [{"id": 8, "image_id": 139, "category_id": 1, "segmentation": [[1]]}])
    assert "cannot draw annotation 8" in refusal("coco-object", tmp_path)
    write_json(path, {"images": [], "annotations": [{}], "categories": []})
    assert "no 'image_id' in annotations[0]" in refusal("coco-object", tmp_path)
    path.write_text("{", encoding="utf-8")
    assert "is not JSON" in refusal("coco-object", tmp_path)


def polygons(root: Path, objects: list[dict]) -> Path:
    path = root / "cityscapes/gtFine/val/lindau/lindau_000001_000019_gtFine_polygons.json"
    return write_json(path, {"imgHeight": 3, "imgWidth": 6, "objects": objects})


def region(label: str, left: int, right: int, **more) -> dict:
    return {"label": label, "polygon": [[left, 0], [right, 0], [right, 2], [left, 2]], **more}


def test_polygons_of_cityscapes_are_drawn_in_order_by_the_published_table(tmp_path: Path):
    path = polygons(
        tmp_path,
        [
            region("road", 0, 4),
            region("sky", 0, 4, deleted=1),
            region("cargroup", 2, 3),
            region("license plate", 3, 3),
            region("parking", 4, 4),
        ],
    )
    prepared = prepare_masks("cityscapes", tmp_path)
    file = path.with_name("lindau_000001_000019_gtFine_labelTrainIds.png")
    assert prepared.folder == path.parent.parent
    assert labels(file) == [[0, 0, 13, 13, 255, 255]] * 3
    write_pixels(tmp_path / "cityscapes/leftImg8bit/val/lindau/lindau_000001_000019_leftImg8bit.png", (3, 6))
    data = datasets.load(small("cityscapes", images=1), tmp_path)
    assert data.class_names[13] == "car"
    assert data.masks[0].load().tolist() == labels(file)


def test_label_ids_of_cityscapes_are_mapped_if_there_are_no_polygons(tmp_path: Path):
    ids = tmp_path / "cityscapes/gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png"
    write_labels(ids, np.array([[0, 7, 9, 11, 26, 33]]))
    prepared = prepare_masks("cityscapes", tmp_path, tmp_path / "elsewhere")
    file = tmp_path / "elsewhere/cityscapes/gtFine/val/ulm/ulm_000000_000019_gtFine_labelTrainIds.png"
    assert labels(file) == [[255, 0, 255, 2, 13, 18]]
    assert "label ids" in prepared.source
    write_labels(ids, np.array([[34]]))
    file.unlink()
    assert "has the label 34" in refusal("cityscapes", tmp_path)


def test_files_that_are_not_polygon_files_are_refused(tmp_path: Path):
    for objects, message in (
        ([{"label": "unicorn", "polygon": []}], "objects[0] has the label 'unicorn', which Cityscapes does not define"),
        ([{"polygon": []}], "objects[0] has no label"),
        ([{"label": "road"}], "objects[0] has no polygon"),
        ([{"label": "road", "polygon": [[1]]}], "objects[0] has no polygon"),
    ):
        path = polygons(tmp_path, objects)
        assert message in refusal("cityscapes", tmp_path)
        assert str(path) in refusal("cityscapes", tmp_path)
    write_json(path, [])
    assert "no list of objects" in refusal("cityscapes", tmp_path)
    write_json(path, {"objects": [], "imgWidth": 3, "imgHeight": 0})
    assert "no imgWidth" in refusal("cityscapes", tmp_path)


def context_files(root: Path, names: list[str]) -> Path:
    voc = root / "VOCdevkit/VOC2010"
    for name in names:
        (voc / "trainval").mkdir(parents=True, exist_ok=True)
        label_map = np.array([[1, 2, 9], [284, 458, 459], [431, 260, 259]], dtype=np.uint16)
        savemat(voc / "trainval" / f"{name}.mat", {"LabelMap": label_map}, do_compression=True)
        write_pixels(voc / "JPEGImages" / f"{name}.jpg", (3, 3))
    list_path = voc / "ImageSets/Main/val.txt"
    list_path.parent.mkdir(parents=True)
    list_path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return voc


def test_label_maps_of_context_become_its_59_classes(tmp_path: Path):
    voc = context_files(tmp_path, ["2008_000002", "2008_000007"])
    prepared = prepare_masks("context60", tmp_path)
    assert (prepared.written, prepared.folder) == (2, voc / "SegmentationClassContext")
    expected = [[0, 1, 2], [37, 59, 0], [0, 36, 35]]
    assert labels(prepared.folder / "2008_000002.png") == expected
    names = (voc / "ImageSets/SegmentationContext/val.txt").read_text(encoding="utf-8")
    assert names == "2008_000002\n2008_000007\n"
    data = datasets.load(small("context60", images=2), tmp_path)
    assert data.masks[1].load().tolist() == expected
    assert [data.class_names[label] for label in (1, 2, 37, 59, 36, 35)] == [
        "aeroplane", "bag", "person", "wood", "mouse", "mountain",
    ]  # fmt: skip


def test_with_half_of_contexts_label_maps_no_short_list_is_written(tmp_path: Path):
    voc = context_files(tmp_path, ["2008_000002", "2008_000007"])
    (voc / "trainval/2008_000007.mat").rename(tmp_path / "later.mat")
    assert "has 1 label map of the 2 in" in refusal("context", tmp_path)
    assert not (voc / "ImageSets/SegmentationContext").exists()
    (tmp_path / "later.mat").rename(voc / "trainval/2008_000007.mat")
    assert prepare_masks("context", tmp_path).written == 2


def test_what_context_needs_is_one_line(tmp_path: Path):
    message = refusal("context", tmp_path)
    assert "trainval.tar.gz" in message
    assert "ImageSets/Main/val.txt" in message
    voc = context_files(tmp_path, ["2008_000002"])
    (voc / "trainval/2008_000002.mat").write_bytes(b"Entry not found")
    assert "2008_000002.mat is the answer 'entry not found' of a server" in refusal("context", tmp_path)
    (voc / "trainval/2008_000002.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    assert "cannot read LabelMap in" in refusal("context", tmp_path)
    savemat(voc / "trainval/2008_000002.mat", {"LabelMap": np.array([[460]], dtype=np.uint16)})
    assert "not a map of categories up to 459" in refusal("context", tmp_path)


def test_interrupted_work_continues_and_existing_masks_are_kept(tmp_path: Path):
    folder = stuff_maps(tmp_path, [0, 1])
    write_labels(folder / "000000000200.png", np.array([[200]]))
    assert "000000000200.png has the label 200" in refusal("coco-stuff", tmp_path)
    first = folder / "000000000139_labelTrainIds.png"
    assert labels(first) == [[0, 1]]
    assert sorted(path.name for path in folder.iterdir()) == [
        "000000000139.png", "000000000139_labelTrainIds.png", "000000000200.png",
    ]  # fmt: skip
    os.utime(first, (1, 1))
    write_labels(folder / "000000000200.png", np.array([[2]]))
    prepared = prepare_masks("coco-stuff", tmp_path)
    assert (prepared.written, prepared.existing) == (1, 1)
    assert first.stat().st_mtime == 1
    assert (prepare_masks("coco-stuff", tmp_path).written, prepare_masks("coco-stuff", tmp_path).existing) == (0, 2)


def test_maps_with_colours_and_damaged_maps_are_refused(tmp_path: Path):
    folder = stuff_maps(tmp_path, [0])
    Image.new("RGB", (2, 2)).save(folder / "000000000139.png")
    assert "has colours (RGB)" in refusal("coco-object", tmp_path)
    (folder / "000000000139.png").write_bytes(b"no image")
    assert "cannot read" in refusal("coco-object", tmp_path)
    (folder / "000000000139.png").write_bytes(b"<?xml version='1.0'?><Error/>")
    assert "000000000139.png: it is an XML page" in refusal("coco-object", tmp_path)


def test_the_command_reports_what_it_made_and_refuses_in_one_line(tmp_path: Path, capsys):
    stuff_maps(tmp_path, [0, 255])
    assert cli.run_command(["data", "prepare", "coco-object", "--data-root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "1 mask written to" in out
    assert "0 existed already" in out
    for words, message in (
        (["cityscapes", "--data-root", str(tmp_path)], "cityscapes needs"),
        (["coco-stuff", "--data-root", str(tmp_path / "no")], "no does not exist"),
        (["coco-stufff", "--data-root", str(tmp_path)], "did you mean coco-stuff"),
        (["ade20k", "--data-root", str(tmp_path)], "is read as published"),
        (["toybox", "--data-root", str(tmp_path)], "toybox is rendered"),
    ):
        assert cli.run_command(["data", "prepare", *words]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error


def test_real_objects_of_coco_become_masks_of_real_images(real_dir: Path, tmp_path: Path):
    images, instances_path = real_dir / "coco/images", real_dir / "coco/annotations/instances_val2017.part.json"
    if not instances_path.is_file():
        pytest.skip("no instances of COCO")
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/annotations/instances_val2017.json").symlink_to(instances_path)
    prepared = prepare_masks("coco-object", tmp_path)
    names = [image["file_name"] for image in json.loads(instances_path.read_text(encoding="utf-8"))["images"]]
    assert prepared.written == len(names)
    folder = tmp_path / "coco/images/val2017"
    folder.mkdir(parents=True)
    for path in images.rglob("*.jpg"):
        if path.name in names:
            (folder / path.name).symlink_to(path)
    # `load` checks that every mask has the size of its image
    data = datasets.load(small("coco-object", images=len(names)), tmp_path)
    areas = np.zeros(81, dtype=np.int64)
    for mask in data.masks:
        areas += np.bincount(mask.load().ravel(), minlength=81)
    assert areas[0] > 0
    assert areas[1] == areas[1:].max()  # people cover more pixels than any other class
