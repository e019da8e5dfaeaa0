"""The model of an adapter that a user or a plug-in wrote: its exceptions and wrong returns become one-line errors."""

import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.memory_errors import is_out_of_memory
from cosmos_core.printable import plural
from cosmos_eval.models.abilities import (
    has_method,
    has_patches,
    has_similarity,
    is_pair_scorer,
    list_attentions,
    no_patches_error,
)
from cosmos_eval.models.base import ShortRepr
from cosmos_eval.models.returned_values import as_features, as_patches, as_scores, format_error, require_json_values

_ENCODERS = ("encode_image", "encode_text")


def missing_methods(adapter: Any) -> list[str]:
    """The methods that an adapter must have and does not have; one that scores pairs needs no encoders."""
    required = ("preprocess",) if is_pair_scorer(adapter) else ("preprocess", *_ENCODERS)
    return [name for name in required if not has_method(adapter, name)]


class PythonModel(ShortRepr):
    """A model that calls an adapter's methods and checks what they return.

    It has the optional methods (`similarity`, `score_pairs`, `truncated`, ...) only if the adapter has them, because
    the engine decides by them how to score. `encode_patches` always exists: `check_patches` says whether it works.

    `digest` is the SHA-256 of the adapter's digest, because result folders are named by its first characters, in which
    an adapter's own digests may be equal. It is empty if the adapter has none.

    Args:
        adapter: any object with the methods that `python:` documents.
        spec: the name of the model in results and messages.
        device: used if the adapter has no attribute `device`.
        move: whether to move an nn.Module without that attribute to `device`.

    Raises:
        RequestError: a method is missing, an attribute has a wrong type or value, or `describe()` does not return JSON
            values.
    """

    def __init__(self, adapter: Any, spec: str, device: str | torch.device = "cpu", move: bool = True) -> None:
        missing = missing_methods(adapter)
        if missing:
            raise RequestError(
                f"{spec} returned a {type(adapter).__name__} without {', '.join(missing)}; "
                "return an object with preprocess, encode_image and encode_text (or preprocess and score_pairs)"
            )
        self.adapter = adapter
        self.spec = spec
        self.device = self._read_device(device)
        if isinstance(adapter, torch.nn.Module):
            adapter.eval()
            if move and getattr(adapter, "device", None) is None:
                with as_request_error(f"{spec}: moving it to {self.device}"):
                    adapter.to(self.device)
        self.preprocess = CheckedPreprocess(
            adapter.preprocess,
            spec,
            mean=self._read_normalisation("mean", 0.0),
            std=self._read_normalisation("std", 1.0),
        )
        self.digest = self._read_digest()
        self._description = self._read_description()
        self._add_optional_methods()

    def _add_optional_methods(self) -> None:
        """Set optional methods and `context_length` as attributes, each only if the adapter has it."""
        adapter = self.adapter
        if has_method(adapter, "read_image_embeddings"):
            self.read_image_embeddings = self._read_image_embeddings
        if has_method(adapter, "read_text_embeddings"):
            self.read_text_embeddings = self._read_text_embeddings
        if all(has_method(adapter, name) for name in _ENCODERS):
            self.encode_image, self.encode_text = self._encode_image, self._encode_text
        if has_similarity(adapter):
            self.similarity = self._similarity
        if is_pair_scorer(adapter):
            self.score_pairs = self._score_pairs
        if has_method(adapter, "truncated"):
            self.truncated = self._truncated
        if has_method(adapter, "facts"):
            self.facts = self._facts
        if has_method(adapter, "use_language"):
            self.use_language = self._use_language
        if has_patches(adapter) and list_attentions(adapter) is not None:
            self.attentions = list_attentions(adapter)
        context_length = getattr(adapter, "context_length", None)
        if type(context_length) is int and context_length > 0:
            self.context_length = context_length

    def _encode_image(self, x: Tensor) -> Tensor:
        return self._call_encoder("encode_image", x.to(self.device))

    def _encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._call_encoder("encode_text", list(texts))

    def _read_image_embeddings(self, images: Sequence[Any]) -> Tensor:
        return self._call_encoder("read_image_embeddings", list(images))

    def _read_text_embeddings(self, texts: Sequence[str]) -> Tensor:
        return self._call_encoder("read_text_embeddings", list(texts))

    def _call_encoder(self, method: str, inputs: Any) -> Tensor:
        """Features of N inputs: (N, D), or with a `similarity` any (N, ...); float32 on `device`."""
        with torch.no_grad(), as_request_error(f"{self.spec}: {method}"):
            values = getattr(self.adapter, method)(inputs)
        features = as_features(values, len(inputs), f"{self.spec}: {method}", has_similarity(self.adapter))
        return features.to(self.device)

    def _similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """(n, m) scores by the adapter's `similarity`."""
        with torch.no_grad(), as_request_error(f"{self.spec}: similarity"):
            values = self.adapter.similarity(image_features.to(self.device), text_features.to(self.device))
        shape = len(image_features), len(text_features)
        return as_scores(values, shape, f"{self.spec}: similarity").to(self.device)

    def _score_pairs(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(P,) scores by the adapter's `score_pairs`."""
        with torch.no_grad(), as_request_error(f"{self.spec}: score_pairs"):
            values = self.adapter.score_pairs(images.to(self.device), list(texts))
        return as_scores(values, (len(texts),), f"{self.spec}: score_pairs").to(self.device)

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        """(B, h, w, D) by the adapter's `encode_patches`; RequestError if it has none."""
        self.check_patches()
        with torch.no_grad(), as_request_error(f"{self.spec}: encode_patches"):
            values = self.adapter.encode_patches(x.to(self.device), attention)
        return as_patches(values, len(x), f"{self.spec}: encode_patches").to(self.device)

    def check_patches(self) -> None:
        """RequestError if the adapter has no `encode_patches`."""
        if not has_patches(self.adapter):
            raise no_patches_error(self.spec, f"its {type(self.adapter).__name__} has no encode_patches(x, attention)")

    def _truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the adapter's context, by the adapter's `truncated`."""
        with as_request_error(f"{self.spec}: truncated"):
            values = [bool(value) for value in self.adapter.truncated(list(texts))]
        if len(values) != len(texts):
            raise RequestError(
                f"{self.spec}: truncated returned {plural(len(values), 'value')} for {plural(len(texts), 'text')}"
            )
        return values

    @contextmanager
    def _use_language(self, code: str) -> Iterator[None]:
        """While this is open, texts are of a language, by the adapter's `use_language`."""
        with ExitStack() as stack:
            with as_request_error(f"{self.spec}: use_language"):
                stack.enter_context(self.adapter.use_language(code))
            yield

    def _facts(self) -> dict[str, Any]:
        """What `show model` prints beyond `describe()`, by the adapter's `facts`."""
        with as_request_error(f"{self.spec}: facts"):
            values = self.adapter.facts()
        return require_json_values(values, f"{self.spec}: what facts() returns")

    def describe(self) -> dict[str, Any]:
        """The adapter's description as it was when the model was loaded, with defaults for what it lacks."""
        return copy.deepcopy(self._description)

    def _read_device(self, default: str | torch.device) -> torch.device:
        with as_request_error(f"{self.spec}: device"):
            device = getattr(self.adapter, "device", None)
            return torch.device(default if device is None else device)

    def _read_digest(self) -> str:
        with as_request_error(f"{self.spec}: digest"):
            digest = getattr(self.adapter, "digest", None)
            digest = "" if digest is None else digest
        if not isinstance(digest, str):
            raise RequestError(f"{self.spec}: digest is a {type(digest).__name__}; make it a string, or leave it out")
        return hashlib.sha256(digest.encode("utf-8", "surrogatepass")).hexdigest() if digest else ""

    def _read_description(self) -> dict[str, Any]:
        adapter = self.adapter
        description: dict[str, Any] = {"arch": type(adapter).__name__, "activation": "unknown", "source": self.spec}
        parameters = adapter.parameters() if isinstance(adapter, torch.nn.Module) else []
        description["parameters"] = sum(p.numel() for p in parameters) or None
        if has_method(adapter, "describe"):
            with as_request_error(f"{self.spec}: describe"):
                values = adapter.describe()
            description |= require_json_values(values, f"{self.spec}: what describe() returns")
        return description

    def _read_normalisation(self, name: str, default: float) -> tuple[float, ...]:
        """The adapter's `mean` or `std` for each colour channel; only windows of segmentation are normalised by it."""
        values = getattr(self.adapter, name, None)
        # A method is not meant, such as torch's `mean` or `std`. Without `encode_patches` there are no windows, so an
        # attribute of that name, such as a buffer of an nn.Module, has another meaning.
        if values is None or callable(values) or not has_patches(self.adapter):
            return (default,) * 3
        with as_request_error(f"{self.spec}: {name}"):
            channels = tuple(float(value) for value in values)
        if len(channels) != 3 or not all(map(math.isfinite, channels)) or (name == "std" and min(channels) <= 0):
            expected = "three numbers above 0" if name == "std" else "three numbers"
            raise RequestError(f"{self.spec}: {name} is {channels}; make it {expected}, red, green and blue")
        return channels


class CheckedPreprocess:
    """An adapter's `preprocess` with a check of what it returns; picklable if the adapter's is.

    Messages name the model; the engine adds the image. Segmentation normalises its windows by `mean` and `std`.
    """

    def __init__(
        self,
        preprocess: Callable[[Image.Image], Tensor],
        spec: str,
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
    ) -> None:
        self.adapter_preprocess = preprocess
        self.spec = spec
        self.mean, self.std = mean, std

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess one image: (3, H, W), floating point.

        Raises:
            RequestError: the adapter's method raised an exception, or returned something else.
        """
        with as_request_error(f"{self.spec}: preprocess", out_of_memory_too=True):
            x = self.adapter_preprocess(image)
        if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[0] != 3 or not x.is_floating_point():
            returned = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise RequestError(f"{self.spec}: preprocess returned {returned}; return a float tensor (3, H, W)")
        return x


@contextmanager
def as_request_error(owner: str, out_of_memory_too: bool = False) -> Iterator[None]:
    """Turn exceptions of code that is not ours into a RequestError of one line.

    Args:
        owner: names that code at the beginning of the message.
        out_of_memory_too: also when memory is used up. By default such an exception passes, because the engine can
            encode a batch in smaller parts.
    """
    try:
        yield
    except RequestError:
        raise
    except (Exception, SystemExit) as error:  # a module may call sys.exit()
        if is_out_of_memory(error) and not out_of_memory_too:
            raise
        raise RequestError(f"{owner} failed: {format_error(error)}") from error
