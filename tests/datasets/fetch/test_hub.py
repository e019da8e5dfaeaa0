"""Datasets of the hub: revisions, trees, gated repositories and their files, asked of a server on 127.0.0.1."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_eval.datasets.fetch import hub
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.transfer import Network, download
from tests.helpers.hub_server import COMMIT, HubServer, serving_hub
from tests.helpers.processes import free_port

SHARD = bytes(range(256)) * 20
FILES = {"test/0.tar": SHARD, "test/nshards.txt": b"1\n", "train/0.tar": SHARD[::-1], "classnames.txt": b"cat\n\ndog\n"}
REPOSITORY = "somebody/wds_tiny"
FAST = Network(timeout=60.0, retries=1, backoff=0.0, sleep=lambda seconds: None)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch):
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", "/nonexistent")
    with serving_hub(FILES) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.server.address)
        yield server


def refusal(kind: str, question) -> str:
    with pytest.raises(FetchError) as refused:
        question()
    assert refused.value.kind == kind, refused.value
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_server_that_gets_the_port_of_another_one_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch):
    """Clients keep connections, which the threads of an ended server would go on to answer."""
    files, port = {"classnames.txt": b"cat\n"}, free_port()
    with serving_hub(FILES, port) as first:
        monkeypatch.setenv("HF_ENDPOINT", first.server.address)
        assert len(hub.list_files(REPOSITORY, COMMIT, ["*"])) == len(FILES)
    with serving_hub(files, port) as second:
        assert second.server.address == first.server.address
        assert [file.path for file in hub.list_files(REPOSITORY, COMMIT, ["*"])] == list(files)
        assert len(second.server.requests) == 1


def test_files_that_are_asked_for_arrive_with_the_checksums_of_the_hub(served: HubServer, tmp_path: Path):
    commit = hub.resolve_revision(REPOSITORY, "main")
    files = hub.list_files(REPOSITORY, commit, ["test/*", "classnames.txt"])
    assert [file.path for file in files] == ["classnames.txt", "test/0.tar", "test/nshards.txt"]
    assert files[1].checksums == {"sha256": hashlib.sha256(SHARD).hexdigest()}
    assert files[0].checksums == {"git": hashlib.sha1(b"blob 9\0cat\n\ndog\n").hexdigest()}
    for file in files:
        fetched = download(hub.remote_of(REPOSITORY, commit, file), tmp_path / file.path, network=FAST)
        assert fetched.path.read_bytes() == FILES[file.path]
    assert not (tmp_path / "train").exists()


def test_a_file_with_other_bytes_than_the_tree_says_is_refused(served: HubServer, tmp_path: Path):
    file = hub.list_files(REPOSITORY, COMMIT, ["test/0.tar"])[0]
    served.put("test/0.tar", SHARD[::-1])
    remote = hub.remote_of(REPOSITORY, COMMIT, file)
    assert "its sha256 is" in refusal("checksum", lambda: download(remote, tmp_path / "0.tar", network=FAST))


def test_a_full_commit_is_not_looked_up_and_a_short_one_must_be_unique(served: HubServer):
    assert hub.resolve_revision(REPOSITORY, "f" * 40) == "f" * 40
    assert served.server.requests == []
    served.commits = [COMMIT, "0123456" + "f" * 33, "abcdef0" + "1" * 33]
    assert hub.resolve_revision(REPOSITORY, "abcdef0") == served.commits[2]
    assert hub.resolve_revision(REPOSITORY, None) == COMMIT
    assert "2 commits begin with 0123456" in refusal("not-found", lambda: hub.resolve_revision(REPOSITORY, "0123456"))
    assert "no commit begins with" in refusal("not-found", lambda: hub.resolve_revision(REPOSITORY, "9999999"))
    assert "no such revision" in refusal("not-found", lambda: hub.resolve_revision(REPOSITORY, "no-branch"))


def test_a_gated_dataset_says_what_to_do_and_opens_with_the_token(served: HubServer, monkeypatch, tmp_path: Path):
    served.token = "hf_secret"
    line = refusal("gated", lambda: hub.list_files(REPOSITORY, COMMIT))
    assert f"accept its terms at {served.server.address}/datasets/{REPOSITORY}" in line
    assert "HF_TOKEN" in line
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    file = hub.list_files(REPOSITORY, COMMIT, ["test/0.tar"])[0]
    remote = hub.remote_of(REPOSITORY, COMMIT, file)
    assert remote.token == "hf_secret"
    assert download(remote, tmp_path / "0.tar", network=FAST).size == len(SHARD)
    without = replace(remote, token=None)
    assert "401" in refusal("gated", lambda: download(without, tmp_path / "1.tar", network=FAST))


def test_what_is_not_there_is_an_error_and_never_an_empty_success(served: HubServer):
    assert "has no file val/*" in refusal("not-found", lambda: hub.list_files(REPOSITORY, COMMIT, ["test/*", "val/*"]))
    missing = refusal("not-found", lambda: hub.list_files("somebody/else", COMMIT))
    assert f"{served.server.address} has no dataset somebody/else, or it is private" in missing
    assert "cannot be a dataset" in refusal("not-found", lambda: hub.resolve_revision("a//b c", None))


def test_a_hub_that_fails_or_is_off_is_one_line(served: HubServer, monkeypatch):
    served.broken = True
    assert "answers 500" in refusal("http", lambda: hub.resolve_revision(REPOSITORY, None))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in refusal("offline", lambda: hub.list_files(REPOSITORY, COMMIT))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "no answer from http://127.0.0.1:9" in refusal("connection", lambda: hub.resolve_revision(REPOSITORY, None))


@pytest.mark.parametrize("path", ["../out.txt", "/etc/passwd", "a/../../out.txt", "a\\b.txt"])
def test_a_tree_that_names_a_path_outside_is_refused(served: HubServer, path: str):
    served.put(path, b"x")
    assert "outside the repository" in refusal("http", lambda: hub.list_files(REPOSITORY, COMMIT))
