"""clip-benchmark's own `evaluate` functions on the same model and data: equal metrics without ties, other ones with."""

import numpy as np
import open_clip
import pytest
import torch
from clip_benchmark.metrics import image_caption_selection, zeroshot_classification, zeroshot_retrieval
from torch.utils.data import DataLoader, Dataset

from cosmos_eval import tasks
from cosmos_eval.datasets.data import ChoiceData, ClassificationData, PerceptionData, RetrievalData
from cosmos_eval.datasets.data.choices import Choice
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from tests.helpers.stand_ins import benchmark, to_tensor
from tests.oracles import ranks as oracle

IMAGES, CAPTIONS, CLASSES, SIDE, BATCH = 60, 3, 12, 32, 16
TEMPLATES = ["a photo of a {c}.", "a drawing of the {c}", "{c}, seen from afar"]
NAMES = ["apple", "bridge", "cat", "drum", "engine", "fox", "guitar", "house", "island", "jar", "kite", "lamp"]
KS = [1, 5, 10]
tokenize = open_clip.SimpleTokenizer(context_length=16)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    vision = {"image_size": SIDE, "layers": 2, "width": 64, "patch_size": 8, "head_width": 16}
    text = {"context_length": 16, "vocab_size": tokenize.vocab_size, "width": 64, "heads": 4, "layers": 2}
    net = open_clip.CLIP(embed_dim=64, vision_cfg=vision, text_cfg=text).eval()
    for parameter in net.parameters():  # the default initialisation gives features that hardly differ
        if parameter.ndim > 1:
            parameter.data *= 3
    return net


class Collapsed(torch.nn.Module):
    """A model with the same features for all inputs."""

    def encode_image(self, x):
        return torch.full((len(x), 64), 0.3)

    def encode_text(self, tokens):
        return torch.full((len(tokens), 64), 0.3)


class Adapter:
    spec, digest, device = "open_clip:random", "", torch.device("cpu")
    preprocess = staticmethod(to_tensor)

    def __init__(self, net):
        self.net = net

    def encode_image(self, x):
        return self.net.encode_image(x)

    def encode_text(self, texts):
        return self.net.encode_text(tokenize(list(texts)))


class Images(Dataset):
    """(preprocessed image, target), and `classes` for clip-benchmark's classification."""

    def __init__(self, images, targets, classes=()):
        self.images, self.targets, self.classes = images, targets, classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return to_tensor(self.images[i].load()), self.targets[i]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (IMAGES, 4, 4, 3), dtype=np.uint8)
    return [ArrayImage(f"{i:03}", pixels.repeat(8, 0).repeat(8, 1)) for i, pixels in enumerate(coarse)]


@pytest.fixture(scope="module")
def captions():
    rng = np.random.default_rng(2)
    words = np.array([*NAMES, "red", "blue", "small", "large", "above", "below", "near", "two", "three", "old"])
    return [" ".join(rng.permutation(words)[:6]) for _ in range(IMAGES * CAPTIONS)]


def retrieval_loader(images, captions):
    grouped = [captions[i * CAPTIONS : (i + 1) * CAPTIONS] for i in range(len(images))]
    return texts_loader(images, grouped)


def texts_loader(images, grouped):
    def collate(batch):
        return torch.stack([image for image, _ in batch]), [texts for _, texts in batch]

    return DataLoader(Images(images, grouped), batch_size=BATCH, collate_fn=collate)


