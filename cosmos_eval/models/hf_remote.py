"""Models of the hub that bring their own Python code: `?trust-remote-code=1`, and what is asked before it runs.

Only a spec can ask for it, and only a user writes specs: definitions and suites name no models, a plug-in is refused
(`no_remote_code`). Code from the hub must be pinned by commit, so that what was read is what runs.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_core.printable import one_line
from cosmos_eval.models.hf_families import FAMILIES, Family
from cosmos_eval.models.hub import quiet_hub
from cosmos_eval.models.kinds import ModelSpec
from cosmos_eval.rank_environment import is_main_process

TRUST = "trust-remote-code"
CODE_REVISION = "code-revision"
RUNS_CODE = "runs foreign code, the .py files of its repository"
"""The note of a check on a model that brings its own code."""
_PLUGIN: ContextVar[str] = ContextVar("_PLUGIN", default="")
"""The plug-in whose code is running, empty if none."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")


def is_trusted(spec: ModelSpec) -> bool:
    """Whether the spec asks for the code of its repository or folder."""
    return TRUST in spec.options


def check_remote_options(spec: ModelSpec, folder: Path | None) -> None:
    """RequestError unless code from the hub is pinned by a commit.

    Args:
        folder: the folder that the spec names, None if it names a hub id.
    """
    if not is_trusted(spec):
        if CODE_REVISION in spec.options:
            raise RequestError(f"{spec.text}: ?{CODE_REVISION}= needs ?{TRUST}=1")
        return
    if _PLUGIN.get():
        raise RequestError(
            f"{spec.text}: {_PLUGIN.get()} asks for foreign code, which only you can do: give this spec to --model"
        )
    if folder is None and not _COMMIT.fullmatch(spec.options.get("revision", "")):
        raise RequestError(
            f"{spec.text}: ?{TRUST}=1 runs code of the hub, which can change at any time; read it, and add "
            "&revision=COMMIT with the 40 digits of the commit that you have read"
        )
    if CODE_REVISION in spec.options and not _COMMIT.fullmatch(spec.options[CODE_REVISION]):
        raise RequestError(f"{spec.text}: ?{CODE_REVISION}= needs the 40 digits of a commit")


def fetch_code(spec: ModelSpec, folder: Path | None, more_references: Sequence[str] = ()) -> list[Path]:
    """Fetch all Python files that the model may run, without running any, and say that they will run.

    Args:
        folder: the folder that the spec names, None if it names a hub id.
        more_references: classes that other files than transformers' configurations name, as `auto_map` does.

    Returns:
        the folders with the code: of the model, and of other repositories that its configurations name.

    Raises:
        RequestError: there is no code, it is in another repository without ?code-revision=, or it cannot be fetched.
    """
    home = folder if folder is not None else _fetch(spec, spec.name, spec.options["revision"], [*_CONFIGS, "*.py"])
    references = [*_code_references(home), *more_references]
    if not references:
        raise RequestError(f"{spec.text}: the model has no code of its own (no auto_map); leave ?{TRUST}=1 out")
    others = sorted({name.split("--")[0] for name in references if "--" in name} - {spec.name})
    if others and CODE_REVISION not in spec.options:
        raise RequestError(
            f"{spec.text}: the code is in another repository, {one_line(', '.join(others), 200)}; read it there, and "
            f"add &{CODE_REVISION}=COMMIT with the 40 digits of the commit that you have read"
        )
    if len(others) > 1:
        raise RequestError(
            f"{spec.text}: the code is in several other repositories, {one_line(', '.join(others), 200)}, which one "
            f"?{CODE_REVISION}= cannot pin; copy model and code into one folder, and correct its auto_map"
        )
    if is_main_process():
        print(f"cosmos-eval: {spec.text} {RUNS_CODE}", file=sys.stderr)
    return [home, *(_fetch(spec, name, spec.options[CODE_REVISION], ["*.py"]) for name in others)]


def _fetch(spec: ModelSpec, repository: str, revision: str, patterns: list[str]) -> Path:
    from huggingface_hub import constants, snapshot_download

    try:
        with quiet_hub():
            folder = snapshot_download(
                repository,
                revision=revision,
                allow_patterns=patterns,
                local_files_only=constants.HF_HUB_OFFLINE,
            )
    except Exception as error:
        raise RequestError(
            f"{spec.text}: the code of {repository} is not in the cache, and the hub cannot be reached for it: "
            f"{one_line(error, 200)}"
        ) from error
    return Path(folder)


def _code_references(folder: Path) -> list[str]:
    """The classes in `auto_map` of configurations in a folder: `module.Class`, or `repository--module.Class`."""
    references: list[str] = []
    for name in _CONFIGS:
        config = read_json(folder / name) if (folder / name).exists() else {}
        mapping = config.get("auto_map") if isinstance(config, dict) else None
        values = mapping.values() if isinstance(mapping, dict) else [mapping]
        for value in values:
            references += [entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, str)]
    return references


def hash_code(folders: list[Path]) -> dict[str, str]:
    """SHA-256 of every Python file in the folders, by its path in its folder; part of the model's digest."""
    return {
        f"{number}/{path.relative_to(folder).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for number, folder in enumerate(folders)
        for path in sorted(folder.rglob("*.py"))
    }


def remote_family(config: Any, network: Any, spec: str) -> Family:
    """The family of a model with its own code: of its `model_type`, or one that calls `get_*_features`.

    Raises:
        RequestError: the model has neither, or no text configuration.
    """
    if config.model_type in FAMILIES:
        return FAMILIES[config.model_type]
    missing = [
        name for name in ("get_image_features", "get_text_features") if not callable(getattr(network, name, None))
    ]
    missing += [name for name in ("text_config", "vision_config") if not hasattr(config, name)]
    if missing:
        raise RequestError(
            f"{spec}: its code ({type(network).__name__}) has no {' and no '.join(missing)}; write a python: adapter "
            "for it"
        )
    name = type(network).__name__
    return Family(config.model_type, name, {name: name}, "the model's own code", image_size_from_config=False)


@contextmanager
def no_remote_code(plugin: str) -> Iterator[None]:
    """Refuse foreign code in this context: the code of `plugin` must not ask for it in the user's place."""
    token = _PLUGIN.set(plugin)
    try:
        yield
    finally:
        _PLUGIN.reset(token)


def remote_advice(config: Mapping[str, Any]) -> str:
    """What to add to the spec of a model that this adapter does not know but that has its own code, or empty."""
    return f", or read its code and add ?{TRUST}=1" if config.get("auto_map") else ""
