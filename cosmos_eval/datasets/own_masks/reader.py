"""The reader `masks`: a user's own images with a mask each, in image files or in COCO's JSON."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.image_files import open_image
from cosmos_core.printable import plural
from cosmos_core.text_files import read_lines
from cosmos_eval.datasets.colours import Colour, default_palette, format_colour, parse_colour
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import Data, SegmentationData
from cosmos_eval.datasets.dataset_checks import DatasetChecker, is_outside_folder
from cosmos_eval.datasets.image_folder import find_images
from cosmos_eval.datasets.mmseg.header_checks import check_headers
from cosmos_eval.datasets.mmseg.images_and_masks import MmsegImage
from cosmos_eval.datasets.own_masks.coco import CocoMask, read_coco_json
from cosmos_eval.datasets.own_masks.label_files import FileMask, LabelRules
from cosmos_eval.datasets.prompts import resolve_names
from cosmos_eval.datasets.reader import APPLY
from cosmos_eval.metrics.iou import IGNORED

IGNORED_WORD = "ignored"
"""In `colours`, in place of a class: pixels of this colour are not evaluated."""
PROBED = 16
"""Masks that are decoded to find black and white ones."""
FILE_ONLY = ("mask_suffix", "ignore_index", "reduce_zero_label", "colours")
"""Options without a meaning for masks in COCO's JSON."""
COLOUR_ADVICE = (
    "give dataset.colours, a map from colour to class, or dataset.palette, the colour of each class; if it was a "
    "palette PNG that was saved again as RGB, use the original file"
)


def read_masks(benchmark: Any, data_root: Path) -> Data:
    """Read every image below `images`, with its mask; images are in the order of their paths.

    `masks` is a folder, in which a mask has the path and name of its image, up to the ending; or a JSON file in COCO's
    format, whose images are read (`coco.py` says which region is on top). Masks are decoded when they are needed; here
    only their headers are read. Images are decoded as mmsegmentation does it: by OpenCV, with EXIF applied.

    A mask in a file has one of these, by its own format:
        class indices, grey, 1 to 16 bits: `ignore_index` (default 255) and `reduce_zero_label` (0 is ignored, 1 is
            class 0) as in mmsegmentation
        a palette (mode P): its indices, the same way
        colours (RGB), or any of the others if `colours` is given: `colours` is a map from colour to the name of a class
            or `ignored`; without it, the class is the position in `palette`

    Class names are `class_names`; without it the keys of `prompts.words`, or else its first words; for COCO's JSON
    without `class_names`, `background` and then the categories in the order of their ids.

    Options: `images` (folder), `masks` (folder or JSON), `class_names`, `list` (file of the images to read, one a
    line, with or without ending), `mask_suffix` (what follows the image's name without its ending, such as
    `_mask.png`), `ignore_index`, `reduce_zero_label`, `palette` (colours of overlays), `colours`, `background` (COCO:
    class of pixels in no region; without it they are ignored), `exif: apply` (turn masks by their own EXIF orientation,
    too).

    Raises:
        DataProblems: folders, masks or listed images are missing; sizes, formats or orientations that do not fit;
            options that do not fit the masks; categories that are not classes. Everything that was found, at once.
    """
    checker = DatasetChecker(benchmark, data_root)
    image_folder, masks_path = checker.require(checker.find_path("images", "folder"), _find_masks(checker))
    is_json = masks_path.is_file()
    _refuse_options(checker, is_json)
    keys = _list_images(checker, image_folder, masks_path)
    masks: Sequence[CocoMask | FileMask]
    if is_json:
        coco = read_coco_json(masks_path, checker)
        background = checker.options.get("background")
        class_names = _read_class_names(benchmark, checker, [] if background is None else [background], coco.categories)
        _select_images(checker, coco, keys, image_folder)
        masks = coco.make_masks(class_names, background, checker)
        checker.check_images(image_folder, [mask.key for mask in masks])
        colours: tuple[tuple[Colour, int], ...] = ()
    else:
        class_names = _read_class_names(benchmark, checker, [], {})
        colours = _read_colours(checker, class_names)
        masks = _list_masks(checker, keys, image_folder, masks_path, _make_rules(checker, class_names, colours))
    images = [MmsegImage(mask.key, image_folder / mask.key) for mask in masks]
    problems = check_headers(images, masks)
    for message in problems.messages(masks_path, COLOUR_ADVICE, "save class indices as an 8-bit or 16-bit PNG"):
        checker.add_problem(message)
    if not is_json and not checker.problems:
        _refuse_black_and_white(checker, masks)
    palette = _read_palette(checker, class_names, colours)
    return checker.finish(SegmentationData(images, masks, class_names, palette))


