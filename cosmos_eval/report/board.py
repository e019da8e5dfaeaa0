"""The board: rows, columns and cells of a leaderboard. Every format prints the same board."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from cosmos_core.errors import RequestError
from cosmos_eval.protocol.suite import Suite
from cosmos_eval.report.board_averages import FindInterval, average_columns
from cosmos_eval.report.board_columns import AVERAGE, column_table, untransformed_names
from cosmos_eval.report.board_references import place_references
from cosmos_eval.report.frame import distinct_labels, ranked, to_frame
from cosmos_eval.results.record import Result
from cosmos_eval.results.sample_metrics import AverageIntervals

MEASURED, PUBLISHED = "measured", "published"
ROW_FIELDS = ("label", "spec", "digest", "precision", "kind", "source")
CELL_FIELDS = ("row", "column", "value", "low", "high", "n", "place", "started", "decimals", "source")


@dataclass(frozen=True)
class Board:
    """A leaderboard before it is printed.

    `rows` and `columns` are in printing order; `row` and `column` of a cell refer to their index. A cell that was not
    measured is absent. Values are fractions, or ranks where `higher_is_better` is False.
    """

    rows: pd.DataFrame
    """label, spec, digest, precision, kind ("measured", "published"), source (of published rows)."""
    columns: pd.DataFrame
    """kind ("metric", "average"), benchmark (an average: its name), metric, task (empty: several tasks),
    version, fingerprint, dataset (its fingerprint), n (samples; an average: benchmarks), images, items, left_out,
    higher_is_better, headline, primary, group (columns of one benchmark, protocol and data share it), of (the
    benchmarks that an average is the mean of), of_metrics (the metrics that it takes of each of them), title."""
    cells: pd.DataFrame
    """row, column, value, low, high (missing for published values, and for averages whose samples are not there), n,
    place (1 the best of its column, 2 the second, else missing; published values have none), started (when it was
    measured), decimals (of percent, as published), source."""
    limited: pd.DataFrame
    """Results made with --limit, as in the long frame: named, never ranked."""
    remarks: tuple[str, ...] = ()
    suite: str = ""

    @cached_property
    def _at(self) -> dict[tuple[int, int], Any]:
        return {(cell.row, cell.column): cell for cell in self.cells.itertuples(index=False)}

    def cell(self, row: int, column: int) -> Any | None:
        """A cell with the fields of `cells`; None where nothing was measured."""
        return self._at.get((row, column))

    def of_kind(self, kind: str) -> list[int]:
        """Indices of the rows of a kind: MEASURED here, or PUBLISHED elsewhere."""
        return self.rows.index[self.rows["kind"] == kind].tolist()

    def headline(self) -> pd.DataFrame:
        """The headline columns, averages among them."""
        return self.columns[self.columns["headline"]]

    def groups(self) -> Iterator[pd.DataFrame]:
        """The columns of each benchmark under one protocol and on one set of data that has results."""
        measured = self.columns[(self.columns["kind"] != AVERAGE) & (self.columns["dataset"] != "")]
        for _, columns in measured.groupby("group", sort=False):
            yield columns

    @cached_property
    def precisions(self) -> list[str]:
        """Precisions of the measured rows."""
        return sorted(self.rows.loc[self.rows["kind"] == MEASURED, "precision"].unique())


def make_board(results: Sequence[Result], references: pd.DataFrame | None = None, suite: Suite | None = None) -> Board:
    """The board of results.

    Args:
        references: published values, with the columns of `cosmos_eval.published.references.COLUMNS`.
        suite: selects benchmarks, their order, and averages; a benchmark without results has a column, too.
    """
    intervals = AverageIntervals(results)
    frame = to_frame(results)
    frame["result"] = [number for number, result in enumerate(results) for _ in result.metrics]
    board = board_of(frame, references, suite, intervals.of)
    return replace(board, remarks=(*board.remarks, *intervals.remarks(), *scored_by_other_code(results)))


def scored_by_other_code(results: Iterable[Result]) -> list[str]:
    """Return a remark for each benchmark whose results (one protocol, one dataset) were scored by different code."""
    code: dict[tuple[str, str, str], dict[str, str]] = {}
    for result in results:
        if result.limit is None:
            benchmark = result.benchmark
            key = result.benchmark_name, benchmark.fingerprint, result.dataset.fingerprint
            by = sorted(benchmark.plugins.values()) or ["cosmos-eval"]
            code.setdefault(key, {}).setdefault(
                ", ".join([*dict.fromkeys(by), f"scoring version {benchmark.scoring_version}"]), result.label
            )
    return [
        f"{name}: scored by different code: {'; '.join(f'{by} ({label}, ...)' for by, label in labels.items())}. "
        "Measure all of them with one."
        for (name, _, _), labels in code.items()
        if len(labels) > 1
    ]


def board_of(
    frame: pd.DataFrame,
    references: pd.DataFrame | None = None,
    suite: Suite | None = None,
    find_interval: FindInterval | None = None,
) -> Board:
    """As `make_board`, from the long frame of `to_frame`; averages have intervals only with `find_interval`, for which
    the column `result` of the frame is the index of each row's result.

    A column belongs to one protocol fingerprint and one dataset fingerprint: it never mixes numbers of different
    protocols or data.
    """
    frame = distinct_labels(frame)
    limited = frame[frame["limit"].notna()].reset_index(drop=True)
    full, remarks = _of_suite(ranked(frame), suite)
    full, repeat_remarks = _once_each(full)
    columns = column_table(full, suite)
    cells = _measured_cells(full, columns)
    rows, cells = _ranked_rows(full, columns, cells)
    columns, cells = average_columns(columns, cells, suite, find_interval)
    cells["place"] = _top_two(cells, columns)
    rows["kind"], rows["source"] = MEASURED, ""
    cells["decimals"], cells["source"] = pd.array([pd.NA] * len(cells), dtype="Int64"), ""
    cells["started"] = cells["started"].fillna("")  # averages have no time
    remarks += [*repeat_remarks, *_precisions(rows)]
    if references is not None:
        reference_rows, reference_cells, reference_remarks = place_references(references, columns, len(rows))
        rows = pd.concat([rows, reference_rows.assign(kind=PUBLISHED)]) if len(reference_rows) else rows
        cells = pd.concat([cells, reference_cells], ignore_index=True) if len(reference_cells) else cells
        remarks += reference_remarks
    cells["place"] = cells["place"].astype("Int64")
    return Board(
        rows[list(ROW_FIELDS)], columns, cells[list(CELL_FIELDS)], limited, tuple(remarks), suite.name if suite else ""
    )


def check_of_suite(results: Iterable[Result], suite: Suite, folder: Path) -> None:
    """Raise RequestError if no result belongs to a suite: its table would be empty."""
    names = {result.benchmark.name for result in results}
    if names.isdisjoint(benchmark.name for benchmark in suite.benchmarks):
        raise RequestError(
            f"no result below {folder} belongs to the suite {suite.name}; "
            f"there are results of {', '.join(sorted(names)) or 'none'}"
        )


def _of_suite(full: pd.DataFrame, suite: Suite | None) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of a suite's benchmarks, and remarks on rows left out or measured under another protocol."""
    if suite is None:
        return full, []
    fingerprints = {benchmark.name: benchmark.fingerprint for benchmark in suite.benchmarks}
    is_in_suite = untransformed_names(full).isin(fingerprints)
    remarks = []
    outside = full.loc[~is_in_suite, "benchmark"].unique()
    if len(outside):
        remarks.append(f"Not in the suite {suite.name}, and so left out: {', '.join(outside)}.")
    full = full[is_in_suite]
    shipped = untransformed_names(full).map(fingerprints)
    for row in full.assign(of_suite=shipped).drop_duplicates(["benchmark", "fingerprint"]).itertuples():
        if row.fingerprint != row.of_suite:
            remarks.append(
                f"{row.benchmark} was also measured under the protocol {row.fingerprint[:8]}, which is not the suite's "
                f"({row.of_suite[:8]}): shown in a column of its own, in no average."
            )
    return full, remarks


