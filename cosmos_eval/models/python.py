'''`python:package.module:factory`: your own model, by an adapter of a few lines.

The factory takes nothing, or `device`, and returns an object with `preprocess`, `encode_image` and `encode_text`;
modules in the current directory can be imported. This one, saved as `colours.py`, is `python:colours:build`:

    import torch
    from torchvision.transforms.functional import pil_to_tensor

    WORDS = ("red", "green", "blue")

    class Colours:
        """The mean colour of an image, and how often a text names red, green and blue."""

        digest = "colours-1"  # optional; changes whenever the numbers can change; without it nothing is ever cached

        def preprocess(self, image):  # a PIL image in RGB -> float tensor (3, H, W), all of one size
            return pil_to_tensor(image.resize((32, 32))).float() / 255

        def encode_image(self, x):  # (B, 3, H, W) -> (B, D), need not be normalised
            return x.mean(dim=(2, 3))

        def encode_text(self, texts):  # list of B strings -> (B, D)
            return torch.tensor([[text.lower().split().count(word) + 0.01 for word in WORDS] for text in texts])

    def build():
        return Colours()

Optional besides `digest`: `describe()` (a dictionary of JSON values for the result), `device`, `truncated(texts)` (a
bool for each text: whether it is longer than what the model reads, of `context_length` tokens; results count them), and
`image_rows(images)` with `text_rows(texts)` for vectors that exist already. `preprocess` runs in worker processes:
make it picklable. `encode_image` gets its batch on the model's device: the adapter's `device` where it has that, else
the one asked for. An nn.Module without a `device` is moved there, unless its factory takes `device` and so does it.

A score of its own: `similarity(image_features, text_features)` makes (n, m) scores of (n, ...) and (m, ...) features,
which may then keep tokens, (B, L, D); `score_pairs(images, texts)` scores P images (P, 3, H, W) with P texts, and an
adapter that has it needs no `encode_image` and `encode_text`. Examples of both are in docs/own_models.md.

Segmentation wants `encode_patches(x, attention)`: windows (B, 3, H, W) of any size -> (B, h, w, D), a vector for each
patch, by the attention that the benchmark names; raise where that is not yours. A window is pixels from 0 to 1, less
the adapter's `mean` and divided by its `std` where it has these (three numbers each).
'''

import copy
import hashlib
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.models.base import (
    Model,
    PairScorer,
    as_patches,
    as_rows,
    as_scores,
    has_similarity,
    json_values,
    no_patches,
    one_line,
    out_of_memory,
    scores_pairs,
)
from cosmos_eval.models.spec import ModelSpec

_ENCODERS = ("encode_image", "encode_text")


def _lacking(adapter: Any) -> list[str]:
    """The methods that an adapter must have and has not; one that scores pairs needs no encoders."""
    needed = ("preprocess",) if scores_pairs(adapter) else ("preprocess", *_ENCODERS)
    return [name for name in needed if not callable(getattr(adapter, name, None))]


