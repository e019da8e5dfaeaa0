"""Protocols of model adapters, questions about an adapter, and checks of what its methods return."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from cosmos_core import printable
from cosmos_core.attention_maps import AttentionMaps
from cosmos_core.errors import RequestError


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


def read_facts(model: Any) -> dict[str, Any]:
    """What `show model` prints beyond `describe()`, as JSON values: see `scale_and_bias`.

    An adapter may have a method `facts()` that returns them: `logit_scale` and `logit_bias` (by which the model was
    trained to multiply, and to shift, the cosine of an image and a text), `embedding_width`, and whatever else helps to
    see that the model was read correctly. They change no score, and are no part of a result or a digest.

    Raises:
        RequestError: `facts()` does not return a mapping of JSON values.
    """
    if not has_method(model, "facts"):
        return {}
    return require_json_values(model.facts(), f"{model.spec}: what facts() returns")


def scale_and_bias(network: Any) -> dict[str, float | None]:
    """The `logit_scale` and `logit_bias` of a CLIP-like network, None where it has none.

    The scale is stored as its logarithm, or as ALIGN's `temperature`, which divides.
    """
    scale, temperature, bias = (getattr(network, name, None) for name in ("logit_scale", "temperature", "logit_bias"))
    factor = scale.detach().float().exp() if isinstance(scale, Tensor) else None
    if factor is None and isinstance(temperature, Tensor):
        factor = 1 / temperature.detach().float()
    return {
        "logit_scale": None if factor is None else float(factor.reshape(-1)[0]),
        "logit_bias": float(bias.detach().float().reshape(-1)[0]) if isinstance(bias, Tensor) else None,
    }


def sigmoid_scale_and_bias(model: Any) -> tuple[float, float] | None:
    """The scale and the bias by which a model turns a score into the logit of a match; None if it has no such pair.

    Only models that were trained with a sigmoid loss (SigLIP) have both.

    Raises:
        RequestError: as `read_facts`.
    """
    facts = read_facts(model)
    scale, bias = facts.get("logit_scale"), facts.get("logit_bias")
    if isinstance(scale, int | float) and isinstance(bias, int | float):
        return float(scale), float(bias)
    return None


def list_attentions(model: Any) -> tuple[str, ...] | None:
    """The attention variants that `encode_patches` of a `DenseModel` knows; None if the adapter does not say.

    An adapter may have an attribute or property `attentions` with their names.
    """
    names = getattr(model, "attentions", None)
    return tuple(names) if isinstance(names, list | tuple) else None


def has_features(model: Any) -> bool:
    """Whether a model has features of both images and texts, from encoders or stored ones."""
    has_images = has_method(model, "encode_image") or has_method(model, "read_image_embeddings")
    has_texts = has_method(model, "encode_text") or has_method(model, "read_text_embeddings")
    return has_images and has_texts


def is_pair_scorer(model: Any) -> TypeGuard[PairScorer]:
    """Whether a model scores pairs of an image and a text itself."""
    return has_method(model, "score_pairs")


def shares_pair_images(model: Any) -> TypeGuard[SharedImagePairScorer]:
    """Whether a pair scorer encodes an image once for several texts."""
    return has_method(model, "encode_pair_images") and has_method(model, "score_encoded_pairs")


def has_similarity(model: Any) -> TypeGuard[SimilarityModel]:
    """Whether a model scores its features by its own function."""
    return has_method(model, "similarity")


def has_patches(model: Any) -> TypeGuard[DenseModel]:
    """Whether a model has `encode_patches`; the method may still refuse, see `require_patch_encoder`."""
    return has_method(model, "encode_patches")


def has_attention_maps(model: Any) -> TypeGuard[AttentiveModel]:
    """Whether a model has cross-attention whose weights can be read."""
    return has_method(model, "attention_maps")


def has_method(adapter: Any, name: str) -> bool:
    """Whether an adapter has a method of this name; an attribute that cannot be called does not count."""
    return callable(getattr(adapter, name, None))


def require_patch_encoder(model: Any, attention: str = "") -> Callable[..., Tensor]:
    """Return `model.encode_patches`; callers ask before they encode anything.

    Args:
        attention: the attention variant that will be asked for; empty: not checked.

    An adapter may have `check_patches()`, which raises RequestError if `encode_patches` would raise for every input.

    Raises:
        RequestError: the model has no patch features, or none with this attention; the message says why, and which
            models have them, or which variants it has.
    """
    if not has_patches(model):
        raise no_patches_error(model.spec, "it has no encode_patches(x, attention)")
    if hasattr(model, "check_patches"):
        model.check_patches()
    attentions = list_attentions(model)
    if attention and attentions is not None:
        _require_attention(attention, attentions, model.spec)
    return model.encode_patches


def _require_attention(attention: str, attentions: tuple[str, ...], spec: str) -> None:
    if attention not in attentions:
        raise RequestError(
            f"{spec} has no patch features with attention {attention!r}, only with {', '.join(attentions)}; take a "
            "definition with one of these (segmentation: attention), or another model"
        )


def require_attention_reader(model: Any) -> Callable[[Tensor, Sequence[str]], AttentionMaps]:
    """Return `model.attention_maps`; callers ask before they encode anything.

    Raises:
        RequestError: the model has no cross-attention poolers; the message says which models have them.
    """
    if not has_attention_maps(model):
        raise RequestError(
            f"{model.spec} has no cross-attention poolers, so it has no attention maps; use a cosmos: model, "
            "or the similarity of patches and text (--kind similarity)"
        )
    return model.attention_maps


def no_patches_error(spec: str, reason: str) -> RequestError:
    """The error for a model without patch features; `reason` says why it has none."""
    return RequestError(
        f"{spec} gives no features of patches: {reason}; use a cosmos: model, an open_clip: ViT or ResNet, "
        "an hf: CLIP, SigLIP, BLIP, FLAVA or ALIGN, or a python: adapter with encode_patches"
    )


def as_features(values: Any, count: int, owner: str, allow_tokens: bool = False) -> Tensor:
    """Check what an encoder returned; return it as (count, D) float32 without gradients.

    Args:
        count: number of inputs that were encoded.
        owner: names the encoder in messages.
        allow_tokens: accept more dimensions, such as (count, L, D): right for a model with a `similarity`.

    Raises:
        RequestError: not a floating-point tensor of this shape.
    """
    if not isinstance(values, Tensor):
        raise RequestError(f"{owner} returned {type(values).__name__}; return a float tensor ({count}, D)")
    has_right_dimensions = values.ndim == 2 or (allow_tokens and values.ndim > 2)
    if not has_right_dimensions or values.shape[0] != count or 0 in values.shape[1:]:
        expected = f"({count}, D)" + (f" or ({count}, L, D)" if allow_tokens else "")
        hint = "" if allow_tokens or values.ndim < 3 else ", or define similarity(image_features, text_features)"
        raise RequestError(f"{owner} returned shape {tuple(values.shape)} for {count} inputs; return {expected}{hint}")
    if not values.is_floating_point():
        raise RequestError(f"{owner} returned {values.dtype}; return a float tensor ({count}, D)")
    return as_dense_float(values, owner)


def as_patches(values: Any, count: int, owner: str) -> Tensor:
    """Check what an encoder of patches returned; return it as (count, h, w, D) float32 without gradients.

    Args:
        count: number of images that were encoded.
        owner: names the encoder in messages.

    Raises:
        RequestError: not a floating-point tensor of this shape.
    """
    if not isinstance(values, Tensor):
        raise RequestError(f"{owner} returned {type(values).__name__}; return a float tensor ({count}, h, w, D)")
    if values.ndim != 4 or values.shape[0] != count or 0 in values.shape[1:]:
        raise RequestError(
            f"{owner} returned shape {tuple(values.shape)} for {count} inputs; return ({count}, h, w, D)"
        )
    if not values.is_floating_point():
        raise RequestError(f"{owner} returned {values.dtype}; return a float tensor ({count}, h, w, D)")
    return as_dense_float(values, owner)


def as_scores(values: Any, shape: tuple[int, ...], owner: str) -> Tensor:
    """Check what `similarity` or `score_pairs` returned; return it as float32 of `shape`, without gradients.

    Scores that are not finite pass: the caller refuses them, because it can name the image and the text.

    Args:
        owner: names the method in messages.

    Raises:
        RequestError: not a floating-point tensor of this shape.
    """
    expected = f"a float tensor {tuple(shape)}"
    if not isinstance(values, Tensor):
        raise RequestError(f"{owner} returned {type(values).__name__}; return {expected}")
    if tuple(values.shape) != tuple(shape):
        raise RequestError(f"{owner} returned shape {tuple(values.shape)}; return {expected}")
    if not values.is_floating_point():
        raise RequestError(f"{owner} returned {values.dtype}; return {expected}")
    return as_dense_float(values, owner)


def as_dense_float(values: Tensor, owner: str) -> Tensor:
    """The tensor in float32 without gradients; RequestError if it is sparse, or a meta tensor, which has no values."""
    if values.is_meta or values.layout is not torch.strided:
        kind = "a meta tensor, which has no values" if values.is_meta else "a sparse tensor"
        raise RequestError(f"{owner} returned {kind}; return a dense one")
    return values.detach().float()


def format_error(error: BaseException, max_length: int = 300) -> str:
    """Type and message of an exception in one line, for an exception that another library or an adapter raised."""
    return printable.one_line(f"{type(error).__name__}: {error}", max_length)


def require_json_values(values: Any, owner: str) -> dict[str, Any]:
    """Return a model's description of itself as plain JSON values, as a result stores it.

    Args:
        values: a mapping; `arch` and `activation` must be strings or None.
        owner: names the description in messages.

    Raises:
        RequestError: not a mapping, a key that is not a string, or a value that JSON cannot hold (NaN, infinity, a lone
            surrogate, an object); the message names the key.
    """
    if not isinstance(values, Mapping):
        raise RequestError(f"{owner} is a {type(values).__name__}; make it a dictionary of JSON values")
    json_values: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise RequestError(f"{owner}: the key {key!r} is a {type(key).__name__}; make it a string")
        try:
            text = json.dumps([key, value], allow_nan=False, ensure_ascii=False)
            text.encode()  # fails on a lone surrogate, which json.dumps lets pass
            json_values[key] = json.loads(text)[1]
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(f"{owner}: {key!r} is not a JSON value: {format_error(error)}") from error
        if key in ("arch", "activation") and not isinstance(value, str | None):
            raise RequestError(f"{owner}: {key!r} is a {type(value).__name__}; make it a string, or leave it out")
    return json_values