def _once_each(full: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the latest of repeated results of one model, and a remark wherever their numbers differ."""
    full = full.assign(row=full.groupby(["model", "spec_or_digest", "precision"], sort=False, dropna=False).ngroup())
    key = ["row", "benchmark", "fingerprint", "dataset", "metric"]
    is_repeated = full.duplicated(key, keep=False)
    remarks = []
    if is_repeated.any():
        spread = full[is_repeated].groupby(key, sort=False)["value"].agg(lambda values: values.max() - values.min())
        for row, benchmark in dict.fromkeys((index[0], index[1]) for index in spread.index[spread > 0]):
            label = full.loc[full["row"] == row, "model"].iloc[0]
            remarks.append(f"{label} was measured twice on {benchmark}, with different numbers: the later is shown.")
    latest = full.sort_values("started", kind="stable").drop_duplicates(key, keep="last")
    return full.loc[full.index.isin(latest.index)], remarks


def _precisions(rows: pd.DataFrame) -> list[str]:
    """Which rows were measured in which precision, where they differ."""
    names = rows.groupby("precision")["label"].agg(", ".join)
    return [f"Measured in {precision}: {labels}." for precision, labels in names.items()] if len(names) > 1 else []


def _measured_cells(full: pd.DataFrame, columns: pd.DataFrame) -> pd.DataFrame:
    key = ["benchmark", "fingerprint", "dataset", "metric"]
    ids = columns[key].assign(column=columns.index)
    values = ["value", "low", "high", "n", "started", *(["result"] if "result" in full else [])]
    cells = full[[*key, "row", *values]].merge(ids, on=key, how="inner", validate="many_to_one")
    return cells[["row", "column", *values]]


def _ranked_rows(full: pd.DataFrame, columns: pd.DataFrame, cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows in their order over the headline columns (`order_of`), the best first; cells with the new numbers."""
    rows = full.drop_duplicates("row").set_index("row").rename(columns={"model": "label"})
    headline_columns = columns.index[columns["headline"]]
    values = cells[cells["column"].isin(headline_columns)].pivot(index="row", columns="column", values="value")
    values = values.reindex(rows.index) * columns.loc[values.columns, "higher_is_better"].map({True: 1, False: -1})
    order = order_of(values)
    cells = cells.assign(row=cells["row"].map({row: index for index, row in enumerate(order)}))
    rows = rows.loc[order].reset_index(drop=True)
    return rows[["label", "spec", "digest", "precision"]], cells.sort_values(["row", "column"], ignore_index=True)


def order_of(values: pd.DataFrame) -> list[Any]:
    """The index of (rows, columns) values, the best row first; higher is better, and nan is not measured.

    Rows that have the same columns are ordered by their mean rank over these. A row that has fewer columns than others
    goes above the first of those that it beats, that is, is better than on more of their common columns. So no row is
    above a better one because it has more columns, and a column that a row lacks counts neither for nor against it. A
    row that shares no column with the others goes below them.
    """
    measured = values.notna()
    sets = values.groupby(measured.apply(tuple, axis=1), sort=False).groups.values()
    order: list[Any] = []
    for rows in sorted(sets, key=lambda rows: -int(measured.loc[rows[0]].sum())):
        rows_with_more_columns = list(order)
        ranks = values.loc[rows].rank(ascending=False).mean(axis=1).fillna(0)
        for row in ranks.sort_values(kind="stable").index:
            beaten = [other for other in rows_with_more_columns if _beats(values.loc[row], values.loc[other])]
            position = len(order) if not beaten else min(order.index(other) for other in beaten)
            order.insert(position, row)
    return order


def _beats(row: pd.Series, other: pd.Series) -> bool:
    """Whether `row` is better than `other` on more of their common columns than it is worse."""
    return int((row > other).sum()) > int((row < other).sum())


def _top_two(cells: pd.DataFrame, columns: pd.DataFrame) -> pd.Series:
    """Return 1 for the best cell of a column, 2 for the second, else NA; if two tie for the best there is no second."""
    sign = cells["column"].map(columns["higher_is_better"]).map({True: -1, False: 1})
    ranks = (cells["value"] * sign).groupby(cells["column"]).rank(method="min")
    return ranks.where(ranks <= 2).astype("Int64")
