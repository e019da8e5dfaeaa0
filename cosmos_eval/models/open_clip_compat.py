"""Where versions of open_clip differ: the only module that knows of it.

Written for 3.3 (the locked version), and for 4.x as far as its published sources show: `factory.py` and
`model_traits.py` of its main branch, and the notes of release 4.2.1. The differences that matter here:

- the registry of 4.x also has models that are not image-text dual encoders: audio-text models (`audio_cfg`, or
  `genlap_cfg`), and generative ones without a contrastive score (`genlip_cfg`);
- MaMMUT has no `text_cfg`: its one decoder in `multimodal_cfg` is the text tower, with the settings of the tokenizer;
- NaFlex image towers take dictionaries of patches in place of tensors of pixels;
- 4.x drops `trust_remote_code` from the settings of a tokenizer, 3.x passes it on: `open_clip_folder` refuses it;
- `jit` is gone from `create_model`, and OpenAI's weights come from the Hugging Face hub; neither is relied on here.

What else is imported here is where it was in both. Version 4 itself could not be installed where this was written: no
index there has it, and `pyproject.toml` asks for a version below 4.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import open_clip
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, basic_clean, canonicalize_text

__all__ = [
    "HFTokenizer", "SigLipTokenizer", "basic_clean", "canonicalize_text", "convert_state_dict",
    "convert_to_custom_text_state_dict", "download_pretrained", "get_pretrained_cfg", "get_tokenizer",
    "list_architectures", "list_pretrained_tags_by_model", "model_config", "text_config", "why_no_dual_encoder",
]  # fmt: skip

get_tokenizer: Callable[..., Any] = open_clip.get_tokenizer


def list_architectures() -> list[str]:
    """Names of all architectures of the registry, in its order; `why_no_dual_encoder` says which cannot be used."""
    return list(open_clip.list_models())


def model_config(name: str) -> dict[str, Any] | None:
    """A copy of an architecture's configuration with `vision_cfg` and `text_cfg`, None for an unknown name.

    An entry without one of the two towers gets an empty one; where the decoder is the text tower, its settings.
    """
    config = open_clip.get_model_config(name)
    if config is None:
        return None
    config = deepcopy(config)
    config.setdefault("vision_cfg", {})
    config["text_cfg"] = text_config(config)
    return config


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the text tower: `text_cfg`, or `multimodal_cfg` where the decoder is the text tower."""
    return dict(config.get("text_cfg") or config.get("multimodal_cfg") or {})


def why_no_dual_encoder(config: Mapping[str, Any]) -> str:
    """Why a `model_cfg` is not that of a model that embeds images and texts, in a few words; empty if it is one."""
    if "audio_cfg" in config or "genlap_cfg" in config:
        return "it embeds audio, not images"
    if "genlip_cfg" in config:
        return "it generates captions and has no embeddings of images and texts"
    vision = config.get("vision_cfg") or {}
    timm_name = str(vision.get("timm_model_name") or "")
    timm_options = vision.get("timm_model_kwargs") or {}
    if timm_name.startswith("naflexvit") or (isinstance(timm_options, Mapping) and timm_options.get("use_naflex")):
        return "its image tower takes patches of variable number (NaFlex), which open_clip: does not read"
    return ""
