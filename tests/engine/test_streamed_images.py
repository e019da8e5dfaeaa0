"""Images that come in parts and are gone afterwards form the batches that they form from disk."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.cache.cached_features import CachedFeatures
from cosmos_eval.datasets.image_facts import PLAIN
from cosmos_eval.datasets.image_sources import FileImage, ImageSource, content_digest
from cosmos_eval.datasets.stream.images import HeldImage, hold_image
from cosmos_eval.engine.streamed_images import StreamedImages


class Ranks:
    """One process or several, of which none encodes: they write down the batches."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.batches: list[list[bytes]] = []

    def distribute(self, work: Any, common: None, batches: list[list[ImageSource]]) -> Iterator[tuple[int, Tensor]]:
        for number, batch in enumerate(batches):
            assert self.size == 1 or all(isinstance(image, HeldImage) for image in batch)
            self.batches.append([image.content() for image in batch])
            yield number, torch.tensor([[float(image.content()[0])] for image in batch])


class StubEngine:
    """As much of an engine as is needed, with features of some images from before."""

    model_cache = None
    is_precomputed = False
    device = torch.device("cpu")

    def __init__(self, batch_size: int, ranks: int, stored: Sequence[bytes]) -> None:
        self.batch_size, self.ranks = batch_size, Ranks(ranks)
        self.encoded = {"images": 0}
        self.cached_images = CachedFeatures()
        if stored:
            keys = [content_digest(content) for content in stored]
            self.cached_images.add_held(keys, [torch.tensor([[float(content[0])] for content in stored])])


def image(content: bytes) -> HeldImage:
    made = HeldImage(str(content), content, "test")
    made.__dict__.update(_digest=content_digest(content), _facts=PLAIN)
    return made


CONTENTS = st.lists(st.integers(0, 30).map(lambda number: bytes([number])), max_size=40)


@settings(max_examples=150, deadline=None)
@given(CONTENTS, st.lists(st.integers(1, 9), max_size=12), st.integers(1, 5), st.integers(1, 3), CONTENTS)
def test_batches_do_not_depend_on_where_shards_end(contents, cuts, batch_size, ranks, stored):
    stored = list(dict.fromkeys(stored))
    engine: Any = StubEngine(batch_size, ranks, stored)
    rest = [image(content) for content in contents]
    with StreamedImages(engine) as images:
        for cut in cuts:
            images.add(rest[:cut])
            rest = rest[cut:]
        images.add(rest)
        images.finish()
    missing = [content for content in dict.fromkeys(contents) if content not in stored]
    expected = [missing[start : start + batch_size] for start in range(0, len(missing), batch_size)]
    assert engine.ranks.batches == expected
    assert engine.encoded["images"] == len(missing)
    keys = [content_digest(content) for content in dict.fromkeys([*contents, *stored])]
    if keys:  # nothing is left to encode, whose images would be gone
        found = engine.cached_images.get_or_encode(keys, lambda positions: pytest.fail("asked for an image"))
        assert found.flatten().tolist() == [content[0] for content in dict.fromkeys([*contents, *stored])]


def test_features_that_are_held_outlive_the_budget_until_they_are_released():
    features = CachedFeatures(budget=8)
    features.add_held(["00" * 16, "11" * 16], [torch.ones(1, 2), torch.zeros(1, 2)])
    features.get_or_encode(["22" * 16], lambda positions: iter([(positions, torch.ones(1, 2))]))
    assert "00" * 16 in features
    features.release()
    assert "00" * 16 not in features
    assert "22" * 16 in features
    with pytest.raises(RequestError, match="the model gives 3 numbers an item and gave 2 before"):
        features.add_held(["33" * 16, "44" * 16], [torch.ones(1, 2), torch.ones(1, 3)])


def test_an_image_that_was_changed_after_it_was_hashed_is_not_held(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"first")
    source = FileImage("a", path)
    digest = source.digest()
    held = hold_image(source)
    path.write_bytes(b"other")
    assert (held.digest(), held.verified_content(), hold_image(held)) == (digest, b"first", held)
    with pytest.raises(RequestError, match="was changed after it was hashed"):
        hold_image(source)
