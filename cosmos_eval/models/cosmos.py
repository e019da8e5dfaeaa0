"""`cosmos:`: a COSMOS model from a released name, a checkpoint file, the package itself, or memory."""

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
from cosmos_core.cross_scores import cross_scores, image_states
from cosmos_core.dense import patch_features, supported_attentions
from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.initial_weights import InitialWeights
from cosmos_core.layouts import NetworkName
from cosmos_core.model import COSMOS
from cosmos_core.released import RELEASED
from cosmos_core.snapshot_checks import require_newest_last
from cosmos_core.suggestions import close
from cosmos_core.text_tower import CausalText
from cosmos_core.token_words import words_of
from cosmos_core.tokenizer import build_tokenizer
from cosmos_eval.models.abilities import scale_and_bias
from cosmos_eval.models.activation import activations_of
from cosmos_eval.models.base import ShortRepr
from cosmos_eval.models.digest import count_parameters, model_digest, text_case, text_padding, tokenizer_identity
from cosmos_eval.models.hub import NOT_FETCHED, quiet_hub
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.models.returned_values import as_features, as_patches
from cosmos_eval.models.spec import ModelSpec
from cosmos_eval.models.trimmed_text import TrimmedText

UNTRAINED = "untrained-"
"""Prefix of a preset's name that stands for random weights of that preset."""


class CosmosModel(ShortRepr):
    """Adapter of a COSMOS network in memory.

    The network is not changed: one in training keeps its training mode and its gradients. `digest` is computed at
    first access and then kept, so a network that was trained further needs a new adapter.

    Args:
        core: the network; its configuration determines the image size, the vocabulary and the context length.
        spec: the name of the model in results.
        device: moves the network there; by default it stays where it is.
        source: the file or name that the weights come from, without folders of this machine.
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
        with self._evaluation_mode():
            return as_features(self.core.encode_image(x.to(self.device)), len(x), f"{self.spec}: encode_image")

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        with self._evaluation_mode():
            ids = self.tokenize(list(texts)).to(self.device)
            return as_features(self.core.encode_text(ids), len(texts), f"{self.spec}: encode_text")

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the context, its start and end tokens counted."""
        return [len(self.tokenize.encode(text)) + 2 > self.core.context_length for text in texts]

    @property
    def trimmed_text(self) -> TrimmedText:
        """Tokenizer and text tower for texts without padding; possible because the tower is causal."""
        tower = CausalText(self.core, self.core.text_pool_type, self.core.text_end_id)
        return TrimmedText(self.tokenize, tower, self.device, self._evaluation_mode)

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        with self._evaluation_mode():
            patches = patch_features(self.core.visual, x.to(self.device), attention)
            return as_patches(patches, len(x), f"{self.spec}: encode_patches")

    def attention_maps(self, x: Tensor, texts: Sequence[str]) -> AttentionMaps:
        """Weights of the cross-attention poolers, each image with its own text: see `AttentiveModel`."""
        with self._evaluation_mode():
            ids = self.tokenize(list(texts)).to(self.device)
            maps = attention_maps(self.core, x.to(self.device), ids)
        return replace(maps, words=tuple(words_of(self.tokenize, texts)))

    @contextmanager
    def _evaluation_mode(self) -> Iterator[None]:
        """Eval mode without gradients; afterwards the network is in the mode that it was in before."""
        was_training = self.core.training
        if was_training:
            self.core.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            if was_training:
                self.core.train()

    @property
    def attentions(self) -> tuple[str, ...]:
        """Attention variants of `encode_patches`."""
        return supported_attentions(self.core.visual)

    def initial_weights(self) -> InitialWeights:
        """What a training starts from (`init`)."""
        return InitialWeights(self.spec, self.core.config, self.core.state_dict())

    def facts(self) -> dict[str, Any]:
        """What `show model` prints beyond `describe()`."""
        return scale_and_bias(self.core)

    @cached_property
    def digest(self) -> str:
        return model_digest(
            self.core.state_dict(),
            self._identity(),
            {"identity": tokenizer_identity(self.tokenize)},
            self.preprocess.describe(),
        )

    def _identity(self) -> dict[str, Any]:
        """The part of the digest that says what is computed with the weights."""
        return {"kind": "cosmos", **self.core.config}

    def describe(self) -> dict[str, Any]:
        return {
            "arch": _architecture(self.core.config),
            "activation": activations_of(self.core),
            "tokenizer": self.tokenize.name,
            "context_length": self.core.context_length,
            "text_case": text_case(self.tokenize),
            "padding": text_padding(self.tokenize, self.core.context_length),
            **self.preprocess.describe(),
            "parameters": count_parameters(list(self.core.parameters())),
            "source": self.source,
        }


