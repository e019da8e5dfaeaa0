"""Rows on disk: what is kept comes back bit for bit, what is not what was written never does, and nothing is mixed."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from cosmos_core.errors import RequestError
from cosmos_eval.cache import store
from cosmos_eval.cache.contents import damaged, held
from cosmos_eval.cache.shard import FILE_PREFIX, KEY_BYTES, Shard, checksum, shard_bytes
from cosmos_eval.cache.store import Space, Store
from cosmos_eval.datasets.base import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.models import load_model
from tests.helpers.killing import SERVER
from tests.helpers.stand_ins import RandomModel, random_images

TEXTS = [f"text {i}" for i in range(20)]


class Notes:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, description, total, unit="it"):
        return store.Silent().task(description, total, unit)

    def note(self, line):
        self.lines.append(line)


@pytest.fixture
def every_batch(monkeypatch):
    """A shard a batch."""
    monkeypatch.setattr(store, "SECONDS", -1.0)
    monkeypatch.setattr(store, "SHARE", 0)


def engine(folder: Path, model=None, batch_size: int = 4, limit: int = store.LIMIT, **options) -> Engine:
    return Engine(model or RandomModel(), batch_size=batch_size, store=Store(folder, limit), **options)


def shards(folder: Path, kind: str = "images") -> list[Path]:
    return sorted(folder.glob(f"*/{FILE_PREFIX[kind]}-*.safetensors"))


def encoded(model: RandomModel) -> int:
    return sum(map(len, model.image_batches)) + sum(map(len, model.text_batches))


def test_rows_of_an_earlier_run_come_back_bit_for_bit_and_nothing_is_encoded(tmp_path):
    some = random_images(11)
    first = engine(tmp_path)
    rows, texts = first.image_features(some), first.text_features(TEXTS)
    again = engine(tmp_path)
    assert torch.equal(again.image_features(some[::-1]), rows.flip(0))
    assert torch.equal(again.text_features([*TEXTS[5:], TEXTS[5]]), texts[[*range(5, 20), 5]])
    assert encoded(again.model) == 0
    assert again.encoded == {"images": 0, "texts": 0}
    assert torch.equal(Engine(RandomModel(), batch_size=4).image_features(some), rows)


def test_what_is_new_is_encoded_and_joins_what_was_stored(tmp_path):
    some = random_images(11)
    engine(tmp_path).image_features(some[:5])
    second = engine(tmp_path)
    rows = second.image_features(some)
    assert [len(batch) for batch in second.model.image_batches] == [4, 2]
    assert second.encoded["images"] == 6
    assert torch.allclose(rows, Engine(RandomModel()).image_features(some), atol=1e-6)
    third = engine(tmp_path)
    assert torch.equal(third.image_features(some), rows)
    assert encoded(third.model) == 0


@pytest.mark.usefixtures("every_batch")
@pytest.mark.parametrize("lost", [[0], [1], [0, 2], [3], [0, 1, 2, 3]])
def test_lost_batches_are_made_again_with_the_members_that_they_had(tmp_path, lost):
    some = random_images(15)
    first = engine(tmp_path)
    rows = first.image_features(some)
    by_key = {read_key(path): path for path in shards(tmp_path)}
    for batch in lost:
        by_key[bytes.fromhex(some[4 * batch].digest())].unlink()
    again = engine(tmp_path)
    assert torch.equal(again.image_features(some), rows)
    for ours, theirs in zip(again.model.image_batches, lost, strict=True):
        assert torch.equal(ours, first.model.image_batches[theirs])


def read_key(path: Path) -> bytes:
    return store.read_keys(path, path.parent.name)[0].tobytes()


@pytest.mark.usefixtures("every_batch")
@pytest.mark.parametrize("lost", [[0], [1], [0, 2], [1, 2, 3]])
def test_batches_of_like_length_that_were_lost_are_made_again_with_their_members(tmp_path, lost):
    texts = [" ".join(["cube"] * (1 + i % 9)) + f" {i}" for i in range(80)]

    def toybox() -> Engine:
        return engine(tmp_path, load_model("cosmos:untrained-toybox?seed=3"), batch_size=1)

    rows = toybox().text_features(texts)
    found = sorted(shards(tmp_path, "texts"), key=lambda path: path.stat().st_mtime_ns)
    assert len(found) > 3
    for batch in lost:
        found[batch].unlink()
    again = toybox()
    assert torch.equal(again.text_features(texts), rows)
    assert 0 < again.encoded["texts"] < 80


def test_texts_that_the_tower_cannot_tell_apart_share_the_stored_row(tmp_path):
    model = load_model("cosmos:untrained-toybox?seed=3")
    if getattr(model, "trimmed_text", None) is None:
        pytest.skip("the adapter gives texts as strings")
    first = engine(tmp_path, model).text_features(["a red cube", "two"])
    again = engine(tmp_path, model)
    assert torch.equal(again.text_features(["three spheres", "A Red  CUBE"])[1], first[0])
    assert again.encoded["texts"] == 1


def other(**changes) -> RandomModel:
    model = RandomModel(seed=1)
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def test_rows_of_another_digest_precision_or_version_are_never_mixed(tmp_path, monkeypatch):
    some = random_images(3)
    engine(tmp_path).image_features(some)
    changed = engine(tmp_path, other(digest="other"))
    assert torch.equal(changed.image_features(some), Engine(other()).image_features(some))
    half = engine(tmp_path, precision="bf16")
    half.image_features(some)
    monkeypatch.setattr(store, "ROWS", 2)
    renewed = engine(tmp_path)
    renewed.image_features(some)
    monkeypatch.setattr(store.metadata, "version", lambda name: "0")
    upgraded = engine(tmp_path)
    upgraded.image_features(some)
    assert [encoded(one.model) for one in (changed, half, renewed, upgraded)] == [3] * 4
    assert len(held(tmp_path)) == 5
    about = {"digest": "d", "precision": "fp32", "device": "cpu", "rows": 1, "packages": {}}
    assert store.space_name(about) != store.space_name({**about, "device": "cuda"})


def test_a_model_without_a_digest_and_vectors_made_elsewhere_are_never_stored(tmp_path):
    class Table(RandomModel):
        def image_rows(self, some):
            return torch.ones(len(some), 3)

        def text_rows(self, texts):
            return torch.ones(len(texts), 3)

    for model in (other(digest=""), Table()):
        for _ in range(2):
            own = engine(tmp_path, model)
            own.image_features(random_images(3))
            own.text_features(TEXTS)
    assert list(tmp_path.iterdir()) == []


def flipped(place: float):
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


def cut(share: float):
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def of_another_model(path: Path) -> None:
    """Whole by its checksum, in the wrong folder."""
    foreign = Engine(other(digest="other"), store=Store(path.parent.parent / "elsewhere"))
    foreign.image_features(random_images(9))
    (there,) = shards(path.parent.parent / "elsewhere")
    path.unlink()
    there.rename(path.parent / there.name)


def made_up(path: Path) -> None:
    """Whole by its checksum, and no shard of ours."""
    content = save({"keys": np.zeros((2, 3), np.uint8), "rows": np.zeros((2, 3), np.float32)})
    path.unlink()
    (path.parent / f"pictures-{checksum(content)}.safetensors").write_bytes(content)


def not_finite(path: Path) -> None:
    """Whole by its checksum, with a row that no model of ours would have stored."""
    rows = np.full((9, 16), np.nan, np.float32)
    keys = np.stack([np.frombuffer(bytes.fromhex(one.digest()), np.uint8) for one in random_images(9)])
    assert keys.shape == (9, KEY_BYTES)
    content = shard_bytes("images", path.parent.name, Shard(keys, rows))
    path.unlink()
    (path.parent / f"pictures-{checksum(content)}.safetensors").write_bytes(content)


def header_with(**changes: object) -> Callable[[Path], None]:
    """Another header before the same content, as an editor or a broken disk may leave it."""

    def damage(path: Path) -> None:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        header["keys"] |= changes
        new = json.dumps(header).encode()
        path.write_bytes(len(new).to_bytes(8, "little") + new + content[8 + length :])

    return damage


def named_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "an offset of 20 digits": header_with(data_offsets=[10**20, 10**20 + 144]),
    "an offset of 400 digits": header_with(data_offsets=[0, 10**400]),
    "an offset before the start": header_with(data_offsets=[-1000, -856]),
    "a length of 2^60": header_with(data_offsets=[0, 2**60], shape=[2**56, 16]),
    "a negative shape": header_with(data_offsets=[16, 0], shape=[-1, 16]),
    "no shape": header_with(shape=None),
    "a shape of texts": header_with(shape=["a", "b"]),
    "three offsets": header_with(data_offsets=[0, 1, 2]),
    "a named pipe": named_pipe,
    **{f"a bit flipped at {place}": flipped(place) for place in (0.0, 0.005, 0.1, 0.25, 0.4, 0.7, 1.0)},
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one byte long": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "half": cut(0.5),
    "a few bytes": cut(0.01),
    "empty": cut(0),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "a huge header": lambda path: path.write_bytes(b"\xff" * 64),
    "rows of another model": of_another_model,
    "made up": made_up,
    "not finite": not_finite,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_shard_is_dropped_with_a_note_and_made_again(tmp_path, damage):
    some, notes = random_images(9), Notes()
    rows = engine(tmp_path).image_features(some)
    (path,) = shards(tmp_path)
    whole = path.read_bytes()
    damage(path)
    again = engine(tmp_path, reporter=notes)
    assert torch.equal(again.image_features(some), rows)
    assert encoded(again.model) == 9
    assert path.read_bytes() == whole
    assert shards(tmp_path) == [path]
    (line,) = notes.lines
    assert "dropped and computed again" in line
    assert not [found for one in held(tmp_path) for found in damaged(one)]
    third = engine(tmp_path, reporter=notes)
    assert torch.equal(third.image_features(some), rows)
    assert encoded(third.model) == 0


def test_a_shard_that_another_process_removed_is_made_again_without_a_word(tmp_path):
    some, notes = random_images(9), Notes()
    engine(tmp_path).image_features(some)
    own = engine(tmp_path, reporter=notes)
    own.image_features(some[:2])
    own.images.blocks.clear()
    own.images.place.clear()
    for path in shards(tmp_path):
        path.unlink()
    own.image_features(some)
    assert encoded(own.model) == 9
    assert notes.lines == []


@pytest.mark.usefixtures("every_batch")
def test_batches_before_one_that_is_not_finite_are_kept_and_it_is_not(tmp_path):
    some = random_images(9)
    model = RandomModel()
    whole = model.encode_image

    def broken(x):
        rows = whole(x)
        rows[(x == 1).all(dim=(1, 2, 3)), 2] = float("nan")
        return rows

    model.encode_image = broken  # type: ignore[method-assign]
    some[6] = ArrayImage("white", np.full((8, 8, 3), 255, np.uint8))
    for _ in range(2):
        with pytest.raises(RequestError, match="image white is not finite"):
            engine(tmp_path, model).image_features(some)
    assert [len(batch) for batch in model.image_batches] == [4, 4, 4]  # the first batch once, the second twice
    stored = [row for path in shards(tmp_path) for row in store.read_shard(path, path.parent.name).rows]
    assert len(stored) == 4
    assert np.isfinite(stored).all()


def test_rows_that_wait_are_written_when_the_work_is_interrupted(tmp_path):
    model = RandomModel()
    whole = model.encode_image

    def interrupted(x):
        if len(model.image_batches) == 2:
            raise KeyboardInterrupt
        return whole(x)

    model.encode_image = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        engine(tmp_path, model).image_features(random_images(12))
    again = engine(tmp_path)
    again.image_features(random_images(12))
    assert encoded(again.model) == 4


@pytest.mark.usefixtures("every_batch")
def test_what_was_used_least_recently_goes_first_when_the_limit_is_reached(tmp_path):
    some = random_images(16)
    engine(tmp_path).image_features(some)
    found = {some[i].key: path for path in shards(tmp_path) for i in range(0, 16, 4) if read_key(path) == key(some[i])}
    (names,) = tmp_path.glob("*/picture_names-*.json")
    now = time.time()
    for age, path in enumerate([found["image-4"], names, found["image-12"], found["image-0"]]):
        os.utime(path, (now - 1000 + age, now - 1000 + age))
    size = found["image-0"].stat().st_size
    held_before = sum(path.stat().st_size for path in [*found.values(), names])
    # a read of the oldest makes it the newest
    engine(tmp_path).image_features(some[4:6])
    small = engine(tmp_path, limit=held_before - size)
    small.image_features(random_images(4, seed=9))
    left = shards(tmp_path)
    assert found["image-4"] in left
    assert found["image-12"] not in left
    assert not names.exists()
    assert sum(size for _, size, _ in Store(tmp_path).files()) <= held_before - size
    assert found["image-8"] in left


def key(image) -> bytes:
    return bytes.fromhex(image.digest())


def test_a_limit_below_everything_still_gives_the_rows(tmp_path):
    some = random_images(9)
    assert torch.equal(engine(tmp_path, limit=1).image_features(some), Engine(RandomModel(), 4).image_features(some))
    assert shards(tmp_path) == []
    with pytest.raises(RequestError, match="above 0"):
        Store(tmp_path, 0)


def test_a_disk_that_is_full_costs_one_note_and_not_the_run(small_disk, monkeypatch):
    monkeypatch.setattr(store, "RESERVE", 0)
    some, notes = random_images(64), Notes()
    (small_disk / "filler").write_bytes(bytes(500 * 1024))
    own = engine(small_disk / "store", other(digest="wide", of_pixels=torch.randn(192, 4096)), reporter=notes)
    assert own.image_features(some).shape == (64, 4096)
    own.text_features(TEXTS)
    (line,) = notes.lines
    assert "not stored from here on, and the run goes on: No space left on device" in line or "the disk has" in line
    assert not list(small_disk.rglob("*.tmp"))
    assert shards(small_disk / "store") == []


def test_a_disk_that_is_nearly_full_is_left_to_results(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "RESERVE", 2**62)
    notes = Notes()
    engine(tmp_path, reporter=notes).image_features(random_images(5))
    (line,) = notes.lines
    assert "results may need" in line
    assert shards(tmp_path) == []


def test_a_place_that_cannot_be_written_costs_one_note(tmp_path):
    (tmp_path / "file").touch()
    notes = Notes()
    own = engine(tmp_path / "file" / "store", reporter=notes)
    own.image_features(random_images(5))
    own.text_features(TEXTS)
    assert len(notes.lines) == 1
    assert "Not a directory" in notes.lines[0]
    with pytest.raises(RequestError, match="is no folder"):
        Store(tmp_path / "file")


def test_a_temporary_file_of_a_killed_process_goes_after_an_hour(tmp_path):
    engine(tmp_path).image_features(random_images(2))
    folder = shards(tmp_path)[0].parent
    old, young = (folder / f".{shards(tmp_path)[0].name}.{end}.tmp" for end in ("a1", "b2"))
    mine = folder / ".notes.tmp"
    for path in (old, young, mine):
        path.write_bytes(b"half of it")
        os.utime(path, (time.time() - 4000 * (path != young),) * 2)
    Store(tmp_path)
    assert [path.exists() for path in (old, young, mine)] == [False, True, True]


def test_a_store_leaves_what_others_have_in_its_folder_alone(tmp_path):
    weights = [tmp_path / "llm" / "model-00001-of-00002.safetensors", tmp_path / "mine-cpu" / "pictures-1.safetensors"]
    for path in weights:
        path.parent.mkdir()
        path.write_bytes(bytes(5000))
        os.utime(path, (0, 0))
    engine(tmp_path, limit=1).image_features(random_images(9))
    notes = shards(tmp_path)
    assert all(path.exists() for path in weights)
    assert notes == [weights[1]]


def test_a_row_of_another_length_under_the_same_digest_is_refused(tmp_path):
    engine(tmp_path).image_features(random_images(3))
    wider = engine(tmp_path, RandomModel(width=24))
    with pytest.raises(RequestError, match="24 numbers an item and gave 16 before under the same digest") as refusal:
        wider.image_features(random_images(5))
    assert "\n" not in str(refusal.value)


def fill(folder: Path, seed: int, out: Path) -> None:
    torch.set_num_threads(1)
    store.SECONDS, store.SHARE = -1.0, 0  # type: ignore[assignment]
    some = random_images(60)
    order = np.random.default_rng(seed).permutation(60)
    own = Engine(RandomModel(), batch_size=3, store=Store(folder))
    for start in range(0, 60, 12):
        torch.save(own.image_features([some[i] for i in order[start : start + 12]]), out / f"{seed}-{start}.pt")
    own.text_features(TEXTS)


def test_two_processes_fill_one_store_at_once(tmp_path):
    folder, out = tmp_path / "store", tmp_path / "out"
    out.mkdir()
    both = [SERVER.Process(target=fill, args=(folder, seed, out)) for seed in (1, 2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    assert not list(folder.rglob("*.tmp"))
    (one,) = held(folder)
    assert list(damaged(one)) == []
    assert (one.rows("images"), one.rows("texts")) == (60, 20)
    again = Engine(RandomModel(), batch_size=3, store=Store(folder))
    rows = again.image_features(random_images(60))
    assert encoded(again.model) == 0
    assert torch.allclose(rows, Engine(RandomModel()).image_features(random_images(60)), atol=1e-6)
    for seed in (1, 2):
        order = np.random.default_rng(seed).permutation(60)
        for start in range(0, 60, 12):
            assert torch.allclose(
                torch.load(out / f"{seed}-{start}.pt", weights_only=True), rows[order[start : start + 12]], atol=1e-6
            )


def test_a_space_says_what_made_its_rows(tmp_path):
    own = engine(tmp_path)
    own.image_features(random_images(2))
    assert isinstance(own.space, Space)
    about = json.loads((own.space.folder / "space.json").read_text())
    assert (about["digest"], about["precision"], about["device"]) == ("random", "fp32", "cpu")
    assert about["packages"]["torch"] == torch.__version__.split("+")[0] or about["packages"]["torch"]
    assert about["model"] == {"arch": "random"}
