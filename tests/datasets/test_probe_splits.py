"""The train images of the shipped probes, in the layouts of torchvision and of clip-benchmark's shards."""

import io
import tarfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.toybox import class_scenes
from cosmos_eval.datasets.toybox.cifar_writer import write_cifar100
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark, load_suite
from tests.helpers.datasets_on_disk import write_image
from tests.helpers.torchvision_on_disk import class_folders, gtsrb


def of_few_images(name: str, **options: Any) -> Benchmark:
    """A shipped probe without the counts of its images."""
    benchmark = load_benchmark(name)
    dataset = {key: value for key, value in benchmark.dataset.items() if key != "expected"}
    splits = {
        split: {key: value for key, value in of_split.items() if key != "expected"}
        for split, of_split in dataset["splits"].items()
    }
    return replace(benchmark, dataset={**dataset, **options, "splits": splits})


def test_gtsrb_has_its_train_images_elsewhere(tmp_path):
    gtsrb(tmp_path / "gtsrb")
    definition = of_few_images("gtsrb-probe")
    with pytest.raises(RequestError, match=r"gtsrb-probe \(train\) needs .*gtsrb/GTSRB/Training"):
        datasets.load(definition, tmp_path)
    for label in range(43):
        write_image(tmp_path / f"gtsrb/gtsrb/GTSRB/Training/{label:05d}/{label:05d}_00000.ppm", seed=100 + label)
    data = datasets.load(definition, tmp_path)
    assert data.other_splits["train"].labels.tolist() == list(range(43))
    assert data.other_splits["train"].images[3].key == "train/gtsrb/GTSRB/Training/00003/00003_00000.ppm"
    assert data.test.templates == data.other_splits["train"].templates == []


def test_the_validation_folder_of_renderedsst2_is_called_valid(tmp_path):
    for folder in ("train", "valid", "test"):
        class_folders(tmp_path / "renderedsst2/rendered-sst2" / folder, ["negative", "positive"])
    data = datasets.load(of_few_images("renderedsst2-probe"), tmp_path)
    assert [len(split.images) for split in (data.test, *data.other_splits.values())] == [2, 2, 2]
    assert data.other_splits["val"].images[0].key == "val/rendered-sst2/valid/negative/negative_1.png"


def test_cifar_has_both_splits_in_one_folder(tmp_path):
    parts = {"train": class_scenes(1, "train", 1)[:12], "test": class_scenes(0, "test", 1)[:6]}
    write_cifar100(tmp_path / "cifar100", parts, lambda n: None)
    data = datasets.load(of_few_images("cifar100-probe", published=False, candidates_without_images="allow"), tmp_path)
    assert data.test.labels.tolist() == list(range(6))
    assert data.other_splits["train"].labels.tolist() == list(range(12))


def test_shards_of_train_lie_beside_those_of_test_and_files_of_templates_do_not_matter(tmp_path):
    folder = tmp_path / "wds/wds_vtab-svhn"
    for split, labels, start in (("train", [0, 1, 2, 0], 10), ("test", [2, 1, 0], 0)):
        (folder / split).mkdir(parents=True)
        (folder / split / "nshards.txt").write_text("1")
        with tarfile.open(folder / split / "0.tar", "w") as tar:
            for i, label in enumerate(labels):
                image = io.BytesIO()
                rng = np.random.default_rng(start + i)
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(image, "webp", lossless=True)
                for suffix, content in (("webp", image.getvalue()), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"s{i:07d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    (folder / "classnames.txt").write_text("0\n1\n2\n")
    definition = of_few_images("svhn-vtab-probe")
    data = datasets.load(definition, tmp_path)
    assert data.other_splits["train"].labels.tolist() == [0, 1, 2, 0]
    assert [image.key for image in data.images][2:4] == ["0/s0000002.webp", "train/0/s0000000.webp"]
    (folder / "zeroshot_classification_templates.txt").write_text("a {c}\n")
    assert datasets.load(definition, tmp_path).fingerprint == data.fingerprint


def test_every_probe_of_the_suite_is_its_classification_benchmark_with_train_images():
    for benchmark in load_suite("probe"):
        base = load_benchmark(benchmark.name.removesuffix("-probe"))
        assert benchmark.dataset["expected"] == base.dataset["expected"]
        assert benchmark.dataset["splits"]["train"]["split"] in ("train", "trainval")
        assert not benchmark.prompts
        assert not benchmark.published


def test_a_pickle_that_asks_for_something_outside_is_refused_in_one_line(tmp_path):
    parts = {"train": class_scenes(1, "train", 1)[:2], "test": class_scenes(0, "test", 1)[:2]}
    write_cifar100(tmp_path / "cifar100", parts, lambda n: None)
    (tmp_path / "cifar100/cifar-100-python/meta").write_bytes(b"Px\n.")  # a persistent id
    with pytest.raises(RequestError, match="unpack CIFAR's archive again") as caught:
        datasets.load(of_few_images("cifar100-probe", published=False), tmp_path)
    assert "\n" not in str(caught.value)
