"""What to run for published figures without a measurement: weights, data and commands."""

import shlex
from collections.abc import Sequence

from cosmos_core.released import HUB_REPOSITORY, RELEASED
from cosmos_eval.models.spec import parse_spec
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.published.reproduce import NOT_RUN, Reproduction, same_model


def not_run_lines(reproduction: Reproduction) -> list[str]:
    """Lines of what was not measured: models that lack the same benchmarks share a line."""
    specs_of: dict[tuple[str, ...], list[str]] = {}
    for spec, names in _missing(reproduction).items():
        specs_of.setdefault(names, []).append(spec)
    return [f"{', '.join(names)}: {', '.join(specs)}" for names, specs in specs_of.items()]


def commands(reproduction: Reproduction, results: str, data_root: str = "data") -> list[str]:
    """Commands that measure what is missing in float32; models that lack the same benchmarks share a command.

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
    parsed = [parse_spec(spec) for spec in specs]
    lines = []
    released = [RELEASED[spec.name] for spec in parsed if spec.kind == "cosmos" and spec.name in RELEASED]
    if released:
        files = " ".join(one.file for one in released)
        lines.append(f"COSMOS: {HUB_REPOSITORY} on the Hugging Face hub; downloaded at first use, or before with")
        lines.append(f"    hf download {HUB_REPOSITORY} {files} --local-dir weights")
        lines.append(f"    and then --model cosmos:weights/{released[0].file}, which is recognised by its file name")
    tags = [spec.text for spec in parsed if spec.kind == "open_clip"]
    if tags:
        parts = parse_spec(tags[0])
        lines.append("open_clip: the tag of its registry after the slash; downloaded at first use. With a copy:")
        lines.append(f"    cosmos-eval run --model open_clip:{parts.name}/weights/FILE ..., and then")
        lines.append(
            f"    cosmos-eval reproduce {reproduction.suite.name} --model {tags[0]}=open_clip:{parts.name}/weights/FILE"
        )
    if any(spec.kind == "hf" for spec in parsed):
        lines.append("hf: the repository of that name on the Hugging Face hub; downloaded at first use")
    return lines


def data(reproduction: Reproduction) -> list[str]:
    """What the data root needs: a line for each benchmark without a measurement."""
    names = {name for missing in _missing(reproduction).values() for name in missing}
    return [_data_line(benchmark) for benchmark in reproduction.suite.benchmarks if benchmark.name in names]


def _repeated(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _data_line(benchmark: Benchmark) -> str:
    expected = ", ".join(f"{n:,} {what}" for what, n in benchmark.dataset.get("expected", {}).items())
    return f"{benchmark.name} ({expected}): {benchmark.dataset.get('needs', '-')}"


def _missing(reproduction: Reproduction) -> dict[str, tuple[str, ...]]:
    """Published spec -> benchmarks, in the order of the suite, without a measured figure."""
    missing: dict[str, dict[str, None]] = {}
    for cell in reproduction.cells:
        if cell.verdict == NOT_RUN:
            missing.setdefault(cell.target.spec, {})[cell.target.benchmark] = None
    return {spec: tuple(names) for spec, names in missing.items()}


def what_to_run(reproduction: Reproduction, results: str, heading: Sequence[str] = ()) -> list[str]:
    """All of this as indented text; empty where nothing is missing."""
    if not any(cell.verdict == NOT_RUN for cell in reproduction.cells):
        return []
    lines = [*heading, "Commands:", "", *(f"    {line}" for line in commands(reproduction, results)), ""]
    weight_lines = weights(reproduction)
    lines += ["Weights:", "", *(f"    {line}" for line in weight_lines), ""] if weight_lines else []
    return [*lines, "Data, below the data root:", "", *(f"    {line}" for line in data(reproduction))]
