"""All tasks on a pretended card: no tensor on a wrong device, the CPU's metrics in float32, few waits of the host."""

from collections import Counter
from unittest import mock

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import evaluate, load_model
from cosmos_eval.cache.feature_cache import FeatureCache
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.engine import Engine, image_loading, image_tower
from cosmos_eval.engine.encoding import encode_images
from cosmos_eval.engine.image_collation import Loaded, join_parts
from cosmos_eval.engine.profiles import begin_profile, end_profile
from cosmos_eval.metrics.calibration import top_predictions
from cosmos_eval.metrics.embedding_geometry import effective_rank, modality_gap
from cosmos_eval.metrics.iou import count_labels_of_rows
from cosmos_eval.metrics.query_scores import DotProducts
from cosmos_eval.profiling import Profile
from tests.device.pretended import pretended_card
from tests.engine.test_batch_splitter import make_images
from tests.helpers.patch_models import settings

BENCHMARKS = ("toybox-classification", "toybox-retrieval", "toybox-perception", "toybox-segmentation")
LIMIT = {"toybox-segmentation": 3}


def metrics(benchmark, **options):
    (result,) = evaluate("cosmos:toybox", benchmark, limit=LIMIT.get(benchmark, 16), batch_size=8, **options)
    return result.metrics


@pytest.fixture(scope="module")
def on_the_cpu():
    return {benchmark: metrics(benchmark, device="cpu") for benchmark in BENCHMARKS}


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_metrics_in_float32_are_those_of_the_cpu(benchmark, kind, on_the_cpu):
    with pretended_card(kind) as card:
        found = metrics(benchmark, device=kind, precision="fp32")
    assert card.kernels
    assert {name: metric.value for name, metric in found.items()} == pytest.approx(
        {name: metric.value for name, metric in on_the_cpu[benchmark].items()}, abs=1e-6
    )


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp16")])
@pytest.mark.parametrize("benchmark", ["toybox-classification", "toybox-segmentation"])
def test_auto_is_autocast_to_what_the_card_computes_in(benchmark, bf16, precision):
    with pretended_card(bf16=bf16):
        (result,) = evaluate("cosmos:toybox", benchmark, limit=3, device="cuda")
    assert result.precision.startswith(precision)
    assert all(0 <= metric.value <= 1 for metric in result.metrics.values())


def test_bfloat16_is_refused_on_a_card_that_emulates_it():
    with pretended_card(bf16=False), pytest.raises(RequestError, match=r"Pretended card\) does not compute in bf16"):
        evaluate("cosmos:toybox", "toybox-classification", limit=3, device="cuda", precision="bf16")


def test_labels_on_mps_are_counted_on_the_cpu():
    maps = torch.tensor([[0, 2, 2], [1, 1, 1]])
    with pretended_card("mps") as card:
        counts = count_labels_of_rows(maps.to("mps"), 3)
        assert counts.device.type == "mps"
        assert counts.tolist() == [[1, 0, 2], [0, 3, 0]]
    assert not any("scatter" in name for name in card.kernels)


def test_figures_of_embeddings_on_mps_are_those_of_the_cpu():
    images, texts = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(0))
    pairs = np.stack([np.arange(12), np.arange(12)], axis=1)

    def figures(device):
        on_device = images.to(device), texts.to(device)
        confidence = top_predictions(DotProducts(*on_device), pairs, 10.0).confidence
        return [modality_gap(*on_device), effective_rank(on_device[0]), *confidence]

    expected = figures("cpu")
    with pretended_card("mps"):
        assert figures("mps") == pytest.approx(expected, abs=1e-6)


SPECS = ("cosmos:untrained-toybox", "cosmos:toybox?scorer=cross", "python:tests.helpers.tiny_models:Colours")


@pytest.mark.parametrize("spec", SPECS)
def test_adapters_score_on_the_card_as_on_the_cpu(spec):
    def metrics_of(device):
        (result,) = evaluate(spec, "toybox-retrieval", limit=6, batch_size=4, device=device, precision="fp32")
        return {name: metric.value for name, metric in result.metrics.items()}

    on_the_cpu = metrics_of("cpu")
    with pretended_card():
        assert metrics_of("cuda") == pytest.approx(on_the_cpu, abs=1e-6)


@pytest.mark.parametrize("attention", ["vanilla", "csa", "maskclip", "clearclip", "naclip", "raw"])
def test_patch_features_are_those_of_the_cpu(attention):
    model = load_model("cosmos:toybox")
    x = torch.stack([model.preprocess(image.load()) for image in make_images(2)])
    expected = model.encode_patches(x, attention=attention)
    with pretended_card():
        found = load_model("cosmos:toybox", device="cuda").encode_patches(x.to("cuda"), attention=attention)
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-6)


