"""A board as one HTML page: a table of the headline metrics and one of each benchmark. All names are escaped."""

from collections.abc import Sequence
from html import escape

from cosmos_eval.report.board import MEASURED, PUBLISHED, Board
from cosmos_eval.report.cells import (
    about,
    average_lines,
    by_benchmark,
    by_task,
    detail,
    limited_line,
    metric_head,
    shown,
    with_values,
    without_width_line,
)
from cosmos_eval.report.names import MISSING

FIT = 12
"""Columns that fit a window of 1280 pixels; a benchmark with more metrics has several tables."""
STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 100rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .25rem .4rem; text-align: right; border-bottom: 1px solid #8884 }
td { white-space: nowrap }
td small { display: block }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: Canvas }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; max-width: 18rem }
thead th { vertical-align: bottom; text-align: center; overflow-wrap: break-word; max-width: 9rem }
thead tr.about th, small { font-weight: normal; font-size: .75rem; opacity: .75 }
tbody.published { font-style: italic } tbody.published th { text-align: left; max-width: none }
body, code { overflow-wrap: anywhere }
@media (max-width: 40rem) { body { margin: 1rem auto } td:first-child { min-width: 6rem; max-width: 40vw } }
""".strip()


def board_html(board: Board, remarks: Sequence[str] = ()) -> str:
    """The page. Percent, 95 % intervals in brackets; the best of a column bold, the second underlined; published rows
    in a body of their own below the measured ones."""
    precision = ", ".join(board.precisions) or "nothing measured"
    parts = [
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        "<title>Leaderboard</title>", f"<style>\n{STYLE}\n</style>", "</head>", "<body>", "<h1>Leaderboard</h1>",
        f"<p>Percent, with 95 % intervals in brackets; {escape(precision)}. The best of a column is <b>bold</b>, the "
        f"second <u>underlined</u>; {MISSING}: not measured.</p>",
        _table(board, board.of_kind(MEASURED), board.headline().index.tolist()),
        _list(average_lines(board)),
    ]  # fmt: skip
    for columns in board.groups():
        ids, first = detail(columns), columns.iloc[0]
        parts.append(
            f"<h2>{escape(first['benchmark'])}</h2>\n<p>{escape(first['task'])}, protocol version {first['version']} "
            f"<code>{escape(first['fingerprint'])}</code>, data <code>{escape(first['dataset'])}</code></p>"
        )
        for part in (ids[i : i + FIT] for i in range(0, len(ids), FIT)):
            parts.append(_table(board, with_values(board, board.of_kind(MEASURED), part), part))
    all_remarks = [line for line in [without_width_line(board), limited_line(board), *board.remarks, *remarks] if line]
    parts += ["<h2>Remarks</h2>", _list(all_remarks)] if all_remarks else []
    return "\n".join([*(part for part in parts if part), "</body>", "</html>"]) + "\n"


def _table(board: Board, rows: list[int], columns: list[int]) -> str:
    if not columns:
        return ""
    published_rows = with_values(board, board.of_kind(PUBLISHED), columns)
    lines = ['<div class="wide">', "<table>", "<thead>", *_head(board, columns), "</thead>", "<tbody>"]
    lines += [_row(board, row, columns) for row in rows]
    lines += ["</tbody>"]
    if published_rows:
        lines += ['<tbody class="published">']
        lines += [f'<tr><th colspan="{len(columns) + 1}">Published, not measured here</th></tr>']
        lines += [_row(board, row, columns) for row in published_rows]
        lines += ["</tbody>"]
    return "\n".join([*lines, "</table>", "</div>"])


def _head(board: Board, columns: list[int]) -> list[str]:
    tasks, names = (
        "".join(f'<th colspan="{len(run)}">{escape(name)}</th>' for name, run in group_columns(board, columns))
        for group_columns in (by_task, by_benchmark)
    )
    metrics = [f"<th>{escape(metric_head(board, column))}</th>" for column in columns]
    abouts = [
        f'<th title="{escape(board.columns.at[column, "fingerprint"])}">'
        f"{escape(about(board, column)).replace(', ', '<br>')}</th>"
        for column in columns
    ]
    return [
        f"<tr><th></th>{tasks}</tr>",
        f"<tr><th></th>{names}</tr>",
        f"<tr><th>model</th>{''.join(metrics)}</tr>",
        f'<tr class="about"><th></th>{"".join(abouts)}</tr>',
    ]


def _row(board: Board, row: int, columns: list[int]) -> str:
    fields = board.rows.loc[row]
    source = f"<br><small>{escape(fields['source'])}</small>" if fields["source"] else ""
    cells = "".join(f"<td>{cell_text(board, row, column)}</td>" for column in columns)
    return f'<tr><td title="{escape(fields["spec"])}"><bdi>{escape(fields["label"])}</bdi>{source}</td>{cells}</tr>'


def cell_text(board: Board, row: int, column: int) -> str:
    """`value <small>[low, high]</small>`, the best bold, the second underlined."""
    cell = shown(board, row, column)
    if cell is None:
        return MISSING
    value = {1: f"<b>{cell.value}</b>", 2: f"<u>{cell.value}</u>"}.get(cell.place or 0, cell.value)
    return f"{value} <small>{cell.interval}{cell.mark}</small>" if cell.interval else value


def _list(lines: Sequence[str]) -> str:
    items = "\n".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>\n{items}\n</ul>" if lines else ""