class PythonModel:
    """A user's adapter behind checks: what it raises and wrong returns are refused in one line, by method.

    `device` is the adapter's own where it has that attribute; else the one asked for, where an nn.Module is moved to
    unless its factory was given the device. `digest` is the SHA-256 of the adapter's string, so that no two strings
    share the first characters; empty where there is none.

    Raises:
        RequestError: a method is absent, `digest` or `device` is not what it must be, `describe()` gives no
            JSON values.
    """

    def __init__(self, adapter: Any, spec: str, device: str | torch.device = "cpu", move: bool = True) -> None:
        lacking = _lacking(adapter)
        if lacking:
            raise RequestError(
                f"{spec} gave a {type(adapter).__name__} without {', '.join(lacking)}; "
                "return an object with preprocess, encode_image and encode_text (or preprocess and score_pairs)"
            )
        self.adapter = adapter
        self.spec = spec
        self.device = self._own_device(device)
        if isinstance(adapter, torch.nn.Module):
            adapter.eval()
            if move and getattr(adapter, "device", None) is None:
                with in_one_line(f"{spec}: moving it to {self.device}"):
                    adapter.to(self.device)
        self.preprocess = GuardedPreprocess(
            adapter.preprocess, spec, mean=self._per_channel("mean", 0.0), std=self._per_channel("std", 1.0)
        )
        self.digest = self._digest()
        self._described = self._describe()
        # Attributes only where the adapter has them: the engine asks for what a model has.
        for name in ("image_rows", "text_rows"):
            if callable(getattr(adapter, name, None)):
                setattr(self, name, self._checked(name))
        if all(callable(getattr(adapter, name, None)) for name in _ENCODERS):
            self.encode_image, self.encode_text = self._encode_image, self._encode_text
        if has_similarity(adapter):
            self.similarity = self._similarity
        if scores_pairs(adapter):
            self.score_pairs = self._score_pairs
        context_length = getattr(adapter, "context_length", None)
        if type(context_length) is int and context_length > 0:
            self.context_length = context_length
        if callable(getattr(adapter, "truncated", None)):
            self.truncated = self._truncated

    def _encode_image(self, x: Tensor) -> Tensor:
        return self._rows("encode_image", x.to(self.device))

    def _encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._rows("encode_text", list(texts))

    def _similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """(n, m) scores of the adapter's own `similarity`."""
        with torch.no_grad(), in_one_line(f"{self.spec}: similarity"):
            values = self.adapter.similarity(image_features.to(self.device), text_features.to(self.device))
        shape = len(image_features), len(text_features)
        return as_scores(values, shape, f"{self.spec}: similarity").to(self.device)

    def _score_pairs(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(P,) scores of the adapter's own `score_pairs`."""
        with torch.no_grad(), in_one_line(f"{self.spec}: score_pairs"):
            values = self.adapter.score_pairs(images.to(self.device), list(texts))
        return as_scores(values, (len(texts),), f"{self.spec}: score_pairs").to(self.device)

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        """(B, h, w, D) of the adapter's own `encode_patches`; RequestError where it has none."""
        self.check_patches()
        with torch.no_grad(), in_one_line(f"{self.spec}: encode_patches"):
            values = self.adapter.encode_patches(x.to(self.device), attention)
        return as_patches(values, len(x), f"{self.spec}: encode_patches").to(self.device)

    def _truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the adapter's context, as the adapter says."""
        with in_one_line(f"{self.spec}: truncated"):
            said = [bool(value) for value in self.adapter.truncated(list(texts))]
        if len(said) != len(texts):
            raise RequestError(f"{self.spec}: truncated returned {len(said)} values for {len(texts)} texts")
        return said

    def check_patches(self) -> None:
        """RequestError where the adapter has no `encode_patches`; one line."""
        if not callable(getattr(self.adapter, "encode_patches", None)):
            raise no_patches(self.spec, f"its {type(self.adapter).__name__} has no encode_patches(x, attention)")

    def describe(self) -> dict[str, Any]:
        """What the adapter said of itself when it was loaded, over a minimum: plain JSON values."""
        return copy.deepcopy(self._described)

    def _per_channel(self, name: str, default: float) -> tuple[float, ...]:
        own = getattr(self.adapter, name, None)
        windows = callable(getattr(self.adapter, "encode_patches", None))
        if own is None or callable(own) or not windows:  # a method, or a buffer of an nn.Module, is not meant
            return (default,) * 3
        with in_one_line(f"{self.spec}: {name}"):
            values = tuple(float(value) for value in own)
        if len(values) != 3 or not all(map(math.isfinite, values)) or (name == "std" and min(values) <= 0):
            wanted = "three numbers above 0" if name == "std" else "three numbers"
            raise RequestError(f"{self.spec}: {name} is {values}; make it {wanted}, red, green and blue")
        return values

    def _own_device(self, asked: str | torch.device) -> torch.device:
        with in_one_line(f"{self.spec}: device"):
            own = getattr(self.adapter, "device", None)
            return torch.device(asked if own is None else own)

    def _digest(self) -> str:
        with in_one_line(f"{self.spec}: digest"):
            own = getattr(self.adapter, "digest", None)
            own = "" if own is None else own
        if not isinstance(own, str):
            raise RequestError(f"{self.spec}: digest is a {type(own).__name__}; make it a string, or leave it out")
        return hashlib.sha256(own.encode("utf-8", "surrogatepass")).hexdigest() if own else ""

    def _describe(self) -> dict[str, Any]:
        described: dict[str, Any] = {"arch": type(self.adapter).__name__, "activation": "unknown", "source": self.spec}
        parameters = self.adapter.parameters() if isinstance(self.adapter, torch.nn.Module) else []
        described["parameters"] = sum(p.numel() for p in parameters) or None
        if callable(getattr(self.adapter, "describe", None)):
            with in_one_line(f"{self.spec}: describe"):
                own = self.adapter.describe()
            described |= json_values(own, f"{self.spec}: what describe() returns")
        return described

    def _checked(self, name: str) -> Any:
        return lambda items: self._rows(name, list(items))

    def _rows(self, name: str, items: Any) -> Tensor:
        with torch.no_grad(), in_one_line(f"{self.spec}: {name}"):
            values = getattr(self.adapter, name)(items)
        return as_rows(values, len(items), f"{self.spec}: {name}", has_similarity(self.adapter)).to(self.device)


class GuardedPreprocess:
    """An adapter's `preprocess` that refuses in one line; picklable where the adapter's is. The engine adds the
    image. `mean` and `std` are what segmentation normalises its windows by."""

    def __init__(
        self,
        preprocess: Callable[[Image.Image], Tensor],
        spec: str,
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
    ) -> None:
        self.own = preprocess
        self.spec = spec
        self.mean, self.std = mean, std

    def __call__(self, image: Image.Image) -> Tensor:
        """(3, H, W), float.

        Raises:
            RequestError: the adapter's method raised, or returned something else.
        """
        with in_one_line(f"{self.spec}: preprocess", memory_too=True):
            x = self.own(image)
        if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[0] != 3 or not x.is_floating_point():
            got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise RequestError(f"{self.spec}: preprocess returned {got}; return a float tensor (3, H, W)")
        return x


@contextmanager
def in_one_line(what: str, memory_too: bool = False) -> Iterator[None]:
    """Somebody else's code: whatever it raises becomes one line; running out of memory only with `memory_too`, since
    the engine has a better line for that."""
    try:
        yield
    except RequestError:
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error) and not memory_too:
            raise
        raise RequestError(f"{what} failed: {one_line(error)}") from error


