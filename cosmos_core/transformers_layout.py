"""CLIP's weights and configuration in transformers' layout (`CLIPModel`), to and from those of this package.

transformers has three matrices where torch's attention has one (`in_proj_weight`), stores projections transposed, and
names the activation where open_clip has `quick_gelu`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from cosmos_core.configs import Config, checked
from cosmos_core.errors import RequestError
from cosmos_core.objectives.base import CROSS_ATTENTION
from cosmos_core.short_repr import short_repr

SINGLE = {
    "logit_scale": "logit_scale",
    "text_projection": "text_projection.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.proj": "visual_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # their spelling
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
"""Our name -> transformers' name, outside of the blocks."""
TOKEN_EMBEDDINGS = SINGLE["token_embedding.weight"]
TRANSPOSED = ("text_projection", "visual.proj")
IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
ATTENTION = ("q_proj", "k_proj", "v_proj")
"""The three matrices, in the order in which torch joins them."""
TOWERS = {
    "visual.transformer.resblocks": "vision_model.encoder.layers",
    "transformer.resblocks": "text_model.encoder.layers",
}
BLOCK = re.compile(r"(visual\.transformer\.resblocks|transformer\.resblocks)\.(\d+)\.(.+)\.(weight|bias)")
ACTIVATIONS = {"quick_gelu": True, "gelu": False}
"""transformers' name of the activation -> `quick_gelu`."""
LEGACY_END_TOKEN = 2
"""`eos_token_id` of old configurations, which stands for the largest id of each text."""
EPSILON = 1e-5
"""Of torch's layer norm, and of transformers' CLIP, by default."""


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a COSMOS under the names of a `CLIPModel`; poolers and `distill_logit_scale` are left out."""
    converted: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in SINGLE:
            converted[SINGLE[name]] = value.T.contiguous() if name in TRANSPOSED else value
            continue
        if name.startswith(CROSS_ATTENTION) or name == "distill_logit_scale":
            continue
        if ".attn.in_proj_" in name:
            block, kind = name.split(".attn.in_proj_")
            tower, _, number = block.rpartition(".")
            for part, values in zip(ATTENTION, value.chunk(3), strict=True):
                converted[f"{TOWERS[tower]}.{number}.self_attn.{part}.{kind}"] = values.contiguous()
            continue
        match = BLOCK.fullmatch(name)
        if match is None or match[3] not in IN_BLOCK:
            raise RequestError(f"transformers' CLIP has no place for {name}")
        converted[f"{TOWERS[match[1]]}.{match[2]}.{IN_BLOCK[match[3]]}.{match[4]}"] = value
    return converted


def from_transformers(state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Weights of a `CLIPModel` under the names of a COSMOS of `config`; RequestError if one is missing or left over."""
    left = {name: value for name, value in state.items() if not name.endswith("position_ids")}
    converted: dict[str, Tensor] = {}
    try:
        for ours, theirs in SINGLE.items():
            value = left.pop(theirs)
            converted[ours] = value.T.contiguous() if ours in TRANSPOSED else value
        for ours, theirs in blocks_of(config):
            for kind in ("weight", "bias"):
                parts = [left.pop(f"{theirs}.self_attn.{part}.{kind}") for part in ATTENTION]
                converted[f"{ours}.attn.in_proj_{kind}"] = torch.cat(parts)
                for mine, name in IN_BLOCK.items():
                    converted[f"{ours}.{mine}.{kind}"] = left.pop(f"{theirs}.{name}.{kind}")
    except KeyError as error:
        raise RequestError(f"it has no {error.args[0]}, which a CLIP of transformers has") from None
    if left:
        raise RequestError(f"it has {next(iter(left))}, which COSMOS's towers do not have")
    return converted


def blocks_of(config: Config) -> Iterator[tuple[str, str]]:
    """Our and transformers' prefix of every block."""
    for (ours, theirs), part in zip(TOWERS.items(), ("vision_cfg", "text_cfg"), strict=True):
        for number in range(config[part].get("layers", 12)):
            yield f"{ours}.{number}", f"{theirs}.{number}"


