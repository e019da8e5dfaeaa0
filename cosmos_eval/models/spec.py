"""Model specs: what `--model` takes, parsed without importing torch."""

import re
from dataclasses import dataclass
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr

KINDS = {
    "cosmos": "cosmos:NAME or cosmos:PATH, with #student or #teacher",
    "open_clip": "open_clip:ARCH/TAG or open_clip:ARCH/PATH, with #gelu or #quickgelu, or open_clip:local-dir:DIR",
    "hf": "hf:HUB-ID or hf:FOLDER",
    "python": "python:package.module:factory",
    "embeddings": "embeddings:DIR",
}
SELECTORS = ("teacher", "student")
ACTIVATIONS = ("gelu", "quickgelu")
QUICK = "-quickgelu"
"""What open_clip puts after an architecture's name to mean the same with QuickGELU."""
LOCAL_DIR = "local-dir"
"""open_clip's word for a folder with its configuration and weights; such a spec has it in place of an architecture."""
LARGEST_SEED = 2**63 - 1
"""That torch's generators take."""


@dataclass(frozen=True)
class ModelSpec:
    """A parsed spec. `text` is what the user wrote; the other fields are its parts."""

    text: str
    kind: str
    name: str
    """cosmos: name or path; open_clip: the architecture, or `local-dir`; hf: hub id or folder; python: the module;
    embeddings: the folder."""
    rest: str = ""
    """open_clip: tag, path or folder; python: the factory; empty for the others."""
    selector: str = ""
    """cosmos: `teacher` or `student`; open_clip: `gelu` or `quickgelu` where the user told; empty for the others."""
    seed: int = 0
    """cosmos: the seed of an `untrained-PRESET?seed=N`."""


def parse_spec(text: str) -> ModelSpec:
    """Split a model spec into its parts; neither the disk nor torch is touched.

    Raises:
        RequestError: no or an unknown kind, or a part is missing; lists the forms that exist.
    """
    kind, colon, name = text.partition(":")
    if not colon or kind not in KINDS:
        raise RequestError(
            f"model spec {short_repr(text, 200)} is of no known kind; write one of: {'; '.join(KINDS.values())}"
        )
    if not name.strip():
        raise RequestError(f"model spec {short_repr(text, 200)} names nothing; write {KINDS[kind]}")
    if kind == "cosmos":
        return _parse_cosmos(text, name)
    if kind == "open_clip":
        if name.startswith(f"{LOCAL_DIR}:"):
            folder = name.removeprefix(f"{LOCAL_DIR}:")
            if not folder.strip():
                raise RequestError(
                    f"model spec {short_repr(text, 200)} names no folder; write open_clip:{LOCAL_DIR}:DIR"
                )
            return ModelSpec(text, kind, LOCAL_DIR, rest=folder)
        arch, slash, weights = name.partition("/")
        if not (arch and slash and weights):
            raise RequestError(
                f"model spec {short_repr(text, 200)} needs an architecture and weights; write {KINDS[kind]}"
            )
        return _parse_open_clip(text, arch, weights)
    if kind == "python":
        module, colon, factory = name.rpartition(":")
        if not (module and factory.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise RequestError(
                f"model spec {short_repr(text, 200)} does not name a module and a function in it; write {KINDS[kind]}"
            )
        return ModelSpec(text, kind, module, rest=factory)
    return ModelSpec(text, kind, name)


def _parse_cosmos(text: str, name: str) -> ModelSpec:
    name, _, selector = name.rpartition("#") if "#" in name else (name, "", "teacher")
    if selector not in SELECTORS or not name:
        raise RequestError(
            f"model spec {short_repr(text, 200)} selects {selector!r}; write #teacher (the default) or #student"
        )
    seed = 0
    if name.startswith("untrained-") and "?" in name:
        name, _, option = name.partition("?")
        key, _, value = option.partition("=")
        # as many digits at most as the largest seed has: longer numbers Python refuses to read
        number = int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else -1
        if key != "seed" or not 0 <= number <= LARGEST_SEED:
            raise RequestError(
                f"model spec {short_repr(text, 200)} has the option {short_repr(option)}; the only one is "
                f"?seed=NUMBER, from 0 to {LARGEST_SEED}"
            )
        seed = number
    return ModelSpec(text, "cosmos", name, selector=selector, seed=seed)


def _parse_open_clip(text: str, arch: str, weights: str) -> ModelSpec:
    head, mark, told = weights.rpartition("#")
    if not mark or "/" in told or "." in told:  # a path may hold the sign itself
        return ModelSpec(text, "open_clip", arch, rest=weights)
    if told not in ACTIVATIONS or not head:
        raise RequestError(
            f"model spec {short_repr(text, 200)} selects {told!r}; write #gelu or #quickgelu after the weights"
        )
    if told == "gelu" and arch.endswith(QUICK):
        raise RequestError(f"model spec {short_repr(text, 200)} asks for both activations; drop {QUICK} or #gelu")
    return ModelSpec(text, "open_clip", arch, rest=head, selector=told)


def slug(spec: str) -> str:
    """A folder name for the model: letters, digits, `.`, `_` and `-`, at most 80 characters, no folders of this
    machine.

    Paths keep their last two parts, so that `runs/exp1/last.pt` and `runs/exp2/last.pt` stay apart; whatever else could
    collide is told apart by the digest that follows the slug in a result's folder name.
    """
    parsed = parse_spec(spec)
    if parsed.kind == "cosmos":
        words = [_short(parsed.name)]
        words += ["student"] if parsed.selector == "student" else []
        words += [f"seed{parsed.seed}"] if parsed.seed else []
    elif parsed.kind == "hf" or parsed.kind == "embeddings":
        words = [_short(parsed.name)]
    elif parsed.kind == "open_clip":
        words = [parsed.name, _short(parsed.rest), *([parsed.selector] if parsed.selector else [])]
    else:
        words = [parsed.name, parsed.rest]
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([parsed.kind, *words])).strip("-.")
    return safe[:80].rstrip("-.")


