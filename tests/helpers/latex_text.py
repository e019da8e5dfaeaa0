"""A small reader of the LaTeX that we write: environments, rows, cells, and what a reader of the page would see."""

import re
from dataclasses import dataclass

UNESCAPED = {
    r"\textbackslash{}": "\\", r"\textasciicircum{}": "^", r"\textasciitilde{}": "~", r"\textless{}": "<",
    r"\textgreater{}": ">", r"\textbar{}": "|", r"\textquotedbl{}": '"', r"\textasciigrave{}": "`",
    r"\textquotesingle{}": "'", r"\textendash{}": "–", r"\textemdash{}": "—", r"$\rightarrow$": "→",
    r"$\times$": "×", r"$\pm$": "±",
}  # fmt: skip
LIGATURES = {"---": "—", "--": "–", "``": "“", "''": "”", "?`": "¿", "!`": "¡", ",,": "„", "<<": "«", ">>": "»"}
RULES = (r"\toprule", r"\midrule", r"\bottomrule")


@dataclass(frozen=True)
class Line:
    """A row of a tabular; those before the first midrule are its head."""

    cells: list[str]
    columns: int
    head: bool
    published: bool


def latex_tables(text: str) -> list[list[Line]]:
    """The rows of every tabular, with what stands around them checked: environments, rules, braces, column counts."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)%", text), "a comment within the text"
    _check_environments(text)
    assert braces(text) == 0
    return [
        _rows(spec, body)
        for spec, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}", text, re.S)
    ]


def _check_environments(text: str) -> None:
    open_ = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            open_.append(name)
        else:
            assert open_.pop() == name
    assert open_ == []


def braces(text: str) -> int:
    """How many braces are open at the end; never below none on the way."""
    depth = 0
    for character in re.sub(r"\\[\\{}]", "", text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    return depth


def _rows(spec: str, body: str) -> list[Line]:
    assert body.count(r"\toprule") == body.count(r"\bottomrule") == 1
    assert body.startswith(r"\toprule")
    assert body.rstrip().endswith(r"\bottomrule")
    rows, head, published = [], True, False
    for line in body.splitlines():
        if line in RULES:
            head = head and line != r"\midrule"
        elif line.startswith(r"\cmidrule"):
            for first, last in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", line):
                assert 2 <= int(first) <= int(last) <= len(spec)
        else:
            assert line.endswith(r" \\"), line
            cells = [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r" \\"))]
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            columns = len(cells) - len(spans) + sum(spans)
            assert columns == len(spec), line
            if "Published" in line and len(cells) == 1:
                published = True
            else:
                assert not cells[0].startswith(("[", "*")), "would be read as an option of the line before"
                rows.append(Line(cells, columns, head, published))
    return rows


def plain(text: str) -> str:
    """What a reader sees of one cell."""
    text = re.sub(r"^\{(.*)\}(\\textsuperscript\{\d+\})?$", r"\1", text)
    pattern = "|".join(map(re.escape, sorted(UNESCAPED, key=len, reverse=True)))
    parts = re.split(rf"({pattern}|\\[{{}}$&#%_]|\{{\}})", text)
    return "".join(
        UNESCAPED[part]
        if part in UNESCAPED
        else part[1:]
        if part.startswith("\\")
        else ""
        if part == "{}"
        else melt(part)
        for part in parts
    )


def melt(text: str) -> str:
    """Neighbouring characters that fonts print as one sign."""
    for pair, sign in LIGATURES.items():
        text = text.replace(pair, sign)
    return text
