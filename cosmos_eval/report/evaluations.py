"""evaluations.jsonl: the metrics of one training, a line for each step, network and benchmark."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_core.files import atomic_write_text
from cosmos_core.json_text import LARGEST_JSON, load_json
from cosmos_core.text_files import read_content
from cosmos_eval.protocol.task_registry import measured_headlines
from cosmos_eval.report.names import short

if TYPE_CHECKING:
    from cosmos_eval.results.record import Result

EVALUATIONS = "evaluations.jsonl"
Line = dict[str, Any]
"""`step`, `network`, `benchmark`, `task`, `primary`, `metrics` {name -> value, low, high, n}, `limit`, `precision`,
`digest` of the weights, `fingerprint` of the protocol, `dataset`'s fingerprint, and `seconds`."""


class Evaluations:
    """`evaluations.jsonl` of a folder: one line for each step, network and benchmark, in order of their steps.

    The file is replaced atomically, so that other processes can read it at any time. `path` None keeps lines in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines = read_evaluations(path) if path is not None else []

    def put(self, lines: Iterable[Line]) -> None:
        """Add lines in place of those of the same step, network and benchmark."""
        by_key = {key_of(line): line for line in [*self.lines, *lines]}
        self._keep(by_key.values())

    def cut(self, step: int) -> None:
        """Drop the lines beyond `step`, from where a run goes on."""
        if any(line["step"] > step for line in self.lines):
            self._keep(line for line in self.lines if line["step"] <= step)

    def _keep(self, lines: Iterable[Line]) -> None:
        self.lines = sorted(lines, key=lambda line: line["step"])
        if self.path is not None:
            atomic_write_text(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines))


def key_of(line: Line) -> tuple[int, str, str]:
    return line["step"], line["network"], line["benchmark"]


def read_evaluations(path: Path) -> list[Line]:
    """The lines of a file, none where it is absent; invalid lines are left out."""
    if not path.is_file():
        return []
    lines = []
    for text in read_content(path, LARGEST_JSON).decode("utf-8", errors="replace").split("\n"):
        try:
            line = load_json(text)
            key_of(line)
            line["metrics"][line["primary"]]["value"]
        except (ValueError, LookupError, TypeError):
            continue
        lines.append(line)
    return lines


def line_of(step: int, network: str, result: "Result") -> Line:
    """A result as a line."""
    return {
        "step": step,
        "network": network,
        "benchmark": result.benchmark_name,
        "task": result.benchmark.task,
        "primary": result.primary,
        "metrics": {name: metric.record() for name, metric in result.metrics.items()},
        "limit": result.limit,
        "precision": result.precision,
        "digest": result.model.digest,
        "fingerprint": result.benchmark.fingerprint,
        "dataset": result.dataset.fingerprint,
        "seconds": result.timing.seconds,
    }


def headlines(line: Line) -> list[str]:
    """The headline metrics of a line."""
    return measured_headlines(line["task"], line["primary"], line["metrics"])


def sentence(lines: Sequence[Line]) -> str:
    """The headline metrics of some lines of one step and network: `step 100, teacher: coco I→T R@1 12.5, ...`."""
    parts = []
    for line in lines:
        named = ", ".join(f"{short(name)} {shown(name, line['metrics'][name]['value'])}" for name in headlines(line))
        limited = f" (first {line['limit']})" if line["limit"] else ""
        parts.append(f"{line['benchmark']}{limited} {named}")
    return f"step {lines[0]['step']:,}, {lines[0]['network']}: {'; '.join(parts)}" if lines else ""


def shown(metric: str, value: float) -> str:
    """A metric's value as tables print it: percent, or a rank."""
    return f"{value:.1f}" if metric.endswith("_rank") else f"{100 * value:.1f}"
