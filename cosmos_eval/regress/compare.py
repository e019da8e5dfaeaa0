"""Is a candidate worse than a baseline? Paired tests of the headline metrics of every benchmark, corrected together."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.metrics.detectable_drop import POWER, detectable_drop, measure_power_inputs
from cosmos_eval.metrics.names import is_rank
from cosmos_eval.metrics.paired_drop import drop_interval, drop_p_value
from cosmos_eval.metrics.paired_samples import BootstrappedDrop, Hits
from cosmos_eval.progress import use_benchmark_name
from cosmos_eval.protocol.suite import Suite
from cosmos_eval.protocol.task_registry import explain_unusable_task, task_info
from cosmos_eval.regress.answer import Regression, Settings, Tested, decide
from cosmos_eval.regress.averages import OF_SUITE, AveragedSamples, complete_averages, pair_average
from cosmos_eval.regress.paired_samples import pair_samples, refuse_other_samples, refuse_other_value
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import read_samples

if TYPE_CHECKING:
    import pandas as pd

Located = Mapping[str, tuple[Path, Result]]
"""Results of one model: benchmark -> path of RESULT.json, and the result."""


def compare(baseline: Located, candidate: Located, settings: Settings, suite: Suite | None = None) -> Regression:
    """Test whether the candidate drops by more than `settings.max_drop` anywhere, and whether it gains by more.

    Args:
        baseline, candidate: as `cosmos_eval.results.store.read_model` reads them.
        suite: tests its averages, too, and of the benchmarks only its own.

    Raises:
        RequestError: a requested benchmark or metric is in no result, or too few resamples for the number of tests.
    """
    if settings.allow_transforms:
        baseline = by_untransformed_name(baseline, "baseline")
        candidate = by_untransformed_name(candidate, "candidate")
    names = wanted_benchmarks(baseline, candidate, settings)
    if suite is not None:
        names = _of_suite(names, suite)
    problems: list[tuple[str, str]] = []
    pairs: dict[str, tuple[Result, Result]] = {}
    for name in names:
        if name not in candidate:
            problems.append((name, "the candidate has no result; measure it too"))
            continue
        results = baseline[name][1], candidate[name][1]
        reason = why_not_comparable(*results, settings.allow_precision, settings.allow_transforms)
        if reason:
            problems.append((name, reason))
        else:
            pairs[name] = results
    metrics = {name: metrics_to_test(results, settings.metrics) for name, results in pairs.items()}
    _refuse_unknown_metrics(metrics, pairs, settings)
    tests: list[Tested] = []
    located = {name: (baseline[name], candidate[name]) for name in pairs}
    averages = [] if suite is None else list(complete_averages(suite, located))
    whole = [average for average, reason in averages if not reason]
    members = {} if suite is None else {average.name: list(suite.members(average)) for average in whole}
    if settings.only_averages:
        if not whole:
            raise RequestError(
                "there is no average to test: "
                + ("; ".join(f"{average.name}: {why}" for average, why in averages) or "give --suite")
            )
        metrics = {name: [] for name in metrics}
    count = max(1, sum(map(len, metrics.values())) + len(whole))
    _refuse_few_resamples(pairs, count, settings)
    for name, results in pairs.items():
        if settings.only_averages:
            break
        try:
            frames = read_samples(baseline[name][0], results[0]), read_samples(candidate[name][0], results[1])
            refuse_other_samples(task_info(results[0].benchmark.task), *frames)
            # the level of the first step of Holm's correction: what is significant at it is significant in the end
            with use_benchmark_name(name):
                tests_of_benchmark = [
                    run_test(metric, results, frames, settings, settings.alpha / count) for metric in metrics[name]
                ]
        except (RequestError, ValueError) as error:  # samples with wrong columns or values
            problems.append((name, str(error)))
            continue
        tests += tests_of_benchmark
    for average in whole:
        try:
            with use_benchmark_name(average.name):
                averaged = pair_average(average, members[average.name], located)
                tests.append(run_average_test(averaged, settings, settings.alpha / count))
        except (RequestError, ValueError) as error:
            problems.append((average.name, str(error)))
    return Regression(
        baseline=label_of(baseline),
        candidate=label_of(candidate),
        settings=settings,
        tests=tuple(decide(tests, count, settings.alpha, settings.max_drop)),
        problems=tuple(problems),
        remarks=(
            *remarks_on(candidate, [] if settings.benchmarks or suite else baseline, pairs, metrics, settings),
            *(f"{average.name}: not tested: {reason}" for average, reason in averages if reason),
        ),
    )


def _of_suite(names: Sequence[str], suite: Suite) -> list[str]:
    """Those of the benchmarks that belong to a suite."""
    of_suite = {benchmark.name for benchmark in suite.benchmarks}
    chosen = [name for name in names if name in of_suite]
    if not chosen:
        raise RequestError(
            f"no benchmark of the suite {suite.name} in the baseline, which has {', '.join(names)}; run the suite, or "
            "leave --suite out"
        )
    return chosen


def remarks_on(
    candidate: Located,
    baseline: Collection[str],
    pairs: Mapping[str, tuple[Result, Result]],
    metrics: Mapping[str, Sequence[str]],
    settings: Settings,
) -> Iterator[str]:
    """Yield remarks beside the verdicts. `baseline`: its benchmarks; empty if the user requested specific ones."""
    only_in_candidate = [name for name in candidate if name not in baseline] if baseline else []
    if only_in_candidate:
        yield f"not in the baseline, so not tested: {', '.join(only_in_candidate)}"
    without = [] if settings.only_averages else [name for name, tested in metrics.items() if not tested]
    if without:
        yield f"without the requested metrics, so not tested: {', '.join(without)}"
    for name, (before, after) in pairs.items():
        if before.transforms != after.transforms:
            done = [result.transforms.title or "nothing" for result in (before, after)]
            yield f"{name}: done to the embeddings: {done[0]} in the baseline, {done[1]} in the candidate"
    with_same_weights = [name for name, (a, b) in pairs.items() if a.model.digest and a.model.digest == b.model.digest]
    if with_same_weights:
        yield f"baseline and candidate have the same weights: {', '.join(with_same_weights)}"


def wanted_benchmarks(baseline: Located, candidate: Located, settings: Settings) -> list[str]:
    """The requested benchmarks; by default all of the baseline, in their order."""
    for name in settings.benchmarks:
        if name not in baseline:
            raise RequestError(f"the baseline has no result of {name!r}; it has {', '.join(baseline)}")
    if not settings.benchmarks and not any(name in candidate for name in baseline):
        raise RequestError(
            f"no benchmark in common: the baseline has {', '.join(baseline)}; the candidate {', '.join(candidate)}"
        )
    return list(dict.fromkeys(settings.benchmarks)) or list(baseline)


def by_untransformed_name(located: Located, role: str) -> Located:
    """Results by the name of their benchmark alone, without what was done to embeddings after the fact.

    Args:
        role: "baseline" or "candidate", for the message.

    Raises:
        RequestError: there are several results of a benchmark.
    """
    by_name: dict[str, tuple[Path, Result]] = {}
    for path, result in located.values():
        other = by_name.setdefault(result.benchmark.name, (path, result))
        if other[0] != path:
            raise RequestError(
                f"the {role} has two results of {result.benchmark.name}: {other[0]} and {path}; give the path of one"
            )
    return by_name


def why_not_comparable(
    baseline: Result, candidate: Result, allow_precision: bool = False, allow_transforms: bool = False
) -> str:
    """Return why two results of one benchmark cannot be compared; empty if they can."""
    for name, result in (("baseline", baseline), ("candidate", candidate)):
        if result.limit is not None:
            return f"the {name} was made with --limit {result.limit}; measure it again without"
    reason = explain_unusable_task(baseline.benchmark.task, baseline.benchmark.plugins)
    if reason:
        return reason
    for subject, baseline_value, candidate_value in (
        ("task", baseline.benchmark.task, candidate.benchmark.task),
        ("protocol version", baseline.benchmark.version, candidate.benchmark.version),
        ("protocol fingerprint", baseline.benchmark.fingerprint, candidate.benchmark.fingerprint),
        ("scoring version of the task", baseline.benchmark.scoring_version, candidate.benchmark.scoring_version),
        ("the plug-ins of task and reader", *(plugins_of(result) for result in (baseline, candidate))),
        ("size of the data", counts(baseline), counts(candidate)),
        ("data fingerprint", baseline.dataset.fingerprint, candidate.dataset.fingerprint),
    ):
        if baseline_value != candidate_value:
            values = (
                f"{shorten_digest(baseline_value)} in the baseline, {shorten_digest(candidate_value)} in the candidate"
            )
            return f"{subject} differs: {values}; measure both again with run --overwrite"
    if baseline.precision != candidate.precision and not allow_precision:
        return (
            f"precision differs: {baseline.precision} in the baseline, {candidate.precision} in the candidate; measure "
            "both in one precision, or give --allow-precision"
        )
    if baseline.transforms != candidate.transforms and not allow_transforms:
        what = " and ".join(result.transforms.title or "nothing" for result in (baseline, candidate))
        return f"{what} were done to the embeddings; measure both alike, or give --allow-transforms"
    return ""


def plugins_of(result: Result) -> str:
    return ", ".join(sorted(result.benchmark.plugins.values())) or "none"


def counts(result: Result) -> str:
    return ", ".join(f"{n:,} {unit}" for unit, n in sorted(result.dataset.n.items()))


def shorten_digest(value: object) -> str:
    """A fingerprint shortened to its start; other values as text."""
    text = str(value)
    return text[:8] if len(text) == 64 and " " not in text else text


def metrics_to_test(results: tuple[Result, Result], requested: Sequence[str]) -> list[str]:
    """The requested metrics; by default those of the task (retrieval: recall@1 both ways), else the primary one."""
    result = results[0]
    if requested:
        names = list(requested)
    else:
        tested = task_info(result.benchmark.task).tested
        names = list(tested) if tested and set(tested) <= set(result.metrics) else [result.primary]
    return [name for name in dict.fromkeys(names) if all(name in result.metrics for result in results)]


def run_test(
    metric: str,
    results: tuple[Result, Result],
    frames: "tuple[pd.DataFrame, pd.DataFrame]",
    settings: Settings,
    level: float,
) -> Tested:
    """Test one metric, without a verdict, which depends on all tests. `level`: of the smallest detectable drop."""
    if not task_info(results[0].benchmark.task).can_be_paired(metric):
        which = ", its primary metric" if metric == results[0].primary else ""
        raise RequestError(f"there is no paired test of {metric}{which}; choose another with --metric")
    samples = pair_samples(metric, results, frames)
    common: dict[str, Any] = {
        "benchmark": results[0].benchmark_name,
        "metric": metric,
        "baseline": results[0].metrics[metric].value,
        "candidate": results[1].metrics[metric].value,
    }

    def check(values: tuple[float, float]) -> None:
        for result, value in zip(results, values, strict=True):
            refuse_other_value(metric, result, value)

    return measure_drop(samples, common, settings, level, check)


def run_average_test(averaged: AveragedSamples, settings: Settings, level: float) -> Tested:
    """Test an average of a suite, without a verdict."""
    common = {
        "benchmark": averaged.name,
        "metric": OF_SUITE,
        "baseline": averaged.values[0],
        "candidate": averaged.values[1],
    }
    return replace(measure_drop(averaged.samples, common, settings, level), n=averaged.count)


def measure_drop(
    samples: Hits | BootstrappedDrop,
    common: dict[str, Any],
    settings: Settings,
    level: float,
    check: Callable[[tuple[float, float]], None] = lambda values: None,
) -> Tested:
    """Test a drop of what the samples are of.

    Args:
        samples: of both models.
        common: fields of the answer: benchmark, metric and both values.
        settings: of `regress`.
        level: of the smallest detectable drop.
        check: called with the values that a bootstrap computes from the samples.
    """
    if isinstance(samples, Hits):
        drops = samples.differences()
        low, high = drop_interval(drops)
        mcnemar = drops.is_binary and settings.max_drop == 0
        return Tested(
            **common,
            method="McNemar, exact" if mcnemar else "units, weighted",
            n=len(samples.baseline),
            units=len(drops.unit_drops),
            low=-high,
            high=-low,
            p=drop_p_value(drops, settings.max_drop),
            p_gain=drop_p_value(drops.swapped(), settings.max_drop) if drops.drop < 0 else 1.0,
            least_p=drop_p_value(samples.against_worst_candidate(), settings.max_drop),
            detectable=detectable_drop(measure_power_inputs(drops), settings.max_drop, level, POWER),
        )
    area_drop = samples.bootstrap_drop(settings.resamples, settings.seed)
    check(area_drop.values)
    low, high = area_drop.interval()
    p_gain = 1.0
    if area_drop.drop < 0:  # else the test of a gain cannot reject, and the bootstrap is slow
        p_gain = samples.swapped().bootstrap_drop(settings.resamples, settings.seed).p_value(settings.max_drop)
    return Tested(
        **common,
        method="images, bootstrap",
        n=samples.images,
        units=samples.images,
        low=-high,
        high=-low,
        p=area_drop.p_value(settings.max_drop),
        p_gain=p_gain,
        least_p=area_drop.least_p_value(settings.max_drop),
        detectable=detectable_drop(area_drop.power_inputs(), settings.max_drop, level, POWER),
    )


def label_of(located: Located) -> str:
    """The name of a model in the answer: its label and the start of its digest."""
    result = next(iter(located.values()))[1]
    digest = result.model.digest
    return f"{result.label} ({digest[:8]})" if digest else result.label


def _refuse_unknown_metrics(
    metrics: Mapping[str, Sequence[str]], pairs: Mapping[str, tuple[Result, Result]], settings: Settings
) -> None:
    for name in settings.metrics:
        reporting = [benchmark for benchmark, reported in metrics.items() if name in reported]
        tasks = [task_info(pairs[benchmark][0].benchmark.task) for benchmark in reporting]
        if is_rank(name) or (tasks and not any(task.can_be_paired(name) for task in tasks)):
            raise RequestError(f"there is no paired test of {name}; ask for a metric that is a fraction of the samples")
        if metrics and not any(name in reported for reported in metrics.values()):
            raise RequestError(f"no benchmark here reports {name!r} in both results")


def _refuse_few_resamples(pairs: Mapping[str, tuple[Result, Result]], count: int, settings: Settings) -> None:
    """The smallest p of a bootstrap is 1 / (resamples + 1): Holm's correction must be able to reject it."""
    resampled = any(task_info(result.benchmark.task).resampled for result, _ in pairs.values())
    needed = int(count / settings.alpha)
    if resampled and settings.resamples < needed:
        raise RequestError(
            f"--resamples {settings.resamples} cannot find anything at alpha {settings.alpha:g} among "
            f"{plural(count, 'test')}; give at least {needed}"
        )
