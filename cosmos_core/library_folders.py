"""Folders in which open_clip (`local-dir:FOLDER`) and transformers (`CLIPModel`) find a model, tokenizer and images.

Both libraries have COSMOS's towers and not its poolers, which are left out: what embeds an image or a text is whole.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save as to_safetensors
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_path
from cosmos_core.model import COSMOS
from cosmos_core.objectives.base import CROSS_ATTENTION
from cosmos_core.tokenizer import OPENAI_VOCABULARY, byte_pair_encoding
from cosmos_core.transformers_layout import config_to_transformers, to_transformers

START, END = "<|startoftext|>", "<|endoftext|>"


def write_folder(model: COSMOS, out: Path, library: str, half: bool = False, logit_bias: Tensor | None = None) -> str:
    """Write a model for `library`, one of `FOLDERS`; files of the same names are replaced, each atomically.

    Args:
        half: matrices as float16; vectors and the temperature stay float32.
        logit_bias: () of a training with the sigmoid loss, which open_clip keeps with the network.

    Returns:
        What was left out, in words.

    Raises:
        RequestError: the library has no such model or tokenizer.
        OSError: the disk is full or not writable.
    """
    vocabulary = model.config["text_cfg"].get("vocab_size", OPENAI_VOCABULARY)
    if vocabulary != OPENAI_VOCABULARY:
        raise RequestError(
            f"its vocabulary is folded to {vocabulary:,}, and no tokenizer of {library} gives such ids; train with "
            f"model.text_cfg.vocab_size={OPENAI_VOCABULARY}, or use --format safetensors"
        )
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    left_out = "the cross-attention poolers"
    if logit_bias is not None and library == "open_clip":
        state["logit_bias"] = logit_bias
    elif logit_bias is not None:
        left_out += " and the bias of the sigmoid loss"
    for name, content in FOLDERS[library](model, state, half).items():
        with atomic_path(out / name) as temporary:
            temporary.write_bytes(content)
    return f"without {left_out}, for which the library has no place"


def open_clip_files(model: COSMOS, state: Mapping[str, Tensor], half: bool) -> dict[str, bytes]:
    """The files of open_clip, by name; the configuration comes last."""
    config: dict[str, Any] = {**model.config}
    for part in ("vision_cfg", "text_cfg"):
        config[part] = {key: value for key, value in config[part].items() if key != "attn_pooler_heads"}
    own = {name: value for name, value in state.items() if is_in_clip(name)}
    if "logit_bias" in own:
        config["init_logit_bias"] = float(own["logit_bias"])  # without it, open_clip's network has no bias to load
    preprocessing = {
        "size": list(model.image_size),
        "mode": "RGB",
        "mean": list(OPENAI_DATASET_MEAN),
        "std": list(OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    return {
        "open_clip_model.safetensors": weights_file(own, half),
        "open_clip_config.json": as_json({"model_cfg": config, "preprocess_cfg": preprocessing}),
    }


def transformers_files(model: COSMOS, state: Mapping[str, Tensor], half: bool) -> dict[str, bytes]:
    """The files of `save_pretrained`, by name; the configuration comes last."""
    config = config_to_transformers(model.config)
    height, width = model.image_size
    images = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": height},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(OPENAI_DATASET_MEAN),
        "image_std": list(OPENAI_DATASET_STD),
    }
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    encoding = byte_pair_encoding()
    words = sorted(encoding.encoder, key=encoding.encoder.__getitem__)
    # open_clip has other names for the last two
    vocabulary = {word: number for number, word in enumerate([*words[:-2], START, END])}
    merges = [" ".join(pair) for pair, _ in sorted(encoding.bpe_ranks.items(), key=lambda item: item[1])]
    tokenizer = {"tokenizer_class": "CLIPTokenizer", "model_max_length": model.context_length, "do_lower_case": True}
    return {
        "model.safetensors": weights_file(to_transformers(state), half),
        "preprocessor_config.json": as_json(images),
        "vocab.json": as_json(vocabulary, indent=None),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]).encode(),
        "tokenizer_config.json": as_json({**tokenizer, **special}),
        "special_tokens_map.json": as_json(special),
        "config.json": as_json(config),
    }


FOLDERS: dict[str, Callable[[COSMOS, Mapping[str, Tensor], bool], dict[str, bytes]]] = {
    "open_clip": open_clip_files,
    "hf": transformers_files,
}
"""Name of a format -> the content of its files."""


def is_in_clip(name: str) -> bool:
    """Whether a parameter of a COSMOS is one of open_clip's CLIP too."""
    return not name.startswith(CROSS_ATTENTION) and name != "distill_logit_scale"


def weights_file(state: Mapping[str, Tensor], half: bool) -> bytes:
    values = {
        name: value.to(torch.float16 if half and value.ndim > 1 else torch.float32).contiguous().clone()
        for name, value in state.items()
    }
    return to_safetensors(values, {"format": "pt"})


def as_json(content: Any, indent: int | None = 2) -> bytes:
    return (json.dumps(content, indent=indent, ensure_ascii=False) + "\n").encode()
