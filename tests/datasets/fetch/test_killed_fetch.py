"""A fetch that is killed at random moments and started again: the same bytes, none of them asked for twice."""

import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Event
from typing import Any

import pytest

from cosmos_eval.datasets.fetch.fetching import fetch
from cosmos_eval.datasets.fetch.plan import make_fetch_plan
from cosmos_eval.datasets.fetch.table import load_table
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.fetch_sources import FAST, Internet, contents, hub_files, small_internet, tar_bytes, zip_bytes
from tests.helpers.file_server import FileServer, Handler, Request
from tests.helpers.fork_server import SERVER
from tests.helpers.killing import ended
from tests.helpers.processes import wait_until

NAMES = ("tiny-wds", "tiny-coco", "tiny-stuff")
PIECE, PAUSE = 4000, 0.004


@dataclass
class Clock:
    """Pieces of large files that all servers have sent: the clock of the kills, which no busy machine makes slower."""

    pieces: int = 0
    stops_at: float = math.inf
    """When so many were sent, no more are until this is set anew."""
    changed: Condition = field(default_factory=Condition)

    def tick(self) -> None:
        """Count a piece that is about to be sent, or wait until it may be."""
        with self.changed:
            self.changed.wait_for(lambda: self.pieces < self.stops_at)
            self.pieces += 1

    def stop_at(self, pieces: float) -> None:
        with self.changed:
            self.stops_at = pieces
            self.changed.notify_all()


CLOCK = Clock()


