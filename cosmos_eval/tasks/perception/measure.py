"""Perception and composition: what belongs together must score strictly higher than what does not.

Every benchmark's authors rule strictly and draw their own mean: over items (SugarCrepe, Hsieh et al., 2023), over
subsets (ARO, Yuksekgonul et al., 2023), over patterns (MMVP, Tong et al., 2024). All means are here, the definition
says which is primary, and beside each stands its expectation with ties in random order (`..._expected`): a model whose
embeddings are all alike gets 0 by the first and chance by the second; `argmax` over (right, wrong) would give it 1.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.engine.features import Features
from cosmos_eval.engine.truncation import except_cut_alike
from cosmos_eval.metrics.comparisons import Reading, item_pairs, pair_numbers, reading_names, readings
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    refuse_index,
    refuse_lengths,
    refuse_two_spaces,
)
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.perception import names_for


def validate(benchmark: Benchmark, data: PerceptionData) -> None:
    """RequestError for an item without its images or texts, a shape without a rule, lists of different lengths, or a
    metric that is not reported."""
    refuse_lengths(
        benchmark,
        places_of_images=len(data.item_images),
        places_of_texts=len(data.item_texts),
        subsets=len(data.subsets),
        **{f"parts_of_{name}": len(parts) for name, parts in data.groups.items()},
    )
    names = _reading_names(data)
    if not names:
        m, n = data.item_images.shape[1], data.item_texts.shape[1]
        raise RequestError(f"{benchmark.name}: items of {m} images and {n} texts; there is no rule for these")
    for places in data.item_images.T:
        refuse_index(benchmark, places, len(data.images), "item", "image")
    for places in data.item_texts.T:
        refuse_index(benchmark, places, len(data.texts), "item", "text")
    parts = dict.fromkeys(part for own in (data.subsets, *data.groups.values()) for part in own if part)
    groups = [name for name, own in data.groups.items() if any(own)]
    primary_metric(benchmark, names_for(parts, names, groups), names[0])


def run(benchmark: Benchmark, data: PerceptionData, engine: Features, seed: int = 0) -> Outcome:
    """Every reading over items, subsets and groups; intervals resample the items' first images, all parts of one
    image together.

    `metrics.least` of a definition leaves subsets with fewer items out of means over subsets, and they
    have no metric of their own.

    `samples` has a row for each item: `item` (its index in the dataset), `subset`, a column for each group, `image`
    (the key of its first one), `whole` (the key of the image that this one is a part of: the unit of intervals and
    paired tests), `scores` (cosines, image by image), and for each reading its margin, whether it holds strictly,
    and the expectation.
    """
    of = engine.score(data.images, data.texts)
    refuse_two_spaces(benchmark, of)
    places = torch.from_numpy(data.item_images), torch.from_numpy(data.item_texts)
    m, n = data.item_images.shape[1], data.item_texts.shape[1]
    scores = of.of_pairs(item_pairs(*places)).view(-1, m, n)
    read = readings(scores, pair_numbers(*places))
    images = data.item_images[:, 0]
    wholes = {whole: i for i, whole in enumerate(dict.fromkeys(image.whole for image in data.images))}
    units = np.array([wholes[image.whole] for image in data.images])
    measured = Measured(len(wholes))
    least = int(benchmark.metrics.get("least", 1))
    for suffix in ("", "_expected"):
        for name, reading in read.items():
            values = (reading.expected if suffix else reading.strict).numpy()
            halves = None if reading.halves is None else reading.halves[1 if suffix else 0].numpy()
            _add(measured, _Judged(data, units, values, halves), f"{name}{suffix}", least)
    metrics = measured.metrics(seed)
    samples = pd.DataFrame(
        {
            "item": np.arange(len(images)),
            "subset": np.array(data.subsets, dtype=object),
            **{f"group {name}": np.array(parts, dtype=object) for name, parts in data.groups.items()},
            "image": [data.images[i].key for i in images.tolist()],
            "whole": [data.images[i].whole for i in images.tolist()],
            "scores": scores.flatten(1).tolist(),
            **_columns(read),
        }
    )
    left_out = f"{len(data.left_out):,} of {len(data.left_out) + len(images):,} items left out"
    return Outcome(
        metrics=metrics,
        samples=samples,
        primary=primary_metric(benchmark, metrics, next(iter(read))),
        warnings=(
            *collapse_warnings(
                {"images": of.image_features, "texts": of.text_features}, except_cut_alike(engine, "texts")
            ),
            *((f"{left_out}, the first: {data.left_out[0]}",) if data.left_out else ()),
        ),
    )


@dataclass(frozen=True)
class _Judged:
    """One reading of every item, strict or expected."""

    data: PerceptionData
    units: np.ndarray
    """What intervals resample, of each image."""
    values: np.ndarray  # (I,)
    halves: np.ndarray | None
    """(I, 2) where a match (the first image) and no match (the second) are judged by themselves."""

    def cases(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, classes and units of some items: a mean is taken over each class, then over the classes.

        A class is all items, except where halves are judged: there it is the matches, and the others, each image and
        text once, as SVO-Probes' authors drop repeated pairs.
        """
        if self.halves is None:
            return self.values[rows], np.zeros(len(rows), dtype=np.int64), self.units[self.data.item_images[rows, 0]]
        values, sides, units = [], [], []
        for side in range(2):
            pairs = np.stack([self.data.item_images[rows, side], self.data.item_texts[rows, 0]], axis=1)
            once = rows[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]
            values.append(self.halves[once, side])
            sides.append(np.full(len(once), side))
            units.append(self.units[self.data.item_images[once, side]])
        return np.concatenate(values), np.concatenate(sides), np.concatenate(units)


