"""Compares measured with published figures: whether each figure of a suite was reproduced, and the difference.

A figure is reproduced where the measured one rounds to it, within where it differs by no more than the rounding and the
known differences that the benchmark's definition gives in points, and missed beyond. The reference is float32: another
precision decides only where there is no float32 result of the same weights.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_eval.models.spec import MODELS, parse_spec
from cosmos_eval.protocol.benchmark import Benchmark, list_suites, read_suite
from cosmos_eval.protocol.suite import Suite
from cosmos_eval.published.averages import average_rows, average_target, compare_average
from cosmos_eval.published.comparison import compare
from cosmos_eval.published.targets import AverageTarget, Reproduction, Target, same_model
from cosmos_eval.results.record import Result


def reproduce(
    suite: str, results: Sequence[Result], models: Sequence[str] = (), secondary: bool = False
) -> Reproduction:
    """Compare results with the published figures of a suite.

    Args:
        suite: its name.
        results: of any models and benchmarks; those without published figures are ignored.
        models: only these published models, each a spec or `PUBLISHED=SPEC`, which takes the results of SPEC (a copy
            of the weights) as those of PUBLISHED.
        secondary: also figures that only third parties report; they never decide.

    Raises:
        RequestError: an unknown suite, one without published figures, a model without published figures, or
            results of limited runs only.
    """
    definition = read_suite(suite)
    if not definition.published:
        published_suites = ", ".join(name for name in list_suites() if read_suite(name).published)
        raise RequestError(f"the suite {suite} has no published figures; these have: {published_suites}")
    targets, without_spec, secondary_left_out = find_targets(definition, secondary)
    chosen = _choose(models, targets, suite)
    if chosen:
        targets = [target for target in targets if same_model(target.spec) in chosen]
    fingerprints = {benchmark.name: benchmark.fingerprint for benchmark in definition.benchmarks}
    by_model = _by_model([result for result in results if result.benchmark.name in fingerprints], chosen)
    cells = tuple(
        compare_average(target, by_model, fingerprints)
        if isinstance(target, AverageTarget)
        else compare(target, by_model, fingerprints[target.benchmark])
        for target in targets
    )
    limited = [line for cell in cells for line in cell.refused if "--limit" in line]
    if limited and not any(cell.measured or cell.incomplete for cell in cells):
        raise RequestError(f"{limited[0]}; no other result can be compared with {suite}")
    measured_as = {key: specs for key, specs in chosen.items() if specs}
    return Reproduction(definition, cells, without_spec, secondary_left_out, measured_as)


def find_targets(suite: Suite, secondary: bool) -> tuple[list[Target], int, int]:
    """The figures that papers print for a suite, ordered by model and benchmark, averages last; the number of figures
    of models without a spec; and the number of secondary ones left out."""
    from cosmos_eval.published.figures import published

    frame = published(secondary=True, unmapped=True)
    order = {benchmark.name: i for i, benchmark in enumerate(suite.benchmarks)}
    of_suite = frame[frame["benchmark"].isin(order) & frame["paper"].str.startswith(suite.published)]
    averages = list(average_rows(suite, frame))
    targets = [_target(row, suite.benchmarks[order[row["benchmark"]]]) for row in of_suite.to_dict("records")]
    targets += [average_target(row, suite, average) for average, rows in averages for row in rows.to_dict("records")]
    named = [target for target in targets if target.spec]
    selected = [target for target in named if secondary or not target.secondary]
    models = {spec: i for i, spec in enumerate(dict.fromkeys(target.spec for target in selected))}
    selected.sort(key=lambda target: (models[target.spec], order.get(target.benchmark, len(order))))
    without_spec = sum(not target.spec and not target.secondary for target in targets)
    return selected, without_spec, len(named) - len(selected)


def _target(row: dict[Any, Any], benchmark: Benchmark) -> Target:
    differences = tuple(
        difference for difference in benchmark.published if difference.applies_to(row["paper"], row["metric"])
    )
    names = ("paper", "model", "spec", "benchmark", "metric", "printed", "as_printed", "source")
    return Target(**{name: row[name] for name in names}, secondary=bool(row["secondary"]), differences=differences)


def _choose(models: Iterable[str], targets: Iterable[Target], suite: str) -> dict[str, list[str]]:
    """`same_model` of each requested published spec -> the specs measured in its place; empty: the spec itself."""
    spec_by_name = {same_model(target.spec): target.spec for target in targets}
    chosen: dict[str, list[str]] = {}
    kinds = "|".join(map(re.escape, MODELS.names()))
    for model in models:
        match = re.fullmatch(rf"(?P<ours>.+?)=(?P<measured>(?:{kinds}):.+)", model, re.DOTALL)
        published_spec, measured = (match["ours"], [match["measured"]]) if match else (model, [])
        before, has_sign, after = published_spec.partition("=")
        if has_sign and same_model(before) in spec_by_name:
            raise RequestError(
                f"{model}: {after or 'nothing'} after = is not a model spec; write {before}=KIND:NAME-OR-PATH"
            )
        parse_spec(published_spec)
        if same_model(published_spec) not in spec_by_name:
            raise RequestError(
                f"no published figures of {published_spec} in {suite}; "
                f"they are known of {', '.join(spec_by_name.values()) or 'none'}. "
                "For a copy of the weights write PUBLISHED=SPEC"
            )
        chosen.setdefault(same_model(published_spec), []).extend(measured)
    return chosen


def _by_model(results: Iterable[Result], chosen: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[Result]]:
    """Results by published model and benchmark; of repeated measurements the newest."""
    newest: dict[tuple[str, str], dict[object, Result]] = {}
    for result in results:
        spec = result.model.spec
        models = [key for key, specs in chosen.items() if spec in specs]
        if not chosen.get(same_model(spec)):  # unless the user named other results for it
            models.append(same_model(spec))
        identity = result.identity or id(result)  # a model without a digest equals no other
        for key in models:
            of_model = newest.setdefault((key, result.benchmark.name), {})
            before = of_model.get(identity)
            if before is None or before.timing.started <= result.timing.started:
                of_model[identity] = result
    return {key: list(of_model.values()) for key, of_model in newest.items()}
