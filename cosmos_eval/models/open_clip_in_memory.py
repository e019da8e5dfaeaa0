"""A network with `encode_image(x)` and `encode_text(ids)`, as the caller of `evaluate` holds it."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from cosmos_core.dense import patch_features
from cosmos_core.errors import RequestError
from cosmos_eval.models.abilities import no_patches_error
from cosmos_eval.models.activation import activations_of
from cosmos_eval.models.code_identity import identify_code
from cosmos_eval.models.digest import PROBES, count_parameters, model_digest, text_padding
from cosmos_eval.models.in_memory import HOW, device_of, dtype_of, identify_architecture, identify_preprocess
from cosmos_eval.models.open_clip import OpenClipModel
from cosmos_eval.models.python_adapter import CheckedPreprocess, as_request_error
from cosmos_eval.models.returned_values import as_features, as_patches


class HeldDualEncoder(OpenClipModel):
    """Adapter of a network in memory, which it does not change; `evaluate` puts it in eval mode for the time.

    Args:
        network: has `encode_image` and `encode_text`.
        preprocess: from a PIL image to a float tensor (3, H, W).
        tokenizer: from a list of B texts to (B, L) ids; texts that are too long are truncated.
        spec: name of the model in results.

    Raises:
        RequestError: preprocess or tokenizer fails on a small input, or is none.
    """

    def __init__(self, network: nn.Module, preprocess: Any, tokenizer: Any, *, spec: str) -> None:
        for name, part in (("preprocess", preprocess), ("tokenizer", tokenizer)):
            if not callable(part):
                raise RequestError(f"{spec}: {name} is a {type(part).__name__}, which cannot be called; {HOW}")
        self.network = network
        self.tokenizer = tokenizer
        self.spec = spec
        self.source = "in memory"
        self.arch = type(network).__name__
        self.device, self.dtype = device_of(network), dtype_of(network)
        mean, std = _find_normalisation(network, preprocess)
        self.preprocess = CheckedPreprocess(preprocess, spec, mean, std)  # type: ignore[assignment]
        self.preprocess(Image.new("RGB", (40, 30), (128, 128, 128)))
        with as_request_error(f"{spec}: the tokenizer"):
            ids = tokenizer(["a", max(PROBES, key=len)])
        if not isinstance(ids, Tensor) or ids.ndim != 2:
            raise RequestError(f"{spec}: the tokenizer returned a {type(ids).__name__}, not ids (B, L); {HOW}")
        self._length = ids.shape[1]

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        with as_request_error(f"{self.spec}: encode_image"):
            features = self.network.encode_image(x.to(self.device, self.dtype))  # type: ignore[operator]
        return as_features(features, len(x), f"{self.spec}: encode_image")

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        with as_request_error(f"{self.spec}: encode_text"):
            return super().encode_text(texts)

    @property
    def context_length(self) -> int:
        return int(getattr(self.tokenizer, "context_length", None) or self._length)

    @torch.no_grad()
    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        self.check_patches()
        patches = patch_features(self.network.visual, x.to(self.device, self.dtype), attention)
        return as_patches(patches, len(x), f"{self.spec}: encode_patches")

    def check_patches(self) -> None:
        if not hasattr(self.network, "visual"):
            raise no_patches_error(self.spec, f"{self.arch} has no image tower `visual`")
        super().check_patches()

    @cached_property
    def digest(self) -> str:
        return model_digest(
            self.network.state_dict(),
            identify_architecture(self.network),
            {**self.identify_tokenizer(), "code": identify_code(self.tokenizer)},
            identify_preprocess(self.preprocess),
        )

    def describe(self) -> dict[str, Any]:
        return {
            "arch": self.arch,
            "activation": activations_of(self.network),
            "tokenizer": type(self.tokenizer).__name__,
            "context_length": self.context_length,
            "padding": text_padding(self.tokenizer, self.context_length),
            "image_size": list(self.preprocess(Image.new("RGB", (40, 30))).shape[1:]),
            "parameters": count_parameters(list(self.network.parameters())),
            "dtype": str(self.dtype).removeprefix("torch."),
            "source": self.source,
        }


def _find_normalisation(network: nn.Module, preprocess: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std for windows of segmentation: those of `Normalize` in the preprocessing, or of the network."""
    for transform in reversed(getattr(preprocess, "transforms", ())):
        if hasattr(transform, "mean") and hasattr(transform, "std"):
            return _three(transform.mean), _three(transform.std)
    visual = getattr(network, "visual", None)
    mean, std = getattr(visual, "image_mean", None), getattr(visual, "image_std", None)
    return (_three(mean), _three(std)) if mean is not None and std is not None else ((0.0,) * 3, (1.0,) * 3)


def _three(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
