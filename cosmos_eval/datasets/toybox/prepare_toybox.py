"""`cosmos-eval data prepare toybox`: write toybox to disk in the formats of real datasets, completely or not at all."""

import json
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text, current_umask, remove_leftovers, temporary_folder
from cosmos_core.json_text import read_json
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.toybox import layout_writers
from cosmos_eval.datasets.toybox.cifar_writer import write_cifar100
from cosmos_eval.datasets.toybox.reader import TEMPLATES, class_scenes, distinct_scenes
from cosmos_eval.datasets.toybox.scenes import VERSION, make_scene
from cosmos_eval.datasets.toybox.words import CLASSES
from cosmos_eval.progress import Reporter, Silent

SETTINGS_FILE = "toybox.json"
"""Settings of a written dataset. This file is written last, so that only a complete dataset has it."""


def prepare(
    out: Path | str,
    *,
    seed: int = 0,
    train: int = 2000,
    val: int = 200,
    test: int = 1000,
    per_class: int = 20,
    size: int = 64,
    jpeg: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Write toybox to the folder `out`, which becomes a data root; a complete one with the same settings is kept.

    | folder | format | content |
    |---|---|---|
    | `coco` | captions and instances JSON of val2017 | the `test` scenes of the in-memory retrieval benchmark |
    | `flickr30k` | Karpathy's JSON | the same scenes as split test, `val` scenes as split val |
    | `imagenet` | one folder for each class | the images of the in-memory classification benchmark |
    | `cifar100` | torchvision's pickles | test: the same scenes at 32 pixels; train: as many of the split train |
    | `voc` | VOC2012, palette masks | the `test` scenes |
    | `shards` | webdataset tars, DreamLIP records | `train` training scenes |
    | `toybox-*.yaml` | definitions | benchmarks that read the first four folders |

    Everything is written to a hidden folder beside `out`, which is renamed to `out` at the end. A run that is stopped
    leaves nothing; a run that is killed leaves the hidden folder, which the next run removes.

    Args:
        seed: seed of the scenes.
        train, val, test: numbers of scenes of each split.
        per_class: images of each class.
        size: side of the images in pixels.
        jpeg: write JPEG images (quality 95) instead of PNG; decoded pixels then differ from those in memory.

    Returns:
        `out`.

    Raises:
        RequestError: a number is out of range; or `out` has other files, or toybox with other settings.
        OSError: the disk is full or not writable; no files are left.
    """
    out = Path(out)
    reporter = reporter or Silent()
    settings = {
        "version": VERSION,
        "seed": seed,
        "train": train,
        "val": val,
        "test": test,
        "per_class": per_class,
        "size": size,
        "jpeg": jpeg,
    }
    _check_ranges(settings)
    if _is_complete(out, settings):
        reporter.note(f"toybox is already in {out}")
        return out
    for leftover in remove_leftovers(out.parent):
        reporter.note(f"removed {leftover}, which a killed run had left")
    with temporary_folder(out) as partial:
        _write_all(partial, settings, reporter)
        # `temporary_folder` makes a private folder; give it the permissions that an ordinary one would have
        partial.chmod(0o777 & ~current_umask())
        partial.replace(out)  # works if `out` is absent or empty
    return out


def _check_ranges(settings: dict[str, int]) -> None:
    """Raise RequestError for a number that is out of range."""
    counts = dict.fromkeys(("train", "val", "test", "per_class"), (1, 10**8))
    for name, (minimum, maximum) in {"seed": (0, 2**63 - 1), **counts, "size": (8, 4096)}.items():
        if int(settings[name]) < minimum:
            raise RequestError(f"toybox needs {name} of at least {minimum}, not {settings[name]}")
        if int(settings[name]) > maximum:
            raise RequestError(f"toybox needs {name} of at most {maximum:,}, not {short_repr(settings[name])}")


def _is_complete(out: Path, settings: dict[str, int]) -> bool:
    """Whether `out` has all of toybox with these settings; False if it is absent or empty.

    Raises:
        RequestError: it has other files, or toybox with other settings.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        stored = read_json(out / SETTINGS_FILE)
    except RequestError as error:
        raise RequestError(
            f"{out} has other files than toybox (no {SETTINGS_FILE}); give an empty folder or a new one with --out"
        ) from error
    if stored == settings:
        return True
    if not isinstance(stored, dict):
        stored = {}
    differences = ", ".join(
        f"{name} {stored.get(name)} (requested: {value})"
        for name, value in settings.items()
        if stored.get(name) != value
    )
    raise RequestError(f"{out} has toybox with {differences}; remove it or give another folder with --out")


def _write_all(root: Path, settings: dict[str, int], reporter: Reporter) -> None:
    seed, per_class = settings["seed"], settings["per_class"]
    writer = layout_writers.ImageWriter(settings["size"], bool(settings["jpeg"]))
    test = distinct_scenes(seed, "test", settings["test"])
    val = distinct_scenes(seed, "val", settings["val"])
    train = [make_scene(seed, "train", index) for index in range(settings["train"])]
    class_test = class_scenes(seed, "test", per_class)
    class_train = class_scenes(seed, "train", per_class)
    total = 3 * len(test) + len(val) + len(train) + 2 * len(class_test) + len(class_train)
    with reporter.task("writing toybox", total, "scenes") as advance:
        layout_writers.write_coco(root / "coco", test, writer, advance)
        layout_writers.write_karpathy(root / "flickr30k", {"test": test, "val": val}, writer, advance)
        layout_writers.write_class_folders(root / "imagenet", class_test, writer, advance)
        write_cifar100(root / "cifar100", {"train": class_train, "test": class_test}, advance)
        layout_writers.write_voc(root / "voc", test, writer, advance)
        layout_writers.write_shards(root / "shards", train, writer, advance)
    for name, text in _definitions(len(test), len(class_test)).items():
        (root / f"{name}.yaml").write_text(text, encoding="utf-8")
    atomic_write_text(root / SETTINGS_FILE, json.dumps(settings) + "\n")


def _definitions(scene_count: int, class_image_count: int) -> dict[str, str]:
    """Return the YAML of the definitions, by name.

    There is one for each format that has the content of an in-memory benchmark, with the same prompts and metrics.
    """
    retrieval = "metrics: {primary: text_to_image_recall@1, k: [1, 5, 10]}\n"
    expected = f"expected: {{images: {scene_count}, texts: {2 * scene_count}}}"
    expected_classes = f"expected: {{images: {class_image_count}}}"
    class_names, templates = json.dumps(list(CLASSES)), json.dumps(list(TEMPLATES))
    prompts = f"prompts:\n  class_names: {class_names}\n  templates: {templates}\nmetrics: {{primary: top1}}\n"
    parts = {
        "coco": (
            "retrieval",
            "{reader: coco-captions, images: coco/images/val2017, "
            f"annotations: coco/annotations/captions_val2017.json, {expected}}}",
            retrieval,
        ),
        "flickr30k": (
            "retrieval",
            "{reader: karpathy, images: flickr30k/images, annotations: flickr30k/dataset_flickr30k.json, "
            f"split: test, {expected}}}",
            retrieval,
        ),
        "imagenet": ("classification", f"{{reader: image-folder, path: imagenet/val, {expected_classes}}}", prompts),
        "cifar100": (
            "classification",
            "{reader: clip-benchmark, dataset: cifar100, path: cifar100, split: test, published: false, "
            f"{expected_classes}}}",
            prompts,
        ),
    }
    return {
        f"toybox-{name}": f"name: toybox-{name}\nversion: 1\ntask: {task}\ndataset: {dataset}\n{rest}"
        f'source: "toybox in the format of {name}"\n'
        for name, (task, dataset, rest) in parts.items()
    }