def config_from_transformers(config: Mapping[str, Any], vocabulary: int, name: str) -> Config:
    """The configuration of a COSMOS with the towers of a `CLIPModel`.

    Args:
        config: `CLIPConfig.to_dict()`.
        vocabulary: size of the table of token embeddings.
        name: names the model in messages.

    Raises:
        RequestError: another model than CLIP, or towers that COSMOS's model does not have; says why.
    """
    reason = find_problem(config, vocabulary)
    if reason:
        raise RequestError(f"{name} cannot become a COSMOS: {reason}")
    vision, text = config["vision_config"], config["text_config"]
    converted: Config = {
        "embed_dim": config["projection_dim"],
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "layers": vision["num_hidden_layers"],
            "width": vision["hidden_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": vocabulary,
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
        },
    }
    for part, tower in (("vision_cfg", vision), ("text_cfg", text)):
        ratio = tower["intermediate_size"] / tower["hidden_size"]
        if ratio != 4:
            converted[part]["mlp_ratio"] = ratio
        if tower["layer_norm_eps"] != EPSILON:
            converted[part]["norm_kwargs"] = {"eps": tower["layer_norm_eps"]}
    if ACTIVATIONS[text["hidden_act"]]:
        converted["quick_gelu"] = True
    return checked(converted, name)


def find_problem(config: Mapping[str, Any], vocabulary: int) -> str:
    """Why a model of transformers is not one that COSMOS's model can represent; empty if it is."""
    if config.get("model_type") != "clip":
        kind = short_repr(config.get("model_type"))
        pooled = "; its image tower pools by attention (a MAP head), not by the class token" if "siglip" in kind else ""
        return f"its towers are those of {kind}, not of CLIP{pooled}"
    vision, text = config["vision_config"], config["text_config"]
    activations = [tower["hidden_act"] for tower in (vision, text)]
    if activations[0] != activations[1] or activations[0] not in ACTIVATIONS:
        return f"its activations are {' and '.join(activations)}; COSMOS has one of {', '.join(ACTIVATIONS)} in both"
    if text["eos_token_id"] not in (LEGACY_END_TOKEN, vocabulary - 1):
        return f"its text is pooled at token {text['eos_token_id']}, not at the last of {vocabulary}"
    return ""


def config_to_transformers(config: Config) -> dict[str, Any]:
    """The `config.json` of a `CLIPModel` with the towers of a COSMOS; RequestError if CLIP lacks something of it."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    activation = next(name for name, quick in ACTIVATIONS.items() if quick == bool(config.get("quick_gelu", False)))
    image, patch = (
        value if isinstance(value, int) else value[0] if value[0] == value[1] else 0
        for value in (vision.get("image_size", 224), vision.get("patch_size", 16))
    )
    known = {
        *("image_size", "patch_size", "layers", "width", "head_width", "heads", "mlp_ratio", "norm_kwargs"),
        *("context_length", "vocab_size", "attn_pooler_heads", "attentional_pool", "output_tokens"),
    }
    other = [key for part in (vision, text) for key in part if key not in known]
    problem = (
        f"it has {', '.join(other)}" if other else "" if image and patch else "its images or patches are not squares"
    )
    if problem:
        raise RequestError(f"transformers' CLIP cannot represent this model: {problem}")

    def tower(part: Mapping[str, Any], width: int, heads: int) -> dict[str, Any]:
        return {
            "hidden_size": width,
            "intermediate_size": int(width * part.get("mlp_ratio", 4.0)),
            "num_hidden_layers": part.get("layers", 12),
            "num_attention_heads": heads,
            "hidden_act": activation,
            "layer_norm_eps": (part.get("norm_kwargs") or {}).get("eps", EPSILON),
            "projection_dim": config["embed_dim"],
        }

    vision_width, text_width = vision.get("width", 768), text.get("width", 512)
    vocabulary = text.get("vocab_size", 49408)
    ids = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config["embed_dim"],
        "vision_config": {
            **tower(vision, vision_width, vision_width // vision.get("head_width", 64)),
            "model_type": "clip_vision_model",
            "image_size": image,
            "patch_size": patch,
        },
        "text_config": {
            **tower(text, text_width, text.get("heads", 8)),
            "model_type": "clip_text_model",
            "vocab_size": vocabulary,
            "max_position_embeddings": text.get("context_length", 77),
            **ids,
        },
    }