@pytest.fixture
def pinned(monkeypatch):
    """Images arrive in page-locked memory, as a loader gives them on a machine with CUDA."""
    unpack = image_loading._unpack

    def pin(value):
        if isinstance(value, tuple):
            return tuple(map(pin, value))
        return value.pin_memory() if isinstance(value, torch.Tensor) else value

    monkeypatch.setattr(image_loading, "_unpack", lambda loaded: pin(unpack(loaded)))


@pytest.mark.usefixtures("pinned")
def test_the_host_never_waits_for_the_batch_of_images_that_it_has_just_launched():
    """It reads the check of each batch after it has launched the next one."""
    with pretended_card() as card:
        engine = Engine(load_model("cosmos:toybox", device="cuda"), batch_size=4)
        images = make_images(40)
        engine.image_features(images[:4])  # the normalisation's constants are copied once
        for counts in (card.waits, card.copies, card.late_waits):
            counts.clear()
        engine.image_features(images[4:])
    assert not card.waits
    assert card.late_waits.total() == 9
    assert copies_by_kind(card) == {"to card, pinned": 9 + 1, "to host, pinned": 9}  # 1: which images are equal


def copies_by_kind(card):
    kinds = Counter()
    for place, count in card.copies.items():
        kinds[place.split(" at ")[0]] += count
    return kinds


def test_the_host_never_waits_for_a_batch_of_texts():
    texts = [f"{'a ' * (number % 5)}red circle {number}" for number in range(40)]
    with pretended_card() as card:
        engine = Engine(load_model("cosmos:toybox", device="cuda"), batch_size=1)
        for counts in (card.waits, card.copies):
            counts.clear()  # the weights
        engine.text_features(texts)
    assert not card.waits
    assert card.late_waits.total() == 3
    # ids, lengths and places of three batches, and which texts are equal
    assert copies_by_kind(card) == {"to card, pinned": 3 * 3 + 1, "to host, pinned": 3}


def test_the_scores_of_a_batch_of_pairs_are_read_when_the_next_one_is_launched():
    spec = "cosmos:toybox?scorer=cross"
    images, texts = make_images(8), [f"a {colour} circle" for colour in ("red", "green", "blue")]
    pairs = torch.cartesian_prod(torch.arange(8), torch.arange(3))

    def found(model):
        return Engine(model, batch_size=4, precision="fp32").score_pairs(images, texts, pairs)

    expected = found(load_model(spec))
    with pretended_card() as card:
        model = load_model(spec, device="cuda")
        found(model)  # the normalisation's constants are copied once
        for counts in (card.waits, card.late_waits, card.copies):
            counts.clear()
        torch.testing.assert_close(found(model), expected, rtol=0, atol=1e-6)
    assert (card.late_waits.total(), card.waits.total()) == (5, 1)  # nothing follows the sixth batch
    # images of each batch, which one each pair has, and the ids of its texts
    assert copies_by_kind(card) == {"to card, pinned": 3 * 6, "to host, pinned": 6}


def test_casts_that_are_kept_are_no_free_memory_for_the_batch_size(monkeypatch):
    with pretended_card() as card:
        casts_before = []

        def free_memory(device):
            casts_before.append(card.kernels["_to_copy"])
            return 2**21, 2**36

        monkeypatch.setattr("torch.cuda.mem_get_info", free_memory)
        engine = Engine(load_model("cosmos:toybox", device="cuda"), batch_size="auto")
        trials = card.kernels["_to_copy"]
    assert engine.batch_size == 32
    weights = sum(1 for name, _ in engine.model.core.named_parameters() if name.startswith("visual.resblocks"))
    assert casts_before[0] > weights
    assert trials - casts_before[0] < casts_before[0]  # the trial casts its inputs only


@pytest.mark.usefixtures("pinned")
def test_segmentation_waits_for_chunks_of_images_only():
    """Each chunk of sixteen images ends with copies of its areas and of the range of its features."""

    def waits_of(limit):
        with pretended_card() as card:
            evaluate("cosmos:toybox", "toybox-segmentation", limit=limit, batch_size=4, device="cuda")
        return card.waits.total()

    assert waits_of(32) - waits_of(16) <= 3


class BadFrom:
    """Wraps an adapter: the embedding of the image with this number, counted over all batches, is NaN."""

    def __init__(self, model, number):
        self.model, self.number, self.seen = model, number, 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def encode_image(self, x):
        features = self.model.encode_image(x)
        position, self.seen = self.number - self.seen, self.seen + len(x)
        if 0 <= position < len(x):
            features[position] = torch.nan
        return features


