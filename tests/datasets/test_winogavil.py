"""WinoGAViL: the table of the authors to items, a perfect and a constant model, a case by hand, bad input, a run."""

import json
from pathlib import Path

import numpy as np
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.perception.winogavil import cue_prompt
from cosmos_eval.run.evaluate import evaluate
from cosmos_eval.tasks.multiple_choice.paired import paired
from tests.helpers.associations_on_disk import ITEMS, TEN, WINOGAVIL_HEADER, winogavil, winogavil_rows
from tests.helpers.perception_on_disk import small, write_csv
from tests.helpers.stand_ins import Constant, Given

TEXTS = ["A bald", "An indoor", "A colorful", "A sailors"]


@pytest.fixture
def data(tmp_path: Path):
    winogavil(tmp_path)
    return datasets.load(small("winogavil"), tmp_path)


def choosing(*chosen: list[str]) -> Given:
    """A model for which the cue of each item is most similar to these images."""
    images = dict(zip(TEN, np.eye(len(TEN)), strict=True))
    return Given(images, {text: sum(images[name] for name in names) for text, names in zip(TEXTS, chosen, strict=True)})


def values(outcome) -> dict[str, float]:
    return {name: metric.value for name, metric in outcome.metrics.items()}


def test_items_are_those_of_the_table(data):
    assert data.counts() == {"images": 10, "items": 4}
    assert list(data.texts) == TEXTS
    assert [image.key for image in data.images] == TEN
    assert data.subsets == ["5-6", "5-6", "10-12", "10-12"]
    right = [[TEN[i] for i in data.pairs[(data.item_of_pair == item) & data.is_right, 0]] for item in range(4)]
    assert [set(names) for names in right] == [set(names) for _, _, names in ITEMS]


def test_the_article_goes_by_the_first_letter():
    assert [cue_prompt(cue) for cue in ("Hour", "Apple", "usual")] == ["A hour", "An apple", "An usual"]


def test_a_perfect_model_has_an_index_of_one(data):
    outcome = tasks.run(small("winogavil"), data, choosing(*(names for _, _, names in ITEMS)))
    assert set(values(outcome).values()) == {1}
    assert outcome.primary == "10-12/jaccard"


def test_a_constant_model_scores_the_index_of_a_random_choice(data):
    found = values(tasks.run(small("winogavil"), data, Constant()))
    two_of_five = (6 * 1 / 3 + 1) / 10  # of 10 choices 6 have one hit, 1 has two
    two_of_ten = (16 * 1 / 3 + 1) / 45
    three_of_ten = (63 * 1 / 5 + 21 * 2 / 4 + 1) / 120
    assert found["5-6/jaccard"] == pytest.approx(two_of_five)
    assert found["10-12/jaccard"] == pytest.approx((two_of_ten + three_of_ten) / 2)
    assert found["10-12/accuracy"] == pytest.approx((2 / 10 + 3 / 10) / 2)


def test_two_wrong_choices_by_hand(data):
    model = choosing(["eagle", "metal"], ["teepee", "factory"], ["tea party", "game", "ash"], ["music", "siren"])
    outcome = tasks.run(small("winogavil"), data, model)
    # one of two: 1 / 3; two of three: 2 / 4
    assert outcome.samples["jaccard"].tolist() == pytest.approx([1 / 3, 1, 1 / 2, 1])
    found = values(outcome)
    assert found["5-6/jaccard"] == pytest.approx(2 / 3)
    assert found["10-12/jaccard"] == 0.75
    assert found["jaccard"] == pytest.approx((1 / 3 + 1 + 1 / 2 + 1) / 4)


def test_a_paired_test_compares_the_indices(data):
    samples = [
        tasks.run(small("winogavil"), data, model).samples
        for model in (choosing(*(names for _, _, names in ITEMS)), Constant())
    ]
    hits = paired("10-12/jaccard", (None, None), tuple(samples))
    assert hits.baseline.tolist() == [1, 1]
    assert hits.candidate.tolist() == samples[1]["jaccard"][2:].tolist()
    assert paired("accuracy", (None, None), tuple(samples)).candidate.tolist() == samples[1]["correct"].tolist()
    with pytest.raises(RequestError, match="no column 'jaccard'"):
        paired("jaccard", (None, None), tuple(frame.drop(columns="jaccard") for frame in samples))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": "eagle, ash"}, "for 'candidates' in"),
        ({"associations": '["eagle", 3]'}, "must be a JSON list of names"),
        ({"candidates": json.dumps(TEN[:4])}, "finds 4 candidates in"),
        ({"associations": '["moon"]'}, "finds 0 of 5 candidates among the associations"),
        ({"associations": json.dumps(TEN)}, "finds 5 of 5 candidates among the associations"),
        ({"candidates": json.dumps(["../eagle", *TEN[1:5]])}, "names an image outside its folder"),
        ({"candidates": json.dumps(["moon", *TEN[1:5]])}, "missing: moon.jpg"),
        ({"cue": " "}, "has an empty 'cue' in"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, str], message: str):
    winogavil(tmp_path)
    rows = winogavil_rows()
    rows[0].update(changes)
    write_csv(tmp_path / "winogavil/winogavil_dataset.csv", WINOGAVIL_HEADER, rows)
    with pytest.raises(RequestError) as caught:
        datasets.load(small("winogavil"), tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_with_two_endings_is_refused(tmp_path: Path):
    winogavil(tmp_path)
    (tmp_path / "winogavil/images/eagle.png").write_bytes((tmp_path / "winogavil/images/eagle.jpg").read_bytes())
    with pytest.raises(RequestError, match="finds 1 image twice in"):
        datasets.load(small("winogavil"), tmp_path)


def test_it_runs_from_its_files_to_its_result(tmp_path: Path):
    winogavil(tmp_path)
    model = "cosmos:untrained-toybox?seed=3"
    (result,) = evaluate(model, [small("winogavil")], data_root=tmp_path, out=tmp_path / "out", batch_size=64)
    assert result.primary == "10-12/jaccard"
    assert result.dataset.n["items"] == 4
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in result.metrics.values())
