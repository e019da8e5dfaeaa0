"""Recognises which library a state dict comes from, by the names of its tensors, and what can load it."""

import re
from collections.abc import Iterable

COSMOS = "COSMOS"
OPEN_CLIP = "open_clip"
FLAIR = "FLAIR's names"
ADAPTER = "write a python: adapter for it"

LIBRARIES: tuple[tuple[str, str, str], ...] = (
    # pattern of a name, library, advice
    (r"\.lora_[AB]\.|^base_model\.model\.", "peft's names (LoRA weights)", "merge them into the model first"),
    (r"attn_cross_pool\.", COSMOS, "use cosmos:FILE"),
    (r"^(image_post|text_post|visual_proj)\.", FLAIR, "use flair:FILE"),
    (
        r"(^|\.)(text_model\.(embeddings|encoder)|vision_model\.(embeddings|encoder))\.",
        "transformers' names",
        "use hf:FOLDER, the folder of save_pretrained that holds the file",
    ),
    (
        r"^(text_encoder|visual_encoder|vision_encoder)\.",
        "names of BLIP, ALBEF or their kin",
        f"no spec reads them: {ADAPTER}",
    ),
    (
        r"^visual\.blocks\.\d+\.attn\.(q_proj|q_bias|rope|inner_attn_ln)|^text\.transformer\.resblocks.*\.inner_attn_ln",
        "EVA-CLIP's own names",
        "use its copy in open_clip's registry, as open_clip:EVA02-B-16/merged2b_s8b_b131k",
    ),
    (r"^(visual|transformer|text)\.(transformer\.resblocks|trunk\.|resblocks|conv1\.|layer1\.)", OPEN_CLIP, ""),
    (
        r"^(patch_embed\.proj|blocks\.\d+\.(attn|mlp|norm1)|stages\.\d+\.(blocks|downsample))\b",
        "timm's names (an image tower alone)",
        f"a model of images and texts is needed: {ADAPTER}",
    ),
    (
        r"^(layer1\.0\.conv1|features\.\d+\.|encoder\.layers\.encoder_layer_0\.)",
        "torchvision's names (an image tower alone)",
        f"a model of images and texts is needed: {ADAPTER}",
    ),
    (r"^params/|^img/|^txt/", "big_vision's names", "use open_clip's registry, as open_clip:ViT-B-16-SigLIP/webli"),
    (r"^(bert|roberta|distilbert)\.|^model\.layers\.\d+\.self_attn", "those of a language model", "take another file"),
)


def library_of(keys: Iterable[str]) -> tuple[str, str]:
    """The library whose names the keys of a state dict are, and advice for such a file; both empty if unknown.

    The first pattern that matches decides, so that a COSMOS, which has all of open_clip's names, is not taken for an
    open_clip model.
    """
    names = list(keys)
    for pattern, library, advice in LIBRARIES:
        regex = re.compile(pattern)
        if any(regex.search(name) for name in names):
            return library, advice
    return "", ""


def explain_other_library(keys: Iterable[str], wanted: str) -> str:
    """Why weights are not of the library `wanted` (COSMOS, OPEN_CLIP or FLAIR), as words after the file's name.

    Empty if they are, or if the library is unknown.
    """
    names = list(keys)
    library, advice = library_of(names)
    if library == wanted:
        return ""
    if library == COSMOS:
        return f"has COSMOS's names (cross-attention poolers): {advice}"
    if library == OPEN_CLIP:
        return "has the names of a plain CLIP (open_clip's), no cross-attention poolers: use open_clip:ARCH/FILE"
    if library:
        return f"has {library}: {advice}"
    return explain_shared_prefix(names)


def explain_shared_prefix(names: list[str]) -> str:
    """Return advice if all names share a first part and would be recognised without it; else an empty string."""
    first = {name.partition(".")[0] for name in names}
    if len(first) != 1:
        return ""
    prefix = f"{first.pop()}."
    if library_of(name.removeprefix(prefix) for name in names)[0]:
        return f"has {prefix} before every name: save the state_dict() of that module alone"
    return ""
