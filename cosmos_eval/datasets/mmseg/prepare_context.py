"""Make masks and list of PASCAL Context val from the authors' label maps (Mottaghi et al., CVPR 2014).

`trainval.tar.gz` from the dataset's page has one MATLAB file per image, a map of 459 categories in alphabetical order.
The 59 frequent categories become classes 1 to 59, still in alphabetical order, as in mmsegmentation and SCLIP;
everything else is background 0. The images are those of VOC2010's list val: 5,105, which all have a map.

mmsegmentation's guide takes another source: `trainval_merged.json` and the Detail API, whose merged annotations have
5,104 of these images. `data check` accepts both lists; their dataset fingerprints differ.
"""

from pathlib import Path

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_core.printable import plural
from cosmos_core.text_files import impostor_at, read_lines
from cosmos_eval.datasets.dataset_checks import is_outside_folder
from cosmos_eval.datasets.mat_structs import MatError, read_number_matrix
from cosmos_eval.datasets.mmseg.mask_files import PreparedMasks, write_masks
from cosmos_eval.progress import Reporter

VOC_FOLDERS = ("VOCdevkit/VOC2010", "VOC2010", "voc/VOC2010")
MAP_FOLDERS = ("{root}/trainval", "{root}/Context/trainval", "pascal-context/trainval", "trainval")
"""Where the label maps may be; `{root}` is the folder of VOC2010."""
CONTEXT_LIST, VOC_LIST = "ImageSets/SegmentationContext/val.txt", "ImageSets/Main/val.txt"
CATEGORIES = 459
LARGEST_FILE = 10**8
"""Bytes of a label map: those of the authors have below a megabyte."""
FREQUENT = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
"""The 59 categories that are evaluated, as numbered in the authors' labels.txt: 2 aeroplane, 9 bag, ..., 458 wood."""


def prepare_context(data_root: Path, out: Path, reporter: Reporter) -> PreparedMasks:
    """Write `SegmentationClassContext/*.png` and the list `ImageSets/SegmentationContext/val.txt` in VOC2010's folder.

    Raises:
        RequestError: label maps or VOC2010's lists are missing or incomplete; says which, and where they belong.
    """
    voc_folder = next((folder for folder in VOC_FOLDERS if (data_root / folder).is_dir()), VOC_FOLDERS[0])
    maps, list_path = _find_sources(data_root, voc_folder)
    names = [line.strip() for line in read_lines(list_path)]
    bad_name = next((name for name in names if not name or is_outside_folder(name)), None)
    if bad_name is not None:
        raise RequestError(f"{list_path} has {bad_name!r}, which is not the name of an image; unpack it again")
    with_map = [name for name in names if (maps / f"{name}.mat").is_file()]
    if not with_map or len(with_map) < len(names):
        # an archive that is only half unpacked would give a short list, and an existing list is never written again
        raise RequestError(
            f"{maps} has {plural(len(with_map), 'label map')} of the {len(names):,} in {list_path}; unpack it again"
        )
    folder = out / voc_folder / "SegmentationClassContext"
    prepared = write_masks(
        [(maps / f"{name}.mat", folder / f"{name}.png") for name in with_map],
        read_label_map,
        folder,
        f"label maps in {maps}",
        reporter,
    )
    new_list = out / voc_folder / CONTEXT_LIST
    if not new_list.is_file():
        new_list.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(new_list, "".join(f"{name}\n" for name in with_map))
    return prepared


def _find_sources(data_root: Path, voc_folder: str) -> tuple[Path, Path]:
    """Return the folder of the label maps and the list of names.

    Raises:
        RequestError: one of them, or both, are missing.
    """
    lists = [data_root / voc_folder / name for name in (CONTEXT_LIST, VOC_LIST)]
    list_path = next((path for path in lists if path.is_file()), None)
    map_folders = [data_root / folder.format(root=voc_folder) for folder in MAP_FOLDERS]
    maps = next((folder for folder in map_folders if next(folder.glob("*.mat"), None) is not None), None)
    missing = []
    if maps is None:
        missing.append(f"the authors' label maps, trainval.tar.gz with one .mat per image, in {map_folders[0]}")
    if list_path is None:
        missing.append(f"the list {lists[-1]} of VOCtrainval_03-May-2010.tar")
    if maps is None or list_path is None:
        raise RequestError(f"context needs {' and '.join(missing)}; unpack them there")
    return maps, list_path


def read_label_map(path: Path) -> np.ndarray:
    """Read the `LabelMap` of one MATLAB file as (H, W) uint8: background 0 and classes 1 to 59.

    Raises:
        RequestError: not such a file; names it.
    """
    if impostor := impostor_at(path):
        raise RequestError(f"{path} is {impostor}")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise MatError(f"it has more than {LARGEST_FILE:,} bytes")
        labels = read_number_matrix(path.read_bytes(), "LabelMap")
    except (MatError, OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise RequestError(f"cannot read LabelMap in {path}: {reason}; unpack it again") from error
    # numbers as large as these are whole in every type; MATLAB stores them as it likes
    if labels.size == 0 or not np.all((labels >= 0) & (labels <= CATEGORIES) & (labels == np.floor(labels))):
        raise RequestError(f"LabelMap in {path} is not a map of categories up to {CATEGORIES}; unpack it again")
    table = np.zeros(CATEGORIES + 1, dtype=np.uint8)
    table[list(FREQUENT)] = np.arange(1, len(FREQUENT) + 1)
    return table[labels.astype(np.int64)]
