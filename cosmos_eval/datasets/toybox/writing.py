"""`prepare`: toybox on the disk in the formats of real datasets, whole or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text, current_umask, remove_leftovers, temporary_folder
from cosmos_core.json_text import read_json
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.toybox import cifar, formats
from cosmos_eval.datasets.toybox.reader import TEMPLATES, class_scenes, distinct_scenes
from cosmos_eval.datasets.toybox.scenes import VERSION, make_scene
from cosmos_eval.datasets.toybox.words import CLASSES
from cosmos_eval.progress import Reporter, Silent

MARK = "toybox.json"
"""The settings of a tree; written last, so that only a whole tree has it."""


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
    """Write toybox below `out`, a data root of its own; a whole tree with the same settings is kept as it is.

    | folder | format | content |
    |---|---|---|
    | `coco` | captions and instances JSON of val2017 | the `test` scenes of the in-memory retrieval benchmark |
    | `flickr30k` | Karpathy's JSON | the same scenes as split test, `val` scenes as split val |
    | `imagenet` | a folder a class | the images of the in-memory classification benchmark |
    | `cifar100` | torchvision's pickles | the same at 32 pixels as test; as many of the training split as train |
    | `voc` | VOC2012, palette masks | the `test` scenes |
    | `shards` | webdataset tars, DreamLIP records | `train` training scenes |
    | `toybox-*.yaml` | definitions | of the benchmarks that read the first four |

    Everything is made in a hidden folder beside `out` and moved into place at the end: a run that is stopped leaves no
    `out`, and one that is killed a hidden folder, which the next run removes.

    Args:
        jpeg: JPEG images (quality 95) instead of PNG; decoded pixels then differ from those in memory.

    Returns:
        `out`.

    Raises:
        RequestError: a number is not positive; or `out` holds something else, or toybox with other settings.
        OSError: the disk is full or not writable; nothing is left behind.
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
    counts = dict.fromkeys(("train", "val", "test", "per_class"), (1, 10**8))
    for name, (least, most) in {"seed": (0, 2**63 - 1), **counts, "size": (8, 4096)}.items():
        if int(settings[name]) < least:
            raise RequestError(f"toybox needs {name} of at least {least}, not {settings[name]}")
        if int(settings[name]) > most:
            raise RequestError(f"toybox needs {name} of at most {most:,}, not {short_repr(settings[name])}")
    if _is_there(out, settings):
        reporter.note(f"toybox is already in {out}")
        return out
    for left in remove_leftovers(out.parent):
        reporter.note(f"{left} was left by a run that was killed, and is removed")
    with temporary_folder(out) as partial:
        _write_all(partial, settings, reporter)
        partial.chmod(0o777 & ~current_umask())
        partial.replace(out)  # onto an absent or empty folder
    return out


def _is_there(out: Path, settings: dict[str, int]) -> bool:
    """Whether `out` is a whole tree with these settings. RequestError where it is anything else but empty or absent."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = read_json(out / MARK)
    except RequestError as error:
        raise RequestError(
            f"{out} holds other things than toybox (it has no {MARK}); give --out an empty folder or a new one"
        ) from error
    if found == settings:
        return True
    if not isinstance(found, dict):
        found = {}
    differs = ", ".join(f"{k} {found.get(k)} (asked for {v})" for k, v in settings.items() if found.get(k) != v)
    raise RequestError(f"{out} holds toybox with {differs}; remove it or give another folder with --out")


def _write_all(root: Path, settings: dict[str, int], reporter: Reporter) -> None:
    seed, per_class, size = settings["seed"], settings["per_class"], settings["size"]
    writer = formats.ImageWriter(size, bool(settings["jpeg"]))
    test = distinct_scenes(seed, "test", settings["test"])
    val = distinct_scenes(seed, "val", settings["val"])
    train = [make_scene(seed, "train", index) for index in range(settings["train"])]
    single = class_scenes(seed, "test", per_class)
    single_train = class_scenes(seed, "train", per_class)
    total = 3 * len(test) + len(val) + len(train) + 2 * len(single) + len(single_train)
    with reporter.task("writing toybox", total, "scenes") as done:
        formats.write_coco(root / "coco", test, writer, done)
        formats.write_karpathy(root / "flickr30k", {"test": test, "val": val}, writer, done)
        formats.write_class_folders(root / "imagenet", single, writer, done)
        cifar.write_cifar100(root / "cifar100", {"train": single_train, "test": single}, done)
        formats.write_voc(root / "voc", test, writer, done)
        formats.write_shards(root / "shards", train, writer, done)
    for name, text in _definitions(len(test), len(single)).items():
        (root / f"{name}.yaml").write_text(text, encoding="utf-8")
    atomic_write_text(root / MARK, json.dumps(settings) + "\n")


def _definitions(test: int, single: int) -> dict[str, str]:
    """Definitions for the formats that hold the in-memory benchmarks' content, with the same words and metrics."""
    retrieval = "metrics: {primary: text_to_image_recall@1, k: [1, 5, 10]}\n"
    expected = f"expected: {{images: {test}, texts: {2 * test}}}"
    classes = f"expected: {{images: {single}}}"
    prompts = (
        f"prompts:\n  class_names: {_listed(CLASSES)}\n  templates: {_listed(TEMPLATES)}\nmetrics: {{primary: top1}}\n"
    )
    rows = {
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
        "imagenet": ("classification", f"{{reader: image-folder, path: imagenet/val, {classes}}}", prompts),
        "cifar100": (
            "classification",
            f"{{reader: clip-benchmark, dataset: cifar100, path: cifar100, split: test, published: false, {classes}}}",
            prompts,
        ),
    }
    return {
        f"toybox-{name}": f"name: toybox-{name}\nversion: 1\ntask: {task}\ndataset: {dataset}\n{rest}"
        f'source: "toybox in the format of {name}"\n'
        for name, (task, dataset, rest) in rows.items()
    }


def _listed(words: Sequence[str]) -> str:
    return json.dumps(list(words))
