"""`open_clip:ARCH/X`: a model of open_clip, X a tag of its registry or a checkpoint file.

The weights' own configuration decides the activation. open_clip builds what ARCH says and only warns when the weights
were trained otherwise (ViT-B-16 with the tag openai: four points of ImageNet lost); here the tag's configuration is
applied, a file that says otherwise than ARCH is refused, and the activation that a result records is read from the
built modules. A file that says nothing (OpenAI's weights saved again) where ARCH is trained both ways needs the user's
word: `ARCH-quickgelu/PATH`, `ARCH/PATH#quickgelu` or `ARCH/PATH#gelu`.
"""

import re
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, basic_clean, canonicalize_text
from torch import Tensor

from cosmos_core.byte_pairs import faster_tokenizer
from cosmos_core.dense import patch_features, require_supported_tower
from cosmos_core.errors import RequestError
from cosmos_core.text_tower import POOLED_AT_END, causal_text
from cosmos_eval.models import digest as identity
from cosmos_eval.models.activation import activation_of
from cosmos_eval.models.base import as_patches, as_rows, one_line
from cosmos_eval.models.hub import NOT_FETCHED, quiet_hub
from cosmos_eval.models.open_clip_network import build, fill, why_not_on_meta
from cosmos_eval.models.open_clip_source import (
    Source,
    find_source,
    is_at_hand,
    is_native,
    known_activations,
    trained_with_quick_gelu,
)
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.models.spec import LOCAL_DIR, ModelSpec
from cosmos_eval.models.tokenizer_checks import refuse_other_end, refuse_other_vocabulary, require_tokenizer_files
from cosmos_eval.models.trimmed import TrimmedText

__all__ = ["OpenClipModel", "known_activations", "load_open_clip", "trained_with_quick_gelu"]

EMBEDDINGS = re.compile(
    r"^(text\.)?token_embedding\.weight$|^text\.transformer\.(.*\.)?(word_embeddings|shared|embed_tokens)\.weight$"
)
"""The table of a text tower, open_clip's own or transformers'."""


class OpenClipModel:
    """An open_clip network with its tokenizer and preprocessing, ready to encode."""

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
        """`config` is open_clip's model configuration with the `quick_gelu` that was built; `source` a tag or a file
        name; `activation_source` who said which activation: registry tag, file, user or architecture."""
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
        rows = self.network.encode_image(x.to(self.device))  # type: ignore[operator]
        return as_rows(rows, len(x), f"{self.spec}: encode_image")

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        rows = self.network.encode_text(self.tokenizer(list(texts)).to(self.device))  # type: ignore[operator]
        return as_rows(rows, len(texts), f"{self.spec}: encode_text")

    @property
    def context_length(self) -> int:
        return int(self.tokenizer.context_length)

    def truncated(self, texts: Sequence[str]) -> list[bool] | None:
        """Whether each text is longer than the context, its special tokens counted; None for a tokenizer that is none
        of open_clip's."""
        lengths = [untruncated_length(self.tokenizer, text) for text in texts]
        return None if None in lengths else [length > self.context_length for length in lengths if length is not None]

    def tokenize(self, texts: list[str]) -> Tensor:
        """(B, L) ids."""
        return self.tokenizer(texts)

    @cached_property
    def trimmed_text(self) -> TrimmedText | None:
        """For texts that are cut behind the token that is read; None where the tower must see whole contexts."""
        tower = causal_text(self.network)
        return None if tower is None else TrimmedText(faster_tokenizer(self.tokenizer), tower, self.device)

    @torch.no_grad()
    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        self.check_patches()
        patches = patch_features(self.network.visual, x.to(self.device), attention)
        return as_patches(patches, len(x), f"{self.spec}: encode_patches")

    def check_patches(self) -> None:
        """RequestError where the image tower has no features of patches; one line."""
        require_supported_tower(self.network.visual, self.spec)

    @cached_property
    def digest(self) -> str:
        return identity.model_digest(
            self.network.state_dict(),
            {**self.config, "activation": activation_of(self.network)},
            {"identity": identity.tokenizer_identity(self.tokenizer, _vocabulary(self.tokenizer))},
            self.preprocess.describe(),
        )

    def describe(self) -> dict[str, Any]:
        context_length = self.tokenizer(["a"]).shape[1]
        return {
            "arch": self.arch,
            "activation": activation_of(self.network),
            "activation_source": self.activation_source,
            "tokenizer": type(self.tokenizer).__name__,
            "context_length": context_length,
            "text_case": identity.text_case(self.tokenizer),
            "padding": identity.text_padding(self.tokenizer, context_length),
            **self.preprocess.describe(),
            "parameters": identity.count_parameters(list(self.network.parameters())),
            "source": self.source,
        }


