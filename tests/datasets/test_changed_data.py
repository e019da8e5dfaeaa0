"""The bytes that are hashed are the bytes that are decoded: a file that changes in between is refused and named."""

import os
import pickle
import tarfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.clip_benchmark import IndexedImage
from cosmos_eval.datasets.image_sources import FileImage, ImageSource, UprightImage
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.datasets.mmseg.images_and_masks import MmsegImage, MmsegMask
from cosmos_eval.datasets.perception.crops import CroppedImage
from cosmos_eval.datasets.webdataset_shards import TarImage
from cosmos_eval.engine.image_loading import each_image, image_batches
from cosmos_eval.results.store import RESULT
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.segmentation_on_disk import write_segmentation
from tests.helpers.stand_ins import RandomModel
from tests.helpers.worlds import captions_world
from tests.run.test_segmentation_end_to_end import quick


def write_image(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


class TorchvisionDataset:
    """A dataset like torchvision's, which opens its files itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.open(self.path), 0


def pack_in_tar(path: Path) -> ImageSource:
    """Write a tar with the image as its only member, and return the image in the tar."""
    shard = path.with_suffix(".tar")
    with tarfile.open(shard, "w") as tar:
        tar.add(path, "a.png")
    return TarImage("0/a.png", shard, 512, path.stat().st_size)


IMAGES: dict[str, Callable[[Path], ImageSource]] = {
    "file": lambda path: FileImage("a.png", path),
    "turned": lambda path: UprightImage(FileImage("a.png", path)),
    "mmsegmentation": lambda path: MmsegImage("a.png", path),
    "box": lambda path: CroppedImage("a.png[1,1,4,4]", path, (1, 1, 4, 4)),
    "torchvision": lambda path: IndexedImage("a.png", TorchvisionDataset(path), 0),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_that_changes_after_it_was_hashed_is_refused(tmp_path: Path, kind: str):
    path = write_image(tmp_path / "a.png", 0)
    image = IMAGES[kind](path)
    before = np.asarray(image.load())
    digest = image.digest()
    assert np.array_equal(np.asarray(image.load()), before)
    unpickled = pickle.loads(pickle.dumps(image))  # as workers and ranks receive it
    write_image(path, 1)
    for changed_image in (image, unpickled):
        with pytest.raises(RequestError, match=r"^the image a\.png.* was changed after it was hashed") as caught:
            changed_image.load()
        assert "\n" not in str(caught.value)
    write_image(path, 0)
    assert np.array_equal(np.asarray(unpickled.load()), before)
    assert IMAGES[kind](path).digest() == digest


def test_a_member_of_a_shard_that_changes_is_refused(tmp_path: Path):
    image = pack_in_tar(write_image(tmp_path / "a.png", 0))
    image.digest()
    shard = tmp_path / "a.tar"
    content = bytearray(shard.read_bytes())
    content[512 + 60] ^= 1
    shard.write_bytes(content)
    with pytest.raises(RequestError, match=r"^the image 0/a\.png in .*a\.tar was changed after it was hashed"):
        image.load()


def test_a_mask_that_changes_is_refused(tmp_path: Path):
    def write(label: int) -> None:
        Image.fromarray(np.full((6, 8), label, np.uint8)).save(tmp_path / "a.png")

    write(1)
    mask: Mask = MmsegMask("a", tmp_path / "a.png", classes=3)
    assert mask.verified_labels().tolist() == np.full((6, 8), 1).tolist()  # nothing was hashed yet
    mask.digest()
    write(2)
    with pytest.raises(RequestError, match=r"^the mask a in .*a\.png was changed after it was hashed"):
        mask.verified_labels()


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_file(path: Path) -> None:
    Image.new("L", (8, 8)).save(path.with_name("other.png"))
    path.with_name("other.png").replace(path)


@pytest.mark.parametrize("change", [touch, flip_a_bit, replace_file, Path.unlink])
@pytest.mark.parametrize("files", ["images", "masks"])
def test_a_run_ends_without_a_result_if_an_image_or_a_mask_of_a_segmentation_set_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: str, change: Callable[[Path], None]
):
    write_segmentation(tmp_path, "ade20k")
    load = datasets.load

    def load_and_change(*args: Any, **options: Any) -> Any:
        data = load(*args, **options)
        change(getattr(data, files)[1].path)
        return data

    monkeypatch.setattr(datasets, "load", load_and_change)
    arguments = ("cosmos:untrained-toybox?seed=3", quick("ade20k"), tmp_path)
    if change is touch:  # the same bytes
        assert len(evaluate(*arguments, out=tmp_path / "out", batch_size=8)) == 1
        return
    with pytest.raises(RequestError) as caught:
        evaluate(*arguments, out=tmp_path / "out", batch_size=8)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)
    assert "ADE_val_00000002" in str(caught.value)
    assert not [*(tmp_path / "out").rglob(RESULT), *(tmp_path / "out").rglob("*.parquet")]


def preprocess(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_changed_image_is_refused_in_workers_and_in_the_main_process(tmp_path: Path, workers: int):
    images = [FileImage(f"{i}.png", write_image(tmp_path / f"{i}.png", i)) for i in range(6)]
    for image in images:
        image.digest()
    write_image(tmp_path / "4.png", 40)
    streams: list[Any] = [
        image_batches(images, preprocess, 2, workers),
        each_image(images, preprocess, workers),
    ]
    for stream in streams:
        with pytest.raises(RequestError, match=r"^the image 4\.png in .*4\.png was changed after it was hashed"):
            deque(stream, maxlen=0)


def test_no_result_and_no_feature_of_a_changed_image_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = captions_world(tmp_path, n=6)
    load = datasets.load

    def load_and_change(*args: Any, **options: Any) -> Any:
        data = load(*args, **options)
        data.images[3].path.write_bytes(data.images[2].path.read_bytes())
        return data

    monkeypatch.setattr(datasets, "load", load_and_change)
    with pytest.raises(RequestError, match="was changed after it was hashed"):
        evaluate(RandomModel(), path, tmp_path, out=tmp_path / "out", batch_size=6)
    assert not list((tmp_path / "out").rglob(RESULT))


def test_an_image_that_is_a_named_pipe_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(RequestError, match="named pipe"):
        FileImage("a.png", tmp_path / "a.png").digest()
    with pytest.raises(RequestError, match="named pipe"):
        MmsegMask("a", tmp_path / "a.png", classes=3).load()
