"""Model configurations: the presets, and checks of which configurations can carry COSMOS.

A configuration is a plain dict with the original project's keys: `embed_dim`, `vision_cfg`, `text_cfg`, and optionally
`quick_gelu` (False: exact GELU, the default). `attn_pooler_heads` is a key of both `vision_cfg` and `text_cfg`.
"""

import copy
import difflib
import math
from collections.abc import Mapping
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr

Config = dict[str, Any]

POOLER_HEADS = 8
"""Heads of a cross-attention pooler by default."""

PRESETS: dict[str, Config] = {
    "ViT-B-16": {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    },
    "ViT-B-32": {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    },
    # Small enough to train on two cores in minutes: 64-pixel images, captions of 40 tokens, a folded vocabulary.
    # At most 2.5 M parameters: the checkpoint that ships in half precision must stay below 5 MB (an image width of 192
    # with four layers is too large: 2.7 M, 5.4 MB).
    "toybox": {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": 64,
            "layers": 4,
            "width": 160,
            "head_width": 32,
            "patch_size": 16,
            "attn_pooler_heads": 4,
        },
        "text_cfg": {
            "context_length": 40,
            "vocab_size": 1000,
            "width": 128,
            "heads": 4,
            "layers": 2,
            "attn_pooler_heads": 4,
        },
    },
}

MAX_COUNTS = {
    "image_size": 8192,
    "patch_size": 8192,
    "layers": 512,
    "width": 65536,
    "head_width": 65536,
    "heads": 4096,
    "context_length": 8192,
    "vocab_size": 2**24,
    "attn_pooler_heads": 4096,
}
"""Keys that take integers above 0, with the largest value: ten times that of any published model, and small enough that
a wrong value does not cost all memory or an hour before the shapes are found not to match."""
LARGEST_EMBEDDING = 65536
MOST_PATCHES = 2**18
TOP_LEVEL = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
NUMBERS = {"mlp_ratio", "ls_init_value"}
MAPPINGS = {"act_kwargs", "norm_kwargs"}
SWITCHES = {"no_ln_pre", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"}
OPTIONAL = {"ls_init_value", "act_kwargs", "norm_kwargs"}
"""Keys that may be null."""
ALWAYS_ON = {"output_all", "attentional_pool", "cosmos"}
"""Switches of the original that make a CLIP a COSMOS: they may be given, but only as true."""


def preset(name: str) -> Config:
    """A copy of the preset called `name`; RequestError if there is none."""
    if name not in PRESETS:
        nearest = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise RequestError(f"no model preset {short_repr(name)}: there are {', '.join(PRESETS)}{hint}")
    return copy.deepcopy(PRESETS[name])


def find_config_problem(config: Mapping[str, Any]) -> str:
    """Why a configuration cannot carry COSMOS, in a few words; empty if it can.

    Needed: open_clip's own VisionTransformer with class-token pooling (patch tokens come from the same final norm), its
    own text tower with causal attention, and a text width that equals `embed_dim`, since the text-side pooler works at
    text width and its output is added to features of `embed_dim`.
    """
    if not isinstance(config, Mapping):
        return f"it is {short_repr(config)}, neither a mapping nor a preset's name"
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config]
    if missing:
        return f"it lacks {', '.join(missing)}"
    vision, text = config["vision_cfg"], config["text_cfg"]
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        return "its vision_cfg and text_cfg must be mappings"
    not_text = [repr(key) for part in (config, vision, text) for key in part if not isinstance(key, str)]
    if not_text:
        return f"keys that are not text: {', '.join(not_text)}"
    checks = (wrong_kind, wrong_number, wrong_type, wrong_size)
    return next((reason for check in checks if (reason := check(config, vision, text))), "")


