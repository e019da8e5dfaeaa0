"""What to run for published figures without a measurement: weights, data and commands."""

import shlex
from collections.abc import Sequence

from cosmos_core.printable import list_counts
from cosmos_eval.models.spec import MODELS, ModelSpec, model_kind, parse_spec
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.published.targets import NOT_RUN, Reproduction, same_model


def not_run_lines(reproduction: Reproduction) -> list[str]:
    """Lines about figures without a measurement: models that lack the same benchmarks share a line."""
    specs_of: dict[tuple[str, ...], list[str]] = {}
    for spec, names in _missing(reproduction).items():
        specs_of.setdefault(names, []).append(spec)
    return [f"{', '.join(names)}: {', '.join(specs)}" for names, specs in specs_of.items()]


def commands(reproduction: Reproduction, results: str, data_root: str = "data") -> list[str]:
    """Commands that measure the missing figures in float32; models that lack the same benchmarks share a command.

    Returns:
        shell lines: `data check` and `run` for each group of models.
    """
    specs_of: dict[tuple[str, ...], list[str]] = {}
    for spec, names in _missing(reproduction).items():
        specs_of.setdefault(names, []).extend(reproduction.measured_as.get(same_model(spec)) or [spec])
    lines = []
    all_names = tuple(benchmark.name for benchmark in reproduction.suite.benchmarks)
    for names, specs in specs_of.items():
        is_whole_suite = set(names) == set(all_names)
        checked = (reproduction.suite.name,) if is_whole_suite else names
        selection = ["--suite", reproduction.suite.name] if is_whole_suite else _repeated("--benchmark", names)
        models = _repeated("--model", specs)
        options = ["--precision", "fp32", "--data-root", data_root, "--out", results]
        lines.append(shlex.join(["cosmos-eval", "data", "check", *checked, "--data-root", data_root]))
        lines.append(shlex.join(["cosmos-eval", "run", *models, *selection, *options]))
    return lines


def weights(reproduction: Reproduction) -> list[str]:
    """Where to get the weights of the models, and how to use a copy without a network."""
    specs = [spec for spec in _missing(reproduction) if not reproduction.measured_as.get(same_model(spec))]
    by_kind: dict[str, list[ModelSpec]] = {}
    for parsed in map(parse_spec, specs):
        by_kind.setdefault(parsed.kind, []).append(parsed)
    lines = []
    for kind in sorted(by_kind, key=MODELS.names().index):
        lines += model_kind(kind).weights_help(by_kind[kind], reproduction.suite.name)
    return lines


def data(reproduction: Reproduction) -> list[str]:
    """What the data root needs: a line for each benchmark without a measurement."""
    names = {name for missing in _missing(reproduction).values() for name in missing}
    return [_data_line(benchmark) for benchmark in reproduction.suite.benchmarks if benchmark.name in names]


def _repeated(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _data_line(benchmark: Benchmark) -> str:
    expected = list_counts(benchmark.dataset.get("expected", {}))
    return f"{benchmark.name} ({expected}): {benchmark.dataset.get('needs', '-')}"


def _missing(reproduction: Reproduction) -> dict[str, tuple[str, ...]]:
    """Published spec -> benchmarks, in the order of the suite, without a measured figure."""
    order = {benchmark.name: i for i, benchmark in enumerate(reproduction.suite.benchmarks)}
    missing: dict[str, set[str]] = {}
    for cell in reproduction.cells:
        if cell.missing:
            missing.setdefault(cell.target.spec, set()).update(cell.missing)
    return {spec: tuple(sorted(names, key=order.__getitem__)) for spec, names in missing.items()}


def what_to_run(reproduction: Reproduction, results: str, heading: Sequence[str] = ()) -> list[str]:
    """All of this as indented text; empty where nothing is missing."""
    if not any(cell.verdict == NOT_RUN for cell in reproduction.cells):
        return []
    lines = [*heading, "Commands:", "", *(f"    {line}" for line in commands(reproduction, results)), ""]
    weight_lines = weights(reproduction)
    lines += ["Weights:", "", *(f"    {line}" for line in weight_lines), ""] if weight_lines else []
    return [*lines, "Data, below the data root:", "", *(f"    {line}" for line in data(reproduction))]
