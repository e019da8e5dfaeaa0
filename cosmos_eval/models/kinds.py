"""A kind of model spec: how it is written, parsed, checked and loaded. Imports neither torch nor model libraries."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr

REVISION = r"(?!.*\.\.)\w[\w./-]*"
"""Pattern of a branch, tag or commit in the options of a spec."""
SCORES = "retrieval, classification, perception"
"""Tasks that every model that embeds or scores images and texts supports."""


@dataclass(frozen=True)
class ModelSpec:
    """A parsed spec. `text` is the spec as the user wrote it; the other fields are its parts."""

    text: str
    kind: str
    name: str
    """cosmos: name or path; open_clip: the architecture, `local-dir` or `hf-hub`; hf: hub id or folder; python: the
    module; embeddings: the folder; a plug-in: everything after the colon."""
    rest: str = ""
    """open_clip: tag, path, folder or hub id; python: the factory; empty for the others."""
    selector: str = ""
    """cosmos: `teacher` or `student`; open_clip: `gelu` or `quickgelu` if the user wrote it; empty for the others."""
    seed: int = 0
    """cosmos: the seed of an `untrained-PRESET?seed=N`."""
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What follows the name as `?key=value&...`, by key, for kinds with such options. `revision`: branch, tag or commit
    of a repository on the hub. `scorer`: which of a model's own scores is used for an image and a text; without it the
    score that such models have by default."""

    @property
    def revision(self) -> str:
        """The branch, tag or commit that the user wrote; empty: the newest commit."""
        return self.options.get("revision", "")


@dataclass(frozen=True)
class ListedModel:
    """A line of `list models`: a form of spec, what it needs on disk or from the network, and what it is."""

    spec: str
    needs: str
    about: str
    can: str = ""
    """What such a model supports; `show model SPEC` says it of one model."""
    families: str = ""
    """Families of models that this form reads."""


def name_alone(text: str, kind: "ModelKind", name: str) -> ModelSpec:
    """The parts of a spec with nothing but a name after the colon."""
    return ModelSpec(text, kind.name, name)


def name_slug_words(spec: ModelSpec) -> list[str]:
    """The parts of a result folder's name for a spec with nothing but a name after the colon."""
    return [short_name(spec.name)]


def hub_weights_help(specs: list[ModelSpec], suite: str) -> list[str]:
    """How the repositories of specs of one kind are downloaded."""
    return [f"{specs[0].kind}: the repository of that name on the Hugging Face hub; downloaded at first use"]


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


def split_options(text: str, name: str, allowed: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Split `NAME?key=value&key=value`; a `?` that no known key follows belongs to the name, as in a folder `a?b`.

    Args:
        text: the whole spec, for messages.
        allowed: key -> pattern of its values.

    Raises:
        RequestError: an unknown key after a known one, a key twice, or a value that the key cannot have.
    """
    before, mark, after = name.partition("?")
    while mark and not any(after.startswith(f"{key}=") for key in allowed):
        more, mark, after = after.partition("?")
        before = f"{before}?{more}"
    options: dict[str, str] = {}
    for option in after.split("&") if mark else ():
        key, _, value = option.partition("=")
        if key not in allowed:
            raise spec_error(text, f"has the option {short_repr(key, 60)}; the options are {', '.join(allowed)}")
        if key in options or not re.fullmatch(allowed[key], value):
            reason = "twice" if key in options else f"as {short_repr(value, 60)}; see cosmos-eval list models"
            raise spec_error(text, f"has the option {key} {reason}")
        options[key] = value
    return (before, options) if mark else (name, {})


def parse_with_options(text: str, kind: ModelKind, name: str, *, allowed: Mapping[str, str]) -> ModelSpec:
    """Parse a name, hub id or path, with `?key=value&...` after it; see `split_options` for `allowed`."""
    name, options = split_options(text, name, allowed)
    if not name.strip():
        raise spec_error(text, f"names no model; write {kind.form}")
    return ModelSpec(text, kind.name, name, options=options)


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


def scorer_words(spec: ModelSpec) -> list[str]:
    """The part of a result folder's name for the scorer, if the user chose one."""
    return [spec.options["scorer"]] if "scorer" in spec.options else []