def both_retrievals(net, images, captions):
    theirs = zeroshot_retrieval.evaluate(
        net, retrieval_loader(images, captions), tokenize, "cpu", amp=False, recall_k_list=KS
    )
    data = RetrievalData(images, captions, np.arange(len(captions)) // CAPTIONS)
    return tasks.run(benchmark("retrieval"), data, Engine(Adapter(net), batch_size=BATCH)), theirs


def both_classifications(net, images, labels, names=NAMES):
    loader = DataLoader(Images(images, labels, names), batch_size=BATCH)
    theirs = zeroshot_classification.evaluate(net, loader, tokenize, names, TEMPLATES, "cpu", amp=False)
    data = ClassificationData(images, np.array(labels), names, TEMPLATES)
    return tasks.run(benchmark("classification"), data, Engine(Adapter(net), batch_size=BATCH)), theirs


def test_retrieval_equals_clip_benchmark_on_a_random_model(net, images, captions):
    outcome, theirs = both_retrievals(net, images, captions)
    assert set(outcome.samples["hit@1"]) == {0.0, 1.0}  # there are no ties, and some hits
    assert outcome.warnings == ()
    for k in KS:
        image, text = (outcome.metrics[f"{direction}_recall@{k}"] for direction in ("text_to_image", "image_to_text"))
        assert image.value == pytest.approx(theirs[f"image_retrieval_recall@{k}"], abs=1e-6)
        assert text.value == pytest.approx(theirs[f"text_retrieval_recall@{k}"], abs=1e-6)


def test_classification_equals_clip_benchmark_on_a_random_model(net, images):
    labels = [i * 7 % CLASSES for i in range(IMAGES - 9)] + [0] * 9  # unequal classes
    outcome, theirs = both_classifications(net, images, labels)
    assert set(outcome.samples["correct"]) == {0.0, 1.0}
    assert outcome.metrics["top1"].value == pytest.approx(theirs["acc1"], abs=1e-9)
    assert outcome.metrics["top5"].value == pytest.approx(theirs["acc5"], abs=1e-9)
    assert outcome.metrics["mean_per_class"].value == pytest.approx(theirs["mean_per_class_recall"], abs=1e-9)
    assert theirs["mean_per_class_recall"] != pytest.approx(theirs["acc1"], abs=1e-3)


def test_caption_selection_equals_clip_benchmark_on_a_random_model(net, images, captions):
    outcome, theirs = both_pairs(net, images, captions[:IMAGES], captions[IMAGES : 2 * IMAGES])
    assert outcome.metrics["accuracy"].value == pytest.approx(theirs["text_acc"], abs=1e-6)
    assert 0.1 < theirs["text_acc"] < 0.9


def both_pairs(net, images, positives, negatives):
    grouped = [list(pair) for pair in zip(positives, negatives, strict=True)]
    theirs = image_caption_selection.evaluate(net, texts_loader(images, grouped), tokenize, "cpu", amp=False)
    items = np.arange(len(images))
    data = PerceptionData.pairs(images, items, positives, negatives, ["all"] * len(images))
    return tasks.run(benchmark("perception"), data, Engine(Adapter(net), batch_size=BATCH)), theirs


def test_a_collapsed_model_scores_chance_here_and_depends_on_the_order_in_clip_benchmark(images, captions):
    labels = [0] * (IMAGES - CLASSES) + list(range(CLASSES))
    outcome, theirs = both_classifications(Collapsed(), images, labels)
    assert outcome.metrics["top1"].value == pytest.approx(1 / CLASSES)
    assert outcome.metrics["top5"].value == pytest.approx(5 / CLASSES)
    assert theirs["acc1"] != pytest.approx(1 / CLASSES, abs=0.05)

    outcome, theirs = both_retrievals(Collapsed(), images, captions)
    for k in KS:
        chance = float(oracle.expected_hit(0, len(captions), CAPTIONS, k))
        assert outcome.metrics[f"image_to_text_recall@{k}"].value == pytest.approx(chance)
    chance = float(oracle.expected_hit(0, len(captions), CAPTIONS, 10))
    assert theirs["text_retrieval_recall@10"] != pytest.approx(chance, rel=0.3)

    outcome, theirs = both_pairs(Collapsed(), images, captions[:IMAGES], captions[IMAGES : 2 * IMAGES])
    assert theirs["text_acc"] == 1.0
    assert outcome.metrics["accuracy"].value == 0
    assert outcome.metrics["accuracy_expected"].value == 0.5


def test_two_classes_with_one_name_share_hits_here_and_the_first_takes_all_in_clip_benchmark(net, images):
    names = [*NAMES[:6], *NAMES[:6]]
    # 54 images have the label of the first class of a name, or of the second; six images fill the other classes.
    labels = [i % 6 for i in range(IMAGES - 6)] + list(range(6, 12))
    moved = [label + 6 for label in labels[:-6]] + list(range(6))
    ours, theirs = zip(
        *(both_classifications(net, images, labels_of_images, names) for labels_of_images in (labels, moved)),
        strict=True,
    )
    # Here an image gets half a hit where two classes have the same name, whichever of them is its label.
    for outcome in ours:
        assert set(outcome.samples["correct"]) <= {0.0, 0.5}
    assert ours[0].samples["correct"][:54].sum() == ours[1].samples["correct"][:54].sum()
    # In clip-benchmark the first class of that name gets all hits.
    assert theirs[0]["acc1"] > 2 * theirs[1]["acc1"]


def test_multiple_choice_equals_clip_benchmarks_caption_selection(net, images, captions):
    positives, negatives = captions[:IMAGES], captions[IMAGES : 2 * IMAGES]
    _, theirs = both_pairs(net, images, positives, negatives)
    items = [
        Choice([i], [right, wrong], [0]) for i, (right, wrong) in enumerate(zip(positives, negatives, strict=True))
    ]
    data = ChoiceData.from_items(images, items)
    ours = tasks.run(benchmark("multiple-choice"), data, Engine(Adapter(net), batch_size=BATCH))
    assert ours.metrics["accuracy"].value == pytest.approx(theirs["text_acc"], abs=1e-6)
