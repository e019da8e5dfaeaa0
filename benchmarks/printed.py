"""How benchmarks tell what they found: rows of Markdown, a page of `results/`, and the record on the last line."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.timing import Times


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def ratio(times: Times, peer: str) -> str:
    """How many times longer the peer takes than ours, with quartiles."""
    low, high = times.quartiles(peer, "ours")
    return f"{times.ratio(peer, 'ours'):.2f} [{low:.2f}, {high:.2f}]"


def rounded(value: Any) -> Any:
    """Four significant digits of every number in a nest of mappings and sequences."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def last_line(
    name: str, ratios: Mapping[str, float], figures: Mapping[str, Any], device: str, threads: int, load: float
) -> dict[str, Any]:
    """The record of a benchmark; `load` is the machine's load average before, of whatever else ran."""
    from cosmos_eval.results.environment import environment

    about = environment(device)
    about["hardware"]["threads"] = threads
    return {
        "name": name,
        "ratios": {key: round(value, 3) for key, value in ratios.items()},
        "figures": rounded(dict(figures)),
        "environment": {**about, "load_before": load},
    }


def ran_on(environment: Mapping[str, Any], packages: Sequence[str]) -> str:
    """Machine and versions in words, with the load before where that was noted."""
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
    """Tables as a page of `results/`, with the command that makes it and what it ran on."""
    from cosmos_eval.results.environment import environment

    found = environment(device)
    found["hardware"]["threads"] = threads
    return f"# {title}\n\nMade by `{command}`. {ran_on(found, packages)}.\n\n{text}\n"
