"""docs/regress.md and regress-workflow.yml: options and commands are those of the code."""

import re
import shlex
from pathlib import Path

import numpy as np
import yaml
from typer.main import get_command

from cosmos_eval.cli import main as cli
from cosmos_eval.regress.answer import Settings
from tests.helpers import fabricated

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "regress.md").read_text(encoding="utf-8")
WORKFLOW = (DOCS / "regress-workflow.yml").read_text(encoding="utf-8")


def options(name: str = "regress") -> set[str]:
    command = get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")} - {"--help"}


def test_the_page_has_every_option_and_no_other():
    table = PAGE[PAGE.index("| option |") : PAGE.index("## What is compared")]
    named = {name for row in table.splitlines() if row.startswith("| `") for name in re.findall(r"`(--[a-z-]+)`", row)}
    assert named == options()
    assert "| `--max-drop` | 0 |" in table
    assert f"| `--alpha` | {Settings().alpha} |" in table
    assert f"| {Settings().seed}, {Settings().resamples:,} |" in table


def test_the_commands_of_the_workflow_run(tmp_path, monkeypatch):
    steps = yaml.safe_load(WORKFLOW)["jobs"]["regress"]["steps"]
    (compare,) = [step["run"] for step in steps if step.get("name") == "Compare"]
    words = shlex.split(compare.replace("$MAX_DROP", "0.5"))
    fabricated.classification(tmp_path / "baseline", np.ones(100))
    fabricated.classification(tmp_path / "runs" / "eval", np.append(np.zeros(20), np.ones(80)))
    monkeypatch.chdir(tmp_path)
    assert words[0] == "cosmos-eval"
    assert cli.run_command(words[1:]) == 1
    assert {path.name for path in tmp_path.glob("regress.*")} == {"regress.md", "regress.json", "regress.xml"}
    (measure,) = [step["run"] for step in steps if step.get("name") == "Measure"]
    assert measure.startswith("cosmos-eval run ")
    assert set(re.findall(r"--[a-z-]+", measure)) <= options("run")


def test_the_summary_is_written_and_the_files_are_kept_after_a_regression():
    steps = yaml.safe_load(WORKFLOW)["jobs"]["regress"]["steps"]
    after = steps[[step.get("name") for step in steps].index("Compare") + 1 :]
    assert len(after) == 2
    assert all(step["if"] == "always()" for step in after)
    assert re.findall(r"https?://\S+", WORKFLOW) == []
