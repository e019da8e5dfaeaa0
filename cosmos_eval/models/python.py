'''`python:package.module:factory`: your own model, through an adapter of a few lines.

The factory has no parameters, or `device`, and returns an object with `preprocess`, `encode_image` and `encode_text`.
Modules in the current directory can be imported. This one, saved as `colours.py`, is `python:colours:build`:

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

An adapter may also have:

- `digest`, a string; `device`; `describe()`, a dictionary of JSON values for the result;
- `truncated(texts)`, a bool for each text: whether it is longer than the `context_length` tokens that the model reads
  (results count such texts);
- `read_image_embeddings(images)` and `read_text_embeddings(texts)`, for embeddings that are stored already.

`preprocess` runs in worker processes: make it picklable. `encode_image` receives its batch on the model's device: that
is the adapter's `device` if it has this attribute, else the one that was asked for. An nn.Module without a `device` is
moved there, unless its factory has the parameter `device` and so can move it itself.

An adapter may define its own score. `similarity(image_features, text_features)` returns (n, m) scores of (n, ...) and
(m, ...) features, which may then keep tokens, (B, L, D). `score_pairs(images, texts)` scores P images (P, 3, H, W) with
P texts; an adapter with it needs no `encode_image` and `encode_text`. Examples of both are in docs/own_models.md.

Segmentation needs `encode_patches(x, attention)`, which embeds windows (B, 3, H, W) of any size as (B, h, w, D), one
vector for each patch, by the attention variant that the benchmark names; raise an exception for a variant that your
model does not have. A window holds pixels from 0 to 1, minus the adapter's `mean` and divided by its `std` if it has
these attributes (three numbers each).
'''

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.memory_errors import is_out_of_memory
from cosmos_eval.models.base import Model, PairScorer
from cosmos_eval.models.in_memory import HOW, wrap_held
from cosmos_eval.models.python_adapter import PythonModel, as_request_error, missing_methods
from cosmos_eval.models.returned_values import format_error
from cosmos_eval.models.spec import ModelSpec


def load_python(spec: ModelSpec, device: str | torch.device = "cpu") -> PythonModel:
    """Import the module, call the factory, and check what it returns.

    Raises:
        RequestError: the module cannot be imported; the factory is missing or fails; the adapter lacks a method, or an
            attribute of it is wrong.
    """
    return build_adapter(find_factory(spec), [], spec, device, f"{spec.text}: {spec.rest}()")


def check_python(spec: ModelSpec, fetch: bool = False) -> str:
    """Check a `python:` spec without a call of its factory: see `cosmos_eval.models.preflight`."""
    find_factory(spec)
    return ""


def find_factory(spec: ModelSpec) -> Callable[..., Any]:
    """Import the function that a spec names; RequestError if its module cannot be imported or does not have it."""
    current_folder = str(Path.cwd())
    if current_folder not in sys.path and "" not in sys.path:
        # As `python -m` does. It stays there, because the module may import its neighbours later.
        sys.path.insert(0, current_folder)
    try:
        module = importlib.import_module(spec.name)
    except (Exception, SystemExit) as error:
        raise RequestError(
            f"{spec.text}: cannot import {spec.name}: {format_error(error)}; looked in {current_folder} first"
        ) from error
    factory = getattr(module, spec.rest, None)
    if not callable(factory):
        raise RequestError(f"{spec.text}: {spec.name} has no function {spec.rest!r}; name one that returns the model")
    return factory


def build_adapter(
    factory: Callable[..., Any], arguments: Sequence[Any], spec: ModelSpec, device: str | torch.device, owner: str
) -> PythonModel:
    """Call the function or class that makes an adapter, and check the adapter.

    Args:
        arguments: positional arguments; `device` is added if the factory has a parameter of that name.
        owner: names the factory in messages.

    Raises:
        RequestError: the factory fails, or returns no adapter.
    """
    try:
        with as_request_error(owner):
            takes_device = "device" in inspect.signature(factory).parameters
            adapter = factory(*arguments, device=device) if takes_device else factory(*arguments)
        return check_adapter(adapter, spec.text, device, move=not takes_device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RequestError(
            f"{spec.text}: out of memory while building the model on {device}; give another --device"
        ) from error


def check_adapter(adapter: Any, spec: str, device: str | torch.device, move: bool = True) -> PythonModel:
    """Wrap an adapter in a `PythonModel`, and try its `preprocess`; arguments and errors as `PythonModel`."""
    model = PythonModel(adapter, spec, device, move=move)
    if not hasattr(model, "read_image_embeddings"):
        _try_preprocess(model)
    return model


def _try_preprocess(model: PythonModel) -> None:
    """Call `preprocess` on a small grey image, so that a wrong one is refused before any data are read."""
    try:
        model.preprocess(Image.new("RGB", (40, 30), (128, 128, 128)))
    except RequestError as error:
        raise RequestError(f"{error} (tried on a grey image)") from error


def as_model(model: Any, device: str | torch.device = "cpu", stays: bool = True) -> Any:
    """Return the model that a caller of `evaluate` passed, as a `LoadedModel`.

    What `load_model` returned is returned as it is; its digest is computed anew. Models of open_clip and transformers
    are recognised with what belongs to them (`cosmos_eval.models.in_memory`). Any object that `python:` accepts is
    wrapped and checked as for such a spec.

    Args:
        device: for an object without an attribute `device`.
        stays: whether an nn.Module stays on the device of its parameters.

    Raises:
        RequestError: anything else, or an object without a required method; the message says what to pass.
    """
    held = wrap_held(model, None if stays else device)
    if held is not None:
        return held
    name = model.__name__ if isinstance(model, type) else type(model).__name__
    if isinstance(model, type) or inspect.isroutine(model):
        kind = "class" if isinstance(model, type) else "function"
        raise RequestError(
            f"evaluate() was given the {kind} {getattr(model, '__name__', name)}, not a model; call it, and give what "
            "it returns"
        )
    missing = missing_methods(model)
    if missing:
        raise RequestError(
            f"evaluate() was given an object of class {name} without {', '.join(missing)}; give a model spec such as "
            "'cosmos:toybox', what cosmos_eval.load_model returns, or an object with preprocess, encode_image and "
            f"encode_text (or preprocess and score_pairs); {HOW}"
        )
    if isinstance(getattr(type(model), "digest", None), cached_property):
        vars(model).pop("digest", None)  # the weights may have been changed since it was computed
    if isinstance(model, Model | PairScorer):
        return model
    parameter = next(model.parameters(), None) if stays and isinstance(model, torch.nn.Module) else None
    module_name = type(model).__module__
    parts = module_name.split(".") if isinstance(module_name, str) else [""]
    is_valid_spec = all(part.isidentifier() for part in parts) and name.isidentifier()
    spec = f"python:{module_name}:{name}" if is_valid_spec else "python:in_memory:model"
    return check_adapter(model, spec, device if parameter is None else parameter.device)
