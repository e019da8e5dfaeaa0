"""Results of classification with made-up outcomes, written as a run writes them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.results.store import write_result as write
from cosmos_eval.results.store import write_samples
from cosmos_eval.tasks.common import Measured
from tests.helpers.boards import result_of


def write_result(
    folder: Path, name: str, correct: np.ndarray, contents: Sequence[str], label: str = "model", **columns
) -> Path:
    """Write a result of the benchmark `name` (a copy of toybox-classification) whose samples are of these images."""
    n = len(correct)
    measured = Measured(n)
    measured.mean("top1", np.asarray(correct, np.float64), np.arange(n))
    metrics = measured.metrics(0)
    benchmark = load_benchmark("toybox-classification")
    result = result_of(label, "toybox-classification")
    result = replace(
        result,
        benchmark=replace(result.benchmark, name=name, fingerprint=benchmark.fingerprint),
        metrics=metrics,
        primary="top1",
    )
    samples = pd.DataFrame(
        {
            "image": [f"s{i:07d}" for i in range(n)], "label": np.zeros(n, np.int64), **columns,
            "correct": np.asarray(correct, np.float64), "content": list(contents),
        }
    )  # fmt: skip
    target = folder / label / name
    target.mkdir(parents=True)
    section = write_samples(target, samples)
    return write(target, replace(result, samples=section))
