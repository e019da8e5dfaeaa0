"""The built-in kinds of model spec. Imports neither torch nor model libraries."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cosmos_core.released import HUB_REPOSITORY, RELEASED
from cosmos_core.short_repr import short_repr
from cosmos_eval.models.hf_families import FAMILIES
from cosmos_eval.models.kinds import ListedModel, ModelKind, ModelSpec, short_name, spec_error, split_options

SELECTORS = ("teacher", "student")
COSMOS_OPTIONS = {"scorer": "cross"}
"""Options of `cosmos:` specs -> pattern of their values; the scorer is `cosmos_core.cross_scores`."""
SEED_OPTION = {"seed": ".*"}
"""The option of untrained presets."""
FLAIR_OPTIONS = {"scorer": "clip"}
"""Options of `flair:` specs: see `cosmos_eval.models.flair`."""
FLAIR_REPOSITORY = "xiaorui638/flair"
RELEASED_FLAIR = {
    "flair-cc3m-recap": "CC3M-recap",
    "flair-cc12m-recap": "CC12M-recap",
    "flair-yfcc15m-recap": "YFCC15M-recap",
    "flair-merged30m": "Merged30M",
}
"""Name of a checkpoint that FLAIR's authors released, which is also its file -> training data."""
ACTIVATIONS = ("gelu", "quickgelu")
QUICKGELU_SUFFIX = "-quickgelu"
"""Suffix of open_clip's architecture names: the same architecture with QuickGELU."""
LOCAL_DIR = "local-dir"
"""open_clip's prefix for a folder with its configuration and weights; it takes the place of the architecture."""
HF_HUB = "hf-hub"
"""open_clip's prefix for a repository on the Hugging Face hub, in its layout."""
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
REVISION = r"(?!.*\.\.)\w[\w./-]*"
"""Pattern of a branch, tag or commit."""
HF_HUB_OPTIONS = {"revision": REVISION}
"""Options of `open_clip:hf-hub:` specs -> pattern of their values."""
HF_OPTIONS = {
    "processor": "fast|slow",
    "max-num-patches": "[1-9][0-9]{0,4}",
    "revision": REVISION,
    "trust-remote-code": "1",
    "code-revision": "[0-9a-f]{40}",
    "scorer": "itm",
}
"""Options of `hf:` specs -> pattern of their values."""
LARGEST_SEED = 2**63 - 1
"""The largest seed that torch's generators take."""


def parse_cosmos(text: str, kind: ModelKind, name: str) -> ModelSpec:
    """Parse `NAME_OR_PATH`, `...#student`, `...#teacher`, or `untrained-PRESET?seed=N`, each with `?scorer=cross`."""
    name, options = split_options(text, name, COSMOS_OPTIONS | (SEED_OPTION if name.startswith("untrained-") else {}))
    name, _, selector = name.rpartition("#") if "#" in name else (name, "", "teacher")
    if selector not in SELECTORS or not name:
        raise spec_error(text, f"selects {selector!r}; write #teacher (the default) or #student")
    seed = options.pop("seed", "0")
    # The largest seed has 19 digits; int() raises ValueError for strings of more than 4300.
    number = int(seed) if seed.isascii() and seed.isdecimal() and len(seed) < 20 else -1
    if not 0 <= number <= LARGEST_SEED or (name.startswith("untrained-") and "?" in name):
        option = name.partition("?")[2] or f"seed={seed}"
        hint = f"write ?seed=NUMBER, from 0 to {LARGEST_SEED}, or ?scorer=cross"
        raise spec_error(text, f"has the option {short_repr(option)}; {hint}")
    return ModelSpec(text, kind.name, name, selector=selector, seed=number, options=options)


def cosmos_slug_words(spec: ModelSpec) -> list[str]:
    """The parts of a result folder's name: name, network if it is the student, seed if it is not 0, scorer."""
    words = [short_name(spec.name)]
    words += ["student"] if spec.selector == "student" else []
    words += [f"seed{spec.seed}"] if spec.seed else []
    return words + scorer_words(spec)


def scorer_words(spec: ModelSpec) -> list[str]:
    """The part of a result folder's name for the scorer, if the user chose one."""
    return [spec.options["scorer"]] if "scorer" in spec.options else []


