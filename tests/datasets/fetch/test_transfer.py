"""One file over http: whole or absent, resumed, checked, and refused in one line where it cannot be had."""

import errno
import hashlib
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_eval.datasets.fetch import transfer
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.transfer import Network, Remote, download
from tests.helpers.file_server import FileServer, serving

CONTENT = random.Random(0).randbytes(300_000)
CHUNK = 10_000
WAITS: list[float] = []
FAST = Network(timeout=60.0, retries=2, backoff=0.5, chunk=CHUNK, sleep=WAITS.append)


@pytest.fixture
def server():
    WAITS.clear()
    with serving({"a.bin": CONTENT}) as served:
        yield served


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_with_its_checksum_and_nothing_is_left_beside_it(server: FileServer, tmp_path: Path):
    steps: list[int] = []
    fetched = download(Remote(server.url("a.bin")), tmp_path / "deep" / "a.bin", steps.append, FAST)
    assert fetched.path.read_bytes() == CONTENT
    assert (fetched.size, fetched.received, fetched.sha256) == (len(CONTENT), len(CONTENT), sha256(CONTENT))
    assert sum(steps) == len(CONTENT)
    assert leftovers(tmp_path / "deep") == ["a.bin"]


def test_a_file_that_is_there_is_not_fetched_again_unless_it_is_another_one(server: FileServer, tmp_path: Path):
    remote = Remote(server.url("a.bin"), len(CONTENT), {"sha256": sha256(CONTENT)})
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    (tmp_path / "a.bin.part.json").write_text("{}")  # a process was killed before it could remove it
    assert download(remote, path, network=FAST).received == 0
    assert server.requests == []
    assert leftovers(tmp_path) == ["a.bin"]
    path.write_bytes(b"x" + CONTENT[1:])
    assert download(remote, path, network=FAST).received == len(CONTENT)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("etags", [True, False])
def test_a_dropped_connection_is_continued_where_it_broke(server: FileServer, tmp_path: Path, etags: bool):
    server.drop_after = [123_456, 50_000, 0, 70_000]
    server.etags = etags  # without a validator the checksum vouches for the parts being of one file
    remote = Remote(server.url("a.bin"), checksums={"sha256": sha256(CONTENT)})
    fetched = download(remote, tmp_path / "a.bin", network=FAST)
    assert fetched.path.read_bytes() == CONTENT
    assert server.starts("a.bin") == [0, 123_456, 173_456, 173_456, 243_456]
    assert fetched.received == server.sent("a.bin") == len(CONTENT)
    assert WAITS == [0.5, 0.5, 1.0, 0.5]  # twice as long only while nothing arrives


def test_without_validator_and_checksum_a_broken_download_begins_anew(server: FileServer, tmp_path: Path):
    server.drop_after, server.etags = [123_456], False
    assert download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=FAST).path.read_bytes() == CONTENT
    assert server.starts("a.bin") == [0, 0]


def test_a_file_that_changed_meanwhile_is_fetched_anew_and_not_mixed(server: FileServer, tmp_path: Path):
    server.drop_after = [100_000] * 3
    with pytest.raises(FetchError):
        download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=replace(FAST, retries=0))
    server.drop_after = []
    server.files["a.bin"] = other = bytes(reversed(CONTENT))
    assert download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=FAST).path.read_bytes() == other


def test_parts_of_an_older_file_that_no_validator_told_apart_are_thrown_away_once(server: FileServer, tmp_path: Path):
    server.etags = False
    path, remote = tmp_path / "a.bin", Remote(server.url("a.bin"), checksums={"sha256": sha256(CONTENT)})
    partial = transfer.Partial(path, remote.url)
    partial.begin(transfer.Validator(size=len(CONTENT)))
    partial.content.write_bytes(b"?" * 1000)
    assert download(remote, path, network=FAST).path.read_bytes() == CONTENT
    assert server.starts("a.bin") == [1000, 0]


def test_a_kill_between_the_last_byte_and_the_name_costs_nothing(server: FileServer, tmp_path: Path):
    path, remote = tmp_path / "a.bin", Remote(server.url("a.bin"), checksums={"sha256": sha256(CONTENT)})
    partial = transfer.Partial(path, remote.url)
    partial.begin(transfer.Validator(etag='"x"', size=len(CONTENT)))
    partial.content.write_bytes(CONTENT)
    assert download(remote, path, network=FAST).received == 0
    assert server.requests == []
    assert leftovers(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("record", ["", "{", "[]", '{"url": 1}', "null", '{"url": "URL", "validator": {"etag": 3}}'])
def test_a_damaged_record_of_a_partial_file_is_no_record(server: FileServer, tmp_path: Path, record: str):
    path, remote = tmp_path / "a.bin", Remote(server.url("a.bin"))
    partial = transfer.Partial(path, remote.url)
    partial.content.write_bytes(b"?" * 1000)
    partial.record.write_text(record.replace("URL", remote.url))
    assert download(remote, path, network=FAST).path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["sha256", "md5", "git"])
