"""`cosmos-eval regress`: paired tests whether a candidate is worse than a baseline."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_eval.cli.options import AllowUnchecked

EXAMPLE = "Example: cosmos-eval regress baseline/ runs/eval --max-drop 0.5 --junit regress.xml"


def regress(
    baseline: Annotated[Path, typer.Argument(help="A RESULT.json, or a folder with results of one model.")],
    candidate: Annotated[Path, typer.Argument(help="Likewise, of the model that may be worse.")],
    max_drop: Annotated[
        float, typer.Option(min=0, max=100, help="Points: a drop of at most this is not a regression.")
    ] = 0.0,
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Probability of any false alarm, over all tests together.")
    ] = 0.05,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric to test instead of the headline ones (recall@1 both ways, the primary); repeatable."),
    ] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="Test these of the baseline's benchmarks only; repeatable.")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="Suite, or its YAML file: test its benchmarks, and the averages that it declares."),
    ] = None,
    only_averages: Annotated[
        bool, typer.Option("--only-averages", help="With --suite: test its averages, not its benchmarks.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap that tests mean IoUs and averages.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, max=10_000_000, help="Resamples of that bootstrap.")] = 10_000,
    allow_precision: Annotated[
        bool, typer.Option("--allow-precision", help="Compare results of different precisions.")
    ] = False,
    allow_transforms: Annotated[
        bool,
        typer.Option("--allow-transforms", help="Compare transformed embeddings (run --quantize, ...) with others."),
    ] = False,
    allow_unchecked: AllowUnchecked = False,
    markdown: Annotated[
        Path | None,
        typer.Option(dir_okay=False, writable=True, help="Write the printed text, for a pull request's summary."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, writable=True, help="Write everything, as JSON.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(dir_okay=False, writable=True, help="Write the tests as JUnit XML.")
    ] = None,
) -> None:
    """Compare two models sample by sample. Exit code 1: the candidate is worse by more than --max-drop; 0: no such drop
    was found; 2: results cannot be compared, or have too few samples for a test."""
    from cosmos_core.errors import RequestError
    from cosmos_core.files import atomic_write_text
    from cosmos_eval.cli.console import make_reporter
    from cosmos_eval.progress import use_reporter
    from cosmos_eval.protocol.benchmark import read_suite
    from cosmos_eval.regress import text
    from cosmos_eval.regress.answer import Settings
    from cosmos_eval.regress.compare import compare
    from cosmos_eval.results.record import refuse_unchecked
    from cosmos_eval.results.store import read_model

    for option, path in (("--markdown", markdown), ("--json", json), ("--junit", junit)):
        if path is not None and path.is_dir():
            raise RequestError(f"{option} {path} is a folder; give a file")
    settings = Settings(
        max_drop=max_drop / 100,
        alpha=alpha,
        metrics=tuple(metric or ()),
        benchmarks=tuple(benchmark or ()),
        seed=seed,
        resamples=resamples,
        allow_precision=allow_precision,
        allow_transforms=allow_transforms,
        only_averages=only_averages,
    )
    if only_averages and suite is None:
        raise RequestError("--only-averages needs --suite NAME, which declares the averages")
    before, after = read_model(baseline), read_model(candidate)
    refuse_unchecked([result for _, result in (*before.values(), *after.values())], allow_unchecked)
    with use_reporter(make_reporter()):
        answer = compare(before, after, settings, read_suite(suite) if suite is not None else None)
    print(text.markdown(answer), end="")
    for path, write in ((markdown, text.markdown), (json, text.to_json), (junit, text.to_junit)):
        if path is not None:
            atomic_write_text(path, write(answer))
    if answer.exit_code:
        raise typer.Exit(answer.exit_code)
