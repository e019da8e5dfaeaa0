"""Where definitions of benchmarks and suites lie: our own folder, and those that other packages add.

A plug-in names a package as entry point of the group `cosmos_eval.protocols`, as in `mine = my_package.protocols`: its
`*.yaml` are definitions, those in `suites/` suites. They are used by name like ours; a name of ours cannot be taken.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path

from cosmos_core.plugins import Plugin, entry_points
from cosmos_core.printable import one_line, printable

DEFINITIONS = Path(__file__).parents[1] / "protocols"
GROUP = "cosmos_eval.protocols"


def shipped_files(below: str = "") -> dict[str, Path]:
    """Name -> file of our own benchmarks, or of our suites (`below` is "suites"); without those of plug-ins."""
    return {path.stem: path for path in (DEFINITIONS / below).glob("*.yaml")}


def definition_files() -> dict[str, Path]:
    """Name of a benchmark -> the file of its definition."""
    return _files("", "benchmark")


def suite_files() -> dict[str, Path]:
    """Name of a suite -> its file."""
    return _files("suites", "suite")


def provider_of(name: str) -> str:
    """The plug-in that brings a benchmark or suite, as `plug-in NAME VERSION`; empty for ours and users' own files."""
    for below in ("", "suites"):
        if (DEFINITIONS / below / f"{name}.yaml").is_file():
            return ""
        for plugin in entry_points(GROUP):
            folder = _folder(plugin)
            if folder is not None and (folder / below / f"{name}.yaml").is_file():
                return str(plugin)
    return ""


def _files(below: str, what: str) -> dict[str, Path]:
    files = shipped_files(below)
    owner: dict[str, Plugin] = {}
    for plugin in entry_points(GROUP):
        folder = _folder(plugin)
        for path in sorted((folder / below).glob("*.yaml")) if folder is not None else ():
            if path.stem in files:
                whose = f"of {owner[path.stem]}" if path.stem in owner else "of ours"
                warnings.warn(
                    f"{plugin} is ignored where it provides the {what} {printable(path.stem)}, a name {whose}; "
                    "give it another name",
                    stacklevel=2,
                )
                continue
            files[path.stem], owner[path.stem] = path, plugin
    return files


def _folder(plugin: Plugin) -> Path | None:
    """The folder that an entry point names; None, with a warning, where there is none."""
    module, _, below = plugin.target.partition(":")
    try:
        spec = find_spec(module.strip())  # imports the packages above it, not the package itself
        places = list(spec.submodule_search_locations or []) if spec is not None else []
    except (Exception, SystemExit) as error:  # somebody else's module: it may raise anything
        places, problem = [], f"{type(error).__name__}: {one_line(error)}"
    else:
        problem = "there is no such package"
    folder = Path(places[0]) / below.strip() if places else None
    if folder is None or not folder.is_dir():
        where = printable(plugin.target)
        warnings.warn(
            f"the definitions of {plugin} ({where}) cannot be used: {problem}; correct or uninstall it", stacklevel=2
        )
        return None
    return folder
