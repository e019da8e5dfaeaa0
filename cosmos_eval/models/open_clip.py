"""`open_clip:ARCH/X`: a model of open_clip; X is a tag of its registry or a checkpoint file. `open_clip:local-dir:DIR`
and `open_clip:hf-hub:ORG/NAME`: a folder, and a repository on the hub, with open_clip's own configuration.

The weights determine the activation, not ARCH. open_clip builds what ARCH says, and only warns if the weights were
trained with another activation (ViT-B-16 with the tag openai loses four points on ImageNet). Here the activation of a
tag comes from the registry, a file that declares another activation than ARCH is refused, and the activation that a
result records is read from the built network. Some files declare nothing (OpenAI's weights saved again). If their ARCH
is in use with both activations, the user must choose: `ARCH-quickgelu/PATH`, `ARCH/PATH#quickgelu` or `ARCH/PATH#gelu`.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from typing import Any

import open_clip
import torch
from torch import Tensor

from cosmos_core.byte_pairs import faster_tokenizer
from cosmos_core.dense import patch_features, require_supported_tower, supported_attentions
from cosmos_core.devices import send
from cosmos_core.errors import RequestError
from cosmos_core.initial_weights import InitialWeights
from cosmos_core.text_tower import POOLED_AT_END, causal_text
from cosmos_eval.models.abilities import scale_and_bias
from cosmos_eval.models.activation import activations_of
from cosmos_eval.models.base import ShortRepr
from cosmos_eval.models.digest import count_parameters, model_digest, text_case, text_padding, tokenizer_identity
from cosmos_eval.models.hub import NOT_FETCHED
from cosmos_eval.models.nllb_languages import language_switch
from cosmos_eval.models.open_clip_activation import has_open_clip_tower
from cosmos_eval.models.open_clip_compat import (
    HFTokenizer,
    SigLipTokenizer,
    basic_clean,
    canonicalize_text,
    get_tokenizer,
    list_architectures,
)
from cosmos_eval.models.open_clip_network import TextTowerError, build, check_shapes, fill, initial_weights_of
from cosmos_eval.models.open_clip_source import OpenClipSource, find_source, is_local
from cosmos_eval.models.open_clip_text import text_library
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.models.returned_values import as_features, as_patches, format_error
from cosmos_eval.models.spec import ModelSpec
from cosmos_eval.models.tokenizer_checks import check_end_token, check_vocabulary_size, require_tokenizer_files
from cosmos_eval.models.trimmed_text import TrimmedText

EMBEDDING_TABLE = re.compile(
    r"^(text\.)?token_embedding\.weight$|^text\.transformer\.(.*\.)?(word_embeddings|shared|embed_tokens)\.weight$"
)
"""Matches the name of the token embeddings, in a text tower of open_clip or of transformers."""


class OpenClipModel(ShortRepr):
    """Adapter of an open_clip network with its tokenizer and preprocessing."""

    def __init__(
        self,
        network: torch.nn.Module,
        tokenizer: Any,
        preprocess: ImagePreprocess,
        *,
        arch: str,
        config: dict[str, Any],
        spec: str,
        source: str,
        activation_source: str,
        device: str | torch.device = "cpu",
    ) -> None:
        """Take over the network; it is set to eval mode and float32, without gradients.

        Args:
            arch: the architecture's name in results.
            config: open_clip's model configuration, with the `quick_gelu` that was built.
            source: a tag or a file name, without the folders of this machine.
            activation_source: what determined the activation: registry tag, file, user or architecture.
        """
        self.network = network.to(device).float().eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.arch = arch
        self.config = config
        self.spec = spec
        self.source = source
        self.activation_source = activation_source
        self.device = torch.device(device)

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        features = self.network.encode_image(x.to(self.device))  # type: ignore[operator]
        return as_features(features, len(x), f"{self.spec}: encode_image")

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        features = self.network.encode_text(send(self.tokenizer(list(texts)), self.device))  # type: ignore[operator]
        return as_features(features, len(texts), f"{self.spec}: encode_text")

    @cached_property
    def use_language(self) -> Callable[[str], AbstractContextManager[None]] | None:
        """Tells the tokenizer the language of texts (`cosmos_eval.models.base.LanguageModel`); None if it has none."""
        return language_switch(self.tokenizer, self.spec)

    @property
    def context_length(self) -> int:
        return int(self.tokenizer.context_length)

    def truncated(self, texts: Sequence[str]) -> list[bool] | None:
        """Whether each text is longer than the context, with its special tokens.

        None if this cannot be found, because the tokenizer is not one of open_clip's.
        """
        lengths = [untruncated_length(self.tokenizer, text) for text in texts]
        return None if None in lengths else [length > self.context_length for length in lengths if length is not None]

    def tokenize(self, texts: list[str]) -> Tensor:
        """B texts -> (B, L) ids."""
        return self.tokenizer(texts)

    @cached_property
    def trimmed_text(self) -> TrimmedText | None:
        """Tokenizer and text tower for texts without padding; None if the tower needs whole contexts."""
        tower = causal_text(self.network)
        return None if tower is None else TrimmedText(faster_tokenizer(self.tokenizer), tower, self.device)

    @torch.no_grad()
    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        self.check_patches()
        patches = patch_features(self.network.visual, x.to(self.device), attention)
        return as_patches(patches, len(x), f"{self.spec}: encode_patches")

    def check_patches(self) -> None:
        """RequestError if the image tower is of a kind without patch features."""
        require_supported_tower(self.network.visual, self.spec)

    @property
    def attentions(self) -> tuple[str, ...]:
        """Attention variants of `encode_patches`; none if the image tower has no patch features."""
        return supported_attentions(self.network.visual)

    def initial_weights(self) -> InitialWeights:
        """What a training of COSMOS starts from (`init`); RequestError if COSMOS's model lacks such towers."""
        return initial_weights_of(self.network, self.config, self.spec)

    def facts(self) -> dict[str, Any]:
        """What `show model` prints beyond `describe()`."""
        return scale_and_bias(self.network)

    @cached_property
    def digest(self) -> str:
        return model_digest(
            self.network.state_dict(),
            {**self.config, "activation": activations_of(self.network)},
            self.identify_tokenizer(),
            self.preprocess.describe(),
        )

    def identify_tokenizer(self) -> dict[str, str]:
        """What of the tokenizer is part of the digest."""
        identity = {"identity": tokenizer_identity(self.tokenizer, vocabulary_of(self.tokenizer))}
        # Results and features of other versions, which did not tell it, are not those of this one.
        return identity if self.use_language is None else {**identity, "languages": "told"}

    def describe(self) -> dict[str, Any]:
        context_length = self.tokenizer(["a"]).shape[1]
        return {
            "arch": self.arch,
            "activation": activations_of(self.network),
            "activation_source": self.activation_source,
            "tokenizer": type(self.tokenizer).__name__,
            "context_length": context_length,
            "text_case": text_case(self.tokenizer),
            "padding": text_padding(self.tokenizer, context_length),
            **self.preprocess.describe(),
            "parameters": count_parameters(list(self.network.parameters())),
            "source": self.source,
        }