def _find_masks(checker: DatasetChecker) -> Path | None:
    """Return the folder of masks, or the JSON; add a problem if there is neither."""
    option = checker.options["masks"]
    first = option if isinstance(option, str) else option[0]
    return checker.find_path("masks", "file" if first.lower().endswith(".json") else "folder")


def _refuse_options(checker: DatasetChecker, is_json: bool) -> None:
    """Refuse options that would have no effect."""
    if is_json:
        useless = [option for option in FILE_ONLY if option in checker.options]
        reason = "with masks in a JSON"
    else:
        useless = [option for option in ("background",) if option in checker.options]
        reason = "with a folder of masks, where every pixel has a value"
    if useless:
        checker.refuse(f"has dataset.{useless[0]}, which means nothing {reason}; leave it out")


def _list_images(checker: DatasetChecker, image_folder: Path, masks_path: Path) -> list[str]:
    """Return the paths of all images below their folder, or of those in `list`, in the order of paths."""
    keys = find_images(image_folder)[0]
    suffix = checker.options.get("mask_suffix")
    if masks_path.is_dir() and masks_path.samefile(image_folder):
        if suffix is None:
            checker.refuse(
                f"has images and masks in one folder, {image_folder}; move the masks, or give "
                "dataset.mask_suffix, such as _mask.png"
            )
        keys = [key for key in keys if not key.endswith(suffix)]
    if "list" in checker.options:
        (list_path,) = checker.require(checker.find_path("list", "file"))
        keys = _select_listed(checker, sorted(keys), image_folder, list_path)
    if not keys:
        checker.refuse(f"has no images in {image_folder}{checker.take_hint()}")
    return sorted(keys)


def _select_listed(checker: DatasetChecker, keys: list[str], image_folder: Path, list_path: Path) -> list[str]:
    """Return the images that a list names, with or without their ending."""
    key_of_name = {_stem(key): key for key in keys} | {key: key for key in keys}
    names = [line.strip() for line in read_lines(list_path) if line.strip()]
    outside = next((name for name in names if is_outside_folder(name)), None)
    if outside is not None:
        checker.refuse(f"names an image outside its folder in {list_path}: {outside!r}")
    missing = [name for name in names if name not in key_of_name]
    if missing:
        checker.refuse(
            f"needs {plural(len(names), 'image')} of {list_path} in {image_folder}; missing: {format_names(missing)}"
            f"{checker.take_hint()}"
        )
    repeated = [key for key, times in Counter(key_of_name[name] for name in names).items() if times > 1]
    if repeated:
        checker.refuse(f"names {plural(len(repeated), 'image')} twice in {list_path}: {format_names(repeated)}")
    return [key_of_name[name] for name in names]


def _select_images(checker: DatasetChecker, coco: Any, keys: list[str], image_folder: Path) -> None:
    """Keep the images of a JSON that `list` names; without it, remark on images that the JSON does not have."""
    if "list" in checker.options:
        absent = [key for key in keys if key not in coco.sizes]
        if absent:
            checker.refuse(
                f"lists {plural(len(absent), 'image that is', 'images that are')} not in {coco.path}: "
                f"{format_names(absent)}"
            )
        coco.sizes = {key: coco.sizes[key] for key in keys}
        return
    unlisted = [key for key in keys if key not in coco.sizes]
    if unlisted:
        verb = "is" if len(unlisted) == 1 else "are"
        checker.add_remark(
            f"{len(unlisted):,} of {plural(len(keys), 'image')} in {image_folder.name} {verb} not in {coco.path.name} "
            f"and not read: {format_names(unlisted)}"
        )


