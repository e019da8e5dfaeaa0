"""docs/report.md: its commands and its Python code run, and it names the sections of the page."""

import re
import shlex
from pathlib import Path

from cosmos_eval.cli.main import run_command
from cosmos_eval.page.assembly import asset
from tests.helpers.report_folder import fill

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text(encoding="utf-8")


def test_its_commands_and_its_python_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/eval", "quickstart"):
        (tmp_path / name).mkdir(parents=True)
        fill(tmp_path / name)
    commands = re.findall(r"^    cosmos-eval (report .*)$", DOCS, re.M)
    assert len(commands) == 3
    for command in commands:
        assert run_command(shlex.split(command)) == 0
    assert Path("runs/eval/report.html").is_file()
    assert Path("quickstart/report.html").is_file()
    assert Path("paper.html").is_file()
    (block,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    capsys.readouterr()
    exec(block, {})
    assert capsys.readouterr().out == "page.html 6 5 2 []\n"
    assert "<title>Our models</title>" in Path("page.html").read_text()


def test_it_lists_the_sections_of_the_page():
    code = (
        asset("page.js")
        + asset("leaderboard.js")
        + asset("charts.js")
        + asset("classes.js")
        + asset("curves.js")
        + asset("geometry.js")
        + asset("images.js")
    )
    rows = re.findall(r"^\| ([A-Z][^|]*) \|", DOCS, re.M)
    for name in ", ".join(rows).split(", "):
        assert f'"{name}"' in code
