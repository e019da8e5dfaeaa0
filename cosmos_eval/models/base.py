"""Protocols of model adapters: what a model has that embeds images and texts, scores pairs, or gives patches."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.attention_maps import AttentionMaps


@runtime_checkable
class LoadedModel(Protocol):
    """What every adapter has, however its model scores images and texts: see `Model` and `PairScorer`."""

    spec: str
    """The spec it was loaded from. It is for messages and tables only: `digest` is what identifies the model."""
    device: torch.device

    @property
    def digest(self) -> str:
        """Identifies weights, architecture, tokenizer and preprocessing; empty if unknown (then nothing is cached)."""
        ...

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        """From an RGB image to a float tensor (3, H, W); picklable, because worker processes call it."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a result records of the model, as JSON values.

        These are `arch`, `activation`, `tokenizer`, `context_length`, `image_size`, `resize`, `parameters` and whatever
        else influences the embeddings.
        """
        ...


@runtime_checkable
class Model(LoadedModel, Protocol):
    """A model that embeds images and texts; its score is the dot product of the two embeddings at unit length.

    Optional attributes that the engine uses instead of the encoders:

    - `trimmed_text` in place of `encode_text`, for a text tower that reads no further than the end token of each text
      (`cosmos_eval.models.trimmed_text`);
    - `read_image_embeddings(images)` and `read_text_embeddings(texts)` in place of both encoders, for embeddings
      that are stored already.
    """

    def encode_image(self, x: Tensor) -> Tensor:
        """Embed a batch of images.

        Args:
            x: (B, 3, H, W) as `preprocess` makes it.

        Returns:
            (B, D) float32, unnormalised, on `device`, without gradients. A model with `similarity` may return
            (B, L, D).
        """
        ...

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed B texts: (B, D) float32, unnormalised, on `device`, without gradients."""
        ...


@runtime_checkable
class SimilarityModel(Model, Protocol):
    """A model with its own score: late interaction, text-conditioned pooling, or another temperature or norm.

    Its features may have any shape of at least two dimensions, such as (N, L, D) if it keeps tokens; all images have
    one shape, and all texts have one shape. The engine normalises the last dimension to unit length. Vectors of zeros
    stay zeros, so that they can serve as padding.
    """

    def similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """Score each image with each text.

        The engine calls it in blocks of any size, so the score of a pair must depend on its own image and text only.

        Args:
            image_features: (n, ...) float32 on `device`.
            text_features: (m, ...) float32 on `device`.

        Returns:
            (n, m) finite scores, higher is better.
        """
        ...


@runtime_checkable
class PairScorer(LoadedModel, Protocol):
    """A model that reads an image and a text together: a cross-encoder, or image-text matching.

    It needs no `encode_image` and `encode_text`. If it has them, retrieval can select the best candidates by
    embeddings and score only these as pairs (`rerank: k` in the metrics of a definition).
    """

    def score_pairs(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Score P pairs.

        Args:
            images: (P, 3, H, W) as `preprocess` makes it, on `device`.
            texts: P texts, one for each image.

        Returns:
            (P,) finite scores, higher is better.
        """
        ...


@runtime_checkable
class SharedImagePairScorer(PairScorer, Protocol):
    """A pair scorer that first encodes the image without the text, as image-text matching heads do.

    The engine encodes each image of a batch once for all of its pairs there, instead of calling `score_pairs`, which
    gives the same scores.
    """

    def encode_pair_images(self, x: Tensor) -> Tensor:
        """Encode images (B, 3, H, W): (B, ...) states of any shape, on `device`."""
        ...

    def score_encoded_pairs(self, states: Tensor, texts: Sequence[str]) -> Tensor:
        """Score P pairs, given as states (P, ...) of `encode_pair_images` and P texts: (P,), as `score_pairs`."""
        ...


@runtime_checkable
class LanguageModel(Model, Protocol):
    """A model that reads a text as one of a given language, as NLLB-CLIP does. A pair scorer may be one, too."""

    def use_language(self, code: str) -> AbstractContextManager[Any]:
        """Take texts as of a language while the returned context is open, and as before when it is closed.

        Benchmarks whose definition names languages tell them; for all others no context is opened. Features and scores
        are cached by text and code.

        Args:
            code: as the benchmark's authors write it, such as `de`, `zh-Hans` or `deu_Latn`.

        Raises:
            RequestError: the model does not know this language.
        """
        ...


@runtime_checkable
class DenseModel(Model, Protocol):
    """A model that also returns a feature for each patch of an image, as segmentation needs."""

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        """Features of patches in the space of `encode_text`.

        Args:
            x: (B, 3, H, W) normalised as by `preprocess`, but of any H and W.
            attention: attention variant of the last block: one of `cosmos_core.dense.ATTENTIONS`, or one that this
                model defines.

        Returns:
            (B, h, w, D) float32, unnormalised, on `device`, without gradients. The grid covers the image evenly, from
            the top left.

        Raises:
            RequestError: the model has no patch features, or does not know this `attention`. An adapter that never
                has patch features may also leave the method out.
        """
        ...


@runtime_checkable
class AttentiveModel(Model, Protocol):
    """A model whose images and texts attend to each other's tokens, as COSMOS's cross-attention poolers do.

    For models without such poolers there are maps of another kind, for any `DenseModel`: see
    `cosmos_eval.models.similarity_maps`.
    """

    def attention_maps(self, x: Tensor, texts: Sequence[str]) -> AttentionMaps:
        """Where each text attends in its image, and where each image attends in its text.

        Args:
            x: (B, 3, H, W) normalised as by `preprocess`, of any H and W.
            texts: B texts, one for each image.

        Returns:
            `patches` (B, h, w) and `tokens` (B, L), attention weights that sum to 1 for each pair, and the `words` of
            each text with their positions among the tokens; float32, without gradients.
        """
        ...


class ShortRepr:
    """The one line that a notebook shows of an adapter. The digest is not computed for it."""

    spec: str
    device: torch.device

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec!r}, on {self.device})"
