"""Files in their authors' layouts: composition, associations, languages, long captions, splits, groups and lists."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cosmos_eval import datasets
from cosmos_eval.datasets.toybox import class_scenes
from cosmos_eval.datasets.toybox.cifar_writer import write_cifar100
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark
from tests.datasets.test_datasets_webdataset import make_image, write_tar
from tests.datasets.test_probe_splits import of_few_images
from tests.datasets.test_webdataset_groups import definition, npy
from tests.fuzz.running import Target
from tests.helpers import composition_on_disk, composition_sets_on_disk, text_sets_on_disk
from tests.helpers.associations_on_disk import cub, winogavil
from tests.helpers.datasets_on_disk import define, write_image, write_json
from tests.helpers.perception_on_disk import small

ENDINGS = (".json", ".jsonl", ".jsonlines", ".csv", ".txt", ".parquet", ".tar")
QUICK = 2
"""Files in CI: the readers share most of their code."""
COMPOSITION = (
    "sugarcrepe-pp", "bivlc-subtypes", "cola-multi", "colorswap", "valse", "crepe-productivity", "whatsup-a",
    "whatsup-coco-two", "vsr-random", "negbench-coco", "negbench-chexpert", "countbench", "winoground-tags",
)  # fmt: skip
"""One of each reader."""
OTHER_COMPOSITION = (
    "cola-single-gqa", "cola-single-clevr", "crepe-systematicity-laion", "negbench-coco-retrieval",
)  # fmt: skip
CAPTIONS = ("docci", "docci-fg", "iiw", "urban1k", "dci", "flickr30k-cn-test-retrieval")
LANGUAGES = {"xtd10": ("en", "jp"), "xm3600": ("en", "de"), "flickr30k-200": ("eng_Latn", "deu_Latn")}


def _of(name: str, write: Callable[[Path], Any], benchmark: Callable[[Path], Benchmark]) -> Target:
    """A target that mutates the files of annotations and reads the dataset."""

    def make(folder: Path) -> Sequence[Path]:
        write(folder)
        return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in (*ENDINGS, ""))

    def load(folder: Path) -> Any:
        data: Any = datasets.load(benchmark(folder), folder)
        return data.fingerprint

    return Target(name, make, load, quick=QUICK)


def _shipped(name: str, write: Callable[[Path], Any], **dataset: Any) -> Target:
    return _of(name, write, lambda _: small(name, **dataset))


def _languages(name: str, languages: tuple[str, ...]) -> Target:
    write = text_sets_on_disk.MULTILINGUAL[name]
    return _shipped(name, lambda folder: write(folder, list(languages)), languages=list(languages))


def _objectnet(folder: Path) -> None:
    classes = {"basket": "Basket", "mug": "Mug", "broom": "Broom"}
    for seed, name in enumerate(classes):
        write_image(folder / "objectnet-1.0/images" / name / "a.png", seed=seed)
    write_json(folder / "objectnet-1.0/mappings/folder_to_objectnet_label.json", classes)
    imagenet = {"Mug": "coffee mug", "Basket": "hamper; shopping basket"}
    write_json(folder / "objectnet-1.0/mappings/objectnet_to_imagenet_1k.json", imagenet)


def _define_objectnet(folder: Path) -> Benchmark:
    return define(folder, "classification", {"reader": "objectnet", "path": "objectnet-1.0"}, {"templates": ["a {c}"]})


def _groups(folder: Path) -> None:
    """Shards of train and test with a class and a row of metadata for each image."""
    for split, count in (("train", 4), ("test", 3)):
        members = []
        for i in range(count):
            row = [i % 2, 14, i % 3, 0]
            members += [(f"s{i}.cls", str(i % 3).encode()), (f"s{i}.npy", npy(row)), (f"s{i}.png", make_image(i))]
        write_tar(folder / f"wds_groups/{split}/0.tar", members)
        (folder / f"wds_groups/{split}/nshards.txt").write_text("1")
    (folder / "wds_groups/classnames.txt").write_text("red\ngreen\nblue\n")
    (folder / "wds_groups/zeroshot_classification_templates.txt").write_text("a {c} thing\n")


def _define_groups(folder: Path) -> Benchmark:
    return load_benchmark(definition(folder, metadata="[region, year, y]", groups="[region, year]"))


def _define_splits(folder: Path) -> Benchmark:
    path = folder / "splits.yaml"
    path.write_text(
        "name: splits\nversion: 1\ntask: probe\ndataset:\n  reader: wds\n  path: wds_groups\n  split: test\n"
        "  splits: {train: {split: train}}\nmetrics: {primary: top1}\n"
    )
    return load_benchmark(path)


def _cifar(folder: Path) -> None:
    parts = {"train": class_scenes(1, "train", 1)[:4], "test": class_scenes(0, "test", 1)[:3]}
    write_cifar100(folder / "cifar100", parts, lambda n: None)


def _define_cifar(folder: Path) -> Benchmark:
    return of_few_images("cifar100-probe", published=False, candidates_without_images="allow")


TARGETS = [
    *(_shipped(name, composition_on_disk.WRITE[name]) for name in COMPOSITION),
    *(_shipped(name, composition_sets_on_disk.WRITE[name]) for name in OTHER_COMPOSITION),
    _shipped("winogavil", winogavil),
    _shipped("cub200", cub),
    *(_shipped(name, text_sets_on_disk.WRITERS[name]) for name in CAPTIONS),
    _shipped("sharegpt4v-1k", text_sets_on_disk.write_sharegpt4v, first=text_sets_on_disk.COUNT),
    *(_languages(name, languages) for name, languages in LANGUAGES.items()),
    _of("objectnet", _objectnet, _define_objectnet),
    _of("group-shards", _groups, _define_groups),
    _of("split-shards", _groups, _define_splits),
    _of("cifar-splits", _cifar, _define_cifar),
]
