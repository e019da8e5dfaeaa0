"""The image tower: preprocessing in two halves, memory formats, compiling, batch sizes."""

import gc
import pickle
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.engine import Engine
from cosmos_eval.engine.batch_size import LARGEST_TRIAL, SMALLEST_TRIAL, check_batch_size, find_largest_size
from cosmos_eval.engine.image_tower import ImageTower, _pad_batch, decoder_for
from cosmos_eval.engine.precision import full_precision
from cosmos_eval.models import load_model
from cosmos_eval.models.preprocess import ImagePreprocess
from tests.closeness import assert_close
from tests.engine.test_batch_splitter import Notes, Small, make_images

SETTINGS = (
    {"size": 24},
    {"size": 24, "interpolation": "bilinear", "mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3)},
    {"size": (20, 30)},
    {"size": 24, "resize": "longest", "fill": 100},
    {"size": 24, "resize": "squash"},
)


def image(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("settings", SETTINGS)
def test_both_halves_of_preprocessing_give_the_bits_of_the_whole(settings):
    preprocess = ImagePreprocess(**settings)
    images = [
        image(40, 31),
        image(25, 60, 1),
        image(24, 24, 2),
        image(33, 33, 3).convert("L"),
        image(50, 30).quantize(8),
    ]
    pixels = torch.stack([pickle.loads(pickle.dumps(preprocess)).pixels(image) for image in images])
    assert pixels.dtype == torch.uint8
    assert pixels.shape[3] == 3
    normalised = preprocess.normalised(pixels)
    assert torch.equal(normalised, torch.stack([preprocess(image) for image in images]))
    assert normalised.is_contiguous()  # on the CPU, another memory format would select other kernels


def test_the_geometry_has_everything_that_decides_the_pixels():
    first, second = ImagePreprocess(24), ImagePreprocess(24, mean=(0.1, 0.2, 0.3))
    assert first.geometry() == second.geometry() != ImagePreprocess(24, interpolation="bilinear").geometry()


class Whole(Small):
    """As `Small`, with a preprocessing in two halves."""

    def __init__(self, count: int = 99) -> None:
        super().__init__(count, 99)
        self.preprocess = ImagePreprocess(8)  # type: ignore[method-assign]
        self.seen: list[torch.Tensor] = []

    def encode_image(self, x):
        self.seen.append(x)
        return super().encode_image(x)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_input_of_a_model_is_the_output_of_its_preprocessing(workers):
    model, images = Whole(), make_images(5)
    Engine(model, batch_size=4, workers=workers).image_features(images)
    expected = torch.stack([model.preprocess(image.load()) for image in images])
    assert [len(x) for x in model.seen] == [4, 1]
    assert torch.equal(torch.cat(model.seen), expected)


def test_a_preprocessing_without_halves_runs_in_the_worker():
    tower = ImageTower(Small(9, 9))
    assert not tower.has_split_preprocess
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(tower.input(x), x)


def test_a_compiled_tower_gets_one_batch_size_and_is_part_of_the_precision(monkeypatch):
    compile_options = {}

    def fake_compile(function, **options):
        compile_options.update(options)
        return function

    monkeypatch.setattr(torch, "compile", fake_compile)
    model, images = Whole(3), make_images(10)
    engine = Engine(model, batch_size=4, compiled=True)
    features = engine.image_features(images)
    assert compile_options == {"dynamic": False}
    assert engine.precision == "fp32+compile"
    assert engine.encoding_record(windows=False) == {"compiled": "image tower"}
    # 4 images fail; from then on there are 2 at a time, also the last two
    assert {len(x) for x in model.seen[1:]} == {2}
    assert_close(features, Engine(Whole(), batch_size=4).image_features(images))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_padded_batch_keeps_its_memory_format(memory_format):
    x = torch.rand(3, 3, 6, 8).contiguous(memory_format=memory_format)
    padded = _pad_batch(x, 5)
    assert padded.stride() == torch.empty(5, 3, 6, 8).contiguous(memory_format=memory_format).stride()
    assert torch.equal(padded[:3], x)
    assert not padded[3:].any()
    assert _pad_batch(x, 3) is x


def test_the_precision_of_windows_is_without_compile():
    engine = Engine(Small(4, 4), compiled=True, decoder="draft")
    assert engine.precision_of(windows=False) == "fp32+compile+draft"
    assert engine.precision_of(windows=True) == "fp32+draft"
    assert set(engine.encoding_record(windows=False)) == {"compiled", "decoder"}
    assert set(engine.encoding_record(windows=True)) == {"decoder"}


def test_an_error_of_the_compiler_is_reported_in_one_line(monkeypatch):
    class Unsupported(Exception):
        pass

    Unsupported.__module__ = "torch._dynamo.exc"

    def failing_compile(function, **options):
        def call(x):
            raise Unsupported("no compiler\nat hand")

        return call

    monkeypatch.setattr(torch, "compile", failing_compile)
    with pytest.raises(RequestError) as caught:
        Engine(Whole(), compiled=True).image_features(make_images(1))
    line = "python:tests.small:Small cannot be compiled here: Unsupported: no compiler at hand; leave --compile out"
    assert str(caught.value) == line


def test_precomputed_features_pass_no_tower():
    class Stored(Small):
        def read_image_embeddings(self, images):
            return torch.ones(len(images), 4)

    engine = Engine(Stored(1, 1), compiled=True, decoder="draft", batch_size="auto")
    assert (engine.precision, engine.encoding_record(windows=False), engine.batch_size) == ("fp32", {}, 64)
    assert engine.image_features(make_images(2)).shape == (2, 4)


def test_the_full_precision_has_everything_that_changes_numbers():
    assert full_precision("bf16") == "bf16"
    assert full_precision("bf16", True, "torchvision") == "bf16+compile+torchvision"


def test_auto_is_the_largest_power_of_two_within_the_budget():
    tried_sizes: list[int] = []

    def peak(size: int) -> float:
        tried_sizes.append(size)
        return size * 10.0

    assert find_largest_size(peak, 1300) == 128
    assert tried_sizes == [32, 64, 128]  # 256 would not fit, and is not tried
    assert find_largest_size(lambda size: None if size > 64 else 1.0, 1300) == 64
    assert find_largest_size(lambda size: None, 1300) == SMALLEST_TRIAL
    assert find_largest_size(lambda size: 1.0, 1300) == LARGEST_TRIAL


def test_auto_on_a_cpu_is_the_default_with_a_note():
    reporter = Notes()
    engine = Engine(Whole(), batch_size="auto", reporter=reporter)
    assert engine.batch_size == 64
    assert reporter.lines == ["batch size 64: auto measures memory on CUDA only"]


@pytest.mark.parametrize(("value", "expected"), [("auto", "auto"), ("7", 7), (7, 7)])
def test_a_batch_size_is_a_number_or_auto(value, expected):
    assert check_batch_size(value) == expected


@pytest.mark.parametrize("value", ["0", 0, "-3", "many", "", "1.5"])
def test_another_batch_size_is_refused(value):
    with pytest.raises(RequestError, match="batch size must be 1 to 1,000,000, or auto; got"):
        check_batch_size(value)


def test_a_decoder_gets_the_size_that_the_tower_sees():
    assert decoder_for("draft", ImagePreprocess(24)).size == (24, 24)
    assert decoder_for("draft", ImagePreprocess((20, 30))).size == (20, 30)
    assert decoder_for("draft", lambda image: image).size is None
    assert decoder_for("pil", ImagePreprocess(24)).size is None


def test_the_rate_of_a_tower_is_measured_on_a_loaded_batch():
    tower = ImageTower(Whole())
    batch = torch.stack([tower.worker_preprocess(image.load()) for image in make_images(3)])
    assert tower.rate(batch) > 0


def test_the_rate_on_a_cpu_is_measured_on_as_many_images_as_fit_in_two_seconds(monkeypatch):
    batch_sizes: list[int] = []
    tower = ImageTower(Whole())

    def time_pass(x: torch.Tensor) -> float:
        batch_sizes.append(len(x))
        return len(x) / 5

    monkeypatch.setattr(tower, "_time_pass", time_pass)
    assert tower.rate(torch.zeros(64, 8, 8, 3, dtype=torch.uint8)) == pytest.approx(5)
    assert batch_sizes == [8, 10]  # two seconds at five images a second


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@cuda
def test_normalising_on_cuda_gives_the_floats_of_the_cpu_with_channels_last():
    preprocess = ImagePreprocess(24)
    pixels = torch.stack([preprocess.pixels(image(40, 31, seed)) for seed in range(8)])
    normalised = preprocess.normalised(pixels.cuda())
    assert torch.equal(normalised.cpu(), preprocess.normalised(pixels))
    assert normalised.is_contiguous(memory_format=torch.channels_last)


@cuda
def test_auto_on_cuda_is_the_same_each_time():
    class OnCuda(Whole):
        device = torch.device("cuda")

    sizes = {Engine(OnCuda(), batch_size="auto", precision="fp32").batch_size for _ in range(2)}
    assert sizes == {LARGEST_TRIAL}


def test_networks_are_freed_with_their_engine_without_the_garbage_collector():
    networks = []
    gc.disable()
    try:
        for _ in range(2):
            model = load_model("cosmos:toybox")
            networks.append(weakref.ref(model.core))
            engine = Engine(model, batch_size=4)
            engine.image_features(make_images(2))
            engine.text_features(["a"])
            del model, engine
    finally:
        gc.enable()
    assert [network() for network in networks] == [None, None]


class Projecting:
    spec = "python:tests.small:Projecting"
    device = torch.device("cpu")
    preprocess = None

    def encode_image(self, x):
        return x.flatten(1) * 2


def test_models_of_one_class_are_all_compiled_and_a_limit_of_compilations_is_told(monkeypatch):
    compiled_graphs = []

    def count_graphs(graph, inputs):
        compiled_graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=count_graphs))
    with torch._dynamo.config.patch(recompile_limit=1):
        for _ in range(3):
            tower = ImageTower(Projecting(), compiled=True, compiled_size=lambda: 2)
            tower.encode(torch.zeros(2, 3, 4, 4))
        assert len(compiled_graphs) == 3
        with pytest.raises(RequestError, match="cannot be compiled here: FailOnRecompileLimitHit: "):
            tower.encode(torch.zeros(4, 3, 4, 4))  # another shape
