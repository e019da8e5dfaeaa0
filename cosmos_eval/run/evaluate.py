"""`cosmos_eval.evaluate`: evaluate one model from Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cosmos_core.file_checks import user_path
from cosmos_core.image_files import pixels_at_most
from cosmos_eval.datasets.data import Data
from cosmos_eval.engine.precision import resolve_device
from cosmos_eval.models.python import as_model
from cosmos_eval.profiling import Profile
from cosmos_eval.progress import Reporter
from cosmos_eval.progress_display import choose_reporter
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.results.record import Result
from cosmos_eval.run.caller_state import find_networks, kept_modules, own_torch_modes
from cosmos_eval.run.in_memory import as_benchmarks
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.plan import make_plan
from cosmos_eval.run.result_folders import feature_cache_folder
from cosmos_eval.run.session import Session

OneBenchmark = str | Path | Benchmark | Data
GivenBenchmarks = OneBenchmark | Sequence[OneBenchmark] | Mapping[str, Data | Benchmark]


def evaluate(
    model: str | Any,
    benchmarks: GivenBenchmarks,
    data_root: Path | str | None = None,
    *,
    out: Path | str | None = None,
    label: str | None = None,
    skip_missing: bool = False,
    stream: bool = False,
    max_image_pixels: int | None = None,
    cache: Path | str | bool = True,
    profile: Profile | None = None,
    reporter: Reporter | None = None,
    progress: bool | str = "auto",
    **options: Any,
) -> list[Result]:
    """Evaluate one model on benchmarks or suites. Finished results in `out` are read, not computed again.

    Args:
        model: a model spec; a model that `load_model` returned; any object that a `python:` factory may return; a
            `cosmos_core.COSMOS`; (model, preprocess, tokenizer) of open_clip; (model, processor) of transformers. A
            model in memory is as it was afterwards: its train or eval mode, its device, its gradients.
        benchmarks: names of benchmarks or suites, paths of YAML definitions, definitions, and data that were built in
            Python, such as `ClassificationData.from_lists(...)`; one or a list. Or a map from name to data.
        data_root: the folder with the datasets (default: `data`; for a YAML file, the folder of that file).
        out: the folder for results; None writes nothing.
        label: the model's name in tables (default: its spec). Finished results get it, too.
        skip_missing: whether benchmarks without their data are left out; otherwise they are an error.
        stream: whether data that are not on disk are evaluated while they are downloaded (WebDataset shards).
        max_image_pixels: number of pixels above which an image is refused (default:
            `cosmos_core.image_files.MAX_PIXELS`).
        cache: the folder of the feature cache; True is `.embeddings` in `out`, if `out` is given; False keeps none.
        profile: is filled with the time spent in each phase, which is also written to profile.json in the model's
            folder of `out`.
        progress: whether progress and notes are shown; "auto" shows them in a terminal and in a notebook.
        reporter: shows progress and notes in place of `progress`.
        options: `device`, `precision`, `batch_size`, `workers`, `compile`, `decoder`, `resized`, `limit`, `seed`,
            `overwrite`, `cache_limit`; see `cosmos_eval.run.options.RunOptions`.

    Returns:
        One result for each benchmark that could run, in the order of `benchmarks`.

    Raises:
        RequestError: a bad spec or option, missing or broken data, or embeddings that are not finite.
    """
    definitions = as_benchmarks(benchmarks)
    root = user_path(data_root) if data_root is not None else None
    reporter = reporter or choose_reporter(progress)
    with own_torch_modes(), kept_modules(model), pixels_at_most(max_image_pixels):
        device = options.pop("device", "auto")
        if not isinstance(model, str):
            for network in find_networks(model) if isinstance(model, tuple | list) else ():
                network.eval()
            model = as_model(model, resolve_device(device), stays=device == "auto")
            if device == "auto":
                device = str(model.device)  # a loaded model stays on its device
        run_options = _read_options(options, device, cache, out)
        session = Session(user_path(out) if out is not None else None, run_options, reporter)
        plan = make_plan(
            definitions,
            root,
            skip_missing=skip_missing,
            stream=stream,
            reporter=session.reporter,
            skip_option="skip_missing=True",
        )
        return session.evaluate_model(model, plan, label=label, profile=profile)


def _read_options(options: dict[str, Any], device: str, cache: Path | str | bool, out: Path | str | None) -> RunOptions:
    """Return the options of a run from the further keyword arguments of `evaluate`."""
    if "compile" in options:
        options["compiled"] = options.pop("compile")
    if options.get("resized") is not None:
        options["resized"] = user_path(options["resized"])
    return RunOptions.from_keywords(**options, device=device, cache=feature_cache_folder(cache, out))
