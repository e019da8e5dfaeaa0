"""A board as LaTeX: booktabs tables of the headline metrics, the best of a column in bold, the second underlined."""

import unicodedata
from collections.abc import Sequence

from cosmos_eval.report.board import MEASURED, PUBLISHED, Board
from cosmos_eval.report.board_columns import AVERAGE
from cosmos_eval.report.cells import (
    WITHOUT_WIDTH,
    about,
    average_lines,
    by_benchmark,
    by_task,
    limited_line,
    metric_head,
    sections,
    shown,
    with_values,
    without_width_line,
)

ABSENT = "--"
"""An en dash: not measured."""
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
    "→": r"$\rightarrow$", "–": r"\textendash{}", "—": r"\textemdash{}", "×": r"$\times$", "±": r"$\pm$",
    "-": "-{}", "!": "!{}", "?": "?{}", ",": ",{}",
}  # fmt: skip
"""The last four prevent ligatures: `--` is a dash; ?` and ,, are other characters."""
LONELY = "-!?,"
DAGGER = r"\textsuperscript{\dag}"
HEAD = (
    "Needs \\usepackage{booktabs}, \\usepackage[T1]{fontenc} and a LaTeX of 2020 or later; names beyond Latin letters "
    "need XeLaTeX or LuaLaTeX and a font that has them."
)


def board_latex(board: Board, remarks: Sequence[str] = ()) -> str:
    """A table for each task, or one where all fit: a fragment for \\input. Percent, 95 % intervals in brackets.

    Published rows are below a rule and a line that says so, with their sources in the notes; limited results and
    remarks are comments.
    """
    lines = [f"% {HEAD}"]
    for column in board.headline().index:
        fields = board.columns.loc[column]
        lines.append(comment(f"{fields['title']}: {about(board, column)}, fingerprint {fields['fingerprint']}"))
    for title, columns in sections(board):
        lines += ["", *_table(board, title, columns)]
    lines += ["", *(comment(line) for line in [limited_line(board), *board.remarks, *remarks] if line)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(board: Board, title: str, columns: list[int]) -> list[str]:
    measured = board.of_kind(MEASURED)
    published = with_values(board, board.of_kind(PUBLISHED), columns)
    sources = list(dict.fromkeys(board.rows.at[row, "source"] for row in published))
    precision = ", ".join(board.precisions) or "nothing measured"
    caption = f"{title}: p" if title else "P"
    lines = [
        r"\begin{table}[t]", r"\centering", r"\small",
        rf"\caption{{{caption}ercent, with 95\,\% intervals in brackets; {escape(precision)}. The best of a column is "
        rf"bold, the second underlined; {ABSENT}: not measured.}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", *_head(board, columns), r"\midrule",
    ]  # fmt: skip
    lines += [row_line(board, row, columns) for row in measured]
    if published:
        lines += [r"\midrule", rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{\emph{{Published, not measured here}}}} \\"]
        lines += [
            row_line(board, row, columns, note=str(sources.index(board.rows.at[row, "source"]) + 1))
            for row in published
        ]
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [f"{escape(line)}." for line in average_lines(board)]
    if any(cell.mark for row in measured for column in columns if (cell := shown(board, row, column))):
        line = without_width_line(board).removeprefix(WITHOUT_WIDTH)
        notes.append(f"{DAGGER}{escape(line)}.")
    notes += [rf"\textsuperscript{{{number}}}~{escape(source)}." for number, source in enumerate(sources, 1)]
    if notes:
        lines += [r"\par\smallskip", rf"{{\footnotesize {' '.join(notes)}\par}}"]
    return [*lines, r"\end{table}"]


def _head(board: Board, columns: list[int]) -> list[str]:
    """Task, benchmark, metric, and what the column was measured with."""
    position = {column: index for index, column in enumerate(columns, 2)}
    tasks, rules = [""], []
    for name, run in by_task(board, columns):
        tasks.append(_over(len(run), name))
        rules.append(rf"\cmidrule(lr){{{position[run[0]]}-{position[run[-1]]}}}")
    names = ["", *(_over(len(run), name) for name, run in by_benchmark(board, columns))]
    metrics, fingerprints, counts = ["model"], [""], [""]
    for column in columns:
        fields = board.columns.loc[column]
        metrics.append(escape(metric_head(board, column)))
        data = "" if fields["kind"] == AVERAGE else f"/{fields['dataset'][:8] or 'no data'}"
        fingerprints.append(rf"{{\tiny {escape(fields['fingerprint'][:8] + data)}}}")
        counts.append(rf"{{\tiny $n={fields['n']}$}}" if fields["n"] else "")
    return [_line(tasks), " ".join(rules), *map(_line, (names, metrics, fingerprints, counts))]


def _over(columns: int, text: str) -> str:
    return rf"\multicolumn{{{columns}}}{{c}}{{{escape(text)}}}"


def row_line(board: Board, row: int, columns: list[int], note: str = "") -> str:
    """One row. The label is in braces: a `[` or `*` that begins a row would be read as the end of the row before."""
    label = f"{{{escape(board.rows.at[row, 'label'])}}}" + (rf"\textsuperscript{{{note}}}" if note else "")
    return _line([label, *(cell_text(board, row, column) for column in columns)])


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells).lstrip() + r" \\"


def cell_text(board: Board, row: int, column: int) -> str:
    """`value {\\tiny [low, high]}`, the best in bold, the second underlined."""
    cell = shown(board, row, column)
    if cell is None:
        return ABSENT
    mark = {1: r"\textbf{%s}", 2: r"\underline{%s}"}.get(cell.place or 0, "%s")
    interval = cell.interval + (DAGGER if cell.mark else "")
    return (mark % cell.value + (rf" {{\tiny {interval}}}" if interval else "")).strip()


def escape(text: str) -> str:
    """Text that LaTeX prints as it is; control characters become spaces."""
    clean = "".join(" " if unicodedata.category(character).startswith("C") else character for character in str(text))
    clean = " ".join(clean.split())
    out = []
    for i, character in enumerate(clean):
        is_lonely = character in LONELY and clean[i + 1 : i + 2] not in (*LONELY, "`", "'")
        out.append(character if is_lonely else SPECIAL.get(character, character))
    return "".join(out)


def comment(text: str) -> str:
    """A comment of one line."""
    return "% " + " ".join(str(text).split())
