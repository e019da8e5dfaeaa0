"""The architecture of an `open_clip:` spec, and the activation that its weights were trained with.

The weights determine the activation, not the architecture's name. open_clip builds what ARCH says, and only warns if
the weights were trained with another activation (ViT-B-16 with the tag openai loses four points on ImageNet). Here the
activation of a tag comes from the registry, and a file that declares another activation than ARCH is refused.
"""

import difflib
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_eval.models.open_clip_compat import (
    get_pretrained_cfg,
    list_architectures,
    list_pretrained_tags_by_model,
    model_config,
    text_config,
    why_no_dual_encoder,
)
from cosmos_eval.models.open_clip_files import find_declared_settings
from cosmos_eval.models.spec import QUICKGELU_SUFFIX, ModelSpec


def config_of(arch: str) -> dict[str, Any]:
    """The configuration of an architecture that exists."""
    config = model_config(arch)
    assert config is not None, arch
    return config


def parse_architecture(spec: ModelSpec) -> tuple[str, bool | None]:
    """Split the architecture of a spec from the activation that the user asks for.

    Returns:
        the name without the suffix `-quickgelu`; and True for that suffix or `#quickgelu`, False for `#gelu`, None if
        the spec has none of them.

    Raises:
        RequestError: open_clip has no such architecture; the message names similar ones.
    """
    names = list_architectures()
    arch = spec.name.removesuffix(QUICKGELU_SUFFIX)
    if arch not in names:
        plain_names = [name for name in names if not name.endswith(QUICKGELU_SUFFIX)]
        similar = difflib.get_close_matches(arch, plain_names, n=5, cutoff=0.5)
        raise RequestError(
            f"{spec.text}: open_clip has no architecture {spec.name!r}; similar: {', '.join(similar) or 'none'}"
        )
    reason = why_no_dual_encoder(config_of(arch))
    if reason:
        raise RequestError(f"{spec.text}: {arch} is not a model of images and texts that can be read: {reason}")
    if arch != spec.name or spec.selector == "quickgelu":
        return arch, True
    return arch, False if spec.selector == "gelu" else None


def name_with_activation(arch: str, quick_gelu: bool) -> str:
    """The architecture's name, with open_clip's suffix if it has QuickGELU."""
    return arch + (QUICKGELU_SUFFIX if quick_gelu and not arch.endswith(QUICKGELU_SUFFIX) else "")


def has_open_clip_tower(config: dict[str, Any]) -> bool:
    """Whether a tower is open_clip's own; only those obey `quick_gelu`, those of timm and transformers do not."""
    return not ("timm_model_name" in config["vision_cfg"] and "hf_model_name" in text_config(config))


def trained_with_quick_gelu(arch: str, tag_config: dict[str, Any]) -> bool:
    """Whether the weights of a tag were trained with QuickGELU, which the registry marks on the tag.

    Only roberta-ViT-B-32 has QuickGELU in its configuration without a suffix in its name. Its tags are not marked, and
    were trained with what the configuration says.
    """
    return bool(tag_config.get("quick_gelu", False) or config_of(arch).get("quick_gelu", False))


def known_activations(arch: str) -> set[bool]:
    """Whether an architecture is in use with QuickGELU (True), without it (False), or both.

    This follows from its own configuration, from an architecture of the same name with `-quickgelu`, and from the
    weights in the registry. Example of both: the configuration of RN50x4 has no QuickGELU, but its only weights do.
    """
    config = config_of(arch)
    if not has_open_clip_tower(config):
        return {False}
    activations = {bool(config.get("quick_gelu", False))}
    for tag in list_pretrained_tags_by_model(arch):
        activations.add(trained_with_quick_gelu(arch, get_pretrained_cfg(arch, tag)))
    if arch + QUICKGELU_SUFFIX in list_architectures() or list_pretrained_tags_by_model(arch + QUICKGELU_SUFFIX):
        activations.add(True)
    return activations


def quick_gelu_of_tag(spec: ModelSpec, arch: str, wants_quick_gelu: bool | None, tag_config: dict[str, Any]) -> bool:
    """Whether to build a tag's network with QuickGELU; RequestError if the spec asks for the other activation."""
    quick_gelu = trained_with_quick_gelu(arch, tag_config)
    if wants_quick_gelu not in (None, quick_gelu):
        raise RequestError(
            f"{spec.text}: the weights {spec.rest} were trained with {'QuickGELU' if quick_gelu else 'GELU'}; "
            f"write open_clip:{arch}/{spec.rest}"
        )
    return quick_gelu


def quick_gelu_of_file(
    spec: ModelSpec, arch: str, wants_quick_gelu: bool | None, path: Path, checkpoint: dict[str, Any]
) -> tuple[bool, str]:
    """Whether to build a file's network with QuickGELU, and what determined it: file, user or architecture.

    Raises:
        RequestError: the file declares another activation than the spec; or neither of them says which, and the
            architecture is in use with both.
    """
    declared = find_declared_settings(path, checkpoint)
    arch_quick_gelu = bool(config_of(arch).get("quick_gelu", False))
    quick_gelu = arch_quick_gelu if wants_quick_gelu is None else wants_quick_gelu
    if "quick_gelu" in declared:
        if declared["quick_gelu"] != quick_gelu:
            if declared["quick_gelu"]:
                activation, right_spec = "QuickGELU", f"{arch}{QUICKGELU_SUFFIX}/{spec.rest}"
            else:
                activation, right_spec = "GELU", f"{arch}/{spec.rest}#gelu"
            raise RequestError(
                f"{spec.text}: {declared['declared_in']} says that the weights were trained with {activation}; "
                f"write open_clip:{right_spec}"
            )
        return quick_gelu, "file"
    if wants_quick_gelu is not None:
        return quick_gelu, "user"
    if len(known_activations(arch)) > 1:
        raise RequestError(
            f"{spec.text}: {path.name} does not say whether it was trained with QuickGELU, and {arch} exists with "
            f"and without; write open_clip:{arch}/{spec.rest}#quickgelu (OpenAI's weights, and those fine-tuned from "
            "them) or #gelu"
        )
    return quick_gelu, "architecture"
