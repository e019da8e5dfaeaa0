"""Models of other libraries that a caller of `evaluate` holds in memory: what identifies them, and how they are named.

`evaluate((model, preprocess, tokenizer), ...)`: any network with `encode_image(x)` and `encode_text(ids)`, as those of
open_clip and of OpenAI's clip. `evaluate((model, processor), ...)`: a dual encoder of transformers, of a family in
`hf_families` with one vector for each image. A `COSMOS` needs nothing else. Nothing of such a model is changed: its
dtype, its device and its gradients stay.

Their digest covers the weights and all other tensors as they are now, the modules with their settings and their code,
the tokenizer, and what the preprocessing makes of a few images. It is never that of a spec, since such an object does
not say which architecture of which library it is.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.models.activation import activations_of
from cosmos_eval.models.base import LoadedModel
from cosmos_eval.models.code_identity import identify_modules, settings_of, unsaved_tensors, without_addresses
from cosmos_eval.models.digest import weights_digest
from cosmos_eval.models.python_adapter import as_request_error

HOW = (
    "give a model of open_clip as the tuple (model, preprocess, tokenizer), a dual encoder of transformers (CLIP, "
    "SigLIP and the other families of hf:) as (model, processor), and any other by a spec: hf:, st:, flair:, python:"
)
"""For messages."""
_PROBE_SIZES = ((64, 64), (97, 131), (300, 200))
"""Height and width of the images that are preprocessed for the digest: square, upright, lying."""


def wrap_held(model: Any, device: str | torch.device | None) -> LoadedModel | None:
    """Return the adapter of a model that is held in memory; None if it has none of the known forms.

    Args:
        model: a tuple (network, preprocess, tokenizer) or (network, processor), or a `cosmos_core.COSMOS`.
        device: moves the network there; None leaves it where it is.

    Raises:
        RequestError: a tuple of other things, or one of these fails on a small input; says which.
    """
    network, *others = (model or (None,)) if isinstance(model, tuple | list) else (model,)
    if not isinstance(network, nn.Module):
        if isinstance(model, tuple | list):
            raise RequestError(f"evaluate() was given a {type(model).__name__} that does not begin with a model; {HOW}")
        return None
    wrap = _find_wrapper(network, others)
    if wrap is None:
        return None
    if device is not None:
        with as_request_error(f"moving the model to {device}"):
            network.to(device)
    return wrap()


def _find_wrapper(network: nn.Module, others: list[Any]) -> Callable[[], LoadedModel] | None:
    """Return what makes the adapter of a network with further parts; None for a network alone that is not a COSMOS."""
    spec = name_network(network)
    if not others:
        from cosmos_core.model import COSMOS

        if not isinstance(network, COSMOS):
            return None
        from cosmos_eval.models.cosmos import CosmosModel
        from cosmos_eval.models.cosmos_in_memory import ChangedCosmosModel

        return partial(CosmosModel if type(network) is COSMOS else ChangedCosmosModel, network)
    if len(others) == 1 and hasattr(network, "get_image_features"):
        from cosmos_eval.models.hf_in_memory import HeldHfModel

        return partial(HeldHfModel, network, others[0], spec=spec)
    if len(others) == 2 and all(hasattr(network, name) for name in ("encode_image", "encode_text")):
        from cosmos_eval.models.open_clip_in_memory import HeldDualEncoder

        return partial(HeldDualEncoder, network, *others, spec=spec)
    raise RequestError(
        f"evaluate() was given a {type(network).__name__} with {plural(len(others), 'further part')}, which fits none "
        f"of the known forms; {HOW}"
    )


def name_network(network: nn.Module) -> str:
    """Return the spec of a network in results: its class."""
    return f"python:{type(network).__module__}:{type(network).__name__}"


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's parameters; the CPU if it has none."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the type of a network's first floating-point parameter."""
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


def identify_architecture(network: nn.Module) -> dict[str, Any]:
    """Return JSON values that identify what a network computes of its weights: its modules with their settings and
    their code, and the tensors that its state dict lacks."""
    return {
        "class": name_network(network),
        "modules": without_addresses(network),
        "settings": {name: settings_of(module) for name, module in network.named_modules()},
        "code": identify_modules(network),
        "unsaved": weights_digest(unsaved_tensors(network)),
        "activation": activations_of(network),
        "dtype": str(dtype_of(network)),
    }


def identify_preprocess(preprocess: Callable[[Image.Image], Tensor]) -> dict[str, Any]:
    """Return JSON values that identify a preprocessing: its text, and what it makes of three images.

    Raises:
        RequestError: it makes something else of the same image the second time, as transforms for training do.
    """
    digest = hashlib.sha256()
    for seed, size in enumerate(_PROBE_SIZES):
        image = _probe_image(seed, size)
        first, second = preprocess(image.copy()), preprocess(image.copy())
        if not torch.equal(first, second):
            raise RequestError(
                "preprocess makes something else of the same image the second time; give the one for evaluation "
                "(preprocess_val of open_clip.create_model_and_transforms), not the one for training"
            )
        digest.update(f"{tuple(first.shape)} {first.dtype}\n".encode())
        digest.update(first.cpu().contiguous().float().numpy().tobytes())
    return {"text": without_addresses(preprocess), "probes": digest.hexdigest()}


def _probe_image(seed: int, size: tuple[int, int]) -> Image.Image:
    """Return noise of large and small patches, so that resampling, crops and padding all show."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    coarse = Image.fromarray(pixels[:8, :8]).resize(size[::-1], Image.Resampling.BICUBIC)
    return Image.blend(coarse, Image.fromarray(pixels), 0.3)
