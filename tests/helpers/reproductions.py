"""Fabricated results beside published figures."""

from dataclasses import replace
from decimal import Decimal

from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.results.record import Result
from cosmos_eval.results.sections import BenchmarkSection
from cosmos_eval.tasks.outcome import Metric
from tests.results.test_results import make_result

COCO, FLICKR = "coco-val2017-retrieval", "flickr30k-val-retrieval"
I2T, T2I = "image_to_text_recall@1", "text_to_image_recall@1"
MODEL = "cosmos:vitb16-merged30m"
PRINTED = {(COCO, I2T): "68.0", (COCO, T2I): "52.5", (FLICKR, I2T): "92.9", (FLICKR, T2I): "80.3"}
"""Of MODEL in the authors' README."""


def measured(
    benchmark: str = COCO,
    *,
    spec: str = MODEL,
    digest: str = "c" * 64,
    fingerprint: str = "",
    started: str = "2026-01-01T00:00:00+00:00",
    off: dict[str, str] | str = "0",
    **changes,
) -> Result:
    """A result of `spec` that is `off` by so many percentage points from what is printed, for one metric or all."""
    definition = load_benchmark(benchmark)
    shift = off if isinstance(off, dict) else {metric: off for of, metric in PRINTED if of == benchmark}
    metrics = {
        metric: (Decimal(printed) + Decimal(shift.get(metric, "0"))) / 100
        for (of, metric), printed in PRINTED.items()
        if of == benchmark
    }
    base = make_result()
    return make_result(
        benchmark=BenchmarkSection(
            benchmark, definition.version, definition.task, fingerprint or definition.fingerprint
        ),
        model=replace(base.model, spec=spec, digest=digest),
        metrics={name: Metric(float(one), float(one) - 0.01, float(one) + 0.01, 5000) for name, one in metrics.items()},
        primary=T2I,
        timing=replace(base.timing, started=started),
        **changes,
    )
