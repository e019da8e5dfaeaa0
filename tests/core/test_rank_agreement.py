"""Ranks agree before the first step: whatever would make them train different things is refused in one line on all."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosmos_core import rank_agreement
from cosmos_core.config import TrainConfig
from cosmos_core.data.sources import ShardList
from cosmos_core.data.tables import csv_pairs
from cosmos_core.errors import RequestError
from cosmos_core.rank_agreement import digest_of, record_digests, require_equal_facts, settings, source_facts, versions
from cosmos_core.train import Silent, pretrain
from cosmos_core.world import World
from tests.core.gloo_ranks import on_ranks
from tests.core.small_steps import CONFIG
from tests.core.threaded_ranks import Table


class PlayedWorld(World):
    """One of several ranks that are threads."""

    def __init__(self, rank: int, size: int, table: Table) -> None:
        super().__init__(rank, size)
        object.__setattr__(self, "table", table)

    def gather(self, value: Any) -> list[Any]:
        return self.table.exchange(self.rank, value)  # type: ignore[attr-defined]


def said(*facts: dict[str, str]) -> list[tuple[str, bool]]:
    """What each rank says that has these facts, and whether it leaves it to another to print it."""
    table, lines = Table(len(facts)), [("", False)] * len(facts)

    def come(rank: int) -> None:
        try:
            require_equal_facts(facts[rank], PlayedWorld(rank, len(facts), table))
        except RequestError as error:
            lines[rank] = (str(error), error.quiet)

    threads = [threading.Thread(target=come, args=(rank,)) for rank in range(len(facts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return lines


def test_equal_facts_are_agreed_on():
    assert said({"lr": "0.1"}, {"lr": "0.1"}) == [("", False)] * 2


def test_the_first_rank_that_differs_is_named_with_both_values():
    lines = said({"lr": "0.1", "seed": "0"}, {"lr": "0.1", "seed": "0"}, {"lr": "0.2", "seed": "0"}, {"lr": "0.3"})
    line = (
        "ranks do not agree: lr is 0.1 on rank 0 and 0.2 on rank 2 (and 1 more); seed is 0 on rank 0 and absent on "
        "rank 3; start all ranks with the same command, data and packages"
    )
    assert lines == [(line, rank > 0) for rank in range(4)]


def test_many_differences_are_three_and_a_number():
    first, second = ({f"key {n}": f"{n + more}" for n in range(10)} for more in (0, 1))
    assert "key 2 is 2 on rank 0 and 3 on rank 1 and 7 more; start" in said(first, second)[0][0]


def test_what_belongs_to_a_machine_is_not_compared():
    here = settings(replace(CONFIG, data="/here/{0..3}.tar", out="/here/run", device="cuda:0", threads=1, workers=2))
    there = settings(replace(CONFIG, data="/mnt/x/{0..3}.tar", out="there", device="cuda:1", threads=4, workers=0))
    assert here == there
    evaluated = {"eval_suite": "pairs", "eval_networks": "both", "eval_limit": 5}  # by the first rank alone
    assert settings(replace(CONFIG, **evaluated)) == settings(CONFIG)
    changes = (
        {"lr": 2.0},
        {"eval_every": 7},
        {"seed": 1},
        {"log_every": 3},
        {"data": "other.tar"},
        {"save_every": 9},
        {"out": ""},
    )
    for change in changes:
        assert here != settings(replace(CONFIG, **{"data": "{0..3}.tar", "out": "run", **change})), change


def test_versions_and_code_are_facts(monkeypatch):
    before = versions()
    assert before["package torch"] == torch.__version__.split("+")[0] or before["package torch"] == torch.__version__
    monkeypatch.setattr(rank_agreement, "version_of", lambda name: "absent")
    assert versions()["package torch"] == "absent"
    assert len(before["the code of cosmos_core"]) == 8


def test_shards_are_told_apart_by_size_and_content_and_tables_by_content(tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(b"x" * 1024)
    shards = ShardList("", [str(tmp_path / "a.tar"), "https://host/b.tar"], ["a.tar", "b.tar"])
    facts = source_facts(shards)
    assert facts["shard a.tar"].startswith("1,024 bytes, digest ")
    assert facts["shard b.tar"] == "remote"
    (tmp_path / "a.tar").write_bytes(b"x" * 1023 + b"y")
    assert source_facts(shards)["shard a.tar"] != facts["shard a.tar"]
    digests = []
    for caption in ("one", "two"):
        (tmp_path / "t.csv").write_text(f"filepath,title\np.png,{caption}\n")
        digests += record_digests(csv_pairs(tmp_path / "t.csv", "filepath", "title"))
    assert [(name, count) for name, count, _ in digests] == [("t.csv", 1)] * 2
    assert digests[0] != digests[1]


def test_a_digest_sees_one_bit_and_the_type():
    one = {"a": torch.tensor([1.0, 2.0]), "b": [1, "x"]}
    assert digest_of(one) == digest_of({"b": [1, "x"], "a": torch.tensor([1.0, 2.0])})
    others = ({**one, "a": torch.tensor([1.0, 2.0000002])}, {**one, "a": torch.tensor([1.0, 2.0]).double()})
    assert len({digest_of(one), *map(digest_of, others)}) == 3


def records(first: str = "a red circle") -> list[Any]:
    words = [first, "a blue square", "a black star", "a grey moon"]
    return [(str(n), np.full((16, 16, 3), 50 * n, np.uint8), {"raw_caption": word}) for n, word in enumerate(words)]


def train_differently(world: World, folder: str) -> dict[str, str]:
    """What a training of two steps says where rank 1 is given something else; empty where it trains."""
    torch.set_num_threads(1)
    base = replace(CONFIG, steps=2, batch_size=2, log_every=1, save_every=1)
    odd = world.rank == 1
    cases: dict[str, tuple[TrainConfig, list[Any]]] = {
        "lr": (replace(base, lr=2e-2) if odd else base, records()),
        "seed": (replace(base, seed=1) if odd else base, records()),
        "log_every": (replace(base, log_every=2) if odd else base, records()),
        "data": (base, records("a green ring") if odd else records()),
        "length of the data": (base, records()[:3] if odd else records()),
        "workers and threads": (replace(base, threads=1, out=f"{folder}/{world.rank}"), records()),
    }
    found = {}
    for name, (config, data) in cases.items():
        try:
            pretrain(config, data, world, [], Silent(), False)
            found[name] = ""
        except RequestError as error:
            found[name] = str(error)
    return found


def test_a_training_whose_ranks_were_given_different_things_does_not_begin(tmp_path: Path):
    (tmp_path / "meet").mkdir()
    first, second = on_ranks(train_differently, [2], tmp_path / "meet", str(tmp_path))[2]
    assert first == second
    assert "lr is 0.01 on rank 0 and 0.02 on rank 1" in first["lr"]
    assert "seed is 0 on rank 0 and 1 on rank 1" in first["seed"]
    assert "log_every is 1 on rank 0 and 2 on rank 1" in first["log_every"]
    assert "training data in memory is 4 samples, digest" in first["data"]
    assert "samples in an epoch is 4 on rank 0 and 3 on rank 1" in first["length of the data"]
    assert first["workers and threads"] == ""
    assert (tmp_path / "0" / "last.pt").exists()
    assert not (tmp_path / "1").exists()
