"""Scores as dot products of embeddings, as the model made them or transformed after the fact.

The transforms and their order are described in `cosmos_eval.protocol.feature_transforms`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.unit_features import image_name, text_name
from cosmos_eval.metrics.dual_softmax import DualSoftmax
from cosmos_eval.metrics.embedding_transforms import (
    binarize,
    center,
    int8_ranges,
    quantize_int8,
    restore_int8,
    truncate,
)
from cosmos_eval.metrics.item_accuracy import dot_products
from cosmos_eval.metrics.query_scores import DotProducts, QueryScores
from cosmos_eval.protocol.feature_transforms import BINARY, INT8, FeatureTransforms


@dataclass
class DotProductScores:
    """The dot product of (N, D) and (M, D) features of unit length, in float32."""

    image_features: Tensor
    text_features: Tensor
    averages_prompts: bool = field(default=True, init=False)

    def image_to_text(self) -> QueryScores:
        return DotProducts(self.image_features, self.text_features)

    def text_to_image(self) -> QueryScores:
        return DotProducts(self.text_features, self.image_features)

    def of_pairs(self, pairs: Tensor) -> Tensor:
        return dot_products(self.image_features, self.text_features, pairs)

    def of_classes(self, class_embeddings: Tensor) -> QueryScores:
        """Return the scores of the images as queries and classes (C, D) as candidates."""
        return replace(self, text_features=class_embeddings).image_to_text()


@dataclass
class TransformedScores(DotProductScores):
    """The dot product of embeddings that are transformed after the fact
    (`cosmos_eval.protocol.feature_transforms`).

    `image_features` and `text_features` are of unit length, truncated, and neither centred nor quantised: class
    embeddings are averaged from these, and collapsed features are recognised by them. Means and ranges are those of
    the images and of the texts (or classes) that are compared, each set by itself.
    """

    transforms: FeatureTransforms

    @cached_property
    def compared(self) -> DotProductScores:
        """The scores of the transformed embeddings, without the dual softmax."""
        return DotProductScores(*(self._transform(features) for features in (self.image_features, self.text_features)))

    def image_to_text(self) -> QueryScores:
        return self._revise(self.compared.image_to_text())

    def text_to_image(self) -> QueryScores:
        return self._revise(self.compared.text_to_image())

    def of_pairs(self, pairs: Tensor) -> Tensor:
        if self.transforms.dual_softmax is not None:
            raise RequestError(
                "the dual softmax revises a score by all queries of a direction, and so a pair of an image and a text "
                "has no score of its own; leave --dual-softmax out"
            )
        return self.compared.of_pairs(pairs)

    def _transform(self, features: Tensor) -> Tensor:
        if self.transforms.center:
            features = center(features)
        if self.transforms.quantize == INT8:
            ranges = int8_ranges(features)
            return restore_int8(quantize_int8(features, ranges), ranges)
        if self.transforms.quantize == BINARY:
            return binarize(features)
        return features

    def _revise(self, scores: QueryScores) -> QueryScores:
        scale = self.transforms.dual_softmax
        if scale is None:
            return scores
        # Dot products of signs are between -D and D, those of other embeddings between -1 and 1.
        is_binary = self.transforms.quantize == BINARY
        return DualSoftmax(scores, scale / self.image_features.shape[1] if is_binary else scale)


def transform_scores(
    scores: DotProductScores,
    transforms: FeatureTransforms,
    images: Sequence[ImageSource],
    texts: Sequence[str],
    spec: str,
) -> TransformedScores:
    """Return the scores of transformed embeddings.

    Args:
        scores: of the embeddings of `images` and `texts`.
        spec: of the model, for messages.

    Raises:
        RequestError: the embeddings have fewer dimensions than are to be kept, or those are all zero (names the first).
    """
    image_features, text_features = scores.image_features, scores.text_features
    if (dim := transforms.truncate_dim) is not None:
        image_features = _truncate(image_features, dim, lambda i: image_name(images[i]), spec)
        text_features = _truncate(text_features, dim, lambda j: text_name(texts[j]), spec)
    return TransformedScores(image_features, text_features, transforms)


def _truncate(features: Tensor, dim: int, name: Callable[[int], str], spec: str) -> Tensor:
    width = features.shape[1]
    if dim > width:
        raise RequestError(
            f"--truncate-dim {dim:,}: the embeddings of {spec} have {width:,} dimensions; give a number up to that"
        )
    truncated = truncate(features, dim)
    is_zero = (truncated == 0).all(1)
    if is_zero.any():
        raise RequestError(
            f"--truncate-dim {dim:,}: the first {dim:,} dimensions of the embedding of "
            f"{name(int(is_zero.nonzero()[0]))} are zero, so that it has no direction; keep more of them"
        )
    return truncated
