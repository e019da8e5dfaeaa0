"""Conversions: ImageNet's parquet and FER2013's shards become the folders that their publishers' archives make."""

from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from cosmos_eval.datasets.fetch.convert import convert
from cosmos_eval.datasets.fetch.digesting import file_digests
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.table import Artifact, Source
from cosmos_eval.datasets.fetch.transfer import Fetched
from cosmos_eval.progress import Silent
from tests.helpers.fetch_sources import contents, image_bytes, tar_bytes

SOURCES = (Source("hub", "hub", "a/b", files=("*",)),)
IMAGENET = Artifact("imagenet-val", SOURCES, ("imagenet/val",), "terms")
EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
FER = Artifact("fer2013", SOURCES, tuple(f"fer2013/test/{name}" for name in EMOTIONS), "terms")
NAMES = b"angry\ndisgusted\nfearful\nhappy\nneutral\nsad\nsurprised\n"


def fetched(path: Path) -> Fetched:
    return Fetched(path, path.stat().st_size, file_digests(path, {}).sha256, "http://x", 0)


def converted(root: Path, name: str, artifact: Artifact, *paths: Path) -> dict[str, bytes]:
    told: list[bool] = []
    staging = root / "data/.cosmos-eval/incomplete/x"

    def before_move() -> None:
        told.append((root / "data" / artifact.provides[0]).exists())

    convert(name, [fetched(path) for path in paths], artifact, root / "data", staging, before_move, Silent())
    assert told == [False]  # told before a reader sees anything
    assert not staging.exists()
    return contents(root / "data")


def refusal(root: Path, name: str, artifact: Artifact, *paths: Path) -> str:
    with pytest.raises(FetchError) as refused:
        converted(root, name, artifact, *paths)
    assert refused.value.kind == "archive"
    assert "\n" not in str(refused.value)
    assert contents(root / "data") == {}
    return str(refused.value)


def write_rows(path: Path, rows: list[tuple[bytes | None, str | None, int]]) -> Path:
    images = [{"bytes": content, "path": name} for content, name, _ in rows]
    parquet.write_table(
        pyarrow.table({"image": images, "label": [label for *_, label in rows]}), path, row_group_size=2
    )
    return path


def validation_name(number: int, wnid: str = "") -> str:
    return f"ILSVRC2012_val_{number:08d}{f'_{wnid}' if wnid else ''}.JPEG"


def test_imagenets_rows_become_class_folders_with_the_bytes_as_they_were(tmp_path):
    first = write_rows(
        tmp_path / "validation-00000-of-00002.parquet",
        [(image_bytes(i), validation_name(i, "n01440764"), 0) for i in (1, 2, 3)],
    )
    second = write_rows(
        tmp_path / "validation-00001-of-00002.parquet",
        [(image_bytes(4), validation_name(4, "n15075141"), 999), (image_bytes(5), validation_name(5), 1)],
    )
    files = converted(tmp_path, "imagenet-parquet", IMAGENET, first, second)
    expected = {f"imagenet/val/n01440764/{validation_name(i)}": image_bytes(i) for i in (1, 2, 3)}
    expected[f"imagenet/val/n15075141/{validation_name(4)}"] = image_bytes(4)
    expected[f"imagenet/val/n01443537/{validation_name(5)}"] = image_bytes(5)
    assert files == expected


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ((image_bytes(1), validation_name(1, "n01440764"), 5), "labels in another order"),
        ((image_bytes(1), "../../escaped.JPEG", 0), "names its image"),
        ((image_bytes(1), None, 0), "names its image"),
        ((image_bytes(1), validation_name(1), 1000), "has the label 1000"),
        ((image_bytes(1), validation_name(1), -1), "has the label -1"),
        ((None, validation_name(1), 0), "has no image"),
        ((b"<html>", validation_name(1), 0), "has no image"),
        ((image_bytes(2), validation_name(2), 0), "a second time"),
    ],
)
def test_rows_that_are_not_imagenets_are_refused(tmp_path, row, problem):
    path = write_rows(tmp_path / "v.parquet", [(image_bytes(2), validation_name(2), 0), row])
    assert problem in refusal(tmp_path, "imagenet-parquet", IMAGENET, path)
    assert "v.parquet, row 1" in refusal(tmp_path, "imagenet-parquet", IMAGENET, path)


