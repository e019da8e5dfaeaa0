"""`cosmos-eval run`: evaluate models on benchmarks."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_eval.cli.options import MaxImagePixels, Workers
from cosmos_eval.cli.streams import print_line

EXAMPLE = """\b
Example: cosmos-eval run --model open_clip:ViT-B-16/laion2b_s34b_b88k --suite paper-retrieval \\
           --data-root data --out runs/eval
On 8 GPUs: torchrun --nproc-per-node 8 -m cosmos_eval run --model ... (see docs/distributed.md)"""
DEFAULT_MODEL = "cosmos:toybox"
DEFAULT_SUITE = "toybox"


def check_cache_limit(gigabytes: float) -> float:
    """Return the size, or raise RequestError where it is not one."""
    from cosmos_core.errors import RequestError

    if not 0 < gigabytes <= 1e6:
        raise RequestError(f"--cache-limit must be a number of GB above 0, got {gigabytes:g}; at most 1,000,000")
    return gigabytes


def run(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Model spec; repeat for several (default: {DEFAULT_MODEL}, the checkpoint in the package). "
            "'cosmos:runs/x/*.pt' is every checkpoint of a folder, with a table and a plot by step."
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="The model's name in tables (default: its spec); for several models one each, in the order of "
            "--model. Of a pattern over checkpoints '{step}', '{file}' or '{run}' tells them apart."
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(help=f"Suite, or a YAML file with a suite of your own; repeatable (default: {DEFAULT_SUITE})."),
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="Benchmark name, a YAML file of your own, or a folder of class folders; repeatable."),
    ] = None,
    templates: Annotated[
        str,
        typer.Option(help="Prompt templates of all benchmarks: a set (list templates), or a .txt or .json file."),
    ] = "",
    class_names: Annotated[
        str,
        typer.Option(help="Class names of all classification benchmarks: a named set, or a .txt or .json file."),
    ] = "",
    rerank: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10**9,
            help="Retrieval by a model with embeddings and pair scores: the k best candidates of a query by "
            "embeddings are scored as pairs. Enters the fingerprint, like metrics.rerank of a definition.",
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that holds the datasets (default: data, or the YAML's own folder).")
    ] = None,
    out: Annotated[
        Path, typer.Option(file_okay=False, writable=True, help="Folder for results; created if absent.")
    ] = Path("runs/eval"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16. auto: fp32 on CPU, bf16 on CUDA.")] = "auto",
    batch_size: Annotated[
        str, typer.Option(help="Images in one forward pass; 'auto' finds the largest on CUDA.")
    ] = "64",
    workers: Workers = "auto",
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile the image tower; recorded in the precision of results.")
    ] = False,
    decoder: Annotated[
        str,
        typer.Option(help="pil, torchvision or draft (faster, other pixels); recorded with its effect on features."),
    ] = "pil",
    resized: Annotated[
        Path | None, typer.Option(help="Folder of 'data prepare resized': read its images instead of resizing.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Measure on this many images only; such results are marked and never ranked."),
    ] = None,
    truncate_dim: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep the first dimensions of embeddings only (Matryoshka). This and the next three are computed "
            "from cached embeddings, are recorded, and have columns of their own in tables.",
        ),
    ] = None,
    center: Annotated[
        bool, typer.Option("--center", help="Subtract the mean embedding of images, and that of texts.")
    ] = False,
    quantize: Annotated[
        str | None,
        typer.Option(help="int8 or binary codes of embeddings, as sentence-transformers makes them."),
    ] = None,
    dual_softmax: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=300.0,
            help="Retrieval: multiply scores with the softmax over all queries; its scale, such as 100.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling behind the intervals.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Measure finished benchmarks again, from cached features.")
    ] = False,
    skip_missing: Annotated[
        bool,
        typer.Option("--skip-missing", help="Run benchmarks whose data is complete; record the others as not run."),
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="If a model or benchmark fails, go on with the others; exit 2 at the end."),
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            writable=True,
            help="Folder of the feature cache, for later runs (default: OUT/.embeddings).",
        ),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the feature cache.")] = False,
    cache_limit: Annotated[
        float,
        typer.Option(
            callback=check_cache_limit,
            help="Size of the feature cache in GB; the least recently used features are removed first.",
        ),
    ] = 10.0,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Print where the time went; also written to profile.json beside the results."),
    ] = False,
    max_image_pixels: MaxImagePixels = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="First fetch data that is missing, as 'data fetch' does; asks once.")
    ] = False,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Evaluate WebDataset shards that are missing while they download; keeps none."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fetch: do not ask before fetching.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")] = False,
) -> None:
    """Evaluate models zero-shot and write results; finished results are kept."""
    from cosmos_core.errors import RequestError
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.cli.fetching import fetch_missing
    from cosmos_eval.engine.rank_group import RankGroup, join_rank_group
    from cosmos_eval.models.preflight import check_models
    from cosmos_eval.profiling import Profile
    from cosmos_eval.protocol.benchmark import Benchmark, load_suite
    from cosmos_eval.protocol.data_folder import notes_on_folders
    from cosmos_eval.protocol.metric_changes import set_rerank
    from cosmos_eval.protocol.prompt_changes import replace_prompts
    from cosmos_eval.rank_environment import is_main_process, read_world_size
    from cosmos_eval.run.fetch_advice import advise_fetching
    from cosmos_eval.run.options import RunOptions
    from cosmos_eval.run.plan import make_plan, resolve_benchmarks
    from cosmos_eval.run.result_folders import feature_cache_folder
    from cosmos_eval.run.session import Session
    from cosmos_eval.training.model_labels import label_models
    from cosmos_eval.training.sweep import expand_all

    ranks = read_world_size()
    if dry_run and not is_main_process():
        return
    reporter = make_reporter()
    rank_group = None
    if ranks > 1 and not dry_run:
        rank_group = join_rank_group(reporter)  # first: an error on one rank must not leave the others waiting
        if not rank_group.is_main:
            rank_group.serve()
            return
    if cache is not None and no_cache:
        raise RequestError("--cache and --no-cache exclude each other")
    if profile and rank_group is not None:
        raise RequestError("--profile times the work of one process; leave torchrun out")
    if fetch and rank_group is not None:
        raise RequestError("--fetch is for one process; fetch first with 'cosmos-eval data fetch', then run torchrun")
    if fetch and stream:
        raise RequestError("--fetch keeps the data and --stream does not; give one of them")
    if keep_going and rank_group is not None:
        raise RequestError("--keep-going is for one process; leave torchrun out")
    unreadable: dict[str, str] = {}
    given = model or [DEFAULT_MODEL]
    specs, swept = expand_all(given, unreadable)
    labels = label_models(given, label or (), specs, swept)
    options = RunOptions(  # refuses wrong options before models and data are searched
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        compiled=compile,
        decoder=decoder,
        resized=resized,
        limit=limit,
        truncate_dim=truncate_dim,
        center=center,
        quantize=quantize,
        dual_softmax=dual_softmax,
        seed=seed,
        overwrite=overwrite,
        cache=feature_cache_folder(cache or not no_cache, out),
        cache_limit=round(cache_limit * 1e9),
    )
    session = Session(out, options, reporter, keep_going, rank_group or RankGroup())
    checks = check_models(specs, fetch=not dry_run)
    model_problems = [*unreadable.values(), *(check.problem for check in checks if check.problem)]
    specs = [check.spec for check in checks if not check.problem]
    if model_problems and not dry_run and not (keep_going and specs):  # before any data is read
        others = f"; --keep-going measures the other {len(specs)}" if specs and rank_group is None else ""
        raise RequestError("; ".join(model_problems) + others)
    if not suite and not benchmark:
        suite = [DEFAULT_SUITE]
    suite_benchmarks = [definition for name in suite or () for definition in load_suite(name)]
    for note in notes_on_folders([*(suite or ()), *(benchmark or ())], data_root, out):
        reporter.note(note)
    names: list[str | Path | Benchmark] = [*suite_benchmarks, *(benchmark or ())]
    if templates or class_names:
        names = [*replace_prompts(resolve_benchmarks(names), templates, class_names)]
    if rerank is not None:
        names = [*set_rerank(resolve_benchmarks(names), rerank)]
    data_root, fetched = fetch_missing(names, data_root, reporter, fetch, yes, dry_run=dry_run, keep_going=skip_missing)
    plan = make_plan(names, data_root, skip_missing=skip_missing or dry_run, stream=stream, reporter=reporter)
    if dry_run:
        lacking = [planned.benchmark for planned in plan if planned.problems and planned.benchmark.name not in fetched]
        for check in checks:
            note = f", {check.note}" if check.note else ""
            name = f"{check.spec} ({labels[check.spec]})" if check.spec in labels else check.spec
            for planned in plan if not check.problem else ():
                state = f"ready{note}" + (f", streamed from {planned.stream.describe()}" if planned.stream else "")
                if planned.benchmark in lacking:
                    state = f"missing: {'; '.join(planned.problems)}"
                elif planned.problems:
                    state = f"ready once it is fetched{note}"
                print_line(f"{name} × {planned.benchmark.name}: {state}")
        for problem in model_problems:
            print_line(f"not loadable: {problem}")
        if lacking and (advice := advise_fetching(lacking, data_root)):
            print_line(advice)
        raise typer.Exit(2 if model_problems or (lacking and not skip_missing) else 0)

    from cosmos_eval.cache.feature_cache import FeatureCache
    from cosmos_eval.cli.table import print_results
    from cosmos_eval.run.many_models import evaluate_models
    from cosmos_eval.training.step_evaluation import swept_lines

    for problem in model_problems:
        reporter.note(f"failed: {problem}")
        session.failed.append(problem)
    results, step_lines = [], []
    profiles = [Profile() if profile else None for _ in specs]
    for spec, measured in zip(specs, evaluate_models(session, specs, plan, profiles, labels), strict=True):
        results += measured
        if spec in swept:
            step_lines += swept_lines(swept[spec], measured)
    session.ranks.finish()
    if not results and not session.failed:
        raise RequestError("nothing could run: no benchmark has its data; see 'cosmos-eval data check'")
    if results:
        print_results(results, out, suite[0] if suite and len(suite) == 1 and not benchmark else "")
    for times in profiles:
        if times is not None:
            print(f"\n{times.table()}")
    cache_size = FeatureCache(options.cache).size() if options.cache is not None else 0
    if cache_size:
        from cosmos_eval.datasets.fetch.plan_text import size_text

        reporter.note(f"Features for later runs: {size_text(cache_size)} in {options.cache} (cosmos-eval cache --help)")
    if step_lines:
        from cosmos_eval.report.curves import curve_table, write_curve

        written = write_curve(step_lines, out, "sweep")
        print(f"\n{curve_table(step_lines)}\nBy step: {', '.join(map(str, written))}")
    if session.failed:
        raise RequestError(
            f"{len(session.failed)} failed, {len(results)} measured in {out}: {'; '.join(session.failed)}; fix "
            "that and run the same command again: it measures only what is left"
        )