@pytest.mark.parametrize("number", [0, 5, 11])
def test_a_check_that_is_read_late_names_the_first_bad_image_and_stores_batches_before_it(number, tmp_path):
    images = make_images(12)
    with pretended_card():
        cache = FeatureCache(tmp_path / "cache")
        engine = Engine(BadFrom(load_model("cosmos:toybox", device="cuda"), number), batch_size=4, cache=cache)
        with pytest.raises(RequestError, match=f"embedding of image {images[number].key} is not finite"):
            engine.image_features(images)
        again = Engine(load_model("cosmos:toybox", device="cuda"), batch_size=4, cache=cache)
        again.image_features(images)
    assert again.encoded["images"] == 12 - number // 4 * 4


def test_an_image_that_cannot_be_decoded_leaves_the_batch_before_it_in_the_cache(tmp_path):
    images = make_images(12)
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    images[9] = FileImage("broken", tmp_path / "broken.jpg")
    with pretended_card():
        cache, model = FeatureCache(tmp_path / "cache"), load_model("cosmos:toybox", device="cuda")
        engine = Engine(model, batch_size=4, cache=cache)
        with pytest.raises(RequestError, match="broken"):
            engine.image_features(images)
        again = Engine(model, batch_size=4, cache=cache)
        again.image_features(images[:9])
    assert again.encoded["images"] == 1


def test_a_bad_patch_is_refused_before_its_image_is_used():
    class BadPatches(BadFrom):
        def encode_patches(self, x, attention):
            features = self.model.encode_patches(x, attention=attention)
            position, self.seen = self.number - self.seen, self.seen + len(x)
            if 0 <= position < len(x):
                features[position, 0, 0] = 0.0
            return features

    images = make_images(6)
    with pretended_card():
        engine = Engine(BadPatches(load_model("cosmos:toybox", device="cuda"), 3), batch_size=2)
        used = []
        with pytest.raises(RequestError, match=f"embedding of image {images[3].key} is zero"):
            used.extend(dense.index for dense in engine.window_features(images, settings(crop=0, short_side=64)))
    assert used == [0, 1]


def test_weights_are_cast_once_for_all_batches():
    images = make_images(24)
    with pretended_card() as card:
        engine = Engine(load_model("cosmos:toybox", device="cuda"), batch_size=4)
        assert engine.precision == "bf16"
        assert engine.encoding_record(windows=True)["weights"] == "cast to bf16 once"
        features, casts = [], []
        for is_kept in (False, True):
            before = card.kernels["_to_copy"]
            features.append(encode_all(engine, images, is_kept))
            casts.append(card.kernels["_to_copy"] - before)
        assert torch.equal(*[part.cpu() for part in features])
    assert casts[1] < casts[0] / 2


def test_the_tower_alone_is_measured_as_batches_are_encoded(monkeypatch):
    monkeypatch.setattr(image_tower, "MAX_REPEATS", 2)
    with pretended_card() as card:
        engine = Engine(load_model("cosmos:toybox", device="cuda"), batch_size=2)
        batch = torch.stack([engine.tower.worker_preprocess(image.load()) for image in make_images(2)])
        casts = []
        for is_kept in (False, True):
            profile = Profile(largest_batch=batch)
            begin_profile(profile, engine)
            before = card.kernels["_to_copy"]
            with mock.patch.object(Engine, "keeps_casts", is_kept):
                end_profile(profile, engine, None)
            casts.append(card.kernels["_to_copy"] - before)
    assert casts[1] < casts[0] / 2


def test_phases_of_a_profile_end_when_mps_has_computed_them():
    with pretended_card("mps") as card:
        profile = Profile()
        begin_profile(profile, Engine(load_model("cosmos:toybox", device="mps")))
        card.waits.clear()
        with profile.phase("scoring"):
            pass
    assert card.waits.total() == 2


def test_parts_of_a_batch_are_joined_in_page_locked_memory():
    parts = [Loaded(str(number), torch.full((2, 3), number, dtype=torch.uint8), 0.0, 0.0) for number in range(3)]
    with pretended_card():
        first, second = join_parts(iter(parts), [2, 1], pin_memory=True)
        assert first.pixels.is_pinned()
        assert second.pixels.is_pinned()
    assert first.pixels[:, 0].tolist() == [0, 0, 1, 1]
    assert second.pixels[:, 0].tolist() == [2, 2]


def encode_all(engine, images, is_kept):
    batches = [images[start : start + 4] for start in range(0, len(images), 4)]
    with mock.patch.object(Engine, "keeps_casts", is_kept):
        return torch.cat(list(encode_images(engine, None, batches)))
