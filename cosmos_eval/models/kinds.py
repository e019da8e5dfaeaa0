"""A kind of model spec: how it is written, parsed, checked and loaded. Imports neither torch nor model libraries."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr


@dataclass(frozen=True)
class ModelSpec:
    """A parsed spec. `text` is the spec as the user wrote it; the other fields are its parts."""

    text: str
    kind: str
    name: str
    """cosmos: name or path; open_clip: the architecture, or `local-dir`; hf: hub id or folder; python: the module;
    embeddings: the folder; a plug-in: everything after the colon."""
    rest: str = ""
    """open_clip: tag, path or folder; python: the factory; empty for the others."""
    selector: str = ""
    """cosmos: `teacher` or `student`; open_clip: `gelu` or `quickgelu` if the user wrote it; empty for the others."""
    seed: int = 0
    """cosmos: the seed of an `untrained-PRESET?seed=N`."""
    scorer: str = ""
    """The option `?scorer=NAME`: which of a model's own scores is used for an image and a text; empty for the score
    that such models have by default."""


@dataclass(frozen=True)
class ListedModel:
    """A line of `list models`: a form of spec, what it needs on disk or from the network, and what it is."""

    spec: str
    needs: str
    about: str


def name_alone(text: str, kind: "ModelKind", name: str) -> ModelSpec:
    """The parts of a spec with nothing but a name after the colon."""
    return ModelSpec(text, kind.name, name)


def name_slug_words(spec: ModelSpec) -> list[str]:
    """The parts of a result folder's name for a spec with nothing but a name after the colon."""
    return [short_name(spec.name)]


@dataclass(frozen=True)
class ModelKind:
    """One kind of spec: the word before the colon, and the library that it uses."""

    name: str
    form: str
    """How such a spec is written, for messages."""
    load: Any
    """`(ModelSpec, device) -> Model`, or its `module:name`. In a plug-in it may return any adapter that `python:`
    accepts."""
    check: Any = None
    """`(ModelSpec, fetch) -> note`, or its `module:name`: what can be checked without loading; see `preflight`."""
    parse: "Callable[[str, ModelKind, str], ModelSpec]" = name_alone
    """(the spec, this kind, the part after the colon) -> the parsed spec; raises RequestError for a wrong spec."""
    slug_words: Callable[[ModelSpec], list[str]] = name_slug_words
    """The parts of the result folder's name that follow the kind; `slug` joins them."""
    listed: tuple[ListedModel, ...] = field(default=())
    """Lines of `list models`."""
    weights_name: Callable[[ModelSpec], str] = lambda spec: spec.text
    """A name that is equal for all specs of the same published weights."""
    weights_help: Callable[[list[ModelSpec], str], list[str]] = lambda specs, suite: []
    """(specs, name of a suite) -> lines that say where to get the weights, and how to use a copy without a network."""
    expands_patterns: bool = False
    """Whether a pattern over files, such as `runs/x/*.pt`, stands for several models."""
    encodes: bool = True
    """Whether a network encodes the inputs. Stored embeddings are only read, so ranks have no work to share."""


def split_options(name: str) -> tuple[str, list[str]]:
    """Split a name from the options that follow it: `x.pt?scorer=cross&seed=1` -> `x.pt`, ["scorer=cross", "seed=1"].

    A question mark that no `key=` follows belongs to the name: it may be a pattern over files.
    """
    matched = re.fullmatch(r"(.+?)\?([a-z][a-z-]*=[^?/]*)", name)
    return (matched[1], matched[2].split("&")) if matched else (name, [])


def spec_error(text: str, reason: str) -> RequestError:
    """The error for a wrong spec; `reason` says what is wrong and what to write."""
    return RequestError(f"model spec {short_repr(text, 200)} {reason}")


def short_name(name: str) -> str:
    """The last two parts of a path or hub id, without the suffix of a checkpoint file; "root" if nothing is left."""
    path = Path(name)
    parts = [part for part in path.parts[-2:] if part not in ("/", ".", "..") and not part.startswith("~")]
    if path.suffix in (".pt", ".pth", ".bin", ".safetensors"):
        parts[-1:] = [path.stem]
    return "-".join(parts) or "root"
