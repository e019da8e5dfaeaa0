"""Compares one published figure with the results of its model."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from cosmos_core.printable import plural
from cosmos_eval.published.targets import REFERENCE, Cell, Measurement, Target, same_model
from cosmos_eval.results.record import Result


def compare(target: Target, by_model: dict[tuple[str, str], list[Result]], fingerprint: str) -> Cell:
    """Compare a published figure with the results of its model.

    Args:
        by_model: results by `same_model` and benchmark.
        fingerprint: of the benchmark's protocol.
    """
    comparable, refused = [], []
    for result in by_model.get((same_model(target.spec), target.benchmark), ()):
        reason = explain_refusal(result, target.metrics, fingerprint)
        if reason:
            refused.append(f"{result.model.spec} on {target.benchmark}: {reason}")
        else:
            comparable.append(result)
    comparable.sort(key=lambda result: (result.model.digest, result.precision != REFERENCE, result.precision))
    has_reference = {result.model.digest for result in comparable if result.precision == REFERENCE}
    name = same_model(target.spec)
    of_name = [
        result for (model, _), listed in by_model.items() if model == name for result in listed if result.limit is None
    ]
    weights = len({result.model.digest or id(result) for result in of_name})
    measured = []
    for result in comparable:
        decides = result.precision == REFERENCE or result.model.digest not in has_reference
        notes = _notes(target, result, decides, weights, len({other.dataset.fingerprint for other in comparable}))
        measured.append(measure(target, result, decides, notes))
    return Cell(target, tuple(measured), tuple(refused))


def explain_refusal(result: Result, metrics: Iterable[str], fingerprint: str) -> str:
    """Return why a result cannot be compared; empty if it can."""
    if result.limit is not None:
        return f"made with --limit {result.limit}, so not compared; run it without"
    if result.transforms:
        return f"its embeddings were transformed ({result.transforms.title}), so not compared; run it without"
    if result.benchmark.fingerprint != fingerprint:
        old = f"version {result.benchmark.version} ({result.benchmark.fingerprint[:8]})"
        return f"made with {old} of the protocol, which is now {fingerprint[:8]}; run it again"
    missing = [metric for metric in metrics if metric not in result.metrics]
    return f"has no {missing[0]}; run it again" if missing else ""


def _notes(target: Target, result: Result, decides: bool, weights: int, datasets: int) -> list[str]:
    """Notes on one result; `datasets`: number of different datasets measured for this figure."""
    notes = model_notes(target, result, decides, weights)
    if datasets > 1:
        notes.append(f"on the data {result.dataset.fingerprint[:8]}; there are results on other data")
    return [*notes, *data_notes(result)]


def model_notes(target: Target, result: Result, decides: bool, weights: int) -> list[str]:
    """Notes on the model of a result; `weights`: number of different weights with its name in the suite."""
    notes = []
    if result.precision != REFERENCE:
        advice = "run it with --precision fp32 before you conclude" if decides else "the float32 result decides"
        notes.append(f"{result.precision}: {advice}")
    spec, digest = result.model.spec, result.model.digest
    if weights > 1:
        which = f"these are {digest[:8]}" if digest else "these have no digest"
        notes.append(f"{weights} different weights have this name; {which}")
    if spec != target.spec:
        notes.append(f"measured as {spec}")
    return notes


def data_notes(result: Result) -> list[str]:
    """Notes on data that lack a part of what the benchmark expects."""
    n, expected = result.dataset.n, result.dataset.n_expected
    notes = [f"on {n[unit]:,} of {full:,} {unit}" for unit, full in expected.items() if n.get(unit, full) != full]
    return [*notes, f"{plural(n['left_out'], 'item')} left out"] if n.get("left_out") else notes


def measure(target: Target, result: Result, decides: bool, notes: Sequence[str]) -> Measurement:
    """Return the measured value of a figure of one benchmark."""
    metrics = [result.metrics[name] for name in target.metrics]
    value, low, high = (
        sum(getattr(metric, name) for metric in metrics) / len(metrics) for name in ("value", "low", "high")
    )  # of a mean, bounds as if all erred together: they are of the same images
    return measurement(target, result, (value, low, high), decides, notes)


def measurement(
    target: Target, result: Result, bounds: tuple[float, float, float], decides: bool, notes: Sequence[str]
) -> Measurement:
    """Return a measured value with its interval beside a published figure.

    Args:
        result: of the model; of an average, that of any of its benchmarks.
        bounds: value, low, high.
    """
    value, low, high = bounds
    # rounding errors in the last bits of a mean must not change the verdict
    difference = round(Decimal(repr(value)) * 100 - Decimal(target.printed), 9)
    return Measurement(
        label=result.label,
        spec=result.model.spec,
        digest=result.model.digest,
        precision=result.precision,
        value=value,
        low=low,
        high=high,
        difference=difference,
        verdict=target.verdict(difference),
        decides=decides,
        notes=tuple(notes),
    )
