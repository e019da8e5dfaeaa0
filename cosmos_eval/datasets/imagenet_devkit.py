"""Labels of ImageNet's development kit (ILSVRC2012_devkit_t12): ids from 1 to 1000, which meta.mat maps to wnids.

`ILSVRC2012_validation_ground_truth.txt` has the id of one validation image a line. The ids are in another order than
the wnids, so they mean nothing without `meta.mat`, which is in the same folder of the kit.
"""

import math
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.text_files import impostor_at, parse_integer, read_content
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.mat_structs import MatError, read_struct_array

META = "meta.mat"
LARGEST_META = 2**26
"""Most bytes of meta.mat, which has less than a megabyte."""
IMAGE_NAME = "ILSVRC2012_val_{:08d}.JPEG"
"""Name of the validation image of a line of the ground truth, counted from 1."""
FIELDS = ("ILSVRC2012_ID", "WNID", "num_children")


def map_ground_truth(lines: list[str], path: Path, wnids: list[str], checker: DatasetChecker) -> dict[str, int]:
    """Return image name -> class index, in the order of the wnids.

    Args:
        lines: of the ground truth, each with an id.
        path: the ground truth; `meta.mat` is beside it.
        wnids: in the order of class indices.

    Raises:
        DataProblems: no meta.mat, or an id or wnid that is not a class.
    """
    meta_path = path.parent / META
    if not meta_path.is_file():
        checker.refuse(
            f"has no label in line 1 of {path}; lines are 'image label'. The devkit's list of ids from 1 is in another "
            f"class order: it is read with {META} beside it, which {meta_path.parent} lacks"
        )
    wnid_of_id = read_meta(meta_path)
    index_of_wnid = {wnid: i for i, wnid in enumerate(wnids)}
    labels = {}
    for number, line in enumerate(lines, start=1):
        class_id = parse_integer(line.strip())
        wnid = None if class_id is None else wnid_of_id.get(class_id)
        if wnid is None:
            checker.refuse(f"has {line.strip()!r:.40} in line {number} of {path}, which is not a class id of {META}")
        if wnid not in index_of_wnid:
            checker.refuse(f"has the wnid {wnid} in {meta_path}, which is not one of ImageNet-1k's; unpack it again")
        labels[IMAGE_NAME.format(number)] = index_of_wnid[wnid]
    return labels


def read_meta(path: Path) -> dict[int, str]:
    """Return id -> wnid of the classes in meta.mat; synsets above them in WordNet are left out, as torchvision does.

    Raises:
        RequestError: not the devkit's file; names it.
    """
    if impostor := impostor_at(path):
        raise RequestError(f"{path} is {impostor}")
    try:
        synsets = read_struct_array(read_content(path, LARGEST_META), "synsets", FIELDS)
    except MatError as error:
        raise RequestError(
            f"cannot read synsets in {path}: {error}; unpack ILSVRC2012_devkit_t12.tar.gz again"
        ) from error
    wnid_of_id = {}
    for synset in synsets:
        class_id, wnid, children = (synset[field] for field in FIELDS)
        if not isinstance(class_id, str) and not isinstance(children, str) and children == 0:
            wnid_of_id[int(class_id) if math.isfinite(class_id) else 0] = str(wnid)
    return wnid_of_id