class CrossScoringCosmos(CosmosModel):
    """A COSMOS that scores pairs by its cross-attention poolers (`cosmos_core.cross_scores`): a `PairScorer`.

    Its embeddings are those of the plain model, so that they can select candidates for reranking. It has a digest of
    its own: neither results nor cached features are shared with the plain model.
    """

    def encode_pair_images(self, x: Tensor) -> Tensor:
        with self._evaluation_mode():
            return image_states(self.core, x.to(self.device))

    def score_encoded_pairs(self, states: Tensor, texts: Sequence[str]) -> Tensor:
        with self._evaluation_mode():
            return cross_scores(self.core, states, self.tokenize(list(texts)).to(self.device))

    def score_pairs(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        return self.score_encoded_pairs(self.encode_pair_images(images), texts)

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "scorer": "cross"}

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "scorer": "cross"}


def load_cosmos(spec: ModelSpec, device: str | torch.device = "cpu") -> CosmosModel:
    """Load a COSMOS: `toybox` (part of the package), `untrained-PRESET?seed=N`, a released name, or a path.

    A released checkpoint is downloaded unless it is in the cache. With `?scorer=cross` it scores pairs by its
    cross-attention poolers.

    Raises:
        RequestError: no such name or file, or a file that is not a COSMOS checkpoint; the message says why.
    """
    network_name = selected_network(spec)
    if spec.name.startswith(UNTRAINED):
        from cosmos_core.train import initial_model

        core = initial_model(spec.name.removeprefix(UNTRAINED), spec.seed)
        source = f"initial weights of seed {spec.seed}"
    elif spec.name == "toybox":
        check_toybox_network(spec)
        with as_file(files("cosmos_core") / "assets" / "toybox.safetensors") as asset:
            core, source = load_checkpoint(asset, weights=network_name), "comes with the package"
    else:
        require_newest_last(Path(spec.name))
        with quiet_hub() if spec.name in RELEASED else nullcontext():
            core = load_checkpoint(spec.name, weights=network_name)
        source = f"{Path(spec.name).name}#{network_name}"
    core.requires_grad_(False)
    adapter = CrossScoringCosmos if spec.options.get("scorer") == "cross" else CosmosModel
    return adapter(core.eval(), spec.text, device, source)


def check_cosmos(spec: ModelSpec, fetch: bool = False) -> str:
    """Check a `cosmos:` spec without reading its weights: see `cosmos_eval.models.preflight`."""
    if spec.name.startswith(UNTRAINED):
        preset(spec.name.removeprefix(UNTRAINED))
        return ""
    if spec.name == "toybox":
        check_toybox_network(spec)
        return ""
    path = user_path(spec.name)
    if spec.name in RELEASED and not path.is_file():
        cached = released.cached(spec.name)
        if cached is None and not fetch:
            return NOT_FETCHED
        with quiet_hub() if cached is None else nullcontext():
            path = cached or released.fetch(spec.name)
    elif not path.exists() and (suggestion := close(spec.name, (*RELEASED, "toybox"))):
        raise RequestError(f"{spec.text}: there is no checkpoint file and no checkpoint of this name{suggestion}")
    check_checkpoint(path, selected_network(spec))
    return ""


def selected_network(spec: ModelSpec) -> NetworkName:
    """The network of a checkpoint that a spec selects: the teacher unless it ends in `#student`."""
    return "student" if spec.selector == "student" else "teacher"


def check_toybox_network(spec: ModelSpec) -> None:
    """RequestError if a `cosmos:toybox` spec selects the student, which is not part of the package."""
    if spec.selector == "student":
        raise RequestError(f"{spec.text}: the package holds toybox's teacher only; write cosmos:toybox")


def _architecture(config: dict[str, Any]) -> str:
    """The preset's name if the configuration is that of a preset, else depth, width and patch size."""
    for name, preset_config in PRESETS.items():
        if config == preset_config:
            return f"COSMOS {name}"
    vision = config["vision_cfg"]
    return f"COSMOS {vision.get('layers', 12)}x{vision.get('width', 768)}/{vision.get('patch_size', 16)}"
