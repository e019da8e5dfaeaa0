"""Samples to batches: order, determinism, what is left out, and shards on disk."""

import io
import json
import random
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.data import Batch, Sample, Shards, ViewLoader, buffered, read_shard
from cosmos_core.errors import RequestError
from cosmos_core.tokenizer import build_tokenizer
from cosmos_core.views import MultiCrop, TextCrop

VIEWS = MultiCrop(local_crops=1, global_size=16, local_size=8)


def samples(n: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (n, 20, 24, 3), dtype=np.uint8)
    return [
        (f"key{i}", picture, {"raw_caption": [f"word {i}"], "longIB_captions": ["a", "b"]})
        for i, picture in enumerate(pictures)
    ]


def loader(data, batch_size: int = 4, seed: int = 0, **options) -> ViewLoader:
    tokenizer = build_tokenizer({"context_length": 12, "vocab_size": 500})
    return ViewLoader(data, VIEWS, TextCrop(3), tokenizer, batch_size, seed, **options)


def test_a_batch_has_its_global_views_first_and_a_row_of_ids_for_each_caption():
    batch = next(loader(samples(8)).epoch(0))
    assert [tuple(view.shape) for view in batch.images] == [(4, 3, 16, 16)] * 2 + [(4, 3, 8, 8)]
    assert tuple(batch.texts.shape) == (4, 3, 12)
    assert batch.texts.dtype == torch.int64
    assert len(batch.keys) == 4


def test_an_epoch_holds_every_sample_once_but_the_last_incomplete_batch():
    keys = [key for batch in loader(samples(11)).epoch(0) for key in batch.keys]
    assert len(keys) == len(set(keys)) == 8


def by_key(batches: Iterator[Batch]) -> dict[str, tuple]:
    found = {}
    for batch in batches:
        for row, key in enumerate(batch.keys):
            found[key] = (*(view[row].numpy().tobytes() for view in batch.images), batch.texts[row].numpy().tobytes())
    return found


def test_what_a_sample_gives_depends_on_seed_epoch_and_key_only():
    data = samples(8)
    whole = by_key(loader(data).epoch(0))
    assert by_key(loader(data).epoch(0)) == whole
    assert by_key(loader(data[::-1], batch_size=2).epoch(0)) == whole  # another order, other neighbours
    assert by_key(iter_once(data)) == whole  # a stream
    for other in (by_key(loader(data).epoch(1)), by_key(loader(data, seed=1).epoch(0))):
        assert all(other[key][0] != whole[key][0] for key in whole)


def iter_once(data: list[Sample]) -> Iterator[Batch]:
    return loader(iter(data)).epoch(0)


def test_the_order_changes_with_the_epoch_and_not_with_the_run():
    def keys(epoch: int) -> list[str]:
        return [key for batch in loader(samples(20)).epoch(epoch) for key in batch.keys]

    assert keys(0) == keys(0) != keys(1)


def test_global_randomness_is_left_alone():
    random.seed(0)
    states = random.getstate(), torch.get_rng_state()
    next(loader(samples(4)).epoch(0))
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_a_sample_without_words_or_with_a_broken_picture_is_left_out_and_counted():
    data = samples(8)
    data[1] = ("wordless", data[1][1], {"raw_caption": []})
    data[2] = ("broken", b"no picture", data[2][2])
    data[6] = ("blank", data[6][1], {"original_caption": "", "caption": " . "})
    encoded = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(encoded, "JPEG")
    data[7] = ("lazy", Image.open(io.BytesIO(encoded.getvalue()[:-800])), data[7][2])
    made = loader(data, batch_size=2)
    keys = {key for batch in made.epoch(0) for key in batch.keys}
    assert keys == {"key0", "key3", "key4", "key5"}
    assert set(made.skipped) == {"wordless", "broken", "blank", "lazy"}
    assert "record blank has no words" in made.skipped["blank"]
    assert "picture of lazy" in made.skipped["lazy"]
    assert "record wordless" in made.skipped["wordless"]
    assert "picture of broken" in made.skipped["broken"]


def test_data_without_one_whole_batch_are_refused_with_the_reason():
    data = [(key, picture, {"raw_caption": []}) for key, picture, _ in samples(4)]
    with pytest.raises(RequestError, match=r"0 usable samples .* 4 were left out, the first because record key"):
        list(loader(data).epoch(0))
    with pytest.raises(RequestError, match="3 usable samples in epoch 0, fewer than one batch of 4; 0 were left out"):
        list(loader(samples(3)).epoch(0))