def load_open_clip(spec: ModelSpec, device: str | torch.device = "cpu") -> OpenClipModel:
    """Build what an `open_clip:` spec names. A tag's weights are fetched unless they are in the cache already.

    Raises:
        RequestError: as `find_source`; weights of another architecture or size, another library's names, or a tokenizer
            that is missing or another model's.
    """
    source = find_source(spec)
    network = build(source.build, source.preprocessing, spec.text, quick_gelu=source.quick_gelu)
    fill(network, source.content["state_dict"], source.path, source.arch, spec.text)
    built = activation_of(network)
    if source.quick_gelu != ("quick_gelu" in built) and is_native(source.config):
        # ours to mend, not the user's
        raise RuntimeError(f"asked open_clip for quick_gelu={source.quick_gelu} and got {built}")
    tokenizer = tokenizer_of(source, spec)
    return OpenClipModel(
        network,
        tokenizer,
        image_preprocess(network, spec),
        arch=source.arch,
        config=source.config,
        spec=spec.text,
        source=source.source,
        activation_source=source.decided_by,
        device=device,
    )


def tokenizer_of(source: Source, spec: ModelSpec) -> Any:
    """The tokenizer of a source; RequestError where it is missing or another model's."""
    text = source.config["text_cfg"]
    local = source.build.startswith(LOCAL_DIR)
    if local and text.get("hf_tokenizer_name"):
        require_tokenizer_files(Path(source.build.removeprefix(f"{LOCAL_DIR}:")), spec.text)
    try:
        with quiet_hub() if text.get("hf_tokenizer_name") and not local else nullcontext():
            tokenizer = open_clip.get_tokenizer(source.build) if local else _tokenizer(source.build)
    except Exception as error:
        raise RequestError(
            f"{spec.text}: the tokenizer of {source.arch} cannot be loaded: {one_line(error)}"
        ) from error
    try:
        refuse_other_tokenizer(tokenizer, source, spec)
    except RequestError:
        raise
    except Exception as error:  # settings of a tokenizer that it finds wrong when it is used
        raise RequestError(f"{spec.text}: the tokenizer of {source.arch} does not work: {one_line(error)}") from error
    return tokenizer


def refuse_other_tokenizer(tokenizer: Any, source: Source, spec: ModelSpec) -> None:
    """RequestError where a tokenizer's ids are not those of the text tower, as far as a folder or a file tells.

    The registry's own pairs are taken as they are: some of its tables of embeddings are larger than the vocabulary.
    """
    text, state = source.config["text_cfg"], source.content["state_dict"]
    vocabulary = _vocabulary(tokenizer)
    table = next((state[key] for key in state if EMBEDDINGS.search(key)), None)
    if vocabulary is None or table is None or not source.build.startswith(LOCAL_DIR):
        return
    refuse_other_vocabulary(max(vocabulary.values()) + 1, len(table), spec.text)
    if not text.get("hf_model_name") and text.get("pool_type", "argmax") in POOLED_AT_END:
        refuse_other_end(tokenizer, text.get("eos_id", 2) if text.get("pool_type") == "eos" else None, spec.text)


def check_open_clip(spec: ModelSpec, fetch: bool = False) -> str:
    """What can be said of an `open_clip:` spec without its weights: see `cosmos_eval.models.preflight`."""
    if not fetch and not is_at_hand(spec):
        return NOT_FETCHED
    source = find_source(spec, check=False, online=fetch)
    misfit = why_not_on_meta(source.build, source.content["state_dict"], source.path, source.arch, spec.text)
    if misfit is not None:
        raise misfit
    if fetch or source.build.startswith(LOCAL_DIR) or not source.config["text_cfg"].get("hf_tokenizer_name"):
        tokenizer_of(source, spec)
        return ""
    return f"its tokenizer {NOT_FETCHED}"


@lru_cache(maxsize=4)
def _tokenizer(name: str) -> Any:
    """The tokenizer of an architecture; a folder's, whose files may change, is not kept."""
    return open_clip.get_tokenizer(name)


def image_preprocess(network: torch.nn.Module, spec: ModelSpec) -> ImagePreprocess:
    """The preprocessing that a network carries; RequestError where a configuration beside the weights is none."""
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
    except Exception as error:  # a size of no numbers, a mean of words: whatever stands in the file
        raise RequestError(f"{spec.text}: its preprocess_cfg is not one of open_clip: {one_line(error)}") from error


def untruncated_length(tokenizer: Any, text: str) -> int | None:
    """Tokens of a text before one of open_clip's tokenizers cuts it; None for another tokenizer."""
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        return len(tokenizer.encode(text)) + 2
    if isinstance(tokenizer, HFTokenizer):
        clips = tokenizer.tokenizer_mode == "clips"  # which adds a start, an end and a class token by itself
        ids = tokenizer.tokenizer(
            tokenizer.clean_fn(text), add_special_tokens=not clips, truncation=False, padding=False, verbose=False
        )["input_ids"]
        return len(ids) + (3 if clips else 0)
    if isinstance(tokenizer, SigLipTokenizer):
        cleaned = canonicalize_text(basic_clean(text))
        return len(tokenizer.tokenizer(cleaned, truncation=False, padding=False, verbose=False)["input_ids"])
    return None


def _vocabulary(tokenizer: Any) -> dict[str, int] | None:
    if hasattr(tokenizer, "encoder"):
        return tokenizer.encoder
    return tokenizer.tokenizer.get_vocab() if hasattr(tokenizer, "tokenizer") else None
