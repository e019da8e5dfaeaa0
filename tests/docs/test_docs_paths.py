"""Every path, module and link in README, docs, results and comments exists, also after files are moved."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cosmos_core", "cosmos_eval", "benchmarks", "tests")
FOLDERS = (*PACKAGES, "docs", "results")
ENDINGS = {".md", ".py", ".yaml", ".yml", ".toml", ".json", ".js", ".css", ".html"}
FROZEN = ROOT / "tests" / "compatibility" / "frozen"
"""Files of an earlier version, with the names of that version."""

PATH = re.compile(rf"(?<![\w./{{}}<>-])(?:{'|'.join(FOLDERS)})/[\w./*-]*[\w*/](?![\w{{}}])")
RUN = re.compile(r"\bpython3? -m ([\w.]+)")
DOTTED = re.compile(r"(?<![\w/@.])cosmos_(?:eval|core)(?:\.\w+)+")
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
COMMAND = re.compile(r"Made by `python3? (?:-m )?([\w./]+)([^`]*)`")

OF_OTHERS = {
    "docs/openclip_results.csv", "docs/openclip_retrieval_results.csv",
    "results/mcq", "results/mcq/*.csv", "results/mcq/1_baseline_breakdown.csv",
}  # fmt: skip
"""Files of the repositories of open_clip and NegBench, which sources of figures name."""
NAMED_ELSEWHERE = {
    "benchmarks/train_throughput.py": {"results/train_throughput.md"},  # what it writes where there is a GPU
    "cosmos_eval/cli/streams.py": {"cosmos_eval.readable"},  # the name of an error handler
    "tests/core/test_plugins.py": {"cosmos_core.testing"},  # a group of entry points that the test makes up
    "CONTRIBUTING.md": {  # what its recipes make
        "cosmos_eval/protocols/small-toybox.yaml",
        "cosmos_eval/protocols/suites/small.yaml",
        "cosmos_eval/datasets/csv_labels.py",
        "cosmos_eval.datasets.csv_labels",
        "cosmos_eval/models/colours.py",
        "cosmos_eval.models.colours",
        "cosmos_eval/tasks/two_choice.py",
        "cosmos_eval.tasks.two_choice",
        "cosmos_eval/metrics/percentile.py",
        "cosmos_eval.metrics.percentile",
        "cosmos_core/objectives/hinge.py",
        "cosmos_core.objectives.hinge",
    },
}
"""File -> names in it that look like paths of this repository, but are not."""
GROUPS = {f"cosmos_eval.{what}" for what in ("protocols", "readers", "models", "tasks")} | {"cosmos_core.objectives"}
"""Groups of entry points."""


@cache
def sources() -> dict[str, str]:
    """Return the text of each file that may name others, by its path below the root."""
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    files = [*ROOT.glob("*.md"), ROOT / "pyproject.toml", *below]
    readable = [
        path for path in files if path.suffix in ENDINGS and FROZEN not in path.parents and path != Path(__file__)
    ]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(readable)}


def named(pattern: re.Pattern[str], *endings: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield the matches of a pattern in files with these endings, without NAMED_ELSEWHERE."""
    for file, text in sources().items():
        if file.endswith(endings):
            allowed = NAMED_ELSEWHERE.get(file, set()) | OF_OTHERS
            yield from ((file, match) for match in pattern.finditer(text) if match.group() not in allowed)


def module_file(name: str) -> Path | None:
    """Return the file of a module or package of this repository; None if there is no such file."""
    path = ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def exists(dotted: str) -> bool:
    """Whether `package.module.Name.attribute` exists: the module's file, and the name somewhere in this file."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        file = module_file(".".join(parts[:count]))
        if file is not None:
            rest = parts[count : count + 1]
            return (
                not rest
                or rest[0].startswith("__")
                or re.search(rf"\b{rest[0]}\b", file.read_text(encoding="utf-8")) is not None
            )
    return False


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a Markdown file."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_paths_exist():
    found = {(file, match.group()) for file, match in named(PATH, *ENDINGS)}
    # in code, `results/...` is mostly the output folder of a user
    committed = (".md", ".csv", ".png")
    found = {(f, path) for f, path in found if f.endswith(".md") or path[:8] != "results/" or path.endswith(committed)}
    assert len(found) > 100
    assert {(file, path) for file, path in found if not any(ROOT.glob(path.rstrip("/")))} == set()


def test_modules_that_are_run_exist():
    found = {(file, match[1]) for file, match in named(RUN, *ENDINGS) if match[1].split(".")[0] in PACKAGES}
    assert len(found) > 10
    runnable = {module for _, module in found if (ROOT.joinpath(*module.split(".")) / "__main__.py").is_file()}
    missing = {(file, module) for file, module in found if module not in runnable}
    assert {(file, module) for file, module in missing if not is_script(module)} == set()


def is_script(module: str) -> bool:
    file = module_file(module)
    return file is not None and '__name__ == "__main__"' in file.read_text(encoding="utf-8")


def test_dotted_names_exist():
    found = {(file, match.group()) for file, match in named(DOTTED, ".md", ".py") if match.group() not in GROUPS}
    assert len(found) > 100
    assert {(file, name) for file, name in found if not exists(name)} == set()


def test_links_and_their_anchors_exist():
    missing, seen = set(), 0
    for file, match in named(LINK, ".md"):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:|\{", target):
            continue
        seen += 1
        path, _, anchor = target.partition("#")
        to = (ROOT / file).parent / path if path else ROOT / file
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to.read_text(encoding="utf-8"))):
            missing.add((file, target))
    assert seen > 20
    assert missing == set()


def test_every_page_of_results_names_its_command_and_the_script_has_these_options():
    """Only the names of the options are checked; their values are tested with the script."""
    tables = sorted((ROOT / "results").glob("*.md"))
    assert len(tables) >= 9
    for table in tables:
        text = table.read_text(encoding="utf-8")
        assert "Made by `" in text, table.name
        for script, arguments in COMMAND.findall(text):
            module = script.removesuffix(".py").replace("/", ".")
            file = module_file(module)
            assert file is not None, (table.name, script)
            package = file.parent.glob("*.py") if file.name == "__init__.py" else [file, *ROOT.glob("benchmarks/*.py")]
            code = "".join(path.read_text(encoding="utf-8") for path in package)
            for option in re.findall(r"(?<!\S)--[a-z][\w-]*", arguments):
                assert f'"{option}"' in code, (table.name, script, option)


def test_every_figure_and_table_of_results_belongs_to_a_document():
    """A figure is named in a document, and a CSV file has a document of the same name."""
    documents = "".join(text for file, text in sources().items() if file.endswith(".md"))
    results = ROOT / "results"
    assert [path.name for path in results.glob("*.png") if path.name not in documents] == []
    assert [path.name for path in results.glob("*.csv") if not path.with_suffix(".md").is_file()] == []