def find_factory(spec: ModelSpec) -> Callable[..., Any]:
    """The function that a spec names; RequestError where its module cannot be imported or lacks it."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; the module may import its neighbours later on
    try:
        module = importlib.import_module(spec.name)
    except (Exception, SystemExit) as error:
        raise RequestError(
            f"{spec.text}: cannot import {spec.name}: {one_line(error)}; looked in {here} first"
        ) from error
    factory = getattr(module, spec.rest, None)
    if not callable(factory):
        raise RequestError(f"{spec.text}: {spec.name} has no function {spec.rest!r}; name one that returns the model")
    return factory


def check_python(spec: ModelSpec, fetch: bool = False) -> str:
    """What can be said of a `python:` spec without calling its factory: see `cosmos_eval.models.preflight`."""
    find_factory(spec)
    return ""


def load_python(spec: ModelSpec, device: str | torch.device = "cpu") -> PythonModel:
    """Import the module, call the factory, check what it returns.

    Raises:
        RequestError: the module cannot be imported, the factory is absent or fails, the object lacks a method, or what
            it says of itself is not JSON.
    """
    return call_adapter(find_factory(spec), [], spec, device, f"{spec.text}: {spec.rest}()")


def call_adapter(
    make: Callable[..., Any], arguments: Sequence[Any], spec: ModelSpec, device: str | torch.device, what: str
) -> PythonModel:
    """What a user's function or class makes, checked; it is given `device` where it has such a parameter.

    Args:
        what: names the call in refusals.

    Raises:
        RequestError: it fails, or returns no adapter; one line.
    """
    try:
        with in_one_line(what):
            takes_device = "device" in inspect.signature(make).parameters
            adapter = make(*arguments, device=device) if takes_device else make(*arguments)
        return adapted(adapter, spec.text, device, move=not takes_device)
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise RequestError(f"{spec.text}: out of memory making the model on {device}; give another --device") from error


def adapted(adapter: Any, spec: str, device: str | torch.device, move: bool = True) -> PythonModel:
    """An adapter behind its checks, `preprocess` tried; RequestError as `PythonModel`."""
    model = PythonModel(adapter, spec, device, move=move)
    if not hasattr(model, "image_rows"):
        _check_preprocess(model)
    return model


def as_model(model: Any, device: str | torch.device = "cpu", stays: bool = True) -> Any:
    """What `evaluate` was given as a model, as a `LoadedModel`: what `load_model` returns stays as it is, any object
    that `python:` accepts gets the same checks.

    Args:
        device: for an object that says no device of its own.
        stays: whether an nn.Module stays on the device that its parameters are on.

    Raises:
        RequestError: something else, or an object that lacks a method; says what to give.
    """
    name = model.__name__ if isinstance(model, type) else type(model).__name__
    if isinstance(model, type) or inspect.isroutine(model):
        raise RequestError(
            f"evaluate() was given the {'class' if isinstance(model, type) else 'function'} "
            f"{getattr(model, '__name__', name)}, not a model; call it, and give what it returns"
        )
    lacking = _lacking(model)
    if lacking:
        raise RequestError(
            f"evaluate() was given a {name} without {', '.join(lacking)}; give a model spec such as 'cosmos:toybox', "
            "what cosmos_eval.load_model returns, or an object with preprocess, encode_image and encode_text "
            "(or preprocess and score_pairs)"
        )
    if isinstance(model, Model | PairScorer):
        return model
    parameter = next(model.parameters(), None) if stays and isinstance(model, torch.nn.Module) else None
    place = device if parameter is None else parameter.device
    module = type(model).__module__
    parts = module.split(".") if isinstance(module, str) else [""]
    known = all(part.isidentifier() for part in parts) and name.isidentifier()
    return adapted(model, f"python:{module}:{name}" if known else "python:in_memory:model", place)


def _check_preprocess(model: PythonModel) -> None:
    """Try `preprocess` on a small grey image, so that a wrong one is refused before any data are read."""
    try:
        model.preprocess(Image.new("RGB", (40, 30), (128, 128, 128)))
    except RequestError as error:
        raise RequestError(f"{error} (tried on a grey image)") from error
