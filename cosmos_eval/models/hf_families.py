"""The families of transformers' image-text models that `hf:` reads: one table. Imports neither torch nor transformers.

A family is the `model_type` of a configuration. Facts that the files of a model do not hold (how texts were padded and
cut in training, their case) are here, with the source of each. A new family is an entry of `FAMILIES`, and functions in
`hf_features` if its features are not what `get_image_features` and `get_text_features` return.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import one_line

_FLAVA_HEADS = ("image_codebook.", "itm_head.", "mim_head.", "mlm_head.", "mmm_image_head.", "mmm_text_head.")


@dataclass(frozen=True)
class Family:
    """How the models of one `model_type` embed images and texts."""

    name: str
    """The `model_type`."""
    title: str
    architectures: Mapping[str, str]
    """`architectures` of a configuration -> class of transformers that reads such weights and gives the features. The
    first one is taken if a configuration names none."""
    source: str
    """Where the facts on texts come from."""
    text_part: str = "text_config"
    image_part: str = "vision_config"
    """Keys of both towers in the configuration."""
    end_token: bool = False
    """Whether texts are pooled at their end token, as in CLIP."""
    legacy_end_token: bool = True
    """Whether an `eos_token_id` of 2 means the largest id of each text, as in old configurations of CLIP."""
    pads_to_context: bool = False
    """Whether texts were trained with padding up to the context, which the tower attends to."""
    attention_mask: bool = True
    """Whether the text tower gets the tokenizer's attention mask."""
    lower_case: bool = False
    """Whether the model was trained on lower-case texts, which its tokenizer may not make."""
    context_limit: int | None = None
    """The longest text in tokens of the authors' own code, where the position table is longer."""
    position_offset: bool = False
    """Whether positions are counted from `pad_token_id` + 1, as in RoBERTa."""
    image_size_from_config: bool = True
    """Whether images must have the `image_size` of the configuration; else the image processor decides."""
    image_features: str = "get_image_features"
    text_features: str = "get_text_features"
    """Names of functions in `cosmos_eval.models.hf_features`."""
    max_over_queries: bool = False
    """Whether an image has several vectors, the best of which gives the score."""
    patches: bool = False
    """Whether images are sequences of patches, of any aspect ratio (NaFlex)."""
    unused_weights: tuple[str, ...] = ()
    """Prefixes of tensors for other tasks, which the features do not use."""


def _family(name: str, title: str, model: str, source: str, **options: Any) -> Family:
    return Family(name, title, {model: model} | options.pop("also", {}), source, **options)


