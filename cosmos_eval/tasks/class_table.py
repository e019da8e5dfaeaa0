"""The classes of a benchmark with the metric of each, and the prompts that stand for them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosmos_eval.datasets.data.class_prompts import Templates, select_shared_templates
from cosmos_eval.tasks.outcome import Metric

if TYPE_CHECKING:
    import pandas

    from cosmos_eval.metrics.class_means import ClassMeans


@dataclass(frozen=True)
class ClassEntry:
    """One class."""

    name: str
    n: int
    """Its support: the number of samples behind the metric."""
    metric: Metric | None
    """None for a class without samples, which is a candidate only."""
    templates: tuple[str, ...] = ()
    """Its own templates, where classes do not share them."""
    words: tuple[str, ...] = ()
    """Words that stand for it, where they are not its name."""


@dataclass(frozen=True)
class ClassTable:
    """All classes of a benchmark, in its order."""

    metric: str
    """What is measured of each class: `recall`, `average_precision`, `iou`."""
    classes: tuple[ClassEntry, ...]
    templates: tuple[str, ...] = ()
    """Prompt templates that all classes share; `{}` and `{c}` stand for the class's name or word."""

    def frame(self) -> "pandas.DataFrame":
        """A row for each class: `class`, `n`, the metric under its name, `low` and `high`; NaN where there is none."""
        import pandas as pd

        rows = [
            (entry.name, entry.n, *((entry.metric.value, entry.metric.low, entry.metric.high) if entry.metric else ()))
            for entry in self.classes
        ]
        filled = [(*row, *[float("nan")] * (5 - len(row))) for row in rows]
        return pd.DataFrame(filled, columns=["class", "n", self.metric, "low", "high"])

    def from_worst(self) -> list[ClassEntry]:
        """The classes that have a metric, the worst first; equal ones in the order of the benchmark."""
        return sorted((entry for entry in self.classes if entry.metric), key=lambda entry: entry.metric.value)  # type: ignore[union-attr]


def recall_table(names: Sequence[str], means: "ClassMeans", templates: Templates) -> ClassTable:
    """The recall of each class, from the mean outcome of its samples."""
    metrics = [
        Metric(value, low, high, n, method) if n else None
        for value, low, high, n, method in zip(
            means.value.tolist(), means.low.tolist(), means.high.tolist(), means.n.tolist(), means.method, strict=True
        )
    ]
    return class_table("recall", names, means.n.tolist(), metrics, templates)


def class_table(
    metric: str,
    names: Sequence[str],
    support: Sequence[int],
    metrics: Sequence[Metric | None],
    templates: Templates,
    words: Sequence[Sequence[str]] = (),
) -> ClassTable:
    """Put together what is known of C classes.

    Args:
        metric: name of what is measured of each class.
        names, support, metrics: of each class.
        templates: shared by all classes, or a list for each.
        words: words of each class; empty: its name.
    """
    shared = tuple(select_shared_templates(templates))
    own_templates = [()] * len(names) if shared or not templates else [tuple(of_class) for of_class in templates]
    own_words = [tuple(of_class) for of_class in words] or [()] * len(names)
    entries = [
        ClassEntry(name, int(n), of_class, of_templates, () if of_words == (name,) else of_words)
        for name, n, of_class, of_templates, of_words in zip(
            names, support, metrics, own_templates, own_words, strict=True
        )
    ]
    return ClassTable(metric, tuple(entries), shared)


def distinguish_names(names: Sequence[str]) -> list[str]:
    """The names of classes; where several have one name, with their numbers appended."""
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} ({c})" for c, name in enumerate(names)]
