"""Zero-shot retrieval: images find their captions and captions their image."""

from collections.abc import Mapping
from typing import Any

from cosmos_eval.datasets.kinds import RETRIEVAL
from cosmos_eval.protocol.task_info import Refuse, TaskInfo

CUTOFFS = (1, 5, 10)
"""The k of recall@k where a definition does not say them."""
BOTH_WAYS = ("image_to_text_recall@1", "text_to_image_recall@1")


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """`image_to_text_recall@1`, ..., `text_to_image_median_rank`."""
    kinds = [*(f"recall@{k}" for k in metrics["k"]), "mean_rank", "median_rank"]
    return [f"{direction}_{kind}" for direction in ("image_to_text", "text_to_image") for kind in kinds]


def check_metrics(metrics: Mapping[str, Any], refuse: Refuse) -> None:
    for i, k in enumerate(metrics["k"]):
        if not isinstance(k, int) or isinstance(k, bool):
            raise refuse(("k", i), f"k[{i}] must be a whole number, not {k!r:.60}")
        if k < 1:
            raise refuse(("k", i), "a cut-off k is at least 1")
    if not metrics["k"] or sorted(set(metrics["k"])) != metrics["k"]:
        raise refuse(("k",), "k is a list of different cut-offs, the smallest first")
    if metrics.get("rerank", 1) < 1:
        raise refuse(("rerank",), "rerank is the number of candidates that are scored again, at least 1")


INFO = TaskInfo(
    name="retrieval",
    data=RETRIEVAL,
    run="cosmos_eval.tasks.retrieval.measure:run",
    validate="cosmos_eval.tasks.retrieval.measure:validate",
    metric_names=metric_names,
    summary="images find their captions and captions their image: recall@k, mean and median rank, both ways",
    title="Zero-shot image-text retrieval",
    headline=BOTH_WAYS,
    tested=BOTH_WAYS,
    default_metrics={"k": list(CUTOFFS)},
    metric_options={"k": list, "rerank": int},
    check_metrics=check_metrics,
    sample_keys=("direction", "query", "picture"),
    paired="cosmos_eval.tasks.retrieval.paired:paired",
    choices=lambda n: n["images"],
    model_index_task="image-text-retrieval",
    clip_benchmark_task="zeroshot_retrieval",
    clip_benchmark_metrics={
        "text_to_image_recall@": "image_retrieval_recall@",
        "image_to_text_recall@": "text_retrieval_recall@",
    },
)