def _add(measured: Measured, judged: _Judged, name: str, least: int) -> None:
    """One reading: over items, over each part of subsets and groups, and the means over parts."""
    data = judged.data
    for division, parts in {"": data.subsets, **data.groups}.items():
        labels = np.array(parts, dtype=object)
        names = _parts(parts)
        if division and not names:
            continue  # no item belongs to any part of this group
        counts = Counter(parts)
        kept = [part for part in names if counts[part] >= least] or names
        cases = [judged.cases(np.flatnonzero(labels == part)) for part in kept]
        for part, own in zip(kept, cases, strict=True):
            if f"{part}/{name}" not in measured.values:  # a group may have a subset's own name
                _mean(measured, f"{part}/{name}", *own)
        title = f"{division}/macro_{name}" if division else f"macro_{name}"
        classes = 1 + max(int(own[1].max()) for own in cases)
        index = np.concatenate([i * classes + own[1] for i, own in enumerate(cases)])
        values, units = (np.concatenate([own[k] for own in cases]) for k in (0, 2))
        measured.mean_per_class(title, values, index, units)
    _mean(measured, name, *judged.cases(np.arange(len(judged.values))))


def _mean(measured: Measured, name: str, values: np.ndarray, classes: np.ndarray, units: np.ndarray) -> None:
    if classes.any():
        measured.mean_per_class(name, values, classes, units)
    else:
        measured.mean(name, values, units)


def _columns(read: dict[str, Reading]) -> dict[str, np.ndarray]:
    """Of one reading `margin`, `correct` and `expected`; of several each with the reading's name before it."""
    found = {}
    for name, reading in read.items():
        before = "" if len(read) == 1 else f"{name}_"
        found[f"{before}margin"] = reading.margin.numpy()
        found[f"{before}correct"] = reading.strict.numpy()
        found[f"{before}expected"] = reading.expected.numpy()
    return found


def _reading_names(data: PerceptionData) -> tuple[str, ...]:
    if data.item_images.ndim != 2 or data.item_texts.ndim != 2:
        return ()
    return reading_names(data.item_images.shape[1], data.item_texts.shape[1])


def _parts(labels: Sequence[str]) -> list[str]:
    """In order of first appearance, without the empty one."""
    return [part for part in dict.fromkeys(labels) if part]
