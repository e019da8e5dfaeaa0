"""Data in several splits: the one that is evaluated, and others that a task learns from or chooses by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from cosmos_eval.datasets.base import ImageSource, Mask
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.data.base import Data
from cosmos_eval.datasets.digests import ContentHash
from cosmos_eval.datasets.kinds import DataKind


@dataclass(frozen=True)
class SplitData(Data):
    """What a task with `TaskInfo.splits` gets: all splits are of one kind, and each was checked by itself."""

    hashed_as = "SplitData"

    test: Data
    """The split that is evaluated."""
    others: Mapping[str, Data] = field(default_factory=dict)
    """Name -> a further split, such as train or val."""
    fingerprint: str = ""
    remarks: Sequence[str] = ()

    @property
    def kind(self) -> DataKind:  # type: ignore[override]
        return self.test.kind

    @property
    def images(self) -> Sequence[ImageSource]:  # type: ignore[override]
        """The images of all splits, those that are evaluated first."""
        return [image for data in self._all().values() for image in data.images]

    @property
    def evaluated(self) -> Data:
        return self.test

    @property
    def left_out(self) -> Sequence[str]:  # type: ignore[override]
        return [line for data in self._all().values() for line in data.left_out]

    def counts(self) -> dict[str, int]:
        others = {f"{name}_{what}": n for name, data in self.others.items() for what, n in data.counts().items()}
        return {**self.test.counts(), **others}

    def hash_into(self, content: ContentHash) -> None:
        for name, data in self._all().items():
            content.strings("split", [name, str(len(data.images))])
            data.hash_into(content)

    def content_observations(self) -> list[str]:
        """Images that are evaluated and stand in another split, too: a task that learns from them knows the answer."""
        told = [line for data in self._all().values() for line in data.content_observations()]
        digests = {image.digest(): image.key for image in self.test.images}
        for name, data in self.others.items():
            shared = [image.key for image in data.images if image.digest() in digests]
            if shared:
                count = "1 image" if len(shared) == 1 else f"{len(shared):,} images"
                verb = "is" if len(shared) == 1 else "are"
                told.append(f"{count} of the split {name} {verb} evaluated, too: {first(shared)}")
        return told

    def subset(self, n: int) -> Self:
        """`n` images of each split."""
        parts = {name: data.subset(n) if n < len(data.images) else data for name, data in self._all().items()}
        test = parts.pop("test")
        return self.replaced(test=test, others=parts, fingerprint="")

    def decodable(self) -> list[ImageSource | Mask]:
        return [file for data in self._all().values() for file in data.decodable()]

    def upright(self) -> Self:
        others = {name: data.upright() for name, data in self.others.items()}
        return self.replaced(test=self.test.upright(), others=others)

    def _all(self) -> dict[str, Data]:
        return {"test": self.test, **self.others}


def in_splits(read: Any, benchmark: Any) -> Data:
    """The data of a benchmark by `read(benchmark) -> Data`, in splits where its definition has some.

    `dataset.splits` maps the name of a split to the options that replace those of `dataset` there.

    Raises:
        RequestError: what `read` raises; the line names the split.
    """
    options = {key: value for key, value in benchmark.dataset.items() if key != "splits"}
    splits = benchmark.dataset.get("splits")
    if not splits:
        data: Data = read(benchmark)
        return data
    test = read(replace(benchmark, dataset=options))
    others = {}
    for name, own in splits.items():
        kept = {key: value for key, value in options.items() if key != "expected"}
        others[name] = read(replace(benchmark, name=f"{benchmark.name} ({name})", dataset={**kept, **own}))
    remarks = [*test.remarks, *(f"{name}: {line}" for name, data in others.items() for line in data.remarks)]
    return SplitData(test, others, remarks=remarks)
