"""Masks and list of PASCAL Context val from the authors' label maps (Mottaghi et al., CVPR 2014).

`trainval.tar.gz` of the dataset's page has one MATLAB file an image with a map of 459 categories in alphabetical
order. The 59 frequent ones become classes 1 to 59, still in alphabetical order, which is the order that mmsegmentation
and SCLIP have; everything else is background 0. Images are those of VOC2010's own list val, which all have a map:
5,105.

mmsegmentation's guide goes another way: `trainval_merged.json` through the Detail API, whose merged annotations know
5,104 of these images. Both lists are taken by `data check`; their dataset fingerprints differ.
"""

from pathlib import Path

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_core.text_files import impostor_at, read_lines
from cosmos_eval.datasets.dataset_checks import escapes
from cosmos_eval.datasets.mmseg.making import Made, make_masks
from cosmos_eval.progress import Reporter

ROOTS = ("VOCdevkit/VOC2010", "VOC2010", "voc/VOC2010")
MAPS = ("{root}/trainval", "{root}/Context/trainval", "pascal-context/trainval", "trainval")
MADE_LIST, OWN_LIST = "ImageSets/SegmentationContext/val.txt", "ImageSets/Main/val.txt"
CATEGORIES = 459
FREQUENT = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
"""The 59 categories that are evaluated, as numbered in the authors' labels.txt: 2 aeroplane, 9 bag, ..., 458 wood."""


def prepare_context(data_root: Path, out: Path, reporter: Reporter) -> Made:
    """`SegmentationClassContext/*.png` and the list `ImageSets/SegmentationContext/val.txt` in VOC2010's folder.

    Raises:
        RequestError: label maps or VOC2010's lists are missing; says which, and where they belong.
    """
    relative = next((one for one in ROOTS if (data_root / one).is_dir()), ROOTS[0])
    root = data_root / relative
    listed = next((root / one for one in (MADE_LIST, OWN_LIST) if (root / one).is_file()), None)
    places = [data_root / one.format(root=relative) for one in MAPS]
    maps = next((place for place in places if next(place.glob("*.mat"), None) is not None), None)
    missing = []
    if maps is None:
        missing.append(f"the authors' label maps, trainval.tar.gz with one .mat an image, in {places[0]}")
    if listed is None:
        missing.append(f"the list {root / OWN_LIST} of VOCtrainval_03-May-2010.tar")
    if missing:
        raise RequestError(f"context needs {' and '.join(missing)}; unpack there")
    assert maps is not None
    assert listed is not None
    names = [line.strip() for line in read_lines(listed)]
    outside = next((name for name in names if not name or escapes(name)), None)
    if outside is not None:
        raise RequestError(f"{listed} has {outside!r}, which is no image's name; unpack it again")
    named = [name for name in names if (maps / f"{name}.mat").is_file()]
    if not named or len(named) < len(names):  # half of an archive: a short list would stand for good
        raise RequestError(f"{maps} has {len(named):,} label maps of the {len(names):,} in {listed}; unpack it again")
    folder = out / relative / "SegmentationClassContext"
    made = make_masks(
        [(maps / f"{name}.mat", folder / f"{name}.png") for name in named],
        classes_in,
        folder,
        f"label maps in {maps}",
        reporter,
    )
    if not (out / relative / MADE_LIST).is_file():
        (out / relative / MADE_LIST).parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(out / relative / MADE_LIST, "".join(f"{name}\n" for name in named))
    return made


def classes_in(path: Path) -> np.ndarray:
    """(H, W) uint8, background 0 and classes 1 to 59, of one MATLAB file's `LabelMap`.

    Raises:
        RequestError: not such a file; names it.
    """
    from scipy.io import loadmat

    if impostor := impostor_at(path):
        raise RequestError(f"{path} is {impostor}")
    try:
        labels = np.asarray(loadmat(path, variable_names=["LabelMap"])["LabelMap"])
    except Exception as error:  # what a broken file makes the reader stumble over
        said = " ".join(str(error).split())
        raise RequestError(f"cannot read LabelMap in {path}: {said}; unpack it again") from error
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.min() < 0 or labels.max() > CATEGORIES:
        raise RequestError(f"LabelMap in {path} is no map of the categories 1 to {CATEGORIES}; unpack it again")
    table = np.zeros(CATEGORIES + 1, dtype=np.uint8)
    table[list(FREQUENT)] = np.arange(1, len(FREQUENT) + 1)
    return table[labels]
