"""The kind `flair:`: FLAIR's checkpoints."""

from functools import partial

from cosmos_eval.models.kinds import SCORES, ListedModel, ModelKind, parse_with_options, scorer_words, short_name

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
