"""WebDataset shards as clip-benchmark publishes them."""

import gzip
import io
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_benchmark.datasets.builder import build_dataset
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.data import ClassificationData, RetrievalData
from cosmos_eval.datasets.webdataset_shards import TarImage
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.run.evaluate import evaluate
from tests.core.wrong_files import WRONG_FILES
from tests.helpers.datasets_on_disk import define
from tests.helpers.tiny_models import Colours

WDS = {"reader": "wds", "path": "wds_mine"}
Member = tuple[str, bytes]


def make_image(seed: int, kind: str = "png") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"lossless": True} if kind == "webp" else {}))
    return buffer.getvalue()


def write_tar(path: Path, members: list[Member]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def shards(root: Path) -> Path:
    """Two shards of two samples, with images of two formats."""
    folder = root / "wds_mine"
    write_tar(
        folder / "test/0.tar",
        [
            ("s0.cls", b"1"),
            ("s0.png", make_image(0)),
            ("s0.json", b"{}"),
            ("s1.webp", make_image(1, "webp")),
            ("s1.cls", b"0"),
        ],
    )
    write_tar(
        folder / "test/1.tar",
        [("s2.png", make_image(2)), ("s2.cls", b"1\n"), ("s3.png", make_image(0)), ("s3.cls", b"2")],
    )
    (folder / "test/nshards.txt").write_text("2\n", encoding="utf-8")
    (folder / "classnames.txt").write_text("cat\ndog \nfish\n", encoding="utf-8")
    (folder / "zeroshot_classification_templates.txt").write_text("a {c}\nthe {c}.\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["coco-captions-wds", "flickr30k-wds", "flickr8k-wds"])
def test_the_shards_of_captions_that_clip_benchmark_publishes_are_read(tmp_path: Path, name: str):
    """Files are named s0000000.jpg and s0000000.txt, with a caption a line; there are no class files."""
    benchmark = load_benchmark(name)
    folder = tmp_path / benchmark.dataset["path"][0]
    for shard in range(2):
        members = []
        for i in range(2):
            sample = f"s{2 * shard + i:07d}"
            members += [
                (f"{sample}.jpg", make_image(2 * shard + i, "jpeg")),
                (f"{sample}.txt", b"a dog\n A dog runs.\nx"),
            ]
        write_tar(folder / f"test/{shard}.tar", members)
    (folder / "test/nshards.txt").write_text("2", encoding="utf-8")
    small = replace(benchmark, dataset={**benchmark.dataset, "expected": {"images": 4, "texts": 12}})
    data = datasets.load(small, tmp_path)
    assert isinstance(data, RetrievalData)
    assert data.image_of_text.tolist() == np.repeat(np.arange(4), 3).tolist()
    assert data.texts[:3] == ["a dog", " A dog runs.", "x"]
    assert (
        f"needs {benchmark.dataset['expected']['images']:,} images" in datasets.check(benchmark, tmp_path).problems[0]
    )


def test_the_shards_of_fer2013_are_read_with_the_names_of_clip_benchmark(tmp_path: Path):
    benchmark = load_benchmark("fer2013-wds")
    folder = tmp_path / "wds_fer2013"
    members = [[(f"s{i:07d}.jpg", make_image(i, "jpeg")), (f"s{i:07d}.cls", str(i).encode())] for i in range(7)]
    write_tar(folder / "test/0.tar", [member for sample in members for member in sample])
    (folder / "test/nshards.txt").write_text("1", encoding="utf-8")
    small = replace(benchmark, dataset={**benchmark.dataset, "expected": {"images": 7, "classes": 7}})
    data = datasets.load(small, tmp_path)
    assert list(data.class_names) == ["angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised"]
    assert len(data.templates) == 6
    for names, problem in (
        ("angry,disgust,fear,happy,neutral,sad,surprise", ""),
        ("happy,angry,x,y,z,sad,s", "in anoth"),
    ):
        (folder / "classnames.txt").write_text(names.replace(",", "\n"), encoding="utf-8")
        assert problem in " ".join(datasets.check(small, tmp_path).problems)
        assert bool(problem) == bool(datasets.check(small, tmp_path).problems)


def refusal(tmp_path: Path, dataset: dict[str, Any] = WDS, prompts: dict[str, Any] | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        datasets.load(define(tmp_path, "classification", dataset, prompts or {"templates": "dataset"}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore:.*shardshuffle")
def test_samples_labels_and_prompts_are_those_that_clip_benchmark_reads(tmp_path: Path):
    folder = shards(tmp_path)
    dataset = {**WDS, "expected": {"images": 4, "classes": 3}}
    data = datasets.load(define(tmp_path, "classification", dataset, {"templates": "dataset"}))
    assert isinstance(data, ClassificationData)
    assert [image.key for image in data.images] == ["0/s0.png", "0/s1.webp", "1/s2.png", "1/s3.png"]
    assert data.labels.tolist() == [1, 0, 1, 2]
    assert data.class_names == ["cat", "dog", "fish"]
    assert data.templates == ["a {c}", "the {c}."]
    assert data.images[0].digest() == data.images[3].digest() != data.images[1].digest()
    theirs = build_dataset("wds/mine", root=str(folder), transform=lambda image: image, split="test")
    expected = [(np.asarray(image.convert("RGB")).tolist(), label) for image, label in theirs]
    ours = [(np.asarray(image.load()).tolist(), label) for image, label in zip(data.images, data.labels, strict=True)]
    assert ours == expected
    assert (theirs.classes, theirs.templates) == (data.class_names, data.templates)


def test_a_definitions_own_prompts_replace_those_on_disk(tmp_path: Path):
    folder = shards(tmp_path)
    (folder / "classnames.txt").unlink()
    (folder / "zeroshot_classification_templates.txt").unlink()
    message = refusal(tmp_path)
    assert "classnames.txt, which is not there" in message
    assert "templates.txt, which is not there" in message
    prompts = {"class_names": ["a", "b", "c"], "templates": ["{c}"]}
    data = datasets.load(define(tmp_path, "classification", WDS, prompts))
    assert isinstance(data, ClassificationData)
    assert data.class_names == ["a", "b", "c"]


@pytest.mark.filterwarnings("ignore:.*shardshuffle")
def test_a_published_class_without_a_name_keeps_its_place_and_a_stray_blank_line_is_refused(tmp_path: Path):
    folder = shards(tmp_path)
    (folder / "classnames.txt").write_text("cat\n\nfish\n", encoding="utf-8")
    assert f"has an empty line in {folder / 'classnames.txt'}: line 2" in refusal(tmp_path)
    definition = define(
        tmp_path, "classification", {**WDS, "expected": {"images": 4, "classes": 3}}, {"templates": "dataset"}
    )
    data = datasets.load(definition)
    assert isinstance(data, ClassificationData)
    theirs = build_dataset("wds/mine", root=str(folder), transform=lambda image: image, split="test")
    assert data.class_names == ["cat", "", "fish"] == theirs.classes
    assert any("class 1 has no name in classnames.txt" in remark for remark in data.remarks)
    (result,) = evaluate(Colours(), definition, tmp_path)
    assert 0 <= result.metrics["top1"].value <= 1
    (folder / "classnames.txt").write_text("cat\n\ndog\nfish\n", encoding="utf-8")  # four lines for three classes
    assert "line 2; it needs one class name a line" in refusal(
        tmp_path, {**WDS, "expected": {"images": 4, "classes": 3}}
    )


def test_captions_are_one_a_line(tmp_path: Path):
    folder = tmp_path / "wds_mine"
    write_tar(
        folder / "test/0.tar",
        [("s0.png", make_image(0)), ("s0.txt", b"one\ntwo\n"), ("s1.png", make_image(1)), ("s1.txt", b"three")],
    )
    (folder / "test/nshards.txt").write_text("1", encoding="utf-8")
    data = datasets.load(define(tmp_path, "retrieval", WDS))
    assert isinstance(data, RetrievalData)
    assert data.texts == ["one", "two", "three"]
    assert data.image_of_text.tolist() == [0, 0, 1]


def test_missing_shards_are_counted_and_named(tmp_path: Path):
    folder = shards(tmp_path)
    (folder / "test/nshards.txt").write_text("5", encoding="utf-8")
    (folder / "test/0.tar").unlink()
    message = refusal(tmp_path, {**WDS, "needs": "fetch it"})
    assert "needs 5 shards" in message
    assert "found 1; missing: 0.tar, 2.tar, 3.tar and 1 more (fetch it)" in message
    (folder / "test/nshards.txt").write_text("many", encoding="utf-8")
    assert "'many'" in refusal(tmp_path)
    (folder / "test/nshards.txt").unlink()
    assert "nshards.txt, which is not there" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("s0.png", b"x")], "the sample s0 without .cls"),
        ([("s0.cls", b"0"), ("s0.gif", b"x")], "the sample s0 without an image"),
        ([("s0.png", b"x"), ("s0.cls", b"cat")], "the label 'cat' of 0/s0.png"),
        ([("s0.png", b"x"), ("s0.cls", b"7")], "1 label outside 0 to 2: 0/s0.png (7)"),
        ([("s0.png", b"x"), ("s0.cls", b"0"), ("s0.png", b"y")], "s0.png is in it twice"),
        ([], "has no images"),
    ],
)
def test_an_invalid_sample_is_named(tmp_path: Path, members: list[Member], message: str):
    folder = shards(tmp_path)
    write_tar(folder / "test/0.tar", members)
    (folder / "test/nshards.txt").write_text("1", encoding="utf-8")
    assert message in refusal(tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 600, 1100])
