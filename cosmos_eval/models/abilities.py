"""What a model adapter supports, and what it reports about itself."""

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, TypeVar

from torch import Tensor

from cosmos_core.attention_maps import AttentionMaps
from cosmos_core.errors import RequestError
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.models.base import AttentiveModel, DenseModel, PairScorer, SharedImagePairScorer, SimilarityModel
from cosmos_eval.models.returned_values import require_json_values

Result = TypeVar("Result")


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


def told_language(model: Any, language: str | None) -> str | None:
    """The language that a model is told of texts: the given one, or None if the model is told none.

    A model is told it if it has `use_language` (`cosmos_eval.models.base.LanguageModel`).
    """
    return language if has_method(model, "use_language") else None


def in_language(model: Any, language: str | None, function: Callable[..., Result]) -> Callable[..., Result]:
    """A function that does the same while the model takes texts as of a language; None: the function itself."""
    if language is None:
        return function

    def call(*args: Any) -> Result:
        with model.use_language(language):
            return function(*args)

    return call


def require_languages(model: Any, codes: Sequence[str], where: str) -> None:
    """Ask a model that is told languages whether it knows these; tasks ask before anything is encoded.

    Args:
        where: begins the message: the name of the benchmark.

    Raises:
        RequestError: it does not know a language; one line with all of these.
    """
    reasons: dict[str, RequestError] = {}
    if has_method(model, "use_language"):
        for code in codes:
            try:
                with model.use_language(code):
                    pass
            except RequestError as error:
                reasons[code] = error
    if reasons:
        first, *others = reasons
        likewise = f" (likewise {format_names(others)})" if others else ""
        raise RequestError(f"{where}: {reasons[first]}{likewise}")


def has_patches(model: Any) -> TypeGuard[DenseModel]:
    """Whether a model has `encode_patches`; the method may still refuse, see `require_patch_encoder`."""
    return has_method(model, "encode_patches")


def has_attention_maps(model: Any) -> TypeGuard[AttentiveModel]:
    """Whether a model has cross-attention whose weights can be read."""
    return has_method(model, "attention_maps")


def has_method(adapter: Any, name: str) -> bool:
    """Whether an adapter has a method of this name; an attribute that cannot be called does not count."""
    return callable(getattr(adapter, name, None))


def list_attentions(model: Any) -> tuple[str, ...] | None:
    """The attention variants that `encode_patches` of a `DenseModel` knows; None if the adapter does not say.

    An adapter may have an attribute or property `attentions` with their names.
    """
    names = getattr(model, "attentions", None)
    return tuple(names) if isinstance(names, list | tuple) else None


def read_facts(model: Any) -> dict[str, Any]:
    """What `show model` prints beyond `describe()`, as JSON values: see `scale_and_bias`.

    An adapter may have a method `facts()` that returns them: `logit_scale` and `logit_bias` (by which the model was
    trained to multiply, and to shift, the cosine of an image and a text), `embedding_width`, and whatever else helps to
    see that the model was read correctly. They change no score, and are not part of a result or a digest.

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
