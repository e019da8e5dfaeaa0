"""`cosmos:`: a COSMOS, from a released name, a checkpoint file, the package itself, or memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_core import released
from cosmos_core.attention_maps import AttentionMaps, attention_maps
from cosmos_core.checkpoint import check_checkpoint, load_checkpoint
from cosmos_core.configs import PRESETS, preset
from cosmos_core.dense import patch_features
from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.layouts import NetworkName
from cosmos_core.model import COSMOS
from cosmos_core.released import RELEASED
from cosmos_core.snapshot_checks import require_newest_last
from cosmos_core.text_tower import CausalText
from cosmos_core.token_words import words_of
from cosmos_core.tokenizer import build_tokenizer
from cosmos_eval.models import digest as identity
from cosmos_eval.models.activation import activation_of
from cosmos_eval.models.base import as_patches, as_rows
from cosmos_eval.models.hub import NOT_FETCHED, quiet_hub
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.models.spec import ModelSpec
from cosmos_eval.models.trimmed import TrimmedText

UNTRAINED = "untrained-"


class CosmosModel:
    """A COSMOS ready to encode, as it stands in memory.

    The network is not changed: a model that is being trained keeps its training mode and its gradients. The digest is
    that of the weights when it is first asked for; wrap the network again after it has learnt more.

    Args:
        core: the network; images are scaled to its own size, texts tokenized for its own vocabulary and context.
        spec: what results call it.
        device: where it is moved to; where it is already when absent.
        source: the file or name that it came from, without folders of this machine.
    """

    def __init__(
        self,
        core: COSMOS,
        spec: str = "cosmos:in-memory",
        device: str | torch.device | None = None,
        source: str = "in memory",
    ) -> None:
        self.core = core if device is None else core.to(device)
        self.spec = spec
        self.source = source
        self.device = next(self.core.parameters()).device
        self.preprocess = ImagePreprocess(self.core.image_size)
        self.tokenize: Any = build_tokenizer(self.core.config["text_cfg"])

    def encode_image(self, x: Tensor) -> Tensor:
        with self._at_rest():
            return as_rows(self.core.encode_image(x.to(self.device)), len(x), f"{self.spec}: encode_image")

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        with self._at_rest():
            ids = self.tokenize(list(texts)).to(self.device)
            return as_rows(self.core.encode_text(ids), len(texts), f"{self.spec}: encode_text")

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the context, its start and end tokens counted."""
        return [len(self.tokenize.encode(text)) + 2 > self.core.context_length for text in texts]

    @property
    def trimmed_text(self) -> TrimmedText:
        tower = CausalText(self.core, self.core.text_pool_type, self.core.text_end_id)
        return TrimmedText(self.tokenize, tower, self.device, self._at_rest)

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        with self._at_rest():
            patches = patch_features(self.core.visual, x.to(self.device), attention)
            return as_patches(patches, len(x), f"{self.spec}: encode_patches")

    def attention_maps(self, x: Tensor, texts: Sequence[str]) -> AttentionMaps:
        with self._at_rest():
            ids = self.tokenize(list(texts)).to(self.device)
            maps = attention_maps(self.core, x.to(self.device), ids)
        return replace(maps, words=tuple(words_of(self.tokenize, texts)))

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        was_training = self.core.training
        if was_training:
            self.core.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            if was_training:
                self.core.train()

    @cached_property
    def digest(self) -> str:
        return identity.model_digest(
            self.core.state_dict(),
            {"kind": "cosmos", **self.core.config},
            {"identity": identity.tokenizer_identity(self.tokenize)},
            self.preprocess.describe(),
        )

    def describe(self) -> dict[str, Any]:
        return {
            "arch": _architecture(self.core.config),
            "activation": activation_of(self.core),
            "tokenizer": self.tokenize.name,
            "context_length": self.core.context_length,
            "text_case": identity.text_case(self.tokenize),
            "padding": identity.text_padding(self.tokenize, self.core.context_length),
            **self.preprocess.describe(),
            "parameters": identity.count_parameters(list(self.core.parameters())),
            "source": self.source,
        }


def load_cosmos(spec: ModelSpec, device: str | torch.device = "cpu") -> CosmosModel:
    """Load what a `cosmos:` spec names: `toybox` (comes with the package), `untrained-PRESET?seed=N`, a released
    name, or a path. A released checkpoint is fetched unless it is in the cache already.

    Raises:
        RequestError: no such name or file, or a file that is not a COSMOS checkpoint; says which and why.
    """
    which = which_network(spec)
    if spec.name.startswith(UNTRAINED):
        from cosmos_core.train import initial_model

        core = initial_model(spec.name.removeprefix(UNTRAINED), spec.seed)
        source = f"initial weights of seed {spec.seed}"
    elif spec.name == "toybox":
        refuse_toyboxs_student(spec)
        with as_file(files("cosmos_core") / "assets" / "toybox.safetensors") as asset:
            core, source = load_checkpoint(asset, weights=which), "comes with the package"
    else:
        require_newest_last(Path(spec.name))
        with quiet_hub() if spec.name in RELEASED else nullcontext():
            core = load_checkpoint(spec.name, weights=which)
        source = f"{Path(spec.name).name}#{which}"
    core.requires_grad_(False)
    return CosmosModel(core.eval(), spec.text, device, source)


def check_cosmos(spec: ModelSpec, fetch: bool = False) -> str:
    """What can be said of a `cosmos:` spec without its weights: see `cosmos_eval.models.preflight`."""
    if spec.name.startswith(UNTRAINED):
        preset(spec.name.removeprefix(UNTRAINED))
        return ""
    if spec.name == "toybox":
        refuse_toyboxs_student(spec)
        return ""
    path = user_path(spec.name)
    if spec.name in RELEASED and not path.is_file():
        cached = released.cached(spec.name)
        if cached is None and not fetch:
            return NOT_FETCHED
        with quiet_hub() if cached is None else nullcontext():
            path = cached or released.fetch(spec.name)
    check_checkpoint(path, which_network(spec))
    return ""


def which_network(spec: ModelSpec) -> NetworkName:
    return "student" if spec.selector == "student" else "teacher"


def refuse_toyboxs_student(spec: ModelSpec) -> None:
    if spec.selector == "student":
        raise RequestError(f"{spec.text}: the package holds toybox's teacher only; write cosmos:toybox")


def _architecture(config: dict[str, Any]) -> str:
    for name, known in PRESETS.items():
        if config == known:
            return f"COSMOS {name}"
    vision = config["vision_cfg"]
    return f"COSMOS {vision.get('layers', 12)}x{vision.get('width', 768)}/{vision.get('patch_size', 16)}"
