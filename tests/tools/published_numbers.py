"""Make `cosmos_eval/published/published.csv` from the collected tables of published figures.

    python -m tests.tools.published_numbers

reads the files of `TABLES` from COSMOS_SHARED_DIR (default: `../shared`). What is added here to a collected row: the
benchmark and metric of ours that it is, where the protocol is the same; the model spec, where it is certain; the
decimals that were printed; and whether a third party reports it (`secondary`).
"""

import csv
import io
import os
import re
from decimal import Decimal
from pathlib import Path

from cosmos_eval.published.figures import OPEN_CLIP_SOURCE
from tests.tools.published_papers import paper_rows
from tests.tools.published_texts import lotlip_rows, multilingual_rows, vtab_rows
from tests.tools.published_words import ROOT, benchmarks_of, spec_of

OUT = ROOT / "cosmos_eval" / "published" / "published.csv"
OUT_38 = OUT.with_name("open_clip_38.csv")
COLUMNS = (
    "paper", "model", "spec", "arch", "pretraining", "benchmark", "metric", "printed", "secondary",
    "printed_benchmark", "printed_metric", "source",
)  # fmt: skip
TABLES = ("published_numbers", "released_checkpoints", "openclip_multilingual_retrieval_results")
"""The collected tables, in the order of `make`."""
SECONDARY = re.compile(r"\b(secondary|unverified|aggregator)\b")
PLACES = (
    (r"^notes repo file id \d+ \(", "notes on the paper ("),
    (r"confirmed by notes id \d+", "confirmed by other notes"),
    (r"^page paperswithcode2 (paper/\d+) \(PWC archive rows\)", r"Papers with Code, archive, \1"),
    (r"^page ", ""),
)
"""How collected sources are written for readers: numbers of files that only the collectors had are left out."""
OF_TABLE = {
    "coco_i2t_r1": ("COCO retrieval", "I2T R@1"),
    "coco_t2i_r1": ("COCO retrieval", "T2I R@1"),
    "flickr_i2t_r1": ("Flickr30k retrieval", "I2T R@1"),
    "flickr_t2i_r1": ("Flickr30k retrieval", "T2I R@1"),
    "imagenet_top1": ("ImageNet-1k zero-shot", "top-1"),
}
"""Columns of released_checkpoints.csv, by the words of published_numbers.csv."""


def shared() -> Path:
    """Where the collected tables lie."""
    return Path(os.environ.get("COSMOS_SHARED_DIR", ROOT.parent / "shared"))


def make(numbers: Path, checkpoints: Path, multilingual: Path | None = None) -> str:
    """The text of published.csv.

    Args:
        multilingual: open_clip's table of multilingual retrieval; with it, also what `published_texts` and
            `published_papers` have.

    Raises:
        ValueError: the two tables disagree, or a figure is not a percentage.
    """
    rows = read(numbers)
    _check_checkpoints(rows, read(checkpoints))
    decimals: dict[str, int] = {}  # a paper prints equal decimals; trailing zeros were lost when figures were collected
    for row in rows:
        shown = len(row["value"].partition(".")[2].rstrip("0"))
        decimals[row["paper"]] = max(decimals.get(row["paper"], 0), shown)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        if row["source"] == OPEN_CLIP_SOURCE:
            continue  # some models of the table that open_clip_38.csv has in full
        paper, benchmark, metric = row["paper"], row["benchmark"], row["metric"]
        for ours, our_metric in benchmarks_of(paper, row["model"], benchmark, metric) or [("", "")]:
            writer.writerow(
                (
                    paper,
                    row["model"],
                    spec_of(paper, row["model"], row["arch"], row["pretraining_data"]),
                    row["arch"],
                    row["pretraining_data"],
                    ours,
                    our_metric,
                    f"{_percentage(row):.{decimals[paper]}f}",
                    "yes" if SECONDARY.search(row["source"]) else "",
                    benchmark,
                    metric,
                    source_of(row["source"]),
                )
            )
    if multilingual is not None:
        writer.writerows([*multilingual_rows(multilingual), *lotlip_rows(), *vtab_rows(), *paper_rows()])
    return out.getvalue()


def make_open_clip(table: Path) -> str:
    """The text of open_clip_38.csv, from open_clip's docs/openclip_results.csv: percent as printed, with model specs.

    A row is of weights that were trained with QuickGELU and measured without where there is a row of the same weights
    with it and other figures: no spec of ours builds that network.
    """
    rows = read(table)
    columns = [name for name in rows[0] if name not in ("name", "pretrained", "params (M)", "FLOPs (B)")]
    figures = {(row["name"], row["pretrained"]): [row[column] for column in columns] for row in rows}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", "pretrained", "spec", *columns])
    for (name, tag), values in figures.items():
        twin = figures.get((f"{name}-quickgelu", tag))
        spec = "" if twin is not None and twin != values else f"open_clip:{name}/{tag}"
        writer.writerow([name, tag, spec, *(f"{Decimal(value) * 100:.2f}" for value in values)])
    return out.getvalue()


def source_of(source: str) -> str:
    """Where a figure stands, in words that help a reader to find it."""
    for pattern, words in PLACES:
        source = re.sub(pattern, words, source)
    return source


def read(path: Path) -> list[dict[str, str]]:
    """A table with a header."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _percentage(row: dict[str, str]) -> float:
    value = float(row["value"])
    if not 0 <= value <= 100:
        raise ValueError(f"{row['paper']}, {row['model']}, {row['benchmark']}: {value:g} is not a percentage")
    return value


def _check_checkpoints(rows: list[dict[str, str]], checkpoints: list[dict[str, str]]) -> None:
    """The model table is in both files: it must say the same."""
    for checkpoint in checkpoints:
        model = f"COSMOS {checkpoint['file'].removesuffix('.pt')}"
        own = [row for row in rows if row["model"] == model]
        for column, (benchmark, metric) in OF_TABLE.items():
            found = [float(r["value"]) for r in own if r["benchmark"].startswith(benchmark) and r["metric"] == metric]
            if found != [float(checkpoint[column])]:
                raise ValueError(f"{model}, {benchmark} {metric}: {checkpoint[column]} and {found}")


def main() -> None:
    """Write the file and say what is in it."""
    text = make(*(shared() / f"{name}.csv" for name in TABLES))
    OUT.write_text(text, encoding="utf-8")
    OUT_38.write_text(make_open_clip(shared() / "openclip_results.csv"), encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    mapped = [row for row in rows if row["benchmark"]]
    print(f"{OUT.relative_to(ROOT)}: {len(rows)} rows, {len(mapped)} of a benchmark of ours, ", end="")
    print(f"{sum(bool(row['spec']) for row in mapped)} of these of a model that a spec names, ", end="")
    print(f"{sum(row['secondary'] == 'yes' for row in rows)} secondary")


if __name__ == "__main__":
    main()
