"""`cosmos-eval results`: list, show, compare and merge results on disk."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_core.printable import plural
from cosmos_eval.cli.list_ import show as print_rows
from cosmos_eval.cli.streams import print_line

app = typer.Typer(
    help="Results on disk: list, show, classes, diff, merge; the schema of RESULT.json.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: cosmos-eval results list runs/eval",
)


@app.command("list", epilog="Example: cosmos-eval results list runs/eval --json")
def list_results(
    folder: Annotated[Path, typer.Argument(help="The --out folder of a run, or a folder of several.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print whole records as JSON.")] = False,
) -> None:
    """Print a line for each result below a folder, and for each benchmark that was requested and not run."""
    import json

    from cosmos_eval.results.record import unchecked_legend
    from cosmos_eval.results.store import located_results, read_not_run
    from cosmos_eval.results.summary import LISTED, as_listed, as_record, plain

    located, not_run = located_results(folder), read_not_run(folder)
    if as_json:
        records = [as_record(path, result) for path, result in located]
        print(json.dumps({"results": records, "not_run": not_run}, indent=2))
        return
    print_rows(LISTED, [as_listed(path, result, folder) for path, result in located])
    for line in [*unchecked_legend([result for _, result in located]), *not_run]:
        print(plain(line))


@app.command(epilog="Example: cosmos-eval results show runs/eval/cosmos-toybox-2adfb4b1/toybox-retrieval")
def show(path: Annotated[Path, typer.Argument(help="RESULT.json, or a folder that holds one.")]) -> None:
    """Print every field of one result: what was measured, the metrics, and how they were made."""
    from cosmos_eval.results.summary import as_fields

    print_rows(("field", "value"), as_fields(path))


@app.command(epilog="Example: cosmos-eval results classes runs/eval --out classes.csv")
def classes(
    path: Annotated[Path, typer.Argument(help="RESULT.json, or a folder that holds one; with --out also several.")],
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, writable=True, help="Write the classes of all results as CSV here.")
    ] = None,
) -> None:
    """Print the recall of each class in percent (multi-label: average precision, segmentation: IoU), worst first."""
    if out is None:
        from cosmos_eval.results.class_file import CLASSES
        from cosmos_eval.results.class_rows import CLASS_COLUMNS, all_rows
        from cosmos_eval.results.store import read_result
        from cosmos_eval.results.summary import find_result_file

        file = find_result_file(path, beside=CLASSES)
        print_rows(CLASS_COLUMNS, all_rows(read_result(file), file))
        return
    from cosmos_core.files import atomic_write_text
    from cosmos_eval.report.class_frame import class_frame
    from cosmos_eval.report.data_files import csv_text
    from cosmos_eval.results.class_rows import require_classes
    from cosmos_eval.results.store import located_results, read_result

    results = [read_result(path)] if path.is_file() else [result for _, result in located_results(path)]
    with_classes = [result for result in results if result.classes is not None]
    if not with_classes:
        require_classes(results[0], path)
    frame = class_frame(with_classes)
    atomic_write_text(out, csv_text(frame))
    print_line(
        f"{out}: {plural(len(frame), 'class', 'classes')} of {len(with_classes):,} of {plural(len(results), 'result')}"
    )


@app.command(epilog="Example: cosmos-eval results diff before/cosmos-last-1a2b3c4d after/cosmos-last-5e6f7a8b")
def diff(
    first: Annotated[Path, typer.Argument(help="RESULT.json, or a folder of one model.")],
    second: Annotated[Path, typer.Argument(help="Likewise.")],
) -> None:
    """Print every field and metric (in percent) that differs; exit 1 when the numbers differ. Whether a difference is
    more than chance is tested by 'cosmos-eval regress'."""
    from cosmos_eval.results.summary import DIFFERENCES, differences

    rows, compared, different = differences(first, second)
    if rows:
        print_rows(DIFFERENCES, rows)
    benchmarks = plural(compared, "benchmark")
    if different:
        print_line(f"different numbers in {different}, {benchmarks} compared")
        raise typer.Exit(1)
    print_line(f"equal numbers, {benchmarks} compared")


@app.command(epilog="Example: cosmos-eval results merge machine1/eval machine2/eval --out all")
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders of results.")],
    out: Annotated[
        Path, typer.Option(file_okay=False, writable=True, help="Folder to write; results that are in it stay.")
    ],
) -> None:
    """Copy the results of several machines to one folder, each measurement once. If two results of one measurement have
    different numbers, they are named and nothing is written."""
    from cosmos_eval.results.merge import merge as merge_folders

    merged = merge_folders(folders, out)
    total, models = plural(merged.copied + merged.existing, "result"), plural(merged.models, "model")
    print_line(f"{out}: {total} of {models}: {merged.copied} copied, {merged.existing} existed already")
    if merged.repeated:
        print_line(f"{merged.repeated} more with the same identity and the same numbers left out")
    for folder in merged.aside:
        print_line(f"{folder}: a second result of this benchmark, with another protocol, data, precision or limit")
    for folder in merged.not_run:
        print_line(f"{folder}: not run anywhere")


@app.command(epilog="Example: cosmos-eval results schema > result.schema.json")
def schema() -> None:
    """Print the JSON Schema of RESULT.json."""
    from importlib import resources

    print(resources.files("cosmos_eval.results").joinpath("schema.json").read_text(encoding="utf-8"), end="")
