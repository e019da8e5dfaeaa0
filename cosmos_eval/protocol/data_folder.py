"""A folder of data in place of a definition: class folders, or shards in clip-benchmark's layout.

Such a folder carries the names of its classes. The definition that this module makes of it is an ordinary one, so
that its result has a fingerprint of the names and templates that were used.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import is_folder
from cosmos_core.printable import printable
from cosmos_core.short_repr import short_list
from cosmos_eval.datasets.prompts import DEFAULT_TEMPLATES
from cosmos_eval.protocol.folders import definition_files, shipped_files, suite_files

SPLITS = ("train", "training", "val", "valid", "validation", "test")
"""Folders beside each other that are splits and not classes."""
COUNT, CLASS_NAMES = "nshards.txt", "classnames.txt"
TEMPLATES = ("templates.txt", "templates.json", "zeroshot_classification_templates.txt")
_WNID = re.compile(r"n\d{8}")


def describe_folder(folder: Path) -> dict[str, Any]:
    """Return the arguments of `Benchmark` for a folder of data.

    Shards: `SPLIT/nshards.txt`, `SPLIT/0.tar`, ... and `classnames.txt`; `folder` may also be the folder of the split.
    Class folders: one for each class. Its name is the class's name, with spaces for underscores; wnids get the names of
    imagenet1k. A `classnames.txt` in `folder` replaces the names: in any order if they match the folders, else in the
    order of the sorted folders. In both layouts, templates are in a file of `TEMPLATES`, or `DEFAULT_TEMPLATES`.

    Raises:
        RequestError: neither layout, or splits in place of classes.
    """
    root = folder.resolve()
    if (root / COUNT).is_file():
        return _describe_shards(root.parent, root.name)
    splits = sorted(path.parent.name for path in root.glob(f"*/{COUNT}"))
    if splits:
        if len(splits) > 1 and "test" not in splits:
            raise RequestError(
                f"{printable(folder)} has shards of {short_list(splits)}; give one, such as {folder / splits[0]}"
            )
        return _describe_shards(root, "test" if "test" in splits else splits[0])
    with os.scandir(root) as entries:
        classes = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__")))
    if not classes:
        raise RequestError(
            f"{printable(folder)} has neither a folder for each class nor shards ({CLASS_NAMES}, test/{COUNT}); give "
            "such a folder, or a YAML definition"
        )
    if all(name.lower() in SPLITS for name in classes):
        raise RequestError(
            f"{printable(folder)} has splits, {short_list(classes)}, and not classes; give one, such as "
            f"{printable(folder / classes[-1])}"
        )
    if (root / CLASS_NAMES).is_file():
        names: Any = CLASS_NAMES
    elif all(_WNID.fullmatch(name) for name in classes):
        names = _name_wnids(classes)
    else:
        names = {name: name.replace("_", " ").strip() or name for name in classes}
    return _definition(root, root, {"reader": "image-folder"}, {"class_names": names})


def notes_on_folders(names: Sequence[str], data_root: Path | None, out: Path | None = None) -> list[str]:
    """A line for each name of a shipped benchmark or suite that a folder has, too, which is not what is read.

    Folders of the data root are no such folders: data are expected there. Neither is `out`, where a run writes.
    """
    if data_root is not None and data_root.resolve() == Path.cwd():
        return []
    known = {"benchmark": definition_files(), "suite": suite_files()}
    return [
        f"{name} is the shipped {kind}, and the folder ./{name} is not read; write ./{name} to evaluate the folder"
        for name in names
        for kind, files in known.items()
        if name in files and is_folder(Path(name)) and (out is None or Path(name).resolve() != out.resolve())
    ]


def _describe_shards(root: Path, split: str) -> dict[str, Any]:
    if not (root / CLASS_NAMES).is_file():
        raise RequestError(
            f"{printable(root)} has shards without {CLASS_NAMES}; write it, one class name a line in the order of the "
            "labels (for captions, write a YAML with task: retrieval and reader: wds)"
        )
    return _definition(root, root / split, {"reader": "wds", "split": split}, {"class_names": CLASS_NAMES})


def _definition(root: Path, named_by: Path, dataset: dict[str, Any], prompts: dict[str, Any]) -> dict[str, Any]:
    templates = next((name for name in TEMPLATES if (root / name).is_file()), DEFAULT_TEMPLATES)
    return {
        "name": _make_name(named_by),
        "version": 1,
        "task": "classification",
        "dataset": {**dataset, "path": "."},
        "prompts": {**prompts, "templates": templates},
        "metrics": {"primary": "top1"},
        "source": "a folder of data",
        "folder": root,
        "data_root": root,
    }


def _make_name(folder: Path) -> str:
    """Return the name of a benchmark: that of the folder; of a split with the folder above it.

    A shipped benchmark of this name has other prompts, so that `-folder` is added then.
    """
    parts = [folder.name] if folder.name.lower() not in SPLITS else [folder.parent.name, folder.name]
    name = "-".join(parts)
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).lstrip("-.")
    name = name.encode()[:150].decode(errors="ignore") or "folder"
    return f"{name}-folder" if name in shipped_files() else name


def _name_wnids(wnids: list[str]) -> dict[str, str]:
    """Return the names of ImageNet-1k's classes by wnid; other wnids name themselves."""
    from cosmos_eval.datasets.imagenet import imagenet_wnids
    from cosmos_eval.datasets.imagenet_order import imagenet_names

    names = dict(zip(imagenet_wnids(), imagenet_names(), strict=True))
    return {wnid: names.get(wnid, wnid) for wnid in wnids}