def _list_masks(
    checker: DatasetChecker, keys: list[str], image_folder: Path, mask_folder: Path, rules: LabelRules
) -> list[FileMask]:
    """Return the mask of each image.

    Raises:
        DataProblems: images with the same name up to the ending, images without a mask or with several.
    """
    repeated = [stem for stem, times in Counter(map(_stem, keys)).items() if times > 1]
    if repeated:
        checker.refuse(
            f"has {plural(len(repeated), 'name')} that several images of {image_folder} share, up to their ending: "
            f"{format_names(repeated)}; a mask is found by this name: rename them"
        )
    suffix = checker.options.get("mask_suffix")
    masks_of_stem: dict[str, list[str]] = {}
    for name in find_images(mask_folder)[0]:
        if suffix is None or name.endswith(suffix):
            stem = _stem(name) if suffix is None else name.removesuffix(suffix)
            masks_of_stem.setdefault(stem, []).append(name)
    several = [stem for stem in map(_stem, keys) if len(masks_of_stem.get(stem, ())) > 1]
    if several:
        checker.refuse(
            f"has {plural(len(several), 'image')} with several masks in {mask_folder}: {format_names(several)}; keep "
            "one of each, or give dataset.mask_suffix"
        )
    missing = [key for key in keys if _stem(key) not in masks_of_stem]
    if missing:
        expected = f"{_stem(missing[0])}{suffix or '.png'}"
        noun = "image" if len(missing) == 1 else "images"
        checker.refuse(
            f"has {len(missing):,} {noun} without a mask in {mask_folder}: {format_names(missing)}; the first needs "
            f"{expected}{checker.take_hint()}"
        )
    orphans = sorted(masks_of_stem.keys() - set(map(_stem, keys)))
    if orphans and "list" not in checker.options:
        unread = plural(
            len(orphans), "mask belongs to no image and is not read", "masks belong to no image and are not read"
        )
        checker.add_remark(f"{unread}: {format_names(orphans)}")
    turned = checker.options.get("exif") == APPLY
    return [FileMask(key, mask_folder / masks_of_stem[_stem(key)][0], rules, turned) for key in keys]


def _stem(name: str) -> str:
    """Return a path without the ending of its last part."""
    return PurePosixPath(name).with_suffix("").as_posix()


def _read_class_names(
    benchmark: Any, checker: DatasetChecker, first: Sequence[str], categories: dict[int | str, str]
) -> list[str]:
    """Return the names of the classes, by index; `read_masks` says where they come from.

    Args:
        first: names before those of the categories, unless it is one of them.
        categories: of a JSON; empty for masks in files.
    """

    def error(message: str) -> RequestError:
        return RequestError(f"{checker.name}: dataset.class_names: {message}")

    prompts = benchmark.resolve_prompts()
    if "class_names" in checker.options:
        names = list(resolve_names(checker.options["class_names"], benchmark.folder, error))
    elif prompts.query_classes:
        names = list(prompts.query_classes)
    elif categories:
        names = [*(name for name in first if name not in categories.values()), *categories.values()]
    else:
        names = [words[0] for words in prompts.query_words]
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        checker.refuse(f"has two classes called {format_names(repeated)}; give each class a name of its own")
    if not names:
        checker.refuse("has no class names; give dataset.class_names as a list or a file")
    if len(names) > IGNORED:
        checker.refuse(f"has {plural(len(names), 'class', 'classes')}; at most {IGNORED} are possible")
    return names


