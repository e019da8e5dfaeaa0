"""docs/leaderboard.md: formats, suites and averages are those of the code, and its commands run."""

import re
from pathlib import Path

import pandas as pd

from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import list_suites, read_suite
from cosmos_eval.report.cells import WIDE
from cosmos_eval.report.tables import EXCHANGE, FORMATS
from tests.results.test_results import stored

DOCS = (Path(__file__).parents[2] / "docs/leaderboard.md").read_text(encoding="utf-8")


def test_every_format_is_listed_and_no_other():
    assert re.findall(r"^\| `([a-z-]+)` \| `(?:leaderboard|clip-benchmark|model-index)", DOCS, re.M) == [
        *FORMATS,
        *EXCHANGE,
    ]
    assert WIDE == 12
    assert "more than twelve" in DOCS


def test_the_averages_are_those_of_the_suites():
    declared = {name: [average.name for average in read_suite(name).averages] for name in list_suites()}
    table = re.findall(r"^\| (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*) \| ([^`]*) \|$", DOCS, re.M)
    rows = {name: text for names, text in table for name in re.findall(r"[a-z0-9-]+", names) if name in declared}
    assert set(rows) == {name for name, averages in declared.items() if averages}
    all_of_paper = [average for name in rows if name.startswith("paper-") for average in declared[name]]
    for name, listed in rows.items():
        assert declared[name] == (all_of_paper if listed == "all of these" else listed.split("; "))


def test_the_yaml_is_the_one_of_the_suite():
    text, _ = re.findall(r"```yaml\naverages:\n(.*?)```", DOCS, re.S)
    suite = (Path(__file__).parents[2] / "cosmos_eval/protocols/suites/paper-segmentation.yaml").read_text()
    assert text in suite


def test_the_commands_run(tmp_path, monkeypatch):
    stored(tmp_path / "runs" / "eval" / "model" / "toy")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    cosmos-eval (.*)$", DOCS, re.M)
    assert len(commands) == 3
    for command in commands:
        assert run_command(command.split()) == 0
    assert len(list((tmp_path / "tables" / "clip-benchmark").iterdir())) == 1


def test_the_python_runs(tmp_path, capsys):
    stored(tmp_path / "model" / "toy")
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    names: dict = {"folder": tmp_path}
    exec(compile(code, "docs/leaderboard.md", "exec"), names)
    assert isinstance(names["board"].cells, pd.DataFrame)
