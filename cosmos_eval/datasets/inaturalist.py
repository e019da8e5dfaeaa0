"""iNaturalist 2021 (Van Horn et al., CVPR 2021) as its archives are unpacked: a folder for each species."""

import re
from pathlib import Path
from typing import Any

from cosmos_eval.datasets.class_order import assign_class_names
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_folder import list_class_folders, read_class_folders

NUMBER_AND_RANKS = re.compile(r"([0-9]{5})_([^_]+(?:_[^_]+){6})")
"""Number of a class, and kingdom, phylum, class, order, family, genus and species."""


def read_inaturalist(benchmark: Any, data_root: Path) -> Data:
    """Read the images below `path/<number>_<kingdom>_<phylum>_<class>_<order>_<family>_<genus>_<species>`.

    Classes are in the order of their numbers. `prompts.class_names` is a list or a map as for an image folder; without
    it, a class is called by its seven ranks with spaces between them.

    Options: `path` (folder of the classes).

    Raises:
        DataProblems: folders that are not called so, numbers that are not 0, 1, 2, ..., unexpected counts.
    """
    checker = DatasetChecker(benchmark, data_root)
    (root,) = checker.require(checker.find_path("path", "folder"))
    folders = list_class_folders(root)
    matches = {folder: NUMBER_AND_RANKS.fullmatch(folder) for folder in folders}
    others = [folder for folder, match in matches.items() if match is None]
    if others or not folders:
        found = f", found {format_names(others)}" if others else ""
        checker.refuse(
            f"needs folders such as 00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris "
            f"in {root}{found}; unpack the archive again, and let path name the folder of the classes"
        )
    ranks = [(int(match[1]), match[2].replace("_", " ")) for match in matches.values() if match is not None]
    missing = [f"{number:05d}" for number in sorted(set(range(len(folders))) - {number for number, _ in ranks})]
    if missing:
        checker.refuse(f"finds no folder of class {format_names(missing)} in {root}; unpack the whole archive")
    prompts = benchmark.resolve_prompts()
    in_order, class_names = assign_class_names(prompts.class_names, folders, checker)
    if prompts.class_names is None:
        class_names = [name for _, name in ranks]
    return checker.finish(read_class_folders(root, in_order, class_names, prompts.templates, checker))