def load_open_clip(spec: ModelSpec, device: str | torch.device = "cpu") -> OpenClipModel:
    """Load the model of an `open_clip:` spec. The weights of a tag are downloaded unless they are in the cache.

    Raises:
        RequestError: as `find_source`; weights of another architecture, image size or library; a tokenizer that is
            missing or belongs to another model.
    """
    source = find_source(spec)
    network = build(source.build_name, source.preprocessing, spec.text, **source.build_options)
    fill(network, source.state_dict, source.path, source.arch, spec.text)
    built_activations = activations_of(network)
    if source.quick_gelu != ("quick_gelu" in built_activations) and has_open_clip_tower(source.config):
        # Not a RequestError: the user cannot do anything about it.
        raise RuntimeError(f"open_clip was asked for quick_gelu={source.quick_gelu} and built {built_activations}")
    tokenizer = load_tokenizer(source, spec)
    return OpenClipModel(
        network,
        tokenizer,
        image_preprocess(network, spec),
        arch=source.arch,
        config=source.config,
        spec=spec.text,
        source=source.source,
        activation_source=source.activation_source,
        device=device,
    )


def check_open_clip(spec: ModelSpec, fetch: bool = False) -> str:
    """Check an `open_clip:` spec by names and shapes of its weights: see `cosmos_eval.models.preflight`."""
    if not fetch and not is_local(spec):
        return NOT_FETCHED
    source = find_source(spec, check=False, online=fetch)
    options = source.build_options
    try:
        check_shapes(source.build_name, source.state_dict, source.path, source.arch, spec.text, online=fetch, **options)
    except TextTowerError:
        if fetch:
            raise
        return f"the configuration of its text tower {NOT_FETCHED}"
    tokenizer_is_on_hub = source.config["text_cfg"].get("hf_tokenizer_name") and not source.is_folder
    if tokenizer_is_on_hub and not fetch:
        return f"its tokenizer {NOT_FETCHED}"
    load_tokenizer(source, spec)
    return ""


