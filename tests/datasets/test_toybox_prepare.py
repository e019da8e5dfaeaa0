"""toybox on disk: readers of each format get the content of the in-memory data; folders are complete or absent."""

import hashlib
import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.toybox import (
    CLASSES,
    SHAPES,
    captions,
    class_scenes,
    distinct_scenes,
    instances,
    layout_writers,
    make_scene,
    mask,
    prepare,
    record,
    render,
)
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark

SMALL = {"seed": 2, "train": 7, "val": 3, "test": 6, "per_class": 1}


@pytest.fixture(scope="module")
def toybox_root(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("data") / "toybox", **SMALL)


@pytest.fixture(scope="module")
def scenes():
    return distinct_scenes(2, "test", 6)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def contents(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_pycocotools_reads_captions_and_masks(toybox_root, scenes):
    from pycocotools.coco import COCO

    coco_captions = COCO(toybox_root / "coco/annotations/captions_val2017.json")
    coco_instances = COCO(toybox_root / "coco/annotations/instances_val2017.json")
    assert [category["name"] for category in coco_instances.loadCats(coco_instances.getCatIds())] == list(SHAPES)
    for image_id, scene in enumerate(scenes, start=1):
        (image,) = coco_captions.loadImgs(image_id)
        np.testing.assert_array_equal(pixels(toybox_root / "coco/images/val2017" / image["file_name"]), render(scene))
        texts = [annotation["caption"] for annotation in coco_captions.imgToAnns[image_id]]
        assert texts == list(captions(scene).full)
        annotations = coco_instances.imgToAnns[image_id]
        assert len(annotations) == len(scene.objects)
        instance_map = instances(scene)
        for number, (annotation, scene_object) in enumerate(zip(annotations, scene.objects, strict=True), start=1):
            inside = coco_instances.annToMask(annotation).astype(bool)
            np.testing.assert_array_equal(inside, instance_map == number)
            assert SHAPES[annotation["category_id"] - 1] == scene_object.shape
            assert annotation["area"] == inside.sum()
            x, y, w, h = annotation["bbox"]
            assert (w, h) == (inside.any(0).sum(), inside.any(1).sum())
            assert (x, y) == (inside.any(0).argmax(), inside.any(1).argmax())


def test_karpathys_file_holds_both_splits(toybox_root, scenes):
    images = json.loads((toybox_root / "flickr30k/dataset_flickr30k.json").read_text())["images"]
    expected = [("test", scene) for scene in scenes] + [("val", scene) for scene in distinct_scenes(2, "val", 3)]
    assert len(images) == len(expected)
    ids = []
    for image, (split, scene) in zip(images, expected, strict=True):
        assert image["split"] == split
        assert [sentence["raw"] for sentence in image["sentences"]] == list(captions(scene).full)
        np.testing.assert_array_equal(pixels(toybox_root / "flickr30k/images" / image["filename"]), render(scene))
        ids += image["sentids"]
    assert ids == list(range(len(ids)))


def test_torchvision_reads_the_class_folders(toybox_root):
    from torchvision.datasets import ImageFolder

    folder = ImageFolder(toybox_root / "imagenet/val")
    assert folder.classes == layout_writers.wnids()
    assert (toybox_root / "imagenet/classnames.txt").read_text().splitlines() == list(CLASSES)
    labelled = class_scenes(2, "test", 1)
    assert [label for _, label in folder.samples] == [label for label, _ in labelled]
    for index in (0, 17, 47):
        np.testing.assert_array_equal(np.asarray(folder[index][0]), render(labelled[index][1]))


@pytest.mark.parametrize("train", [True, False])
def test_torchvision_reads_cifar100_if_it_expects_the_checksums_of_these_files(toybox_root, train, monkeypatch):
    from torchvision.datasets import CIFAR100

    root = toybox_root / "cifar100/cifar-100-python"
    sums = {name: hashlib.md5((root / name).read_bytes()).hexdigest() for name in ("train", "test", "meta")}
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sums["meta"]})
    data = CIFAR100(toybox_root / "cifar100", train=train)
    labelled = class_scenes(2, "train" if train else "test", 1)
    assert data.classes == list(CLASSES)
    assert data.targets == [label for label, _ in labelled]
    np.testing.assert_array_equal(data.data, [render(scene, 32) for _, scene in labelled])