def wrong_kind(config: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """Why a tower is not of the kind that COSMOS needs."""
    return first_reason(
        (vision.get("timm_model_name"), "its image tower is a timm model, not open_clip's VisionTransformer"),
        (isinstance(vision.get("layers"), list | tuple), "its image tower is a ResNet, not a VisionTransformer"),
        (vision.get("attentional_pool"), "its image tower pools by attention, not by the class token"),
        (
            vision.get("pool_type", "tok") != "tok",
            f"its image tower pools by {short_repr(vision.get('pool_type'))}, not 'tok'",
        ),
        (vision.get("patch_dropout"), "its image tower drops patches (patch_dropout); COSMOS trains without"),
        (vision.get("final_ln_after_pool"), "its final norm is applied after pooling, so patch tokens have none"),
        (text.get("hf_model_name"), "its text tower is a transformers model, not open_clip's"),
        ("multimodal_cfg" in config, "it has a caption decoder (CoCa)"),
        (config.get("custom_text"), "its text tower is a module of its own (custom_text)"),
        (text.get("embed_cls"), "its text tower appends a class token"),
        (text.get("no_causal_mask"), "its text attention is not causal"),
        (text.get("pool_type", "argmax") not in ("argmax", "eos"), "its text is not pooled at the end token"),
        (text.get("proj_type", "linear") != "linear" or text.get("proj_bias"), "its text projection is not one matrix"),
    )


def wrong_number(config: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """Which count in a configuration is not a whole number above 0, or beyond reason."""
    counts = [("embed_dim", config["embed_dim"], LARGEST_EMBEDDING)]
    for part, tower in (("vision_cfg", vision), ("text_cfg", text)):
        for key, largest in MAX_COUNTS.items():
            value = tower.get(key, 1)
            is_pair = key in ("image_size", "patch_size") and isinstance(value, list | tuple) and len(value) == 2
            counts += [(f"{part}.{key}", item, largest) for item in (value if is_pair else [value])]
    wrong = [f"{key} {short_repr(value)}" for key, value, _ in counts if type(value) is not int or value < 1]
    if wrong:
        return f"not a whole number above 0: {', '.join(wrong)}"
    large = [f"{key} {short_repr(value)} (largest: {largest:,})" for key, value, largest in counts if value > largest]
    return f"too large a number: {', '.join(large)}" if large else ""


def wrong_type(config: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """Which other value is not of the type that open_clip's towers take."""
    values = [("quick_gelu", config.get("quick_gelu", False), "true or false")]
    for part, tower in (("vision_cfg", vision), ("text_cfg", text)):
        for key, value in tower.items():
            expected = "a number above 0" if key in NUMBERS else "a mapping" if key in MAPPINGS else ""
            expected = "true or false" if key in SWITCHES else expected
            if expected and not (value is None and key in OPTIONAL):
                values.append((f"{part}.{key}", value, expected))
            if key in MAPPINGS and isinstance(value, Mapping):  # arguments of torch's norms and activations
                expected_argument = (
                    "a number, true or false" if key == "norm_kwargs" else "a number, true, false or a word"
                )
                values += [(f"{part}.{key}.{name}", item, expected_argument) for name, item in value.items()]
    values += [
        (f"text_cfg.{key}", text[key], expected)
        for key, expected in (
            ("hf_tokenizer_name", "a name"),
            ("tokenizer_mode", "a name"),
            ("tokenizer_kwargs", "a mapping"),
        )
        if text.get(key) is not None
    ]
    fits = {
        "a name": lambda value: isinstance(value, str),
        "true or false": lambda value: isinstance(value, bool),
        "a mapping": lambda value: isinstance(value, Mapping),
        "a number, true or false": lambda value: isinstance(value, int | float),
        "a number, true, false or a word": lambda value: isinstance(value, int | float | str),
        "a number above 0": lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1024
        ),
    }
    return first_reason(
        *(
            (not fits[expected](value), f"{key} {short_repr(value)} is not {expected}")
            for key, value, expected in values
        )
    )


def wrong_size(config: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """Which sizes of a configuration do not go together."""
    embed_dim, width, heads = config["embed_dim"], text.get("width", 512), text.get("heads", 8)
    vision_width, head_width = vision.get("width", 768), vision.get("head_width", 64)
    image, patch = vision.get("image_size", 224), vision.get("patch_size", 16)
    sides = tuple(
        zip(*(size if isinstance(size, list | tuple) else (size, size) for size in (image, patch)), strict=True)
    )
    vocabulary, pooled_at = text.get("vocab_size", 49408), text.get("eos_id", 2)
    poolers = [tower.get("attn_pooler_heads", POOLER_HEADS) for tower in (vision, text)]
    return first_reason(
        (
            text.get("pool_type") == "eos" and not text.get("hf_tokenizer_name") and pooled_at != vocabulary - 1,
            f"its text is pooled at token {short_repr(pooled_at)}, not at its end token {vocabulary - 1}",
        ),
        (width != embed_dim, f"its text width {width} is not its embed_dim {embed_dim}"),
        (width % heads, f"its text width {width} does not divide by its {heads} heads"),
        (vision_width % head_width, f"its image width {vision_width} does not divide by its head width {head_width}"),
        (
            any(side < patch_side for side, patch_side in sides),
            f"its images of {image} are smaller than a patch of {patch}",
        ),
        (
            math.prod(side // patch_side for side, patch_side in sides) > MOST_PATCHES,
            f"its images of {image} have more than {MOST_PATCHES:,} patches of {patch}",
        ),
        *((embed_dim % n, f"its embed_dim {embed_dim} does not divide by {n} pooler heads") for n in poolers),
    )


def first_reason(*reasons: tuple[Any, str]) -> str:
    return next((reason for holds, reason in reasons if holds), "")


def checked(config: Mapping[str, Any], name: str = "the model configuration") -> Config:
    """A deep copy of `config`, checked; RequestError with the reason if it cannot build a COSMOS."""
    reason = find_config_problem(config)
    if reason:
        raise RequestError(f"{name} cannot carry COSMOS: {reason}")
    for key in ALWAYS_ON & set(config):
        if not config[key]:
            raise RequestError(f"{name} has {key} off: COSMOS needs it on")
    unknown = sorted(set(config) - TOP_LEVEL - ALWAYS_ON)
    for part, allowed in allowed_keys().items():
        unknown += [f"{part}.{key}" for key in sorted(set(config[part]) - allowed)]
    if unknown:
        raise RequestError(f"{name} has keys that no model configuration has: {', '.join(unknown)}")
    return copy.deepcopy({key: config[key] for key in config if key in TOP_LEVEL})


def changed(config: Any, key: str, value: Any, where: str = "the model configuration") -> Config:
    """Return a copy of a configuration (or of a preset, by name) with one value set by its dotted key.

    Raises:
        RequestError: no such preset or key (names the nearest). `checked` checks the values.
    """
    new = copy.deepcopy(dict(config)) if isinstance(config, Mapping) else preset(str(config))
    part, _, name = key.rpartition(".")
    allowed = allowed_keys().get(part, set()) if part else TOP_LEVEL - {"vision_cfg", "text_cfg"}
    if name not in allowed:
        known_keys = [
            *(TOP_LEVEL - {"vision_cfg", "text_cfg"}),
            *(f"{p}.{k}" for p, ks in allowed_keys().items() for k in ks),
        ]
        nearest = difflib.get_close_matches(key, known_keys, n=1)
        hint = (
            f"did you mean model.{nearest[0]}"
            if nearest
            else "keys are such as model.vision_cfg.layers or model.embed_dim"
        )
        raise RequestError(f"{where}: unknown key model.{key}; {hint}")
    tower = new.setdefault(part, {}) if part else new
    tower[name] = value
    return new


def grid_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of the patches of a configuration that `checked` has passed."""
    vision = config["vision_cfg"]
    sizes = (vision.get("image_size", 224), vision.get("patch_size", 16))
    (height, width), (rows, columns) = (size if isinstance(size, list | tuple) else (size, size) for size in sizes)
    return height // rows, width // columns


def allowed_keys() -> dict[str, set[str]]:
    from dataclasses import fields

    import open_clip

    return {
        "vision_cfg": {item.name for item in fields(open_clip.CLIPVisionCfg)},
        "text_cfg": {item.name for item in fields(open_clip.CLIPTextCfg)} | {"attn_pooler_heads"},
    }