def cosmos_weights_name(spec: ModelSpec) -> str:
    """The spec, with the name of a released checkpoint in place of a path to a file with that checkpoint's name."""
    files = {released.file: name for name, released in RELEASED.items()}
    # Published figures are of the plain cosine, so another scorer makes another model.
    scorer = "".join(f"?scorer={word}" for word in scorer_words(spec))
    return f"cosmos:{files.get(Path(spec.name).name, spec.name)}#{spec.selector}{scorer}"


def cosmos_weights_help(specs: list[ModelSpec], suite: str) -> list[str]:
    """How to download released checkpoints; empty if none is among the specs."""
    released = [RELEASED[spec.name] for spec in specs if spec.name in RELEASED]
    if not released:
        return []
    files = " ".join(checkpoint.file for checkpoint in released)
    return [
        f"COSMOS: {HUB_REPOSITORY} on the Hugging Face hub; downloaded at first use, or in advance with",
        f"    hf download {HUB_REPOSITORY} {files} --local-dir weights",
        f"    and then --model cosmos:weights/{released[0].file}, which is recognised by its file name",
    ]


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


def parse_with_options(text: str, kind: ModelKind, name: str, *, allowed: Mapping[str, str]) -> ModelSpec:
    """Parse a name, hub id or path, with `?key=value&...` after it; see `split_options` for `allowed`."""
    name, options = split_options(text, name, allowed)
    if not name.strip():
        raise spec_error(text, f"names no model; write {kind.form}")
    return ModelSpec(text, kind.name, name, options=options)


def hf_slug_words(spec: ModelSpec) -> list[str]:
    """The parts of a result folder's name: the model, and the options that change its numbers."""
    words = [spec.options.get("max-num-patches", ""), spec.options.get("revision", "")[:8]]
    words += ["fast"] if spec.options.get("processor") == "fast" else []
    return [short_name(spec.name), *(word for word in words if word), *scorer_words(spec)]


def hf_weights_help(specs: list[ModelSpec], suite: str) -> list[str]:
    """How a hub repository is downloaded."""
    return ["hf: the repository of that name on the Hugging Face hub; downloaded at first use"]