_CLIP = "openai/CLIP: clip.tokenize; the end token is pooled"
_SIGLIP = "big_vision: 64 tokens, padded, no mask, lower case; the last position is pooled"
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _family("clip", "CLIP", "CLIPModel", _CLIP, end_token=True),
        _family(
            "siglip",
            "SigLIP, and SigLIP 2 of fixed resolution",
            "SiglipModel",
            _SIGLIP,
            pads_to_context=True,
            attention_mask=False,
            lower_case=True,
        ),
        _family(
            "siglip2",
            "SigLIP 2 NaFlex",
            "Siglip2Model",
            _SIGLIP,
            pads_to_context=True,
            attention_mask=False,
            lower_case=True,
            image_size_from_config=False,
            patches=True,
        ),
        _family(
            "metaclip_2",
            "MetaCLIP 2",
            "MetaClip2Model",
            "facebookresearch/MetaCLIP: tokenizer of XLM-V, 77 tokens; the end token is pooled",
            end_token=True,
            legacy_end_token=False,
        ),
        _family(
            "align",
            "ALIGN",
            "AlignModel",
            "transformers: AlignProcessor (64 tokens)",
            context_limit=64,
            image_size_from_config=False,  # EfficientNet: 289 pixels at image_size 600 in kakaobrain/align-base
        ),
        _family(
            "altclip",
            "AltCLIP",
            "AltCLIPModel",
            "FlagAI-Open/FlagAI: max_length=77",
            context_limit=77,
            position_offset=True,
        ),
        _family(
            "chinese_clip",
            "Chinese-CLIP",
            "ChineseCLIPModel",
            "OFA-Sys/Chinese-CLIP: cn_clip.clip.tokenize (context_length=52)",
            context_limit=52,
        ),
        _family(
            "clipseg",
            "CLIPSeg",
            "CLIPSegModel",
            "timojl/clipseg: CLIP's tokenizer; positions are interpolated to 352 pixels",
            also={"CLIPSegForImageSegmentation": "CLIPSegModel"},
            end_token=True,
            image_size_from_config=False,
            unused_weights=("decoder.",),
        ),
        _family("groupvit", "GroupViT", "GroupViTModel", "NVlabs/GroupViT: CLIP's tokenizer", end_token=True),
        _family(
            "flava",
            "FLAVA",
            "FlavaModel",
            "transformers: documentation of FlavaModel (77 tokens); FlavaForPreTraining: [CLS] of both towers",
            also={"FlavaForPreTraining": "FlavaModel"},
            image_part="image_config",
            context_limit=77,
            image_features="first_image_token",
            text_features="first_text_token",
            unused_weights=(*_FLAVA_HEADS, "global_contrastive_head."),
        ),
        _family(
            "blip",
            "BLIP (image-text contrast)",
            "BlipForImageTextRetrieval",
            "salesforce/BLIP: train_retrieval.py (max_length=35)",
            also={"BlipModel": "BlipModel"},
            context_limit=35,
            image_features="blip_image",
            text_features="blip_text",
        ),
        _family(
            "blip-2",
            "BLIP-2 (image-text contrast)",
            "Blip2ForImageTextRetrieval",
            "salesforce/LAVIS: compute_sim_matrix (max_length=35), the best of the query tokens",
            text_part="qformer_config",
            context_limit=35,
            image_features="blip2_image",
            text_features="blip2_text",
            max_over_queries=True,
        ),
    )
}


def family_of(config: Any, spec: str, advice: str = "") -> Family:
    """The family of a configuration, which is that of a whole model and not of one for another task.

    Args:
        config: `model_type` and `architectures`, as a mapping or as transformers' configuration.
        advice: what else can be done about another family.

    Raises:
        RequestError: another family, or weights for another task, such as classification or captioning.
    """
    values = config if isinstance(config, Mapping) else config.to_dict()
    model_type, architectures = values.get("model_type"), values.get("architectures")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise RequestError(
            f"{spec} is a {one_line(model_type, 60)} model; this adapter reads {', '.join(FAMILIES)} models: "
            f"write a python: adapter for it{advice}"
        )
    family = FAMILIES[model_type]
    if architectures and class_name(family, architectures) is None:
        raise RequestError(
            f"{spec} holds the weights of {one_line(architectures, 100)}, which embeds no images and texts; this "
            f"adapter reads {' and '.join(family.architectures)}: use the model that it was made from"
        )
    return family


def class_name(family: Family, architectures: Any) -> str | None:
    """The class of transformers for the `architectures` of a configuration, None if it is for another task."""
    if not architectures:
        return next(iter(family.architectures.values()))
    names = architectures if isinstance(architectures, list) else [architectures]
    return next((family.architectures[name] for name in names if name in family.architectures), None)


def context_length(family: Family, config: Any) -> int:
    """The most tokens of a text, special tokens included."""
    text = getattr(config, family.text_part)
    positions: int = text.max_position_embeddings
    if family.position_offset:
        positions -= text.pad_token_id + 1
    return positions if family.context_limit is None else min(positions, family.context_limit)


def families_table() -> list[str]:
    """The lines of the Markdown table of `FAMILIES` in docs/transformers.md."""
    lines = [
        "| Family | `model_type` | weights of | texts | longest text | score | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for family in FAMILIES.values():
        padded = "padded to the context, not masked" if family.pads_to_context else "padding is masked"
        texts = f"{padded}, lower case" if family.lower_case else padded
        limit = "its positions" if family.context_limit is None else f"{family.context_limit} tokens"
        score = "the best of the image's query vectors" if family.max_over_queries else "cosine"
        classes = ", ".join(f"`{name}`" for name in family.architectures)
        lines.append(
            f"| {family.title} | `{family.name}` | {classes} | {texts} | {limit} | {score} | {family.source} |"
        )
    return lines
