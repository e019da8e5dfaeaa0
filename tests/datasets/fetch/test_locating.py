"""From sources of the table to files: what the table and the hub say of a file must agree, and what is there stays."""

from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_core.run_lock import locked
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.fetching import fetch
from cosmos_eval.datasets.fetch.locating import drive_url, locate
from cosmos_eval.datasets.fetch.table import Artifact, Source, Unpack
from tests.helpers.fetch_sources import FAST, HUB, checksums_of, contents, hub_files, small_internet


@pytest.fixture
def internet(tmp_path: Path):
    with small_internet(tmp_path / "definitions") as served:
        yield served


def test_google_drives_address_leads_to_the_file_itself():
    url = drive_url("https://drive.google.com/uc?id=1kX2iC-_")
    assert url == "https://drive.usercontent.google.com/download?id=1kX2iC-_&export=download&confirm=t"
    assert drive_url("https://example.org/a?id=1") == "https://example.org/a?id=1"
    with pytest.raises(FetchError, match="names no file"):
        drive_url("https://drive.google.com/drive/folders")


def test_a_file_of_the_hub_that_is_not_the_tables_is_refused_before_it_is_fetched(internet, tmp_path):
    shard = hub_files()["test/0.tar"]
    source = Source("hub", "hub", HUB, files=("test/0.tar",), **checksums_of(shard))
    artifact = Artifact("x", (source,), ("x",), "terms", unpack=Unpack("tar"))
    assert locate(artifact, source, tmp_path).files[0].remote.checksums["sha256"] == source.checksums["sha256"]
    for wrong, kind in (
        (replace(source, size=5), "size"),
        (replace(source, checksums={"sha256": "0" * 64}), "checksum"),
    ):
        with pytest.raises(FetchError, match="not fetched") as refused:
            locate(artifact, wrong, tmp_path)
        assert refused.value.kind == kind


def test_shards_that_a_person_has_already_are_not_fetched_again(internet, tmp_path):
    shard = hub_files()["test/0.tar"]
    (tmp_path / "wds/wds_tiny/test").mkdir(parents=True)
    (tmp_path / "wds/wds_tiny/test/0.tar").write_bytes(shard)
    (tmp_path / "wds/wds_tiny/test/1.tar").write_bytes(b"cut")
    assert fetch(internet.plan(tmp_path, "tiny-wds"), network=FAST).failed == ()
    assert internet.hub.server.starts("content/test/0.tar") == []
    assert contents(tmp_path)["wds/wds_tiny/test/1.tar"] == hub_files()["test/1.tar"]


def test_two_processes_do_not_fetch_to_one_folder(internet, tmp_path):
    with locked(tmp_path / ".cosmos-eval"), pytest.raises(ValueError, match="is in use by process"):
        fetch(internet.plan(tmp_path, "tiny-wds"), network=FAST)
