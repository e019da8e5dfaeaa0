"""What to run for the published figures that nothing was measured for: weights, data and commands."""

import shlex
from collections.abc import Sequence

from cosmos_core.released import HUB_REPOSITORY, RELEASED
from cosmos_eval.models.spec import parse_spec
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.published.reproduce import NOT_RUN, Reproduction, same_model


def not_run_lines(found: Reproduction) -> list[str]:
    """What was not measured: models that lack the same benchmarks in one line."""
    together: dict[tuple[str, ...], list[str]] = {}
    for spec, names in _missing(found).items():
        together.setdefault(names, []).append(spec)
    return [f"{', '.join(names)}: {', '.join(specs)}" for names, specs in together.items()]


def commands(found: Reproduction, results: str, data_root: str = "data") -> list[str]:
    """Commands that measure what is missing in float32, models that lack the same benchmarks together.

    Returns:
        Shell lines: for each group `data check` and `run`.
    """
    together: dict[tuple[str, ...], list[str]] = {}
    for spec, names in _missing(found).items():
        together.setdefault(names, []).extend(found.measured_as.get(same_model(spec)) or [spec])
    lines = []
    whole = tuple(benchmark.name for benchmark in found.suite.benchmarks)
    for names, specs in together.items():
        of_suite = set(names) == set(whole)
        checked = (found.suite.name,) if of_suite else names
        asked = ["--suite", found.suite.name] if of_suite else _repeated("--benchmark", names)
        models = _repeated("--model", specs)
        end = ["--precision", "fp32", "--data-root", data_root, "--out", results]
        lines.append(shlex.join(["cosmos-eval", "data", "check", *checked, "--data-root", data_root]))
        lines.append(shlex.join(["cosmos-eval", "run", *models, *asked, *end]))
    return lines


def weights(found: Reproduction) -> list[str]:
    """Where the weights of the models come from, and how to use a copy where there is no network."""
    specs = [spec for spec in _missing(found) if not found.measured_as.get(same_model(spec))]
    parsed = [parse_spec(spec) for spec in specs]
    lines = []
    released = [RELEASED[spec.name] for spec in parsed if spec.kind == "cosmos" and spec.name in RELEASED]
    if released:
        files = " ".join(one.file for one in released)
        lines.append(f"COSMOS: {HUB_REPOSITORY} of the Hugging Face hub; fetched when first asked for, or before by")
        lines.append(f"    hf download {HUB_REPOSITORY} {files} --local-dir weights")
        lines.append(f"    and then --model cosmos:weights/{released[0].file}, which is known by its file's name")
    tags = [spec.text for spec in parsed if spec.kind == "open_clip"]
    if tags:
        parts = parse_spec(tags[0])
        lines.append("open_clip: the tag of its registry after the slash; fetched when first asked for. With a copy:")
        lines.append(f"    cosmos-eval run --model open_clip:{parts.name}/weights/FILE ..., and then")
        lines.append(
            f"    cosmos-eval reproduce {found.suite.name} --model {tags[0]}=open_clip:{parts.name}/weights/FILE"
        )
    if any(spec.kind == "hf" for spec in parsed):
        lines.append("hf: the repository of that name of the Hugging Face hub; fetched when first asked for")
    return lines


def data(found: Reproduction) -> list[str]:
    """What the data root needs, a line for each benchmark that something is missing on."""
    names = {name for missing in _missing(found).values() for name in missing}
    return [_data_line(benchmark) for benchmark in found.suite.benchmarks if benchmark.name in names]


def _repeated(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _data_line(benchmark: Benchmark) -> str:
    expected = ", ".join(f"{n:,} {what}" for what, n in benchmark.dataset.get("expected", {}).items())
    return f"{benchmark.name} ({expected}): {benchmark.dataset.get('needs', '-')}"


def _missing(found: Reproduction) -> dict[str, tuple[str, ...]]:
    """Published spec -> benchmarks, in the suite's order, that lack a figure of it."""
    missing: dict[str, dict[str, None]] = {}
    for cell in found.cells:
        if cell.verdict == NOT_RUN:
            missing.setdefault(cell.target.spec, {})[cell.target.benchmark] = None
    return {spec: tuple(names) for spec, names in missing.items()}


def what_to_run(found: Reproduction, results: str, heading: Sequence[str] = ()) -> list[str]:
    """All of it as indented text; nothing where nothing is missing."""
    if not any(cell.verdict == NOT_RUN for cell in found.cells):
        return []
    lines = [*heading, "Commands:", "", *(f"    {line}" for line in commands(found, results)), ""]
    own = weights(found)
    lines += ["Weights:", "", *(f"    {line}" for line in own), ""] if own else []
    return [*lines, "Data, below the data root:", "", *(f"    {line}" for line in data(found))]
