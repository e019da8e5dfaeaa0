"""The reader `mmseg`: images and masks as listed by mmsegmentation's dataset classes."""

from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.suggestions import near
from cosmos_core.text_files import read_lines
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import Data, SegmentationData
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.mmseg.header_checks import check_headers
from cosmos_eval.datasets.mmseg.images_and_masks import MmsegImage, MmsegMask
from cosmos_eval.datasets.mmseg.layouts import LAYOUTS, Layout
from cosmos_eval.datasets.reader import APPLY
from cosmos_eval.datasets.substitution import substituted


def read_mmseg(benchmark: Any, data_root: Path) -> Data:
    """Read the validation images of a dataset with their masks, class names and colours.

    Options: `layout` (see layouts.py), `path` (the dataset's folder), `images` (the folder of images if the dataset's
    folder does not have them: several benchmarks share COCO's val2017), `exif: apply` (turn each mask by its own EXIF
    orientation; mmsegmentation always turns images).

    Images are in the order of the split's list, or sorted by path if there is none. The key of an image is its path
    below the folder of images. Masks are not decoded here, only their headers are read.

    Raises:
        DataProblems: folders, lists, images or masks are missing or do not fit (see `HeaderProblems`), or counts differ
            from the expected ones; everything at once.
        RequestError: an unknown layout.
    """
    checker = DatasetChecker(benchmark, data_root)
    name = checker.options["layout"]
    if name not in LAYOUTS:
        raise RequestError(f"{checker.name}: unknown layout {name!r}{near(name, LAYOUTS)}")
    layout = LAYOUTS[name]
    (root,) = checker.require(checker.find_path("path", "folder", containing=layout.masks))
    image_folder, mask_folder = _find_image_folder(checker, layout, root), root / layout.masks
    file_names = _check_files(checker, layout, root, image_folder)
    images, masks, meta = _list_files(checker, layout, root, image_folder, file_names)
    checker.check_images(image_folder, [image.key for image in images])
    problems = check_headers(images, masks)
    for message in problems.messages(mask_folder):
        checker.add_problem(message)
    if problems.no_mask:
        count = len(problems.no_mask)
        noun = "image" if count == 1 else "images"
        checker.add_problem(
            f"has {count:,} {noun} without a mask in {mask_folder}: "
            f"{format_names(problems.no_mask)}{_advice(layout, checker)}"
        )
    if len(images) in layout.other_counts:
        checker.expected["images"] = len(images)
    class_names = tuple(name.strip() for name in meta["classes"])  # ADE20KDataset has "bed "
    palette = [(int(red), int(green), int(blue)) for red, green, blue in meta["palette"]]
    return checker.finish(SegmentationData(images, masks, class_names, palette))


def _find_image_folder(checker: DatasetChecker, layout: Layout, root: Path) -> Path:
    """Return the folder of images in the dataset's folder, else the first existing one of the option `images`.

    If none exists, the first is returned, so that messages name it.
    """
    in_dataset = root / layout.images
    if in_dataset.is_dir() or "images" not in checker.options:
        return in_dataset
    option = checker.options["images"]
    candidates = [checker.resolve_path(path) for path in ([option] if isinstance(option, str) else option)]
    return next((folder for folder in candidates if folder.is_dir()), in_dataset)


def _check_files(checker: DatasetChecker, layout: Layout, root: Path, image_folder: Path) -> list[str]:
    """Check folders and list; return the names of the list, empty if the layout has none.

    Raises:
        DataProblems: folders or the list are missing, or the list has empty lines or paths outside the image folder.
    """
    names: list[str] = []
    if not image_folder.is_dir():
        checker.add_missing(f"the folder {image_folder}", image_folder)
    if not (root / layout.masks).is_dir():
        checker.add_problem(f"needs the folder {root / layout.masks}, which is not there{_advice(layout, checker)}")
    if layout.split is not None:
        path = root / layout.split
        if not path.is_file():
            checker.add_missing(f"the file {path}", path)
        else:
            names = _read_list(checker, path)
    checker.raise_if_problems()
    return names


def _read_list(checker: DatasetChecker, path: Path) -> list[str]:
    """Return the lines of the split's list, without empty lines at the end; other empty lines are a problem."""
    lines = read_lines(path)
    while lines and not lines[-1].strip():
        del lines[-1]
    outside = next((line for line in lines if is_outside_folder(line.strip())), None)
    if outside is not None:
        checker.refuse(f"names an image outside its folder in {path}: {outside!r}")
    empty = [str(i) for i, line in enumerate(lines, start=1) if not line.strip()]
    if empty:
        checker.add_problem(f"has empty lines in {path}: line {format_names(empty)}; it needs one name per line")
    return lines


def _list_files(
    checker: DatasetChecker, layout: Layout, root: Path, image_folder: Path, file_names: list[str]
) -> tuple[list[MmsegImage], list[MmsegMask], dict[str, Any]]:
    """Return the images and masks that mmsegmentation's dataset class lists, and its meta information.

    Raises:
        DataProblems: it lists no image.
    """
    from cosmos_eval.datasets.mmseg.dataset_classes import find_dataset_class

    dataset = find_dataset_class(layout.dataset)(
        data_prefix={"img_path": str(image_folder), "seg_map_path": str(root / layout.masks)},
        ann_file="" if layout.split is None else str(root / layout.split),
        test_mode=True,
        lazy_init=True,  # `load_data_list` is called below; a full initialisation would also pickle its list
    )
    # mmengine is imported after mmsegmentation: `import_mmseg` above restores the environment variables that it sets
    mmengine = import_module("mmengine")
    # `load_data_list` gets the lines that were checked above; mmengine's own function would read a byte order mark as a
    # part of the first name
    with substituted(mmengine, "list_from_file", lambda *_, **__: file_names) if file_names else nullcontext():
        entries = dataset.load_data_list()
    if not entries:
        content = "names" if layout.split else f"images (*{dataset.img_suffix})"
        checker.refuse(
            f"finds no {content} in {root / layout.split if layout.split else image_folder}{checker.take_hint()}"
        )
    meta = dataset.metainfo
    images, masks = [], []
    for entry in entries:
        key = _relative_key(image_folder, entry["img_path"])
        images.append(MmsegImage(key, Path(entry["img_path"])))
        label_map = entry["label_map"]
        masks.append(
            MmsegMask(
                key,
                Path(entry["seg_map_path"]),
                classes=len(meta["classes"]),
                reduce_zero_label=entry["reduce_zero_label"],
                label_map=None if label_map is None else tuple(label_map.items()),
                turned=checker.options.get("exif") == APPLY,
            )
        )
    return images, masks, meta


def _relative_key(folder: Path, path: str) -> str:
    """Return the path below `folder`, with `/` as separator."""
    return path.removeprefix(str(folder)).lstrip("/\\").replace("\\", "/")


def _advice(layout: Layout, checker: DatasetChecker) -> str:
    """Return how to get the masks: the command that makes them, else the definition's hint."""
    if layout.prepare_name:
        return f"; make it with `cosmos-eval data prepare {layout.prepare_name}`"
    return checker.take_hint()
