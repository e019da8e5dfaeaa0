"""The reader `mmseg`: pictures and masks as mmsegmentation's own dataset classes list them."""

from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.suggestions import near
from cosmos_core.text_files import read_lines
from cosmos_eval.datasets.catalog import APPLY
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.data import Data, SegmentationData
from cosmos_eval.datasets.dataset_checks import Survey, escapes
from cosmos_eval.datasets.mmseg.headers import look
from cosmos_eval.datasets.mmseg.items import MmsegMask, MmsegPicture
from cosmos_eval.datasets.mmseg.layouts import LAYOUTS, Layout
from cosmos_eval.datasets.substitution import substituted


def read_mmseg(benchmark: Any, data_root: Path) -> Data:
    """The validation pictures of a dataset with their masks, class names and colours.

    Options: `layout` (see layouts.py), `path` (the dataset's folder), `images` (the folder of pictures, where it is not
    in the dataset's folder: COCO's val2017 serves several benchmarks), `exif: apply` (a mask is turned by its own EXIF
    orientation; images are in any case, as mmsegmentation does).

    Order is that of the split's list, or of the sorted paths where there is none. A picture's key is its path below the
    folder of pictures. Masks are not decoded here; their headers are read.

    Raises:
        DataProblems: folders or lists missing, pictures without masks, masks in colour or of another size than their
            picture, files without a picture in them, counts not as expected; all of it at once.
    """
    survey = Survey(benchmark, data_root)
    name = survey.options["layout"]
    if name not in LAYOUTS:
        raise RequestError(f"{survey.name}: there is no layout {name!r}{near(name, LAYOUTS)}")
    layout = LAYOUTS[name]
    (root,) = survey.there(survey.place("path", "folder", holding=layout.masks))
    folder = _picture_folder(survey, layout, root)
    split = _check_parts(survey, layout, root, folder)
    pictures, masks, names, palette = _listed(survey, layout, root, folder, split)
    survey.pictures(folder, [picture.key for picture in pictures])
    headers = look(pictures, masks)
    for problem in headers.problems(root / layout.masks):
        survey.add(problem)
    if headers.no_mask:
        n = len(headers.no_mask)
        noun = "picture" if n == 1 else "pictures"
        survey.add(
            f"has {n:,} {noun} without a mask in {root / layout.masks}: {first(headers.no_mask)}"
            f"{_made_by(layout) or survey.hint()}"
        )
    if len(pictures) in layout.also:
        survey.expected["images"] = len(pictures)
    return survey.finish(SegmentationData(pictures, masks, names, palette))


def _picture_folder(survey: Survey, layout: Layout, root: Path) -> Path:
    """The dataset's own folder of pictures, else the first of the option `images` that is there."""
    own = root / layout.pictures
    if own.is_dir() or "images" not in survey.options:
        return own
    given = survey.options["images"]
    places = [survey.inside(one) for one in ([given] if isinstance(given, str) else given)]
    return next((place for place in places if place.is_dir()), own)


def _check_parts(survey: Survey, layout: Layout, root: Path, folder: Path) -> list[str]:
    """The lines of the split's list, if there is one; stops with every folder and list that is not there."""
    lines: list[str] = []
    if not folder.is_dir():
        survey.missing(f"the folder {folder}", folder)
    if not (root / layout.masks).is_dir():
        survey.add(f"needs the folder {root / layout.masks}, which is not there{_made_by(layout) or survey.hint()}")
    if layout.split is not None:
        path = root / layout.split
        if not path.is_file():
            survey.missing(f"the file {path}", path)
        else:
            lines = read_lines(path)
            while lines and not lines[-1].strip():
                del lines[-1]
            outside = next((line for line in lines if escapes(line.strip())), None)
            if outside is not None:
                survey.refuse(f"names a picture outside its folder in {path}: {outside!r}")
            blank = [str(i) for i, line in enumerate(lines, start=1) if not line.strip()]
            if blank:
                survey.add(f"has empty lines in {path}: line {first(blank)}; it needs one name a line")
    survey.stop_if_any()
    return lines


def _listed(
    survey: Survey, layout: Layout, root: Path, folder: Path, split: list[str]
) -> tuple[list[MmsegPicture], list[MmsegMask], tuple[str, ...], list[tuple[int, int, int]]]:
    """What the dataset's class in mmsegmentation lists, its class names (without the odd space) and its colours."""
    from cosmos_eval.datasets.mmseg.classes import dataset_class

    dataset = dataset_class(layout.dataset)(
        data_prefix={"img_path": str(folder), "seg_map_path": str(root / layout.masks)},
        ann_file="" if layout.split is None else str(root / layout.split),
        test_mode=True,
        lazy_init=True,  # listed below by the same method; initialising would pickle the list for nothing
    )
    meta = dataset.metainfo
    mmengine = import_module("mmengine")  # after mmsegmentation's import above, which undoes what mmengine sets
    # of a list the lines that were looked at: mmengine would take a byte order mark for a part of the first name
    with substituted(mmengine, "list_from_file", lambda *_, **__: split) if split else nullcontext():
        rows = dataset.load_data_list()
    if not rows:
        what = "names" if layout.split else f"pictures (*{dataset.img_suffix})"
        survey.refuse(f"finds no {what} in {root / layout.split if layout.split else folder}{survey.hint()}")
    pictures, masks = [], []
    for row in rows:
        key = _below(folder, row["img_path"])
        pictures.append(MmsegPicture(key, Path(row["img_path"])))
        mapping = row["label_map"]
        masks.append(
            MmsegMask(
                key,
                Path(row["seg_map_path"]),
                classes=len(meta["classes"]),
                reduce_zero_label=row["reduce_zero_label"],
                label_map=None if mapping is None else tuple(mapping.items()),
                turned=survey.options.get("exif") == APPLY,
            )
        )
    palette = [(int(red), int(green), int(blue)) for red, green, blue in meta["palette"]]
    return pictures, masks, tuple(one.strip() for one in meta["classes"]), palette


def _below(folder: Path, path: str) -> str:
    """The path below `folder`, with `/`."""
    return path.removeprefix(str(folder)).lstrip("/\\").replace("\\", "/")


def _made_by(layout: Layout) -> str:
    return f"; make it with `cosmos-eval data prepare {layout.made_by}`" if layout.made_by else ""
