"""What a kind of model spec is: how it is written, parsed, checked and loaded. Imports nothing heavy."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr


@dataclass(frozen=True)
class ModelSpec:
    """A parsed spec. `text` is what the user wrote; the other fields are its parts."""

    text: str
    kind: str
    name: str
    """cosmos: name or path; open_clip: the architecture, or `local-dir`; hf: hub id or folder; python: the module;
    embeddings: the folder; of a plug-in: everything behind the colon."""
    rest: str = ""
    """open_clip: tag, path or folder; python: the factory; empty for the others."""
    selector: str = ""
    """cosmos: `teacher` or `student`; open_clip: `gelu` or `quickgelu` where the user told; empty for the others."""
    seed: int = 0
    """cosmos: the seed of an `untrained-PRESET?seed=N`."""


@dataclass(frozen=True)
class KnownModel:
    """A line of `list models`."""

    spec: str
    needs: str
    about: str


def name_alone(text: str, kind: "ModelKind", name: str) -> ModelSpec:
    """A spec whose part behind the colon is one name."""
    return ModelSpec(text, kind.name, name)


def name_words(spec: ModelSpec) -> list[str]:
    """The words of a result's folder for such a spec."""
    return [short_name(spec.name)]


@dataclass(frozen=True)
class ModelKind:
    """One kind of spec: the word before the colon, and one library behind it."""

    name: str
    form: str
    """How such a spec is written, for messages."""
    load: Any
    """`(ModelSpec, device) -> Model`, or its `module:name`. A plug-in's returns an adapter as `python:` takes it."""
    check: Any = None
    """`(ModelSpec, fetch) -> note`, or its `module:name`: what can be known without loading; see `preflight`."""
    parse: "Callable[[str, ModelKind, str], ModelSpec]" = name_alone
    """(the whole text, the kind, what stands behind the colon) -> its parts; RequestError for what is no spec."""
    words: Callable[[ModelSpec], list[str]] = name_words
    """What a result's folder is called by, beside the kind."""
    listed: tuple[KnownModel, ...] = field(default=())
    """Lines of `list models`."""
    weights_name: Callable[[ModelSpec], str] = lambda spec: spec.text
    """A name that is equal for all specs of the same published weights."""
    where_weights: Callable[[list[ModelSpec], str], list[str]] = lambda specs, suite: []
    """(specs, the name of a suite) -> lines on where to get their weights and how to use a copy without a network."""
    folders: bool = False
    """Whether a pattern over files (`runs/x/*.pt`) stands for several models."""
    encodes: bool = True
    """Whether inputs pass a model; vectors made elsewhere are read, so that ranks have nothing to share."""


def refuse_spec(text: str, why: str) -> RequestError:
    """The refusal of a spec; `why` says what is wrong and what to write."""
    return RequestError(f"model spec {short_repr(text, 200)} {why}")


def short_name(name: str) -> str:
    """The last two parts of a path or hub id, without a checkpoint's ending; `/` alone becomes `root`."""
    path = Path(name)
    parts = [part for part in path.parts[-2:] if part not in ("/", ".", "..") and not part.startswith("~")]
    if path.suffix in (".pt", ".pth", ".bin", ".safetensors"):
        parts[-1:] = [path.stem]
    return "-".join(parts) or "root"
