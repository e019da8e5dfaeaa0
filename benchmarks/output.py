"""Output of benchmarks: rows of Markdown tables, a page of `results/`, and the JSON record on the last line."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.timing import Times


def row(cells: Sequence[str]) -> str:
    """Format one row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def ratio(times: Times, peer: str) -> str:
    """Format how many times longer the peer takes than cosmos-eval, with quartiles."""
    low, high = times.quartiles(peer, "ours")
    return f"{times.ratio(peer, 'ours'):.2f} [{low:.2f}, {high:.2f}]"


def rounded(value: Any) -> Any:
    """Round every float in nested mappings and sequences to four significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def last_line(
    name: str, ratios: Mapping[str, float], figures: Mapping[str, Any], device: str, threads: int, load: float
) -> dict[str, Any]:
    """Return the record of a benchmark.

    Args:
        name: of the script in `benchmarks/`.
        ratios: above 1 means that cosmos-eval is faster, or smaller, than the peer in the same run.
        load: the load average of the machine before the benchmark, which comes from other programs.
    """
    from cosmos_eval.results.environment import environment

    measured_on = environment(device)
    measured_on["hardware"]["threads"] = threads
    return {
        "name": name,
        "ratios": {key: round(value, 3) for key, value in ratios.items()},
        "figures": rounded(dict(figures)),
        "environment": {**measured_on, "load_before": load},
    }


def describe_environment(environment: Mapping[str, Any], packages: Sequence[str]) -> str:
    """Return machine and versions as text, with the load average before the benchmark where the record has it."""
    hardware, load = environment["hardware"], environment.get("load_before")
    parts = [
        hardware.get("gpu", hardware["cpu"]),
        f"{hardware['cores']} cores",
        f"{hardware['threads']} thread{'s' * (hardware['threads'] > 1)}",
        *([] if load is None else [f"load before {load:.2f}"]),
        f"Python {environment['python']}",
        *(f"{name} {environment['packages'][name]}" for name in packages),
    ]
    return ", ".join(parts)


def page(title: str, text: str, command: str, device: str, packages: Sequence[str], threads: int) -> str:
    """Return a page of `results/`: the tables, the command that makes it, and the machine and versions."""
    from cosmos_eval.results.environment import environment

    measured_on = environment(device)
    measured_on["hardware"]["threads"] = threads
    return f"# {title}\n\nMade by `{command}`. {describe_environment(measured_on, packages)}.\n\n{text}\n"
