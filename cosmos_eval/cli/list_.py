"""`cosmos-eval list`: available models, benchmarks, suites and more, with what each needs on disk."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cosmos_core.printable import list_counts, plural

OURS = "cosmos-eval"
"""The distribution of what no plug-in provides."""

app = typer.Typer(
    help="What there is: models, benchmarks, suites, tasks, readers, templates, trainings, objectives, settings.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: cosmos-eval list benchmarks",
)


@app.command(epilog="Example: cosmos-eval list models")
def models() -> None:
    """Kinds of model spec with their families and what they support, and the released COSMOS checkpoints."""
    from cosmos_eval.models.spec import MODELS, list_models

    rows = []
    for model in list_models():
        source = source_of(MODELS, model.spec.partition(":")[0])
        rows.append((model.spec, model.about, model.needs, source, model.can or "-", model.families or "-"))
    show(("model", "what it is", "needs", "from", "supports", "families"), rows)


@app.command(epilog="Example: cosmos-eval list benchmarks")
def benchmarks() -> None:
    """Every benchmark definition of cosmos-eval and of plug-ins."""
    from cosmos_eval.protocol.benchmark import load_every_benchmark
    from cosmos_eval.protocol.folders import find_provider

    rows = []
    for benchmark in load_every_benchmark():
        expected = list_counts(benchmark.dataset.get("expected", {}))
        needs = str(benchmark.dataset.get("needs", "-"))
        task = f"{benchmark.task} v{benchmark.version}"
        source = find_provider(benchmark.name)
        summary = f"{benchmark.summary} ({source})" if source else benchmark.summary
        rows.append((benchmark.name, task, expected or "-", summary, needs))
    show(("benchmark", "task", "expects", "what it is", "needs in the data root"), rows)


@app.command(epilog="Example: cosmos-eval list suites probe")
def suites(
    name: Annotated[
        str | None, typer.Argument(help="Show what this suite is, its benchmarks with their metrics, and its averages.")
    ] = None,
) -> None:
    """Ordered lists of benchmarks, with the published table that each reproduces."""
    from cosmos_eval.protocol.benchmark import read_every_suite, read_suite
    from cosmos_eval.protocol.folders import find_provider
    from cosmos_eval.protocol.task_registry import headlines

    rows: list[tuple[str, ...]] = []
    if name is not None:
        suite = read_suite(name)
        rows += [("suite", suite.name, suite.summary or "-")]
        for benchmark in suite.benchmarks:
            own = suite.headlines.get(benchmark.name)
            metrics = own or headlines(benchmark.task, benchmark.metrics["primary"])
            rows.append((benchmark.name, ", ".join(metrics), benchmark.summary or "-"))
        for average in suite.averages:
            of = [f"{n} (weight {average.weights[n]:g})" if n in average.weights else n for n in average.benchmarks]
            rows.append(("average", average.name, f"of {', '.join(of)}"))
        rows.append(("published table", "; lacks ".join([suite.reproduces or "not stated", *suite.lacks]), "-"))
        show(("benchmark", "headline metrics", "what it is"), rows)
        return
    for suite in read_every_suite():
        names = ", ".join(benchmark.name for benchmark in suite.benchmarks)
        table = "; lacks ".join([suite.reproduces or "not stated", *suite.lacks])
        rows.append((suite.name, names, table, find_provider(suite.name) or OURS))
    show(("suite", "benchmarks", "published table", "from"), rows)


@app.command(epilog="Example: cosmos-eval list tasks")
def tasks() -> None:
    """Tasks that a benchmark can have, those of plug-ins included."""
    from cosmos_eval.protocol.task_registry import TASKS

    rows = []
    for name, info in TASKS.available().items():
        rows.append((name, info.summary or "-", info.kind.name, source_of(TASKS, name)))
    show(("task", "what it is", "data", "from"), rows)


@app.command(epilog="Example: cosmos-eval list readers masks")
def readers(
    name: Annotated[str | None, typer.Argument(help="Show what each option of this reader means.")] = None,
) -> None:
    """Layouts of data on disk, with the options that a definition gives each; those of plug-ins included."""
    from cosmos_eval.datasets.option_texts import describe_options
    from cosmos_eval.datasets.reader_registry import READERS, reader_info

    rows: list[tuple[str, ...]] = []
    if name is not None:
        for option in describe_options(reader_info(name)):
            rows.append((option.name, "yes" if option.required else "no", option.kind, option.text or "-"))
        show(("option", "required", "value", "what it is"), rows)
        return
    for name in READERS.available():
        reader = reader_info(name)
        options = ", ".join([*reader.required, *(f"[{option}]" for option in reader.optional)])
        rows.append((name, reader.summary or "-", ", ".join(reader.kinds), options, source_of(READERS, name)))
    show(("reader", "what it reads", "data for", "options ([] may be left out)", "from"), rows)


@app.command(epilog="Example: cosmos-eval list templates openai-80")
def templates(
    name: Annotated[str | None, typer.Argument(help="Show the templates of this set, one a line.")] = None,
) -> None:
    """Named sets of prompt templates, for 'prompts.templates' of definitions and 'run --templates'."""
    from cosmos_core.printable import printable
    from cosmos_eval.cli.streams import print_line
    from cosmos_eval.datasets.prompts import FROM_DATASET, list_template_sets, resolve_prompts

    if name is not None:
        templates = resolve_prompts({"templates": name}, None).templates or ()
        for template in templates if not isinstance(templates, dict) else ():
            print_line(printable(template))
        return
    rows = []
    for set_name, texts in list_template_sets().items():
        rows.append((set_name, f"{len(texts):,}", texts[0]))
    rows.append((FROM_DATASET, "-", "those that come with the data (the default)"))
    show(("set", "templates", "first of them"), rows)


@app.command(epilog="Example: cosmos-eval list presets")
def presets() -> None:
    """Trainings that ship with us, for 'cosmos-eval train'."""
    from cosmos_core.config import list_presets, load_preset
    from cosmos_core.workload import steps_of

    rows = []
    for name in list_presets():
        config = load_preset(name)
        steps = steps_of(config, config.samples)[0]
        samples = f"{plural(config.samples, 'sample')} an epoch" if config.samples else "-"
        needs = f"data={config.data}" if config.data else "--set data=SHARDS"
        length = f"{plural(steps, 'step')} of {config.batch_size:,}" if steps else f"batches of {config.batch_size:,}"
        rows.append((name, str(config.model) if isinstance(config.model, str) else "own model", samples, length, needs))
    show(("preset", "model", "samples", "length", "data"), rows)


@app.command(epilog="Example: cosmos-eval list objectives")
def objectives() -> None:
    """What a training can minimise (--set objective=NAME): ours, and those of plug-ins, which this command imports."""
    from cosmos_core.objectives import list_objectives

    rows = [
        (objective.name, objective.about, objective.needs, objective.options or "-", objective.source or "-")
        for objective in list_objectives()
    ]
    show(("objective", "what it is", "needs", "objective_options", "plug-in"), rows)


@app.command(epilog="Example: cosmos-eval list settings")
def settings() -> None:
    """Every setting of a training: its key for --set and YAML files, type, default, and what it does."""
    from cosmos_core.settings import settings as all_settings

    rows = [(setting.key, setting.kind, setting.as_text() or "-", setting.about) for setting in all_settings()]
    show(("setting", "type", "default", "what it does"), rows)


def source_of(registry: Any, name: str) -> str:
    """The distribution that provides an entry, for tables."""
    return str(registry.plugin(name) or OURS)


def show(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in a terminal; tab-separated lines where the output is read by a program."""
    import sys

    from cosmos_core.printable import printable
    from cosmos_eval.cli.streams import drawing_stream

    rows = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=drawing_stream()).print(table)
