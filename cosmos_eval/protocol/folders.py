"""Folders with definitions of benchmarks and suites: the shipped one, and those of plug-ins.

A plug-in names a package as an entry point of the group `cosmos_eval.protocols`, as in `mine = my_package.protocols`.
The `*.yaml` files of that package are benchmarks, those in its folder `suites/` are suites. They are used by name like
shipped ones. A plug-in cannot replace a shipped definition: its file of the same name is ignored with a warning.
"""

import warnings
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from cosmos_core.plugins import Plugin, entry_points, off_note
from cosmos_core.printable import one_line, printable

DEFINITIONS = Path(__file__).parents[1] / "protocols"
"""Folder of the shipped definitions."""
GROUP = "cosmos_eval.protocols"
"""Group of the entry points of plug-ins."""


def shipped_files(subfolder: str = "") -> dict[str, Path]:
    """Return name -> file of the shipped benchmarks, or of the shipped suites if `subfolder` is "suites"."""
    return {path.stem: path for path in (DEFINITIONS / subfolder).glob("*.yaml")}


def definition_files() -> dict[str, Path]:
    """Return name -> file of all benchmarks, shipped and of plug-ins."""
    return _find_files("", "benchmark")


def suite_files() -> dict[str, Path]:
    """Return name -> file of all suites, shipped and of plug-ins."""
    return _find_files("suites", "suite")


def find_provider(name: str) -> str:
    """Return the plug-in that provides a benchmark or suite, as `plug-in NAME VERSION`.

    Empty for shipped definitions and users' own files.
    """
    for subfolder in ("", "suites"):
        if (DEFINITIONS / subfolder / f"{name}.yaml").is_file():
            return ""
        for plugin in entry_points(GROUP):
            folder = _find_folder(plugin)
            if folder is not None and (folder / subfolder / f"{name}.yaml").is_file():
                return str(plugin)
    return ""


def _find_files(subfolder: str, what: str) -> dict[str, Path]:
    """Return name -> file, shipped ones first; warns of names that are taken.

    Args:
        subfolder: of each folder of definitions; "suites" for suites, empty for benchmarks.
        what: "benchmark" or "suite", for warnings.
    """
    files = shipped_files(subfolder)
    owner: dict[str, Plugin] = {}
    for plugin in entry_points(GROUP):
        folder = _find_folder(plugin)
        for path in sorted((folder / subfolder).glob("*.yaml")) if folder is not None else ():
            if path.stem in files:
                taken_by = str(owner[path.stem]) if path.stem in owner else "a shipped one"
                warnings.warn(
                    f"{plugin} is ignored where it provides the {what} {printable(path.stem)}: the name is taken by "
                    f"{taken_by}; give it another name",
                    stacklevel=2,
                )
                continue
            files[path.stem], owner[path.stem] = path, plugin
    return files


def _find_folder(plugin: Plugin) -> Path | None:
    """Find the folder of the package that an entry point names; None, with a warning, if there is none.

    The package itself is not imported: definitions are data, and its code should not run to list them.
    """
    package, _, subfolder = plugin.target.partition(":")
    try:
        spec = find_spec(package.strip())  # imports its parent packages, not the package itself
        package_folders = list(spec.submodule_search_locations or []) if spec is not None else []
    except (Exception, SystemExit) as error:  # a parent package is foreign code: it may raise anything, or call exit()
        package_folders, problem = [], f"{type(error).__name__}: {one_line(error)}"
    else:
        problem = "there is no such package"
    folder = Path(package_folders[0]) / subfolder.strip() if package_folders else None
    if folder is None or not folder.is_dir():
        target = printable(plugin.target)
        warnings.warn(
            f"the definitions of {plugin} ({target}) cannot be used: {problem}; correct or uninstall it", stacklevel=2
        )
        return None
    return folder


def suggest_names(name: str, known: list[str]) -> str:
    """End of a message on an unknown name: similar names, or else names that contain it."""
    similar = get_close_matches(name, known, n=3, cutoff=0.5)
    if name and not similar:
        similar = [known_name for known_name in known if name in known_name][:3]
    return (f"; did you mean {' or '.join(similar)}?" if similar else "; see `cosmos-eval list`") + off_note()