def parse_python(text: str, kind: ModelKind, name: str) -> ModelSpec:
    """Parse `package.module:factory`."""
    module, _, factory = name.rpartition(":")
    if not (module and factory.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise spec_error(text, f"does not name a module and a function in it; write {kind.form}")
    return ModelSpec(text, kind.name, module, rest=factory)


SCORES = "retrieval, classification, perception"
COSMOS_CAN = f"{SCORES}, segmentation, attention maps"
OPEN_CLIP_CAN = f"{SCORES}; segmentation by image tower (docs/architectures.md)"
OPEN_CLIP_FAMILIES = (
    "CLIP, CLIPA, CoCa, ConvNeXt, EVA, MetaCLIP, MobileCLIP and MobileCLIP2, NLLB-CLIP, PE, ResNet, SigLIP and "
    "SigLIP 2, ViTamin, text towers of transformers"
)
COSMOS = ModelKind(
    "cosmos",
    "cosmos:NAME or cosmos:PATH, with #student or #teacher, and ?scorer=cross",
    load="cosmos_eval.models.cosmos:load_cosmos",
    check="cosmos_eval.models.cosmos:check_cosmos",
    parse=parse_cosmos,
    slug_words=cosmos_slug_words,
    weights_name=cosmos_weights_name,
    weights_help=cosmos_weights_help,
    expands_patterns=True,
    listed=(
        ListedModel(
            "cosmos:toybox",
            "nothing: part of the package",
            "small COSMOS trained on toybox (the teacher only); the default",
            COSMOS_CAN,
            "COSMOS",
        ),
        ListedModel(
            "cosmos:untrained-PRESET?seed=0",
            "nothing",
            "random weights: toybox, ViT-B-16 or ViT-B-32",
            COSMOS_CAN,
            "COSMOS",
        ),
        *(
            ListedModel(
                f"cosmos:{released.name}",
                f"{released.file} of {HUB_REPOSITORY}, fetched at first use",
                f"released COSMOS {released.arch}, trained on {released.data}",
                COSMOS_CAN,
                "COSMOS",
            )
            for released in RELEASED.values()
        ),
        ListedModel(
            "cosmos:PATH",
            "a checkpoint file of COSMOS training",
            "its teacher; with #student its student",
            COSMOS_CAN,
            "COSMOS",
        ),
        ListedModel(
            "cosmos:PATH?scorer=cross",
            "the same",
            "any cosmos: model with pairs scored by its cross-attention poolers; its embeddings serve --rerank",
            f"{COSMOS_CAN}; pairs",
            "COSMOS",
        ),
    ),
)
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
HF_CAN = f"{SCORES}; segmentation except with GroupViT and BLIP-2"
HF_FAMILIES = "; ".join(family.title for family in FAMILIES.values())
HF = ModelKind(
    "hf",
    "hf:HUB-ID or hf:FOLDER, with ?processor=fast and other options",
    load="cosmos_eval.models.hf_loading:load_hf",
    check="cosmos_eval.models.hf_loading:check_hf",
    parse=partial(parse_with_options, allowed=HF_OPTIONS),
    slug_words=hf_slug_words,
    weights_help=hf_weights_help,
    listed=(
        ListedModel(
            "hf:HUB-ID",
            "a model of a family in docs/transformers.md, fetched at first use",
            "a model of transformers; ?revision=REVISION takes another than main",
            HF_CAN,
            HF_FAMILIES,
        ),
        ListedModel("hf:FOLDER", "a folder written by save_pretrained", "the same, local weights", HF_CAN, HF_FAMILIES),
        ListedModel(
            "hf:...?processor=fast",
            "as above",
            "images by the processor's torchvision backend, the default of transformers; without it by Pillow",
            HF_CAN,
            HF_FAMILIES,
        ),
        ListedModel(
            "hf:...?max-num-patches=576",
            "a SigLIP 2 NaFlex model",
            "another number of patches, at most, than 256",
            SCORES,
            FAMILIES["siglip2"].title,
        ),
        ListedModel(
            "hf:...?trust-remote-code=1",
            "a model with Python code of its own; of the hub with &revision=40-DIGITS",
            "runs that code",
            HF_CAN,
            "any with get_image_features and get_text_features",
        ),
        ListedModel(
            "hf:...?scorer=itm",
            "BlipForImageTextRetrieval or Blip2ForImageTextRetrieval",
            "pairs scored by its image-text matching head; its embeddings serve --rerank",
            f"{SCORES}; pairs",
            "BLIP, BLIP-2",
        ),
    ),
)
PYTHON = ModelKind(
    "python",
    "python:package.module:factory",
    load="cosmos_eval.models.python:load_python",
    check="cosmos_eval.models.python:check_python",
    parse=parse_python,
    slug_words=lambda spec: [spec.name, spec.rest],
    listed=(
        ListedModel(
            "python:package.module:factory",
            "an importable module",
            "your own adapter",
            f"{SCORES}; segmentation with encode_patches, pairs with score_pairs",
            "any",
        ),
    ),
)
EMBEDDINGS = ModelKind(
    "embeddings",
    "embeddings:DIR",
    load="cosmos_eval.models.embeddings:load_embeddings",
    check="cosmos_eval.models.embeddings:check_embeddings",
    listed=(
        ListedModel(
            "embeddings:DIR",
            "meta.json, images.npz, texts.npz",
            "stored embeddings, made by any code",
            f"{SCORES}, of the images and texts in the folder",
            "any",
        ),
    ),
    encodes=False,
)
FLAIR = ModelKind(
    "flair",
    "flair:NAME or flair:PATH, with ?scorer=clip",
    load="cosmos_eval.models.flair:load",
    check="cosmos_eval.models.flair:check",
    parse=partial(parse_with_options, allowed=FLAIR_OPTIONS),
    slug_words=lambda spec: [short_name(spec.name), *scorer_words(spec)],
    listed=(
        *(
            ListedModel(
                f"flair:{name}",
                f"{name}.pt of {FLAIR_REPOSITORY}, fetched at first use",
                f"released FLAIR ViT-B/16, trained on {data}: images pooled by attention under each text",
                SCORES,
                "FLAIR",
            )
            for name, data in RELEASED_FLAIR.items()
        ),
        ListedModel("flair:PATH", "a checkpoint file of FLAIR's authors", "scored likewise", SCORES, "FLAIR"),
        ListedModel(
            "flair:PATH?scorer=clip", "the same", "scored by the cosine of its global embeddings", SCORES, "FLAIR"
        ),
    ),
)
BUILT_IN: dict[str, ModelKind | str] = {
    "cosmos": COSMOS,
    "open_clip": OPEN_CLIP,
    "hf": HF,
    "flair": FLAIR,
    "python": PYTHON,
    "embeddings": EMBEDDINGS,
}
"""Word before the colon -> the kind, or its `module:name`, or the `module:name` of a class that makes an adapter, as in
a plug-in (see `spec.model_kind`). A new kind is an adapter module and a line here."""
