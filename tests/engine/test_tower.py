"""Images on their way through a tower: the halves of preprocessing, forms in memory, compiling, batch sizes."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.base import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.engine.batch_size import FIRST, MOST, check_batch_size, largest
from cosmos_eval.engine.precision import full_precision
from cosmos_eval.engine.tower import ImageTower, _filled, decoder_for
from cosmos_eval.models.preprocess import ImagePreprocess
from tests.closeness import assert_close
from tests.engine.test_batch_parts import Notes, Small, make_images

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
def test_both_halves_of_preprocessing_make_the_bits_of_the_whole(settings):
    preprocess = ImagePreprocess(**settings)
    given = [
        image(40, 31),
        image(25, 60, 1),
        image(24, 24, 2),
        image(33, 33, 3).convert("L"),
        image(50, 30).quantize(8),
    ]
    pixels = torch.stack([pickle.loads(pickle.dumps(preprocess)).pixels(one) for one in given])
    assert pixels.dtype == torch.uint8
    assert pixels.shape[3] == 3
    made = preprocess.normalised(pixels)
    assert torch.equal(made, torch.stack([preprocess(one) for one in given]))
    assert made.is_contiguous()  # on the CPU another form in memory would mean other kernels


def test_geometry_is_what_decides_the_pixels():
    one, other = ImagePreprocess(24), ImagePreprocess(24, mean=(0.1, 0.2, 0.3))
    assert one.geometry() == other.geometry() != ImagePreprocess(24, interpolation="bilinear").geometry()


class Whole(Small):
    """As `Small`, with a preprocessing that comes in halves."""

    def __init__(self, count: int = 99) -> None:
        super().__init__(count, 99)
        self.preprocess = ImagePreprocess(8)  # type: ignore[method-assign]
        self.seen: list[torch.Tensor] = []

    def encode_image(self, x):
        self.seen.append(x)
        return super().encode_image(x)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_model_is_given_what_its_preprocessing_makes(workers):
    model, given = Whole(), make_images(5)
    Engine(model, batch_size=4, workers=workers).image_features(given)
    expected = torch.stack([model.preprocess(image.load()) for image in given])
    assert [len(x) for x in model.seen] == [4, 1]
    assert torch.equal(torch.cat(model.seen), expected)


def test_a_preprocessing_without_halves_is_left_alone():
    tower = ImageTower(Small(9, 9))
    assert not tower.in_halves
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(tower.input(x), x)


def test_a_compiled_tower_is_given_one_size_and_named_in_the_precision(monkeypatch):
    asked = {}

    def compiling(function, **options):
        asked.update(options)
        return function

    monkeypatch.setattr(torch, "compile", compiling)
    model, given = Whole(3), make_images(10)
    engine = Engine(model, batch_size=4, compiled=True)
    rows = engine.image_features(given)
    assert asked == {"dynamic": False}
    assert engine.precision == "fp32+compile"
    assert engine.means(windows=False) == {"compiled": "image tower"}
    # 4 fails, 2 holds from there on, also for the last two
    assert {len(x) for x in model.seen[1:]} == {2}
    assert_close(rows, Engine(Whole(), batch_size=4).image_features(given))


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_a_batch_that_is_filled_stays_in_its_order_in_memory(form):
    x = torch.rand(3, 3, 6, 8).contiguous(memory_format=form)
    found = _filled(x, 5)
    assert found.stride() == torch.empty(5, 3, 6, 8).contiguous(memory_format=form).stride()
    assert torch.equal(found[:3], x)
    assert not found[3:].any()
    assert _filled(x, 3) is x


def test_windows_are_told_apart_from_images_that_a_compiled_tower_saw():
    engine = Engine(Small(4, 4), compiled=True, decoder="draft")
    assert engine.precision_of(windows=False) == "fp32+compile+draft"
    assert engine.precision_of(windows=True) == "fp32+draft"
    assert set(engine.means(windows=False)) == {"compiled", "decoder"}
    assert set(engine.means(windows=True)) == {"decoder"}


def test_what_the_compiler_refuses_is_one_line(monkeypatch):
    class Unsupported(Exception):
        pass

    Unsupported.__module__ = "torch._dynamo.exc"

    def failing(function, **options):
        def call(x):
            raise Unsupported("no compiler\nat hand")

        return call

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(RequestError) as caught:
        Engine(Whole(), compiled=True).image_features(make_images(1))
    line = "python:tests.small:Small cannot be compiled here: Unsupported: no compiler at hand; leave --compile out"
    assert str(caught.value) == line


def test_vectors_made_elsewhere_pass_no_tower():
    class Stored(Small):
        def image_rows(self, given):
            return torch.ones(len(given), 4)

    engine = Engine(Stored(1, 1), compiled=True, decoder="draft", batch_size="auto")
    assert (engine.precision, engine.means(windows=False), engine.batch_size) == ("fp32", {}, 64)
    assert engine.image_features(make_images(2)).shape == (2, 4)


def test_the_precision_says_what_else_changes_numbers():
    assert full_precision("bf16") == "bf16"
    assert full_precision("bf16", True, "torchvision") == "bf16+compile+torchvision"


def test_auto_is_the_largest_power_of_two_within_the_budget():
    tried: list[int] = []

    def peak(size: int) -> float:
        tried.append(size)
        return size * 10.0

    assert largest(peak, 1300) == 128
    assert tried == [32, 64, 128]  # 256 would not fit, and is not tried
    assert largest(lambda size: None if size > 64 else 1.0, 1300) == 64
    assert largest(lambda size: None, 1300) == FIRST
    assert largest(lambda size: 1.0, 1300) == MOST


def test_auto_on_a_cpu_is_a_number_and_says_so():
    reporter = Notes()
    engine = Engine(Whole(), batch_size="auto", reporter=reporter)
    assert engine.batch_size == 64
    assert reporter.lines == ["batch size 64: it is looked for on CUDA only"]


@pytest.mark.parametrize(("asked", "meant"), [("auto", "auto"), ("7", 7), (7, 7)])
def test_a_batch_size_is_a_number_or_auto(asked, meant):
    assert check_batch_size(asked) == meant


@pytest.mark.parametrize("asked", ["0", 0, "-3", "many", "", "1.5"])
def test_another_batch_size_is_refused(asked):
    with pytest.raises(RequestError, match="batch size must be 1 to 1,000,000, or auto; got"):
        check_batch_size(asked)


def test_a_decoder_is_told_the_size_that_a_tower_sees():
    assert decoder_for("draft", ImagePreprocess(24)).size == (24, 24)
    assert decoder_for("draft", ImagePreprocess((20, 30))).size == (20, 30)
    assert decoder_for("draft", lambda image: image).size is None
    assert decoder_for("pil", ImagePreprocess(24)).size is None


def test_the_rate_of_a_tower_is_that_of_a_ready_batch():
    tower = ImageTower(Whole())
    batch = torch.stack([tower.of_worker(ArrayImage.load(one)) for one in make_images(3)])
    assert tower.rate(batch) > 0


def test_the_rate_on_a_cpu_is_of_as_much_as_takes_a_moment(monkeypatch):
    passed: list[int] = []
    tower = ImageTower(Whole())

    def seconds(x: torch.Tensor) -> float:
        passed.append(len(x))
        return len(x) / 5

    monkeypatch.setattr(tower, "_seconds", seconds)
    assert tower.rate(torch.zeros(64, 8, 8, 3, dtype=torch.uint8)) == pytest.approx(5)
    assert passed == [8, 10]  # two seconds at five a second


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@cuda
def test_floats_made_on_cuda_are_those_of_the_cpu_with_channels_last():
    preprocess = ImagePreprocess(24)
    pixels = torch.stack([preprocess.pixels(image(40, 31, seed)) for seed in range(8)])
    made = preprocess.normalised(pixels.cuda())
    assert torch.equal(made.cpu(), preprocess.normalised(pixels))
    assert made.is_contiguous(memory_format=torch.channels_last)


@cuda
def test_auto_on_cuda_is_the_same_each_time():
    class There(Whole):
        device = torch.device("cuda")

    sizes = {Engine(There(), batch_size="auto", precision="fp32").batch_size for _ in range(2)}
    assert sizes == {MOST}
