"""The kind `st:`: a multimodal model of sentence-transformers."""

from functools import partial

from cosmos_eval.models.kinds import (
    REVISION,
    SCORES,
    ListedModel,
    ModelKind,
    ModelSpec,
    hub_weights_help,
    parse_with_options,
    short_name,
)

PROMPT_NAME = r"\w[\w.-]{0,79}"
"""Pattern of the name of a prompt in a model's settings."""
ST_OPTIONS = {
    "text-prompt": PROMPT_NAME,
    "image-prompt": PROMPT_NAME,
    "revision": REVISION,
    "trust-remote-code": "1",
}
"""Options of `st:` specs -> pattern of their values."""
ST_FAMILIES = "CLIP-like models and multimodal language models that sentence-transformers saved"


def st_slug_words(spec: ModelSpec) -> list[str]:
    """The parts of a result folder's name: the model, and the options that change its numbers."""
    words = [f"{side[0]}-{spec.options[side]}" for side in ("text-prompt", "image-prompt") if side in spec.options]
    return [short_name(spec.name), *(word for word in (spec.revision[:8], *words) if word)]


ST = ModelKind(
    "st",
    "st:HUB-ID or st:FOLDER, with ?text-prompt=NAME, ?image-prompt=NAME and other options",
    load="cosmos_eval.models.st_loading:load_st",
    check="cosmos_eval.models.st_loading:check_st",
    parse=partial(parse_with_options, allowed=ST_OPTIONS),
    slug_words=st_slug_words,
    weights_help=hub_weights_help,
    listed=(
        ListedModel(
            "st:HUB-ID",
            "the package sentence-transformers, and a multimodal model of it, fetched at first use",
            "embeddings as by SentenceTransformer.encode; ?revision=REVISION takes another than main",
            SCORES,
            ST_FAMILIES,
        ),
        ListedModel("st:FOLDER", "the same; a folder of its save_pretrained", "local weights", SCORES, ST_FAMILIES),
        ListedModel(
            "st:...?text-prompt=query&image-prompt=document",
            "as above",
            "texts and images with prompts of these names, as by encode_query and encode_document",
            SCORES,
            ST_FAMILIES,
        ),
        ListedModel(
            "st:...?trust-remote-code=1",
            "a model with Python code of its own; of the hub with &revision=40-DIGITS",
            "runs that code",
            SCORES,
            "any that embeds images and texts",
        ),
    ),
)
