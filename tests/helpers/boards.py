"""Made-up results for tests of tables: every family, hostile names, holes, ranks, and values from a paper."""

import random
import zlib
from dataclasses import replace
from functools import cache

import pandas as pd

from cosmos_eval.protocol.benchmark import read_suite
from cosmos_eval.protocol.suite import Suite
from cosmos_eval.results.record import Result
from cosmos_eval.results.sections import BenchmarkSection
from cosmos_eval.tasks.classification import reported_metrics as classification
from cosmos_eval.tasks.outcome import Metric
from cosmos_eval.tasks.retrieval import CUTOFFS, metric_names
from tests.results.test_results import make_result

SUITE = "toybox"
HOSTILE = (
    "a|b\n<script>alert('x')</script>",
    "[2pt] back\\slash \\\\ 50 % & $x_1^2$ {#1} ~tilde~",
    "**bold** _it_ `code` ``ticks'' --dash-- \"quoted\" ?` !` ,, ⟨Ünïcode⟩ 模型",
    "-plain, 3 steps",
)
CLASSES = ("cat|dog", "<b>bird</b>", "a_b$c")


@cache
def suite() -> Suite:
    """The toybox suite."""
    return read_suite(SUITE)


def metrics_of(task: str, dice: random.Random) -> dict[str, Metric]:
    """Metrics as a task reports them, with random values; no two are equal."""
    names = {
        "retrieval": metric_names({"k": CUTOFFS}),
        "classification": classification(),
        "segmentation": ["miou", "pixel_accuracy", *(f"{name}/iou" for name in CLASSES)],
        "perception": ["accuracy", "macro_accuracy", "swap|att/accuracy"],
    }[task]
    found = {}
    for name in names:
        rank = name.endswith("_rank")
        value = 1 + 90 * dice.random() if rank else dice.random()
        low, high = max(float(rank), value * 0.9), value * 1.05
        found[name] = Metric(value, low, high if rank else min(1.0, high), dice.randint(100, 99_999))
    return found


def result_of(label: str, benchmark: str, seed: int = 0, **changes) -> Result:
    """A result of one benchmark of the toybox suite."""
    (one,) = [one for one in suite().benchmarks if one.name == benchmark]
    base = make_result(warnings=())
    digest = f"{zlib.crc32(label.encode('utf-8', 'surrogatepass')):064x}"
    values = {
        "benchmark": BenchmarkSection(one.name, one.version, one.task, one.fingerprint),
        "dataset": replace(base.dataset, n={"images": 1234, "items": 100}),
        "model": replace(base.model, label=label, digest=digest),
        "metrics": metrics_of(one.task, random.Random(f"{digest} {benchmark} {seed}")),
        "primary": one.metrics["primary"],
    }
    return make_result(warnings=(), **(values | changes))


def results_of_toybox() -> list[Result]:
    """Four models on the suite's five benchmarks; the second lacks one, and the last has only one, limited."""
    names = [one.name for one in suite().benchmarks]
    found = [result_of(label, name) for label in HOSTILE[:3] for name in names]
    found = [one for one in found if not (one.label == HOSTILE[1] and one.benchmark.name == names[1])]
    return [*found, result_of(HOSTILE[3], names[0]), result_of("limited", names[0], limit=10)]


def references_of_toybox() -> pd.DataFrame:
    """Two rows of a paper, with two decimals and one."""
    common = {"paper": "A & B (2025)", "arch": "ViT-B/16", "benchmark": "toybox-retrieval"}
    rows = [
        ("P_1", "image_to_text_recall@1", 0.9998, 2, "table 1, 50 %"),
        ("P_1", "text_to_image_recall@1", 0.9123, 2, "table 2"),
        ("P_2", "image_to_text_recall@1", 0.681, 1, "table 1, 50 %"),
    ]
    words = ("model", "metric", "value", "decimals", "source")
    return pd.DataFrame([{**common, **dict(zip(words, row, strict=True))} for row in rows])
