"""Paired comparison of two models on perception, for `regress`."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.paired_drop import mean_per_class_weights
from cosmos_eval.metrics.paired_samples import Hits, name_units, number_labels, require_column

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result

UNIT_COLUMNS = ("whole", "image")
"""Columns with the unit of an item, the first that exists: samples of older versions have no `whole`."""


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits:
    """The hits of both models on the items behind a metric; the unit is the whole image.

    Args:
        metric: such as `accuracy`, `<subset>/accuracy_expected` or `<group>/macro_group_score`.
        results: baseline and candidate.
        frames: their samples, with equal items in equal order.

    Raises:
        RequestError: the samples lack a column, or no item belongs to the metric's subset.
    """
    baseline, candidate = frames
    strict_name = metric.removesuffix("_expected")
    part, _, rule = strict_name.rpartition("/")  # a subset, a part of a group, or (of a macro mean) a group
    is_macro = rule.startswith("macro_")
    rule = rule.removeprefix("macro_")
    kind = "correct" if strict_name == metric else "expected"
    column = kind if kind in baseline else f"{rule}_{kind}"  # with several rules, columns begin with the rule
    set_column = f"set {rule.partition('_')[0]}"
    if set_column in baseline:  # the metric of a kind of sets: pair_accuracy, set_accuracy
        return _paired_sets(baseline, candidate, set_column, kind)
    require_column(column, baseline, candidate)
    weights = parts = None
    if is_macro:
        labels = baseline[f"group {part}" if part else "subset"].to_numpy()
        # Subsets with fewer than `metrics.least` items have no metric of their own and are not part of the mean.
        is_selected = np.array([bool(label) and f"{label}/{rule}" in results[0].metrics for label in labels])
        parts = number_labels(labels[is_selected])
        weights = mean_per_class_weights(parts)
    elif part:
        is_selected = _is_in_part(baseline, part)
    else:
        is_selected = np.ones(len(baseline), dtype=bool)
    unit_column = next(name for name in UNIT_COLUMNS if name in baseline)
    return Hits(
        baseline[column].to_numpy()[is_selected],
        candidate[column].to_numpy()[is_selected],
        number_labels(baseline[unit_column].to_numpy()[is_selected]),
        weights,
        name_units(baseline, unit_column)[is_selected],
        parts,
    )


def _is_in_part(samples: "pd.DataFrame", part: str) -> np.ndarray:
    """(I,) bool, whether each item is in the subset called `part`; if there is no such subset, whether it is in that
    part of the first group that has one."""
    for column in ("subset", *(name for name in samples.columns if name.startswith("group "))):
        is_in_part = (samples[column] == part).to_numpy()
        if is_in_part.any():
            return is_in_part
    raise RequestError(f"no sample belongs to {part!r}; evaluate again with run --overwrite")


def _paired_sets(baseline: "pd.DataFrame", candidate: "pd.DataFrame", set_column: str, kind: str) -> Hits:
    """The hits of both models on sets of items, which are right if all of their items are."""
    require_column(kind, baseline, candidate)
    names = baseline[set_column].to_numpy()
    sets = [np.flatnonzero(names == name) for name in dict.fromkeys(names) if name]
    unit = next(baseline[name] for name in UNIT_COLUMNS if name in baseline).to_numpy()
    hits = [np.array([frame[kind].to_numpy()[items].prod() for items in sets]) for frame in (baseline, candidate)]
    return Hits(hits[0], hits[1], number_labels(unit[[items[0] for items in sets]]), None)
