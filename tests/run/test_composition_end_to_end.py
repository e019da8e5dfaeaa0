"""The further benchmarks of composition from files in their authors' formats to results."""

from pathlib import Path

import pandas
import pytest
import torch
from torch import Tensor

from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.protocol.benchmark import load_suite
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.composition_on_disk import NAMES, write_all
from tests.helpers.composition_sets_on_disk import NAMES as OTHER_NAMES
from tests.helpers.perception_on_disk import NAMES as FIRST_NAMES
from tests.helpers.perception_on_disk import small
from tests.helpers.stand_ins import Constant, FeatureScoring

MODEL = "cosmos:untrained-toybox?seed=3"
ITEMS = {
    "sugarcrepe-pp": 10, "bivlc": 4, "bivlc-subtypes": 4, "cola-multi": 4, "colorswap": 4, "valse": 22,
    "valse-texts": 22, "crepe-productivity": 27,
    "whatsup-a": 8, "whatsup-b": 8, "whatsup-coco-one": 4, "whatsup-coco-two": 4, "whatsup-gqa-one": 4,
    "whatsup-gqa-two": 4, "vsr-random": 5, "vsr-zeroshot": 5, "negbench-coco": 4, "negbench-voc2007": 4,
    "negbench-chexpert": 3, "negbench-chexpert-control": 3, "countbench": 4, "winoground-tags": 3,
}  # fmt: skip
CHANCE = {
    "text_score": 1 / 4, "image_score": 1 / 4, "group_score": 1 / 6, "first_text_score": 1 / 2,
    "second_text_score": 1 / 2, "first_image_score": 1 / 2, "second_image_score": 1 / 2, "first_accuracy": 1 / 2,
    "second_accuracy": 1 / 2, "text_only_accuracy": 1 / 3, "pair_accuracy": 1 / 16, "set_accuracy": 1 / 256,
}  # fmt: skip


HEIRS = {"bivlc": "bivlc-subtypes", "valse": "valse-texts"}
"""Definitions whose metrics another one has, with more beside them: that one is tested in their place."""
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in HEIRS else name for name in NAMES]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return write_all(tmp_path_factory.mktemp("composition"))


@pytest.fixture(scope="module")
def data(world) -> dict[str, PerceptionData]:
    return {name: datasets.load(small(name), world) for name in NAMES}  # type: ignore[misc]


class Choosing(FeatureScoring):
    """A model that puts one text of each item first, or none.

    Each text has an axis of its own, apart from two right texts, which share one. The feature of an image is the sum of
    the axes of the texts that it is given. Of two images, each is given one text.

    Args:
        choices: item -> position of the text that its image is given, or of those that its images are given. Items that
            are not in it are right.
    """

    def __init__(self, data: PerceptionData, choices: dict[int, int | tuple[int, int]]) -> None:
        right_texts = data.right_texts
        self.axis = {text: i for i, text in enumerate(data.texts)}
        for texts in data.item_texts.tolist() if right_texts == 2 else ():
            self.axis[data.texts[texts[1]]] = self.axis[data.texts[texts[0]]]
        self.images = {image.key: torch.zeros(len(data.texts)) for image in data.images}
        for item, (images, texts) in enumerate(zip(data.item_images.tolist(), data.item_texts.tolist(), strict=True)):
            chosen = choices.get(item, (0, 1) if len(images) == 2 else 0)
            positions = (chosen,) if isinstance(chosen, int) else chosen
            for image, position in zip(images, positions, strict=True):
                self.images[data.images[image].key][self.axis[data.texts[texts[position]]]] = 1

    def image_features(self, images) -> Tensor:
        return torch.nn.functional.normalize(torch.stack([self.images[image.key] for image in images]), dim=1)

    def text_features(self, texts) -> Tensor:
        return torch.eye(len(self.axis))[[self.axis[text] for text in texts]]


def test_all_new_benchmarks_of_the_suite_are_tested_here():
    assert {one.name for one in load_suite("composition-all")} == {*NAMES, *FIRST_NAMES, *OTHER_NAMES}


