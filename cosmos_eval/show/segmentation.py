"""Predicted label maps of a few images as figures and masks (`cosmos-eval show segmentation`)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_path
from cosmos_core.printable import plural, printable
from cosmos_eval import datasets
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.datasets.dataset_checks import is_outside_folder
from cosmos_eval.datasets.kinds import SEGMENTATION
from cosmos_eval.engine import Engine, resolve_device, resolve_precision
from cosmos_eval.engine.worker_count import AUTO
from cosmos_eval.metrics.iou import class_iou, segmentation_metrics
from cosmos_eval.models import load_model
from cosmos_eval.models.abilities import require_patch_encoder
from cosmos_eval.models.base import Model
from cosmos_eval.models.preflight import require_models
from cosmos_eval.progress import Reporter, Silent
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark
from cosmos_eval.report.curves import save
from cosmos_eval.results.portable import portable_spec
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import read_result, result_paths
from cosmos_eval.run.plan import check_data
from cosmos_eval.show.overlays import Row, encode_palette_png, iou_bars, make_row, overlay_figure

IMAGES = 4
"""Images shown by default."""
TOGETHER, DRAWN = 8, 100
"""Images in one figure, and images drawn at most: drawing takes longer than predicting."""
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True)
class Shown:
    """What was written."""

    images: int
    """How many were shown."""
    total: int
    """Images of the dataset."""
    miou: float
    """Over the classes that occur in the images shown or are predicted there; NaN where all pixels are ignored."""
    overlays: tuple[Path, ...]
    bars: Path
    bars_from: str
    """Text about the images that the IoUs of the bars were measured on."""
    masks: Path | None
    """The folder of the predicted masks."""


def show_segmentation(
    spec: str | Model,
    benchmark: str | Path | Benchmark,
    out: Path,
    data_root: Path | None = None,
    *,
    keys: Sequence[str] = (),
    images: int = IMAGES,
    masks: bool = False,
    results: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = 64,
    workers: int | str = AUTO,
    reporter: Reporter | None = None,
) -> Shown:
    """Write overlays and the bars of per-class IoU of one model on a few images of a segmentation benchmark.

    `out` gets overlays.png (overlays/KEY.png for more than eight images, at most a hundred of them), iou.png and, with
    `masks`, masks/KEY.png of every image shown: paletted, index = class, in the dataset's own colours.

    Args:
        keys: the images to show; by default `images` of them, spread evenly (0: all).
        results: a folder of results: the bars are those of its result of the same model and benchmark, if there is one.

    Raises:
        RequestError: no segmentation benchmark, missing data, an unknown key, or a model without patch features.
    """
    reporter = reporter or Silent()
    definition = benchmark if isinstance(benchmark, Benchmark) else load_benchmark(benchmark)
    if definition.data_kind != SEGMENTATION.name:
        raise RequestError(
            f"{definition.name} has the task {definition.task}; show segmentation needs a benchmark of segmentation"
        )
    if results is not None and not results.is_dir():
        raise RequestError(f"no folder {results}; give the --out folder of a run")
    resolved = str(resolve_device(device))
    resolve_precision(precision, resolved)
    if isinstance(spec, str):
        require_models([spec], fetch=True)
    root, report = check_data(definition, data_root)
    if report.problems:
        raise RequestError("; ".join(report.problems))
    data = datasets.read(definition, root)
    assert isinstance(data, SegmentationData)  # the task was checked above
    chosen = choose([image.key for image in data.images], keys, images, definition.name)
    subset = replace(
        data, images=[data.images[i] for i in chosen], masks=[data.masks[i] for i in chosen], fingerprint=""
    )
    model = load_model(spec, device=resolved) if isinstance(spec, str) else spec
    require_patch_encoder(model, definition.settings["attention"])  # raises for a model without such patch features
    engine = Engine(model, batch_size=batch_size, workers=workers, precision=precision, reporter=reporter)
    title = f"{portable_spec(model.spec)} on {definition.name}"
    drawing = Drawing(subset, out, title, masks)
    drawing.draw(definition, engine)
    measured = find_result(results, model, definition, engine.precision) if results is not None else None
    bars = out / "iou.png"
    if measured is not None:
        path, result = measured
        image_count = result.dataset.n.get("images", 0)
        measured_on = f"{plural(image_count, 'image')} (data {result.dataset.fingerprint[:8]}), {result.precision}"
        bars_from = f"{measured_on}: {path}"
        names, values, intervals = per_class(result)
        save(iou_bars(names, values, intervals, f"{title}, {measured_on}"), bars)
    else:
        few = "the one image" if len(chosen) == 1 else f"the {len(chosen):,} images"
        bars_from = f"{few} shown only" if len(chosen) < len(data.images) else "all images"
        save(iou_bars(subset.class_names, class_iou(drawing.total), title=f"{title}, {bars_from}"), bars)
        if results is not None:
            bars_from += f": no result of this model and benchmark in {results}"
    return Shown(
        images=len(chosen),
        total=len(data.images),
        miou=segmentation_metrics(drawing.total)["miou"],
        overlays=tuple(drawing.written),
        bars=bars,
        bars_from=bars_from,
        masks=drawing.masks,
    )


def choose(keys: Sequence[str], wanted: Sequence[str], n: int, benchmark: str) -> list[int]:
    """Indices of the wanted keys, each once, in the order of the dataset; by default of n keys spread evenly (0: all).

    Raises:
        RequestError: a key that the dataset does not have; names similar ones.
    """
    if wanted:
        index_of = {key: i for i, key in enumerate(keys)}
        for key in wanted:
            if key not in index_of:
                similar = get_close_matches(key, keys, n=3) or list(keys[:3])
                raise RequestError(
                    f"{benchmark} has no image {printable(key)!r} among its {len(keys):,}; "
                    f"similar keys: {', '.join(similar)}"
                )
        return sorted({index_of[key] for key in wanted})
    n = min(n, len(keys)) or len(keys)
    return [i * len(keys) // n for i in range(n)]


class Drawing:
    """Draws images as their label maps are made, so that memory holds those of one figure only."""

    def __init__(self, data: SegmentationData, out: Path, title: str, masks: bool) -> None:
        self.data, self.out, self.title = data, out, title
        self.files = file_names([image.key for image in data.images])
        self.masks = out / "masks" if masks else None
        total = len(data.images)
        self.drawn = {i * total // min(total, DRAWN) for i in range(min(total, DRAWN))}
        self.total = np.zeros((3, len(data.class_names)), np.int64)
        self.written: list[Path] = []

    def draw(self, benchmark: Benchmark, engine: Engine) -> None:
        from cosmos_eval.tasks.segmentation.measure import predict_label_maps

        rows: list[Row] = []
        for prediction in predict_label_maps(benchmark, self.data, engine):
            image = self.data.images[prediction.index]
            self.total += prediction.areas
            if self.masks is not None:
                write_mask(self.masks / self.files[prediction.index], prediction.predicted_labels, self.data)
            if prediction.index not in self.drawn:
                continue
            row = make_row(
                image.key, image.load(), prediction.true_labels, prediction.predicted_labels, prediction.areas
            )
            if len(self.data.images) <= TOGETHER:
                rows.append(row)
            else:
                self.write([row], self.out / "overlays" / self.files[prediction.index])
        if rows:
            self.write(rows, self.out / "overlays.png")

    def write(self, rows: Sequence[Row], path: Path) -> None:
        save(overlay_figure(rows, self.data.class_names, self.data.palette, self.title), path)
        self.written.append(path)


def write_mask(path: Path, labels: np.ndarray, data: SegmentationData) -> None:
    """Write one predicted mask, atomically."""
    content = encode_palette_png(labels, data.palette)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def file_names(keys: Sequence[str]) -> list[str]:
    """A relative PNG path for each key: its image ending is replaced, or kept where two names would be the same.

    Raises:
        RequestError: a key that leads out of the folder.
    """
    plain = [str(without_ending(key)) for key in keys]
    times = Counter(plain)
    names = [f"{short if times[short] == 1 else key}.png" for key, short in zip(keys, plain, strict=True)]
    for name in names:
        if is_outside_folder(name):
            raise RequestError(
                f"the image {printable(name)!r} would be written outside of the folder; rename it in the dataset"
            )
    return names


def without_ending(key: str) -> PurePosixPath:
    path = PurePosixPath(key)
    return path.with_suffix("") if path.suffix.lower() in IMAGE_ENDINGS else path


def find_result(folder: Path, model: Model, benchmark: Benchmark, precision: str) -> tuple[Path, Result] | None:
    """Return the newest result of the same weights and protocol; one without a limit is preferred, then one of the same
    precision."""
    if not model.digest:
        return None  # a model without a digest equals no other
    same_measurement = [
        (path, result)
        for path, result in readable(result_paths(folder))
        if result.model.digest == model.digest and result.benchmark.fingerprint == benchmark.fingerprint
    ]

    def rank(located: tuple[Path, Result]) -> tuple[bool, bool, str]:
        result = located[1]
        return result.limit is None, result.precision == precision, result.timing.started

    return max(same_measurement, key=rank, default=None)


def readable(paths: Iterable[Path]) -> Iterable[tuple[Path, Result]]:
    """Results that can be read; damaged ones are errors only in the commands that make tables."""
    for path in paths:
        try:
            yield path, read_result(path)
        except RequestError:
            continue


def per_class(result: Result) -> tuple[list[str], list[float], list[tuple[float, float]]]:
    """Names, IoU and intervals of the classes of a segmentation result."""
    ending = "/iou"
    by_class = {name.removesuffix(ending): metric for name, metric in result.metrics.items() if name.endswith(ending)}
    return (
        list(by_class),
        [metric.value for metric in by_class.values()],
        [(metric.low, metric.high) for metric in by_class.values()],
    )
