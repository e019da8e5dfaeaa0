"""Every failure of a download, for every kind of source: one line, and nothing that a reader would take."""

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import pytest

from cosmos_eval.datasets.fetch import locating, transfer
from cosmos_eval.datasets.fetch.addresses import next_address
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.fetching import fetch
from cosmos_eval.datasets.fetch.plan import FetchPlan, Planned
from cosmos_eval.datasets.fetch.table import Artifact, Source, Unpack
from cosmos_eval.datasets.fetch.transfer import Network
from tests.helpers.fetch_sources import FAST, HUB, Internet, contents, small_internet, zip_bytes
from tests.helpers.file_server import FileServer, Handler, Request
from tests.helpers.hub_server import COMMIT

KINDS = ("http", "hub", "drive")
FILES = {"pets/dog.txt": b"dog" * 2000, "pets/cat.txt": random.Random(0).randbytes(2000)}
PUBLIC = "https://93.184.215.14"
"""What the server on this machine is taken for where a rule is about public hosts."""
Fault = Callable[[Request, Handler], bool]


@dataclass
class Place:
    """One archive at one kind of source."""

    kind: str
    server: FileServer
    path: str
    """Of the archive on the server."""
    source: Source
    pauses: Event
    """Set when requests that hang may end."""

    @property
    def content(self) -> bytes:
        return self.server.files[self.path]

    def put(self, content: bytes) -> None:
        self.server.files[self.path] = content

    def fail(self, fault: Fault) -> None:
        """Answer requests for the archive otherwise."""
        before = self.server.faults

        def answer(request: Request, handler: Handler) -> bool:
            return fault(request, handler) if request.path == self.path else before(request, handler)

        self.server.faults = answer

    def plan(self, root: Path, source: Source | None = None) -> FetchPlan:
        unpack = Unpack("zip", "set")
        artifact = Artifact("pets", (source or self.source,), ("set/pets",), "free", unpack=unpack)
        return FetchPlan(root, ("mine",), (Planned(artifact, artifact.sources, ("mine",)),), (), (), ())

    def refusal(self, root: Path, source: Source | None = None, network: Network = FAST) -> str:
        """The line of a fetch that fails."""
        try:
            (line,) = fetch(self.plan(root, source), network=network).failed
        except FetchError as error:  # a full disk ends everything
            line = str(error)
        assert "\n" not in line
        assert len(line) < 700
        assert contents(root) == {}, "a reader would take this"
        return line


@pytest.fixture(params=KINDS)
def place(request, tmp_path: Path, monkeypatch) -> Iterator[Place]:
    archive, pauses = zip_bytes(FILES), Event()
    known = {"checksums": {"sha256": hashlib.sha256(archive).hexdigest()}}
    with small_internet(tmp_path / "definitions") as internet:
        made = make_place(request.param, internet, known, pauses, monkeypatch)
        made.put(archive)
        yield made
        pauses.set()


def make_place(kind: str, internet: Internet, known: dict, pauses: Event, monkeypatch) -> Place:
    server = internet.server
    if kind == "hub":
        source = Source("hub", "hub", HUB, files=("pets.zip",), revision=COMMIT, **known)
        return Place(kind, internet.hub.server, "content/pets.zip", source, pauses)
    if kind == "drive":
        monkeypatch.setattr(locating, "DRIVE_DOWNLOAD", server.url("download") + "?id={id}")
        address = "https://drive.google.com/uc?id=1kX2"
        return Place(kind, server, "download", Source("d", "drive", address, file_name="pets.zip", **known), pauses)
    return Place(kind, server, "pets.zip", Source("p", "http", server.url("pets.zip"), **known), pauses)


def test_it_is_fetched_and_unpacked(place: Place, tmp_path: Path):
    root = tmp_path / "data"
    assert fetch(place.plan(root), network=FAST).failed == ()
    assert contents(root) == {f"set/{name}": content for name, content in FILES.items()}


def test_a_wrong_checksum(place: Place, tmp_path: Path):
    wrong = place.content[:-30] + b"x" + place.content[-29:]
    place.put(wrong)
    assert "expected" in place.refusal(tmp_path / "data")
    if place.kind == "hub":  # and where the hub itself does not know its file
        place.fail(lambda request, handler: handler.answer(200, wrong[:-1] + b"y") is None)
        assert "its sha256 is" in place.refusal(tmp_path / "data", replace(place.source, checksums={}))


def test_a_truncated_file(place: Place, tmp_path: Path):
    whole = place.content
    place.fail(lambda request, handler: handler.answer(200, whole[:300]) is None)
    line = place.refusal(tmp_path / "data")
    assert "is not the file that is expected" in line or "has 300 bytes, expected" in line
    if place.kind != "hub":  # nothing is known of it: the archive itself tells
        assert "pets.zip is damaged" in place.refusal(tmp_path / "data", replace(place.source, checksums={}))


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (404, "is not there (404 Not Found)"),
        (403, "may not be read (403 Forbidden)"),
        (401, "may not be read (401 Unauthorized)"),
        (429, "the server answers 429 Too Many Requests; try again later"),
        (500, "the server answers 500"),
    ],
)
def test_an_answer_that_is_no_file(place: Place, tmp_path: Path, status: int, line: str):
    place.fail(lambda request, handler: handler.answer(status, b"<html>no</html>") is None)
    assert line in place.refusal(tmp_path / "data")