def load_tokenizer(source: OpenClipSource, spec: ModelSpec) -> Any:
    """The tokenizer of a source; RequestError if it is missing or belongs to another model."""
    text_cfg = source.config["text_cfg"]
    repository = text_cfg.get("hf_tokenizer_name")
    if source.tokenizer_folder is not None:
        require_tokenizer_files(source.tokenizer_folder, spec.text)
    try:
        with text_library(text_cfg, online=not source.is_folder):
            if source.tokenizer_folder not in (None, source.folder):
                tokenizer: Any = HFTokenizer(
                    str(source.tokenizer_folder),
                    context_length=text_cfg.get("context_length", 77),
                    tokenizer_mode=text_cfg.get("tokenizer_mode"),
                    **text_cfg.get("tokenizer_kwargs", {}),
                )
            elif source.is_folder:
                tokenizer = get_tokenizer(source.build_name)  # not cached: the files may change
            else:
                tokenizer = _registered_tokenizer(source.build_name)
    except Exception as error:
        advice = f"; fetch it on a connected machine with: hf download {repository}" if repository else ""
        is_missing = isinstance(error, OSError) and source.tokenizer_folder is None
        raise RequestError(
            f"{spec.text}: the tokenizer of {source.arch} cannot be loaded: {format_error(error, 200)}"
            f"{advice + ', and copy the cache (HF_HOME)' if is_missing else ''}"
        ) from error
    try:
        check_tokenizer(tokenizer, source, spec)
    except RequestError:
        raise
    except Exception as error:  # wrong settings of a tokenizer make it fail only when it is used
        raise RequestError(
            f"{spec.text}: the tokenizer of {source.arch} fails when it is used: {format_error(error)}"
        ) from error
    return tokenizer


@lru_cache(maxsize=4)
def _registered_tokenizer(arch: str) -> Any:
    return get_tokenizer(arch)


def check_tokenizer(tokenizer: Any, source: OpenClipSource, spec: ModelSpec) -> None:
    """RequestError if the ids of a folder's tokenizer are not those of its text tower.

    Architectures of open_clip's registry are not checked, nor folders with the same configuration and open_clip's own
    tokenizer: their tokenizers are right, but some of their embedding tables are much larger than the vocabulary.
    """
    text_config, state = source.config["text_cfg"], source.state_dict
    vocabulary = vocabulary_of(tokenizer)
    embeddings = next((state[key] for key in state if EMBEDDING_TABLE.search(key)), None)
    if vocabulary is None or embeddings is None or not source.is_folder:
        return
    if text_config.get("hf_tokenizer_name") or source.arch not in list_architectures():
        check_vocabulary_size(max(vocabulary.values()) + 1, len(embeddings), spec.text)
    pool_type = text_config.get("pool_type", "argmax")
    if not text_config.get("hf_model_name") and pool_type in POOLED_AT_END:
        check_end_token(tokenizer, text_config.get("eos_id", 2) if pool_type == "eos" else None, spec.text)


def image_preprocess(network: torch.nn.Module, spec: ModelSpec) -> ImagePreprocess:
    """The preprocessing that open_clip stored in a network.

    Raises:
        RequestError: the `preprocess_cfg` of a file or folder, from which it comes, is wrong.
    """
    settings = open_clip.get_model_preprocess_cfg(network)
    try:
        return ImagePreprocess(
            settings["size"],
            mean=settings["mean"],
            std=settings["std"],
            resize=settings["resize_mode"],
            interpolation=settings["interpolation"],
            fill=settings.get("fill_color", 0),
        )
    except RequestError as error:
        raise RequestError(f"{spec.text}: its preprocess_cfg: {error}") from error
    except Exception as error:  # values of any wrong type, such as a mean of words
        raise RequestError(f"{spec.text}: its preprocess_cfg is not one of open_clip: {format_error(error)}") from error


def untruncated_length(tokenizer: Any, text: str) -> int | None:
    """The number of tokens of a text before a tokenizer of open_clip truncates it; None for any other tokenizer."""
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        return len(tokenizer.encode(text)) + 2  # start and end token
    if isinstance(tokenizer, HFTokenizer):
        is_clips = tokenizer.tokenizer_mode == "clips"  # in this mode open_clip adds a start, an end and a class token
        ids = tokenizer.tokenizer(
            tokenizer.clean_fn(text), add_special_tokens=not is_clips, truncation=False, padding=False, verbose=False
        )["input_ids"]
        return len(ids) + (3 if is_clips else 0)
    if isinstance(tokenizer, SigLipTokenizer):
        cleaned = canonicalize_text(basic_clean(text))
        return len(tokenizer.tokenizer(cleaned, truncation=False, padding=False, verbose=False)["input_ids"])
    return None


def vocabulary_of(tokenizer: Any) -> dict[str, int] | None:
    """Word -> id of open_clip's own tokenizer or a wrapped one of transformers; None for any other tokenizer."""
    if hasattr(tokenizer, "encoder"):
        return tokenizer.encoder
    return tokenizer.tokenizer.get_vocab() if hasattr(tokenizer, "tokenizer") else None
