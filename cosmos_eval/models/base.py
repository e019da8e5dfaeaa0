"""What every adapter offers, whatever the weights' origin."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.attention_maps import AttentionMaps
from cosmos_core.errors import RequestError
from cosmos_core.printable import one_line as in_one_line


@runtime_checkable
class LoadedModel(Protocol):
    """What every adapter has, however its model scores images and texts: see `Model` and `PairScorer`."""

    spec: str
    """The spec it was loaded from, for people; never an identity."""
    device: torch.device

    @property
    def digest(self) -> str:
        """Identifies weights, architecture, tokenizer and preprocessing; empty when unknown (then never cached)."""
        ...

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        """An RGB image to a float tensor (3, H, W), picklable for worker processes."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a result records: `arch`, `activation`, `tokenizer`, `context_length`, `image_size`, `resize`,
        `parameters` and whatever else decides the numbers; plain JSON values."""
        ...


@runtime_checkable
class Model(LoadedModel, Protocol):
    """A model that embeds images and texts; its score is the dot product of the two, of unit length.

    An adapter whose text tower reads no further than the end of each text may also have `trimmed_text`
    (`cosmos_eval.models.trimmed`), which the engine then takes instead of `encode_text`. One whose embeddings exist
    already may have `image_rows(images)` and `text_rows(texts)`, which the engine then takes instead of both.
    """

    def encode_image(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) as `preprocess` makes it -> (B, D) float32, unnormalised, on `device`, without gradients.

        A model with `similarity` may also give (B, L, D).
        """
        ...

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """B texts -> (B, D) float32, unnormalised, on `device`, without gradients."""
        ...


@runtime_checkable
class SimilarityModel(Model, Protocol):
    """A model with a score of its own: late interaction, text-conditioned pooling, or another temperature or norm.

    Its features may have any shape from (N, D) on, such as (N, L, D) where it keeps tokens. The engine makes their last
    dimension of unit length; zeros stay zeros, so that they may stand for padding. All items have one shape.
    """

    def similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """(n, ...) and (m, ...) float32 features on `device` -> (n, m) finite scores, higher is better.

        The score of a pair must depend on its own image and text only: which others are in a block is up to the engine.
        """
        ...