def test_a_damaged_or_other_parquet_is_refused(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "v.parquet", [(image_bytes(2), validation_name(2), 0)])
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[:-20], whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "v.parquet" in refusal(tmp_path, "imagenet-parquet", IMAGENET, path)
    parquet.write_table(pyarrow.table({"a": [1]}), path)
    assert "has no column image or label" in refusal(tmp_path, "imagenet-parquet", IMAGENET, path)
    monkeypatch.setattr("cosmos_eval.datasets.fetch.convert.MOST_ROW_GROUP_BYTES", 10)
    assert "has a row group of" in refusal(tmp_path, "imagenet-parquet", IMAGENET, path)


def write_shards(folder: Path, labels: list[list[str]], names: bytes = NAMES) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for number, shard in enumerate(labels):
        files = {}
        for i, label in enumerate(shard):
            files |= {f"s{i:05d}.cls": label.encode(), f"s{i:05d}.jpg": image_bytes(10 * number + i)}
        paths.append(folder / f"{number}.tar")
        paths[-1].write_bytes(tar_bytes(files))
    (folder / "classnames.txt").write_bytes(names)
    (folder / "nshards.txt").write_bytes(str(len(labels)).encode())
    return [*paths, folder / "classnames.txt", folder / "nshards.txt"]


def test_fer2013s_shards_become_its_class_folders(tmp_path):
    paths = write_shards(tmp_path / "shards", [["0", "6"], ["3"]])
    assert converted(tmp_path, "fer2013-shards", FER, *paths) == {
        "fer2013/test/angry/0-s00000.jpg": image_bytes(0),
        "fer2013/test/surprise/0-s00001.jpg": image_bytes(1),
        "fer2013/test/happy/1-s00000.jpg": image_bytes(10),
    }


def test_shards_with_other_classes_or_labels_are_refused(tmp_path):
    other_order = write_shards(tmp_path / "a", [["0"]], b"happy\nangry\nfear\ndisgust\nneutral\nsad\nsurprise\n")
    assert "names the classes happy" in refusal(tmp_path, "fer2013-shards", FER, *other_order)
    assert "has the label '7'" in refusal(tmp_path, "fer2013-shards", FER, *write_shards(tmp_path / "b", [["7"]]))
    assert "has the label 'x'" in refusal(tmp_path, "fer2013-shards", FER, *write_shards(tmp_path / "c", [["x"]]))
    paths = write_shards(tmp_path / "d", [["1"]])
    paths[0].write_bytes(paths[0].read_bytes()[:700])
    assert "is damaged" in refusal(tmp_path, "fer2013-shards", FER, *paths)
    assert "hold no images" in refusal(tmp_path, "fer2013-shards", FER, *write_shards(tmp_path / "e", [[]]))


def test_a_killed_conversion_keeps_whole_images(tmp_path, monkeypatch):
    paths = write_shards(tmp_path / "shards", [["0", "6"], ["3"]])
    staging = tmp_path / "data/.cosmos-eval/incomplete/x"
    files = [fetched(path) for path in paths]
    room = []

    def killed(folder, needed):
        room.append(folder)
        raise KeyboardInterrupt

    convert_one = "cosmos_eval.datasets.fetch.convert."
    monkeypatch.setattr(convert_one + "CHECK_EVERY", 1)
    monkeypatch.setattr(convert_one + "require_room", lambda *a: room.append(a) or (len(room) == 3 and killed(*a)))
    with pytest.raises(KeyboardInterrupt):
        convert("fer2013-shards", files, FER, tmp_path / "data", staging, lambda: None, Silent())
    kept = {path.name: path.stat().st_ino for path in (staging / "files").rglob("*.jpg")}
    assert sorted(kept) == ["0-s00000.jpg", "0-s00001.jpg"]
    monkeypatch.undo()
    convert("fer2013-shards", files, FER, tmp_path / "data", staging, lambda: None, Silent())
    after = {path.name: path.stat().st_ino for path in (tmp_path / "data/fer2013").rglob("*.jpg")}
    assert kept.items() <= after.items()
    assert len(after) == 3
