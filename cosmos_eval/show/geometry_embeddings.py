"""The embeddings of a benchmark for `show geometry`, with what belongs together."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.data import ClassificationData, RetrievalData
from cosmos_eval.datasets.data.retrieval import NO_IMAGE
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.prompts import ClassPrompts, score_classes

Shown = ClassificationData | RetrievalData


@dataclass(frozen=True)
class PairedEmbeddings:
    """The embeddings of a benchmark, and what belongs together. Units, which intervals resample, are images; a text
    goes with its first image, and one without an image is a unit of its own, numbered from N."""

    images: torch.Tensor
    """(N, D) of unit length."""
    texts: torch.Tensor
    """(M, D) of unit length: captions or classes."""
    pairs: np.ndarray
    """(P, 2) int64, index of an image and of a text that belong together."""
    queries: QueryScores
    """Images against classes, or captions against images."""
    right: np.ndarray
    """(P, 2) int64, index of a query and of a right candidate."""
    query_unit: np.ndarray
    """(Q,) int64, the unit of each query."""
    text_unit: np.ndarray | None
    """(M,) int64, the unit of each caption; None for classes, which the benchmark fixes."""
    of_images: QueryScores
    """Images against texts."""
    matching: np.ndarray
    """(P,) similarity of each pair."""
    shuffled: np.ndarray
    """(S,) similarity of the image of a pair and the text of another pair that is of another text."""
    shuffled_pairs: np.ndarray
    """(S, 2) int64, index of the image and of the text of each."""


def encode_pairs(engine: Engine, data: Shown, definition: Benchmark) -> PairedEmbeddings:
    """Encode the data."""
    if isinstance(data, ClassificationData):
        if not data.templates:
            raise RequestError(
                f"{definition.name} has the task {definition.task} and no templates in prompts, which show geometry "
                "needs; write a definition of the task classification, with class names and templates of one language"
            )
        prompts = ClassPrompts.from_templates(data.class_names, data.templates)
        scores = engine.score(data.images, prompts.texts)
        _require_embeddings(scores.image_features, scores.averages_prompts, engine, definition)
        queries, texts = score_classes(scores, prompts)
        of_images = queries
        pairs = np.stack([np.arange(len(data.images)), np.asarray(data.labels, dtype=np.int64)], axis=1)
        right = pairs
        query_unit, text_unit = np.arange(len(data.images)), None
    else:
        scores = engine.score(data.images, data.texts)
        _require_embeddings(scores.image_features, scores.averages_prompts, engine, definition)
        queries, of_images, texts = scores.text_to_image(), scores.image_to_text(), scores.text_features
        pairs = data.pairs
        right = pairs[:, ::-1].copy()
        own_units = len(data.images) + np.arange(len(data.texts))
        query_unit = text_unit = np.where(data.image_of_text == NO_IMAGE, own_units, data.image_of_text)
    images = scores.image_features
    assert images is not None
    assert texts is not None
    other_text = np.roll(pairs[:, 1], len(pairs) // 2)
    shuffled_pairs = np.stack([pairs[:, 0], other_text], axis=1)[other_text != pairs[:, 1]]
    return PairedEmbeddings(
        images,
        texts,
        pairs,
        queries,
        right,
        query_unit,
        text_unit,
        of_images,
        _similarities(images, texts, pairs),
        _similarities(images, texts, shuffled_pairs),
        shuffled_pairs,
    )


def _require_embeddings(features: Any, by_dot_product: bool, engine: Engine, definition: Benchmark) -> None:
    if features is None or not by_dot_product or features.ndim != 2:
        raise RequestError(
            f"{definition.name}: {engine.model.spec} does not score by the dot product of one embedding for each "
            "input; show geometry needs such a model"
        )


def _similarities(images: torch.Tensor, texts: torch.Tensor, pairs: np.ndarray) -> np.ndarray:
    """(P,) dot products of the images and texts of (P, 2) pairs."""
    image, text = (torch.from_numpy(np.ascontiguousarray(index)) for index in pairs.T)
    return (images[image.to(images.device)].float() * texts[text.to(texts.device)].float()).sum(1).cpu().numpy()
