"""The kind `cosmos:`: released checkpoints, files of COSMOS training, and untrained presets."""

from pathlib import Path

from cosmos_core.released import HUB_REPOSITORY, RELEASED
from cosmos_core.short_repr import short_repr
from cosmos_eval.models.kinds import (
    SCORES,
    ListedModel,
    ModelKind,
    ModelSpec,
    scorer_words,
    short_name,
    spec_error,
    split_options,
)

SELECTORS = ("teacher", "student")
COSMOS_OPTIONS = {"scorer": "cross"}
"""Options of `cosmos:` specs -> pattern of their values; the scorer is `cosmos_core.cross_scores`."""
SEED_OPTION = {"seed": ".*"}
"""The option of untrained presets."""
LARGEST_SEED = 2**63 - 1
"""The largest seed that torch's generators take."""
COSMOS_CAN = f"{SCORES}, segmentation, attention maps"


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
