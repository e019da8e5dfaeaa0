"""The loader: the recorded order, the same batches for any workers and ranks, and going on from any place."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch, Sample, join_positions, open_loader
from cosmos_core.errors import RequestError
from cosmos_core.objectives.base import Views
from cosmos_core.seeds import derive_seed, sample_generator
from cosmos_core.tokenizer import build_tokenizer
from cosmos_core.views import MultiCrop, TextCrop, normalize_pixels
from cosmos_core.world import World
from tests.core.test_data import numbered_shard, samples

IMAGES = MultiCrop(local_crops=1, global_size=16, local_size=8)
VIEWS = Views(IMAGES, captions=3)
TOKENIZER = build_tokenizer({"context_length": 12, "vocab_size": 500})
CONFIG = TrainConfig(model={}, batch_size=8, captions=3, shuffle=4, views=IMAGES)


def batches(config: TrainConfig, count: int, data: Any = None, start: Any = None, world: World | None = None) -> list:
    loader = open_loader(config, VIEWS, TOKENIZER, data, world or World())
    try:
        return list(islice(loader.batches(start), count))
    finally:
        loader.close()


def content(batch: Batch) -> tuple:
    return (
        batch.epoch,
        batch.ends_epoch,
        batch.keys,
        [view.numpy().tobytes() for view in batch.images],
        batch.texts.numpy().tobytes(),
        batch.seen,
        sorted(batch.broken.items()),
        json.dumps(batch.state, sort_keys=True),
    )


def rows(batch: Batch) -> set[tuple]:
    return {
        (key, *(view[row].numpy().tobytes() for view in batch.images), batch.texts[row].numpy().tobytes())
        for row, key in enumerate(batch.keys)
    }


def recorded(data: list[Sample], config: TrainConfig, epoch: int) -> Iterator[tuple[list[str], list, torch.Tensor]]:
    """The batches of an epoch as the shipped checkpoint was trained on them, in the fewest lines."""
    places = list(range(len(data)))
    random.Random(derive_seed(config.seed, epoch, "order")).shuffle(places)
    captions = TextCrop(config.captions, config.caption_mode)
    for first in range(0, len(data) - config.batch_size + 1, config.batch_size):
        chosen = [data[place] for place in places[first : first + config.batch_size]]
        views = [IMAGES.pixels(p, sample_generator(config.seed, epoch, key, "views")) for key, p, _ in chosen]
        texts = [captions(r, sample_generator(config.seed, epoch, key, "captions"), key) for key, _, r in chosen]
        yield (
            [key for key, _, _ in chosen],
            [normalize_pixels(np.stack(view), IMAGES.mean, IMAGES.std) for view in zip(*views, strict=True)],
            TOKENIZER([text for drawn in texts for text in drawn]).reshape(config.batch_size, config.captions, -1),
        )


@pytest.mark.parametrize("batch_size", [8, 6, 1, 20])
@pytest.mark.parametrize("workers", [0, 2])
def test_one_process_gives_the_recorded_batches_to_the_bit(batch_size: int, workers: int):
    data = samples(41)
    config = replace(CONFIG, batch_size=batch_size, seed=3, workers=workers)
    expected = [batch for epoch in (0, 1) for batch in recorded(data, config, epoch)]
    found = batches(config, len(expected), data)
    for (keys, images, texts), batch in zip(expected, found, strict=True):
        assert batch.keys == keys
        assert all(torch.equal(a, b) for a, b in zip(batch.images, images, strict=True))
        assert torch.equal(batch.texts, texts)
    steps = 41 // batch_size
    assert [batch.epoch for batch in found] == [0] * steps + [1] * steps
    assert [i for i, batch in enumerate(found) if batch.ends_epoch] == [steps - 1, 2 * steps - 1]


def shard_folder(tmp_path: Path, sizes: list[int], broken: tuple[int, ...] = ()) -> str:
    """Shards of those sizes, samples numbered through; the pattern that names them."""
    first = 0
    for number, size in enumerate(sizes):
        numbered_shard(tmp_path / f"s-{number:02d}.tar", range(first, first + size), broken)
        first += size
    return f"{tmp_path}/s-{{00..{len(sizes) - 1:02d}}}.tar"


def mixed_config(tmp_path: Path) -> TrainConfig:
    """Two kinds of sources, weights in two stages, uneven shards, a broken sample in some: all at once."""
    pattern = shard_folder(tmp_path, [7, 13, 5, 9], broken=(3, 20))
    config = replace(CONFIG, data=f"{pattern}::toybox", data_weights="2::1,1::3@4", samples=24, epochs=3)
    return replace(config, batch_size=8, lanes=4)


SOURCES = {
    "records": lambda path: replace(CONFIG, data="toybox"),
    "shards": lambda path: replace(CONFIG, data=shard_folder(path, [7, 13, 5, 9], broken=(3,)), max_broken=1.0),
    "one shard": lambda path: replace(CONFIG, data=shard_folder(path, [40])),
    "endless": lambda path: replace(
        CONFIG, data=f"pipe:cat '{shard_folder(path, [20]).replace('{00..00}', '00')}'", steps=9
    ),
    "mixed": mixed_config,
}


@pytest.fixture(params=list(SOURCES))
def config(request: pytest.FixtureRequest, tmp_path: Path) -> TrainConfig:
    return SOURCES[request.param](tmp_path)


def data_of(config: TrainConfig) -> list[Sample] | None:
    return samples(29) if "toybox" in config.data else None


def test_the_number_of_workers_changes_nothing(config: TrainConfig):
    alone = [content(batch) for batch in batches(config, 9, data_of(config))]
    for workers in (1, 3):  # three do not share eight or four lanes evenly: two of them do
        found = batches(replace(config, workers=workers), 9, data_of(config))
        assert [content(batch) for batch in found] == alone, workers


def test_what_a_sample_takes_from_its_neighbours_and_its_worker_is_nothing():
    data = samples(24)
    whole = {row for batch in batches(CONFIG, 3, data) for row in rows(batch)}
    assert {
        row for batch in batches(replace(CONFIG, batch_size=4, workers=4), 6, data[::-1]) for row in rows(batch)
    } == whole


def test_ranks_share_out_the_same_batches(config: TrainConfig):
    whole = [rows(batch) for batch in batches(config, 9, data_of(config))]
    for size in (2, 4):
        shares = [batches(config, 9, data_of(config), world=World(rank, size)) for rank in range(size)]
        for step, expected in enumerate(whole):
            parts = [rows(share[step]) for share in shares]
            assert all(len(part) == config.batch_size / size for part in parts)
            assert set.union(*parts) == expected
            assert {batch.epoch for batch in (share[step] for share in shares)} == {shares[0][step].epoch}


def test_a_run_goes_on_from_any_batch_with_other_ranks_and_workers(config: TrainConfig):
    whole = batches(config, 9, data_of(config))
    for after in (0, 3, 6):
        start = json.loads(json.dumps(join_positions([whole[after].state])))
        found = batches(config, 8 - after, data_of(config), start)
        assert [content(batch) for batch in found] == [content(batch) for batch in whole[after + 1 :]], after
    shares = [batches(config, 4, data_of(config), world=World(rank, 2)) for rank in range(2)]
    start = join_positions([share[3].state for share in shares])
    assert start == whole[3].state
    found = batches(replace(config, workers=2), 3, data_of(config), start)
    assert [content(batch) for batch in found] == [content(batch) for batch in whole[4:7]]
    again = [batches(config, 3, data_of(config), start, World(rank, 4)) for rank in range(4)]
    for step in range(3):
        assert set.union(*(rows(share[step]) for share in again)) == rows(whole[4 + step])


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) >= 8),
    lanes=st.sampled_from([1, 2, 4, 8]),
    block=st.integers(1, 9),
    after=st.integers(0, 5),
    ranks=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 3),
)
def test_any_place_in_any_shards_can_be_gone_on_from(tmp_path_factory, sizes, lanes, block, after, ranks, seed):
    folder = tmp_path_factory.mktemp("shards")
    config = replace(CONFIG, data=shard_folder(folder, sizes), lanes=lanes, shuffle=block, seed=seed)
    whole = batches(config, after + 4)
    world = ranks if lanes % ranks == 0 else 1
    start = json.loads(json.dumps(whole[after].state))
    shares = [batches(config, 3, None, start, World(rank, world)) for rank in range(world)]
    for step in range(3):
        assert set.union(*(rows(share[step]) for share in shares)) == rows(whole[after + 1 + step])


def test_an_epoch_of_shards_holds_every_sample_once_where_they_divide_among_the_lanes(tmp_path: Path):
    for sizes in ([6, 6, 6, 6, 6, 6], [24], [8, 8, 8]):
        folder = tmp_path / str(len(sizes))
        folder.mkdir()
        config = replace(CONFIG, data=shard_folder(folder, sizes), batch_size=4)
        steps = sum(sizes) // 4
        epochs = [[key for batch in part for key in batch.keys] for part in in_epochs(batches(config, 2 * steps))]
        for keys in epochs:
            assert len(keys) == len(set(keys)) == steps * 4
        assert epochs[0] != epochs[1]


def in_epochs(found: list[Batch]) -> list[list[Batch]]:
    parts: list[list[Batch]] = [[]]
    for batch in found:
        parts[-1].append(batch)
        if batch.ends_epoch:
            parts.append([])
    return parts[:-1]


def test_uneven_shards_fill_every_epoch_and_leave_nothing_out_for_good(tmp_path: Path):
    config = replace(CONFIG, data=shard_folder(tmp_path, [1, 30, 3, 6]), batch_size=8, lanes=8)
    found = in_epochs(batches(config, 5 * 6))
    assert [len(epoch) for epoch in found] == [5] * 6
    drawn = Counter(key for epoch in found for batch in epoch for key in batch.keys)
    assert len(drawn) == 40
    assert max(drawn.values()) <= 12  # 6 on average; passes of small lanes are short


def test_an_epoch_shorter_than_the_data_goes_on_where_the_last_one_stopped(tmp_path: Path):
    config = replace(CONFIG, data=shard_folder(tmp_path, [16, 16]), samples=8, batch_size=8)
    keys = [key for batch in batches(config, 4) for key in batch.keys]
    assert len(set(keys)) == 32


def test_what_is_drawn_again_within_an_epoch_gets_other_views(tmp_path: Path):
    config = replace(CONFIG, data=shard_folder(tmp_path, [8]), samples=16, batch_size=8)
    first, second = batches(config, 2)
    assert (first.epoch, second.epoch, second.ends_epoch) == (0, 0, True)
    assert set(first.keys) == set(second.keys)
    assert not rows(first) & rows(second)


def test_an_unknown_number_of_samples_is_one_endless_epoch(tmp_path: Path):
    path = numbered_shard(tmp_path / "0.tar", range(8))
    config = replace(CONFIG, data=f"pipe:cat '{path}'", steps=5)
    loader = open_loader(config, VIEWS, TOKENIZER)
    assert (loader.steps_per_epoch, loader.samples_per_epoch) == (0, 0)
    found = list(islice(loader.batches(), 5))
    assert {batch.epoch for batch in found} == {0}
    assert not any(batch.ends_epoch for batch in found)
    assert len({batch.keys[0] for batch in found}) > 1
    with pytest.raises(RequestError, match=r"remote .* unknown number of samples: set samples, or steps"):
        open_loader(replace(config, steps=0), VIEWS, TOKENIZER)


def test_another_seed_gives_other_batches_and_the_folder_does_not_matter(tmp_path: Path):
    found = {}
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        config = replace(CONFIG, data=shard_folder(tmp_path / folder, [20, 20]))
        found[folder] = [content(batch) for batch in batches(config, 3)]
    assert found["a"] == found["b"]
    assert batches(replace(config, seed=1), 1)[0].keys != batches(config, 1)[0].keys


@pytest.mark.parametrize(
    ("changes", "world", "reason"),
    [
        ({"lanes": 3}, World(), r"3 lanes do not divide batch_size=8 and 1 rank evenly: set lanes=1 or 2 or 4"),
        ({"lanes": 2}, World(0, 4), r"2 lanes .* 4 ranks evenly: set lanes=4 or 8"),
        ({"batch_size": 10}, World(0, 4), r"batch_size=10 does not divide among 4 ranks: set 8 or 12"),
        ({"batch_size": 2}, World(0, 4), r"batch_size=2 does not divide among 4 ranks: set 4$"),
        ({"batch_size": 30}, World(), r"29 samples, fewer than one batch of 30"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused_with_what_would(changes: dict, world: World, reason: str):
    with pytest.raises(RequestError, match=reason):
        open_loader(replace(CONFIG, **changes), VIEWS, TOKENIZER, samples(29), world)


def test_a_position_in_other_data_or_with_other_settings_is_refused(tmp_path: Path):
    config = replace(CONFIG, data=shard_folder(tmp_path, [20, 20]))
    state = batches(config, 2)[1].state
    for other in ({"seed": 1}, {"lanes": 4}, {"shuffle": 5}, {"samples": 24}, {"batch_size": 16}):
        with pytest.raises(RequestError, match="is of other data"):
            batches(replace(config, **other), 1, start=state)
    with pytest.raises(RequestError, match="is of other data"):
        batches(config, 1, samples(40), start=state)
    state["3"] = {**state["3"], "given": 0}
    with pytest.raises(RequestError, match="lanes are at different batches"):
        batches(config, 1, start=state)


def test_the_plan_says_what_is_drawn_and_by_whom(tmp_path: Path):
    config = replace(CONFIG, data=f"{shard_folder(tmp_path, [20, 20])}::toybox", data_weights="3::1", workers=5)
    plan = open_loader(config, VIEWS, TOKENIZER, samples(29), World(1, 2)).describe()
    assert [(s["kind"], s["samples"], s["weight"]) for s in plan["sources"]] == [
        ("shards", 40, 0.75),
        ("records", 29, 0.25),
    ]
    assert [s.get("parts") for s in plan["sources"]] == [4, None]
    assert (plan["samples_per_epoch"], plan["steps_per_epoch"], plan["lanes"]) == (69, 8, 8)
    assert (plan["ranks"], plan["workers_per_rank"], plan["samples_per_rank"]) == (2, 4, 4)
