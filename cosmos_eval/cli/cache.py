"""`cosmos-eval cache`: the embeddings that runs have kept."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_eval.cli.streams import print_line

app = typer.Typer(
    help="Embeddings that runs have kept: list, verify, clear, export.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: cosmos-eval cache list --cache runs/eval",
)
Place = Annotated[Path, typer.Option("--cache", help="The store, or the --out folder of a run that kept one.")]
DEFAULT = Path("runs/eval")
Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL]...", help="Model specs, or beginnings of digests or ids (default: every model)."),
]


@app.command("list", epilog="Example: cosmos-eval cache list --cache runs/eval")
def list_(cache: Place = DEFAULT) -> None:
    """Models, their numbers of pictures and texts, sizes, and when each was last used."""
    from datetime import datetime

    from cosmos_eval.cache.contents import held, store_at
    from cosmos_eval.cli.list_ import show

    store = store_at(cache)
    rows, total = [], 0
    for one in held(store):
        size, used = one.size(), one.used()
        total += size
        rows.append(
            (
                one.id,
                one.about["spec"],
                one.about["digest"][:8] or "-",
                f"{one.about['precision']} {one.about['device']}",
                f"{one.rows('pictures'):,}",
                f"{one.rows('texts'):,}",
                megabytes(size),
                datetime.fromtimestamp(used).strftime("%Y-%m-%d %H:%M") if used else "-",
            )
        )
    show(("id", "model", "digest", "precision", "pictures", "texts", "size", "last used"), rows)
    print_line(f"{megabytes(total)} in {store}")


@app.command(epilog="Example: cosmos-eval cache verify --cache runs/eval")
def verify(
    models: Models = None,
    cache: Place = DEFAULT,
    drop: Annotated[bool, typer.Option("--drop", help="Remove what is damaged; the next run makes it anew.")] = False,
) -> None:
    """Read every file and compare it with the checksum in its name; exit 1 when one is damaged."""
    from cosmos_eval.cache.contents import damaged, store_at

    store = store_at(cache)
    files = broken = 0
    for one in _some(store, models):
        files += len(one.files())
        for path, reason in damaged(one):
            broken += 1
            print_line(f"{'removed' if drop else 'damaged'}  {path.relative_to(store)}: {reason}")
            if drop:
                path.unlink(missing_ok=True)
    print_line(f"{files:,} files, {broken:,} damaged in {store}")
    if broken:
        raise typer.Exit(1)


@app.command(epilog="Example: cosmos-eval cache clear open_clip:ViT-B-16/laion2b_s34b_b88k --cache runs/eval")
def clear(models: Models = None, cache: Place = DEFAULT) -> None:
    """Remove stored embeddings; results stay, and a later run makes what it needs anew."""
    from cosmos_eval.cache.contents import clear as remove
    from cosmos_eval.cache.contents import store_at

    store = store_at(cache)
    some = _some(store, models)
    print_line(
        f"{megabytes(remove(some))} of {len(some)} {'model' if len(some) == 1 else 'models'} removed from {store}"
    )


@app.command(epilog="Example: cosmos-eval cache export cosmos:runs/exp1/last.pt --out vectors --cache runs/eval")
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model spec, or the beginning of a digest or an id.")],
    out: Annotated[
        Path, typer.Option(file_okay=False, writable=True, help="Folder to write; run evaluates it as embeddings:OUT.")
    ],
    cache: Place = DEFAULT,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="Only what this benchmark asked for; repeatable (default: everything).")
    ] = None,
) -> None:
    """Write a model's vectors for evaluation on a machine without its weights."""
    from cosmos_core.errors import RequestError
    from cosmos_eval.cache.contents import chosen, store_at
    from cosmos_eval.cache.export import export_rows

    store = store_at(cache)
    found = chosen(store, model)
    if len(found) > 1:
        several = "; ".join(
            f"{one.id} ({one.about['precision']} {one.about['device']}, digest {one.about['digest'][:8]})"
            for one in found
        )
        raise RequestError(f"{model!r} is {len(found)} sets of embeddings in {store}: {several}; give one of the ids")
    pictures, texts = export_rows(found[0], out, tuple(benchmark or ()))
    print_line(f"{pictures:,} pictures and {texts:,} texts written to {out}; use it as embeddings:{out}")


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _some(store: Path, models: list[str] | None) -> list:
    from cosmos_eval.cache.contents import chosen, held

    if not models:
        return held(store)
    return list(dict.fromkeys(one for word in models for one in chosen(store, word)))