def _make_rules(checker: DatasetChecker, class_names: list[str], colours: tuple[tuple[Colour, int], ...]) -> LabelRules:
    ignore_index = checker.options.get("ignore_index", IGNORED)
    reduce_zero_label = checker.options.get("reduce_zero_label", False)
    if "colours" in checker.options:
        useless = [option for option in ("ignore_index", "reduce_zero_label") if option in checker.options]
        if useless:
            checker.refuse(
                f"has dataset.{useless[0]}, which means nothing with dataset.colours; write `ignored` there, in "
                "place of a class"
            )
    by_palette: tuple[tuple[Colour, int], ...] = ()
    if not colours and "palette" in checker.options:
        palette = _read_palette(checker, class_names, ())
        if len(set(palette)) == len(palette):  # of two classes with one colour, RGB masks cannot tell which is meant
            by_palette = tuple((colour, i) for i, colour in enumerate(palette))
    return LabelRules(len(class_names), ignore_index, reduce_zero_label, colours, by_palette)


def _read_colours(checker: DatasetChecker, class_names: list[str]) -> tuple[tuple[Colour, int], ...]:
    """Return the class of each colour in `colours`; empty without it.

    Raises:
        DataProblems: a colour twice, a class that is none.
    """
    option = checker.options.get("colours")
    if option is None:
        return ()
    index_of_name = {IGNORED_WORD: IGNORED} | {name: i for i, name in enumerate(class_names)}
    label_of_colour: dict[Colour, int] = {}
    for written, name in option.items():
        colour = parse_colour(written)
        if colour in label_of_colour:
            checker.refuse(f"has the colour {format_colour(colour)} twice in dataset.colours")
        if name not in index_of_name:
            checker.refuse(
                f"has {name!r} in dataset.colours, which is neither a class nor {IGNORED_WORD}; classes: "
                f"{format_names(class_names)}"
            )
        label_of_colour[colour] = index_of_name[name]
    without_colour = [name for i, name in enumerate(class_names) if i not in label_of_colour.values()]
    if without_colour:
        checker.add_remark(f"no colour stands for the classes {format_names(without_colour)}: they occur in no mask")
    return tuple(label_of_colour.items())


def _read_palette(
    checker: DatasetChecker, class_names: list[str], colours: tuple[tuple[Colour, int], ...]
) -> list[Colour]:
    """Return the colour of each class in overlays: `palette`, or the first one in `colours`, or VOC's colour map."""
    if "palette" in checker.options:
        palette = [parse_colour(written) for written in checker.options["palette"]]
        if len(palette) != len(class_names):
            checker.refuse(
                f"has {plural(len(palette), 'colour')} in dataset.palette for "
                f"{plural(len(class_names), 'class', 'classes')}"
            )
        return palette
    palette = default_palette(len(class_names))
    for colour, label in reversed(colours):  # the first one stays
        if label != IGNORED:
            palette[label] = colour
    return palette


def _refuse_black_and_white(checker: DatasetChecker, masks: Sequence[Any]) -> None:
    """Refuse masks with the values 0 and 255 only, unless the definition says what 255 is.

    Many tools save two classes that way. Read as indices, all of the second class would be ignored.
    """
    if {"ignore_index", "colours"} & checker.options.keys() or checker.options.get("reduce_zero_label"):
        return
    chosen = [masks[i] for i in np.unique(np.linspace(0, len(masks) - 1, PROBED).astype(int))] if masks else []
    values: set[int] = set()
    for mask in chosen:
        try:
            with open_image(mask.path) as opened:
                if opened.mode != "L":
                    return
                values.update(np.unique(np.asarray(opened)).tolist())
        except Exception:  # a damaged mask is reported when it is loaded
            return
    if values == {0, IGNORED}:
        checker.refuse(
            f"has masks of only 0 and {IGNORED}, and {IGNORED} is ignored; for two classes write dataset.colours, such "
            f'as {{"0 0 0": background, "255 255 255": object}}; if {IGNORED} is right, write ignore_index: {IGNORED}'
        )
