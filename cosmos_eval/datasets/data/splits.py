"""Data in several splits: one that is evaluated, and others from which a task learns or chooses settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from PIL import Image

from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data.base import Data
from cosmos_eval.datasets.data.classification import ClassificationData
from cosmos_eval.datasets.fingerprint import ContentHash
from cosmos_eval.datasets.image_facts import ImageFacts
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import DataKind
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.datasets.split_options import options_of_split


@dataclass(frozen=True, repr=False)
class SplitData(Data):
    """The data of a task with `TaskInfo.splits`. All splits have the same kind, and each was checked on its own."""

    hashed_as = "SplitData"

    test: Data
    """The split that is evaluated."""
    other_splits: Mapping[str, Data] = field(default_factory=dict)
    """Name of a further split, such as train or val -> its data."""
    fingerprint: str = ""
    remarks: Sequence[str] = ()
    name: str = ""

    @property
    def kind(self) -> DataKind:  # type: ignore[override]
        return self.test.kind

    @property
    def images(self) -> Sequence[ImageSource]:  # type: ignore[override]
        """The images of all splits; those of the evaluated split come first."""
        return [image for data in self._splits().values() for image in data.images]

    @property
    def evaluated(self) -> Data:
        return self.test

    @property
    def left_out(self) -> Sequence[str]:  # type: ignore[override]
        return [line for data in self._splits().values() for line in data.left_out]

    def counts(self) -> dict[str, int]:
        counts = dict(self.test.counts())
        for name, data in self.other_splits.items():
            counts |= {f"{name}_{counted}": n for counted, n in data.counts().items()}
        return counts

    def hash_into(self, content: ContentHash) -> None:
        for name, data in self._splits().items():
            content.strings("split", [name, str(len(data.images))])
            data.hash_into(content)

    def content_observations(self) -> list[str]:
        """Return the splits' remarks, and one for evaluated images that another split contains: they leak answers."""
        remarks = [line for data in self._splits().values() for line in data.content_observations()]
        for name in self.other_splits:
            leaked = [image.key for image, leaks in zip(self.test.images, self.leaks(name), strict=True) if leaks]
            if leaked:
                verb = "is" if len(leaked) == 1 else "are"
                remarks.append(
                    f"{len(leaked):,} of {plural(len(self.test.images), 'evaluated image')} {verb} in the split "
                    f"{name}, too: {format_names(leaked)}"
                )
        return remarks

    def leaks(self, split: str) -> list[bool]:
        """Return for each evaluated image whether an image of another split has equal content."""
        digests = {image.digest() for image in self.other_splits[split].images}
        return [image.digest() in digests for image in self.test.images]

    def subset(self, n: int) -> Self:
        """Return the data of `n` images of each split."""
        splits = {name: data.subset(n) if n < len(data.images) else data for name, data in self._splits().items()}
        test = splits.pop("test")
        return self.replaced(test=test, other_splits=splits, fingerprint="")

    def decodable(self) -> list[ImageSource | Mask]:
        return [file for data in self._splits().values() for file in data.decodable()]

    def upright(self) -> Self:
        other_splits = {name: data.upright() for name, data in self.other_splits.items()}
        return self.replaced(test=self.test.upright(), other_splits=other_splits)

    def normalised(self) -> Self:
        other_splits = {name: data.normalised() for name, data in self.other_splits.items()}
        return self.replaced(test=self.test.normalised(), other_splits=other_splits, fingerprint="")

    def without_prompts(self) -> Self:
        other_splits = {name: data.without_prompts() for name, data in self.other_splits.items()}
        return self.replaced(test=self.test.without_prompts(), other_splits=other_splits)

    def default_prompts(self) -> dict[str, Any]:
        return self.test.default_prompts()

    def _splits(self) -> dict[str, Data]:
        return {"test": self.test, **self.other_splits}


@dataclass(frozen=True)
class SplitImage(ImageSource):
    """An image of a further split, whose key begins with the name of the split: splits number their images alike."""

    image: ImageSource
    split: str

    @property
    def key(self) -> str:  # type: ignore[override]
        return f"{self.split}/{self.image.key}"

    @property
    def parent_key(self) -> str:
        return f"{self.split}/{self.image.parent_key}"

    @property
    def facts(self) -> ImageFacts:
        return self.image.facts

    def content(self) -> bytes:
        return self.image.content()

    def digest(self) -> str:
        return self.image.digest()

    def undigested(self) -> Self:
        return replace(self, image=self.image.undigested())

    def load(self) -> Image.Image:
        return self.image.load()


def read_splits(read: Any, benchmark: Any) -> Data:
    """Return the data of a benchmark: a `SplitData` if its definition has `dataset.splits`, else what `read` returns.

    Args:
        read: function (benchmark) -> Data. It is called once for each split.
        benchmark: its `dataset.splits` maps the name of a split to options, which replace those of `dataset` there.

    Raises:
        RequestError: what `read` raises; for a further split, the message names it.
    """
    options = {key: value for key, value in benchmark.dataset.items() if key != "splits"}
    splits = benchmark.dataset.get("splits")
    if not splits:
        data: Data = read(benchmark)
        return data
    test = read(replace(benchmark, dataset=options))
    other_splits = {}
    for name in splits:
        split_name, split_options = f"{benchmark.name} ({name})", options_of_split(benchmark.dataset, name)
        data = read(replace(benchmark, name=split_name, dataset=split_options))
        other_splits[name] = data.replaced(images=[SplitImage(image, name) for image in data.images])
    remarks = [*test.remarks, *(f"{name}: {line}" for name, data in other_splits.items() for line in data.remarks)]
    if not benchmark.prompts:  # whose order is that of the classes
        shared, missing = _share_classes({"test": test, **other_splits})
        test, other_splits, remarks = shared.pop("test"), shared, [*remarks, *missing]
    data = SplitData(test, other_splits, remarks=remarks)
    # A task without prompts must not depend on those that a dataset brings, such as a file that need not be there.
    return data if benchmark.prompts else data.without_prompts()


def _share_classes(splits: Mapping[str, Data]) -> tuple[dict[str, Data], list[str]]:
    """Give all splits the classes of each of them, if classes may be without an image; else return them as they are.

    Readers that find the classes in the labels (`jsonl`, `parquet`) do not know those of the other splits.

    Returns:
        The splits, whose classes are those of the evaluated one and then the others, and a remark for each split that
        lacks some.
    """
    data = [split for split in splits.values() if isinstance(split, ClassificationData) and split.empty_classes_allowed]
    names = list(dict.fromkeys(name for split in data for name in split.class_names))
    if len(data) < len(splits) or all(list(split.class_names) == names for split in data):
        return dict(splits), []
    remarks = []
    for name, split in zip(splits, data, strict=True):
        own = set(split.class_names)
        if lacks := [class_name for class_name in names if class_name not in own]:
            remarks.append(f"no image of the split {name} has the class {format_names(lacks)}")
    return {name: split.with_classes(names) for name, split in zip(splits, data, strict=True)}, remarks
