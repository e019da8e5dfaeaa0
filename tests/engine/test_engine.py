"""Features of images and texts: order, sharing, batches, precision, and errors."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.cache.cached_features import CachedFeatures
from cosmos_eval.datasets.image_sources import ArrayImage, FileImage
from cosmos_eval.engine import Engine, resolve_device, resolve_precision
from cosmos_eval.engine.precision import tower_precision
from tests.helpers.stand_ins import RandomModel, random_images


class ProgressRecorder:
    """A reporter that keeps the totals and the counts of progress lines."""

    def __init__(self):
        self.done, self.total = {}, {}

    @contextmanager
    def task(self, description, total, unit="it"):
        self.total[description], self.done[description] = total, 0

        def advance(n):
            self.done[description] += n

        yield advance

    def note(self, line):
        pass


def test_features_have_the_order_of_the_inputs_and_unit_length_in_float32():
    model, images = RandomModel(), random_images(10)
    features = Engine(model, batch_size=4).image_features(images)
    pixels = torch.stack([model.preprocess(image.load()) for image in images])
    expected = torch.nn.functional.normalize(pixels.flatten(1) @ model.of_pixels, dim=1)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert torch.allclose(features, expected, atol=1e-6)
    texts = ["one", "two", "three"]
    assert torch.equal(Engine(model).text_features(texts)[[2, 0]], Engine(model).text_features(texts)[[2, 0]])
    assert torch.allclose(Engine(model).text_features(texts[::-1]), Engine(model).text_features(texts).flip(0))


def test_equal_inputs_are_encoded_once_and_share_their_features():
    model, images = RandomModel(), random_images(5)
    twin = ArrayImage("another-key", images[3].pixels.copy())
    engine = Engine(model, batch_size=4)
    features = engine.image_features([*images, twin, images[0]])
    assert sum(len(batch) for batch in model.image_batches) == 5
    assert torch.equal(features[5], features[3])
    assert torch.equal(features[6], features[0])
    texts = engine.text_features(["a", "b", "a", "c", "b"])
    assert model.text_batches == [["a", "b", "c"]]
    assert torch.equal(texts[0], texts[2])
    assert torch.equal(texts[1], texts[4])


def test_images_of_several_benchmarks_are_encoded_once():
    model, images = RandomModel(), random_images(9)
    engine = Engine(model, batch_size=4)
    first = engine.image_features(images[:5])
    assert [len(batch) for batch in model.image_batches] == [4, 1]
    mixed = engine.image_features([images[7], images[3], images[8], images[3], images[0]])
    assert [len(batch) for batch in model.image_batches] == [4, 1, 2]
    assert torch.equal(mixed[[1, 3, 4]], first[[3, 3, 0]])
    alone = Engine(RandomModel(), batch_size=4).image_features([images[7], images[3], images[8], images[3], images[0]])
    assert torch.allclose(mixed, alone, atol=1e-6)
    assert torch.equal(engine.image_features(images[:5]), first)
    assert len(model.image_batches) == 3


def test_features_in_memory_stay_within_the_budget_and_the_oldest_are_removed_first():
    cached = CachedFeatures(budget=4 * 4 * 3)  # three items with four numbers
    encoded: list[list[int]] = []

    def encode(missing: list[int]):
        encoded.append(missing)
        yield range(len(missing)), torch.arange(len(missing)).float()[:, None].repeat(1, 4) + 10 * len(encoded)

    cached.get_or_encode(["a", "b"], encode)
    assert cached.get_or_encode(["b", "c"], encode)[:, 0].tolist() == [11, 20]
    assert ("b" in cached, "c" in cached) == (True, True)
    cached.get_or_encode(["d"], encode)  # a and b are removed
    assert [key in cached for key in "abcd"] == [False, False, True, True]
    assert cached.get_or_encode(["d", "a", "c"], encode)[:, 0].tolist() == [30, 40, 20]
    assert encoded == [[0, 1], [1], [0], [1]]
    cached.get_or_encode(["e", "f", "g", "h"], encode)
    assert not any(key in cached for key in "efgh")  # more than the budget


def test_batches_hold_distinct_inputs_in_order_of_first_occurrence_for_any_number_of_workers():
    images = random_images(11)
    order = [images[2], images[2], *images]
    features = {}
    for workers in (0, 2):
        model = RandomModel()
        features[workers] = Engine(model, batch_size=4, workers=workers).image_features(order)
        assert [len(batch) for batch in model.image_batches] == [4, 4, 3]
        first = torch.stack([model.preprocess(image.load()) for image in (images[2], images[0], images[1], images[3])])
        assert torch.equal(model.image_batches[0], first)
    assert torch.equal(features[0], features[2])  # bit for bit


def test_batches_of_texts_are_larger_and_in_order():
    model = RandomModel()
    texts = [f"text {i}" for i in range(20)]
    Engine(model, batch_size=2).text_features(texts)
    assert model.text_batches == [texts[:8], texts[8:16], texts[16:]]


def test_another_batch_size_agrees_to_1e_5():
    images = random_images(23)
    assert torch.allclose(
        Engine(RandomModel(), batch_size=23).image_features(images),
        Engine(RandomModel(), batch_size=3).image_features(images),
        atol=1e-5,
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_embedding_that_is_not_finite_names_the_image(bad):
    class Broken(RandomModel):
        def encode_image(self, x):
            rows = super().encode_image(x)
            rows[(x == 1).all(dim=(1, 2, 3)), 2] = bad
            return rows

    images = random_images(9)
    images[6] = ArrayImage("white", np.full((8, 8, 3), 255, np.uint8))
    with pytest.raises(RequestError, match="image white is not finite"):
        Engine(Broken(), batch_size=4).image_features(images)


def test_an_embedding_of_length_zero_names_the_text():
    class ZeroText(RandomModel):
        def encode_text(self, texts):
            return super().encode_text(texts) * torch.tensor([[text != "hush"] for text in texts])

    with pytest.raises(RequestError, match="the text 'hush' is zero"):
        Engine(ZeroText(), batch_size=1).text_features(["a", "b", "c", "d", "e", "hush"])


def test_nan_weights_are_reported_in_one_line():
    model = RandomModel()
    model.of_bytes[:] = float("nan")
    with pytest.raises(RequestError) as caught:
        Engine(model).text_features(["a long\ntext " * 30])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_reported_in_one_line_that_names_it(tmp_path, workers):
    paths = []
    for i in range(6):
        paths.append(tmp_path / f"{i}.jpg")
        Image.fromarray(np.full((8, 8, 3), 40 * i + 20, np.uint8)).save(paths[-1])
    paths[4].write_bytes(paths[4].read_bytes()[:60])
    images = [FileImage(path.name, path) for path in paths]
    with pytest.raises(RequestError) as caught:
        Engine(RandomModel(), batch_size=2, workers=workers).image_features(images)
    assert str(paths[4]) in str(caught.value)
    assert "replace the file" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_missing_image_is_refused_before_anything_is_encoded(tmp_path):
    model = RandomModel()
    with pytest.raises(RequestError, match=r"cannot read the image .*gone\.jpg"):
        Engine(model).image_features([*random_images(3), FileImage("gone", tmp_path / "gone.jpg")])
    assert model.image_batches == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_in_preprocessing_is_not_reported_as_a_bad_image(workers):
    class Faulty(RandomModel):
        @staticmethod
        def preprocess(image):
            raise KeyError("a bug")

    with pytest.raises(KeyError):
        Engine(Faulty(), workers=workers).image_features(random_images(2))


def test_nothing_to_encode_is_refused():
    with pytest.raises(RequestError, match="no images"):
        Engine(RandomModel()).image_features([])
    with pytest.raises(RequestError, match="no texts"):
        Engine(RandomModel()).text_features([])


def test_a_model_that_returns_another_number_of_features_is_refused():
    class Short(RandomModel):
        def encode_text(self, texts):
            return super().encode_text(texts)[:-1]

    with pytest.raises(RequestError, match=r"\(2, 16\) for 3 inputs"):
        Engine(Short()).text_features(["a", "b", "c"])


def test_precomputed_features_are_used_without_encoding():
    class Table:
        device = torch.device("cpu")

        def read_image_embeddings(self, images):
            return torch.tensor([[float(image.key[-1]), 4.0] for image in images])

        def read_text_embeddings(self, texts):
            return torch.tensor([[3.0, 4.0] if text == "good" else [0.0, 0.0] for text in texts])

    engine = Engine(Table())
    images = random_images(4)
    assert torch.allclose(engine.image_features([images[3], images[0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    with pytest.raises(RequestError, match="the text 'bad' is zero"):
        engine.text_features(["good", "bad"])


def test_progress_ends_at_the_number_of_distinct_inputs():
    reporter, images = ProgressRecorder(), random_images(7)
    engine = Engine(RandomModel(), batch_size=3, reporter=reporter)
    engine.image_features([*images, *images])
    engine.text_features(["a", "a", "b"])
    assert reporter.total == {"reading images": 14, "encoding images": 7, "encoding texts": 2}
    assert reporter.done == reporter.total


@pytest.fixture
def card_with_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)


def test_auto_is_float32_on_the_cpu_and_bfloat16_on_cards_that_compute_in_it(card_with_bf16, monkeypatch):
    assert resolve_precision("auto", "cpu") == Engine(RandomModel()).precision == "fp32"
    assert resolve_precision("auto", "cuda") == "bf16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert resolve_precision("auto", "cuda") == "fp16"
    with pytest.raises(RequestError, match=r"cuda:0 \(Tesla T4\) does not compute in bf16; give --precision fp16"):
        resolve_precision("bf16", "cuda:0")
    assert resolve_precision("fp16", "cpu") == "fp16"
    with pytest.raises(RequestError, match="unknown precision 'double'; give auto, fp32, bf16, fp16"):
        resolve_precision("double", "cpu")


def test_an_unknown_or_absent_device_is_refused():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device() in (torch.device("cpu"), torch.device("cuda"))
    with pytest.raises(RequestError, match="unknown device"):
        resolve_device("abacus")
    with pytest.raises(RequestError, match="torch sees"):
        resolve_device("cuda:99")


@pytest.mark.parametrize("device", ["meta", "mps", "xla", "hpu", "vulkan"])
def test_a_device_that_cannot_compute_here_is_refused_in_one_line(device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(RequestError, match=f"device {device}") as caught:
        resolve_device(device)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.usefixtures("card_with_bf16")
def test_auto_precision_depends_on_the_device_of_the_model_and_precomputed_features_are_float32():
    class OnCuda(RandomModel):
        def __init__(self):
            super().__init__()
            self.device = torch.device("cuda")  # this test computes nothing there

    class Precomputed(OnCuda):
        def read_image_embeddings(self, images):
            raise AssertionError

    assert Engine(OnCuda(), precision="auto").precision == "bf16"
    assert Engine(OnCuda(), precision="fp32").precision == "fp32"
    assert Engine(Precomputed(), precision="auto").precision == "fp32"
    assert Engine(Precomputed(), precision="bf16").precision == "fp32"
    with pytest.raises(RequestError, match="unknown precision"):
        Engine(Precomputed(), precision="double")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_an_input_that_does_not_fit_in_memory_is_reported_in_one_line(error):
    class Large(RandomModel):
        def encode_image(self, x):
            raise error

        def encode_text(self, texts):
            raise error

    engine = Engine(Large(), batch_size=48)
    for unit, call in (
        ("images", lambda: engine.image_features(random_images(2))),
        ("texts", lambda: engine.text_features(["a"])),
    ):
        with pytest.raises(RequestError) as caught:
            call()
        line = f"out of memory encoding {unit} on cpu, even one at a time; free memory there, or give another --device"
        assert str(caught.value) == line


def test_another_runtime_error_of_a_tower_is_raised():
    class Faulty(RandomModel):
        def encode_text(self, texts):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        Engine(Faulty()).text_features(["a"])


def test_the_tower_computes_in_bfloat16_and_features_are_normalised_in_float32():
    images = random_images(20)
    exact = Engine(RandomModel(), precision="fp32").image_features(images)
    half = Engine(RandomModel(), precision="bf16").image_features(images)
    assert half.dtype == torch.float32
    assert 1e-5 < (half - exact).abs().max() < 3e-2
    assert torch.allclose(half.norm(dim=1), torch.ones(20), atol=1e-6)


def test_float32_turns_tf32_off_and_restores_the_settings_afterwards():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        with tower_precision("fp32", torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.is_grad_enabled()
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_batch_size_and_workers_have_a_minimum():
    with pytest.raises(RequestError, match="batch size must be 1 to"):
        Engine(RandomModel(), batch_size=0)
    for workers in (-1, "many", 1.5, None):
        with pytest.raises(RequestError, match="workers must be a whole number of at least 0, or auto; got "):
            Engine(RandomModel(), workers=workers)
