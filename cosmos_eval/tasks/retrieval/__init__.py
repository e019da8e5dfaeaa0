"""Zero-shot retrieval: images find their captions and captions their image."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from cosmos_eval.datasets.kinds import RETRIEVAL
from cosmos_eval.protocol.task_info import Refuse, TaskInfo

if TYPE_CHECKING:
    from cosmos_eval.datasets.data import RetrievalData
    from cosmos_eval.engine.features import Features
    from cosmos_eval.protocol.benchmark import Benchmark
    from cosmos_eval.tasks.outcome import Outcome

CUTOFFS = (1, 5, 10)
"""The k of recall@k where a definition does not say them."""
DIRECTIONS = ("image_to_text", "text_to_image")
BOTH_WAYS = ("image_to_text_recall@1", "text_to_image_recall@1")
PER_QUERY: dict[str, Any] = {}
"""Further metrics: name -> `(Queries) -> (Q,)` numbers in [0, 1], more is better, or its `module:function`. Their means
are reported both ways (`image_to_text_NAME`), and `samples` has a column NAME. A new metric is a function and a line
here; results of before are then measured again, since the scoring version counts the lines."""


def metric_names(metrics: Mapping[str, Any], per_query: Mapping[str, Any] = PER_QUERY) -> list[str]:
    """`image_to_text_recall@1`, ..., `text_to_image_median_rank`."""
    kinds = [*(f"recall@{k}" for k in metrics["k"]), "mean_rank", "median_rank", *per_query]
    return [f"{direction}_{kind}" for direction in DIRECTIONS for kind in kinds]


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


def run(
    per_query: Mapping[str, Any], benchmark: "Benchmark", data: "RetrievalData", engine: "Features", seed: int = 0
) -> "Outcome":
    """See measure.py, which imports torch."""
    from cosmos_eval.tasks.retrieval import measure

    return measure.run(benchmark, data, engine, seed, per_query)


def retrieval_info(name: str, per_query: Mapping[str, Any]) -> TaskInfo:
    """Retrieval with further metrics (see `PER_QUERY`), as a task called `name`: a plug-in adds its own this way."""
    return TaskInfo(
        name=name,
        data=RETRIEVAL,
        run=partial(run, per_query),
        validate="cosmos_eval.tasks.retrieval.measure:validate",
        metric_names=partial(metric_names, per_query=per_query),
        scoring_version=1 + len(per_query),
        summary="images find their captions and captions their image: recall@k, mean and median rank, both ways",
        title="Zero-shot image-text retrieval",
        headline=BOTH_WAYS,
        tested=BOTH_WAYS,
        default_metrics={"k": list(CUTOFFS)},
        metric_options={"k": list, "rerank": int},
        check_metrics=check_metrics,
        sample_keys=("direction", "query", "image"),
        paired="cosmos_eval.tasks.retrieval.paired:paired",
        choices=lambda n: n["images"],
        model_index_task="image-text-retrieval",
        clip_benchmark_task="zeroshot_retrieval",
        clip_benchmark_metrics={
            "text_to_image_recall@": "image_retrieval_recall@",
            "image_to_text_recall@": "text_retrieval_recall@",
        },
    )


INFO = retrieval_info("retrieval", PER_QUERY)
