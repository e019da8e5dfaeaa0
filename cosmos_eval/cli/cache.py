"""`cosmos-eval cache`: the feature cache that runs write."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_core.printable import plural
from cosmos_eval.cli.streams import print_line

app = typer.Typer(
    help="Feature cache: list, verify, clear, export.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Example: cosmos-eval cache list --cache runs/eval",
)
CacheFolder = Annotated[
    Path, typer.Option("--cache", help="The cache folder, or the --out folder of a run that has one.")
]
DEFAULT = Path("runs/eval")
Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL]...", help="Model specs, or beginnings of digests or ids (default: every model)."),
]


@app.command("list", epilog="Example: cosmos-eval cache list --cache runs/eval")
def list_(cache: CacheFolder = DEFAULT) -> None:
    """List cached models with their numbers of images and texts, size and last use."""
    from datetime import datetime

    from cosmos_eval.cache.contents import find_cache_folder, list_cached_models
    from cosmos_eval.cli.list_ import show
    from cosmos_eval.datasets.fetch.plan_text import size_text

    store = find_cache_folder(cache)
    rows, total = [], 0
    for cached in list_cached_models(store):
        size, used = cached.size(), cached.last_used()
        total += size
        rows.append(
            (
                cached.id,
                cached.info["spec"],
                cached.info["digest"][:8] or "-",
                f"{cached.info['precision']} {cached.info['device']}",
                f"{cached.count_features('images'):,}",
                f"{cached.count_features('texts'):,}",
                size_text(size),
                datetime.fromtimestamp(used).strftime("%Y-%m-%d %H:%M") if used else "-",
            )
        )
    show(("id", "model", "digest", "precision", "images", "texts", "size", "last used"), rows)
    print_line(f"{size_text(total)} in {store}")


@app.command(epilog="Example: cosmos-eval cache verify --cache runs/eval")
def verify(
    models: Models = None,
    cache: CacheFolder = DEFAULT,
    drop: Annotated[
        bool, typer.Option("--drop", help="Remove damaged files; the next run computes their features again.")
    ] = False,
) -> None:
    """Read every file and compare it with the checksum in its name; exit 1 if one is damaged."""
    from cosmos_eval.cache.contents import find_cache_folder, find_damaged_files

    store = find_cache_folder(cache)
    files = broken = 0
    for space in _chosen_or_all(store, models):
        files += len(space.files())
        for path, reason in find_damaged_files(space):
            broken += 1
            print_line(f"{'removed' if drop else 'damaged'}  {path.relative_to(store)}: {reason}")
            if drop:
                path.unlink(missing_ok=True)
    print_line(f"{plural(files, 'file')}, {broken:,} damaged in {store}")
    if broken:
        raise typer.Exit(1)


@app.command(epilog="Example: cosmos-eval cache clear open_clip:ViT-B-16/laion2b_s34b_b88k --cache runs/eval")
def clear(models: Models = None, cache: CacheFolder = DEFAULT) -> None:
    """Remove cached features; results stay, and a later run computes what it needs again."""
    from cosmos_eval.cache.contents import find_cache_folder, remove_cached_models
    from cosmos_eval.cache.shard_items import remove_shard_items
    from cosmos_eval.datasets.fetch.plan_text import size_text

    store = find_cache_folder(cache)
    spaces = _chosen_or_all(store, models)
    freed = remove_cached_models(spaces)
    if not models:
        freed += remove_shard_items(store)
    print_line(f"{size_text(freed)} of {plural(len(spaces), 'model')} removed from {store}")


@app.command(epilog="Example: cosmos-eval cache export cosmos:runs/exp1/last.pt --out vectors --cache runs/eval")
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model spec, or the beginning of a digest or an id.")],
    out: Annotated[
        Path, typer.Option(file_okay=False, writable=True, help="Folder to write; run evaluates it as embeddings:OUT.")
    ],
    cache: CacheFolder = DEFAULT,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="Only the features that this benchmark uses; repeatable (default: all).")
    ] = None,
) -> None:
    """Write a model's cached features for evaluation on a machine without its weights."""
    from cosmos_core.errors import RequestError
    from cosmos_eval.cache.contents import find_cache_folder, find_cached_models
    from cosmos_eval.cache.export import export_features, find_without_texts

    store = find_cache_folder(cache)
    spaces = find_cached_models(store, model)
    if len(spaces) > 1:
        several = "; ".join(
            f"{space.id} ({space.info['precision']} {space.info['device']}, digest {space.info['digest'][:8]})"
            for space in spaces
        )
        raise RequestError(f"{model!r} matches {len(spaces)} models in {store}: {several}; give one of the ids")
    images, texts = export_features(spaces[0], out, tuple(benchmark or ()))
    print_line(f"{plural(images, 'image')} and {plural(texts, 'text')} written to {out}; use it as embeddings:{out}")
    if without_texts := find_without_texts(spaces[0], benchmark or ()):
        print_line(f"without texts: {', '.join(without_texts)}; right for probes, others have to be run to their end")


def _chosen_or_all(store: Path, models: list[str] | None) -> list:
    from cosmos_eval.cache.contents import find_cached_models, list_cached_models

    if not models:
        return list_cached_models(store)
    return list(dict.fromkeys(space for pattern in models for space in find_cached_models(store, pattern)))