def test_an_iterator_that_is_used_up_says_so_in_the_next_epoch():
    made = loader(iter(samples(4)))
    assert len(list(made.epoch(0))) == 1
    with pytest.raises(RequestError, match="in epoch 1"):
        list(made.epoch(1))


def test_one_caption_of_each_sample_is_the_first_global_one():
    all_of_them, first = (next(loader(samples(4), **option).epoch(0)) for option in ({}, {"kept_captions": 1}))
    assert tuple(first.texts.shape) == (4, 1, 12)
    assert torch.equal(first.texts[:, 0], all_of_them.texts[:, 0])


def test_a_buffer_loses_nothing_and_mixes():
    stream = [(str(i), None, "x") for i in range(100)]
    mixed = list(buffered(iter(stream), random.Random(0), size=10))
    assert mixed != stream
    assert sorted(mixed) == sorted(stream)


class Lazy(Sequence):
    """Samples made when they are read, like rendered scenes."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index):
        return samples(8)[index]


def test_a_lazy_sequence_gives_what_a_list_gives():
    assert by_key(loader(Lazy()).epoch(2)) == by_key(loader(samples(8)).epoch(2))


def picture_bytes(colour: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (colour, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_shards_of_all_three_layouts_are_read(tmp_path: Path):
    dreamlip = {"raw_caption": ["raw"], "longIB_captions": ["one", "two"]}
    pixelprose = {"original_caption": "alt text", "caption": "One. Two."}
    members = {
        "0001.png": picture_bytes(1),
        "0001.json": json.dumps(dreamlip).encode(),
        "sub/0002.jpg": picture_bytes(2, "JPEG"),
        "sub/0002.json": json.dumps(pixelprose).encode(),
        "0003.txt": b"Plain one. Plain two",
        "0003.webp": picture_bytes(3, "WEBP"),
        "0004.png": picture_bytes(4),
        "0004.json": json.dumps({"width": 20}).encode(),
        "0004.txt": b"metadata beside a caption",
        "0005.txt": b"no picture",
        "0006.png": picture_bytes(6),
        "0006.json": b"{not json",
    }
    found = list(read_shard(write_shard(tmp_path / "a.tar", members)))
    assert [(key, record) for key, _, record in found] == [
        ("a.tar/0001", dreamlip),
        ("a.tar/sub/0002", pixelprose),
        ("a.tar/0003", "Plain one. Plain two"),
        ("a.tar/0004", "metadata beside a caption"),
        ("a.tar/0006", {}),
    ]
    made = loader(found, batch_size=1)
    assert len(list(made.epoch(0))) == 4
    assert list(made.skipped) == ["a.tar/0006"]


def test_shards_are_found_by_range_and_by_glob_and_mixed_anew_in_each_epoch(tmp_path: Path):
    for i in range(12):
        write_shard(tmp_path / f"d-{i:03d}.tar", {f"{i}.png": picture_bytes(i), f"{i}.txt": b"words"})
    by_range, by_glob = Shards.find(str(tmp_path / "d-{000..011}.tar")), Shards.find(str(tmp_path / "d-*.tar"))
    assert by_range == by_glob
    assert len(list(by_range)) == 12
    orders = [[key for batch in loader(by_range).epoch(epoch) for key in batch.keys] for epoch in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_shards_of_one_name_in_two_folders_have_keys_of_their_own(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_shard(tmp_path / folder / "0.tar", {"1.png": picture_bytes(1), "1.txt": b"words"})
    shards = Shards.find(str(tmp_path / "*" / "0.tar"))
    assert [key for key, _, _ in shards] == ["a/0.tar/1", "b/0.tar/1"]
    assert [key for key, _, _ in Shards(shards.paths[:1])] == ["0.tar/1"]


def test_a_missing_shard_is_named(tmp_path: Path):
    write_shard(tmp_path / "d-0.tar", {})
    with pytest.raises(RequestError, match=r"d-1\.tar; 2 of 3 missing"):
        Shards.find(str(tmp_path / "d-{0..2}.tar"))
    with pytest.raises(RequestError, match="no file"):
        Shards.find(str(tmp_path / "nothing-*.tar"))


@pytest.mark.parametrize("content", [b"", b"this is no tar file" * 100])
def test_a_file_that_is_no_tar_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "bad.tar"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"bad\.tar cannot be read"):
        list(read_shard(path))


def test_a_shard_cut_short_is_refused(tmp_path: Path):
    whole = write_shard(tmp_path / "cut.tar", {"1.png": b"\0" * 5000, "1.txt": b"words"}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:3000])
    with pytest.raises(RequestError, match=r"cut\.tar cannot be read"):
        list(read_shard(tmp_path / "cut.tar"))
