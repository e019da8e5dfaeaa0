"""Choose what galleries show: queries of a retrieval benchmark, and items of a perception benchmark."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cosmos_eval.datasets.data import PerceptionData, RetrievalData
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.item_accuracy import compute_correctness, list_item_pairs, number_pairs
from cosmos_eval.metrics.item_correctness import ItemCorrectness
from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.metrics.similarity import BLOCK_BYTES

SHOWN = 5
"""Candidates shown for each query."""


@dataclass(frozen=True)
class Query:
    """One query with its best candidates."""

    index: int
    is_image: bool
    """Whether the query is an image and its candidates are texts, or the other way."""
    rank: int
    """Rank of its best right candidate, from 1; tied wrong candidates count half (expected rank, rounded down)."""
    lead: float
    """Score of the best right candidate minus that of the best wrong one."""
    candidates: tuple[tuple[int, float, bool], ...]
    """(index, score, whether it is right), best first; the best right one is last if it is not among these."""


def retrieval_cases(data: RetrievalData, engine: Engine, count: int) -> dict[str, list[Query]]:
    """Choose the `best`, `worst` and `most confused` queries of each direction, as `DIRECTION, KIND`.

    Best: rank 1 with the largest lead. Worst: the lowest rank. Most confused: a wrong candidate scores above the right
    one by the largest margin.
    """
    scores = engine.score(data.images, data.texts)
    images, texts = torch.from_numpy(data.pairs).unbind(1)
    cases = {}
    for name, of_direction, of_query, of_candidate, is_image in (
        ("image to text", scores.image_to_text(), images, texts, True),
        ("text to image", scores.text_to_image(), texts, images, False),
    ):
        ranks, leads = _ranks_and_leads(of_direction, of_query, of_candidate)
        with_positive = of_query.unique().numpy()
        of_ranks, of_leads = ranks[with_positive], leads[with_positive]
        orders = {
            "best": with_positive[np.lexsort((-of_leads, of_ranks))],
            "worst": with_positive[np.lexsort((of_leads, -of_ranks))],
            "most confused": with_positive[np.argsort(of_leads, kind="stable")],
        }
        chosen = {kind: order[:count].tolist() for kind, order in orders.items()}
        chosen_scores = _scores_of(of_direction, {i for queries in chosen.values() for i in queries})
        for kind, queries in chosen.items():
            cases[f"{name}, {kind}"] = [
                _make_query(
                    i,
                    is_image,
                    ranks[i],
                    leads[i],
                    chosen_scores[i],
                    _right_candidates(i, of_query, of_candidate, len(chosen_scores[i])),
                )
                for i in queries
            ]
    return cases


def _ranks_and_leads(scores: QueryScores, of_query: Tensor, of_candidate: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(Q,) rank of the best right candidate, and its lead over the best wrong one; of no use where a query has none.

    Args:
        of_query, of_candidate: (P,) query and candidate of each pair that is right.
    """
    ranks, leads = [], []
    for start, stop, block in _blocks(scores):
        right = torch.zeros(block.shape, dtype=torch.bool)
        is_here = (of_query >= start) & (of_query < stop)
        right[of_query[is_here] - start, of_candidate[is_here]] = True
        best = block.masked_fill(~right, -torch.inf).amax(1)
        wrong = block.masked_fill(right, -torch.inf)
        better = (wrong > best[:, None]).sum(1)
        tied = (wrong == best[:, None]).sum(1)
        ranks.append(1 + better + tied // 2)
        leads.append(best - wrong.amax(1))
    return torch.cat(ranks).numpy(), torch.cat(leads).numpy()


def _right_candidates(query: int, of_query: Tensor, of_candidate: Tensor, count: int) -> Tensor:
    """(count,) bool, which candidates are right for a query."""
    right = torch.zeros(count, dtype=torch.bool)
    right[of_candidate[of_query == query]] = True
    return right


def _blocks(scores: QueryScores) -> Iterator[tuple[int, int, Tensor]]:
    """start, stop and (stop - start, C) scores on the CPU of all candidates, duplicates included."""
    for start, stop, block in scores.blocks(BLOCK_BYTES // 8):
        yield start, stop, block.cpu()[:, scores.column.cpu()]


def _scores_of(scores: QueryScores, queries: set[int]) -> dict[int, Tensor]:
    """(C,) scores of each of `queries`."""
    return {i: block[i - start] for start, stop, block in _blocks(scores) for i in queries & set(range(start, stop))}


def _make_query(index: int, is_image: bool, rank: int, lead: float, scores: Tensor, right: Tensor) -> Query:
    order = scores.argsort(descending=True, stable=True)[:SHOWN].tolist()
    if not right[order].any():
        order[-1] = int(scores.masked_fill(~right, -torch.inf).argmax())
    listed = tuple((i, float(scores[i]), bool(right[i])) for i in order)
    return Query(index, is_image, int(rank), float(lead), listed)


@dataclass(frozen=True)
class Item:
    """One item of a perception benchmark under one or two models."""

    index: int
    scores: tuple[np.ndarray, ...]
    """(m, n) scores of m images and n texts, for each model."""
    margins: tuple[float, ...]
    correct: tuple[bool, ...]


def perception_cases(
    data: PerceptionData, engines: Sequence[Engine], count: int, primary: str = ""
) -> tuple[str, dict[str, list[Item]]]:
    """Choose items; returns the reading that decides, and the items of each kind.

    One model: where it is right and wrong by the largest margin. Two models: where one is right and the other is not,
    ordered by the difference of their margins.

    Args:
        primary: the definition's primary metric; its reading decides (`macro_image_score`: `image_score`), by default
            the first of `cosmos_eval.metrics.item_accuracy`.
    """
    all_scores, readings = [], []
    name = ""
    item_indices = torch.from_numpy(data.item_images), torch.from_numpy(data.item_texts)
    for engine in engines:
        of_pairs = engine.score_pairs(data.images, data.texts, list_item_pairs(*item_indices))
        scores = of_pairs.view(-1, item_indices[0].shape[1], item_indices[1].shape[1])
        item_readings = compute_correctness(scores, number_pairs(*item_indices), right_texts=data.right_texts)
        name = reading_of(primary, list(item_readings))
        all_scores.append(scores.numpy())
        readings.append(item_readings[name])

    def item(i: int) -> Item:
        return Item(
            i,
            tuple(scores[i] for scores in all_scores),
            tuple(float(correctness.margin[i]) for correctness in readings),
            tuple(bool(correctness.strict[i] == 1) for correctness in readings),
        )

    if len(engines) == 1:
        margins = readings[0].margin.numpy()
        chosen = {
            "right by most": _first_where(readings[0].strict.numpy() == 1, -margins, count),
            "wrong by most": _first_where(readings[0].strict.numpy() < 1, margins, count),
        }
    else:
        chosen = {
            "the first is right, the second is not": _disagreement(readings[0], readings[1], count),
            "the second is right, the first is not": _disagreement(readings[1], readings[0], count),
        }
    return name, {kind: [item(i) for i in indices] for kind, indices in chosen.items()}


def reading_of(metric: str, readings: Sequence[str]) -> str:
    """The reading behind a metric (`asymmetric/macro_accuracy`: `accuracy`), else the first of `readings`."""
    reading = metric.rpartition("/")[2].removeprefix("macro_").removesuffix("_expected")
    return reading if reading in readings else readings[0]


def _disagreement(right: ItemCorrectness, wrong: ItemCorrectness, count: int) -> list[int]:
    gap = (right.margin - wrong.margin).numpy()
    return _first_where((right.strict.numpy() == 1) & (wrong.strict.numpy() < 1), -gap, count)


def _first_where(holds: np.ndarray, order_by: np.ndarray, count: int) -> list[int]:
    indices = np.flatnonzero(holds)
    return indices[np.argsort(order_by[indices], kind="stable")][:count].tolist()