def test_a_wrong_checksum_is_refused_and_leaves_nothing(server: FileServer, tmp_path: Path, name: str):
    with pytest.raises(FetchError, match=f"is not the file that is expected: its {name} is .*, expected 00") as refusal:
        download(Remote(server.url("a.bin"), checksums={name: "00"}), tmp_path / "a.bin", network=FAST)
    assert refusal.value.kind == "checksum"
    assert refusal.value.may_another_source_help
    assert leftovers(tmp_path) == []
    assert len(server.requests) == 1  # the same bytes would come again


def test_right_checksums_of_all_kinds_are_accepted(server: FileServer, tmp_path: Path):
    git = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    checksums = {"sha256": sha256(CONTENT).upper(), "md5": hashlib.md5(CONTENT).hexdigest(), "git": git}
    assert download(Remote(server.url("a.bin"), checksums=checksums), tmp_path / "a.bin", network=FAST).size


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_another_size_than_announced_is_refused_before_the_content_is_read(
    server: FileServer, tmp_path: Path, size: int
):
    with pytest.raises(FetchError, match=f"has 300,000 bytes, expected {size:,}") as refusal:
        download(Remote(server.url("a.bin"), size), tmp_path / "a.bin", network=FAST)
    assert refusal.value.kind == "size"
    assert leftovers(tmp_path) == []


def test_content_without_an_end_stops_at_the_limit(server: FileServer, tmp_path: Path):
    def endless(request, handler) -> bool:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(10_000))
        except OSError:
            handler.close_connection = True
        return True

    server.faults = endless
    with pytest.raises(FetchError, match="more than the 50,000 bytes") as refusal:
        download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=replace(FAST, max_bytes=50_000))
    assert refusal.value.kind == "size"
    assert leftovers(tmp_path) == []


def answering(*answers: tuple[int, dict[str, str]]):
    """A fault that gives these statuses and headers, one a request, and then none."""
    left = list(answers)

    def fault(request, handler) -> bool:
        if not left:
            return False
        status, headers = left.pop(0)
        handler.answer(status, b"no", headers)
        handler.close_connection = "Content-Length" in headers  # which promises more than there is
        return True

    return fault


@pytest.mark.parametrize(
    ("status", "kind", "line"),
    [
        (401, "gated", r"a\.bin may not be read \(401 Unauthorized\)"),
        (403, "gated", r"a\.bin may not be read \(403 Forbidden\)"),
        (404, "not-found", r"a\.bin is not there \(404 Not Found\)"),
        (410, "not-found", r"a\.bin is not there"),
        (418, "http", r"a\.bin: the server answers 418"),
        (204, "http", r"a\.bin: the server answers 204"),
    ],
)
def test_a_status_that_will_not_change_is_refused_at_once(server: FileServer, tmp_path, status, kind, line):
    server.faults = answering((status, {}))
    with pytest.raises(FetchError, match=line) as refusal:
        download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=FAST)
    assert refusal.value.kind == kind
    assert "\n" not in str(refusal.value)
    assert WAITS == []


def test_busy_servers_are_asked_again_when_they_say(server: FileServer, tmp_path: Path):
    server.faults = answering((429, {"Retry-After": "7"}), (503, {}), (200, {"Content-Length": "9"}))
    assert (
        download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=replace(FAST, retries=3)).path.read_bytes()
        == CONTENT
    )
    assert WAITS[:2] == [7.0, 1.0]
    server.faults = answering(*[(429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})] * 9)
    with pytest.raises(FetchError, match="the server answers 429") as refusal:
        download(Remote(server.url("a.bin")), tmp_path / "b.bin", network=FAST)
    assert refusal.value.kind == "rate-limited"


def test_a_server_that_sends_nothing_is_given_up(server: FileServer, tmp_path: Path):
    released = threading.Event()

    def silent(request, handler) -> bool:
        released.wait(120)
        handler.close_connection = True
        return True

    server.faults = silent
    with pytest.raises(FetchError, match=r"no answer \(.*timed out") as refusal:
        download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=replace(FAST, timeout=0.1))
    released.set()
    assert refusal.value.kind == "connection"
    with pytest.raises(FetchError, match=r"no answer \(Connection refused"):
        download(Remote("http://127.0.0.1:9/a.bin"), tmp_path / "a.bin", network=FAST)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("file:///etc/passwd", "only http and https are followed"),
        ("ftp://example.org/a", "only http and https are followed"),
        ("http://[::1", "unreadable address"),
        ("", "redirects more than 10 times"),
    ],
)
def test_hostile_redirects_are_refused(server: FileServer, tmp_path: Path, target: str, line: str):
    server.faults = answering(*[(302, {"Location": target})] * 20)
    with pytest.raises(FetchError, match=line) as refusal:
        download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=FAST)
    assert refusal.value.kind == "redirect"
    assert leftovers(tmp_path) == []


