"""One small set of each reader, byte for byte the same with every version of numpy, Pillow and the others: images are
written here and not by a library. `CASES` is what `test_digests.py` takes the fingerprints of."""

import hashlib
import io
import json
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cosmos_eval import datasets
from cosmos_eval.datasets.data import Data
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.datasets.test_datasets_captions import karpathy
from tests.helpers import perception_on_disk, segmentation_on_disk
from tests.helpers.datasets_on_disk import COCO, coco_files, define
from tests.helpers.torchvision_on_disk import food101

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}
A = {"templates": ["a {c}", "the {c}."]}


def png(name: str, width: int = 6, height: int = 5, bits: int = 8, orientation: int = 1) -> bytes:
    """An image whose values follow from its name alone, not compressed: RGB, or grey with 16 bits a value; with an EXIF
    orientation where it is not 1."""
    kind, row = (2, 3 * width) if bits == 8 else (0, 2 * width)
    noise = hashlib.shake_256(name.encode()).digest(row * height)
    lines = b"".join(b"\0" + noise[i * row : (i + 1) * row] for i in range(height))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    if orientation != 1:
        entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
        parts.append((b"eXIf", b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)))
    parts += [(b"IDAT", stored(lines)), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(content)) + label + content + struct.pack(">I", zlib.crc32(label + content))
        for label, content in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def stored(content: bytes) -> bytes:
    """A zlib stream of one block that is not compressed: the same whichever zlib there is."""
    assert len(content) < 2**16
    block = struct.pack("<BHH", 1, len(content), len(content) ^ 0xFFFF)
    return b"\x78\x01" + block + content + struct.pack(">I", zlib.adler32(content))


def write_png(path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(path.name, **options))


def same_everywhere(root: Path, masks: tuple[str, ...] = ()) -> None:
    """Each image below `root` again by `png`, in its size; masks stay: their labels are hashed and not their bytes."""
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in IMAGES and not any(folder in path.parts for folder in masks):
            with Image.open(path) as image:
                width, height = image.size
            path.write_bytes(png(str(path.relative_to(root)), width, height))


def coco(root: Path) -> Data:
    coco_files(root)
    same_everywhere(root)
    return datasets.load(define(root, "retrieval", COCO))


def karpathy_(root: Path) -> Data:
    dataset = karpathy(root)
    same_everywhere(root)
    return datasets.load(define(root, "retrieval", dataset))


def image_folder(root: Path, prompts: dict[str, Any] = A) -> Data:
    for name in ("dog/b.png", "dog/a.JPG", "cat/2.webp", "cat/inner/1.bmp", "Bird/x.gif"):
        write_png(root / "pets" / name)
    return datasets.load(define(root, "classification", {"reader": "image-folder", "path": "pets"}, prompts))


def own_templates(root: Path) -> Data:
    own = {"dog": ["a {c} barks", "a {c}"], "cat": ["it purrs"], "Bird": ["a {c}"]}
    return image_folder(root, {"templates": own})


def imagenet(root: Path) -> Data:
    for wnid, name in (("n01440764", "b"), ("n01440764", "a"), ("n01751748", "c"), ("n15075141", "d")):
        write_png(root / "val" / wnid / f"{name}.JPEG")
    dataset = {"reader": "imagenet", "path": "val", "candidates_without_images": "allow"}
    return datasets.load(define(root, "classification", dataset, {**A, "class_names": [f"c{i}" for i in range(1000)]}))


def cifar(root: Path) -> Data:
    folder = root / "data/cifar-100-python"
    folder.mkdir(parents=True)
    pixels = np.frombuffer(hashlib.shake_256(b"cifar").digest(5 * 3 * 32 * 32), dtype=np.uint8).reshape(5, -1)
    some = {"data": pixels, "fine_labels": [2, 0, 1, 1, 0], "filenames": ["a"] * 5}
    names = {"fine_label_names": ["apple", "aquarium_fish", "baby"]}
    for name, value in {"train": some, "test": some, "meta": names}.items():
        (folder / name).write_bytes(pickle.dumps(value, protocol=2))
    dataset = {"reader": "clip-benchmark", "dataset": "cifar100", "path": "data", "published": False}
    return datasets.load(define(root, "classification", dataset, {**A, "class_names": ["apple", "fish", "baby"]}))


def clip_benchmark(root: Path) -> Data:
    food101(root / "data")
    same_everywhere(root)
    dataset = {"reader": "clip-benchmark", "dataset": "food101", "path": "data"}
    return datasets.load(define(root, "classification", dataset, {**A, "class_names": ["pie", "ribs"]}))


