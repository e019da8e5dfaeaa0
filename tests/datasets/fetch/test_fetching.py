"""A fetch plan carried out against servers on 127.0.0.1: what arrives, what is asked again, what a failure leaves."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosmos_eval.datasets.fetch import fetching
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.fetching import fetch
from cosmos_eval.datasets.fetch.manifest import read_manifest
from tests.helpers.fetch_sources import (
    COCO,
    FAST,
    Internet,
    contents,
    hub_files,
    image_bytes,
    small_internet,
    zip_bytes,
)
from tests.helpers.hub_server import COMMIT

ALL = ("tiny-wds", "tiny-sst2", "tiny-coco", "tiny-sugar", "tiny-stuff")


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with small_internet(tmp_path / "definitions") as served:
        yield served


def state_files(root: Path) -> list[str]:
    """What is left in the state folder beside the manifest."""
    folder = root / ".cosmos-eval"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != "fetched.json")


def test_every_kind_of_source_becomes_what_readers_read_and_nothing_else_stays(internet: Internet, tmp_path: Path):
    root = tmp_path / "data"
    report = fetch(internet.plan(root, *ALL), network=FAST)
    assert report.failed == ()
    files = contents(root)
    wanted = {f"wds/wds_tiny/{name}": body for name, body in hub_files().items() if name[:5] not in ("train", "READM")}
    wanted |= {f"coco/images/val2017/{name:012d}.jpg": image_bytes(i) for i, name in enumerate(COCO)}
    assert wanted.items() <= files.items()
    assert len(files) == len(wanted) + 4 + 1 + 7 + 2 * 3  # sst2, captions, sugarcrepe, maps and the masks made of them
    assert not any("MACOSX" in name or "/._" in name or "train" in name or "instances" in name for name in files)
    assert state_files(root) == []
    assert internet.server.starts("zips/val2017.zip") == [0]  # once for three benchmarks


def test_the_manifest_says_where_each_file_came_from(internet: Internet, tmp_path: Path):
    fetch(internet.plan(tmp_path, "tiny-wds", "tiny-stuff"), network=FAST)
    manifest = read_manifest(tmp_path)
    assert sorted(manifest) == ["maps", "val2017", "wds-tiny"]
    wds = manifest["wds-tiny"]
    assert (wds["source"], wds["revision"]) == ("clip-benchmark", COMMIT)  # the whole commit of a short one
    assert [file["name"] for file in wds["files"]][-1] == "zeroshot_classification_templates.txt"
    (file,) = manifest["maps"]["files"]  # without a checksum in the table: what came is written down
    assert (file["size"], file["url"]) == (
        len(internet.server.files["zips/stuffthingmaps.zip"]),
        internet.url("zips/stuffthingmaps.zip"),
    )


def test_what_is_there_is_neither_planned_nor_asked_for_again(internet: Internet, tmp_path: Path):
    fetch(internet.plan(tmp_path, *ALL), network=FAST)
    before, asked = contents(tmp_path), len(internet.server.requests) + len(internet.hub.server.requests)
    again = internet.plan(tmp_path, *ALL)
    assert again.fetched == ()
    assert fetch(again, network=FAST).fetched == ()
    assert contents(tmp_path) == before
    assert len(internet.server.requests) + len(internet.hub.server.requests) == asked


def test_archives_are_kept_if_that_is_asked_for(internet: Internet, tmp_path: Path):
    fetch(internet.plan(tmp_path, "tiny-coco"), network=FAST, keep_archives=True)
    kept = [path.name for path in (tmp_path / ".cosmos-eval/downloads").rglob("*.zip")]
    assert sorted(kept) == ["annotations.zip", "val2017.zip"]


def test_a_mirror_is_taken_where_the_first_source_fails(internet: Internet, tmp_path: Path):
    internet.server.files["mirror/val2017.zip"] = internet.server.files.pop("zips/val2017.zip")
    report = fetch(internet.plan(tmp_path, "tiny-coco"), network=FAST)
    assert report.failed == ()
    assert read_manifest(tmp_path)["val2017"]["source"] == "mirror"
    assert (tmp_path / "coco/images/val2017/000000000139.jpg").read_bytes() == image_bytes(0)


def test_one_that_fails_from_all_sources_does_not_keep_the_others(internet: Internet, tmp_path: Path):
    del internet.server.files["zips/val2017.zip"]
    report = fetch(internet.plan(tmp_path, "tiny-coco", "tiny-wds"), network=FAST)
    assert sorted(report.fetched) == ["captions", "wds-tiny"]
    (line,) = report.failed
    assert line.startswith("val2017: publisher: ")
    assert "404" in line
    assert "mirror: " in line
    assert "\n" not in line


def test_a_wrong_checksum_leaves_nothing_that_a_reader_would_take(internet: Internet, tmp_path: Path):
    whole = internet.server.files["zips/val2017.zip"]
    internet.server.files["zips/val2017.zip"] = zip_bytes({"val2017/000000000139.jpg": b"x"}).ljust(len(whole), b"\0")
    (line,) = fetch(internet.plan(tmp_path, "tiny-coco"), network=FAST).failed
    assert "its sha256 is" in line
    assert not (tmp_path / "coco/images").exists()


def test_a_truncated_file_is_continued_when_the_server_has_it_again(internet: Internet, tmp_path: Path):
    whole = len(internet.server.files["zips/val2017.zip"])
    internet.server.drop_after += [1000, 0]  # and once more at once
    report = fetch(internet.plan(tmp_path, "tiny-coco", table=only_publisher(internet)), network=FAST)
    assert [line.partition(":")[0] for line in report.failed] == ["val2017"]
    assert not (tmp_path / "coco/images").exists()
    assert fetch(internet.plan(tmp_path, "tiny-coco", table=only_publisher(internet)), network=FAST).failed == ()
    assert internet.server.sent("zips/val2017.zip") == whole


def only_publisher(internet: Internet):
    """The table without the mirror, and with nothing but the images for COCO."""
    from dataclasses import replace

    images = replace(internet.table.artifacts["val2017"], sources=internet.table.artifacts["val2017"].sources[:1])
    recipe = replace(internet.table.recipes["tiny-coco"], artifacts=(images,))
    return replace(
        internet.table,
        artifacts={**internet.table.artifacts, "val2017": images},
        recipes={**internet.table.recipes, "tiny-coco": recipe},
    )


def test_a_gated_dataset_says_where_to_accept_and_how_to_set_the_token(internet: Internet, tmp_path: Path, monkeypatch):
    internet.hub.token = "hf_secret"
    (line,) = fetch(internet.plan(tmp_path, "tiny-wds"), network=FAST).failed
    assert "accept its terms at" in line
    assert "HF_TOKEN" in line
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(internet.plan(tmp_path, "tiny-wds"), network=FAST).failed == ()
    text = (tmp_path / ".cosmos-eval/fetched.json").read_text()
    assert "hf_secret" not in text


def test_a_redirect_to_a_file_is_refused(internet: Internet, tmp_path: Path):
    def hostile(request, handler) -> bool:
        if request.path == "zips/annotations.zip":
            handler.answer(302, b"", {"Location": "file:///etc/passwd"})
            return True
        return False

    internet.server.faults = hostile
    (line,) = fetch(internet.plan(tmp_path, "tiny-coco"), network=FAST).failed
    assert "only http and https are followed" in line
    assert not (tmp_path / "coco/annotations").exists()


@pytest.mark.parametrize("name", ["../../escaped.png", "/tmp/escaped.png", "val2017/../../../escaped.png"])
def test_a_hostile_archive_is_refused_and_not_kept(internet: Internet, tmp_path: Path, name: str):
    good = internet.server.files["zips/stuffthingmaps.zip"]
    internet.server.files["zips/stuffthingmaps.zip"] = zip_bytes({"val2017/1.png": b"x", name: b"x"})
    root = tmp_path / "data"
    failed = fetch(internet.plan(root, "tiny-stuff"), network=FAST).failed
    assert "leads out of its folder" in failed[0]
    assert len(failed) == 2  # and the masks could not be made
    assert not (root / "coco_stuff164k").exists()
    assert not list(tmp_path.rglob("escaped*"))
    internet.server.files["zips/stuffthingmaps.zip"] = good
    assert fetch(internet.plan(root, "tiny-stuff"), network=FAST).failed == ()


def test_a_page_in_place_of_a_file_without_checksum_is_refused(internet: Internet, tmp_path: Path):
    internet.server.files["zips/stuffthingmaps.zip"] = b"<!DOCTYPE html><html>too many people fetched this file</html>"
    failed = fetch(internet.plan(tmp_path, "tiny-stuff"), network=FAST).failed
    assert "maps: " in failed[0]
    assert "stuffthingmaps.zip, but it is" in failed[0]


def test_a_full_disk_is_told_before_anything_is_fetched(internet: Internet, tmp_path: Path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: usage._replace(free=10**6))
    with pytest.raises(FetchError, match="GB free; about") as refused:
        fetch(internet.plan(tmp_path, "tiny-coco"), network=FAST)
    assert refused.value.kind == "disk"
    assert internet.server.requests == []


def test_a_disk_that_fills_up_ends_the_fetch_and_the_next_one_goes_on(internet: Internet, tmp_path: Path, monkeypatch):
    import errno

    from cosmos_eval.datasets.fetch import unpack

    def full(member, path, unfinished, reader):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(unpack, "_write_member", full)
        with pytest.raises(FetchError, match="no room is left"):
            fetch(internet.plan(tmp_path, "tiny-coco"), network=FAST)
    assert not (tmp_path / "coco").exists()
    assert fetch(internet.plan(tmp_path, "tiny-coco"), network=FAST).failed == ()
    assert len(internet.server.starts("zips/val2017.zip")) == 1


def test_a_folder_that_is_a_link_to_another_place_is_filled_there(internet: Internet, tmp_path: Path):
    elsewhere = tmp_path / "big-disk"
    elsewhere.mkdir()
    root = tmp_path / "data"
    root.mkdir()
    (root / "coco").symlink_to(elsewhere)
    assert fetch(internet.plan(root, "tiny-coco"), network=FAST).failed == ()
    assert (elsewhere / "images/val2017/000000000139.jpg").is_file()


def test_a_damaged_manifest_is_not_overwritten(internet: Internet, tmp_path: Path):
    manifest = tmp_path / ".cosmos-eval/fetched.json"
    manifest.parent.mkdir()
    manifest.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        fetch(internet.plan(tmp_path, "tiny-wds"), network=FAST)
    assert manifest.read_text() == "{"
    manifest.write_text(json.dumps({"version": 1, "artifacts": {"old": {"files": [], "provides": []}}}))
    fetch(internet.plan(tmp_path, "tiny-wds"), network=FAST)
    assert sorted(read_manifest(tmp_path)) == ["old", "wds-tiny"]