def test_a_token_is_sent_to_its_own_host_only_and_netrc_is_not_read(server: FileServer, tmp_path: Path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving({"there/b.bin": CONTENT}) as other:
        server.faults = answering((302, {"Location": "/moved.bin"}), (307, {"Location": other.url("there/b.bin")}))
        remote = Remote(server.url("a.bin"), token="t0ken")
        assert download(remote, tmp_path / "a.bin", network=FAST).path.read_bytes() == CONTENT
        assert [request.headers.get("Authorization") for request in server.requests] == ["Bearer t0ken"] * 2
        assert [request.headers.get("Authorization") for request in other.requests] == [None]
    download(Remote(server.url("a.bin")), tmp_path / "b.bin", network=FAST)
    assert "Authorization" not in server.requests[-1].headers


def test_a_message_shows_neither_query_nor_password(server: FileServer, tmp_path: Path):
    with pytest.raises(FetchError) as refusal:
        download(Remote(f"{server.url('none.bin')}?signature=s3cret"), tmp_path / "a.bin", network=FAST)
    assert "s3cret" not in str(refusal.value)


def test_a_full_disk_is_told_before_the_first_byte_and_while_writing(server: FileServer, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(transfer, "SPARE_BYTES", 10**18)
    with pytest.raises(FetchError, match=r"GB free, and .*a\.bin needs 0\.0 GB") as refusal:
        download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=FAST)
    assert (refusal.value.kind, refusal.value.may_another_source_help) == ("disk", False)
    monkeypatch.undo()

    def no_space(stream, content) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "_write_all", no_space)
    with pytest.raises(FetchError, match=r"no room is left for .*; make room, what was received is kept"):
        download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=FAST)


def test_two_processes_do_not_fetch_one_file_at_once(server: FileServer, tmp_path: Path):
    partial = transfer.Partial(tmp_path / "a.bin", server.url("a.bin"))
    with partial.locked(), pytest.raises(FetchError, match=r"is being fetched to .* by another") as refusal:
        download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=FAST)
    assert refusal.value.kind == "in-use"
    assert leftovers(tmp_path) == []


def test_a_process_killed_as_soon_as_the_file_has_its_name_leaves_nothing_else(server: FileServer, tmp_path: Path):
    code = """
import os, sys
from pathlib import Path
from cosmos_eval.datasets.fetch import transfer
finish = transfer._Download._finish
transfer._Download._finish = lambda self, digests: (finish(self, digests), os._exit(9))
transfer.download(transfer.Remote(sys.argv[1]), Path(sys.argv[2]))
"""
    killed = subprocess.run([sys.executable, "-c", code, server.url("a.bin"), str(tmp_path / "a.bin")])
    assert killed.returncode == 9
    assert leftovers(tmp_path) == ["a.bin"]
    assert download(Remote(server.url("a.bin")), tmp_path / "a.bin", network=FAST).received == 0


FETCH = """
import sys
from pathlib import Path
from cosmos_eval.datasets.fetch.transfer import Network, Remote, download
download(Remote(sys.argv[1], checksums={"sha256": sys.argv[2]}), Path(sys.argv[3]), network=Network(chunk=10_000))
"""


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_called_again_it_ends_whole_and_no_byte_comes_twice(server, tmp_path, kills: int):
    chance = random.Random(kills)

    def slowly(request, handler) -> bool:
        start = request.start or 0
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(CONTENT) - start))
        handler.send_header("ETag", '"one"')
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.end_headers()
        try:
            for place in range(start, len(CONTENT), 2_000):
                handler.wfile.write(CONTENT[place : place + 2_000])
                pause.wait(0.01)
        except OSError:
            handler.close_connection = True
        return True

    pause = threading.Event()
    server.faults = slowly
    path, url = tmp_path / "a.bin", server.url("a.bin")
    command = [sys.executable, "-c", FETCH, url, sha256(CONTENT), str(path)]
    part = transfer.Partial(path, url).content
    held = 0
    for _ in range(kills):
        begun = len(server.requests)
        process = subprocess.Popen(command)
        while len(server.requests) == begun and process.poll() is None:
            pause.wait(0.01)
        assert server.starts("a.bin")[-1] == held  # goes on with the first byte that is missing
        pause.wait(chance.uniform(0.0, 1.5 / kills))
        process.kill()
        process.wait()
        if path.exists():
            break
        held = part.stat().st_size if part.exists() else 0
        assert CONTENT.startswith(part.read_bytes() if held else b"")
    pause.set()  # the rest at full speed
    subprocess.run(command, check=True)
    assert path.read_bytes() == CONTENT
    assert leftovers(tmp_path) == ["a.bin"]
    starts = server.starts("a.bin")
    assert starts == sorted(starts)
