"""A task with data of its own kind: pairs of images, do both show the same class? With the reader of such data."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cosmos_core.errors import RequestError
from cosmos_eval import DataKind, TaskInfo
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_sources import FileImage, ImageSource
from cosmos_eval.datasets.reader import PATH
from cosmos_eval.metrics.paired_samples import Hits, number_labels, require_column
from cosmos_eval.tasks.common import Measured, primary_metric
from cosmos_eval.tasks.outcome import Outcome


@dataclass(frozen=True)
class PairData(Data):
    """Pairs of images: `pairs[i]` are two indices of images, `same[i]` says whether both show the same class."""

    kind = DataKind("image-pairs", "image_text_extras.same_class:PairData", ("images", "pairs"))
    hashed_as = "image-text-extras pairs"

    images: Sequence[ImageSource]
    pairs: np.ndarray  # (P, 2) int64
    same: np.ndarray  # (P,) bool
    fingerprint: str = ""
    remarks: Sequence[str] = ()

    def counts(self) -> dict[str, int]:
        return {"images": len(self.images), "pairs": len(self.pairs)}

    def hash_into(self, content: Any) -> None:
        content.integers("pairs", self.pairs.reshape(-1))
        content.integers("same", self.same.astype(np.int64))

    def problems(self) -> list[str]:
        itself = int((self.pairs[:, 0] == self.pairs[:, 1]).sum())
        return [f"has {itself:,} pairs of an image with itself"] if itself else []

    def observations(self) -> list[str]:
        return [] if len(set(self.same.tolist())) > 1 else ["all pairs have the same answer"]

    def subset(self, n: int) -> "PairData":
        kept = (self.pairs < n).all(1)
        if not kept.any():
            raise RequestError(f"a limit of {n} images leaves no pair; give more")
        return self.replaced(images=self.images[:n], pairs=self.pairs[kept], same=self.same[kept], fingerprint="")


class ImagePairs:
    """Pairs of images in a CSV file with the columns first, second and same (0 or 1)."""

    kinds = (PairData,)
    required: ClassVar = {"path": PATH, "images": PATH}

    def check(self, benchmark: Any, data_root: Path) -> list[str]:
        path = benchmark.dataset["path"]
        return [] if str(path).endswith(".csv") else [f"needs a .csv file, not {path}"]

    def load(self, benchmark: Any, data_root: Path) -> PairData:
        checker = DatasetChecker(benchmark, data_root)
        path, folder = checker.require(checker.find_path("path", "file"), checker.find_path("images", "folder"))
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        names = sorted({row[side] for row in rows for side in ("first", "second")})
        checker.check_images(folder, names)
        checker.raise_if_problems()
        place = {name: i for i, name in enumerate(names)}
        return checker.finish(
            PairData(
                [FileImage(name, folder / name) for name in names],
                np.array([[place[row["first"]], place[row["second"]]] for row in rows], dtype=np.int64),
                np.array([row["same"] == "1" for row in rows]),
            )
        )


def check_metrics(metrics: Mapping[str, Any], refuse: Any) -> None:
    if not -1 <= metrics["threshold"] <= 1:
        raise refuse(("threshold",), f"threshold is a cosine from -1 to 1, not {metrics['threshold']}")


def validate(benchmark: Any, data: PairData) -> None:
    if not len(data.pairs):
        raise RequestError(f"{benchmark.name}: there are no pairs; add some to the file")


def run(benchmark: Any, data: PairData, engine: Any, seed: int) -> Outcome:
    features = engine.image_features(data.images).flatten(1).cpu()
    features = features / features.norm(dim=1, keepdim=True)
    cosine = (features[data.pairs[:, 0]] * features[data.pairs[:, 1]]).sum(1).numpy()
    correct = ((cosine >= benchmark.metrics["threshold"]) == data.same).astype(np.float64)
    measured = Measured(len(data.images))
    measured.mean("verification_accuracy", correct, data.pairs[:, 0])
    for name, rows in (("same", data.same), ("different", ~data.same)):
        if rows.any():
            measured.mean(f"{name}/verification_accuracy", correct[rows], data.pairs[rows, 0])
    metrics = measured.metrics(seed)
    keys = np.array([image.key for image in data.images], dtype=object)
    samples = pd.DataFrame(
        {"first": keys[data.pairs[:, 0]], "second": keys[data.pairs[:, 1]], "cosine": cosine, "correct": correct}
    )
    return Outcome(metrics, samples, primary_metric(benchmark, metrics, "verification_accuracy"))


def paired(metric: str, results: Any, frames: Any) -> Hits:
    require_column("correct", *frames)
    baseline, candidate = (frame["correct"].to_numpy() for frame in frames)
    return Hits(baseline, candidate, number_labels(frames[0]["first"].to_numpy()))


INFO = TaskInfo(
    name="same-class",
    data=PairData,
    run=run,
    validate=validate,
    metric_names=lambda metrics: ["verification_accuracy", "*/verification_accuracy"],
    summary="two images of one class lie nearer than the threshold",
    default_metrics={"threshold": 0.5},
    metric_options={"threshold": float},
    check_metrics=check_metrics,
    sample_keys=("first", "second"),
    paired=paired,
    unpaired=lambda metric: "/" in metric,
)