@runtime_checkable
class PairScorer(LoadedModel, Protocol):
    """A model that reads an image and a text together: a cross-encoder, or image-text matching.

    It needs no `encode_image` and `encode_text`. One that has them, too, can have the best candidates of retrieval
    found by them (`rerank: k` in the metrics of a definition).
    """

    def score_pairs(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(P, 3, H, W) on `device` as `preprocess` makes it and P texts -> (P,) finite scores, higher is better."""
        ...


@runtime_checkable
class DenseModel(Model, Protocol):
    """A model that also gives a vector for each patch of an image, as segmentation needs."""

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        """Vectors of patches in the space of `encode_text`.

        Args:
            x: (B, 3, H, W) normalised as by `preprocess`, of any H and W, not those of `preprocess` alone.
            attention: what the last block does: a word of `cosmos_core.dense.ATTENTIONS`, or one of the model's own.

        Returns:
            (B, h, w, D) float32, unnormalised, on `device`, without gradients; rows of patches from the top, each from
            the left, spread evenly over the image.

        Raises:
            RequestError: the model has no patch vectors, or another word for `attention`; one line. An adapter that
                cannot do it at all may also lack the method.
        """
        ...


@runtime_checkable
class AttentiveModel(Model, Protocol):
    """A model whose images and texts read each other's tokens, as COSMOS's cross-attention poolers do.

    Models without them have maps of another kind: `cosmos_eval.models.maps.similarity_maps` of any `DenseModel`.
    """

    def attention_maps(self, x: Tensor, texts: Sequence[str]) -> AttentionMaps:
        """Where each image is read given its own text, and each text given its own image.

        Args:
            x: (B, 3, H, W) normalised as by `preprocess`, of any H and W.
            texts: B of them.

        Returns:
            `patches` (B, h, w) and `tokens` (B, L), the weights of the model's own attention, each summing to 1, and
            the `words` of each text with their places among the tokens; float32, without gradients.
        """
        ...


def as_patches(values: Any, count: int, owner: str) -> Tensor:
    """Check what an encoder of patches returned and give it as (count, h, w, D) float32 without gradients.

    Raises:
        RequestError: not a floating tensor of `count` maps of patches; `owner` names the encoder.
    """
    if not isinstance(values, Tensor):
        raise RequestError(f"{owner} returned {type(values).__name__}; return a float tensor ({count}, h, w, D)")
    if values.ndim != 4 or values.shape[0] != count or 0 in values.shape[1:]:
        raise RequestError(
            f"{owner} returned shape {tuple(values.shape)} for {count} inputs; return ({count}, h, w, D)"
        )
    if not values.is_floating_point():
        raise RequestError(f"{owner} returned {values.dtype}; return a float tensor ({count}, h, w, D)")
    return dense(values, owner)


def patch_encoder(model: Any) -> Callable[..., Tensor]:
    """`model.encode_patches`, asked for before anything is encoded.

    An adapter may have `check_patches()`, which raises where `encode_patches` always would.

    Raises:
        RequestError: the model has no vectors of patches; one line that says why and which models have them.
    """
    if not callable(getattr(model, "encode_patches", None)):
        raise no_patches(model.spec, "it has no encode_patches(x, attention)")
    if hasattr(model, "check_patches"):
        model.check_patches()
    return model.encode_patches


def attention_reader(model: Any) -> Callable[[Tensor, Sequence[str]], AttentionMaps]:
    """`model.attention_maps`, asked for before anything is encoded.

    Raises:
        RequestError: the model has no cross-attention poolers; one line that says which models have them.
    """
    if not callable(getattr(model, "attention_maps", None)):
        raise RequestError(
            f"{model.spec} has no cross-attention poolers, so it has no attention maps; take a cosmos: model, "
            "or the similarity of patches and text (--kind similarity)"
        )
    return model.attention_maps


def no_patches(spec: str, reason: str) -> RequestError:
    """The refusal of a model that has no vectors of patches; `reason` says why."""
    return RequestError(
        f"{spec} gives no features of patches: {reason}; take a cosmos: model, an open_clip: ViT, "
        "or a python: adapter with encode_patches"
    )


def encodes(model: Any) -> bool:
    """Whether a model has features of images and of texts: `encode_image` and `encode_text`, or rows made elsewhere."""
    return all(
        callable(getattr(model, encode, None)) or callable(getattr(model, given, None))
        for encode, given in (("encode_image", "image_rows"), ("encode_text", "text_rows"))
    )


def scores_pairs(model: Any) -> bool:
    """Whether a model scores pairs of an image and a text itself (`PairScorer`)."""
    return callable(getattr(model, "score_pairs", None))


def has_similarity(model: Any) -> bool:
    """Whether a model scores its features by a function of its own (`SimilarityModel`)."""
    return callable(getattr(model, "similarity", None))


def as_rows(values: Any, count: int, owner: str, tokens: bool = False) -> Tensor:
    """Check what an encoder returned and give it as (count, D) float32 without gradients.

    Args:
        tokens: whether (count, L, D), or more dimensions, are right, too: of a model with a `similarity`.

    Raises:
        RequestError: not a floating tensor of `count` rows; `owner` names the encoder.
    """
    if not isinstance(values, Tensor):
        raise RequestError(f"{owner} returned {type(values).__name__}; return a float tensor ({count}, D)")
    more = tokens and values.ndim > 2
    if not (values.ndim == 2 or more) or values.shape[0] != count or 0 in values.shape[1:]:
        wanted = f"({count}, D)" + (f" or ({count}, L, D)" if tokens else "")
        needs = "" if tokens or values.ndim < 3 else ", or define similarity(image_features, text_features)"
        raise RequestError(f"{owner} returned shape {tuple(values.shape)} for {count} inputs; return {wanted}{needs}")
    if not values.is_floating_point():
        raise RequestError(f"{owner} returned {values.dtype}; return a float tensor ({count}, D)")
    return dense(values, owner)


def as_scores(values: Any, shape: tuple[int, ...], owner: str) -> Tensor:
    """Check what `similarity` or `score_pairs` returned and give it as float32 of that shape, without gradients.

    Whether the scores are finite is for the caller to say, who can name the image and the text.

    Raises:
        RequestError: not a floating tensor of that shape; `owner` names the method.
    """
    wanted = f"a float tensor {tuple(shape)}"
    if not isinstance(values, Tensor):
        raise RequestError(f"{owner} returned {type(values).__name__}; return {wanted}")
    if tuple(values.shape) != tuple(shape):
        raise RequestError(f"{owner} returned shape {tuple(values.shape)}; return {wanted}")
    if not values.is_floating_point():
        raise RequestError(f"{owner} returned {values.dtype}; return {wanted}")
    return dense(values, owner)


def dense(values: Tensor, owner: str) -> Tensor:
    """A tensor in float32 without gradients; RequestError where it is sparse or, as a meta tensor, has no values."""
    if values.is_meta or values.layout is not torch.strided:
        what = "a meta tensor, which has no values" if values.is_meta else "a sparse tensor"
        raise RequestError(f"{owner} returned {what}; return a dense one")
    return values.detach().float()


def one_line(error: BaseException, limit: int = 300) -> str:
    """An exception of somebody else's as part of a one-line refusal."""
    return in_one_line(f"{type(error).__name__}: {error}", limit)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory is used up, the device's or the machine's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's allocator has no class of its own, nor have CUDA's libraries.
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


_NO_MEMORY = (
    "DefaultCPUAllocator", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",  # of cuDNN 9
)  # fmt: skip


def json_values(values: Any, owner: str) -> dict[str, Any]:
    """What a model says of itself, as the plain values that a result holds; `arch` and `activation` strings or None.

    Raises:
        RequestError: not a dictionary, a key that is no string, a value that JSON has no word for (NaN, infinity, half
            a character, an object); names the key. `owner` says whose it is.
    """
    if not isinstance(values, Mapping):
        raise RequestError(f"{owner} is a {type(values).__name__}; make it a dictionary of JSON values")
    plain: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise RequestError(f"{owner}: the key {key!r} is a {type(key).__name__}; make it a string")
        try:
            text = json.dumps([key, value], allow_nan=False, ensure_ascii=False)
            text.encode()
            plain[key] = json.loads(text)[1]
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(f"{owner}: {key!r} is not a JSON value: {one_line(error)}") from error
        if key in ("arch", "activation") and not isinstance(value, str | None):
            raise RequestError(f"{owner}: {key!r} is a {type(value).__name__}; make it a string, or leave it out")
    return plain
