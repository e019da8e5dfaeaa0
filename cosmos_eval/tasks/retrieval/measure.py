"""Evaluates zero-shot retrieval; protocol and tie rule are described in `cosmos_eval.tasks.retrieval`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.plugins import resolve
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.data import RetrievalData
from cosmos_eval.datasets.data.retrieval import NO_IMAGE
from cosmos_eval.engine.scores import PairScores, Scores
from cosmos_eval.engine.task_engine import TaskEngine
from cosmos_eval.engine.truncation import truncated_alike
from cosmos_eval.metrics.query_scores import QueryScores, SelectedQueries
from cosmos_eval.metrics.ranks import expected_hit, expected_rank
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    require_all_used,
    require_equal_lengths,
    require_no_problems,
    require_valid_index,
)
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.retrieval import CUTOFFS, PER_QUERY
from cosmos_eval.tasks.retrieval.queries import ScoredQueries, compute_query_metric, rank_queries

PRIMARY = "image_to_text_recall@1"
"""The primary metric if a definition names none."""


def validate(benchmark: Benchmark, data: RetrievalData) -> None:
    """Check that retrieval can be evaluated on this data.

    Raises:
        RequestError: a caption without an image or an image without a caption (unless these are allowed), what
            `RetrievalData.problems` finds, bad options of `metrics`, or a primary metric that is not reported.
    """
    require_equal_lengths(benchmark, texts=len(data.texts), image_numbers_of_texts=len(data.image_of_text))
    linked = data.image_of_text[data.image_of_text != NO_IMAGE] if data.distractors_allowed else data.image_of_text
    require_valid_index(benchmark, linked, len(data.images), "text", "image")
    if not data.distractors_allowed:
        require_all_used(benchmark, data.pairs[:, 0], [image.key for image in data.images], "images", "caption")
    require_no_problems(benchmark, data)
    primary_metric(benchmark, task_info(benchmark.task).metric_names({"k": cutoffs(benchmark)}), PRIMARY)
    rerank_of(benchmark)


def cutoffs(benchmark: Benchmark) -> list[int]:
    """The k of recall@k in ascending order; RequestError where `metrics.k` is not a list of positive numbers."""
    ks = sorted({int(k) for k in benchmark.metrics.get("k", CUTOFFS)})
    if not ks or ks[0] < 1:
        raise RequestError(f"{benchmark.name}: metrics.k must be whole numbers of at least 1, got {ks}")
    return ks


def rerank_of(benchmark: Benchmark) -> int | None:
    """`metrics.rerank`: how many candidates of each query are scored again as pairs; None scores all pairs."""
    k = benchmark.metrics.get("rerank")
    if k is not None and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
        raise RequestError(
            f"{benchmark.name}: metrics.rerank must be a whole number of at least 1, got {short_repr(k)}"
        )
    return k


def run(
    benchmark: Benchmark,
    data: RetrievalData,
    engine: TaskEngine,
    seed: int = 0,
    per_query: Mapping[str, Any] = PER_QUERY,
) -> Outcome:
    """Evaluate a model on a retrieval benchmark, in both directions.

    `samples` has one row per query:

    - `direction`: `image_to_text` or `text_to_image`
    - `query`: the image's key, or the text's index in the dataset
    - `image`: key of the image that the query belongs to (the first one of a text that belongs to several), the unit
      that intervals and paired tests resample
    - `rank`: expected rank of the best positive
    - `hit@k`: probability in [0, 1] that a positive is among the first k
    - one column for each of `per_query`.

    Args:
        seed: seed of the bootstrap resampling.
        per_query: further metrics, see `cosmos_eval.tasks.retrieval.PER_QUERY`.
    """
    rerank = rerank_of(benchmark)
    scores = engine.score(data.images, data.texts, rerank=rerank)
    image_count, text_count = len(data.images), len(data.texts)
    pair_images, pair_texts = (torch.from_numpy(indices) for indices in np.ascontiguousarray(data.pairs.T))
    query_images, query_texts = pair_images.unique(), pair_texts.unique()
    image_keys = np.array([image.key for image in data.images], dtype=object)
    text_indices = np.array([str(j) for j in range(text_count)], dtype=object)

    # The positive pairs are the same in both directions.
    images_as_queries = rank_queries(
        *_select(scores.image_to_text(), query_images, pair_images), pair_texts, text_count
    )
    texts_as_queries = rank_queries(*_select(scores.text_to_image(), query_texts, pair_texts), pair_images, image_count)

    image_queries, text_queries = query_images.numpy(), query_texts.numpy()
    measured = Measured(image_count)
    frames = []
    for direction, queries, query_names, image_of_query in (
        ("image_to_text", images_as_queries, image_keys[image_queries], image_queries),
        ("text_to_image", texts_as_queries, text_indices[text_queries], data.image_of_text[text_queries]),
    ):
        columns = _measure_direction(measured, direction, queries, image_of_query, cutoffs(benchmark), per_query)
        names = {"direction": direction, "query": query_names, "image": image_keys[image_of_query]}
        frames.append(pd.DataFrame({**names, **columns}))
    metrics = measured.metrics(seed)
    features = {"images": scores.image_features, "texts": scores.text_features}
    return Outcome(
        metrics=metrics,
        samples=pd.concat(frames, ignore_index=True),
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=(
            *collapse_warnings(features, truncated_alike(engine, "texts")),
            *_rerank_warnings(scores, rerank),
        ),
    )


def _select(scores: QueryScores, queries: Tensor, positive_query: Tensor) -> tuple[QueryScores, Tensor]:
    """Leave out the queries without a positive; they are few or none, and stay candidates of the other direction.

    Args:
        scores: of all queries.
        queries: (S,) those with a positive, ascending.
        positive_query: (P,) query of each positive pair.

    Returns:
        Scores of the S queries, and the query of each pair in their numbering.
    """
    if len(queries) == scores.query_count:
        return scores, positive_query
    return SelectedQueries(scores, queries), torch.searchsorted(queries, positive_query)


def _measure_direction(
    measured: Measured,
    direction: str,
    queries: ScoredQueries,
    image_of_query: np.ndarray,
    ks: Sequence[int],
    per_query: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Add the metrics of one direction to `measured`; returns the (Q,) columns that they are computed from."""
    rank = expected_rank(queries.rank_counts).numpy()
    hits = {k: expected_hit(queries.rank_counts, k).numpy() for k in ks}
    for k in ks:
        measured.mean(f"{direction}_recall@{k}", hits[k], image_of_query)
    chance_rank = (queries.candidates + 1) / 2
    measured.mean_rank(f"{direction}_mean_rank", rank, image_of_query, chance_rank)
    measured.median_rank(f"{direction}_median_rank", rank, image_of_query, queries.candidates)
    further = {name: compute_query_metric(name, resolve(metric), queries) for name, metric in per_query.items()}
    for name, values in further.items():
        measured.mean(f"{direction}_{name}", values, image_of_query)
    return {"rank": rank, **{f"hit@{k}": hits[k] for k in ks}, **further}


def _rerank_warnings(scores: Scores, rerank: int | None) -> tuple[str, ...]:
    """A warning if a definition sets `metrics.rerank` but the model cannot be reranked."""
    if rerank is None or (isinstance(scores, PairScores) and scores.rerank is not None):
        return ()
    if isinstance(scores, PairScores):
        return (f"rerank: {rerank} was not needed: the model has no embeddings, and all pairs were scored",)
    return (f"rerank: {rerank} had no effect: the model has no score_pairs",)
