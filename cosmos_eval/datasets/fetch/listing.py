"""The page `docs/datasets.md`: for each benchmark how its data are fetched, how large they are and under which terms.

python -m cosmos_eval.datasets.fetch.listing docs/datasets.md
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_eval.datasets.fetch.plan import Amount
from cosmos_eval.datasets.fetch.plan_text import amount_text
from cosmos_eval.datasets.fetch.table import Artifact, Recipe, Source, Table, load_table

INTRODUCTION = """# Datasets

<!-- Written by `python -m cosmos_eval.datasets.fetch.listing docs/datasets.md` from sources.yaml beside it. -->

`cosmos-eval data fetch NAMES... --data-root data` fetches what benchmarks or suites need; with `--dry-run` it only says
what that would be, and uses no network. Nothing is fetched unless you ask for it.

- **automatic**: nothing else is needed.
- **token**: the dataset is gated on the Hugging Face hub. Accept its terms on its page there, then set `HF_TOKEN` to a
  token of the same account.
- **by hand**: at least one part needs a person: a form, an account, or a choice. [The steps](#by-hand) are below, and
  `data fetch` prints them. It fetches the other parts.

A copy by others of data that their publisher gives only after a form or with an account is fetched only if you name it
and accept the terms: `--source NAME --accept-terms BENCHMARK`.

Sizes are of the download. Terms are as far as we know them; the publisher's page is what holds. None of these addresses
could be tried where this table was written: they are taken from torchvision, TensorFlow Datasets, mteb, publishers'
repositories and stored pages of the hub. Where a checksum or a commit is known, another file is refused. Remarks
say where none is."""

HOW = ("automatic", "token", "by hand")


@dataclass(frozen=True)
class Row:
    """Benchmarks that need the same data."""

    benchmarks: tuple[str, ...]
    recipe: Recipe
    size: str
    terms: tuple[str, ...]
    remarks: tuple[str, ...]


def list_sources(table: Table) -> list[Row]:
    """One row for each set of benchmarks that need the same data, sorted by name."""
    together: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Recipe]] = {}
    for _, recipe in sorted(table.recipes.items()):
        together.setdefault((tuple(artifact.name for artifact in recipe.artifacts), recipe.prepare), []).append(recipe)
    return [
        Row(
            tuple(recipe.benchmark for recipe in recipes),
            recipes[0],
            _size(recipes[0].artifacts),
            tuple(dict.fromkeys(artifact.terms for artifact in recipes[0].artifacts)),
            _remarks(recipes[0]),
        )
        for recipes in together.values()
    ]


def count_by_how(table: Table) -> dict[str, int]:
    """How many benchmarks are automatic, need a token, or a person."""
    counts = Counter(recipe.how for recipe in table.recipes.values())
    return {how: counts[how] for how in HOW}


def datasets_page(table: Table) -> str:
    """The whole page, in Markdown."""
    counts = count_by_how(table)
    summary = ", ".join(f"{counts[how]} {how}" for how in HOW)
    lines = [INTRODUCTION, "", f"Of {len(table.recipes)} benchmarks: {summary}.", ""]
    lines += ["| benchmarks | how | download | terms | remarks |", "|---|---|---|---|---|"]
    for row in list_sources(table):
        names = ", ".join(f"`{name}`" for name in row.benchmarks)
        cells = [names, row.recipe.how, row.size, "; ".join(row.terms), "; ".join(row.remarks)]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') or '-' for cell in cells)} |")
    lines += ["", "## By hand", "", "The folder of the datasets is `data` here."]
    for artifact in table.artifacts.values():
        if not artifact.manual:
            continue
        users = [name for name, recipe in sorted(table.recipes.items()) if artifact in recipe.artifacts]
        lines += ["", f"### {artifact.name}", "", f"For {', '.join(f'`{name}`' for name in users)}.", ""]
        if gated := [source for source in artifact.automatic if source.access == "token"]:
            lines += [f"Fetched with a token from <{gated[0].page}>, or by hand:", ""]
        lines += [f"{i}. {step}" for i, step in enumerate(_page_steps(artifact), start=1)]
        for source in artifact.sources:
            if source.restricted_copy:
                option = f"`--source {source.name} --accept-terms {users[0]}`"
                lines += ["", f"A copy by others, <{source.page}>, if you accept the terms: {option}"]
    return "\n".join(lines) + "\n"


def _page_steps(artifact: Artifact) -> list[str]:
    """Steps of all manual sources, each page before its steps."""
    steps = []
    for source in artifact.manual:
        page = [f"The page: <{source.address}>"] if "://" in source.address else []
        steps += page + [step.replace("{data_root}", "data") for step in source.steps]
    return steps


def _size(artifacts: Sequence[Artifact]) -> str:
    if not artifacts:
        return "nothing"
    sizes, exact = [], True
    for artifact in artifacts:
        size, is_exact = _artifact_size(artifact)
        if size is not None or any(source.kind != "manual" for source in artifact.sources) or _is_downloaded(artifact):
            sizes.append(size)
            exact = exact and is_exact
    return amount_text(Amount(sum(size or 0 for size in sizes), exact, sizes.count(None)))


def _artifact_size(artifact: Artifact) -> tuple[int | None, bool]:
    """Bytes of the first source, or of another where only that is known; and whether they are exact."""
    first = next(iter(artifact.automatic), artifact.sources[0])
    known = [source.known_size for source in (first, *artifact.sources) if source.known_size is not None]
    return (known[0] if known else None), first.size is not None


def _is_downloaded(artifact: Artifact) -> bool:
    """Whether a person downloads it, and does not make it with a command of ours."""
    return any("://" in source.address for source in artifact.manual)


def _remarks(recipe: Recipe) -> tuple[str, ...]:
    remarks = []
    for artifact in recipe.artifacts:
        first = next(iter(artifact.automatic), None)
        if first is not None and (remark := _pinning(first)):
            remarks.append(remark)
    remarks += [f"`data prepare {step}` follows" for step in recipe.prepare]
    if not recipe.artifacts:
        remarks.append("rendered by the program")
    if recipe.instead:
        remarks.append(f"consider {recipe.instead}")
    return tuple(dict.fromkeys(remarks))


def _pinning(source: Source) -> str:
    """What is not sure of a source that is fetched without being named, in few words."""
    if source.kind == "hub":
        return "" if source.revision or source.checksums else "not pinned"
    plain = " over plain http" if source.address.startswith("http:") else ""
    return "" if source.checksums else f"no checksum{plain}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(datasets_page(load_table()), encoding="utf-8")