def test_a_shard_that_is_cut_short_is_refused(tmp_path: Path, keep: int):
    folder = shards(tmp_path)
    path = folder / "test/1.tar"
    path.write_bytes(path.read_bytes()[:keep])
    assert "1.tar" in refusal(tmp_path)


def test_a_compressed_shard_is_refused(tmp_path: Path):
    folder = shards(tmp_path)
    with tarfile.open(folder / "test/1.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("s2.cls"))
    assert "cannot read the shard" in refusal(tmp_path)


def test_deep_checking_names_the_image_in_the_shard(tmp_path: Path):
    folder = shards(tmp_path)
    write_tar(folder / "test/1.tar", [("s2.png", make_image(2)[:60]), ("s2.cls", b"2")])
    check = datasets.check(define(tmp_path, "classification", WDS, {"templates": "dataset"}), deep=True)
    assert len(check.problems) == 1
    assert "1/s2.png" in check.problems[0]


def test_of_several_folders_the_one_that_has_the_shards_is_read(tmp_path: Path):
    shards(tmp_path)
    (tmp_path / "wds/wds_mine/train").mkdir(parents=True)
    dataset = {**WDS, "path": ["wds/wds_mine", "wds_mine"]}
    data = datasets.load(define(tmp_path, "classification", dataset, {"templates": "dataset"}))
    assert len(data.images) == 4
    shutil.rmtree(tmp_path / "wds_mine")
    assert f"{tmp_path / 'wds/wds_mine/test/nshards.txt'}, which is not there" in refusal(tmp_path, dataset)


def damaged_tars() -> dict[str, tuple[Any, str]]:
    """Name of a damage -> a function that damages a shard's bytes, and the message."""

    def flipped(content: bytes) -> bytes:
        position = content.index(b"s3.png")
        return content[: position + 10] + b"U" + content[position + 11 :]

    def cut_before_a_header(content: bytes) -> bytes:
        return content[: content.index(b"s3.png")]

    return {
        "header": (flipped, "is damaged (its checksum is wrong)"),
        "border": (cut_before_a_header, "without the two empty blocks that end a tar: it was cut short"),
        "joined": (lambda content: content * 2, "data follow the end of the archive"),
        "gzip": (gzip.compress, "it is compressed (gzip): unpack it first"),
        "pointer": (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer"),
        "xml": (lambda _: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "it is an XML page"),
        "page": (lambda _: b"<!DOCTYPE html><title>404</title>", "it is an HTML page"),
    }


@pytest.mark.parametrize("damage", damaged_tars())
def test_a_shard_that_is_no_complete_tar_is_refused_and_never_read_in_part(tmp_path: Path, damage: str):
    change, message = damaged_tars()[damage]
    path = shards(tmp_path) / "test/1.tar"
    path.write_bytes(change(path.read_bytes()))
    line = refusal(tmp_path)
    assert f"cannot read the shard {path}: " in line
    assert message in line


def test_a_shard_that_ends_with_one_empty_block_is_remarked_each_time_it_is_read(tmp_path: Path):
    path = shards(tmp_path) / "test/1.tar"
    content = path.read_bytes().rstrip(b"\0")
    end = -(-len(content) // 512) * 512
    path.write_bytes(content.ljust(end + 512, b"\0"))
    for _ in range(2):
        data = datasets.load(define(tmp_path, "classification", WDS, {"templates": "dataset"}))
        (remark,) = data.remarks
        assert remark.startswith(
            "1 of 2 shards has one empty block at the end where a tar has two, and may be cut short"
        )
        assert remark.endswith(f"the original's: 1.tar (at byte {end:,})")


def test_shards_that_are_not_announced_and_shards_without_a_sample_are_remarked(tmp_path: Path):
    folder = shards(tmp_path)
    allowed = {**WDS, "candidates_without_images": "allow"}

    def remarks() -> list[str]:
        data = datasets.load(define(tmp_path, "classification", allowed, {"templates": "dataset"}))
        return [remark for remark in data.remarks if "classes" not in remark]

    (folder / "test/._0.tar").write_bytes(b"of macOS")
    assert remarks() == []
    (folder / "test/nshards.txt").write_text("1")
    assert remarks() == ["nshards.txt announces 1 shard, so others are not read: 1.tar"]
    (folder / "test/nshards.txt").write_text("2")
    write_tar(folder / "test/1.tar", [("._s2.png", b"x")])
    assert remarks() == ["1 of 2 shards has no sample: 1.tar"]


@pytest.mark.parametrize("content", WRONG_FILES)
def test_whatever_is_in_place_of_captions_or_of_a_shard_is_named(tmp_path: Path, content: bytes):
    folder = shards(tmp_path)
    write_tar(folder / "test/1.tar", [("s2.png", make_image(2)), ("s2.cls", content)])
    assert f"cannot read s2.cls of {folder}/test/1.tar: it {WRONG_FILES[content]}" in refusal(tmp_path)
    (folder / "test/1.tar").write_bytes(content)
    assert f"it {WRONG_FILES[content]}" in (line := refusal(tmp_path))
    assert "fetch it again" not in line


def test_a_repeated_class_name_is_remarked(tmp_path: Path):
    folder = shards(tmp_path)
    names = (folder / "classnames.txt").read_text().splitlines()
    (folder / "classnames.txt").write_text("\n".join([names[0], names[0], *names[2:]]))
    data = datasets.load(define(tmp_path, "classification", WDS, {"templates": "dataset"}))
    assert data.remarks == (f"several classes have the same name and tie: {names[0]}",)


def test_separated_members_of_a_sample_belong_together_by_name(tmp_path: Path):
    folder = shards(tmp_path)
    definition = define(tmp_path, "classification", WDS, {"templates": "dataset"})
    before = datasets.load(definition)
    images = [("s2.png", make_image(2)), ("s3.png", make_image(0))]
    write_tar(folder / "test/1.tar", [*images, ("s2.cls", b"1\n"), ("s3.cls", b"2")])
    assert datasets.load(definition).fingerprint == before.fingerprint


def test_files_of_macos_and_folders_are_no_samples(tmp_path: Path):
    folder = shards(tmp_path)
    members = [("./", b""), ("._s2.png", b"x"), ("__MACOSX/s9.png", b"x"), (".DS_Store", b"x")]
    write_tar(folder / "test/1.tar", [*members, ("s2.png", make_image(2)), ("s2.cls", b"2")])
    with tarfile.open(folder / "test/1.tar", "a") as tar:
        member = tarfile.TarInfo("s9.jpg")
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
    data = datasets.load(define(tmp_path, "classification", WDS, {"templates": "dataset"}))
    assert [image.key for image in data.images] == ["0/s0.png", "0/s1.webp", "1/s2.png"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("s0.png", b"x"), ("s0.cls", b"9" * 5000)], "the label '9999"),
        ([("s0.png", b"x"), ("s0.cls", b"-1")], "the label '-1'"),
        ([("s0.png", b"x"), ("s0.cls", "\u0661".encode())], "which must be a class index from 0"),
        ([("s0.png", b"x"), ("s0.cls", b"1" * (2**24 + 1))], "16,777,217 bytes in s0.cls"),
        ([("s0.png", b"x"), ("s0.cls", b"\xff")], "not a text in UTF-8"),
        ([("im0.5.png", b"x"), ("im0.5.cls", b"1")], "names are cut at the first dot (im0.5.png is sample im0)"),
        ([("../s0.png", b"x"), ("../s0.cls", b"1")], "leads out of the tar"),
    ],
)
def test_labels_and_names_without_sense_are_refused(tmp_path: Path, members: list[Member], message: str):
    folder = shards(tmp_path)
    write_tar(folder / "test/0.tar", members)
    (folder / "test/nshards.txt").write_text("1", encoding="utf-8")
    line = refusal(tmp_path)
    assert message in line
    assert len(line) < 600


def test_a_link_in_place_of_an_image_is_refused(tmp_path: Path):
    folder = shards(tmp_path)
    with tarfile.open(folder / "test/1.tar", "w") as tar:
        member = tarfile.TarInfo("s2.png")
        member.type, member.linkname = tarfile.LNKTYPE, "../0/s0.png"
        tar.addfile(member)
    assert "s2.png is a hard link in the tar: pack with --hard-dereference" in refusal(tmp_path)


def test_a_billion_announced_shards_are_refused_at_once(tmp_path: Path):
    folder = shards(tmp_path)
    (folder / "test/nshards.txt").write_text("1000000000", encoding="utf-8")
    assert "needs 1,000,000,000 shards" in refusal(tmp_path)
    (folder / "test/nshards.txt").write_text("1" * 5000, encoding="utf-8")
    assert "must be the number of shards" in refusal(tmp_path)


def test_a_named_pipe_in_place_of_a_shard_does_not_block(tmp_path: Path):
    os.mkfifo(tmp_path / "0.tar")
    with pytest.raises(RequestError, match="is a named pipe"):
        TarImage("0/a.jpg", tmp_path / "0.tar", 512, 9).content()
