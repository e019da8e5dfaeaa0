"""Which queries of a retrieval benchmark and which items of a perception benchmark are worth a look."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cosmos_eval.datasets.data import PerceptionData, RetrievalData
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.comparisons import Reading, pair_numbers, pair_scores, readings
from cosmos_eval.metrics.similarity import plain_float32

BLOCK = 256
"""Queries that are scored at a time."""
SHOWN = 5
"""Candidates of a query."""


@dataclass(frozen=True)
class Query:
    """One query with its best candidates; `picture` tells whether the query is a picture (its candidates are texts)."""

    index: int
    picture: bool
    rank: int
    """Place of its best right candidate, from 1; equals count half (expected rank, rounded down)."""
    lead: float
    """Score of the best right candidate minus that of the best wrong one."""
    candidates: tuple[tuple[int, float, bool], ...]
    """(index, score, whether it is right), best first; the best right one is last where it is not among them."""


def retrieval_cases(data: RetrievalData, engine: Engine, count: int) -> dict[str, list[Query]]:
    """`best`, `worst` and `most confused` queries of each direction, as `DIRECTION, KIND`.

    Best: found, with the widest lead. Worst: the right candidate comes last. Most confused: a wrong candidate leads the
    right one by most.
    """
    images, texts = engine.image_features(data.pictures), engine.text_features(data.texts)
    owner = torch.as_tensor(data.text_picture, dtype=torch.int64)
    own = torch.arange(len(images))
    found = {}
    for name, query, candidates, of_query, of_candidate, picture in (
        ("image to text", images, texts, own, owner, True),
        ("text to image", texts, images, owner, own, False),
    ):
        ranks, leads = _places(query, candidates, of_query, of_candidate)
        orders = {
            "best": np.lexsort((-leads, ranks)),
            "worst": np.lexsort((leads, -ranks)),
            "most confused": np.argsort(leads, kind="stable"),
        }
        for kind, order in orders.items():
            found[f"{name}, {kind}"] = [
                _query(int(i), picture, ranks[i], leads[i], query, candidates, of_query, of_candidate)
                for i in order[:count]
            ]
    return found


def _places(query: Tensor, candidates: Tensor, of_query: Tensor, of_candidate: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(Q,) rank of the best right candidate, and its lead over the best wrong one."""
    ranks, leads = [], []
    for start in range(0, len(query), BLOCK):
        scores, right = _scores(query[start : start + BLOCK], candidates, of_query[start : start + BLOCK], of_candidate)
        best = scores.masked_fill(~right, -torch.inf).amax(1)
        wrong = scores.masked_fill(right, -torch.inf)
        better = (wrong > best[:, None]).sum(1)
        tied = (wrong == best[:, None]).sum(1)
        ranks.append(1 + better + tied // 2)
        leads.append(best - wrong.amax(1))
    return torch.cat(ranks).numpy(), torch.cat(leads).numpy()


def _scores(rows: Tensor, candidates: Tensor, of_rows: Tensor, of_candidate: Tensor) -> tuple[Tensor, Tensor]:
    with plain_float32():
        scores = (rows @ candidates.T).cpu()
    return scores, of_rows[:, None] == of_candidate[None, :]


def _query(
    index: int,
    picture: bool,
    rank: int,
    lead: float,
    query: Tensor,
    candidates: Tensor,
    of_query: Tensor,
    of_candidate: Tensor,
) -> Query:
    scores, right = (one[0] for one in _scores(query[[index]], candidates, of_query[[index]], of_candidate))
    order = scores.argsort(descending=True, stable=True)[:SHOWN].tolist()
    if not right[order].any():
        order[-1] = int(scores.masked_fill(~right, -torch.inf).argmax())
    listed = tuple((i, float(scores[i]), bool(right[i])) for i in order)
    return Query(index, picture, int(rank), float(lead), listed)


@dataclass(frozen=True)
class Item:
    """One item of a perception benchmark under one or two models."""

    index: int
    scores: tuple[np.ndarray, ...]
    """(m, n) cosines, one a model."""
    margins: tuple[float, ...]
    correct: tuple[bool, ...]


def perception_cases(
    data: PerceptionData, engines: Sequence[Engine], count: int, primary: str = ""
) -> tuple[str, dict[str, list[Item]]]:
    """The reading that decides, and items worth a look.

    One model: where it is right and wrong by most. Two: where one is right and the other is not, ordered by how far
    apart their margins are.

    Args:
        primary: the definition's primary metric; its reading decides (`macro_image_score`: `image_score`), by default
            the first of `cosmos_eval.metrics.comparisons`.
    """
    all_scores, read = [], []
    name = ""
    places = torch.from_numpy(data.item_images), torch.from_numpy(data.item_texts)
    for engine in engines:
        images, texts = engine.image_features(data.pictures), engine.text_features(data.texts)
        scores = pair_scores(images, texts, *places)
        found = readings(scores, pair_numbers(*places))
        name = reading_of(primary, list(found))
        all_scores.append(scores.numpy())
        read.append(found[name])

    def item(i: int) -> Item:
        return Item(
            i,
            tuple(scores[i] for scores in all_scores),
            tuple(float(one.margin[i]) for one in read),
            tuple(bool(one.strict[i] == 1) for one in read),
        )

    if len(engines) == 1:
        margins = read[0].margin.numpy()
        chosen = {
            "right by most": _where(read[0].strict.numpy() == 1, -margins, count),
            "wrong by most": _where(read[0].strict.numpy() < 1, margins, count),
        }
    else:
        chosen = {
            "the first is right, the second is not": _disagreement(read[0], read[1], count),
            "the second is right, the first is not": _disagreement(read[1], read[0], count),
        }
    return name, {kind: [item(i) for i in places] for kind, places in chosen.items()}


def reading_of(metric: str, readings: Sequence[str]) -> str:
    """The one of `readings` that a metric is made of: `asymmetric/macro_accuracy` is of `accuracy`; else the first."""
    own = metric.rpartition("/")[2].removeprefix("macro_").removesuffix("_expected")
    return own if own in readings else readings[0]


def _disagreement(right: Reading, wrong: Reading, count: int) -> list[int]:
    gap = (right.margin - wrong.margin).numpy()
    return _where((right.strict.numpy() == 1) & (wrong.strict.numpy() < 1), -gap, count)


def _where(holds: np.ndarray, order_by: np.ndarray, count: int) -> list[int]:
    places = np.flatnonzero(holds)
    return places[np.argsort(order_by[places], kind="stable")][:count].tolist()
