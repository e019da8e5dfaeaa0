"""Right or wrong text for a picture (SugarCrepe, Hsieh et al., 2023): the right one must score strictly higher.

The authors rule strictly and report the seven subsets; their overall number is the mean over items, other papers print
the mean over subsets. Both are here, and beside each its expectation with a tie as one half (`..._expected`): a model
whose texts all look alike gets 0 by the first and chance by the second; `argmax` over (right, wrong) would give it 1.
"""

import numpy as np
import pandas as pd
import torch

from cosmos_eval import metric_names
from cosmos_eval.datasets.base import PerceptionData
from cosmos_eval.engine.features import Features
from cosmos_eval.metrics.accuracy import compare_pairs
from cosmos_eval.protocol import Benchmark
from cosmos_eval.tasks.common import Measured, collapse_warnings, primary_metric, refuse_index, refuse_lengths
from cosmos_eval.tasks.outcome import Outcome

DATA = PerceptionData
PRIMARY = "accuracy"


def validate(benchmark: Benchmark, data: PerceptionData) -> None:
    """RequestError for an item without a picture, lists of different lengths, or a metric that is not reported."""
    refuse_lengths(
        benchmark,
        positives=len(data.positives),
        negatives=len(data.negatives),
        places_of_items=len(data.item_picture),
        subsets=len(data.subsets),
    )
    refuse_index(benchmark, data.item_picture, len(data.pictures), "item", "picture")
    primary_metric(benchmark, metric_names.perception(_subsets(data)), PRIMARY)


def run(benchmark: Benchmark, data: PerceptionData, engine: Features, seed: int = 0) -> Outcome:
    """Accuracy over subsets, items and pictures.

    `samples` has a row for each item: `item` (its index in the dataset), `subset`, `picture`, `positive_score` and
    `negative_score` (cosines), `margin`, `correct` (0 or 1, strict) and `expected` (a tie is one half).
    """
    images = engine.image_features(data.pictures)
    texts = engine.text_features([*data.positives, *data.negatives])
    item_picture = np.asarray(data.item_picture, dtype=np.int64)
    positive, negative = texts.split(len(data.positives))
    pairs = compare_pairs(images[torch.from_numpy(item_picture).to(images.device)], positive, negative)
    readings = {"": pairs.strict.numpy(), "_expected": pairs.expected.numpy()}
    subsets = _subsets(data)
    names = np.array(data.subsets, dtype=object)
    labels = np.array([subsets.index(subset) for subset in data.subsets])
    measured = Measured(len(images))
    for suffix, values in readings.items():
        for subset in subsets:
            of_subset = names == subset
            measured.mean(f"{subset}/accuracy{suffix}", values[of_subset], item_picture[of_subset])
        measured.mean(f"accuracy{suffix}", values, item_picture)
        measured.mean_per_class(f"macro_accuracy{suffix}", values, labels, item_picture)
    metrics = measured.metrics(seed)
    samples = pd.DataFrame(
        {
            "item": np.arange(len(labels)),
            "subset": names,
            "picture": [data.pictures[i].key for i in item_picture],
            "positive_score": pairs.right.numpy(),
            "negative_score": pairs.wrong.numpy(),
            "margin": (pairs.right - pairs.wrong).numpy(),
            "correct": readings[""],
            "expected": readings["_expected"],
        }
    )
    return Outcome(
        metrics=metrics,
        samples=samples,
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=collapse_warnings({"pictures": images, "texts": texts}),
    )


def _subsets(data: PerceptionData) -> list[str]:
    """In order of first appearance."""
    return list(dict.fromkeys(data.subsets))
