"""A benchmark definition: one frozen protocol, read from YAML, checked, and hashed into a fingerprint."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Benchmark:
    """Dataset, split, task, prompts and metrics of one benchmark. Changing what it computes changes its version."""

    name: str
    version: int
    task: str
    """retrieval, classification, segmentation or perception."""
    dataset: dict[str, Any]
    """`reader`, its options (paths relative to the data root), and `expected` counts."""
    metrics: dict[str, Any]
    """`primary`, and what the task takes (`k`)."""
    prompts: dict[str, Any] = field(default_factory=dict)
    """Classification: `class_names` and `templates`, each a named set, a list or a file."""
    source: str = ""
    summary: str = ""
    fingerprint: str = ""
    """Of everything above that decides a number, prompts resolved to their words."""
    folder: Path | None = None
    """The folder of a user's own YAML: its data root when none is given."""
