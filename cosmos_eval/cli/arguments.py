"""Checks that the arguments of all commands share: `~` in paths, writable outputs, numbers within bounds.

The checks wrap every command of an app and run after parsing, before any work, so that new options are checked, too.
An output is an option or argument that is declared `writable=True`, with `file_okay=False` for a folder and
`dir_okay=False` for a file.
"""

import functools
import inspect
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import ArgumentInfo, OptionInfo

from cosmos_core.errors import RequestError
from cosmos_eval.rank_environment import is_main_process

LARGEST = 2**63 - 1
"""Largest integer: files and libraries use 64 bits."""
LONGEST_NAME = 255
"""Bytes of one name in a path, on every common file system."""


def check_arguments(app: typer.Typer) -> None:
    """Put the checks around all commands of an app."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = checked(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            check_arguments(group.typer_instance)


def checked(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command: `~` in paths is expanded, and unusable paths and numbers are refused."""
    declared = dict(parameters_of(command))
    for info in declared.values():
        if info.writable:  # the parser's own checks of outputs are weaker and would come first
            _folders[id(info)] = info.dir_okay
            info.writable, info.file_okay, info.dir_okay = False, True, True

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        try:
            values = {name: _checked(name, declared.get(name), value) for name, value in values.items()}
        except RequestError as error:
            error.quiet = not is_main_process()  # every rank of torchrun has the same error; the first one prints it
            raise
        return command(**values)

    return run


def parameters_of(command: Callable[..., Any]) -> Iterator[tuple[str, OptionInfo | ArgumentInfo]]:
    """The options and arguments that the signature of a command declares, by the name of their parameter."""
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if get_origin(parameter.annotation) is Annotated:
            for info in get_args(parameter.annotation)[1:]:
                if isinstance(info, OptionInfo | ArgumentInfo):
                    yield name, info


_folders: dict[int, bool] = {}
"""id of each declared output -> whether it is a folder; the declarations live as long as the commands."""


def output_kind(info: OptionInfo | ArgumentInfo | None) -> str:
    """`folder`, `file`, or empty for other arguments."""
    return "" if id(info) not in _folders else "folder" if _folders[id(info)] else "file"


def name_of(parameter: str, info: OptionInfo | ArgumentInfo | None) -> str:
    """How users write a parameter: `--data-root`, or `FOLDER` for an argument."""
    if isinstance(info, ArgumentInfo):
        return (info.metavar or parameter).upper()
    # within Annotated typer keeps the first of an option's names where a default would be
    names = (info.default, *(info.param_decls or ())) if info is not None else ()
    named = [option for option in names if isinstance(option, str) and option.startswith("--")]
    return named[0].partition("/")[0] if named else f"--{parameter.replace('_', '-')}"


def refuse_empty_paths(app: typer.Typer, arguments: Sequence[str]) -> None:
    """Refuse an empty argument where a path is meant: as a path it would be the current folder.

    Raises:
        RequestError: an empty value of an option that takes a path, or an empty argument that is not an option's value.
    """
    if all(argument.strip() and not argument.endswith("=") for argument in arguments):
        return  # the declarations of all commands are read only where they matter
    paths = set(_path_options(app))
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, sign, value = argument.partition("=")
        if sign and not value and option in paths:
            raise RequestError(f"{option} is empty; give a path, or . for this folder")
        if not argument.strip() and (before in paths or before == "--" or not before.startswith("-")):
            subject = before if before in paths else "an argument"
            raise RequestError(f"{subject} is empty; give a path, or . for this folder")


def _path_options(app: typer.Typer) -> Iterator[str]:
    for command in app.registered_commands:
        signature = inspect.signature(command.callback or (lambda: None), eval_str=True)
        declared = dict(parameters_of(command.callback)) if command.callback is not None else {}
        for name, info in declared.items():
            if Path in _plain_types(signature.parameters[name].annotation) and isinstance(info, OptionInfo):
                yield name_of(name, info)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _path_options(group.typer_instance)


def _plain_types(annotation: Any) -> set[Any]:
    parts = get_args(annotation)
    return set().union(*map(_plain_types, parts)) if parts else {annotation} if isinstance(annotation, type) else set()


def _checked(parameter: str, info: OptionInfo | ArgumentInfo | None, value: Any) -> Any:
    """One value as the command gets it.

    Raises:
        RequestError: it cannot be used; names the option.
    """
    if isinstance(value, list):
        return [_checked(parameter, info, item) for item in value]
    name = name_of(parameter, info)
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"{name} must be a finite number, got {value}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise RequestError(f"{name} {str(value)[:12]}... is too large; the largest possible number is {LARGEST:,}")
    if isinstance(value, str | Path) and "\0" in str(value):
        raise RequestError(f"{name} {str(value)!r} holds a NUL character, which names cannot")
    if not isinstance(value, Path):
        return value
    path = expanded(name, value)
    if output_kind(info):
        check_output(name, path, folder=output_kind(info) == "folder")
    return path


def expanded(name: str, path: Path) -> Path:
    """The path with `~` expanded as by a shell.

    Raises:
        RequestError: no such user, or a name that is too long for file systems.
    """
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise RequestError(f"{name} {path}: {error}; write ./{path} for a name that begins with ~") from error
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > LONGEST_NAME:
        raise RequestError(f"{name}: a name in the path has {longest:,} bytes, and {LONGEST_NAME} are possible")
    return path


def check_output(name: str, path: Path, *, folder: bool) -> None:
    """Refuse an output that cannot be written, before anything is computed for it.

    Raises:
        RequestError: a file where a folder is needed or the reverse, a path below a file, a broken link, or no
            permission to write.
    """
    for existing in (path, *path.parents):
        if existing.is_symlink() and not existing.exists():
            raise RequestError(
                f"{name} {path}: {existing} is a link to {existing.readlink()}, which does not exist; make that "
                "folder, or remove the link"
            )
        if existing.exists():
            break
    else:
        return
    if existing.is_dir():
        if existing == path and not folder:
            raise RequestError(f"{name} {path} is a folder; give a file")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise RequestError(
                f"{name} {path}: the folder {existing} cannot be written to; give another, or change its permissions"
            )
    elif existing != path:
        raise RequestError(f"{name} {path}: {existing} is a file, so it cannot hold a folder; give another")
    elif folder:
        raise RequestError(f"{name} {path} is a file; give a folder")