def test_cifars_strings_can_be_read_as_bytes_and_as_text_like_the_originals(toybox_root):
    content = (toybox_root / "cifar100/cifar-100-python/test").read_bytes()
    as_text, as_bytes = pickle.loads(content, encoding="latin1"), pickle.loads(content, encoding="bytes")
    assert [key.encode() for key in as_text] == list(as_bytes)
    np.testing.assert_array_equal(as_text["data"], as_bytes[b"data"])
    assert as_bytes[b"coarse_labels"] == [label // 8 for label in as_bytes[b"fine_labels"]]
    assert as_text["filenames"][0].endswith(".png")


def test_vocs_masks_are_palette_pngs_with_the_same_labels(toybox_root, scenes):
    root = toybox_root / "voc/VOC2012"
    names = (root / "ImageSets/Segmentation/val.txt").read_text().split()
    assert len(names) == len(scenes)
    for name, scene in zip(names, scenes, strict=True):
        np.testing.assert_array_equal(pixels(root / f"JPEGImages/{name}.jpg"), render(scene))
        for folder, expected in (("SegmentationClass", mask(scene)), ("SegmentationObject", instances(scene))):
            with Image.open(root / folder / f"{name}.png") as image:
                assert image.mode == "P"
                assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
                np.testing.assert_array_equal(np.asarray(image), expected)


def test_webdataset_reads_the_shards(toybox_root):
    import webdataset as wds

    shards = sorted(str(path) for path in (toybox_root / "shards").glob("*.tar"))
    samples = list(wds.WebDataset(shards, shardshuffle=False, empty_check=False).decode("rgb8"))
    assert len(samples) == 7
    for index, sample in enumerate(samples):
        scene = make_scene(2, "train", index)
        assert sample["__key__"] == scene.key
        assert sample["json"] == record(scene)
        np.testing.assert_array_equal(sample["png"], render(scene))


def test_shards_hold_a_fixed_number_of_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(layout_writers, "SHARD_SIZE", 4)
    scenes = [make_scene(0, "train", i) for i in range(9)]
    assert layout_writers.write_shards(tmp_path / "shards", scenes, layout_writers.ImageWriter(16), lambda n: None) == 3
    assert [path.name for path in sorted((tmp_path / "shards").iterdir())] == [f"train-{i:04d}.tar" for i in range(3)]


@pytest.mark.parametrize("name", ["coco", "flickr30k"])
def test_the_real_readers_give_the_in_memory_retrieval_data(toybox_root, name):
    in_memory = datasets.load(
        Benchmark("m", 1, "retrieval", {"reader": "toybox", "split": "test", "seed": 2, "scenes": 6}, {})
    )
    on_disk = datasets.load(load_benchmark(toybox_root / f"toybox-{name}.yaml"), toybox_root)
    assert list(on_disk.texts) == list(in_memory.texts)
    np.testing.assert_array_equal(on_disk.image_of_text, in_memory.image_of_text)
    for read, rendered in zip(on_disk.images, in_memory.images, strict=True):
        assert read.load().tobytes() == rendered.load().tobytes()


def test_the_real_reader_gives_the_in_memory_classification_data(toybox_root):
    in_memory = datasets.load(
        Benchmark("m", 1, "classification", {"reader": "toybox", "split": "test", "seed": 2, "per_class": 1}, {})
    )
    on_disk = datasets.load(load_benchmark(toybox_root / "toybox-imagenet.yaml"), toybox_root)
    assert on_disk.labels.tolist() == in_memory.labels.tolist()
    assert list(on_disk.class_names) == list(in_memory.class_names)
    assert list(on_disk.templates) == list(in_memory.templates)
    for read, rendered in zip(on_disk.images, in_memory.images, strict=True):
        assert read.load().tobytes() == rendered.load().tobytes()


def test_the_shipped_definition_has_the_templates_of_the_written_one(toybox_root):
    assert (
        load_benchmark("toybox-classification").resolve_prompts().templates
        == load_benchmark(toybox_root / "toybox-imagenet.yaml").resolve_prompts().templates
    )


def test_two_runs_write_the_same_bytes(toybox_root, tmp_path):
    assert contents(prepare(tmp_path / "again", **SMALL)) == contents(toybox_root)


def test_jpeg_images_are_jpeg_and_near_the_others(tmp_path):
    root = prepare(tmp_path / "jpeg", **{**SMALL, "test": 2}, jpeg=True)
    path = root / "coco/images/val2017/000000000001.jpg"
    with Image.open(path) as image:
        assert image.format == "JPEG"
    assert np.abs(pixels(path).astype(int) - render(distinct_scenes(2, "test", 1)[0])).mean() < 12
    assert len(list((root / "imagenet/val").rglob("*.JPEG"))) == 48


def test_a_complete_folder_is_kept(toybox_root):
    before = {path: path.stat().st_mtime_ns for path in toybox_root.rglob("*")}
    assert prepare(toybox_root, **SMALL) == toybox_root
    assert {path: path.stat().st_mtime_ns for path in toybox_root.rglob("*")} == before


def test_other_settings_or_other_files_are_refused_and_nothing_is_changed(toybox_root, tmp_path):
    before = contents(toybox_root)
    with pytest.raises(RequestError, match=r"test 6 \(requested: 5\)"):
        prepare(toybox_root, **{**SMALL, "test": 5})
    assert contents(toybox_root) == before
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(RequestError, match="has other files than toybox"):
        prepare(tmp_path, **SMALL)
    assert contents(tmp_path).keys() == {"mine.txt"}
    with pytest.raises(RequestError, match="per_class of at least 1"):
        prepare(tmp_path / "new", per_class=0)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(layout_writers, "write_voc", fail)
    with pytest.raises(type(error)):
        prepare(tmp_path / "toybox", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_dataset_and_the_next_run_writes_it(tmp_path):
    out = tmp_path / "toybox"
    program = (
        "from cosmos_eval.datasets.toybox import layout_writers, prepare\nimport time\n"
        "def hang(*_): print('here', flush=True); time.sleep(600)\n"
        f"layout_writers.write_voc = hang\nprepare({str(out)!r}, **{SMALL!r})"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    (leftover,) = tmp_path.iterdir()
    reporter = RecordingReporter()
    assert (prepare(out, **SMALL, reporter=reporter) / "toybox.json").is_file()
    assert str(leftover) in reporter.lines[0]
    assert reporter.done == reporter.total
    assert not leftover.exists()


class RecordingReporter:
    """A reporter that records its notes and the total of its task."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done = self.total = 0

    def task(self, description, total, unit="it"):
        from contextlib import nullcontext

        self.total = total

        def advance(n):
            self.done += n

        return nullcontext(advance)

    def note(self, line):
        self.lines.append(line)
