"""docs/regress.md: the options are those of the code."""

import re
from pathlib import Path

from typer.main import get_command

from cosmos_eval.cli import main as cli
from cosmos_eval.regress.answer import Settings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "regress.md").read_text(encoding="utf-8")


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