@pytest.mark.parametrize("name", EACH)
def test_a_perfect_model_is_right_by_every_rule(data, name):
    metrics = tasks.run(small(name), data[name], Choosing(data[name], {})).metrics
    assert {key: metric.value for key, metric in metrics.items() if metric.value != 1} == {}


@pytest.mark.parametrize("name", EACH)
def test_a_constant_model_scores_0_strictly_and_chance_in_expectation(data, name):
    outcome = tasks.run(small(name), data[name], Constant())
    texts = data[name].item_texts.shape[1]
    for key, metric in outcome.metrics.items():
        reading = key.rpartition("/")[2].removeprefix("macro_")
        chance = CHANCE.get(reading.removesuffix("_expected"), 1 / texts)
        # auroc has ties counted half, and no second reading
        assert metric.value == pytest.approx(chance if reading.endswith(("_expected", "auroc")) else 0), key
    assert f"{outcome.primary}_expected" in outcome.metrics


# Item -> the text that its image chooses (of two images: each one's); what comes out, worked by hand.
BY_HAND = {
    # one of ten items is wrong: it chooses the wrong caption. Its file has 1 of 2, the mean of five files is 4.5 / 5
    "sugarcrepe-pp": (
        {3: 2},
        {"accuracy": 9 / 10, "macro_accuracy": 4.5 / 5, "replace_obj/accuracy": 1 / 2, "first_accuracy": 9 / 10,
         "of two/macro_accuracy": (5 / 6 + 1) / 2, "text_only_accuracy": 1},
    ),
    # both images of item 0 choose the first caption: the first caption ties between the images, the second as well
    "bivlc": (
        {0: (0, 0)},
        {"text_score": 3 / 4, "image_score": 3 / 4, "group_score": 3 / 4, "first_text_score": 1,
         "second_text_score": 3 / 4, "first_image_score": 3 / 4, "second_image_score": 3 / 4,
         "replace/group_score": 1 / 2, "swap/group_score": 1, "macro_group_score": (1 / 2 + 1 + 1) / 3,
         "first_image_score_expected": 3.5 / 4},
    ),
    # types and subtypes are replace obj, replace att, swap obj, add att
    "bivlc-subtypes": (
        {0: (0, 0), 3: (1, 0)},
        {"group_score": 2 / 4, "replace obj/group_score": 0, "replace att/group_score": 1, "add att/text_score": 0,
         "type subtype/macro_group_score": 2 / 4, "macro_group_score": (1 / 2 + 1 + 0) / 3},
    ),
    "cola-multi": ({1: (1, 0), 2: (1, 0)}, {"image_score": 2 / 4, "text_score": 2 / 4, "group_score": 2 / 4}),
    "colorswap": (
        {3: (1, 0)}, {"group_score": 3 / 4, "human/group_score": 1, "model/group_score": 0, "macro_group_score": 1 / 2}
    ),
    # item 0 is the first of existence: its file has 1 of 2
    "valse": (
        {0: 1},
        {"accuracy": 21 / 22, "existence/accuracy": 1 / 2, "macro_accuracy": 10.5 / 11,
         "phenomenon/macro_accuracy": 6.5 / 7},
    ),
    # of existence, a caption scores 0 and its foil 1; of four pairs of both one is lost, two are ties
    "valse-texts": (
        {0: 1},
        {"accuracy": 21 / 22, "existence/auroc": (1 + 2 / 2) / 4, "plurals/auroc": 1, "macro_auroc": 10.5 / 11,
         "phenomenon/macro_auroc": 6.5 / 7, "auroc": (21 * 21 + 42 / 2) / 22**2},
    ),
    # items are atom 4 to 12, swap 4 to 12, negate 4 to 12
    "crepe-productivity": (
        {0: 3, 1: 1, 9: 5},
        {"accuracy": 24 / 27, "atom 4/accuracy": 0, "atom/accuracy": 7 / 9, "swap/accuracy": 8 / 9,
         "foil/macro_accuracy": (7 / 9 + 8 / 9 + 1) / 3, "4/accuracy": 1 / 3},
    ),
    # of the mug, "on" is wrong: the pair on and under, and the set, are wrong; left and right are a pair that is right
    "whatsup-a": (
        {0: 2},
        {"accuracy": 7 / 8, "on/accuracy": 1 / 2, "pair_accuracy": 3 / 4, "set_accuracy": 1 / 2,
         "macro_accuracy": 3.5 / 4},
    ),
    "whatsup-b": (
        {0: 1, 3: 1},
        {"accuracy": 6 / 8, "front/accuracy": 1 / 2, "right/accuracy": 1 / 2, "pair_accuracy": 2 / 4,
         "set_accuracy": 1 / 2},
    ),
    "whatsup-coco-one": ({0: 1}, {"accuracy": 3 / 4, "left/accuracy": 0, "bottom/accuracy": 1}),
    "whatsup-coco-two": ({2: 1}, {"accuracy": 3 / 4, "above/accuracy": 0, "below/accuracy": 1}),
    "whatsup-gqa-one": ({1: 1}, {"accuracy": 3 / 4, "right/accuracy": 0}),
    "whatsup-gqa-two": ({2: 1, 3: 1}, {"accuracy": 2 / 4, "front/accuracy": 0, "top/accuracy": 0}),
    # labels are 0, 1, 0, 1, 0; the relations "on" of items 2 and 4 are topological, "deep in" is in no category
    "vsr-random": (
        {2: 1},
        {"accuracy": 4 / 5, "topological/accuracy": 1 / 2, "on/accuracy": 1 / 2, "unallocated/accuracy": 1,
         "false captions/accuracy": 2 / 3, "true captions/accuracy": 1, "label/macro_accuracy": (2 / 3 + 1) / 2},
    ),
    "vsr-zeroshot": ({0: 1}, {"accuracy": 4 / 5, "projective/accuracy": 0}),
    "negbench-coco": (
        {0: 1, 1: 3}, {"accuracy": 2 / 4, "hybrid/accuracy": 1 / 2, "negative/accuracy": 0, "positive/accuracy": 1}
    ),
    "negbench-voc2007": ({3: 1}, {"accuracy": 3 / 4, "hybrid/accuracy": 1 / 2}),
    # the first caption is right for items 0 and 2
    "negbench-chexpert": ({0: 1}, {"accuracy": 2 / 3, "caption_0/accuracy": 1 / 2, "caption_1/accuracy": 1}),
    "negbench-chexpert-control": ({1: 1}, {"accuracy": 2 / 3, "macro_accuracy": 1 / 2}),
    # two of each number
    "countbench": ({0: 8}, {"accuracy": 3 / 4, "three/accuracy": 1 / 2, "macro_accuracy": 3 / 4}),
    # item 0 is non minimal and unusual, item 1 has no tag, item 2 is unusual
    "winoground-tags": (
        {0: (1, 0)},
        {"group_score": 2 / 3, "Non Minimal/group_score": 0, "Unusual Text/group_score": 1 / 2,
         "No Tag/group_score": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EACH)
def test_each_benchmark_by_hand(data, name):
    choices, expected = BY_HAND[name]
    metrics = tasks.run(small(name), data[name], Choosing(data[name], choices)).metrics
    assert {key: metrics[key].value for key in expected} == pytest.approx(expected)


ONE_OF_EACH_FORM = ("sugarcrepe-pp", "bivlc-subtypes", "cola-multi", "vsr-zeroshot")
"""Several right texts; images in Parquet, with two images; two images and texts in JSON; one image, by groups."""


@pytest.mark.parametrize(
    "name", [name if name in ONE_OF_EACH_FORM else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_each_benchmark_runs_from_its_files_to_its_result(world, tmp_path, name):
    (result,) = evaluate(MODEL, small(name), data_root=world, out=tmp_path, batch_size=64)
    (path,) = tmp_path.rglob("samples.parquet")
    samples = pandas.read_parquet(path)
    assert result.dataset.n["items"] == ITEMS[name] == len(samples)
    assert result.primary == small(name).metrics["primary"]
    for metric in result.metrics.values():
        assert 0 <= metric.low <= metric.value <= metric.high <= 1
    assert samples["scores"].map(lambda scores: len(set(scores))).max() > 1  # images and texts have different features
