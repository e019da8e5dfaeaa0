"""Mixing sources: shares that hold over any stretch, and stages that begin at their step."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_core.data import Batch, open_loader
from cosmos_core.data.mixing import Stage, parse_stages
from cosmos_core.errors import RequestError
from tests.core.test_data_loader import (
    CONFIG,
    TOKENIZER,
    VIEWS,
    batches,
    in_epochs,
    numbered_shard,
    samples,
    shard_folder,
)


def drawn(found: Sequence[Batch]) -> Counter[str]:
    """Samples by kind of key: shards' begin with the shard's name."""
    return Counter(key.partition("-")[0].partition("y")[0] for batch in found for key in batch.keys)


@pytest.mark.parametrize(("weights", "share"), [("3::1", 0.75), ("0.1::0.3", 0.25), ("1::0", 1.0)])
def test_weights_are_kept_over_any_stretch(tmp_path: Path, weights: str, share: float):
    pattern = shard_folder(tmp_path, [16, 16])
    config = replace(CONFIG, data=f"{pattern}::toybox", data_weights=weights, samples=800)
    found = batches(config, 10, samples(32))
    for part in (found[:5], found[5:], found):
        assert abs(drawn(part)["s"] - share * 8 * len(part)) <= 8  # one a lane
    assert batches(replace(config, seed=1), 1, samples(32))[0].keys != found[0].keys


def test_sources_of_two_kinds_are_drawn_from_by_their_sizes(tmp_path: Path):
    config = replace(CONFIG, data=f"{shard_folder(tmp_path, [16, 16])}::toybox", batch_size=8)
    epoch = in_epochs(batches(config, 6, samples(16)))[0]
    assert len(epoch) == 6
    assert abs(drawn(epoch)["s"] - 32) <= 8


def test_a_stage_begins_with_its_step_and_ends_where_the_next_begins(tmp_path: Path):
    pattern = shard_folder(tmp_path, [16, 16])
    # three steps an epoch, so that both stages begin within one
    config = replace(CONFIG, data=f"{pattern}::toybox", samples=24, epochs=5)
    config = replace(config, data_weights="1::0,0::1@2,3::1@4")
    found = batches(config, 14, samples(32))
    assert [drawn([batch])["s"] for batch in found[:4]] == [8, 8, 0, 0]
    assert abs(drawn(found[4:])["s"] - 0.75 * 80) <= 8
    # what comes before a stage is drawn as if it did not exist
    alone = batches(replace(config, data_weights="1::0"), 2, samples(32))
    assert [batch.keys for batch in alone] == [batch.keys for batch in found[:2]]
    endless = replace(config, data=f"pipe:cat '{pattern.replace('{00..01}', '00')}'::toybox", samples=0, steps=9)
    assert [drawn([batch])["s"] > 0 for batch in batches(endless, 4, samples(32))] == [True, True, False, False]


def test_a_position_is_of_one_list_of_stages(tmp_path: Path):
    config = replace(CONFIG, data=f"{shard_folder(tmp_path, [16, 16])}::toybox", data_weights="2::1,1::1@3")
    config = replace(config, epochs=2)
    state = json.loads(json.dumps(batches(config, 1, samples(32))[0].state))
    assert batches(config, 1, samples(32), state)
    for other in ("2::1", "2::1,1::1@4", "2::1,1::2@3"):
        with pytest.raises(RequestError, match="is of other data"):
            batches(replace(config, data_weights=other), 1, samples(32), state)


def test_stages_are_read_from_one_line():
    assert parse_stages("", 2) == []
    assert parse_stages("2::1", 2) == [Stage(0, (2, 1))]
    assert parse_stages("3::1, 0.5::0.5@20000,0::1@30000", 2) == [
        Stage(0, (3, 1)), Stage(20_000, (0.5, 0.5)), Stage(30_000, (0, 1)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ("1", "1 weight for 2 sources of data: give one for each source, joined by ::"),
        ("1::x", "numbers joined by ::"),
        ("1::\n", r"1::\\n: numbers joined by ::"),
        ("0::0", "one of them above"),
        ("1::-1", "at least 0"),
        ("1::inf", "finite"),
        ("1::1@0", "the first stage begins at step 0: write it without @"),
        ("3::1,1::1", r"each stage after the first ends with @ and the steps before it, such as 3::1,1::1@20000"),
        ("3::1,1::1@1e4", "each stage after the first ends with @"),
        ("3::1,1@5", "1 weight for 2 sources"),
        ("3::1,1::1@5,2::1@5", "stages must follow each other, and @5 is not after step 5"),
        ("3::1,1::1@0", "stages must follow each other, and @0 is not after step 0"),
        ("3::1,1::1@4", "a stage begins after 4 steps, and the run ends after 4: set a smaller number after @"),
        (",".join(["1::1"] * 1001), "1,001 stages, more than 1,000"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, weights: str, reason: str):
    shard = numbered_shard(tmp_path / "0.tar", range(8))
    config = replace(CONFIG, data=f"{shard}::toybox", data_weights=weights, epochs=2)  # of two steps each
    with pytest.raises(RequestError, match=rf"^data_weights.*{reason}") as caught:
        open_loader(config, VIEWS, TOKENIZER, samples(8))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_weights_of_a_plain_iterable_are_refused():
    with pytest.raises(RequestError, match="a plain iterable is one source, which data_weights cannot mix"):
        open_loader(replace(CONFIG, data_weights="1::1"), VIEWS, TOKENIZER, iter(samples(8)))