def _short(name: str) -> str:
    """The last two parts of a path or hub id, without a checkpoint's ending; `/` alone becomes `root`."""
    path = Path(name)
    parts = [part for part in path.parts[-2:] if part not in ("/", ".", "..") and not part.startswith("~")]
    if path.suffix in (".pt", ".pth", ".bin", ".safetensors"):
        parts[-1:] = [path.stem]
    return "-".join(parts) or "root"


@dataclass(frozen=True)
class KnownModel:
    """A line of `list models`."""

    spec: str
    needs: str
    about: str


def list_models() -> list[KnownModel]:
    """Everything that a spec can name, with what each needs on disk or from the network. Imports no torch."""
    from cosmos_core.released import HUB_REPOSITORY, RELEASED

    rows = [
        KnownModel(
            "cosmos:toybox",
            "nothing: comes with the package",
            "small COSMOS trained on toybox, its teacher only; the default",
        ),
        KnownModel("cosmos:untrained-PRESET?seed=0", "nothing", "random weights: toybox, ViT-B-16 or ViT-B-32"),
    ]
    rows += [
        KnownModel(
            f"cosmos:{released.name}",
            f"{released.file} of {HUB_REPOSITORY}, fetched when first asked for",
            f"released COSMOS {released.arch}, trained on {released.data}",
        )
        for released in RELEASED.values()
    ]
    rows += [
        KnownModel("cosmos:PATH", "a checkpoint file of COSMOS training", "its teacher; with #student its student"),
        KnownModel(
            "open_clip:ARCH/TAG",
            "weights of open_clip's registry, fetched when first asked for",
            "a model of open_clip",
        ),
        KnownModel(
            "open_clip:ARCH/PATH",
            "a checkpoint file of open_clip training",
            "the same, local weights; with #gelu or #quickgelu where neither the file nor ARCH says which",
        ),
        KnownModel(
            "open_clip:local-dir:DIR",
            "a folder with open_clip_config.json and weights",
            "the same, as open_clip's push_to_hf_hub and its hub copies have it",
        ),
        KnownModel("hf:HUB-ID", "a CLIP or SigLIP model, fetched when first asked for", "a model of transformers"),
        KnownModel("hf:FOLDER", "a folder written by save_pretrained", "the same, local weights"),
        KnownModel("python:package.module:factory", "an importable module", "your own adapter"),
        KnownModel("embeddings:DIR", "meta.json, images.npz, texts.npz", "vectors made elsewhere"),
    ]
    return rows
