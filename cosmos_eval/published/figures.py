"""Published figures: numbers that papers and leaderboards print, with source, benchmark and metric.

`published.csv` is made by `tests/tools/published_numbers.py` from the collected tables. A figure has one of our
benchmarks and metrics only if the protocol is the same, and a model spec only if it certainly names that network.
"""

from decimal import Decimal
from functools import cache
from importlib import resources
from io import StringIO

import pandas as pd

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
    text = resources.files(__package__).joinpath("published.csv").read_text(encoding="utf-8")
    frame = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
    frame["decimals"] = frame["printed"].str.partition(".")[2].str.len()
    frame["value"] = [float(Decimal(printed) / 100) for printed in frame["printed"]]
    frame["secondary"] = frame["secondary"] == "yes"
    frame["as_printed"] = frame["printed_benchmark"] + ", " + frame["printed_metric"]
    return frame[list(COLUMNS)]
