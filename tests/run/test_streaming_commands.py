"""`run --stream` as a command: sets of the table of sources, kills and ranks."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.store import read_result
from tests.helpers.fetch_sources import Internet, small_internet
from tests.helpers.file_server import Handler, Request
from tests.helpers.hub_server import COMMIT
from tests.helpers.processes import wait_until
from tests.helpers.rank_runs import HERE, start
from tests.helpers.streamed_shards import (
    SHARDS,
    World,
    features,
)


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with small_internet(tmp_path / "definitions") as served:
        yield served


def stream_command(internet: Internet, tmp_path: Path, *names: str, out: str = "out") -> list[str]:
    definitions = [option for name in names for option in ("--benchmark", str(internet.definition(name)))]
    root = ["--data-root", str(tmp_path / "data"), "--out", str(tmp_path / out)]
    return ["run", "--model", "python:tests.helpers.tiny_models:Colours", *definitions, *root, "--stream"]


def test_a_benchmark_of_the_table_is_streamed_and_a_fetched_one_is_read_from_disk(internet, tmp_path, capsys):
    command = stream_command(internet, tmp_path, "tiny-wds")
    assert run_command([*command, "--dry-run"]) == 0
    assert "tiny-wds: ready" in (line := capsys.readouterr().out)
    assert "streamed from https://huggingface.co/datasets/somebody/wds_tiny" in line
    assert internet.hub.server.requests == []
    assert run_command(command) == 0
    (streamed,) = [read_result(path) for path in (tmp_path / "out").rglob("RESULT.json")]
    part = streamed.environment.fetched["wds-tiny"]
    assert (part["revision"], part["files"], part["source"], part["streamed"]) == (COMMIT, 5, "clip-benchmark", True)
    assert not (tmp_path / "data").exists()
    assert run_command([*command[:-1], "--fetch", "--yes"]) == 0
    assert "already done, kept" in capsys.readouterr().err
    internet.hub.server.requests.clear()
    assert run_command(stream_command(internet, tmp_path, "tiny-wds", out="other")) == 0
    assert internet.hub.server.requests == []  # it is on disk now


def test_stream_refuses_what_is_not_in_shards_and_says_what_is(internet, tmp_path, capsys):
    assert run_command([*stream_command(internet, tmp_path, "tiny-sst2"), "--dry-run"]) == 2
    assert "fetch with `cosmos-eval data fetch " in capsys.readouterr().out
    assert run_command(stream_command(internet, tmp_path, "tiny-sst2", "tiny-wds")) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval: ")]
    assert "tiny-sst2 cannot be streamed: only WebDataset shards can (reader: wds)" in line
    assert "of those asked for, tiny-wds can be; for the rest leave --stream out and add --fetch" in line
    assert run_command([*stream_command(internet, tmp_path, "tiny-sst2", "tiny-wds"), "--skip-missing"]) == 0
    assert run_command([*stream_command(internet, tmp_path, "tiny-wds"), "--fetch"]) == 2
    assert "--fetch keeps the data and --stream does not" in capsys.readouterr().err


def started(
    served: World, out: Path, model: str, ranks: int = 1, pids: list[int] | None = None, **environment: str
) -> list[int]:
    """Exit codes of the command in processes of its own, whose ids are added to `pids`."""
    command = ["run", "--model", f"{HERE}{model}", "--benchmark", str(served.streamed()), "--out", str(out)]
    settings = {"HF_ENDPOINT": served.hub.server.address, "HF_TOKEN_PATH": "/nonexistent", **environment}
    processes = start([*command, "--batch-size", "4"], ranks, out.with_name(f"log-{out.name}-{model}"), **settings)
    if pids is not None:
        pids += [process.pid for process in processes]
    for process in processes:
        process.join(300)
    return [process.exitcode for process in processes]


def test_a_killed_run_goes_on_with_the_same_bits_and_leaves_no_shard(served, tmp_path):
    assert started(served, tmp_path / "whole", "Batchwise") == [0]
    out = tmp_path / "out"
    assert started(served, out, "Dying") == [-9]
    assert len([*out.glob(".stream*")]) == 1
    served.hub.server.settle()  # a request of the killed process may still be on its way
    served.forget()
    assert started(served, out, "Batchwise") == [0]
    assert not [*out.glob(".stream*")]
    # two batches were stored, of the 7 images of shard 0 and the first of shard 1
    assert served.downloads() == ["1.tar", "2.tar", "3.tar", "4.tar"]
    assert features(out) == features(tmp_path / "whole")
    results = [read_result(next(folder.rglob("RESULT.json"))) for folder in (out, tmp_path / "whole")]
    assert results[0].metrics == results[1].metrics


def test_two_ranks_give_the_bits_of_one_and_only_rank_0_downloads(served, tmp_path):
    assert started(served, tmp_path / "one", "Batchwise") == [0]
    served.forget()
    assert started(served, tmp_path / "two", "Batchwise", ranks=2) == [0, 0]
    assert served.downloads() == [f"{i}.tar" for i in range(SHARDS)]
    assert features(tmp_path / "one") == features(tmp_path / "two")
    one, two = (read_result(next((tmp_path / name).rglob("RESULT.json"))) for name in ("one", "two"))
    assert (one.metrics, one.identity) == (two.metrics, two.identity)
    assert two.timing.ranks == 2
    shared = [(tmp_path / f"log-two-Batchwise/{rank}.keys").read_text().split() for rank in range(2)]
    assert all(len(keys) > 10 for keys in shared)


@pytest.mark.slow
def test_ten_kills_at_random_requests_end_with_the_same_bits_and_no_shard(served, tmp_path):
    assert started(served, tmp_path / "whole", "Batchwise") == [0]
    out, draw, answer = tmp_path / "out", random.Random(0), served.hub.server.faults
    killed = 0
    for _ in range(10):
        pids: list[int] = []
        left = [draw.randrange(1, 14)]

        def kill(request: Request, handler: Handler, left: list[int] = left, pids: list[int] = pids) -> bool:
            left[0] -= 1
            if left[0] == 0:
                wait_until(lambda: pids)
                os.kill(pids[0], signal.SIGKILL)
            return answer(request, handler)

        served.hub.server.faults = kill
        (code,) = started(served, out, "Batchwise", pids=pids)
        killed += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL)
        assert len([*out.glob(".stream*")]) <= 1
    served.hub.server.faults = answer
    assert started(served, out, "Batchwise") == [0]
    assert killed >= 5
    assert not [*out.glob(".stream*")]
    assert features(out) == features(tmp_path / "whole")
    results = [read_result(next(folder.rglob("RESULT.json"))) for folder in (out, tmp_path / "whole")]
    assert results[0].metrics == results[1].metrics
