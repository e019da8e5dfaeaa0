"""Cola's single objects, CREPE's systematicity and NegBench's retrieval, from the authors' files to metrics.

Models are written down: an image has the feature of the texts that it should be near to.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.perception.annotation_files import parts_of_address
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.composition_sets_on_disk import DIFFICULT, LABELS, NAMES, PRESENT, WRITE
from tests.helpers.datasets_on_disk import replace_content
from tests.helpers.perception_on_disk import small
from tests.helpers.stand_ins import Constant, FeatureScoring

PRIMARY_AND_CHANCE = {
    # of four difficult images two, of three one; the third class has none
    **dict.fromkeys(NAMES[:3], ("mean_average_precision", (2 / 4 + 1 / 3) / 2)),
    **dict.fromkeys(NAMES[3:6], ("unseen combined/accuracy", 1 / 5)),
    **dict.fromkeys(NAMES[6:], ("text_to_image_recall@5", 1)),  # of three images
}


ONE_OF_EACH_FORM = ("cola-single-clevr", "crepe-systematicity-cc12m", "negbench-coco-retrieval")


class Near(FeatureScoring):
    """Each text has an axis; the feature of an image is the sum of the axes of some texts.

    Args:
        texts: all texts.
        near: key of an image -> the texts that it is near to, with their weights.
    """

    def __init__(self, texts: Sequence[str], near: Mapping[str, Mapping[str, float]]) -> None:
        self.axis = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        self.near = near

    def image_features(self, images) -> Tensor:
        features = torch.zeros(len(images), len(self.axis) + 1)
        features[:, -1] = 1e-3  # so that an image that is near to nothing has a feature
        for row, image in zip(features, images, strict=True):
            for text, weight in self.near.get(image.key, {}).items():
                row[self.axis[text]] = weight
        return torch.nn.functional.normalize(features, dim=1)

    def text_features(self, texts) -> Tensor:
        return torch.eye(len(self.axis) + 1)[[self.axis[text] for text in texts]]


def load(name: str, root: Path, **dataset):
    WRITE[name](root)
    return datasets.load(small(name, **dataset), root)


def right_texts(data) -> tuple[list[str], dict[str, dict[str, float]]]:
    """All texts of some data, and the texts that belong to each image."""
    near: dict[str, dict[str, float]] = {image.key: {} for image in data.images}
    keys = list(near)
    if hasattr(data, "labels"):
        for i, c in zip(*np.nonzero(data.labels == 1), strict=True):
            near[keys[i]][data.class_names[c]] = 1
        return list(data.class_names), near
    if hasattr(data, "is_right"):
        pairs = data.pairs[data.is_right]
    else:
        pairs = np.stack([data.image_of_text, np.arange(len(data.texts))], axis=1)
    for i, j in pairs.tolist():
        near[keys[i]][data.texts[j]] = 1
    return list(data.texts), near


@pytest.mark.parametrize(
    "name", [name if name in ONE_OF_EACH_FORM else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_perfect_model_has_everything_and_a_constant_one_chance(tmp_path: Path, name: str):
    data = load(name, tmp_path)
    primary, chance = PRIMARY_AND_CHANCE[name]
    perfect = tasks.run(small(name), data, Near(*right_texts(data)))
    constant = tasks.run(small(name), data, Constant())
    assert perfect.primary == constant.primary == primary
    rates = {key: metric.value for key, metric in perfect.metrics.items() if "rank" not in key}
    assert set(rates.values()) == {1}
    assert constant.metrics[primary].value == pytest.approx(chance)


@pytest.mark.parametrize("name", NAMES[:3])
def test_cola_counts_difficult_images_only(tmp_path: Path, name: str):
    data = load(name, tmp_path)
    assert list(data.class_names) == [" ".join(words) for words in LABELS]
    expected = np.where(np.array(DIFFICULT) == 1, PRESENT, -1)
    assert data.labels.tolist() == expected.tolist()
    assert [image.key.rpartition("/")[2] for image in data.images] == [f"{i}.jpg" for i in range(4)]
    assert len({image.digest() for image in data.images}) == 4


def test_cola_is_read_from_the_list_of_labels_and_data_too(tmp_path: Path):
    from_map = load("cola-single-gqa", tmp_path)
    path = tmp_path / GQA
    path.write_text(json.dumps(list(json.loads(path.read_text()).values())))
    from_list = datasets.load(small("cola-single-gqa"), tmp_path)
    assert from_list.class_names == from_map.class_names
    assert from_list.labels.tolist() == from_map.labels.tolist()


@pytest.mark.parametrize("address", ["images/a #1?.jpg", "https://x.org/images/a%20b.jpg?size=1#top"])
def test_only_an_address_has_a_query_and_a_fragment(address: str):
    expected = "a%20b.jpg" if "://" in address else "a #1?.jpg"
    checker = DatasetChecker(small("cola-single-gqa"), Path())
    assert parts_of_address(address, "row 0", checker)[-2:] == ("images", expected)


def test_colas_average_precision_is_that_of_scikit_learn_on_difficult_images(tmp_path: Path):
    data = load("cola-single-gqa", tmp_path)
    first, second, _ = data.class_names
    # The second class is on image 1. Images 2 and 0 come before it; 2 is not difficult for it.
    near = {"0.jpg": {first: 1, second: 3}, "1.jpg": {first: 2, second: 1}, "2.jpg": {second: 5}, "3.jpg": {}}
    model = Near(data.class_names, near)
    metrics = tasks.run(small("cola-single-gqa"), data, model).metrics
    scores = (model.image_features(data.images) @ model.text_features(data.class_names).T).numpy()
    by_class = []
    for c in range(2):
        difficult = np.array(DIFFICULT)[:, c] == 1
        by_class.append(average_precision_score(np.array(PRESENT)[difficult, c], scores[difficult, c]))
        assert metrics[f"{data.class_names[c]}/average_precision"].value == pytest.approx(by_class[c])
    assert by_class[1] == pytest.approx(1 / 2)  # one of the first two
    assert metrics["mean_average_precision"].value == pytest.approx(np.mean(by_class))
    assert f"{data.class_names[2]}/average_precision" not in metrics


def test_crepe_asks_each_list_of_negatives_of_each_region(tmp_path: Path):
    data = load("crepe-systematicity-laion", tmp_path)
    assert [image.key for image in data.images] == [f"VG_100K{'_2' * j}/{2 * t + j + 1}.jpg[1,2,6,5]" for t, j in
                                                    ((0, 0), (0, 1), (1, 0), (1, 1))]  # fmt: skip
    kinds = ["atom", "comp", "combined", "comp", "combined"]
    assert data.subsets == [f"{compounds} {kind}" for compounds in ("seen", "unseen") for kind in kinds]
    assert np.bincount(data.item_of_pair).tolist() == [3, 4, 5, 5, 5] * 2
    assert data.images[0].load().size == (6, 5)
    assert any("2 lists of hard negatives are empty" in remark for remark in data.remarks)
    texts, near = right_texts(data)
    wrong = "a blue mall 3 1"  # of the first region of unseen compounds: combined is wrong in one of two items
    near["VG_100K/3.jpg[1,2,6,5]"][wrong] = 2
    metrics = tasks.run(small("crepe-systematicity-laion"), data, Near(texts, near)).metrics
    found = {key: metric.value for key, metric in metrics.items()}
    assert found == pytest.approx({
        "accuracy": 9 / 10, "macro_accuracy": 5.5 / 6, "unseen combined/accuracy": 1 / 2,
        **{f"{subset}/accuracy": 1 for subset in set(data.subsets) - {"unseen combined"}},
    })  # fmt: skip


def test_negbench_has_the_captions_of_each_image(tmp_path: Path):
    data = load("negbench-coco-negated-retrieval", tmp_path)
    assert [image.key for image in data.images] == [f"{i:012d}.jpg" for i in (1, 2, 3)]
    assert data.texts[2:4] == ["A dog 2. There's no cat.", 'It\'s "dog" 2, and no cat.']
    assert data.image_of_text.tolist() == [0, 0, 1, 1, 2, 2]
    texts, near = right_texts(data)
    near["000000000003.jpg"] = {texts[0]: 2, **near["000000000003.jpg"]}  # the first caption finds image 3 first
    metrics = tasks.run(small("negbench-coco-negated-retrieval"), data, Near(texts, near)).metrics
    assert metrics["text_to_image_recall@1"].value == pytest.approx(5 / 6)
    assert metrics["text_to_image_recall@5"].value == 1


GQA = "cola/COLA_singleobjects_benchmark_GQA.json"
CREPE = "crepe/syst_hard_negatives/syst_vg_hard_negs_unseen_compounds_in_cc12m.csv"
CREPE_HEAD = "image_id,caption,valid_hard_negs_atom,valid_hard_negs_comp,valid_hard_negs_combined,x,y,width,height\n"
NEGBENCH = "negbench/COCO_val_retrieval.csv"
ROW = ["0.jpg", {}, [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("cola-single-gqa", GQA, [], "finds no 'labels' (a list) in"),
        ("cola-single-gqa", GQA, {"labels": ["a"], "data": []}, "has an empty 'data' in"),
        ("cola-single-gqa", GQA, {"labels": [["a", 1]], "data": [ROW]}, "a label is a text, or a list of attributes"),
        ("cola-single-gqa", GQA, {"labels": ["a", "b"], "data": [ROW[:2]]}, "a row is an image, its objects"),
        ("cola-single-gqa", GQA, {"labels": ["a", "b", "c"], "data": [ROW]}, "finds no list of 3 labels, each 0 or 1"),
        ("cola-single-gqa", GQA, {"labels": ["a", "b"], "data": [[*ROW[:3], [1, 2]]]}, "list of 2 difficult labels"),
        ("cola-single-gqa", GQA, {"labels": ["a", "b"], "data": [["http://[", *ROW[1:]]]}, "an address or a path"),
        ("cola-single-gqa", GQA, {"labels": ["a", "b"], "data": [["../..", *ROW[1:]]]}, "outside its folder"),
        ("crepe-systematicity-cc12m", CREPE, None, "in_cc12m.csv, which is not there"),
        ("crepe-systematicity-cc12m", CREPE, CREPE_HEAD + "3,a,print(1),[],[],0,0,4,4\n", "must be a list of texts"),
        ("crepe-systematicity-cc12m", CREPE, CREPE_HEAD + "3,,\"['b']\",[],[],0,0,4,4\n", "has an empty text in"),
        ("crepe-systematicity-cc12m", CREPE, CREPE_HEAD + "3,a,\"['b']\",[],[],0,0,0,4\n", "a box without pixels"),
        ("negbench-coco-retrieval", NEGBENCH, "filepath,captions\na.jpg,[]\n", "finds no caption, or an empty one"),
        ("negbench-coco-retrieval", NEGBENCH, "filepath,captions\na.jpg,x\n", "must be a list of texts"),
        ("negbench-coco-retrieval", NEGBENCH, "filepath,captions\n,['a']\n", "an address or a path"),
        ("negbench-coco-retrieval", NEGBENCH, "filepath,captions\n/x/a.jpg,['a']\n", "missing: a.jpg"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, name: str, file: str, content, message: str):
    WRITE[name](tmp_path)
    replace_content(tmp_path / file, content)
    with pytest.raises(RequestError) as caught:
        datasets.load(small(name), tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_training_data_of_systematicity_have_names(tmp_path: Path):
    with pytest.raises(RequestError, match="known: cc12m, yfcc, laion"):
        load("crepe-systematicity-yfcc", tmp_path, training="wit")


def test_a_kind_each_runs_from_its_files_to_its_result(tmp_path: Path):
    names = ("cola-single-clevr", "crepe-systematicity-yfcc", "negbench-coco-retrieval")
    for name in names:
        WRITE[name](tmp_path)
    model = "cosmos:untrained-toybox?seed=3"
    results = evaluate(model, [small(name) for name in names], data_root=tmp_path, out=tmp_path / "out", batch_size=64)
    assert [result.primary for result in results] == [PRIMARY_AND_CHANCE[name][0] for name in names]
    assert [result.dataset.n["images"] for result in results] == [4, 4, 3]