def test_a_page_in_place_of_the_file(place: Place, tmp_path: Path):
    place.put(b"<!DOCTYPE html><html>Too many people fetched this file</html>")
    line = place.refusal(tmp_path / "data", replace(place.source, checksums={}))
    assert "it is an HTML page" in line or "its sha256" in line or "is damaged" in line or "a web page" in line


def test_a_gated_dataset_and_a_mirror_after_it(place: Place, tmp_path: Path):
    place.fail(lambda request, handler: handler.answer(403, b"") is None)
    root = tmp_path / "data"
    with small_internet(tmp_path / "mirror") as other:
        other.server.files["m.zip"] = zip_bytes(FILES)
        mirror = Source("m", "http", other.server.url("m.zip"), checksums=place.source.checksums)
        planned = place.plan(root).fetched[0]
        artifact = replace(planned.artifact, sources=(place.source, mirror))
        plan = replace(place.plan(root), fetched=(Planned(artifact, artifact.sources, ("mine",)),))
        assert fetch(plan, network=FAST).failed == ()
    assert sorted(contents(root)) == sorted(f"set/{name}" for name in FILES)


def test_a_connection_that_sends_nothing_and_one_that_stops(place: Place, tmp_path: Path):
    def silent(request: Request, handler: Handler) -> bool:
        place.pauses.wait(120)
        handler.close_connection = True
        return True

    def stopping(request: Request, handler: Handler) -> bool:
        handler.send_response(206 if request.start else 200)
        handler.send_header("Content-Length", str(len(whole) - (request.start or 0)))
        if request.start:
            handler.send_header("Content-Range", f"bytes {request.start}-{len(whole) - 1}/{len(whole)}")
        handler.end_headers()
        if not request.start:
            handler.wfile.write(whole[:500])
            handler.wfile.flush()
        return silent(request, handler)

    whole = place.content
    place.fail(silent)
    assert "no answer (" in place.refusal(tmp_path / "data", network=replace(FAST, timeout=0.2, retries=0))
    place.fail(stopping)
    # on a busy machine the first bytes may take longer than that: it is tried again
    assert "after 500 bytes" in place.refusal(tmp_path / "other", network=replace(FAST, timeout=0.4, retries=2))


def test_a_connection_that_drops_again_and_again(place: Place, tmp_path: Path):
    root, whole = tmp_path / "data", len(place.content)
    place.server.drop_after += [400, 0, 0]
    assert "the connection" in place.refusal(root)
    assert fetch(place.plan(root), network=FAST).failed == ()
    assert place.server.sent(place.path) == whole  # no byte twice
    assert len(contents(root)) == len(FILES)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("http://example.org/pets.zip", "it leaves https for http"),
        ("https://10.0.0.5/pets.zip", "an address of a private network"),
        ("https://169.254.169.254/latest/meta-data", "an address of a private network"),
        ("https://[::1]/pets.zip", "an address of a private network"),
        ("file:///etc/passwd", "only http and https are followed"),
    ],
)
def test_a_hostile_redirect(place: Place, tmp_path: Path, monkeypatch, target: str, line: str):
    def as_public(current: str, location: str) -> str:
        """The rule that is applied to a public host with https; other redirects are those of the server here."""
        if location != target:
            return next_address(current, location)
        return next_address(PUBLIC + current.removeprefix(place.server.address), location)

    monkeypatch.setattr(transfer, "next_address", as_public)
    place.fail(lambda request, handler: handler.answer(302, b"", {"Location": target}) is None)
    assert line in place.refusal(tmp_path / "data")


def test_a_full_disk(place: Place, tmp_path: Path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(transfer.shutil, "disk_usage", lambda path: usage._replace(free=10**6))
        assert "make room" in place.refusal(tmp_path / "data")

    def full(stream: object, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_write_all", full)
        assert "no room is left" in place.refusal(tmp_path / "data")
    assert fetch(place.plan(tmp_path / "data"), network=FAST).failed == ()


@pytest.mark.parametrize("member", ["../escaped.txt", "/tmp/escaped.txt", "pets/../../escaped.txt"])
def test_a_hostile_archive(place: Place, tmp_path: Path, member: str):
    place.put(zip_bytes({**FILES, member: b"x"}))
    line = place.refusal(tmp_path / "data", replace(place.source, checksums={}))
    assert "leads out of its folder" in line
    assert not list(tmp_path.rglob("escaped*"))
    state = tmp_path / "data/.cosmos-eval"
    assert not [path for path in state.rglob("*") if path.is_file()]  # it would be unpacked again
