"""The reader `mmseg`: images and masks as mmsegmentation's own dataset classes list them."""

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
from cosmos_eval.datasets.mmseg.items import MmsegImage, MmsegMask
from cosmos_eval.datasets.mmseg.layouts import LAYOUTS, Layout
from cosmos_eval.datasets.substitution import substituted


def read_mmseg(benchmark: Any, data_root: Path) -> Data:
    """The validation images of a dataset with their masks, class names and colours.

    Options: `layout` (see layouts.py), `path` (the dataset's folder), `images` (the folder of images, where it is not
    in the dataset's folder: COCO's val2017 serves several benchmarks), `exif: apply` (a mask is turned by its own EXIF
    orientation; images are in any case, as mmsegmentation does).

    Order is that of the split's list, or of the sorted paths where there is none. An image's key is its path below the
    folder of images. Masks are not decoded here; their headers are read.

    Raises:
        DataProblems: folders or lists missing, images without masks, masks in colour or of another size than their
            image, files without an image in them, counts not as expected; all of it at once.
    """
    survey = Survey(benchmark, data_root)
    name = survey.options["layout"]
    if name not in LAYOUTS:
        raise RequestError(f"{survey.name}: there is no layout {name!r}{near(name, LAYOUTS)}")
    layout = LAYOUTS[name]
    (root,) = survey.there(survey.place("path", "folder", holding=layout.masks))
    folder = _image_folder(survey, layout, root)
    split = _check_parts(survey, layout, root, folder)
    images, masks, names, palette = _listed(survey, layout, root, folder, split)
    survey.images(folder, [image.key for image in images])
    headers = look(images, masks)
    for problem in headers.problems(root / layout.masks):
        survey.add(problem)
    if headers.no_mask:
        n = len(headers.no_mask)
        noun = "image" if n == 1 else "images"
        survey.add(
            f"has {n:,} {noun} without a mask in {root / layout.masks}: {first(headers.no_mask)}"
            f"{_made_by(layout) or survey.hint()}"
        )
    if len(images) in layout.also:
        survey.expected["images"] = len(images)
    return survey.finish(SegmentationData(images, masks, names, palette))


def _image_folder(survey: Survey, layout: Layout, root: Path) -> Path:
    """The dataset's own folder of images, else the first of the option `images` that is there."""
    own = root / layout.images
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
                survey.refuse(f"names an image outside its folder in {path}: {outside!r}")
            blank = [str(i) for i, line in enumerate(lines, start=1) if not line.strip()]
            if blank:
                survey.add(f"has empty lines in {path}: line {first(blank)}; it needs one name a line")
    survey.stop_if_any()
    return lines


def _listed(
    survey: Survey, layout: Layout, root: Path, folder: Path, split: list[str]
) -> tuple[list[MmsegImage], list[MmsegMask], tuple[str, ...], list[tuple[int, int, int]]]:
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
        what = "names" if layout.split else f"images (*{dataset.img_suffix})"
        survey.refuse(f"finds no {what} in {root / layout.split if layout.split else folder}{survey.hint()}")
    images, masks = [], []
    for row in rows:
        key = _below(folder, row["img_path"])
        images.append(MmsegImage(key, Path(row["img_path"])))
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
    return images, masks, tuple(one.strip() for one in meta["classes"]), palette


def _below(folder: Path, path: str) -> str:
    """The path below `folder`, with `/`."""
    return path.removeprefix(str(folder)).lstrip("/\\").replace("\\", "/")


def _made_by(layout: Layout) -> str:
    return f"; make it with `cosmos-eval data prepare {layout.made_by}`" if layout.made_by else ""