def shards(root: Path, ending: str, contents: list[bytes]) -> dict[str, Any]:
    """A webdataset of one shard; its samples are an image and a file with `ending` each."""
    folder = root / "wds_mine"
    (folder / "test").mkdir(parents=True)
    (folder / "test/nshards.txt").write_text("1\n", encoding="utf-8")
    (folder / "classnames.txt").write_text("cat\ndog\n", encoding="utf-8")
    with tarfile.open(folder / "test/0.tar", "w") as tar:
        for i, content in enumerate(contents):
            for name, member in ((f"s{i}.{ending}", content), (f"s{i}.png", png(f"s{i}"))):
                info = tarfile.TarInfo(name)
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
    return {"reader": "wds", "path": "wds_mine"}


def wds_classes(root: Path) -> Data:
    return datasets.load(define(root, "classification", shards(root, "cls", [b"1", b"0", b"1"]), A))


def wds_captions(root: Path) -> Data:
    return datasets.load(define(root, "retrieval", shards(root, "txt", [b"one\ntwo\n", b"three"])))


def jsonl(root: Path, task: str, *lines: dict[str, Any], **options: Any) -> Data:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (root / "mine.jsonl").write_text(text, encoding="utf-8")
    write_png(root / "a.png")
    write_png(root / "b.jpg")
    write_png(root / "turned.png", orientation=6)
    write_png(root / "deep.png", bits=16)
    write_png(root / "both.png", bits=16, orientation=3)
    prompts = A if task == "classification" else None
    return datasets.load(define(root, task, {"reader": "jsonl", "path": "mine.jsonl", **options}, prompts))


def jsonl_captions(root: Path, **options: Any) -> Data:
    names = ("b.jpg", "a.png", "turned.png", "deep.png", "both.png")
    return jsonl(root, "retrieval", *({"image": name, "captions": [name, "two "]} for name in names), **options)


def jsonl_turned(root: Path) -> Data:
    return jsonl_captions(root, exif="apply")


def jsonl_classes(root: Path) -> Data:
    return jsonl(root, "classification", *({"image": f, "label": c} for f, c in (("b.jpg", "dog"), ("a.png", "cat"))))


def jsonl_pairs(root: Path) -> Data:
    pairs = (("b.jpg", "no", "x"), ("a.png", "nay", "y"))
    return jsonl(
        root, "perception", *({"image": f, "positive": "yes", "negative": n, "subset": s} for f, n, s in pairs)
    )


def perception(name: str) -> Callable[[Path], Data]:
    def load(root: Path) -> Data:
        perception_on_disk.WRITE[name](root)
        same_everywhere(root)
        return datasets.load(perception_on_disk.small(name), root)

    return load


def mmseg(name: str) -> Callable[[Path], Data]:
    masks = ("SegmentationClass", "SegmentationClassContext", "annotations", "gtFine")

    def load(root: Path) -> Data:
        segmentation_on_disk.write_segmentation(root, name)
        same_everywhere(root, masks)
        return datasets.load(segmentation_on_disk.small(name), root)

    return load


def toybox(name: str, limit: int | None = None) -> Callable[[Path], Data]:
    return lambda root: datasets.load(load_benchmark(name), limit=limit)


TOYBOX = ("retrieval", "classification", "perception", "segmentation", "segmentation-csa")
CASES: dict[str, Callable[[Path], Data]] = {
    "coco-captions": coco,
    "karpathy": karpathy_,
    "image-folder": image_folder,
    "image-folder, templates of each class": own_templates,
    "imagenet": imagenet,
    "clip-benchmark, cifar100": cifar,
    "clip-benchmark, food101": clip_benchmark,
    "wds, classification": wds_classes,
    "wds, retrieval": wds_captions,
    "jsonl, retrieval": jsonl_captions,
    "jsonl, retrieval, exif applied": jsonl_turned,
    "jsonl, classification": jsonl_classes,
    "jsonl, perception": jsonl_pairs,
    **{f"mmseg, {name}": mmseg(name) for name in segmentation_on_disk.NAMES},
    **{f"perception, {name}": perception(name) for name in perception_on_disk.NAMES},
    **{f"toybox-{name}": toybox(f"toybox-{name}") for name in TOYBOX},
    **{f"toybox-{name}, limit 7": toybox(f"toybox-{name}", 7) for name in TOYBOX[:4]},
}
