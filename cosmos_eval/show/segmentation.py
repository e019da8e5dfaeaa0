"""What a model sees in a few pictures, written to files: the work behind `cosmos-eval show`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_path
from cosmos_core.printable import printable
from cosmos_eval import datasets
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.datasets.dataset_checks import escapes
from cosmos_eval.engine import Engine, resolve_device, resolve_precision
from cosmos_eval.metrics.areas import class_iou, summary
from cosmos_eval.models import load_model
from cosmos_eval.models.base import Model, patch_encoder
from cosmos_eval.models.preflight import require_models
from cosmos_eval.progress import Reporter, Silent
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark
from cosmos_eval.report.curves import save
from cosmos_eval.results.portable import portable_spec
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import read_result, result_paths
from cosmos_eval.run.plan import check_data
from cosmos_eval.show.overlays import Row, iou_bars, make_row, overlay_figure, palette_png

PICTURES = 4
"""Shown where nobody says how many."""
TOGETHER, DRAWN = 8, 100
"""Pictures that one figure holds, and pictures that are drawn at most: a figure takes longer than its label map."""
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True)
class Shown:
    """What was written."""

    pictures: int
    total: int
    """Pictures of the dataset."""
    miou: float
    """Over the classes that occur in the pictures shown or are predicted there; NaN where all of it is ignored."""
    overlays: tuple[Path, ...]
    bars: Path
    bars_from: str
    """What the bars were measured on, in words."""
    masks: Path | None
    """The folder of the predicted masks."""


def show_segmentation(
    spec: str | Model,
    benchmark: str | Path | Benchmark,
    out: Path,
    data_root: Path | None = None,
    *,
    keys: Sequence[str] = (),
    pictures: int = PICTURES,
    masks: bool = False,
    results: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = 64,
    workers: int = 0,
    reporter: Reporter | None = None,
) -> Shown:
    """Write overlays and the bars of per-class IoU of one model on a few pictures of a segmentation benchmark.

    `out` gets overlays.png (overlays/KEY.png beyond eight pictures, a hundred of them at most), iou.png and, with
    `masks`, masks/KEY.png of every picture shown: paletted, index = class, in the dataset's own colours.

    Args:
        keys: the pictures to show; without any, `pictures` of them spread evenly, 0 being all.
        results: a folder of finished results: the bars are then those of the same model and benchmark, if it is there.

    Raises:
        RequestError: no segmentation benchmark, data that is missing, an unknown key, or a model without patches.
    """
    reporter = reporter or Silent()
    definition = benchmark if isinstance(benchmark, Benchmark) else load_benchmark(benchmark)
    if definition.task != "segmentation":
        raise RequestError(f"{definition.name} is {definition.task}; show segmentation needs a segmentation benchmark")
    if results is not None and not results.is_dir():
        raise RequestError(f"no folder {results}; give the --out folder of a run")
    place = str(resolve_device(device))
    resolve_precision(precision, place)
    if isinstance(spec, str):
        require_models([spec], fetch=True)
    root, report = check_data(definition, data_root)
    if report.problems:
        raise RequestError("; ".join(report.problems))
    data = datasets.read(definition, root)
    assert isinstance(data, SegmentationData)  # as the check has found
    chosen = choose([picture.key for picture in data.pictures], keys, pictures, definition.name)
    some = replace(
        data, pictures=[data.pictures[i] for i in chosen], masks=[data.masks[i] for i in chosen], fingerprint=""
    )
    model = load_model(spec, device=place) if isinstance(spec, str) else spec
    patch_encoder(model)  # a model without patches is refused here
    engine = Engine(model, batch_size=batch_size, workers=workers, precision=precision, reporter=reporter)
    title = f"{portable_spec(model.spec)} on {definition.name}"
    drawing = Drawing(some, out, title, masks)
    drawing.draw(definition, engine)
    measured = find_result(results, model, definition, engine.precision) if results is not None else None
    bars = out / "iou.png"
    if measured is not None:
        path, result = measured
        pictures_and_data = (
            f"{result.dataset['n'].get('images', 0):,} pictures (data {result.dataset['fingerprint'][:8]})"
        )
        measured_on = f"{pictures_and_data}, {result.precision}"
        bars_from = f"{measured_on}: {path}"
        names, values, intervals = per_class(result)
        save(iou_bars(names, values, intervals, f"{title}, {measured_on}"), bars)
    else:
        few = "the one picture" if len(chosen) == 1 else f"the {len(chosen):,} pictures"
        bars_from = f"{few} shown only" if len(chosen) < len(data.pictures) else "all pictures"
        save(iou_bars(some.class_names, class_iou(drawing.total), title=f"{title}, {bars_from}"), bars)
        if results is not None:
            bars_from += f": no result of this model and benchmark in {results}"
    return Shown(
        pictures=len(chosen),
        total=len(data.pictures),
        miou=summary(drawing.total)["miou"],
        overlays=tuple(drawing.written),
        bars=bars,
        bars_from=bars_from,
        masks=drawing.masks,
    )


def choose(keys: Sequence[str], wanted: Sequence[str], n: int, benchmark: str) -> list[int]:
    """Places of the wanted keys, each once, in the dataset's order; without any, of n keys spread evenly (0: all).

    Raises:
        RequestError: a key that the dataset lacks; names near ones.
    """
    if wanted:
        place = {key: i for i, key in enumerate(keys)}
        for key in wanted:
            if key not in place:
                near = get_close_matches(key, keys, n=3) or list(keys[:3])
                raise RequestError(
                    f"{benchmark} has no picture {printable(key)!r} among its {len(keys):,}; there is {', '.join(near)}"
                )
        return sorted({place[key] for key in wanted})
    n = min(n, len(keys)) or len(keys)
    return [i * len(keys) // n for i in range(n)]


class Drawing:
    """Draws pictures as their label maps come, so that no more than one figure's worth of them is kept."""

    def __init__(self, data: SegmentationData, out: Path, title: str, masks: bool) -> None:
        self.data, self.out, self.title = data, out, title
        self.files = file_names([picture.key for picture in data.pictures])
        self.masks = out / "masks" if masks else None
        total = len(data.pictures)
        self.drawn = {i * total // min(total, DRAWN) for i in range(min(total, DRAWN))}
        self.total = np.zeros((3, len(data.class_names)), np.int64)
        self.written: list[Path] = []

    def draw(self, benchmark: Benchmark, engine: Engine) -> None:
        from cosmos_eval.tasks.segmentation.measure import predictions

        rows: list[Row] = []
        for made in predictions(benchmark, self.data, engine):
            picture = self.data.pictures[made.index]
            self.total += made.areas
            if self.masks is not None:
                write_mask(self.masks / self.files[made.index], made.predicted, self.data)
            if made.index not in self.drawn:
                continue
            row = make_row(picture.key, picture.load(), made.truth, made.predicted, made.areas)
            if len(self.data.pictures) <= TOGETHER:
                rows.append(row)
            else:
                self.write([row], self.out / "overlays" / self.files[made.index])
        if rows:
            self.write(rows, self.out / "overlays.png")

    def write(self, rows: Sequence[Row], path: Path) -> None:
        save(overlay_figure(rows, self.data.class_names, self.data.palette, self.title), path)
        self.written.append(path)


def write_mask(path: Path, labels: np.ndarray, data: SegmentationData) -> None:
    """One predicted mask, whole or not at all."""
    content = palette_png(labels, data.palette)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def file_names(keys: Sequence[str]) -> list[str]:
    """A relative PNG path for each key: the key with its picture ending replaced, or added to where two would meet.

    Raises:
        RequestError: a key that leads out of its folder.
    """
    plain = [str(without_ending(key)) for key in keys]
    times = Counter(plain)
    names = [f"{short if times[short] == 1 else key}.png" for key, short in zip(keys, plain, strict=True)]
    for name in names:
        if escapes(name):
            raise RequestError(f"the picture {printable(name)!r} would be written outside of the folder; rename it")
    return names


def without_ending(key: str) -> PurePosixPath:
    path = PurePosixPath(key)
    return path.with_suffix("") if path.suffix.lower() in PICTURE_ENDINGS else path


def find_result(folder: Path, model: Model, benchmark: Benchmark, precision: str) -> tuple[Path, Result] | None:
    """The newest result of the same weights and protocol below a folder: whole ones first, then the same precision."""
    if not model.digest:
        return None  # never known to be the same
    found = [
        (path, result)
        for path, result in readable(result_paths(folder))
        if result.model["digest"] == model.digest and result.benchmark["fingerprint"] == benchmark.fingerprint
    ]

    def rank(one: tuple[Path, Result]) -> tuple[bool, bool, str]:
        return one[1].limit is None, one[1].precision == precision, str(one[1].timing.get("started", ""))

    return max(found, key=rank, default=None)


def readable(paths: Iterable[Path]) -> Iterable[tuple[Path, Result]]:
    """Results that can be read; a broken one has its say in the commands that make tables."""
    for path in paths:
        try:
            yield path, read_result(path)
        except RequestError:
            continue


def per_class(result: Result) -> tuple[list[str], list[float], list[tuple[float, float]]]:
    """Names, IoU and intervals of the classes of a segmentation result."""
    ending = "/iou"
    kept = {name.removesuffix(ending): metric for name, metric in result.metrics.items() if name.endswith(ending)}
    return list(kept), [one.value for one in kept.values()], [(one.low, one.high) for one in kept.values()]
