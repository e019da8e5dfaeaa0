"""Data of a plug-in's kind, and plug-ins' tasks on our data, handed over in Python."""

import numpy as np
import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import ClassificationData, datasets, evaluate, load_model, make_benchmark
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.plugins.installed import COLOURS

pytestmark = pytest.mark.usefixtures("extras", "one_thread")


def images(fruit) -> list[Image.Image]:
    return [Image.open(fruit / "images" / f"{i:02d}.png") for i in range(24)]


def test_data_of_a_plugins_kind_have_the_numbers_of_its_reader(fruit):
    from image_text_extras.same_class import PairData

    definition = load_benchmark("fruit-pairs")
    read = datasets.load(definition, fruit)
    paths = [fruit / "images" / f"{i:02d}.png" for i in range(24)]
    data = PairData(paths, read.pairs, read.same)
    benchmark = make_benchmark(data, "mine", metrics={"threshold": 0.95})
    assert benchmark.task == "same-class"
    model = load_model("late:2")
    (expected,) = evaluate(model, "fruit-pairs", fruit)
    (result,) = evaluate(model, benchmark)
    assert result.metrics == expected.metrics
    assert result.dataset.fingerprint == expected.dataset.fingerprint
    assert result.benchmark.plugins == {"task": "image-text-extras 1.0"}
    data.pairs[0] = (3, 3)
    with pytest.raises(RequestError, match="mine has 1 pairs of an image with itself"):
        evaluate(model, {"mine": data})


def test_a_plugins_task_takes_our_data_by_its_name(fruit):
    data = ClassificationData.from_lists(images(fruit), np.arange(24) % 3, list(COLOURS))
    assert make_benchmark(data).task == "classification"  # ours, where nothing is said
    probe = make_benchmark(data, "probe", task="linear-probe", settings={"folds": 4})
    (result,) = evaluate("late:2", probe)
    (expected,) = evaluate("late:2", "fruit-probe", fruit)
    assert result.metrics == expected.metrics
    with pytest.raises(RequestError, match="probe: folds is a whole number"):
        make_benchmark(data, "probe", task="linear-probe", settings={"folds": 1})
