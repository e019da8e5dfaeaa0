"""iNaturalist 2021: folders of species to classes, a perfect and a constant model, bad input, a run."""

from pathlib import Path

import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.datasets_on_disk import write_image
from tests.helpers.perception_on_disk import small
from tests.helpers.stand_ins import Constant, Given

SPECIES = (
    "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris",
    "00001_Animalia_Annelida_Polychaeta_Sabellida_Sabellidae_Sabella_spallanzanii",
    "00002_Plantae_Tracheophyta_Liliopsida_Poales_Poaceae_Poa_annua",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i, folder in enumerate(SPECIES):
        for k in range(2):
            write_image(tmp_path / f"inaturalist2021/val/{folder}/{i}{k}.jpg", seed=2 * i + k)
    return tmp_path


def test_classes_are_called_by_their_ranks(root: Path):
    data = datasets.load(small("inaturalist2021"), root)
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.class_names[2] == "Plantae Tracheophyta Liliopsida Poales Poaceae Poa annua"
    assert (len(data.templates), data.images[0].key) == (80, f"{SPECIES[0]}/00.jpg")


def test_a_perfect_and_a_constant_model(root: Path):
    data = datasets.load(small("inaturalist2021"), root)
    axes = torch.eye(3).tolist()
    texts = {t.replace("{c}", name): axes[i] for i, name in enumerate(data.class_names) for t in data.templates}
    images = {image.key: axes[label] for image, label in zip(data.images, data.labels, strict=True)}
    perfect = tasks.run(small("inaturalist2021"), data, Given(images, texts))
    assert {metric.value for metric in perfect.metrics.values()} == {1}
    constant = tasks.run(small("inaturalist2021"), data, Constant())
    assert constant.metrics["top1"].value == pytest.approx(1 / 3)
    images[data.images[2].key] = axes[0]
    wrong = tasks.run(small("inaturalist2021"), data, Given(images, texts))
    assert wrong.metrics["top1"].value == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("folder", "new", "message"),
    [
        (SPECIES[1], "Sabella", "needs folders such as 00000_Animalia"),
        (SPECIES[1], f"{SPECIES[1]}_viridis", "needs folders such as 00000_Animalia"),
        (SPECIES[1], SPECIES[1].replace("00001", "00007"), "finds no folder of class 00001 in"),
    ],
)
def test_other_folders_are_refused(root: Path, folder: str, new: str, message: str):
    (root / "inaturalist2021/val" / folder).rename(root / "inaturalist2021/val" / new)
    with pytest.raises(RequestError) as caught:
        datasets.load(small("inaturalist2021"), root)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_runs_from_its_files_to_its_result(root: Path):
    model = "cosmos:untrained-toybox?seed=3"
    (result,) = evaluate(model, [small("inaturalist2021")], data_root=root, out=root / "out", batch_size=64)
    assert (result.primary, result.dataset.n["images"]) == ("top1", 6)
