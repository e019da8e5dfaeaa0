"""README.md and pages for users: all commands, models, benchmarks and suites in them exist."""

import re
from pathlib import Path

import pytest

from cosmos_eval.datasets.fetch.table import load_table
from cosmos_eval.models.spec import list_models
from cosmos_eval.protocol.benchmark import list_benchmarks, list_suites
from tests.helpers.documents import block, check_command, commands

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", *(f"docs/{page}.md" for page in ("evaluate", "fetch", "show", "publish", "own_data")))
}


def section(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def table(title: str) -> list[list[str]]:
    """Return the cells of the table in a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_exists_and_has_its_options(document: str):
    found = commands(DOCUMENTS[document])
    assert found
    for command in found:
        check_command(command)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_exists(document: str):
    for name in re.findall(r"--benchmark ([a-z0-9-]+)(?=[\s`])", DOCUMENTS[document]):
        assert name in list_benchmarks()
    for name in re.findall(r"--suite ([a-z0-9-]+)(?=[\s`])", DOCUMENTS[document]):
        assert name in list_suites()


def test_the_readme_has_its_two_commands():
    for which in ("main", "test"):
        assert README.count(f"<!-- newcomer: {which} -->") == 1
    assert "cosmos-eval quickstart" in README


def test_the_table_of_benchmarks_has_all_of_them_once():
    names = []
    for _, benchmarks in table("Benchmarks"):
        stems, _, of_all = benchmarks.partition("; each also with the ending ")
        for name, ending in re.findall(r"`([\w-]+?)(?:\[(-\w+)\])?`", stems):
            names += [name, name + ending] if ending else [name]
            names += [name + ending_of_all for ending_of_all in re.findall(r"`(-[\w-]+)`", of_all)]
    assert sorted(names) == list_benchmarks()


def test_the_table_of_models_has_every_kind_and_every_released_checkpoint():
    specs = [name for cell, *_ in table("Models") for name in re.findall(r"`([^`]+)`", cell)]
    listed = {model.spec for model in list_models()}
    assert {spec.partition(":")[0] for spec in specs} == {spec.partition(":")[0] for spec in listed}
    (about,) = [cell for specs, cell in table("Models") if "vitb16-DATA" in specs]
    released = {f"cosmos:{tower}-{data}" for tower in ("vitb16", "vitb32") for data in re.findall(r"`(\w+)`", about)}
    assert released == {spec for spec in listed if spec.startswith("cosmos:vitb")}


def test_the_real_evaluation_fetches_its_data_without_a_person():
    (command,) = [line for line in block(README, "bash", "--fetch").splitlines() if "--fetch" in line]
    name = re.search(r"--benchmark (\S+)", command)[1]
    recipe = load_table().recipes[name]
    assert recipe.how == "automatic"
    size = sum(artifact.automatic[0].size for artifact in recipe.artifacts)
    assert f"({size / 1e6:.0f} MB)" in section("A real evaluation")
    assert "--yes" in command
