"""Galleries: the cases that are picked, against scores written down, and files that can be looked at."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.data import PerceptionData, RetrievalData
from cosmos_eval.report.curves import figure
from cosmos_eval.show.cases import Item, Query, perception_cases, reading_of, retrieval_cases
from cosmos_eval.show.gallery import item_figure, query_figure, show_perception
from tests.helpers import perception_on_disk as on_disk
from tests.helpers.stand_ins import Given, random_images


def unit(*degrees: float) -> dict[int, list[float]]:
    turned = np.radians(degrees)
    return {i: [float(np.cos(a)), float(np.sin(a))] for i, a in enumerate(turned)}


def test_the_best_the_worst_and_the_most_confused_by_hand():
    # texts 0, 1, 2 belong to images 0, 1, 2; image 2 looks like text 1
    images, texts = unit(0, 60, 58), unit(2, 61, 100)
    given = Given({f"image-{i}": v for i, v in images.items()}, {f"t{i}": v for i, v in texts.items()})
    data = RetrievalData(random_images(3), ["t0", "t1", "t2"], np.arange(3))
    found = retrieval_cases(data, given, 2)
    assert [q.index for q in found["image to text, best"]] == [0, 1]
    assert next((q.index, q.rank) for q in found["image to text, worst"]) == (2, 2)
    confused = found["image to text, most confused"][0]
    assert (confused.index, [i for i, _, right in confused.candidates if right]) == (2, [2])
    assert confused.lead == pytest.approx(np.cos(np.radians(42)) - np.cos(np.radians(3)), abs=1e-6)
    assert next(q.index for q in found["text to image, worst"]) == 2
    for queries in found.values():
        for query in queries:
            scores = [score for _, score, _ in query.candidates]
            assert scores == sorted(scores, reverse=True)


def test_a_right_candidate_that_is_far_down_is_shown_last():
    images, texts = unit(0), unit(*range(10, 22), 90)
    given = Given({"image-0": images[0], "image-1": [0.0, -1.0]}, {f"t{i}": v for i, v in texts.items()})
    owner = np.array([1] * 12 + [0])
    found = retrieval_cases(RetrievalData(random_images(2), [f"t{i}" for i in range(13)], owner), given, 1)
    (query,) = found["image to text, worst"]
    assert (query.index, query.rank) == (0, 13)
    assert [right for _, _, right in query.candidates] == [False] * 4 + [True]


def test_equal_scores_count_half_in_a_rank():
    given = Given({f"image-{i}": [1.0, 0.0] for i in range(5)}, {f"t{i}": [1.0, 0.0] for i in range(5)})
    found = retrieval_cases(RetrievalData(random_images(5), [f"t{i}" for i in range(5)], np.arange(5)), given, 5)
    assert {query.rank for query in found["text to image, best"]} == {3}


def pairs() -> PerceptionData:
    return PerceptionData.pairs(random_images(3), [0, 1, 2], ["a", "a", "a"], ["b", "b", "b"], ["x", "x", "y"])


def test_items_on_which_two_models_disagree_come_with_the_widest_gap_first():
    first = Given({"image-0": [1, 0], "image-1": [0, 1], "image-2": [0.8, 0.6]}, {"a": [1, 0], "b": [0, 1]})
    second = Given({"image-0": [0, 1], "image-1": [1, 0], "image-2": [0.6, 0.8]}, {"a": [1, 0], "b": [0, 1]})
    reading, found = perception_cases(pairs(), [first, second], 5)
    assert reading == "accuracy"
    assert [item.index for item in found["the first is right, the second is not"]] == [0, 2]
    (other,) = found["the second is right, the first is not"]
    assert (other.index, other.correct, other.margins) == (1, (False, True), pytest.approx((-1, 1)))


def test_one_model_is_shown_where_it_is_right_and_wrong_by_most():
    only = Given({"image-0": [1, 0], "image-1": [0, 1], "image-2": [0.8, 0.6]}, {"a": [1, 0], "b": [0, 1]})
    _, found = perception_cases(pairs(), [only], 1)
    assert [[item.index for item in items] for items in found.values()] == [[0], [1]]


def squares() -> PerceptionData:
    """Both texts prefer their image in item 0 only, both images their text in item 1 only."""
    return PerceptionData(
        random_images(4), ["a", "b", "c", "d"], np.array([[0, 1], [2, 3]]), np.array([[0, 1], [2, 3]]), ["x", "y"]
    )


@pytest.mark.parametrize(
    ("primary", "reading", "right"),
    [
        ("macro_image_score", "image_score", [0]),
        ("x/image_score_expected", "image_score", [0]),
        ("text_score", "text_score", [1]),
        ("group_score", "group_score", []),
        ("", "text_score", [1]),
    ],
)
def test_the_primary_metric_says_which_reading_decides(primary: str, reading: str, right: list[int]):
    image_first = torch.tensor([[0.8, 0.9], [0.5, 0.95]])  # text a: .8 > .5, text b: .95 > .9; image 0 prefers b
    text_first = torch.tensor([[0.9, 0.85], [0.91, 0.92]])  # image 0: .9 > .85, image 1: .92 > .91; text a: .91
    own = {f"image-{2 * k + i}": [0.0] * 4 for k in range(2) for i in range(2)}
    for k, matrix in enumerate((image_first, text_first)):
        for i in range(2):
            own[f"image-{2 * k + i}"][2 * k : 2 * k + 2] = matrix[i].tolist()
    given = Given(own, {text: np.eye(4)[j].tolist() for j, text in enumerate("abcd")})
    name, found = perception_cases(squares(), [given], 5, primary)
    assert name == reading
    assert [item.index for item in found["right by most"]] == right


@pytest.mark.parametrize(
    ("metric", "reading"),
    [
        ("asymmetric/macro_accuracy", "accuracy"),
        ("macro_match_accuracy", "match_accuracy"),
        ("a/b/accuracy", "accuracy"),
    ],
)
def test_the_reading_that_a_metric_is_made_of(metric: str, reading: str):
    assert reading_of(metric, ("accuracy", "match_accuracy")) == reading


LONG = "a small plain white cross at bottom right, a large dotted black circle at top right and a green triangle"


@pytest.mark.parametrize("is_image", [True, False])
def test_long_captions_are_drawn_whole_and_above_each_other(is_image: bool):
    data = RetrievalData(random_images(5), [f"{LONG} {i}" for i in range(5)], np.arange(5))
    candidates = tuple((i, 0.5, i == 2) for i in range(5))
    drawn = query_figure([Query(2, is_image, 3, -0.1, candidates)] * 2, data, "title")
    drawn.canvas.draw()
    texts = [text for axis in drawn.axes for text in axis.texts if "cross" in text.get_text()]
    assert len(texts) == (10 if is_image else 2)
    for text in texts:
        assert LONG in " ".join(text.get_text().split())
    boxes = [text.get_window_extent() for text in texts]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))
    assert min(box.y0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= drawn.bbox.x1


def test_a_text_without_end_ends_with_dots():
    data = RetrievalData(random_images(1), ["word " * 400], np.arange(1))
    drawn = query_figure([Query(0, True, 1, 0.1, ((0, 0.5, True),))], data, "title")
    (text,) = drawn.axes[1].texts
    assert text.get_text().endswith(" …")


def test_scores_of_two_images_and_two_texts_say_whose_they_are():
    scores = np.array([[0.9, 0.8], [0.7, 0.6]])
    item = Item(0, (scores, scores), (0.1, -0.1), (True, False))
    drawn = item_figure([item], squares(), ["first", "second"], "title")
    said = [text.get_text() for text in drawn.axes[-1].texts]
    assert said[-2:] == [
        "first: image 1 0.900 / 0.800, image 2 0.700 / 0.600, margin +0.100",
        "second: image 1 0.900 / 0.800, image 2 0.700 / 0.600, margin -0.100",
    ]
    one = Item(0, (np.array([[0.9, 0.8]]),), (0.1,), (True,))
    drawn = item_figure([one], pairs(), ["first"], "title")
    assert drawn.axes[-1].texts[-1].get_text() == "first: 0.900 / 0.800, margin +0.100"


def test_the_gallery_of_a_benchmark_goes_by_its_own_primary_metric(tmp_path: Path, monkeypatch):
    titles = []

    def recorded(items, data, specs, title):
        titles.append(title)
        return figure(1, 1)

    monkeypatch.setattr("cosmos_eval.show.gallery.item_figure", recorded)
    on_disk.winoground(tmp_path)
    path = tmp_path / "mine.yaml"
    for primary in ("text_score", "macro_image_score"):
        path.write_text(
            f"{{name: mine, base: winoground, dataset: {{expected: {{items: 3}}}}, metrics: {{primary: {primary}}}}}",
            encoding="utf-8",
        )
        show_perception(["cosmos:untrained-toybox?seed=0"], path, tmp_path / "out", tmp_path)
        assert titles
        assert all(f"mine, {primary.removeprefix('macro_')}: " in title for title in titles)
        titles.clear()


SMALL = """name: small-{task}
version: 1
task: {task}
dataset: {{reader: toybox, split: test, seed: 0, scenes: 24}}
metrics: {{primary: {primary}}}
"""


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for task, primary in (("retrieval", "image_to_text_recall@1"), ("perception", "accuracy")):
        found[task] = tmp_path / f"{task}.yaml"
        found[task].write_text(SMALL.format(task=task, primary=primary))
    return found


def test_the_commands_write_images(small: dict[str, Path], tmp_path: Path, capsys):
    torch.set_num_threads(1)
    model = ["--model", "cosmos:toybox"]
    command = ["show", "retrieval", *model, "--benchmark", str(small["retrieval"]), "--out", str(tmp_path / "r")]
    assert run_command([*command, "--cases", "2"]) == 0
    both = [*model, "--model", "cosmos:untrained-toybox?seed=0"]
    command = ["show", "perception", *both, "--benchmark", str(small["perception"]), "--out", str(tmp_path / "p")]
    assert run_command([*command, "--cases", "2"]) == 0
    written = sorted(path.name for path in tmp_path.glob("*/*.png"))
    assert len(written) == 8
    said = capsys.readouterr().out
    for path in tmp_path.glob("*/*.png"):
        assert str(path) in said
        with Image.open(path) as image:
            assert len(image.convert("L").histogram()) == 256
            assert image.width > 300


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["retrieval", "--benchmark", "toybox-perception"], "show retrieval needs a benchmark of retrieval"),
        (["perception", "--benchmark", "toybox-retrieval"], "show perception needs a benchmark of perception"),
        (["perception", "--benchmark", "toybox-perception", *["--model", "cosmos:toybox"] * 2], "3 models"),
        (["retrieval", "--benchmark", "toybox-retrieval", "--device", "abacus"], "unknown device"),
    ],
)
def test_bad_requests_are_one_line(command: list[str], why: str, tmp_path: Path, capsys):
    assert run_command(["show", *command, "--model", "cosmos:toybox", "--out", str(tmp_path / "x")]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
