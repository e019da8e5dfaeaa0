"""Evaluates probes; protocol and tie rule are described in `cosmos_eval.tasks.probe`."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import ClassificationData, SplitData
from cosmos_eval.engine.task_engine import TaskEngine
from cosmos_eval.metrics.accuracy import ClassRankCounts, compute_class_rank_counts, expected_topk
from cosmos_eval.metrics.class_means import class_means
from cosmos_eval.metrics.least_squares import TIE_DECIMALS, draw_shots, fit_least_squares
from cosmos_eval.metrics.linear_scores import LinearClassifier, LinearScores
from cosmos_eval.metrics.logistic_regression import TOLERANCE, End, Fits, LogisticRegression
from cosmos_eval.metrics.nearest_neighbours import knn_accuracy
from cosmos_eval.metrics.seed_variance import estimate_seeded_proportion, seeded_mean_estimator
from cosmos_eval.metrics.strength_search import STRENGTHS, StrengthSearch, choose_strength
from cosmos_eval.profiling import phase
from cosmos_eval.progress import Silent
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.class_table import recall_table
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    require_equal_lengths,
    require_valid_index,
)
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.probe import DEFAULTS, FEW_SHOT, KNN, TOP_K

PRIMARY = "top1"
"""The primary metric if a definition names none."""
LARGE_TOLERANCE = 3e-6
"""Of the last fit of a large set. Its objective is then within 1e-4 of the least one, and predictions of 10,000 test
images are the same but for 43 (generated features, 12,500 x 256 of 250 classes)."""
VAL_SHARE = 5
"""One of so many train images of each class is for validation, where there is no split for it."""


@dataclass(frozen=True)
class Samples:
    """Images of one or several splits."""

    features: Tensor
    """(N, D) float32 of unit length."""
    labels: np.ndarray
    """(N,) int64 indices of the classes of the test split."""

    def select(self, index: np.ndarray) -> "Samples":
        """Return the samples of these indices, or where a mask (N,) is true."""
        chosen = np.flatnonzero(index) if index.dtype == bool else index
        return Samples(self.features[torch.from_numpy(chosen).to(self.features.device)], self.labels[chosen])


def validate(benchmark: Benchmark, data: SplitData) -> None:
    """Check that probes can be evaluated on this data.

    Raises:
        RequestError: a label out of range, splits that do not have the same classes in the same order, fewer than two
            classes with train images, or a primary metric that is not reported.
    """
    if not isinstance(data, SplitData) or "train" not in data.other_splits:
        raise RequestError(f"{benchmark.name}: a probe needs a split train; give SplitData(test, {{'train': ...}})")
    test = data.test
    assert isinstance(test, ClassificationData)
    for name, split in (("test", test), *data.other_splits.items()):
        assert isinstance(split, ClassificationData)
        require_equal_lengths(benchmark, images=len(split.images), labels=len(split.labels))
        require_valid_index(benchmark, split.labels, len(split.class_names), f"{name} image", "class")
        if list(split.class_names) != list(test.class_names):
            lacks = [
                f"{one} lacks {format_names(missing)}"
                for one, missing in (
                    (name, sorted(set(test.class_names) - set(split.class_names))),
                    ("test", sorted(set(split.class_names) - set(test.class_names))),
                )
                if missing
            ]
            raise RequestError(
                f"{benchmark.name}: the splits test and {name} have different classes: "
                f"{', and '.join(lacks) or 'in another order'}; give all splits the same classes in the same order, or "
                "write candidates_without_images: allow in dataset, if a class may be without images in a split"
            )
    labels = _train_labels(data)
    train_counts = np.bincount(data.other_splits["train"].labels)  # type: ignore[attr-defined]
    if (train_counts > 0).sum() < 2:
        raise RequestError(f"{benchmark.name}: a probe needs train images of two classes; add images, or raise --limit")
    val = data.other_splits.get("val")
    has_val = train_counts.max() > 1 if val is None else np.isin(val.labels, np.flatnonzero(train_counts)).any()  # type: ignore[attr-defined]
    if not has_val:
        raise RequestError(
            f"{benchmark.name}: no image is left to choose the strength of the linear probe on: give the split val "
            "images of the classes of train, or train two images of a class; or raise --limit"
        )
    primary_metric(benchmark, _reported(benchmark, len(test.class_names), labels), PRIMARY)


def run(benchmark: Benchmark, data: SplitData, engine: TaskEngine, seed: int = 0) -> Outcome:
    """Evaluate a model's image features by probes.

    `samples` has one row per test image:

    - `image`: its key
    - `label`: index of the true class
    - `prediction`, `correct`, `top5`, `margin`: of the linear probe, as in classification; a class without train images
      is never predicted
    - `few_shot_K`: share of the seeds whose few-shot classifier is right; `knn_K`: whether the K neighbours are
    - `in_train`: whether an image of equal content is in train or val.

    Args:
        seed: seed of the bootstrap resampling. Nothing else is random but the images of few-shot, whose seeds are those
            of the protocol.
    """
    test, train, val = _encode(data, engine)
    everything = train if val is None else join(train, val)
    class_count = len(data.test.class_names)  # type: ignore[attr-defined]
    labels = torch.from_numpy(test.labels)
    reporter = getattr(engine, "reporter", None) or Silent()
    with phase("linear probe"):
        search, classifier, known = fit_linear(train, val, everything, reporter)
        linear = rank(test, classifier, known, class_count)

    image = np.arange(len(test.labels))
    measured = Measured(len(image))
    correct = expected_topk(linear, 1).numpy()
    columns = {"label": test.labels, "prediction": linear.prediction.numpy(), "correct": correct}
    measured.mean("top1", correct, image)
    if class_count >= TOP_K:
        columns["top5"] = expected_topk(linear, TOP_K).numpy()
        measured.mean("top5", columns["top5"], image)
    measured.mean_per_class("mean_per_class", correct, test.labels, image)
    columns["margin"] = linear.margin.numpy()

    options = {**DEFAULTS, **benchmark.metrics}
    warnings = [_describe_search(search, train, val)]
    with phase("few-shot"):
        for shots in _possible_shots(options["shots"], everything.labels):
            name = f"{FEW_SHOT}{shots}"
            hits = _few_shot(test, everything, class_count, shots, options["seeds"])  # (S, N)
            columns[name] = hits.mean(0)
            proportion = estimate_seeded_proportion(hits)
            measured.share(name, proportion.value, len(image), seeded_mean_estimator(hits, seed), proportion)
            counts = np.bincount(everything.labels)
            few = int(((counts < shots) & (counts > 0)).sum())
            if few:
                verb = "has" if few == 1 else "have"
                warnings.append(
                    f"{name}: {plural(few, 'class', 'classes')} {verb} fewer than {shots} train images, and "
                    f"{'gives' if few == 1 else 'give'} all of them"
                )
    with phase("neighbours"):
        neighbours = [k for k in options["neighbours"] if k <= len(everything.labels)]
        if neighbours:
            train_labels = torch.from_numpy(everything.labels)
            votes = knn_accuracy(test.features, labels, everything.features, train_labels, class_count, neighbours)
            for k, hits_of_k in votes.items():
                columns[f"{KNN}{k}"] = hits_of_k.numpy()
                measured.mean(f"{KNN}{k}", columns[f"{KNN}{k}"], image)
    warnings += _describe_unreported(options, everything.labels)
    untrained = sorted(set(test.labels.tolist()) - set(everything.labels.tolist()))
    if untrained:
        names = format_names(data.test.class_names[label] for label in untrained)  # type: ignore[attr-defined]
        warnings.append(f"{plural(len(untrained), 'test class', 'test classes')} without a train image: {names}")
    columns["in_train"] = np.any([data.leaks(name) for name in data.other_splits], axis=0)

    metrics = measured.metrics(seed)
    with phase("intervals"):
        recalls = class_means(correct, test.labels, class_count, seed)
    keys = [source.key for source in data.test.images]
    return Outcome(
        metrics=metrics,
        samples=pd.DataFrame({"image": keys, **columns}),
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=(*warnings, *collapse_warnings({"images": torch.cat([test.features, everything.features])})),
        classes=recall_table(data.test.class_names, recalls, ()),  # type: ignore[attr-defined]
    )


def _encode(data: SplitData, engine: TaskEngine) -> tuple[Samples, Samples, Samples | None]:
    """Return the samples of test, train and, if there is one, val; all are encoded in one go, equal images once."""
    splits = {"test": data.test, **data.other_splits}
    features = engine.image_features(list(data.images))
    if features.ndim != 2:
        raise RequestError(
            f"the model has {features.shape[1]:,} vectors for each image, and a probe needs one: give a model or an "
            "option that pools them"
        )
    parts = features.split([len(split.images) for split in splits.values()])
    samples = {
        name: Samples(part, np.asarray(split.labels, np.int64))  # type: ignore[attr-defined]
        for (name, split), part in zip(splits.items(), parts, strict=True)
    }
    return samples["test"], samples["train"], samples.get("val")


def join(first: Samples, second: Samples) -> Samples:
    """Return the samples of both."""
    return Samples(torch.cat([first.features, second.features]), np.concatenate([first.labels, second.labels]))


def fit_linear(
    train: Samples, val: Samples | None, everything: Samples, reporter: "Silent"
) -> tuple[StrengthSearch, LinearClassifier, Tensor]:
    """Choose the strength, and fit train and validation images with it.

    Returns:
        The search, the final classifier, and (P,) int64 the classes that it knows.
    """
    if val is None:
        is_val = _validation_part(train.labels)
        train, val = train.select(~is_val), train.select(is_val)
    known = np.unique(train.labels)
    regression = _regression(train, known)
    val = val.select(np.isin(val.labels, known))
    val_labels = torch.from_numpy(np.searchsorted(known, val.labels))
    search = choose_strength(regression, val.features, val_labels, reporter)
    known_at_last = np.unique(everything.labels)
    start = (regression, search.end) if len(known_at_last) == len(known) else None
    return search, fit_last(everything, search.strength, start).classifier(), torch.from_numpy(known_at_last)


def fit_last(everything: Samples, strength: float, start: tuple[LogisticRegression, End] | None = None) -> Fits:
    """Fit train and validation images together, from the start on or where a fit of the same classes ended."""
    known = np.unique(everything.labels)
    like, end = start or (None, None)
    regression = _regression(everything, known, like)
    return regression.fit([strength], end, LARGE_TOLERANCE if regression.is_large else TOLERANCE)


def _regression(samples: Samples, known: np.ndarray, like: LogisticRegression | None = None) -> LogisticRegression:
    """Prepare the regression on samples; labels become positions in (P,) `known`, the classes that occur."""
    labels = torch.from_numpy(np.searchsorted(known, samples.labels))
    return LogisticRegression(samples.features, labels, len(known), torch.float32, like)


def _validation_part(labels: np.ndarray) -> np.ndarray:
    """Return (N,) whether a train image is for validation: every fifth of each class in the order of a fixed shuffle.

    A class with a single image is in neither part but train's, so the search knows all classes that have two.
    """
    is_val = np.zeros(len(labels), dtype=bool)
    rng = np.random.default_rng(0)
    for label in range(int(labels.max()) + 1):
        shuffled = rng.permutation(np.flatnonzero(labels == label))
        is_val[shuffled[1::VAL_SHARE]] = True
    return is_val


def rank(test: Samples, classifier: LinearClassifier, known: Tensor, classes: int) -> ClassRankCounts:
    """Compare the scores of all classes with that of the true one, for each test image."""
    scores = LinearScores(test.features, classifier, known, classes)
    return compute_class_rank_counts(scores, torch.from_numpy(test.labels), classes)


def _few_shot(test: Samples, train: Samples, classes: int, shots: int, seeds: int) -> np.ndarray:
    """Return (S, N) the probability that a few-shot classifier of each seed is right on each test image."""
    device = "cpu" if test.features.device.type == "mps" else test.features.device  # MPS has no float64
    hits = []
    known = np.unique(train.labels)
    for seed in range(seeds):
        drawn = train.select(draw_shots(train.labels, classes, shots, seed))
        labels = torch.from_numpy(np.searchsorted(known, drawn.labels))
        classifier = fit_least_squares(drawn.features.to(device), labels.to(device), len(known))
        scores = LinearScores(test.features.to(device), classifier, torch.from_numpy(known), classes, TIE_DECIMALS)
        counts = compute_class_rank_counts(scores, torch.from_numpy(test.labels), classes)
        hits.append(expected_topk(counts, 1).numpy())
    return np.stack(hits)


def _possible_shots(shots: list[int], labels: np.ndarray) -> list[int]:
    """Return those numbers of shots that a class has."""
    most = int(np.bincount(labels).max())
    return [count for count in shots if count <= most]


def _reported(benchmark: Benchmark, classes: int, labels: np.ndarray) -> list[str]:
    """The metrics that are reported for this number of classes and these labels of train and validation images."""
    options = {**DEFAULTS, **benchmark.metrics}
    few_shot = [f"{FEW_SHOT}{shots}" for shots in _possible_shots(options["shots"], labels)]
    knn = [f"{KNN}{k}" for k in options["neighbours"] if k <= len(labels)]
    return ["top1", *(["top5"] if classes >= TOP_K else []), "mean_per_class", *few_shot, *knn]


def _train_labels(data: SplitData) -> np.ndarray:
    """Labels of the images of train and val."""
    return np.concatenate([np.asarray(split.labels, np.int64) for split in data.other_splits.values()])  # type: ignore[attr-defined]


def _describe_unreported(options: dict, labels: np.ndarray) -> list[str]:
    """Say which numbers of shots and neighbours of the definition are not reported, and why."""
    most = int(np.bincount(labels).max())
    lines = []
    for beginning, counts, limit, reason in (
        (FEW_SHOT, options["shots"], most, f"no class has more than {plural(most, 'train image')}"),
        (KNN, options["neighbours"], len(labels), f"there are only {plural(len(labels), 'train image')}"),
    ):
        names = [f"{beginning}{count}" for count in counts if count > limit]
        if names:
            lines.append(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not measured: {reason}")
    return lines


def _describe_search(search: StrengthSearch, train: Samples, val: Samples | None) -> str:
    part = "the split val" if val is not None else f"every {VAL_SHARE}th train image of each class"
    end = ", the last of the range" if search.strength in (STRENGTHS[0], STRENGTHS[-1]) else ""
    return (
        f"linear probe: L2 strength {search.strength:.3g}{end} (scikit-learn's C = {1 / search.strength:.3g}), the "
        f"best of {len(search.accuracies)} on {part}, with top-1 {100 * search.accuracies[search.strength]:.1f} there"
    )
