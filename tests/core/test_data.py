"""One sample: what its views depend on, what makes it unusable, and that nothing in it is run."""

import io
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.data import BrokenNotes, BrokenSample, Sample, SampleViews, load_image, reason_kind
from cosmos_core.views import MultiCrop, TextCrop

IMAGES = MultiCrop(local_crops=1, global_size=16, local_size=8)


def samples(n: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 20, 24, 3), dtype=np.uint8)
    return [
        (f"key{i}", image, {"raw_caption": [f"word {i}"], "longIB_captions": ["a", "b"]})
        for i, image in enumerate(images)
    ]


def image_bytes(colour: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (colour, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def write_shard(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def numbered_shard(path: Path, numbers: Sequence[int], broken: Sequence[int] = ()) -> Path:
    """Samples `0000` and so on; those in `broken` have an image that is none."""
    members = {}
    for i in numbers:
        members[f"{i:04d}.png"] = b"no image" if i in broken else image_bytes(i % 256)
        members[f"{i:04d}.txt"] = f"Picture number {i}. Second sentence".encode()
    return write_shard(path, members)


def make(**options) -> SampleViews:
    return SampleViews(IMAGES, TextCrop(3), **options)


def test_a_sample_has_its_global_views_first_and_as_many_captions_as_asked():
    key, views, captions, changes = make()(*samples(1)[0], 0)
    assert key == "key0"
    assert [view.shape for view in views] == [(16, 16, 3), (16, 16, 3), (8, 8, 3)]
    assert len(captions) == 3
    assert len(changes) == 0  # all of them are done already


def test_what_a_sample_gives_depends_on_seed_epoch_and_key_only():
    _, image, record = samples(1)[0]

    def drawn(key: str = "a", epoch: int | str = 0, seed: int = 0) -> list[bytes]:
        return [view.tobytes() for view in make(seed=seed)(key, image, record, epoch)[1]]

    assert drawn() == drawn() == drawn(epoch="0")
    for other in (drawn(key="b"), drawn(epoch=1), drawn(epoch="0+1"), drawn(seed=1)):
        assert other != drawn()


def test_global_randomness_is_left_alone():
    random.seed(0)
    states = random.getstate(), torch.get_rng_state()
    make()(*samples(1)[0], 0)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_one_caption_of_a_sample_is_the_first_global_one():
    assert make(kept_captions=1)(*samples(1)[0], 0)[2] == make()(*samples(1)[0], 0)[2][:1]


def lazy_image_cut_short() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "JPEG")
    return Image.open(io.BytesIO(encoded.getvalue()[:-800]))


@pytest.mark.parametrize(
    ("image", "record", "reason"),
    [
        (image_bytes(1), {"raw_caption": []}, "words: record odd has no words"),
        (image_bytes(1), {"original_caption": "", "caption": " . "}, "words: record odd has no words"),
        (image_bytes(1), {"width": 3}, "words: record odd has none of the fields"),
        (image_bytes(1), {"raw_caption": [3]}, "words: record odd has a caption list that is not"),
        (b"no image", "words", "image: cannot decode the image of odd"),
        (image_bytes(1)[:60], "words", "image: cannot decode the image of odd"),
        (lazy_image_cut_short(), "words", "image: cannot decode the image of odd"),
        (None, "words", "image: sample odd has no image"),
        (Path("nowhere/none.jpg"), "words", "image: cannot decode .* No such file or directory: nowhere/none.jpg"),
        (np.zeros((3, 3), np.uint8), "words", "image: no views can be made of the image of odd"),
    ],
)
def test_a_sample_without_words_or_image_says_what_is_wrong(image, record, reason: str):
    with pytest.raises(BrokenSample, match=reason) as caught:
        make()("odd", image, record, 0)
    assert reason_kind(str(caught.value)) == reason.partition(":")[0]
    assert "\n" not in str(caught.value)


def test_a_image_file_and_its_bytes_give_the_same(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(image_bytes(7))
    views = [make()("k", image, "words", 0)[1] for image in (tmp_path / "a.png", image_bytes(7))]
    assert all(np.array_equal(a, b) for a, b in zip(*views, strict=True))


def test_a_postscript_program_in_place_of_a_image_is_not_run():
    """PIL would hand it to an interpreter."""
    with pytest.raises(BrokenSample, match="cannot decode"):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n", "k")


def test_a_image_is_decoded_once_for_all_of_its_views(monkeypatch: pytest.MonkeyPatch):
    opened = []
    whole = Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(1) or whole(*a, **k))
    make()("k", image_bytes(7), "words", 0)
    assert len(opened) == 1


def test_every_kind_of_broken_sample_is_noted_once_and_at_ten_times_as_many():
    lines: list[str] = []
    note = BrokenNotes(lines.append)
    for i in range(12):
        image = {f"a{i}": f"image: cannot decode the image of a{i}: cut"} if i else {}
        note({**image, f"b{i}": "words: none" if i else "words: b"})
    assert lines == [
        "skipped, words: b",
        "skipped, image: cannot decode the image of a1: cut",
        "skipped, words: 10 so far; the last: none",
        "skipped, image: 10 so far; the last: cannot decode the image of a10: cut",
    ]
