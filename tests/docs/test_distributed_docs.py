"""docs/distributed.md: options and figures are those of the code; and errors of a rank before it meets the others."""

import re
from pathlib import Path

import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_core.world import World
from cosmos_eval.cache.feature_cache import WRITE_INTERVAL
from cosmos_eval.cli.main import run_command
from cosmos_eval.engine.dense import MIN_CHUNK_SIZE, chunk_size
from cosmos_eval.engine.precision import device_of_rank

DOCS = (Path(__file__).parents[2] / "docs/distributed.md").read_text(encoding="utf-8")


def test_options_exist(capsys):
    assert run_command(["run", "--help"]) == 0
    help_text = capsys.readouterr().out
    commands = re.findall(r"(?:cosmos_eval|cosmos-eval) run(.*?)(?:```|')", DOCS.replace("\\\n", " "), re.S)
    assert len(commands) >= 3
    for option in {word for line in commands for word in re.findall(r"--[a-z-]+", line)}:
        assert option in help_text, option


def test_figures_are_those_of_the_code():
    assert f"(as many as the batch size, {MIN_CHUNK_SIZE} at least)" in DOCS.replace("\n", " ")
    assert (chunk_size(4), chunk_size(64)) == (MIN_CHUNK_SIZE, 64)
    assert WRITE_INTERVAL == 5
    assert "every five seconds" in DOCS


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE must be a whole number, got 'two'"),
        ({"WORLD_SIZE": "2", "RANK": "first"}, "RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "RANK=0 must be below WORLD_SIZE=0"),
        ({"RANK": "1"}, "RANK is set and WORLD_SIZE is not"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "the ranks cannot find each other"),
    ],
)
def test_an_environment_without_valid_ranks_is_refused_in_one_line(environment, said, monkeypatch, capsys):
    for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    commands = [["run", "--out", "nowhere"]]
    if said != "the ranks cannot find each other":  # a dry run does not connect to other ranks
        commands += [["run", "--dry-run"], ["train", "toybox", "--dry-run", "--ranks", "2"]]
    for command in commands:
        assert run_command(command) == 2
        printed = capsys.readouterr()
        assert said in printed.err
        assert printed.err.count("\n") == 1
        assert printed.out == ""


def test_only_the_first_rank_prints_a_plan(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, lines in (("0", 5), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert run_command(["run", "--dry-run"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == lines


def test_each_rank_uses_the_gpu_of_its_local_rank(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr("cosmos_eval.engine.precision.resolve_device", torch.device)
    for word in ("auto", "cuda"):
        assert device_of_rank(word, World(5, 6, 1)) == torch.device("cuda:1")
    assert chosen == [1, 1]
    assert device_of_rank("cuda:0", World(5, 6, 1)) == torch.device("cuda:0")  # all on one, as asked for
    assert device_of_rank("cpu", World(5, 6, 1)) == torch.device("cpu")
    with pytest.raises(RequestError, match="rank 5 needs GPU 2, but its machine has 2"):
        device_of_rank("auto", World(5, 6, 2))
