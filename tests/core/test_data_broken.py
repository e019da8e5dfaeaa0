"""Samples that cannot be used: counted, named, skipped, and too many of them."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from cosmos_core.data import Batch, open_loader
from cosmos_core.errors import RequestError
from cosmos_core.world import World
from tests.core.test_data import numbered_shard, samples
from tests.core.test_data_loader import CONFIG, TOKENIZER, VIEWS, batches, in_epochs, shard_folder


def counted(found: list[Batch]) -> tuple[int, int]:
    state = {lane: place for lane, place in found[-1].state.items() if lane != "plan"}
    return sum(place["seen"] for place in state.values()), sum(place["broken"] for place in state.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_one_broken_sample_in_twenty_is_skipped_counted_and_named(tmp_path: Path, workers: int):
    bad = tuple(range(0, 240, 20))
    config = replace(CONFIG, data=shard_folder(tmp_path, [60] * 4, bad), batch_size=16, workers=workers)
    loader = open_loader(config, VIEWS, TOKENIZER)
    assert loader.steps_per_epoch == 15
    found = list(islice(loader.batches(), 15))
    loader.close()
    assert all(len(batch.keys) == 16 for batch in found)
    broken = {key: reason for batch in found for key, reason in batch.broken.items()}
    assert set(broken) <= {f"s-{i // 60:02d}.tar/{i:04d}" for i in bad}
    assert len(broken) >= 8  # an epoch's worth of whole samples passes nearly all of them
    assert all(reason.startswith("image: cannot decode the image of s-0") for reason in broken.values())
    assert not set(broken) & {key for batch in found for key in batch.keys}
    seen, lost = counted(found)
    assert seen == sum(batch.seen for batch in found) == 240 + lost
    assert lost == sum(len(batch.broken) for batch in found)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_without_one_usable_sample_stops_with_one_line(tmp_path: Path, workers: int):
    config = replace(CONFIG, data=shard_folder(tmp_path, [10, 10], tuple(range(20))), workers=workers, max_broken=1.0)
    with pytest.raises(RequestError, match=r"nothing usable in 200 samples, .* in a row; the last: image: ") as caught:
        batches(config, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_more_broken_samples_than_allowed_stop_the_run_once_200_were_seen(tmp_path: Path, workers: int):
    bad = tuple(range(0, 160, 4))
    config = replace(CONFIG, data=shard_folder(tmp_path, [40] * 4, bad), batch_size=16, workers=workers)
    assert counted(batches(replace(config, max_broken=0.5), 18))[0] > 300
    loader = open_loader(config, VIEWS, TOKENIZER)
    found: list[Batch] = []
    with pytest.raises(RequestError, match=r"^\d+ of the first \d+ samples are unusable, more than max_broken=0.1"):
        found.extend(loader.batches())
    loader.close()
    assert sum(batch.seen for batch in found) < 200  # it stops at the first batch that has seen as many


def test_the_share_is_kept_over_a_resume(tmp_path: Path):
    bad = tuple(range(0, 160, 4))
    config = replace(CONFIG, data=shard_folder(tmp_path, [40] * 4, bad), batch_size=16)
    start = batches(config, 5)[-1].state
    with pytest.raises(RequestError, match="more than max_broken"):
        batches(config, 10, start=start)


def test_a_shard_cut_short_counts_as_the_samples_it_lost(tmp_path: Path):
    pattern = shard_folder(tmp_path, [40] * 4)
    path = tmp_path / "s-01.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])
    config = replace(CONFIG, data=pattern, samples=160, max_broken=0.2, lanes=4)
    found = batches(config, 20)
    broken = {key: reason for batch in found for key, reason in batch.broken.items()}
    assert list(broken) == ["s-01.tar"]
    assert "s-01.tar cannot be read as a tar file: " in broken["s-01.tar"]
    assert 15 <= counted(found)[1] <= 25
    with pytest.raises(RequestError, match=r"more than max_broken=0.1"):
        batches(replace(config, max_broken=0.1), 60)


def test_lost_shards_and_no_other_stop_the_run(tmp_path: Path):
    for i in range(3):
        (tmp_path / f"s-{i:02d}.tar").write_bytes(b"x" * 2000)
    config = replace(CONFIG, data=f"{tmp_path}/s-{{00..02}}.tar", samples=100)
    with pytest.raises(RequestError, match=r"or 10 shards, in a row; the last: shard: shard .* cannot be read"):
        batches(config, 1)


def test_broken_records_are_replaced_and_the_epoch_keeps_its_length():
    data = samples(40)
    for i in range(0, 40, 20):
        data[i] = (f"wordless{i}", data[i][1], {"raw_caption": []})
    found = in_epochs(batches(CONFIG, 10, data))
    assert [len(epoch) for epoch in found] == [5, 5]
    for epoch in found:
        broken = [key for batch in epoch for key in batch.broken]
        assert set(broken) == {"wordless0", "wordless20"}
        assert len({key for batch in epoch for key in batch.keys}) == 38  # two lanes start over for one sample each


def test_every_rank_counts_its_own(tmp_path: Path):
    bad = tuple(range(0, 80, 20))
    config = replace(CONFIG, data=shard_folder(tmp_path, [40, 40], bad))
    whole = batches(config, 10)
    shares = [batches(config, 10, world=World(rank, 2)) for rank in range(2)]
    for step, batch in enumerate(whole):
        assert batch.broken == {**shares[0][step].broken, **shares[1][step].broken}
        assert batch.seen == shares[0][step].seen + shares[1][step].seen


def test_a_plain_iterable_is_held_to_the_same_share():
    data = [(f"k{i}", b"none" if i % 2 else samples(1)[0][1], "words") for i in range(600)]
    with pytest.raises(RequestError, match=r"of the first 20\d samples are unusable, more than max_broken=0.1"):
        list(open_loader(CONFIG, VIEWS, TOKENIZER, iter(data)).batches())


def test_one_shard_whose_images_are_missing_says_so(tmp_path: Path):
    path = numbered_shard(tmp_path / "0.tar", range(8), broken=(2,))
    found = batches(replace(CONFIG, data=str(path), lanes=1), 4)
    assert [list(batch.broken) for batch in found] == [["0.tar/0002"]] * 4
