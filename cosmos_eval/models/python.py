'''`python:package.module:factory`: your own model, by an adapter of a few lines.

The factory takes nothing, or `device`, and returns an object with `preprocess`, `encode_image` and `encode_text`;
modules in the current directory can be imported. This one, saved as `colours.py`, is `python:colours:build`:

    import torch
    from torchvision.transforms.functional import pil_to_tensor

    WORDS = ("red", "green", "blue")

    class Colours:
        """The mean colour of a picture, and how often a text names red, green and blue."""

        digest = "colours-1"  # optional; changes whenever the numbers can change; without it nothing is ever cached

        def preprocess(self, image):  # a PIL picture in RGB -> float tensor (3, H, W), all of one size
            return pil_to_tensor(image.resize((32, 32))).float() / 255

        def encode_image(self, x):  # (B, 3, H, W) -> (B, D), need not be normalised
            return x.mean(dim=(2, 3))

        def encode_text(self, texts):  # list of B strings -> (B, D)
            return torch.tensor([[text.lower().split().count(word) + 0.01 for word in WORDS] for text in texts])

    def build():
        return Colours()

Optional besides `digest`: `describe()` (a dictionary of JSON values for the result), `device`, and
`image_rows(pictures)` with `text_rows(texts)` for vectors that exist already. `preprocess` runs in worker processes:
make it picklable.
'''

import importlib
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.models.base import as_rows, one_line
from cosmos_eval.models.spec import ModelSpec

_NEEDED = ("preprocess", "encode_image", "encode_text")


class PythonModel:
    """A user's adapter behind checks: wrong returns are refused in one line instead of failing far away."""

    def __init__(self, adapter: Any, spec: str, device: str | torch.device = "cpu") -> None:
        lacking = [name for name in _NEEDED if not callable(getattr(adapter, name, None))]
        if lacking:
            raise RequestError(
                f"{spec} gave a {type(adapter).__name__} without {', '.join(lacking)}; "
                "return an object with preprocess, encode_image and encode_text"
            )
        self.adapter = adapter
        self.spec = spec
        self.device = torch.device(getattr(adapter, "device", device))
        self.preprocess = adapter.preprocess
        self.digest = getattr(adapter, "digest", "")
        if not isinstance(self.digest, str):
            raise RequestError(f"{spec}: digest is a {type(self.digest).__name__}; make it a string, or leave it out")
        if isinstance(adapter, torch.nn.Module):
            adapter.eval()
        for name in ("image_rows", "text_rows"):
            if callable(getattr(adapter, name, None)):
                # An attribute only where the adapter has it: the engine asks by hasattr.
                setattr(self, name, self._checked(name))

    def encode_image(self, x: Tensor) -> Tensor:
        return self._rows("encode_image", x.to(self.device))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._rows("encode_text", list(texts))

    def describe(self) -> dict[str, Any]:
        """What the adapter says of itself, over a minimum. The result is plain JSON values.

        Raises:
            RequestError: the adapter's `describe` returns something else.
        """
        described: dict[str, Any] = {"arch": type(self.adapter).__name__, "activation": "unknown", "source": self.spec}
        parameters = self.adapter.parameters() if isinstance(self.adapter, torch.nn.Module) else []
        described["parameters"] = sum(p.numel() for p in parameters) or None
        own = self.adapter.describe() if callable(getattr(self.adapter, "describe", None)) else {}
        try:
            return {**described, **json.loads(json.dumps(dict(own), allow_nan=False))}
        except (TypeError, ValueError) as error:
            raise RequestError(f"{self.spec}: describe() must return a dictionary of JSON values: {error}") from error

    def _checked(self, name: str) -> Any:
        return lambda items: self._rows(name, list(items))

    def _rows(self, name: str, items: Any) -> Tensor:
        with torch.no_grad():
            values = getattr(self.adapter, name)(items)
        return as_rows(values, len(items), f"{self.spec}: {name}").to(self.device)


def load_python(spec: ModelSpec, device: str | torch.device = "cpu") -> PythonModel:
    """Import the module, call the factory, check what it returns.

    Raises:
        RequestError: the module cannot be imported, the factory is absent or fails, or the object lacks a method.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; the module may import its neighbours later on
    try:
        module = importlib.import_module(spec.name)
    except Exception as error:
        raise RequestError(
            f"{spec.text}: cannot import {spec.name}: {one_line(error)}; looked in {here} first"
        ) from error
    factory = getattr(module, spec.rest, None)
    if not callable(factory):
        raise RequestError(f"{spec.text}: {spec.name} has no function {spec.rest!r}; name one that returns the model")
    try:
        takes_device = "device" in inspect.signature(factory).parameters
        adapter = factory(device=device) if takes_device else factory()
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{spec.text}: {spec.rest}() failed: {one_line(error)}") from error
    model = PythonModel(adapter, spec.text, device)
    if not hasattr(model, "image_rows"):
        _check_preprocess(model)
    return model


def _check_preprocess(model: PythonModel) -> None:
    """Try `preprocess` on a small grey picture, so that a wrong one is refused before any data are read."""
    try:
        x = model.preprocess(Image.new("RGB", (40, 30), (128, 128, 128)))
    except Exception as error:
        raise RequestError(f"{model.spec}: preprocess failed on a grey picture: {one_line(error)}") from error
    if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[0] != 3 or not x.is_floating_point():
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise RequestError(f"{model.spec}: preprocess returned {got}; return a float tensor (3, H, W)")
