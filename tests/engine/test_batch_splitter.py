"""A batch that does not fit in memory passes the tower in halves, with the same features and no repeated work."""

import gc
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.cache.feature_cache import FeatureCache
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.models.trimmed_text import TextBatch
from cosmos_eval.progress import Silent
from cosmos_eval.run.evaluate import evaluate
from tests.closeness import assert_close
from tests.helpers import patch_models
from tests.helpers.tiny_models import Colours
from tests.helpers.worlds import captions_world

ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
)


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


class Small(Colours):
    """A model whose memory holds at most this many images, or texts, at a time."""

    spec = "python:tests.small:Small"

    def __init__(self, images: int, texts: int, error: BaseException = ERRORS[0]) -> None:
        self.capacity = {"images": images, "texts": texts}
        self.error = error
        self.passed: dict[str, list[int]] = {"images": [], "texts": []}

    def describe(self) -> dict[str, object]:
        return {"arch": "small", "activation": None}

    def _pass(self, unit: str, count: int) -> None:
        if count > self.capacity[unit]:
            raise self.error
        self.passed[unit].append(count)

    def encode_image(self, x: Tensor) -> Tensor:
        self._pass("images", len(x))
        return super().encode_image(x)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self._pass("texts", len(texts))
        return super().encode_text(texts)


def make_images(count: int) -> list[ArrayImage]:
    rng = np.random.default_rng(0)
    return [ArrayImage(f"p{i}", rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)) for i in range(count)]


@pytest.mark.parametrize("error", ERRORS)
def test_a_failed_batch_and_all_later_ones_are_encoded_in_parts_with_the_same_features(error):
    model, reporter = Small(3, 100, error), Notes()
    engine = Engine(model, batch_size=8, reporter=reporter)
    images = make_images(21)
    features = engine.image_features(images)
    assert_close(features, Engine(Small(100, 100), batch_size=8).image_features(images))
    # 8 fails, 4 fails, 2 passes; the last batch, of 5 images, is also divided by four: 2, 2 and 1
    assert model.passed["images"] == [2] * 8 + [2, 2, 1]
    assert engine.batch_splitter.sizes == {"images": 2, "texts": 32, "windows": 8}
    assert reporter.lines == ["8 images at a time exceed the memory of cpu; 2 at a time from now on"]
    assert engine.encoded["images"] == 21


def test_images_that_were_encoded_are_not_encoded_again_when_later_ones_do_not_fit():
    class Filling(Small):
        def encode_image(self, x: Tensor) -> Tensor:
            if sum(self.passed["images"]) >= 8:
                self.capacity["images"] = 1  # something else takes the memory
            return super().encode_image(x)

    model = Filling(8, 100)
    engine = Engine(model, batch_size=8)
    features = engine.image_features(make_images(16))
    assert_close(features, Engine(Small(100, 100)).image_features(make_images(16)))
    assert model.passed["images"] == [8] + [1] * 8


def test_images_are_not_halved_when_texts_do_not_fit():
    model, reporter = Small(8, 5), Notes()
    engine = Engine(model, batch_size=8, reporter=reporter)
    texts = [f"text {j}" for j in range(40)]
    features = engine.text_features(texts)
    assert_close(features, Engine(Small(8, 100), batch_size=8).text_features(texts))
    assert max(model.passed["texts"]) == 4
    assert engine.batch_splitter.sizes == {"images": 8, "texts": 4, "windows": 8}
    assert reporter.lines == ["32 texts at a time exceed the memory of cpu; 4 at a time from now on"]


def test_windows_are_halved_across_images():
    class Patches(patch_models.PatchModel):
        def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
            if len(x) > 2:
                raise ERRORS[0]
            return super().encode_patches(x, attention)

    rng = np.random.default_rng(0)
    images = [ArrayImage(str(i), rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for i in range(3)]
    engine = Engine(Patches(), batch_size=7)
    halved = list(engine.window_features(images, patch_models.settings()))
    whole = list(Engine(patch_models.PatchModel(), batch_size=7).window_features(images, patch_models.settings()))
    assert engine.batch_splitter.sizes["windows"] == 2
    for actual, expected in zip(halved, whole, strict=True):
        torch.testing.assert_close(actual.features, expected.features, rtol=1e-5, atol=1e-6)


def test_a_single_item_that_does_not_fit_is_refused_in_one_line():
    engine = Engine(Small(0, 0), batch_size=8)
    line = "out of memory encoding images on cpu, even one at a time; free memory there, or give another --device"
    with pytest.raises(RequestError) as caught:
        engine.image_features(make_images(20))
    assert str(caught.value) == line
    with pytest.raises(RequestError, match="out of memory encoding texts on cpu, even one at a time"):
        engine.text_features(["a", "b"])


def test_another_error_in_a_part_is_raised():
    class Faulty(Small):
        def encode_image(self, x: Tensor) -> Tensor:
            if len(x) <= 4:
                raise RuntimeError("a bug")
            return super().encode_image(x)

    with pytest.raises(RuntimeError, match="a bug"):
        Engine(Faulty(7, 7), batch_size=8).image_features(make_images(8))


def test_the_cache_and_a_later_run_see_the_batches_that_were_planned(tmp_path):
    images = make_images(20)
    halved = Engine(Small(3, 9), batch_size=8, cache=FeatureCache(tmp_path))
    features = halved.image_features(images)
    later = Small(100, 100)
    assert torch.equal(Engine(later, batch_size=8, cache=FeatureCache(tmp_path)).image_features(images), features)
    assert later.passed["images"] == []


def test_the_result_has_the_planned_and_the_used_batch_size(tmp_path):
    benchmark = captions_world(tmp_path)
    roomy, small = (evaluate(Small(n, 100), benchmark, tmp_path, batch_size=8)[0] for n in (8, 1))
    assert roomy.timing.batch_size == small.timing.batch_size == 8
    assert roomy.timing.batch_size_used == {"images": 8, "texts": 32, "windows": 8}
    assert small.timing.batch_size_used == {"images": 1, "texts": 32, "windows": 8}
    assert roomy.identity == small.identity
    assert roomy.metrics == small.metrics


def test_trimmed_texts_can_be_sliced():
    batch = TextBatch(torch.arange(12).reshape(4, 3).int(), torch.tensor([3, 3, 2, 1]))
    part = batch[1:3]
    assert len(part) == 2
    assert torch.equal(part.ids, batch.ids[1:3])
    assert part.lengths.tolist() == [3, 2]


def test_the_tensors_of_a_failed_pass_are_freed_before_the_next_one():
    activations_of_failed_passes: list[weakref.ref] = []

    class Leaky(Small):
        def encode_image(self, x: Tensor) -> Tensor:
            activations = x * 2
            if len(x) > 2:
                activations_of_failed_passes.append(weakref.ref(activations))
                raise torch.OutOfMemoryError("CUDA out of memory")
            assert all(reference() is None for reference in activations_of_failed_passes)
            return super().encode_image(x)

    gc.disable()
    try:
        Engine(Leaky(9, 9), batch_size=4).image_features(make_images(4))
    finally:
        gc.enable()
    assert len(activations_of_failed_passes) == 1