def fetch_in_process(
    root: Path, table: Path, definitions: list[Path], ready: Path, output: Path, environment: dict[str, str]
) -> None:
    """In a process of its own, forked from one that has the imports: a fetch; exits with the number of failures."""
    os.environ.clear()
    os.environ.update(environment)  # the hub's address among others; that of the server is of an earlier test
    sys.stdout = sys.stderr = output.open("a", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    plan = make_fetch_plan([load_benchmark(path) for path in definitions], root, table=load_table(table))
    ready.touch()
    report = fetch(plan)
    print("failed:", *report.failed)
    sys.exit(len(report.failed))


def slow(served: FileServer, others: Callable[[Request, Handler], bool]) -> Callable[[Request, Handler], bool]:
    """Answers as the server does, large files a few thousand bytes at a time."""

    def answer(request: Request, handler: Handler) -> bool:
        body = served.files.get(request.path)
        if body is None or len(body) < 2 * PIECE:
            return others(request, handler)
        start = request.start or 0
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", '"one"')
        handler.send_header("Content-Length", str(len(body) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.end_headers()
        for at in range(start, len(body), PIECE):
            CLOCK.tick()
            handler.wfile.write(body[at : at + PIECE])
            time.sleep(PAUSE)
        return True

    return answer


def make_large(internet: Internet) -> None:
    """Archives of some hundred kilobytes, so that kills meet downloads and unpacking."""
    draw = random.Random(0)
    images = {f"val2017/{name:012d}.jpg": draw.randbytes(9000) for name in range(20)}
    internet.server.files["zips/val2017.zip"] = zip_bytes(images)
    internet.hub.put("test/0.tar", tar_bytes({f"s{i}.jpg": draw.randbytes(30_000) for i in range(4)}))
    internet.server.faults = slow(internet.server, internet.server.faults)
    internet.hub.server.faults = slow(internet.hub.server, internet.hub.answer)
    from tests.helpers.fetch_sources import write_table

    internet.table = write_table(internet.folder / "large.yaml", internet.server.address, internet.server.files)


def start(internet: Internet, root: Path) -> Any:
    """Start a fetch, and wait until it has its plan."""
    definitions = [internet.definition(name) for name in NAMES]
    ready, output = internet.folder / "ready", internet.folder / "output"
    ready.unlink(missing_ok=True)
    arguments = (root, internet.folder / "large.yaml", definitions, ready, output, dict(os.environ))
    process = SERVER.Process(target=fetch_in_process, args=arguments)
    process.start()
    wait_until(ready.exists, process)
    return process


def received(root: Path) -> dict[str, int]:
    """Name of each file that came over the network -> bytes of it that are on disk."""
    paths = [*(root / ".cosmos-eval").rglob("*"), *(root / "wds").rglob("*")]
    return {path.name.removesuffix(".part"): path.stat().st_size for path in paths if path.is_file()}


def wait_for_stop(process: Any, root: Path) -> None:
    """Until the servers send no more and what they have sent is on its way to the disk, or the process has ended."""
    while process.is_alive() and not (CLOCK.pieces >= CLOCK.stops_at and any(root.rglob("*.part"))):
        time.sleep(0.001)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_fetch_that_is_killed_goes_on_where_it_stopped(tmp_path: Path, kills: int):
    draw = random.Random(kills)
    with small_internet(tmp_path / "definitions") as internet:
        make_large(internet)
        CLOCK.pieces = 0
        fetch(internet.plan(tmp_path / "whole", *NAMES, table=internet.table), network=FAST)
        expected, pieces = contents(tmp_path / "whole"), CLOCK.pieces
        servers = (internet.server, internet.hub.server)
        root, wrong, unfinished = tmp_path / "data", [], 0
        for _ in range(kills):
            before = {server.address: len(server.requests) for server in servers}
            on_disk = received(root)
            CLOCK.stop_at(CLOCK.pieces + draw.randrange(1, 2 * pieces // kills))
            process = start(internet, root)
            wait_for_stop(process, root)
            time.sleep(draw.uniform(0, 0.02))
            process.kill()
            process.join()
            CLOCK.stop_at(math.inf)
            wrong += asked_twice(servers, before, on_disk)
            unfinished += any(root.rglob("*.part"))
            visible = contents(root)
            # whatever a reader would find is whole
            assert visible.items() <= expected.items(), sorted(visible.keys() - expected.keys())
            assert (
                not (root / "coco/images/val2017").exists() or len(list((root / "coco/images/val2017").iterdir())) == 20
            )
        before = {server.address: len(server.requests) for server in servers}
        on_disk = received(root)
        process = start(internet, root)
        assert ended(process) == 0, (internet.folder / "output").read_text()
        wrong += asked_twice(servers, before, on_disk)
        assert wrong == []
        print(f"{unfinished} of {kills} kills left unfinished downloads")
        assert unfinished
        assert contents(root) == expected
        assert {f"wds/wds_tiny/{name}" for name in hub_files() if name.startswith("test")} <= expected.keys()


def asked_twice(servers, before: dict[str, int], on_disk: dict[str, int]) -> list[str]:
    """Files whose bytes on disk were asked for again."""
    first: dict[str, int] = {}
    for server in servers:
        for request in server.requests[before[server.address] :]:
            if not request.path.startswith(("api/", "datasets/")):  # questions, and the redirect to the content
                first.setdefault(request.path.rpartition("/")[2], request.start or 0)
    return [f"{name}: from {first[name]}, had {size}" for name, size in on_disk.items() if first.get(name, size) < size]


def test_ctrl_c_ends_the_threads_at_once(tmp_path: Path):
    with small_internet(tmp_path / "definitions") as internet:
        make_large(internet)
        begun = Event()
        answer = internet.server.faults

        def endless(request: Request, handler: Handler) -> bool:
            """A byte at a time: a quarter of an hour for the archive."""
            if request.path != "zips/val2017.zip":
                return answer(request, handler)
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(internet.server.files[request.path])))
            handler.end_headers()
            begun.set()
            while True:
                handler.wfile.write(b"?")
                time.sleep(PAUSE)

        internet.server.faults = endless
        process = start(internet, tmp_path / "data")
        assert begun.wait(120)
        os.kill(process.pid, signal.SIGINT)
        assert ended(process, timeout=120) != 0
        assert not (tmp_path / "data/coco/images").exists()
