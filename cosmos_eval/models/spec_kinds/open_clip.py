"""The kind `open_clip:`: a model of open_clip's registry, of the hub, or of a file or folder of its training."""

import re

from cosmos_eval.models.kinds import (
    REVISION,
    SCORES,
    ListedModel,
    ModelKind,
    ModelSpec,
    short_name,
    spec_error,
    split_options,
)

ACTIVATIONS = ("gelu", "quickgelu")
QUICKGELU_SUFFIX = "-quickgelu"
"""Suffix of open_clip's architecture names: the same architecture with QuickGELU."""
LOCAL_DIR = "local-dir"
"""open_clip's prefix for a folder with its configuration and weights; it takes the place of the architecture."""
HF_HUB = "hf-hub"
"""open_clip's prefix for a repository on the Hugging Face hub, in its layout."""
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HF_HUB_OPTIONS = {"revision": REVISION}
"""Options of `open_clip:hf-hub:` specs -> pattern of their values."""
OPEN_CLIP_CAN = f"{SCORES}; segmentation by image tower (docs/architectures.md)"
OPEN_CLIP_FAMILIES = (
    "CLIP, CLIPA, CoCa, ConvNeXt, EVA, MetaCLIP, MobileCLIP and MobileCLIP2, NLLB-CLIP, PE, ResNet, SigLIP and "
    "SigLIP 2, ViTamin, text towers of transformers"
)


def parse_open_clip(text: str, kind: ModelKind, name: str) -> ModelSpec:
    """Parse `ARCH/TAG`, `ARCH/PATH` with `#gelu` or `#quickgelu`, `local-dir:DIR`, or `hf-hub:ORG/NAME`."""
    if name.startswith(f"{HF_HUB}:"):
        return parse_repository(text, kind, name.removeprefix(f"{HF_HUB}:"))
    if name.startswith(f"{LOCAL_DIR}:"):
        folder = name.removeprefix(f"{LOCAL_DIR}:")
        if not folder.strip():
            raise spec_error(text, f"names no folder; write open_clip:{LOCAL_DIR}:DIR")
        return ModelSpec(text, kind.name, LOCAL_DIR, rest=folder)
    arch, slash, weights = name.partition("/")
    if not (arch and slash and weights):
        raise spec_error(text, f"needs an architecture and weights; write {kind.form}")
    path_or_tag, separator, activation = weights.rpartition("#")
    if not separator or "/" in activation or "." in activation:  # the "#" belongs to a path, as in /a#b/x.pt
        return ModelSpec(text, kind.name, arch, rest=weights)
    if activation not in ACTIVATIONS or not path_or_tag:
        raise spec_error(text, f"selects {activation!r}; write #gelu or #quickgelu after the weights")
    if activation == "gelu" and arch.endswith(QUICKGELU_SUFFIX):
        raise spec_error(text, f"asks for both activations; drop {QUICKGELU_SUFFIX} or #gelu")
    return ModelSpec(text, kind.name, arch, rest=path_or_tag, selector=activation)


def parse_repository(text: str, kind: ModelKind, name: str) -> ModelSpec:
    """Parse `ORG/NAME` or `ORG/NAME?revision=REVISION` of the hub."""
    repository, options = split_options(text, name, HF_HUB_OPTIONS)
    if not REPOSITORY.fullmatch(repository) or ".." in repository:
        form = f"open_clip:{HF_HUB}:ORG/NAME, with ?revision=BRANCH, TAG or COMMIT if not the newest"
        raise spec_error(text, f"names no repository of the hub; write {form}")
    return ModelSpec(text, kind.name, HF_HUB, rest=repository, options=options)


def open_clip_slug_words(spec: ModelSpec) -> list[str]:
    """The parts of a result folder's name: architecture, weights, and activation or revision if the user wrote it."""
    return [spec.name, short_name(spec.rest), *(word for word in (spec.selector, spec.revision[:12]) if word)]


def open_clip_weights_help(specs: list[ModelSpec], suite: str) -> list[str]:
    """How weights of open_clip's registry are downloaded, and how to use a copy of them."""
    is_repository = specs[0].name == HF_HUB
    copy = "open_clip:local-dir:weights/FOLDER" if is_repository else f"open_clip:{specs[0].name}/weights/FILE"
    where = (
        "hf-hub: the repository of that name on the Hugging Face hub"
        if is_repository
        else ("open_clip: the part after the slash is a tag of its registry")
    )
    return [
        f"{where}, downloaded at first use. With a copy:",
        f"    cosmos-eval run --model {copy} ..., and then",
        f"    cosmos-eval reproduce {suite} --model {specs[0].text}={copy}",
    ]


OPEN_CLIP = ModelKind(
    "open_clip",
    "open_clip:ARCH/TAG or open_clip:ARCH/PATH, with #gelu or #quickgelu, open_clip:local-dir:DIR, or "
    "open_clip:hf-hub:ORG/NAME with ?revision=REVISION",
    load="cosmos_eval.models.open_clip:load_open_clip",
    check="cosmos_eval.models.open_clip:check_open_clip",
    parse=parse_open_clip,
    slug_words=open_clip_slug_words,
    # The tag determines the activation, so ARCH/TAG and ARCH-quickgelu/TAG are the same weights.
    weights_name=lambda spec: f"open_clip:{spec.name.removesuffix(QUICKGELU_SUFFIX)}/{spec.rest}{spec.revision}",
    weights_help=open_clip_weights_help,
    listed=(
        ListedModel(
            "open_clip:ARCH/TAG",
            "weights of open_clip's registry, fetched at first use",
            "a model of open_clip",
            OPEN_CLIP_CAN,
            OPEN_CLIP_FAMILIES,
        ),
        ListedModel(
            "open_clip:ARCH/PATH",
            "a checkpoint file of open_clip training",
            "the same, local weights; add #gelu or #quickgelu if neither the file nor ARCH says which",
            OPEN_CLIP_CAN,
            OPEN_CLIP_FAMILIES,
        ),
        ListedModel(
            "open_clip:local-dir:DIR",
            "a folder with open_clip_config.json and weights",
            "the same, in the layout of open_clip's push_to_hf_hub and its hub repositories",
            OPEN_CLIP_CAN,
            OPEN_CLIP_FAMILIES,
        ),
        ListedModel(
            "open_clip:hf-hub:ORG/NAME",
            "a repository on the hub with open_clip_config.json, fetched at first use; ?revision=REVISION",
            "the same, from the Hugging Face hub",
            OPEN_CLIP_CAN,
            OPEN_CLIP_FAMILIES,
        ),
    ),
)
