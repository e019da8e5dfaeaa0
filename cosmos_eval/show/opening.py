"""What all `show` commands open: the data of a benchmark, a model, and the feature cache of a run."""

from dataclasses import dataclass
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval import datasets
from cosmos_eval.cache.feature_cache import FOLDER, FeatureCache
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.kinds import DataKind
from cosmos_eval.engine import Engine, resolve_device, resolve_precision
from cosmos_eval.models import load_model
from cosmos_eval.progress import Reporter, Silent
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.plan import make_plan


@dataclass(frozen=True)
class CacheChoice:
    """The feature cache that a command uses."""

    folder: Path | None
    is_writable: bool = False

    def open(self, limit: int) -> FeatureCache | None:
        """The cache; None without one."""
        return None if self.folder is None else FeatureCache(self.folder, limit, self.is_writable)


def choose_cache(out: Path, results: Path | None = None, cache: Path | None = None) -> CacheChoice:
    """Decide which feature cache is used.

    Args:
        out: the folder for images. Without the other two, the cache of the run that it is in (itself or a folder
            above) is read, so that `--out runs/eval/shown` needs no further option.
        results: the --out folder of a run, whose cache is read. Nothing is stored there: the size limit of that run is
            not known here, and a smaller one would remove features.
        cache: a cache folder, or the --out folder of a run with one; features are read and stored, as by `run --cache`.

    Raises:
        RequestError: no folder `results`.
    """
    if results is not None and not results.is_dir():
        raise RequestError(f"no folder {results}; give --results the --out folder of a run")
    if cache is not None:
        return CacheChoice(cache / FOLDER if (cache / FOLDER).is_dir() else cache, is_writable=True)
    folders = [results] if results is not None else [out, *out.parents]
    return CacheChoice(next((folder / FOLDER for folder in folders if (folder / FOLDER).is_dir()), None))


def read_data(
    benchmark: str | Path,
    kinds: tuple[DataKind, ...],
    data_root: Path | None,
    reporter: Reporter | None,
    command: str = "",
) -> tuple[Benchmark, Data]:
    """Read the data of a benchmark of one of these kinds.

    Args:
        command: name of the command, for the message; empty: that of the first kind, which alone is then named.

    Raises:
        RequestError: a benchmark of another kind, or one that fits classifiers to train images and asks for no texts;
            data that are missing.
    """
    definition = load_benchmark(benchmark)
    names = [kind.name for kind in kinds]
    if definition.data_kind not in names or task_info(definition.task).splits:
        needed = " or ".join(names) if command else names[0]
        raise RequestError(
            f"{definition.name} has the task {definition.task}; show {command or needed} needs a benchmark of {needed}"
        )
    (planned,) = make_plan([definition], data_root, reporter=reporter)
    return planned.benchmark, datasets.read(planned.benchmark, planned.data_root, reporter)


def open_engine(spec: str, options: RunOptions, cache: CacheChoice, reporter: Reporter | None) -> Engine:
    """Load a model, with the features that the cache has of it."""
    device = str(resolve_device(options.device))
    resolve_precision(options.precision, device)
    model = load_model(spec, device=device)
    feature_cache = cache.open(options.cache_limit)
    return Engine(model, reporter=reporter or Silent(), cache=feature_cache, **options.engine_arguments())


def describe_cache(cache: CacheChoice, *engines: Engine) -> str:
    """A line about how many features came from the cache; empty where no cache was used."""
    if cache.folder is None or all(engine.model_cache is None for engine in engines):
        return ""
    parts = []
    for kind, part in (("images", "cached_images"), ("texts", "cached_texts")):
        read = sum(getattr(engine, part).read_count for engine in engines)
        total = read + sum(engine.encoded[kind] for engine in engines)
        parts += [f"{read:,} of {total:,} {kind}"] if total else []
    blocks = sum(engine.cached_pair_scores.read_count for engine in engines)
    parts += [plural(blocks, "batch of pairs", "batches of pairs")] if blocks else []
    return f"From the feature cache {cache.folder}: {', '.join(parts)}" if parts else ""
