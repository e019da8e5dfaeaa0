"""Every number of every format is a cell of the one board, and names stay text."""

import csv
import html
import io
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_core.printable import printable
from cosmos_eval.protocol.benchmark import read_suite
from cosmos_eval.report.board import MEASURED, PUBLISHED, Board, make_board
from cosmos_eval.report.cells import detail, with_values
from cosmos_eval.report.data_files import board_csv, board_json
from cosmos_eval.report.html_table import board_html
from cosmos_eval.report.latex import board_latex
from cosmos_eval.report.latex import escape as latex_escape
from cosmos_eval.report.markdown import board_markdown, bullet, pipe_table
from cosmos_eval.report.markdown import escape as markdown_escape
from tests.helpers.boards import HOSTILE, SUITE, references_of_toybox, results_of_toybox
from tests.helpers.latex_text import latex_tables, plain

NUMBER = re.compile(r"\d+\.\d+")
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("|\\<>&;#*_`$~[]{}%^\"'-!?, \n"), max_size=20)


@pytest.fixture(scope="module")
def board() -> Board:
    return make_board(results_of_toybox(), references_of_toybox(), read_suite(SUITE))


def one_line(text: str) -> str:
    return " ".join(text.split())


def as_printed(board: Board, row: int, column: int) -> list[str]:
    """The numbers that a reader must find in a cell: value, low, high; none where nothing was measured."""
    found = board.cells[(board.cells["row"] == row) & (board.cells["column"] == column)]
    if found.empty:
        return []
    (cell,) = found.to_dict("records")
    scale = 100 if board.columns.at[column, "higher_is_better"] else 1
    decimals = 1 if board.rows.at[row, "kind"] == MEASURED else int(cell["decimals"])
    return [f"{cell[key] * scale:.{decimals}f}" for key in ("value", "low", "high") if cell[key] == cell[key]]


def check(board: Board, rows: list[int], columns: list[int], lines: list[list[str]]) -> None:
    """A parsed table, its label column left out, has the board's cells and nothing else."""
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        assert len(line) == len(columns)
        for column, text in zip(columns, line, strict=True):
            assert NUMBER.findall(text) == as_printed(board, row, column), (row, column, text)
            assert text.strip(), "a hole is shown"


def tables_of(board: Board) -> list[tuple[list[int], list[int], list[int]]]:
    """(measured rows, published rows, columns) of the headline table and of each benchmark's."""
    headline = board.headline().index.tolist()
    measured, others = board.of_kind(MEASURED), board.of_kind(PUBLISHED)
    tables = [(measured, with_values(board, others, headline), headline)]
    for columns in board.groups():
        ids = detail(columns)
        tables.append((with_values(board, measured, ids), with_values(board, others, ids), ids))
    return tables


def split_row(line: str) -> list[str]:
    """The cells of a pipe table's row, as GitHub splits them: an escaped pipe is not a border."""
    cells = re.findall(r"((?:\\.|[^|\\])*)\|", line)
    assert cells[0] == ""
    return [cell.strip() for cell in cells[1:]]


def markdown_text(cell: str) -> str:
    """What a reader of rendered Markdown sees."""
    cell = re.sub(r"\*\*(\d+\.\d+)\*\*", r"\1", cell)
    return re.sub(r"\\([!-/:-@\[-`{-~])|(&#?\w+;)", lambda m: m[1] or html.unescape(m[2]), cell)


def markdown_tables(text: str) -> list[list[str]]:
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n?)+", text, re.M)]


def test_markdown_has_the_cells_of_the_board(board):
    found = markdown_tables(board_markdown(board))
    for measured, others, columns in tables_of(board):
        rows = [split_row(line) for line in found.pop(0)[2:]]
        check(board, measured, columns, [row[1:] for row in rows])
        assert [markdown_text(row[0]) for row in rows] == [one_line(board.rows.at[row, "label"]) for row in measured]
        if others:
            rows = [split_row(line) for line in found.pop(0)[2:]]
            check(board, others, columns, [row[1:-1] for row in rows])
            assert [markdown_text(row[-1]) for row in rows] == [board.rows.at[row, "source"] for row in others]
    assert not found


