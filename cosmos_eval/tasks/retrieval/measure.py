"""Zero-shot retrieval: images find their captions and captions their image, both ways, ties in expectation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from cosmos_core.errors import RequestError
from cosmos_core.plugins import resolve
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import RetrievalData
from cosmos_eval.engine.features import Features
from cosmos_eval.engine.scores import PairScores, Scores
from cosmos_eval.engine.truncation import except_cut_alike
from cosmos_eval.metrics.ranks import expected_hit, expected_rank
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    refuse_index,
    refuse_lengths,
    refuse_two_spaces,
    refuse_unused,
)
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.retrieval import CUTOFFS, PER_QUERY
from cosmos_eval.tasks.retrieval.queries import Queries

PRIMARY = "image_to_text_recall@1"


def validate(benchmark: Benchmark, data: RetrievalData) -> None:
    """RequestError for a caption without an image, an image without a caption, or a metric that is not reported."""
    refuse_lengths(benchmark, texts=len(data.texts), places_of_texts=len(data.image_of_text))
    refuse_index(benchmark, data.image_of_text, len(data.images), "text", "image")
    refuse_unused(benchmark, data.image_of_text, [image.key for image in data.images], "images", "caption")
    primary_metric(benchmark, task_info(benchmark.task).metric_names({"k": cutoffs(benchmark)}), PRIMARY)
    rerank_of(benchmark)


def cutoffs(benchmark: Benchmark) -> list[int]:
    """The k of a protocol, ascending."""
    found = sorted({int(k) for k in benchmark.metrics.get("k", CUTOFFS)})
    if not found or found[0] < 1:
        raise RequestError(f"{benchmark.name}: metrics.k must be whole numbers from 1 on, got {found}")
    return found


def rerank_of(benchmark: Benchmark) -> int | None:
    """How many candidates of each query a model that scores pairs scores again; None: it scores all pairs."""
    k = benchmark.metrics.get("rerank")
    if k is not None and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
        raise RequestError(f"{benchmark.name}: metrics.rerank must be a whole number from 1 on, got {short_repr(k)}")
    return k


def run(
    benchmark: Benchmark,
    data: RetrievalData,
    engine: Features,
    seed: int = 0,
    per_query: Mapping[str, Any] = PER_QUERY,
) -> Outcome:
    """Recall at k, mean and median rank of the best-placed positive, in both directions.

    With `metrics.rerank` a model that has embeddings and `score_pairs` scores the best candidates of each query again
    (`cosmos_eval.engine.rerank`).

    Args:
        per_query: further metrics, see `cosmos_eval.tasks.retrieval.PER_QUERY`.

    `samples` has a row for each query: `direction`, `query` (the image's key, or the text's index in the dataset),
    `image` (the key that the sample hangs on), `rank` (expected), `hit@k` (in [0, 1]) and a column for each of
    `per_query`.
    """
    rerank = rerank_of(benchmark)
    scores = engine.score(data.images, data.texts, rerank=rerank)
    refuse_two_spaces(benchmark, scores)
    k = cutoffs(benchmark)
    images, texts = len(data.images), len(data.texts)
    image_of_text = torch.as_tensor(data.image_of_text, dtype=torch.int64)
    text = torch.arange(texts)
    keys = np.array([image.key for image in data.images], dtype=object)
    sides = {
        "image_to_text": (
            Queries.of(scores.image_to_text(), image_of_text, text, texts),
            np.arange(images),
            keys,
        ),
        "text_to_image": (
            Queries.of(scores.text_to_image(), text, image_of_text, images),
            image_of_text.numpy(),
            np.array([str(j) for j in range(texts)], dtype=object),
        ),
    }
    measured = Measured(images)
    frames = []
    for direction, (queries, image, names) in sides.items():
        rank = expected_rank(queries.places).numpy()
        hits = {f"hit@{n}": expected_hit(queries.places, n).numpy() for n in k}
        for n in k:
            measured.mean(f"{direction}_recall@{n}", hits[f"hit@{n}"], image)
        measured.mean_rank(f"{direction}_mean_rank", rank, image, (queries.candidates + 1) / 2)
        measured.median_rank(f"{direction}_median_rank", rank, image, queries.candidates)
        further = {name: queries.measured(name, resolve(function)) for name, function in per_query.items()}
        for name, values in further.items():
            measured.mean(f"{direction}_{name}", values, image)
        columns = {"query": names, "image": keys[image], "rank": rank, **hits, **further}
        frames.append(pd.DataFrame({"direction": direction, **columns}))
    metrics = measured.metrics(seed)
    return Outcome(
        metrics=metrics,
        samples=pd.concat(frames, ignore_index=True),
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=(
            *collapse_warnings(
                {"images": scores.image_features, "texts": scores.text_features}, except_cut_alike(engine, "texts")
            ),
            *_rerank_remarks(scores, rerank),
        ),
    )


def _rerank_remarks(scores: Scores, rerank: int | None) -> tuple[str, ...]:
    """What a model did with `rerank: k`, where that was not to score the first k again."""
    if rerank is None or (isinstance(scores, PairScores) and scores.rerank is not None):
        return ()
    if isinstance(scores, PairScores):
        return (f"rerank: {rerank} was not needed: the model has no embeddings, and all pairs were scored",)
    return (f"rerank: {rerank} had no effect: the model has no score_pairs",)
