"""Averages over benchmarks that published tables print: which they are, and the same averages of results.

An average is measured only where all of its benchmarks were, with the same weights and precision: one of a part of them
would be another number. Its tolerance is the rounding and the mean of the known differences of its benchmarks, as if
all went the same way.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cosmos_core.printable import plural
from cosmos_eval.protocol.suite import Average, Suite
from cosmos_eval.published.comparison import data_notes, explain_refusal, measurement, model_notes
from cosmos_eval.published.targets import REFERENCE, AverageTarget, Cell, Measurement, same_model
from cosmos_eval.report.board_columns import AVERAGE
from cosmos_eval.results.record import Result
from cosmos_eval.results.sample_metrics import AverageIntervals

if TYPE_CHECKING:
    import pandas as pd

NAMED = 6
"""Benchmarks that a note names at most."""


def average_rows(suite: Suite, figures: "pd.DataFrame") -> Iterator[tuple[Average, "pd.DataFrame"]]:
    """Yield the averages of a suite that tables print, each with the figures that are its own.

    Args:
        figures: of `published`, those without a benchmark included.
    """
    for average in suite.averages:
        for printed in average.printed:
            is_own = figures["paper"].str.startswith(printed.paper)
            is_own &= figures["as_printed"].str.startswith(f"{printed.column},")
            if printed.model:
                is_own &= figures["model"] == printed.model
            yield average, figures[is_own]


def average_target(row: Mapping[str, Any], suite: Suite, average: Average) -> AverageTarget:
    """The published average of a row of `average_rows`."""
    members = list(suite.members(average))
    points, is_inferred = Decimal(0), False
    for benchmark, metrics in members:
        for metric in metrics:
            applying = [known for known in benchmark.published if known.applies_to(row["paper"], metric)]
            share = average.share(benchmark.name, len(metrics))
            points += Decimal(repr(sum(known.points for known in applying) * share))
            is_inferred |= any(known.inferred for known in applying)
    names = ("paper", "model", "spec", "printed", "as_printed", "source")
    return AverageTarget(
        **{name: row[name] for name in names},
        benchmark=average.name,
        metric=AVERAGE,
        secondary=bool(row["secondary"]),
        differences=(),
        average=average,
        members={benchmark.name: metrics for benchmark, metrics in members},
        points=round(points, 3),
        is_inferred=is_inferred,
    )


def compare_average(
    target: AverageTarget, by_model: Mapping[tuple[str, str], list[Result]], fingerprints: Mapping[str, str]
) -> Cell:
    """Compare a published average with that of the results of its model.

    Args:
        by_model: results by `same_model` and benchmark.
        fingerprints: benchmark -> fingerprint of its protocol.
    """
    groups: dict[tuple[str, str], dict[str, Result]] = {}
    refused = []
    for benchmark, metrics in target.members.items():
        for result in by_model.get((same_model(target.spec), benchmark), ()):
            reason = explain_refusal(result, metrics, fingerprints[benchmark])
            if reason:
                refused.append(f"{result.model.spec} on {benchmark}: {reason}")
                continue
            of_group = groups.setdefault((result.model.digest or result.model.spec, result.precision), {})
            before = of_group.get(benchmark)
            if before is None or before.timing.started <= result.timing.started:
                of_group[benchmark] = result
    complete = {key: group for key, group in groups.items() if len(group) == len(target.members)}
    measured_weights = {weights for weights, _ in complete}
    incomplete = [
        _missing(target, precision, group)
        for (weights, precision), group in sorted(groups.items())
        if weights not in measured_weights
    ]
    order = sorted(complete, key=lambda key: (key[0], key[1] != REFERENCE, key[1]))
    measured = []
    for weights, precision in order:
        of_group = complete[weights, precision]
        decides = precision == REFERENCE or (weights, REFERENCE) not in complete
        measured.append(_measure(target, list(of_group.values()), decides, len(measured_weights)))
    of_reference = [group for (_, precision), group in groups.items() if precision == REFERENCE]
    nearest = max(of_reference, key=len, default={})  # results of other weights do not complete it
    unmeasured = tuple(name for name in target.members if name not in nearest)
    return Cell(target, tuple(measured), tuple(refused), tuple(incomplete), unmeasured)


def _missing(target: AverageTarget, precision: str, group: Mapping[str, Result]) -> str:
    """What is missing for an average of the results of one model."""
    missing = [name for name in target.members if name not in group]
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    label = next(iter(group.values())).label
    with_precision = label if precision == REFERENCE else f"{label} ({precision})"
    of_all = f"{len(missing)} of {plural(len(target.members), 'benchmark')}"
    return f"{with_precision}: no average, since {of_all} were not measured: {', '.join(missing[:NAMED])}{more}"


def _measure(target: AverageTarget, results: list[Result], decides: bool, weights: int) -> Measurement:
    """The average of the results of one model, one for each benchmark in the order of the target."""
    members = [
        (number, metric, target.average.share(result.benchmark.name, len(target.members[result.benchmark.name])))
        for number, result in enumerate(results)
        for metric in target.members[result.benchmark.name]
    ]
    metrics = [(results[number].metrics[metric], share) for number, metric, share in members]
    value, low, high = (
        sum(getattr(metric, name) * share for metric, share in metrics) for name in ("value", "low", "high")
    )
    notes = model_notes(target, results[0], decides, weights)
    interval = AverageIntervals(results).of(members)
    if interval is None:
        notes.append("interval as if all benchmarks erred together: not all samples are there")
    else:
        low, high = interval.low, interval.high
    of_data = [f"{result.benchmark.name} {note}" for result in results for note in data_notes(result)]
    notes += of_data[:NAMED] + ([f"and {len(of_data) - NAMED} more such notes"] if len(of_data) > NAMED else [])
    return measurement(target, results[0], (value, low, high), decides, notes)
