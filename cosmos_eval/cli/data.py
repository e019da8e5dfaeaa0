"""`cosmos-eval data`: check that the data of benchmarks is complete; fetch them; prepare what can be made."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cosmos_core.printable import list_counts, plural
from cosmos_eval.cli.options import MaxImagePixels, parse_workers
from cosmos_eval.cli.streams import print_line

if TYPE_CHECKING:
    from cosmos_eval.progress import Reporter
    from cosmos_eval.protocol.benchmark import Benchmark

FIRST = 3
"""How many of the items left out are named."""
SHUFFLES = ("aro-coco-order", "aro-flickr30k-order")
"""What `data prepare` shuffles."""

app = typer.Typer(
    help="Check the data of benchmarks on disk; fetch them; prepare what can be made.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: cosmos-eval data check coco-val2017-retrieval --data-root data",
)


@app.command(epilog="Example: cosmos-eval data check coco-val2017-retrieval my.yaml --data-root data --deep")
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Benchmarks, suites, YAML files, folders; none: a table of every benchmark."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that holds the datasets (default: data, or the YAML's own folder).")
    ] = None,
    max_image_pixels: MaxImagePixels = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every image and mask.")] = False,
) -> None:
    """Print for each benchmark whether its data is complete; exit 1 if something is missing.

    Without names, print a table of what is ready, what is missing and how to get it; exit 0.
    """
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.protocol.data_folder import notes_on_folders
    from cosmos_eval.run.fetch_advice import advise_fetching
    from cosmos_eval.run.plan import resolve_benchmarks

    if not names:
        _print_overview(data_root, deep)
        return
    benchmarks = resolve_benchmarks(names)
    for note in notes_on_folders(names, data_root):
        print_line(f"note     {note}")
    not_ready = _print_checks(benchmarks, data_root, deep, make_reporter())
    advice = advise_fetching(not_ready, data_root)
    if advice:
        print_line(f"note     {advice}")
    if not_ready:
        raise typer.Exit(1)


def _print_overview(data_root: Path | None, deep: bool) -> None:
    """Print the table of all benchmarks."""
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.cli.data_table import describe_states
    from cosmos_eval.protocol.benchmark import load_every_benchmark
    from cosmos_eval.run.data_overview import find_data_states

    states = find_data_states(load_every_benchmark(), data_root, deep=deep, reporter=make_reporter())
    for line in describe_states(states, data_root):
        print_line(line)


def _print_checks(
    benchmarks: "Sequence[Benchmark]", data_root: Path | None, deep: bool, reporter: "Reporter"
) -> "list[Benchmark]":
    """Print whether the data of each benchmark is complete; those of which something is missing."""
    from cosmos_eval.datasets.consistency import label_problem
    from cosmos_eval.progress import use_benchmark_name
    from cosmos_eval.run.plan import check_data, merge_equal_problems

    problems: list[tuple[str, str]] = []
    not_ready = []
    for benchmark in benchmarks:
        with use_benchmark_name(benchmark.name):
            _, report = check_data(benchmark, data_root, deep=deep, reporter=reporter)
        counts = list_counts(report.found)
        problems += [(benchmark.name, problem) for problem in report.problems]
        if report.problems:
            not_ready.append(benchmark)
        else:
            print_line(f"ready    {benchmark.name}" + (f": {counts}" if counts else ""))
        for remark in report.remarks:
            print_line(f"note     {benchmark.name}: {remark}")
        if report.left_out:
            named = "; ".join(report.left_out[:FIRST])
            more = f"; and {len(report.left_out) - FIRST:,} more" if len(report.left_out) > FIRST else ""
            print_line(f"left out {benchmark.name}: {plural(len(report.left_out), 'item')}: {named}{more}")
    for problem in merge_equal_problems(problems):
        print_line(f"{label_problem(problem)}  {problem}")
    return not_ready


@app.command(epilog="Example: cosmos-eval data fetch cifar100-vtab sugarcrepe --data-root data")
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks or suites.")] = None,
    data_root: Annotated[
        Path, typer.Option(file_okay=False, writable=True, help="Folder for the datasets; created if absent.")
    ] = Path("data"),
    source: Annotated[
        list[str] | None,
        typer.Option(help="Name of a source to fetch from, as --dry-run shows them; repeatable (default: in order)."),
    ] = None,
    accept_terms: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BENCHMARK",
            help="Benchmark for which you accept the terms of a copy that is not the publisher's; with --source.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before fetching.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be fetched, without network.")] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep archives in DATA_ROOT/.cosmos-eval after unpacking.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Print what can be fetched for which benchmark.")] = False,
) -> None:
    """Fetch the data of benchmarks, unpack them, make their masks and check them. Prints first what will be fetched,
    how large it is and under which terms, and asks once. A fetch that was stopped goes on where it was."""
    from cosmos_core.errors import RequestError
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.cli.fetching import fetch_planned, print_fetchable
    from cosmos_eval.datasets.fetch.plan import make_fetch_plan
    from cosmos_eval.run.plan import resolve_benchmarks

    if list_:
        print_fetchable(names or [])
        return
    if not names:
        raise RequestError("give the benchmarks or suites to fetch; 'cosmos-eval data fetch --list' shows them")
    benchmarks = resolve_benchmarks(names)
    plan = make_fetch_plan(benchmarks, data_root, sources=source or (), accepted_terms=accept_terms or ())
    reporter = make_reporter()
    failed = fetch_planned(plan, print_line, reporter, ask=not yes, dry_run=dry_run, keep_archives=keep_archives)
    if dry_run:
        return
    not_ready = _print_checks(benchmarks, data_root, False, reporter)
    if failed:
        raise RequestError(f"not everything was fetched: {'; '.join(failed)}; the same command goes on from here")
    if not_ready:
        raise typer.Exit(1)


@app.command(epilog="Example: cosmos-eval data prepare coco-object --data-root data")
def prepare(
    name: Annotated[
        str,
        typer.Argument(
            help="What to make: toybox; masks of coco-object, coco-stuff, cityscapes or context; shuffles of "
            "aro-coco-order or aro-flickr30k-order; resized, the images of benchmarks at a model's input size."
        ),
    ],
    benchmarks: Annotated[
        list[str] | None, typer.Argument(help="resized: benchmarks, suites or YAML files whose images are resized.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            writable=True,
            help="Data root to write (toybox: a folder that is empty or absent, default data/toybox; resized: a folder "
            "of its own, default data/resized; others: default --data-root).",
        ),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Masks, shuffles, resized: folder that holds the datasets (default: --out, or data)."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="toybox: seed of the dataset; shuffles: seed of the random order.")
    ] = 0,
    tagger: Annotated[
        str,
        typer.Option(help="Shuffles: python:module:function, from a caption to pairs of a token and its Penn tag."),
    ] = "",
    train: Annotated[int, typer.Option(min=1, max=10_000_000, help="toybox: scenes in the training shards.")] = 2000,
    test: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="toybox: scenes for retrieval and segmentation.")
    ] = 1000,
    per_class: Annotated[
        int, typer.Option(min=1, max=100_000, help="toybox: images of each class for classification.")
    ] = 20,
    size: Annotated[
        int, typer.Option(min=1, max=8192, help="resized: side of the model's square input, in pixels.")
    ] = 224,
    resize: Annotated[str, typer.Option(help="resized: shortest, longest or squash.")] = "shortest",
    max_image_pixels: MaxImagePixels = None,
    interpolation: Annotated[str, typer.Option(help="resized: bicubic or bilinear.")] = "bicubic",
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            callback=parse_workers,
            help="resized: threads that decode and resize; auto: the cores that may be used.",
        ),
    ] = "auto",
) -> None:
    """Write the toybox dataset in the formats of COCO, Flickr30k, ImageNet, CIFAR-100, VOC and webdataset; or make the
    masks that a segmentation dataset's publisher leaves to its users; or shuffle captions for ARO's Order sets; or
    resize images once for `run --resized`. Masks and resized images that exist are kept."""
    from cosmos_core.errors import RequestError
    from cosmos_eval.cli.console import make_reporter

    if name == "resized":
        _prepare_resized(benchmarks or [], out, data_root, size, resize, interpolation, workers)
        return
    if benchmarks:
        raise RequestError(f"'data prepare {name}' takes no further names, got {' '.join(benchmarks)}")
    if name in SHUFFLES:
        from cosmos_eval.datasets.perception.aro_order import CAPTIONS_OF, prepare_aro_order
        from cosmos_eval.protocol.benchmark import load_benchmark
        from cosmos_eval.run.plan import DEFAULT_DATA_ROOT

        order = prepare_aro_order(
            name, load_benchmark(CAPTIONS_OF[name]), data_root or out or DEFAULT_DATA_ROOT, out, seed, tagger
        )
        print_line(
            f"{plural(order.items, 'item')} written to {order.path}, shuffled by the rules: {', '.join(order.rules)}"
        )
        if not tagger:
            print(
                "the two rules on nouns and adjectives need --tagger; a YAML with `dataset: {shuffles: 2}` reads these"
            )
        return
    if name != "toybox":
        from cosmos_eval.datasets.mmseg.prepare import prepare_masks
        from cosmos_eval.run.plan import DEFAULT_DATA_ROOT

        made = prepare_masks(name, data_root or out or DEFAULT_DATA_ROOT, out, reporter=make_reporter())
        print_line(
            f"{plural(made.written, 'mask')} written to {made.folder} from {made.source}, "
            f"{made.existing:,} existed already"
        )
        return
    from cosmos_eval.datasets.toybox import prepare as prepare_toybox

    if data_root is not None:
        raise RequestError("toybox is rendered, not read; say where to write it with --out and leave --data-root out")
    out = out or Path("data/toybox")
    prepare_toybox(out, seed=seed, train=train, test=test, per_class=per_class, reporter=make_reporter())
    print_line(f"toybox written to {out}; try: cosmos-eval run --benchmark {out}/toybox-coco.yaml")


def _prepare_resized(
    names: list[str],
    out: Path | None,
    data_root: Path | None,
    size: int,
    resize: str,
    interpolation: str,
    workers: int | str,
) -> None:
    from cosmos_core.errors import RequestError
    from cosmos_core.usable_resources import usable_cores
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.datasets import load
    from cosmos_eval.datasets.resized import write_resized
    from cosmos_eval.models.preprocess import ImagePreprocess
    from cosmos_eval.run.options import EncodingOptions
    from cosmos_eval.run.plan import make_plan

    if not names:
        raise RequestError(
            "resized needs the benchmarks whose images it resizes: 'cosmos-eval data prepare resized BENCHMARK'"
        )
    threads = EncodingOptions(workers=workers).workers  # refuses what is not a number of workers
    threads = max(1, threads) if isinstance(threads, int) else usable_cores()
    preprocess = ImagePreprocess(size, resize=resize, interpolation=interpolation)
    reporter = make_reporter()
    out = out or Path("data/resized")
    for planned in make_plan(names, data_root, reporter=reporter):
        data = load(planned.benchmark, planned.data_root, reporter=reporter)
        made, kept = write_resized(data.images, preprocess.geometry(), preprocess.pixels, out, reporter, threads)
        print_line(f"{planned.benchmark.name}: {plural(made, 'image')} written to {out}, {kept:,} existed already")
    print_line(f"Read them with: cosmos-eval run --resized {out}")
