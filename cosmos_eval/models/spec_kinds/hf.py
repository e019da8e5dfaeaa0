"""The kind `hf:`: a model of transformers, of the hub or of a folder."""

from functools import partial

from cosmos_eval.models.hf_families import FAMILIES
from cosmos_eval.models.kinds import (
    REVISION,
    SCORES,
    ListedModel,
    ModelKind,
    ModelSpec,
    hub_weights_help,
    parse_with_options,
    scorer_words,
    short_name,
)

HF_OPTIONS = {
    "processor": "fast|slow",
    "max-num-patches": "[1-9][0-9]{0,4}",
    "revision": REVISION,
    "trust-remote-code": "1",
    "code-revision": "[0-9a-f]{40}",
    "scorer": "itm",
}
"""Options of `hf:` specs -> pattern of their values."""
HF_CAN = f"{SCORES}; segmentation except with GroupViT and BLIP-2"
HF_FAMILIES = "; ".join(family.title for family in FAMILIES.values())


def hf_slug_words(spec: ModelSpec) -> list[str]:
    """The parts of a result folder's name: the model, and the options that change its numbers."""
    words = [spec.options.get("max-num-patches", ""), spec.options.get("revision", "")[:8]]
    words += ["fast"] if spec.options.get("processor") == "fast" else []
    return [short_name(spec.name), *(word for word in words if word), *scorer_words(spec)]


HF = ModelKind(
    "hf",
    "hf:HUB-ID or hf:FOLDER, with ?processor=fast and other options",
    load="cosmos_eval.models.hf_loading:load_hf",
    check="cosmos_eval.models.hf_loading:check_hf",
    parse=partial(parse_with_options, allowed=HF_OPTIONS),
    slug_words=hf_slug_words,
    weights_help=hub_weights_help,
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
