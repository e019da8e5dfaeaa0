"""Probes of image features: linear probe, few-shot classification and nearest neighbours, on labelled train images.

No texts are needed. The features are those of the engine, of unit length, in the model's embedding space.

Linear probe (Radford et al., CLIP, 2021, A.3): multinomial logistic regression by L-BFGS. The strength of its
regularisation is chosen on the split `val`, or on a fifth of the train images of each class where there is no such
split; then the train and validation images are fitted together (`cosmos_eval.metrics.strength_search`). CLIP takes
features before the projection into the embedding space, which other libraries do not give in one way; so figures are
comparable with clip-benchmark's, and close to but not equal to CLIP's.

Few-shot (big_vision's `fewshot_lsr`): regularised least squares on K random images of each class, for several seeds
(`cosmos_eval.metrics.least_squares`).

Nearest neighbours (DINO): the k most similar train images vote (`cosmos_eval.metrics.nearest_neighbours`).

Few-shot and neighbours take the train and validation images, too, as nothing is chosen on them.

Reported: of the linear probe `top1`, `top5` and `mean_per_class`, as in classification; `few_shot_K`, the top-1 for K
images of each class, mean over seeds; `knn_K`, the top-1 for K neighbours. `few_shot_K` is reported if a class has K
train images, `knn_K` if there are K.

Intervals resample test images; those of few-shot also the seeds. What the train images contribute otherwise is not in
them: they are part of the protocol.

Ties: expectation over a random order of tied classes. A model that makes all images alike scores chance where the
classes have equally many train images, and else what the most frequent class scores.
"""

from collections.abc import Mapping
from typing import Any

from cosmos_eval.datasets.kinds import CLASSIFICATION
from cosmos_eval.protocol.task_info import Refuse, TaskInfo

TOP_K = 5
"""The k of `top5`, which is reported if there are at least k classes."""
FEW_SHOT, KNN = "few_shot_", "knn_"
"""Beginnings of the names of metrics, before their K."""
DEFAULTS: dict[str, Any] = {"shots": [1, 2, 4, 8, 16], "seeds": 3, "neighbours": [10, 20, 100, 200]}
"""Numbers of images of each class, seeds of each (as in big_vision), and numbers of neighbours (as in DINO)."""
MOST_SEEDS = 1000
"""Each is a fit for each number of shots."""


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """All metrics that may be reported with these `shots` and `neighbours`."""
    few_shot = [f"{FEW_SHOT}{shots}" for shots in metrics["shots"]]
    return ["top1", "top5", "mean_per_class", *few_shot, *(f"{KNN}{k}" for k in metrics["neighbours"])]


def check_metrics(metrics: Mapping[str, Any], refuse: Refuse) -> None:
    """Check `shots`, `seeds` and `neighbours`.

    Raises:
        RequestError: not whole numbers of at least 1, or one twice.
    """
    for key in ("shots", "neighbours"):
        values = metrics[key]
        for i, value in enumerate(values):
            if not _is_count(value):
                raise refuse((key, i), f"{key} must be whole numbers of at least 1")
            if value in values[:i]:
                raise refuse((key, i), f"{key} has {value} twice")
    if not _is_count(metrics["seeds"]) or metrics["seeds"] > MOST_SEEDS:
        raise refuse(("seeds",), f"seeds must be a number of seeds, from 1 to {MOST_SEEDS:,}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


INFO = TaskInfo(
    name="probe",
    data=CLASSIFICATION,
    run="cosmos_eval.tasks.probe.measure:run",
    validate="cosmos_eval.tasks.probe.measure:validate",
    metric_names=metric_names,
    summary="linear probe, few-shot and nearest neighbours on train images: top-1 and mean per-class accuracy",
    title="Image classification",
    default_metrics=DEFAULTS,
    metric_options={"shots": list, "seeds": int, "neighbours": list},
    check_metrics=check_metrics,
    splits=("train",),
    optional_splits=("val",),
    sample_keys=("image", "label"),
    paired="cosmos_eval.tasks.probe.paired:paired",
    choices=lambda counts: counts["classes"],
    model_index_task="image-classification",
    scoring_version=2,  # from 2 on, the search may choose another strength of about equal accuracy
)
