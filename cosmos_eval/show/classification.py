"""What a model confuses on a classification benchmark, as figures (`cosmos-eval show classification`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural, printable
from cosmos_eval import tasks
from cosmos_eval.datasets.data import ClassificationData, MultilabelData
from cosmos_eval.datasets.data.multilabel import PRESENT, UNDECIDED
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import CLASSIFICATION, MULTILABEL
from cosmos_eval.engine import Engine
from cosmos_eval.engine.scores import Scores
from cosmos_eval.models.preflight import require_models
from cosmos_eval.progress import Reporter
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.report.curves import save
from cosmos_eval.report.names import short
from cosmos_eval.results.portable import portable_spec
from cosmos_eval.run.options import RunOptions
from cosmos_eval.show.class_figures import (
    MOST_IN_MATRIX,
    Card,
    bars_figure,
    gallery_figure,
    matrix_figure,
    pairs_figure,
)
from cosmos_eval.show.class_predictions import Predictions, find_class, predict, wrong_images
from cosmos_eval.show.opening import CacheChoice, describe_cache, open_engine, read_data
from cosmos_eval.show.segmentation import choose
from cosmos_eval.tasks.class_table import distinguish_names
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.prompts import ClassPrompts, score_classes

IMAGES, MOST_IMAGES = 12, 200
"""Images of a gallery by default, and at most."""

Labelled = ClassificationData | MultilabelData


@dataclass(frozen=True)
class ShownClasses:
    """What was written."""

    summary: str
    """The primary metric with its interval."""
    images: int
    wrong: int
    """Images whose best true class does not score above all wrong ones; a tie at the top counts."""
    files: dict[str, Path]
    """What it shows -> its file."""
    remarks: tuple[str, ...]
    """Lines about what was left out, ties, and the feature cache."""


def show_classification(
    spec: str,
    benchmark: str | Path,
    out: Path,
    data_root: Path | None = None,
    *,
    class_name: str | None = None,
    keys: Sequence[str] = (),
    images: int = IMAGES,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
    cache: CacheChoice | None = None,
) -> ShownClasses:
    """Write a confusion matrix, a bar for each class, and a gallery of wrong images.

    `out` gets confusion.png (the matrix of at most MOST_IN_MATRIX classes, else the most confused pairs), classes.png,
    and wrong.png; with `class_name` also taken-for.png, images of other classes that are given this one; with `keys`
    images.png in place of the galleries. Multi-label benchmarks have no confusion matrix: an image has several true
    classes.

    Args:
        class_name: the galleries show images of this class, and images that are taken for it.
        keys: images to show, right or wrong.
        images: most images of a gallery.
        cache: the feature cache that is used; none by default.

    Raises:
        RequestError: no classification or multi-label benchmark, missing data, an unknown class or key, or a model that
            cannot be loaded.
    """
    if keys and class_name is not None:
        raise RequestError("--key names the images and --class selects them by class; give one of the two")
    require_models([spec], fetch=True)
    definition, data = read_data(benchmark, (CLASSIFICATION, MULTILABEL), data_root, reporter)
    assert isinstance(data, Labelled)
    names = list(data.class_names)
    chosen = choose([image.key for image in data.images], keys, 0, definition.name) if keys else []
    wanted = [] if class_name is None else _require_class(names, class_name, definition)
    cache = cache or CacheChoice(None)
    engine = open_engine(spec, options or RunOptions(), cache, reporter)
    engine.start_benchmark(definition.name)
    keeper = _ScoreKeeper(engine)
    outcome = tasks.run(definition, data, keeper)
    predictions = _predict(definition, data, keeper)
    title = f"{portable_spec(spec)} on {definition.name}"
    files: dict[str, Path] = {}
    remarks: list[str] = []
    names = distinguish_names(names)
    if isinstance(data, ClassificationData):
        files |= _draw_confusion(predictions, names, f"{title}, {_shown(outcome)}", out)
    assert outcome.classes is not None
    label = f"{outcome.classes.metric.replace('_', ' ').capitalize()} of each class"
    files[label] = out / "classes.png"
    save(bars_figure(outcome.classes, f"{title}, {_shown(outcome)}"), files[label])
    labels = _true_classes(data)
    for kind, (name, indices) in _galleries(predictions, labels, chosen, wanted, class_name, images).items():
        if not indices:
            remarks.append(f"{kind}: no such image")
            (out / name).unlink(missing_ok=True)  # of another call: it would show other images
            continue
        files[kind] = out / name
        cards = [_card(i, data, predictions, names, labels) for i in indices]
        save(gallery_figure(cards, f"{title}: {kind[0].lower()}{kind[1:]}"), files[kind])
    ties = int((predictions.tied > 1).sum())
    if ties:
        remarks.append(
            f"{plural(ties, 'image')} in which several classes tie for the highest score: each counts with an equal "
            "share"
        )
    remarks.append(describe_cache(cache, engine))
    return ShownClasses(
        summary=_shown(outcome),
        images=len(data.images),
        wrong=int((predictions.margin <= 0).sum()),
        files=files,
        remarks=tuple(filter(None, remarks)),
    )


def _require_class(names: Sequence[str], wanted: str, definition: Benchmark) -> list[int]:
    found = find_class(names, wanted)
    if not found:
        similar = get_close_matches(wanted, names, n=3) or list(names[:3])
        raise RequestError(
            f"{definition.name} has no class {printable(wanted)!r} among its {len(names):,}; similar names: "
            f"{', '.join(map(printable, similar))}"
        )
    return found


class _ScoreKeeper:
    """An engine that keeps the scores that a task asks for, so that images are neither read nor scored twice."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.scores: Scores | None = None
        self.images, self.texts = 0, list[str]()
        """Number of images and the texts of these scores."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def score(
        self,
        images: Sequence[ImageSource],
        texts: Sequence[str],
        rerank: int | None = None,
        language: str | None = None,
    ) -> Scores:
        self.images, self.texts = len(images), list(texts)
        self.scores = self._engine.score(images, texts, rerank, language)
        return self.scores


def _predict(definition: Benchmark, data: Labelled, keeper: _ScoreKeeper) -> Predictions:
    """The predictions of all images, from the scores of images and prompts that the task has used.

    Raises:
        RequestError: the task has used other images or prompts than those of the data.
    """
    prompts = ClassPrompts.from_templates(data.class_names, data.templates) if data.templates else None
    if prompts is None or (keeper.images, keeper.texts) != (len(data.images), prompts.texts):
        raise RequestError(
            f"{definition.name}: {definition.task} does not ask each image for the class names of the dataset; "
            "show classification needs a benchmark that does"
        )
    assert keeper.scores is not None
    of_classes, _ = score_classes(keeper.scores, prompts)
    if isinstance(data, ClassificationData):
        return predict(of_classes, np.asarray(data.labels, dtype=np.int64))
    return predict(of_classes, data.labels == PRESENT, data.labels == UNDECIDED)


def _true_classes(data: Labelled) -> list[set[int]]:
    """The true classes of each image."""
    if isinstance(data, ClassificationData):
        return [{int(label)} for label in data.labels]
    return [set(np.flatnonzero(row == PRESENT).tolist()) for row in data.labels]


def _draw_confusion(predictions: Predictions, names: Sequence[str], title: str, out: Path) -> dict[str, Path]:
    path = out / "confusion.png"
    if len(names) <= MOST_IN_MATRIX:
        save(matrix_figure(predictions.confusion, names, title), path)
        return {"Confusion matrix": path}
    save(pairs_figure(predictions.confusion, names, title), path)
    return {"Most confused pairs": path}


def _galleries(
    predictions: Predictions,
    labels: Sequence[set[int]],
    chosen: Sequence[int],
    wanted: Sequence[int],
    class_name: str | None,
    count: int,
) -> dict[str, tuple[str, list[int]]]:
    """What each gallery shows -> the name of its file, and its images."""
    if chosen:
        return {"Images": ("images.png", list(chosen))}
    every = np.arange(len(labels))
    if class_name is None:
        return {"Wrong images, by the largest margin": ("wrong.png", wrong_images(predictions, every, count))}
    is_of_class = np.array([bool(of_image & set(wanted)) for of_image in labels])
    is_taken = np.isin(predictions.top[:, 0], wanted) & ~is_of_class
    return {
        f"Wrong images of {class_name}": ("wrong.png", wrong_images(predictions, every[is_of_class], count)),
        f"Other images taken for {class_name}": ("taken-for.png", wrong_images(predictions, every[is_taken], count)),
    }


def _card(i: int, data: Labelled, predictions: Predictions, names: Sequence[str], labels: Sequence[set[int]]) -> Card:
    """The true classes of an image, and its top classes with their scores."""
    true = labels[i]
    lines: list[tuple[str, bool | None]] = []
    lines.append(("true: " + (", ".join(names[c] for c in sorted(true)) or "no class"), None))
    for c, score in zip(predictions.top[i].tolist(), predictions.top_scores[i].tolist(), strict=True):
        is_undecided = isinstance(data, MultilabelData) and data.labels[i, c] == UNDECIDED
        name = f"{names[c]} (undecided)" if is_undecided else names[c]
        lines.append((f"{score:.3f}  {name}", None if is_undecided else c in true))
    best = int(predictions.best_true[i])
    if best >= 0 and best not in predictions.top[i]:
        lines.append((f"{predictions.best_true_score[i]:.3f}  {names[best]}, rank {predictions.rank[i]:,}", True))
    if predictions.tied[i] > 1:
        lines.append((f"{predictions.tied[i]:,} classes tie for the highest score", None))
    return Card(data.images[i], data.images[i].key, tuple(lines), bool(predictions.margin[i] > 0))


def _shown(outcome: Outcome) -> str:
    metric = outcome.metrics[outcome.primary]
    value, low, high = (f"{100 * number:.1f}" for number in (metric.value, metric.low, metric.high))
    return f"{short(outcome.primary)} {value} % [{low}, {high}]"