def test_markdown_columns_line_up(board):
    wcwidth = pytest.importorskip("wcwidth")
    for lines in markdown_tables(board_markdown(board)):
        borders = [[wcwidth.wcswidth(line[: at.start()]) for at in re.finditer(r"(?<!\\)\|", line)] for line in lines]
        assert all(one == borders[0] for one in borders)
    made = pipe_table(["x", "模型"], [["e\u0301", "a"], ["ab", "b"]]).splitlines()
    assert {wcwidth.wcswidth(line) for line in made} == {len(made[1])}


class Cells(HTMLParser):
    """The tables of a page: rows of (texts of cells, is the row in a body of published rows)."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[tuple[list[str], bool]]] = []
        self.tags: list[str] = []
        self.published = self.body = self.inside = False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tbody":
            self.body, self.published = True, dict(attrs).get("class") == "published"
        elif tag == "tr" and self.body:
            self.tables[-1].append(([], self.published))
        elif tag == "td":
            self.tables[-1][-1][0].append("")
            self.inside = True

    def handle_endtag(self, tag):
        if tag == "tbody":
            self.body = False
        elif tag == "td":
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.tables[-1][-1][0][-1] += data


def test_html_has_the_cells_of_the_board(board):
    page = Cells()
    page.feed(board_html(board))
    for (measured, others, columns), rows in zip(tables_of(board), page.tables, strict=True):
        rows = [(cells, published) for cells, published in rows if cells]  # without the line that says "published"
        check(board, measured, columns, [cells[1:] for cells, published in rows if not published])
        check(board, others, columns, [cells[1:] for cells, published in rows if published])
        labels = [board.rows.at[row, "label"] + board.rows.at[row, "source"] for row in [*measured, *others]]
        assert [cells[0] for cells, _ in rows] == labels


def test_html_runs_and_fetches_nothing(board):
    page, text = Cells(), board_html(board, ["<img src=x onerror=alert(1)>"])
    page.feed(text)
    assert not {"script", "img", "link", "iframe", "object", "a", "b>"} & set(page.tags)
    assert "default-src 'none'" in text
    assert "://" not in text


def test_latex_has_the_cells_of_the_board(board):
    (lines,) = latex_tables(board_latex(board))
    ((measured, others, columns), *_) = tables_of(board)
    body = [line for line in lines if not line.head]
    check(board, measured, columns, [line.cells[1:] for line in body if not line.published])
    check(board, others, columns, [line.cells[1:] for line in body if line.published])
    assert [plain(line.cells[0]) for line in body if not line.published] == [
        one_line(board.rows.at[row, "label"]) for row in measured
    ]


def test_the_best_is_bold_and_the_second_underlined(board):
    (lines,) = latex_tables(board_latex(board))
    rows = [split_row(line) for line in markdown_tables(board_markdown(board))[0][2:]]
    page = board_html(board)
    for place, column in enumerate(board.headline().index, 1):
        values = sorted(board.cells.loc[_measured(board, column), "value"], reverse=True)
        best, second = (f"{100 * value:.1f}" for value in values[:2])
        assert [row[place].split()[0] for row in rows if "**" in row[place]] == [f"**{best}**"]
        assert f"<b>{best}</b>" in page
        assert f"<u>{second}</u>" in page
        marked = [line.cells[place].split(" {")[0] for line in lines if not line.head]
        assert [one for one in marked if "textbf" in one] == [rf"\textbf{{{best}}}"]
        assert [one for one in marked if "underline" in one] == [rf"\underline{{{second}}}"]


def _measured(board: Board, column: int):
    return (board.cells["column"] == column) & board.cells["row"].isin(board.of_kind(MEASURED))


def test_published_values_are_never_marked_and_their_source_is_named(board):
    assert board.cells.loc[board.cells["row"].isin(board.of_kind(PUBLISHED)), "place"].isna().all()
    for text in (board_markdown(board), board_html(board)):
        assert "99.98" in text  # better than any measured one
        assert "**99.98**" not in text
        assert "<b>99.98" not in text
        assert "Published, not measured here" in text
        assert "table 1, 50 %; table 2" in text
    text = board_latex(board)
    assert r"& 99.98 & 91.23 &" in text
    assert r"\textsuperscript{1}~A \& B (2025): table 1, 50 \%; table 2." in text


def test_csv_has_every_cell_of_the_board_exactly(board):
    rows = list(csv.DictReader(io.StringIO(board_csv(board))))
    limited = [row for row in rows if row["limit"]]
    rows = [row for row in rows if not row["limit"]]
    assert {row["model"] for row in limited} == {"limited"}
    assert {row["place"] for row in limited} == {""}
    cells = board.cells.sort_values(["row", "column"])
    assert len(rows) == len(cells)
    for cell, row in zip(cells.itertuples(), rows, strict=True):
        one = board.columns.loc[cell.column]
        label = board.rows.at[cell.row, "label"]
        assert (row["model"], row["benchmark"], row["metric"]) == (
            f"'{label}" if label.startswith("-") else label, one["benchmark"], one["metric"],  # never a formula
        )  # fmt: skip
        assert float(row["value"]) == cell.value
        for key in ("low", "high"):
            number = getattr(cell, key)
            assert row[key] == "" if number != number else float(row[key]) == number
        assert row["fingerprint"] == one["fingerprint"]
    assert {row["kind"] for row in rows} == {"measured", "average", "published"}


def test_json_has_every_cell_of_the_board_exactly(board):
    record = json.loads(board_json(board, ["a remark"]), parse_constant=lambda name: pytest.fail(name))
    assert record["remarks"] == ["a remark"]
    assert len(record["cells"]) == len(board.cells)
    for cell in record["cells"]:
        ours = board.cell(cell["row"], cell["column"])
        assert cell["value"] == ours.value
        assert (cell["low"] is None) == (ours.low != ours.low)
        assert record["rows"][cell["row"]]["label"] == board.rows.at[cell["row"], "label"]
        assert record["columns"][cell["column"]]["title"] == board.columns.at[cell["column"], "title"]
        if cell["n"] is not None:
            assert cell["n"] == ours.n
    assert [one["model"] for one in record["limited"]] == ["limited"]


def test_every_format_says_what_was_limited_and_what_was_measured_with(board):
    fingerprint = read_suite(SUITE).benchmarks[0].fingerprint
    for text in (board_markdown(board), board_html(board), board_latex(board), board_json(board), board_csv(board)):
        assert fingerprint[:8] in text
        assert "limited" in text
        assert "fp32" in text


@given(TEXTS)
def test_markdown_shows_any_name_as_it_is(name):
    table = pipe_table(["model", "x"], [[markdown_escape(name), "1"]])
    _, _, line = table.split("\n")
    assert len(split_row(line)) == 2
    assert markdown_text(split_row(line)[0]) == printable(one_line(name))
    assert "\n" not in bullet(name)
    assert not re.match(r"- +(#|>|[-+] |\d+[.)])", bullet(name))


@given(TEXTS)
def test_html_shows_any_name_as_it_is(name):
    page = Cells()
    page.feed(f"<table><tbody><tr><td>{html.escape(name)}</td></tr></tbody></table>")
    page.close()
    assert page.tags == ["table", "tbody", "tr", "td"]


@given(TEXTS)
def test_latex_shows_any_name_as_it_is(name):
    escaped = latex_escape(name)
    clean = "".join(" " if _control(character) else character for character in name)
    assert plain(escaped) == one_line(clean)
    for arrow in ("rightarrow", "times", "pm"):
        escaped = escaped.replace(rf"$\{arrow}$", "")
    assert not re.search(r"(?<!\\)[#%&~^_$]", escaped)


def _control(character: str) -> bool:
    import unicodedata

    return unicodedata.category(character).startswith("C")


def test_hostile_names_reach_every_format(board):
    assert {printable(label) for label in HOSTILE} <= set(board.rows["label"])
