"""Zero-shot image-text retrieval: images find their captions, and captions find their image.

Protocol: every image is a query against all captions, and every caption against all images (Karpathy & Fei-Fei, CVPR
2015; zero-shot as in Radford et al., CLIP, 2021). An image has one or several positive captions, and a caption one or
several positive images. Images without a caption and texts without an image (distractors) are candidates, not queries.

Scored: image-text similarity as the model defines it. With `metrics.rerank: k`, a model that has embeddings and scores
pairs too scores the best k candidates of each query again (`cosmos_eval.engine.rerank`).

Reported, in both directions: recall@k, the share of queries with a positive among the first k candidates (any of the
positives counts); mean and median rank of the best-ranked positive, 1 is first; further metrics of `PER_QUERY`.

Ties: expectation over a random order of tied candidates (`cosmos_eval.metrics.ranks`). A model that scores everything
alike scores chance.

This file imports neither torch nor pandas, so that `--help`, `list` and checks of definitions are fast; `measure.py`
does the work, `paired.py` prepares the comparison of two models.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from cosmos_eval.datasets.kinds import RETRIEVAL
from cosmos_eval.protocol.feature_transforms import OF_RETRIEVAL
from cosmos_eval.protocol.task_info import Refuse, TaskInfo

if TYPE_CHECKING:
    from cosmos_eval.datasets.data import RetrievalData
    from cosmos_eval.engine.task_engine import TaskEngine
    from cosmos_eval.protocol.benchmark import Benchmark
    from cosmos_eval.tasks.outcome import Outcome

CUTOFFS = (1, 5, 10)
"""The k of recall@k if a definition has no `metrics.k`."""
DIRECTIONS = ("image_to_text", "text_to_image")
HEADLINE_METRICS = ("image_to_text_recall@1", "text_to_image_recall@1")
PER_QUERY: dict[str, Any] = {}
"""Further metrics: name -> a function `(ScoredQueries) -> (Q,)` values in [0, 1], higher is better, or its
`module:function`. Their means are reported in both directions (`image_to_text_NAME`), and `samples` gets a column NAME.
To add a metric, write the function and add a line here. The scoring version counts the lines, so that older results,
which lack the metric, are measured again."""


def metric_names(metrics: Mapping[str, Any], per_query: Mapping[str, Any] = PER_QUERY) -> list[str]:
    """All metrics that are reported: `image_to_text_recall@1`, ..., `text_to_image_median_rank`."""
    names = [*(f"recall@{k}" for k in metrics["k"]), "mean_rank", "median_rank", *per_query]
    return [f"{direction}_{name}" for direction in DIRECTIONS for name in names]


def check_metrics(metrics: Mapping[str, Any], refuse: Refuse) -> None:
    """Check `metrics` of a definition; raises the error that `refuse` makes of a key and a reason."""
    for i, k in enumerate(metrics["k"]):
        if not isinstance(k, int) or isinstance(k, bool):
            raise refuse(("k", i), f"k[{i}] must be a whole number, not {k!r:.60}")
        if k < 1:
            raise refuse(("k", i), "a cut-off k must be at least 1")
    if not metrics["k"] or sorted(set(metrics["k"])) != metrics["k"]:
        raise refuse(("k",), "k must be a list of different cut-offs, smallest first")
    if metrics.get("rerank", 1) < 1:
        raise refuse(("rerank",), "rerank is the number of candidates that are scored again; it must be at least 1")


def run(
    per_query: Mapping[str, Any], benchmark: "Benchmark", data: "RetrievalData", engine: "TaskEngine", seed: int = 0
) -> "Outcome":
    """Evaluate; see `measure.run`, imported only here because it imports torch."""
    from cosmos_eval.tasks.retrieval import measure

    return measure.run(benchmark, data, engine, seed, per_query)


def retrieval_info(name: str, per_query: Mapping[str, Any]) -> TaskInfo:
    """A task called `name`: retrieval with further metrics (see `PER_QUERY`). With it, a plug-in adds its own."""
    return TaskInfo(
        name=name,
        data=RETRIEVAL,
        run=partial(run, per_query),
        validate="cosmos_eval.tasks.retrieval.measure:validate",
        transforms=OF_RETRIEVAL,
        metric_names=partial(metric_names, per_query=per_query),
        scoring_version=1 + len(per_query),
        summary="images find their captions and captions their image: recall@k, mean and median rank",
        title="Zero-shot image-text retrieval",
        headline=HEADLINE_METRICS,
        tested=HEADLINE_METRICS,
        default_metrics={"k": list(CUTOFFS)},
        metric_options={"k": list, "rerank": int},
        check_metrics=check_metrics,
        sample_keys=("direction", "query", "image"),
        paired="cosmos_eval.tasks.retrieval.paired:paired",
        choices=lambda counts: counts["images"],
        model_index_task="image-text-retrieval",
        clip_benchmark_task="zeroshot_retrieval",
        clip_benchmark_metrics={
            "text_to_image_recall@": "image_retrieval_recall@",
            "image_to_text_recall@": "text_retrieval_recall@",
        },
    )


INFO = retrieval_info("retrieval", PER_QUERY)
