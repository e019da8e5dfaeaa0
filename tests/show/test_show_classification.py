"""`show classification`: confusions and wrong images by hand, figures whose texts fit, the command."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.metrics import confusion_matrix

from cosmos_eval import tasks
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.data import ClassificationData, MultilabelData
from cosmos_eval.metrics.query_scores import MatrixScores
from cosmos_eval.show import classification as showing
from cosmos_eval.show.class_figures import (
    BEST,
    WORST,
    Card,
    bars_figure,
    gallery_figure,
    matrix_figure,
    pairs_figure,
)
from cosmos_eval.show.class_predictions import confused_pairs, predict, wrong_images
from cosmos_eval.tasks.class_table import ClassEntry, ClassTable
from cosmos_eval.tasks.outcome import Metric
from tests.helpers.stand_ins import Given, benchmark, random_images
from tests.helpers.worlds import classes_world

COLOURS = "python:tests.helpers.tiny_models:Colours"


def scores_of(rows) -> MatrixScores:
    matrix = torch.tensor(np.asarray(rows), dtype=torch.float32)
    return MatrixScores(matrix, torch.arange(len(matrix)), torch.arange(matrix.shape[1]))


HAND = [
    [0.9, 0.5, 0.1, 0.0],  # class 0, right
    [0.2, 0.8, 0.1, 0.0],  # class 0, taken for 1
    [0.1, 0.7, 0.7, 0.0],  # class 1, a tie of 1 and 2
    [0.9, 0.3, 0.2, 0.1],  # class 3, taken for 0, rank 4
]
LABELS = np.array([0, 0, 1, 3])


def test_four_images_and_four_classes_by_hand():
    predictions = predict(scores_of(HAND), LABELS)
    assert predictions.confusion.tolist() == [[1, 1, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert predictions.top.tolist() == [[0, 1, 2], [1, 0, 2], [1, 2, 0], [0, 1, 2]]
    assert predictions.top_scores[1].tolist() == pytest.approx([0.8, 0.2, 0.1])
    assert predictions.margin.tolist() == pytest.approx([0.4, -0.6, 0, -0.8])
    assert predictions.rank.tolist() == [1, 2, 2, 4]
    assert predictions.tied.tolist() == [1, 1, 2, 1]
    assert wrong_images(predictions, np.arange(4), 9) == [3, 1, 2]  # a tie at the top is not certainly right
    assert confused_pairs(predictions.confusion, 2) == [(0, 1, 1.0), (3, 0, 1.0)]
    assert confused_pairs(predictions.confusion, 9)[-1] == (1, 2, 0.5)


def test_the_diagonal_is_the_recall_of_the_results_and_without_ties_the_matrix_is_scikit_learns():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 6, 200)
    features, texts = rng.normal(size=(200, 8)), rng.normal(size=(6, 8))
    given = Given({f"image-{i}": row for i, row in enumerate(features)}, {f"c{i}": row for i, row in enumerate(texts)})
    data = ClassificationData(random_images(200), labels, [f"c{i}" for i in range(6)], ["{c}"])
    outcome = tasks.run(benchmark("classification"), data, given)
    unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    confusion = predict(scores_of(features @ unit.T), labels).confusion
    assert confusion.tolist() == confusion_matrix(labels, outcome.samples["prediction"]).tolist()
    recall = confusion.diagonal() / confusion.sum(1)
    assert recall.tolist() == pytest.approx(outcome.classes.frame()["recall"].tolist())


def test_a_perfect_model_has_a_diagonal_and_no_wrong_image():
    labels = np.arange(20) % 5
    predictions = predict(scores_of(np.eye(5)[labels]), labels)
    assert predictions.confusion.tolist() == (4 * np.eye(5)).tolist()
    assert wrong_images(predictions, np.arange(20), 9) == []
    assert confused_pairs(predictions.confusion, 9) == []


def test_a_constant_model_spreads_every_image_over_all_classes():
    labels = np.array([0, 0, 1, 2])
    predictions = predict(scores_of(np.zeros((4, 4))), labels)
    assert predictions.confusion.tolist() == [[0.5] * 4, [0.25] * 4, [0.25] * 4, [0] * 4]
    assert predictions.tied.tolist() == [4] * 4


def test_the_gallery_begins_with_one_image_of_each_pair_of_classes():
    rows = [[1, 0, 0], [0.9, 0, 0], [0.8, 0, 0], [0, 0.5, 0]]
    predictions = predict(scores_of(rows), np.array([1, 1, 1, 2]))
    assert wrong_images(predictions, np.arange(4), 4) == [0, 3, 1, 2]
    assert wrong_images(predictions, np.array([1, 2]), 4) == [1, 2]


def test_images_with_several_classes_and_undecided_ones_by_hand():
    rows = [[0.9, 0.8, 0.1], [0.5, 0.6, 0.7], [0.3, 0.2, 0.1]]
    labels = np.array([[1, 1, 0], [1, -1, 0], [0, 0, 0]], np.int8)
    predictions = predict(scores_of(rows), labels == 1, labels == -1)
    assert predictions.margin[:2].tolist() == pytest.approx([0.8, -0.2])  # class 1 is not wrong in image 1
    assert np.isnan(predictions.margin[2])
    assert predictions.rank[:2].tolist() == [1, 2]
    assert predictions.best_true.tolist() == [0, 0, -1]
    assert wrong_images(predictions, np.arange(3), 9) == [1]
    assert predictions.confusion.tolist() == [
        [0, 0, 1],
        [0, 0, 0],
        [0, 0, 0],
    ]  # of image 1, the only one with one class


def table(classes: int, name: str = "class number {} with a long name of its own") -> ClassTable:
    rng = np.random.default_rng(0)
    values = rng.random(classes).tolist()
    entries = [
        ClassEntry(name.format(i), 7, Metric(value, value / 2, min(1, value + 0.2), 7))
        for i, value in enumerate(values)
    ]
    return ClassTable("recall", (*entries, ClassEntry("nowhere", 0, None)))


def texts_of(drawn) -> list:
    from matplotlib.text import Text

    drawn.canvas.draw()
    return [text for text in drawn.findobj(Text) if text.get_visible() and text.get_text().strip()]


def assert_nothing_is_cut(drawn) -> None:
    drawn.canvas.draw()
    box = drawn.get_tightbbox()  # in inches, of all that is drawn
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= drawn.get_figwidth()
    assert box.y1 <= drawn.get_figheight()


LONG = "open_clip:ViT-B-16/a-long-tag-of-weights-of-somebody on a-benchmark-with-a-name, top-1 96.0 % [94.8, 97.2]"


@pytest.mark.parametrize("classes", [2, 48])
def test_no_label_of_a_matrix_is_cut(classes: int):
    confusion = np.random.default_rng(0).integers(-9, 4, (classes, classes)).clip(0).astype(float)
    confusion[1] = 0
    drawn = matrix_figure(confusion, [f"class number {i} with a long name" for i in range(classes)], LONG)
    assert_nothing_is_cut(drawn)
    axis = drawn.axes[0]
    boxes = [label.get_window_extent() for label in axis.get_yticklabels()]
    assert all(above.y0 >= below.y1 - 1 for above, below in itertools.pairwise(boxes))
    assert axis.get_yticklabels()[1].get_text().endswith("(0)")


def test_of_many_classes_the_most_confused_pairs_are_drawn_with_their_names():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(1000), 5)
    confusion = np.zeros((1000, 1000))
    np.add.at(confusion, (labels, np.where(rng.random(5000) < 0.7, labels, rng.integers(0, 1000, 5000))), 1)
    confusion[3] = 0
    confusion[3, 8] = 5
    drawn = pairs_figure(confusion, [f"class number {i} with quite a long name" for i in range(1000)], LONG)
    assert_nothing_is_cut(drawn)
    axis = drawn.axes[0]
    assert axis.get_yticklabels()[0].get_text().startswith("class number 3 with")
    assert "5 of 5 (100 %)" in axis.texts[0].get_text()
    right = axis.get_window_extent().x1
    assert all(text.get_window_extent().x1 <= right for text in axis.texts)
    assert_nothing_is_cut(pairs_figure(np.eye(100), [str(i) for i in range(100)], "a perfect model"))


@pytest.mark.parametrize("classes", [1, 48, 1000])
def test_bars_have_the_worst_and_the_best_classes(classes: int):
    drawn = bars_figure(table(classes), LONG)
    assert_nothing_is_cut(drawn)
    (axis,) = drawn.axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert len(names) == (classes if classes <= WORST + BEST else WORST + BEST + 1)
    assert ("more classes" in " ".join(names)) is (classes > WORST + BEST)
    assert "1 without images is left out" in axis.get_xlabel()
    shown = [float(text.get_text()) for text in axis.texts]
    assert shown == sorted(shown, reverse=True)


def test_cards_do_not_overlap_and_long_names_are_wrapped():
    lines = (("true: " + "a class with a very long name " * 2, None), ("0.512  short", False), ("0.411  x" * 20, True))
    cards = [Card(image, f"folder/of/{image.key}", lines, i % 2 == 0) for i, image in enumerate(random_images(6))]
    drawn = gallery_figure(cards, LONG)
    assert_nothing_is_cut(drawn)
    boxes = [text.get_window_extent() for text in texts_of(drawn)]
    boxes += [axis.get_window_extent() for axis in drawn.axes]
    assert len(drawn.axes) == 6
    for one, other in itertools.combinations(boxes, 2):
        apart = one.x1 <= other.x0 + 1 or other.x1 <= one.x0 + 1 or one.y1 <= other.y0 + 1 or other.y1 <= one.y0 + 1
        assert apart, (one, other)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return classes_world(tmp_path_factory.mktemp("world"), per_class=4)


@pytest.fixture(scope="module")
def run_out(world, tmp_path_factory) -> Path:
    """A run of the model, with its feature cache."""
    out = tmp_path_factory.mktemp("run")
    assert run_command(["run", "--model", COLOURS, "--benchmark", str(world), "--out", str(out)]) == 0
    return out


def show(world: Path, out: Path, *arguments: str) -> int:
    command = ["show", "classification", "--model", COLOURS, "--benchmark", str(world), "--out", str(out)]
    return run_command([*command, *arguments])


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.suffix == ".png"}


def test_the_command_writes_images_which_are_the_same_with_the_features_of_a_run(world, run_out, tmp_path, capsys):
    assert show(world, tmp_path / "without") == 0
    said = capsys.readouterr().out
    images = written(tmp_path / "without")
    assert list(images) == ["classes.png", "confusion.png", "wrong.png"]
    for name in images:
        assert f": {tmp_path / 'without' / name}" in said
        with Image.open(tmp_path / "without" / name) as image:
            assert image.width > 300
    assert "cache" not in said
    cached = {path: path.read_bytes() for path in (run_out / ".embeddings").rglob("*") if path.is_file()}
    for out, arguments in ((tmp_path / "with", ["--results", str(run_out)]), (run_out / "shown", [])):
        assert show(world, out, *arguments) == 0
        said = capsys.readouterr()
        assert f"From the feature cache {run_out / '.embeddings'}: 12 of 12 images, 3 of 3 texts" in said.out
        assert "encoding" not in said.err
        assert written(out) == images
    assert {path: path.read_bytes() for path in (run_out / ".embeddings").rglob("*") if path.is_file()} == cached


def test_a_cache_of_its_own_is_filled_and_read(world, tmp_path, capsys):
    for found in ("0 of 12 images, 0 of 3 texts", "12 of 12 images, 3 of 3 texts"):
        assert show(world, tmp_path / "shown", "--cache", str(tmp_path / "cache")) == 0
        assert found in capsys.readouterr().out


def test_a_class_and_single_images_can_be_chosen(world, tmp_path, capsys):
    out = tmp_path / "shown"
    assert show(world, out, "--class", "thing 1") == 0
    said = capsys.readouterr().out
    assert "Wrong images of thing 1: " in said
    assert "Other images taken for thing 1: " in said
    assert show(world, out, "--key", "class1/0.png", "--key", "class2/3.png") == 0
    assert f"Images: {out / 'images.png'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--class", "thing 7"], "has no class 'thing 7' among its 3; similar names: thing "),
        (["--key", "nothing"], "has no image 'nothing' among its 12"),
        (["--key", "class1/0.png", "--class", "thing 1"], "give one of the two"),
        (["--key", "class1/0.png", "--images", "3"], "give one of the two"),
        (["--results", "nowhere"], "no folder nowhere"),
        (
            ["--benchmark", "toybox-probe"],
            "toybox-probe has the task probe; show classification needs a benchmark of classification",
        ),
        (["--benchmark", "toybox-retrieval"], "show classification needs a benchmark of classification"),
    ],
)
def test_bad_requests_are_one_line(world, tmp_path, capsys, arguments, why):
    assert show(world, tmp_path / "x", *arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval: ")]
    assert len(lines) == 1
    assert why in lines[0]
    assert not (tmp_path / "x").exists()


def test_multilabel_has_bars_of_average_precision_and_wrong_images(tmp_path, monkeypatch):
    rows = {"image-0": [0.9, 0.8, 0.1], "image-1": [0.5, 0.6, 0.7], "image-2": [0.3, 0.2, 0.1]}
    given = Given(rows, dict(zip("abc", np.eye(3), strict=True)))
    given.encoded, given.start_benchmark = {}, lambda name: None
    labels = np.array([[1, 1, 0], [1, -1, 0], [0, 0, 0]], np.int8)
    data = MultilabelData(random_images(3), labels, list("abc"), ["{c}"])
    cards = []

    def recorded(of_gallery, title):
        cards.extend(of_gallery)
        return gallery_figure(of_gallery, title)

    monkeypatch.setattr(showing, "require_models", lambda specs, fetch: None)
    monkeypatch.setattr(showing, "read_data", lambda *arguments: (benchmark("multilabel"), data))
    monkeypatch.setattr(showing, "open_engine", lambda *arguments: given)
    monkeypatch.setattr(showing, "gallery_figure", recorded)
    shown = showing.show_classification("m", "some-multilabel", tmp_path)
    assert list(written(tmp_path)) == ["classes.png", "wrong.png"]
    assert (shown.images, shown.wrong) == (3, 1)
    assert list(shown.files) == ["Average precision of each class", "Wrong images, by the largest margin"]
    (card,) = cards
    assert card.lines == (("true: a", None), ("0.700  c", False), ("0.600  b (undecided)", None), ("0.500  a", True))


def test_class_names_in_other_languages_are_refused(world, tmp_path, capsys):
    definition = yaml.safe_load(world.read_text())
    del definition["prompts"]
    own = {"de": {"class_names": {"class0": "Ding 0", "class1": "Ding 1"}}}
    definition |= {"name": "german", "task": "multilingual-classification", "languages": {"own": own}}
    path = world.with_name("german.yaml")
    path.write_text(yaml.safe_dump(definition))
    assert show(path, tmp_path / "x") == 2
    assert "german: multilingual-classification does not ask each image for" in capsys.readouterr().err
