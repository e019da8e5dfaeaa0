"""Published figures: numbers that papers and leaderboards print, with source, benchmark and metric.

`published.csv` and `open_clip_38.csv` are made by `tests/tools/published_numbers.py` from the collected tables. A
figure has one of our benchmarks and metrics only if the protocol is the same, and a model spec only if it certainly
names that network. open_clip's table of 38 datasets is kept as it is printed, a line for each model: as single figures
it would be ten times as large.
"""

from decimal import Decimal
from functools import cache
from importlib import resources
from io import StringIO

import pandas as pd

from cosmos_eval.report.exchange_open_clip import columns_of_38

OPEN_CLIP_38 = "open_clip_38.csv"
OPEN_CLIP_KEYS = ("name", "pretrained", "spec")
OPEN_CLIP_PAPER = "open_clip 38-dataset suite (DataComp eval)"
OPEN_CLIP_SOURCE = "github:mlfoundations/open_clip docs/openclip_results.csv"
COLUMNS = (
    "paper", "model", "spec", "arch", "pretraining", "benchmark", "metric", "value", "decimals", "printed", "source",
    "secondary", "as_printed",
)  # fmt: skip


def published(secondary: bool = False, unmapped: bool = False) -> pd.DataFrame:
    """(figures, columns of COLUMNS), in the file's order.

    `paper`, `model`, `arch` and `pretraining` are as printed, and `as_printed` gives the printed benchmark and metric;
    `benchmark` and `metric` are ours; `spec` is the model spec or empty; `value` is a fraction, `printed` the
    percentage as the source prints it, and `decimals` the number of its decimals. A figure that belongs to two of our
    benchmarks (the same data in two layouts) has a row for each.

    Args:
        secondary: also figures that only third parties report; unchecked, so hints only.
        unmapped: also figures of other benchmarks than ours; their `benchmark` and `metric` are empty.
    """
    frame = _read()
    if not secondary:
        frame = frame[~frame["secondary"]]
    if not unmapped:
        frame = frame[frame["benchmark"] != ""]
    return frame.reset_index(drop=True)


@cache
def _read() -> pd.DataFrame:
    frame = pd.concat([_read_csv("published.csv"), _open_clip_38()], ignore_index=True)
    frame["decimals"] = frame["printed"].str.partition(".")[2].str.len()
    frame["value"] = [float(Decimal(printed) / 100) for printed in frame["printed"]]
    frame["secondary"] = frame["secondary"] == "yes"
    frame["as_printed"] = frame["printed_benchmark"] + ", " + frame["printed_metric"]
    return frame[list(COLUMNS)]


def _read_csv(name: str) -> pd.DataFrame:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)


def _open_clip_38() -> pd.DataFrame:
    """The figures of open_clip's table of 38 datasets, with the columns of published.csv."""
    table = _read_csv(OPEN_CLIP_38)
    columns = columns_of_38()
    rows = []
    for line in table.to_dict("records"):
        model = {
            "paper": OPEN_CLIP_PAPER, "model": f"{line['name']} {line['pretrained']}", "spec": line["spec"],
            "arch": line["name"], "pretraining": line["pretrained"], "secondary": "", "source": OPEN_CLIP_SOURCE,
        }  # fmt: skip
        for column, printed in line.items():
            if column in OPEN_CLIP_KEYS:
                continue
            for benchmark, metric in columns.get(column) or [("", "")]:
                measured = {"benchmark": benchmark, "metric": metric, "printed": printed}
                rows.append({**model, **measured, "printed_benchmark": column, "printed_metric": "main metric"})
    return pd.DataFrame(rows)
