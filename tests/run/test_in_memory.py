"""Data that are handed over in Python: the numbers and fingerprints of the same data on disk, resume, cache, checks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import (
    ClassificationData,
    RetrievalData,
    SegmentationData,
    datasets,
    evaluate,
    load_model,
    make_benchmark,
)
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.results.record import Result
from tests.helpers import memory_data
from tests.helpers.memory_data import KINDS, LABELS, NAMES, Patches
from tests.helpers.tiny_models import Colours, Constant

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return memory_data.write(tmp_path_factory.mktemp("memory"))


@pytest.fixture(scope="module")
def on_disk(folder) -> dict[str, Result]:
    """The results of all kinds by their readers."""
    torch.set_num_threads(1)
    results = evaluate(Patches(), [folder / f"{kind}.yaml" for kind in KINDS])
    return dict(zip(KINDS, results, strict=True))


def forms(kind: str, folder: Path) -> dict[str, tuple[list, dict]]:
    """The images in every form that is accepted, with what names them as the reader does."""
    names = {"names": in_definition(kind)}
    arrays = memory_data.pixels()
    return {
        "paths": ([folder / name for name in NAMES], {"root": folder / ("images" if kind == "segmentation" else "")}),
        "bytes": ([(folder / name).read_bytes() for name in NAMES], names),
        "pil": ([Image.fromarray(array) for array in arrays], names),
        "arrays": (arrays, names),
    }


def in_definition(kind: str) -> list[str]:
    return [name.removeprefix("images/") for name in NAMES] if kind == "segmentation" else NAMES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["paths", "bytes", "pil", "arrays"])
def test_numbers_in_memory_are_those_on_disk_to_the_bit(kind, form, folder, on_disk):
    images, more = forms(kind, folder)[form]
    (result,) = evaluate(Patches(), [memory_data.build(kind, images, **more)])
    expected = on_disk[kind]
    assert result.metrics == expected.metrics
    assert result.primary == expected.primary
    assert result.dataset.n == expected.dataset.n
    assert (result.dataset.fingerprint == expected.dataset.fingerprint) is (form in ("paths", "bytes"))
    assert result.identity != expected.identity  # the protocol says where the data came from


def test_decoded_images_have_the_fingerprint_of_toybox_which_renders_its_images():
    definition = load_benchmark("toybox-retrieval")
    dataset = {key: value for key, value in definition.dataset.items() if key != "expected"}
    data = datasets.load(replace(definition, dataset={**dataset, "scenes": 6}))
    images = [image.load() for image in data.images]
    captions = [[data.texts[2 * i], data.texts[2 * i + 1]] for i in range(6)]
    mine = RetrievalData.from_pairs(images, captions, names=[image.key for image in data.images])
    assert datasets.dataset_fingerprint(mine) == data.fingerprint


def test_data_of_a_reader_can_be_handed_over(folder, on_disk):
    data = datasets.load(load_benchmark(folder / "classification.yaml"))
    (result,) = evaluate(Patches(), {"again": data})
    assert result.metrics == on_disk["classification"].metrics
    assert result.dataset.fingerprint == data.fingerprint


def classes(images, **more) -> ClassificationData:
    return ClassificationData.from_lists(images, LABELS, memory_data.COLOURS, **more)


def pil_images() -> list[Image.Image]:
    return [Image.fromarray(array) for array in memory_data.pixels()]


class Counting(Colours):
    """Counts the images that it encodes."""

    digest = "c0147" * 12

    def __init__(self) -> None:
        self.images = 0

    def encode_image(self, x):
        self.images += len(x)
        return super().encode_image(x)


def test_a_finished_result_is_kept_and_features_are_cached(tmp_path):
    model = Counting()
    first = evaluate(model, {"mine": classes(pil_images())}, out=tmp_path)
    assert model.images == len(NAMES)
    again = evaluate(model, {"mine": classes(pil_images())}, out=tmp_path)  # the same pixels in other objects
    assert again == first
    assert model.images == len(NAMES)
    (other,) = evaluate(model, {"other": classes(pil_images())}, out=tmp_path)
    assert model.images == len(NAMES)  # by its cached features
    assert other.metrics == first[0].metrics
    assert json.loads((next(tmp_path.glob("*/mine")) / "RESULT.json").read_text())["benchmark"]["name"] == "mine"


def test_changed_pixels_are_other_data(tmp_path):
    images = pil_images()
    data = classes(images)
    (first,) = evaluate(Counting(), {"mine": data}, out=tmp_path)
    images[3].putpixel((0, 0), (1, 2, 3))  # in the same object, which was hashed before
    with pytest.raises(RequestError, match="measured with other data"):
        evaluate(Counting(), {"mine": data}, out=tmp_path)
    (second,) = evaluate(Counting(), {"mine": data}, out=tmp_path, overwrite=True)
    assert second.dataset.fingerprint != first.dataset.fingerprint


class Meddling(Colours):
    """Changes the data of its caller while it is measured."""

    def __init__(self, change) -> None:
        self.change = change

    def encode_text(self, texts):
        self.change()
        return super().encode_text(texts)

    def preprocess(self, image):
        self.change()
        return super().preprocess(image)


def test_lists_that_change_during_a_run_change_nothing():
    labels = np.arange(8) % 4
    names, images = list(memory_data.COLOURS), pil_images()
    data = ClassificationData(images, labels, names, ["{c}"])

    def change():
        labels[:], names[0] = 0, "purple"
        images.clear()

    (expected,) = evaluate(Colours(), {"mine": classes(pil_images(), templates=["{c}"])})
    (result,) = evaluate(Meddling(change), {"mine": data})
    assert result.metrics == expected.metrics
    assert result.dataset.fingerprint == expected.dataset.fingerprint


def test_pixels_that_change_during_a_run_are_refused():
    images = pil_images()
    values = iter(range(256))
    model = Meddling(lambda: images[-1].putpixel((0, 0), (next(values), 2, 3)))
    with pytest.raises(RequestError, match="000007 was changed after it was hashed"):
        evaluate(model, {"mine": classes(images)})


def test_a_perfect_and_a_constant_model(folder):
    class Perfect(Colours):
        def encode_image(self, x):
            red, green, blue = x.mean((2, 3)).T
            spread = torch.stack([red, green, blue]).amax(0) - torch.stack([red, green, blue]).amin(0)
            one_hot = torch.nn.functional.one_hot(torch.stack([red, green, blue]).argmax(0), 4).float()
            return torch.where((spread < 0.2)[:, None], torch.tensor([0.0, 0, 0, 1]), one_hot)

        def encode_text(self, texts):
            return torch.tensor([[float(name in text) + 0.01 for name in memory_data.COLOURS] for text in texts])

    (perfect,) = evaluate(Perfect(), [classes(pil_images())])
    assert perfect.metrics["top1"].value == 1.0
    assert perfect.benchmark.name == "in-memory-classification"
    for kind, chance in (("classification", 1 / 4), ("multiple-choice", 2 / 3), ("perception", 0.0)):
        (constant,) = evaluate(Constant(), [memory_data.build(kind, pil_images())])
        assert constant.metrics[memory_data.PRIMARY[kind]].value == pytest.approx(chance)


def test_embeddings_that_are_not_finite_name_the_image():
    class Broken(Colours):
        def encode_image(self, x):
            return super().encode_image(x) * torch.where(torch.arange(len(x)) == 5, torch.nan, 1.0)[:, None]

    with pytest.raises(RequestError, match="000005"):
        evaluate(Broken(), [classes(pil_images())])


@pytest.mark.parametrize(
    ("benchmarks", "message"),
    [
        (lambda: 5, "benchmarks must be a list"),
        (lambda: ["toybox", 5], "5 is not a benchmark"),
        (lambda: {"mine": 5}, "'mine': 5 is no data"),
        (lambda: {"my data": classes(pil_images())}, "the name 'my data' must be letters"),
        (lambda: [classes(pil_images()), classes(pil_images())], r"two benchmarks .*'my-data': data"),
        (lambda: [classes(pil_images(), name="a"), make_benchmark(classes(pil_images()), "a")], "are called a"),
        (lambda: [ClassificationData(pil_images(), [0] * 7 + [9], ["a", "b"], ["{c}"])], "1 label outside 0 to 1"),
        (lambda: [ClassificationData(pil_images(), [0] * 8, ["a", "b"], ["{c}"])], "empty_classes_allowed=True"),
        (lambda: [ClassificationData(pil_images(), [0] * 7, ["a"], ["{c}"])], "8 images but 7 labels"),
        (lambda: [ClassificationData(pil_images(), [0.5] * 8, ["a"], ["{c}"])], r"labels\[0\] must be a whole number"),
        (
            lambda: [RetrievalData(pil_images(), ["a"] * 8, [0, 1, 2, 3, 4, 5, 6, 6])],
            "1 image without a caption: 000007",
        ),
        (lambda: [RetrievalData(pil_images(), ["a"] * 7 + [None], range(8))], r"texts\[7\] must be a text, not None"),
        (lambda: [RetrievalData([], [], [])], "has no images"),
    ],
)
def test_wrong_data_are_refused_in_one_line(benchmarks, message):
    with pytest.raises(RequestError, match=message) as refusal:
        evaluate(Colours(), benchmarks())
    assert "\n" not in str(refusal.value)


def test_advice_on_classes_without_images_has_been_tried():
    data = ClassificationData(pil_images(), [0, 1] * 4, ["a", "b", "c"], ["{c}"], empty_classes_allowed=True)
    assert evaluate(Colours(), [data])[0].dataset.n["classes"] == 3


def test_what_a_benchmark_of_data_in_memory_may_have():
    data = memory_data.build("retrieval", pil_images()).data
    assert make_benchmark(data, metrics={"k": [1, 3]}).metrics == {"k": [1, 3]}
    assert (
        repr(make_benchmark(data, "mine"))
        == "Benchmark('mine', version 1, retrieval, RetrievalData(8 images, 16 texts))"
    )
    segments = SegmentationData.from_lists(pil_images(), memory_data.masks(), memory_data.COLOURS)
    assert make_benchmark(segments).prompts["words"]["red"] == ["red"]
    for wrong, message in (
        ({"metrics": {"k": [3, 1]}}, "smallest first"),
        ({"metrics": {"primary": "top1"}}, "unknown metric 'top1'"),
        ({"task": "classification"}, "needs ClassificationData, not RetrievalData"),
        ({"task": "retrieva"}, "retrieva"),
        ({"settings": {"crop": 3}}, "has no settings"),
        ({"prompts": {"templates": ["{c}"]}}, "prompts are part of RetrievalData"),
        ({"version": 0}, "version must be a whole number"),
    ):
        with pytest.raises(RequestError, match=message):
            make_benchmark(data, "mine", **wrong)
    with pytest.raises(RequestError, match=r"mine: crop must be"):
        make_benchmark(segments, "mine", settings={"crop": -1})


def test_names_files_and_data_together_in_order_with_a_limit(folder):
    results = evaluate(
        Patches(), [folder / "retrieval.yaml", classes(pil_images(), name="mine")], limit=4, workers=2, batch_size=2
    )
    assert [result.benchmark.name for result in results] == ["retrieval", "mine"]
    assert [result.dataset.n["images"] for result in results] == [4, 4]


def test_a_file_that_is_not_there_is_named(folder):
    with pytest.raises(RequestError, match=r"1 of 2 images is not there: .*none\.png"):
        ClassificationData.from_lists([folder / NAMES[0], folder / "none.png"], ["a", "b"])
    sources = [FileImage("gone", folder / "none.png")]
    with pytest.raises(RequestError, match="cannot read the image"):
        evaluate(Colours(), [ClassificationData(sources, [0], ["a"], ["{c}"])])


def test_a_model_of_load_model_and_a_spec_give_the_same():
    data = classes(pil_images())
    (by_spec,) = evaluate("python:tests.helpers.tiny_models:Colours", [data])
    (loaded,) = evaluate(load_model("python:tests.helpers.tiny_models:Colours"), [data])
    (adapter,) = evaluate(Colours(), [data])
    assert by_spec.metrics == loaded.metrics == adapter.metrics
    assert by_spec.model.digest == loaded.model.digest == adapter.model.digest
