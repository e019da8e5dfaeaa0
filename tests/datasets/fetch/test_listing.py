"""docs/datasets.md is what the table says, and has every benchmark."""

import re
from pathlib import Path

from cosmos_eval.datasets.fetch.listing import count_by_how, datasets_page, list_sources
from cosmos_eval.datasets.fetch.table import load_table

PAGE = Path(__file__).resolve().parents[3] / "docs/datasets.md"


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == datasets_page(load_table()), (
        "run: python -m cosmos_eval.datasets.fetch.listing docs/datasets.md"
    )


def test_every_benchmark_is_in_one_row():
    table = load_table()
    names = [name for row in list_sources(table) for name in row.benchmarks]
    assert sorted(names) == sorted(table.recipes)
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \| (automatic|token|by hand) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.M)
    assert sorted(name for row in rows for name in re.findall("`([^`]+)`", row[0])) == sorted(names)


def test_the_counts_are_those_of_the_rows():
    counts = count_by_how(load_table())
    assert set(counts) == {"automatic", "token", "by hand"}
    by_how = dict.fromkeys(counts, 0)
    for row in list_sources(load_table()):
        by_how[row.recipe.how] += len(row.benchmarks)
    assert by_how == counts


def test_everything_that_a_person_must_do_has_its_steps():
    text = PAGE.read_text(encoding="utf-8")
    table = load_table()
    for name, recipe in table.recipes.items():
        if recipe.how == "by hand":
            steps = text.partition("## By hand")[2]
            assert f"`{name}`" in steps
    sections = {section.partition("\n")[0]: section for section in text.split("\n### ")[1:]}
    assert set(sections) == {artifact.name for artifact in table.artifacts.values() if artifact.manual}
    assert all("\n1. " in section for section in sections.values())
    assert "{data_root}" not in text
