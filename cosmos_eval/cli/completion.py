"""Shell completion: the names that may stand behind an option or as an argument (`cosmos-eval --install-completion`).

The shell starts the command at each press of the tab key, so nothing here imports torch or pandas, and what cannot be
found out is not offered: no message may appear while the user types. Where no name fits, the shell offers files.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import typer

from cosmos_eval.cli.arguments import name_of, parameters_of

VARIABLE = "_COSMOS_EVAL_COMPLETE"
"""Environment variable with which the script of the shell asks for completions, as in `complete_bash`."""
DEFINITION_SUFFIXES = (".yaml", ".yml")
TABLE_FORMATS = ("md", "csv", "tex", "html", "json", "clip-benchmark", "model-index")
"""The formats of `leaderboard`; its own list imports pandas."""
REPRODUCE_FORMATS = ("md", "json")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
CODES = ("int8", "binary")
Complete = Callable[..., list[str]]
"""`incomplete`, the beginning of a word -> the words that begin with it; may also take the parser's `typer.Context`."""


def answer_shell(app: typer.Typer) -> int:
    """Print the completions of the line in the environment; returns the exit code that the shell's script reads."""
    add_completion(app)
    split_off = join_bash_environment() if os.environ[VARIABLE] == "complete_bash" else 0
    answer = io.StringIO()
    code = 0
    with warnings.catch_warnings(), contextlib.redirect_stdout(answer):
        warnings.simplefilter("ignore")  # for example of plug-ins
        try:
            typer.main.get_command(app).main(args=[], prog_name="cosmos-eval", standalone_mode=False)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except Exception:  # of a line that is not a command yet, such as an option with a wrong value
            code = 1
    for line in answer.getvalue().rstrip("\n").splitlines():  # no line where nothing fits: the shell then offers files
        if line[split_off:] or not split_off:
            print(line[split_off:])
    return code


# What completes which parameter


def add_completion(app: typer.Typer) -> None:
    """Let the options and arguments of all commands of an app be completed, by the tables below."""
    for command in app.registered_commands:
        if command.callback is None:
            continue
        command_name = command.name or command.callback.__name__
        for parameter, info in parameters_of(command.callback):
            shown_name = name_of(parameter, info)
            own = OF_COMMAND.get((command_name, shown_name), OF_EVERY_COMMAND.get(shown_name))
            if own is not None:
                info.autocompletion = own
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_completion(group.typer_instance)


def _benchmarks() -> Iterable[str]:
    from cosmos_eval.protocol.folders import definition_files

    return sorted(definition_files())


def _suites() -> Iterable[str]:
    from cosmos_eval.protocol.folders import suite_files

    return sorted(suite_files())


def _benchmarks_and_suites() -> Iterable[str]:
    return sorted({*_benchmarks(), *_suites()})


def _models() -> Iterable[str]:
    from cosmos_core.released import RELEASED
    from cosmos_eval.models.spec import MODELS

    yield from (f"{kind}:" for kind in MODELS.names())
    yield from (f"cosmos:{name}" for name in ("toybox", "untrained-toybox", *RELEASED))


def _checkpoints() -> Iterable[str]:
    from cosmos_core.released import RELEASED

    return RELEASED


def _presets() -> Iterable[str]:
    import cosmos_core

    return sorted(path.stem for path in (Path(cosmos_core.__file__).parent / "presets").glob("*.yaml"))


def _readers() -> Iterable[str]:
    from cosmos_eval.datasets.reader_registry import READERS

    return READERS.names()


def _templates() -> Iterable[str]:
    from cosmos_eval.datasets.prompts import FROM_DATASET, list_template_sets

    return [*list_template_sets(), FROM_DATASET]


def _class_names() -> Iterable[str]:
    from cosmos_eval.datasets.prompts import NAMED_CLASSES

    return [name for name in NAMED_CLASSES if not name.endswith("NAME")]


def _prepared() -> Iterable[str]:
    from cosmos_eval.cli.data import SHUFFLES
    from cosmos_eval.datasets.fetch.table import PREPARE

    return ["toybox", *PREPARE, *SHUFFLES, "resized"]


def _words(words: Iterable[str]) -> Callable[[], Iterable[str]]:
    return lambda: words


def names(find_names: Callable[[], Iterable[str]], *, files: bool = False) -> Complete:
    """Complete one of some names.

    Args:
        files: whether YAML files of the current folder are offered as well.
    """

    def complete(incomplete: str) -> list[str]:
        candidates = [*find_names(), *(_definition_files() if files else ())]
        return [name for name in dict.fromkeys(candidates) if name.startswith(incomplete)]

    return complete


def list_of(words: Iterable[str]) -> Complete:
    """Complete the last of some words with commas between them; a word is not offered twice."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        left = [word for word in words if word.startswith(last) and word not in before.split(",")]
        return [f"{before}{comma}{word}" for word in left]

    return complete


def complete_source(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a source of the benchmarks that stand before it; of all benchmarks where a suite is among them."""
    from cosmos_eval.datasets.fetch.table import load_table

    table = load_table()
    named = context.args  # what the parser left when it met an option without its value
    wanted = named if named and all(name in table.recipes for name in named) else table.recipes
    artifacts = [artifact for name in wanted for artifact in table.recipes[name].artifacts]
    sources = sorted({source.name for artifact in artifacts for source in artifact.sources})
    return [name for name in sources if name.startswith(incomplete)]


def _definition_files() -> Iterator[str]:
    """YAML files of the current folder; a name with a space would be read as two by the shell's script."""
    with os.scandir() as entries:
        found = [entry.name for entry in entries if entry.name.endswith(DEFINITION_SUFFIXES) and entry.is_file()]
    yield from sorted(name for name in found if not name.startswith(".") and len(name.split()) == 1)


BENCHMARK = names(_benchmarks, files=True)
SUITE = names(_suites, files=True)
BENCHMARK_OR_SUITE = names(_benchmarks_and_suites, files=True)
OF_EVERY_COMMAND: dict[str, Complete] = {
    "--model": names(_models),
    "--suite": SUITE,
    "--benchmark": BENCHMARK,
    "--templates": names(_templates),
    "--class-names": names(_class_names),
    "--device": names(_words(DEVICES)),
    "--precision": names(_words(PRECISIONS)),
    "--quantize": names(_words(CODES)),
    "--decoder": names(_words(("pil", "torchvision", "draft"))),
    "--network": names(_words(("teacher", "student", "both"))),
    "--reference": names(_words(("paper",))),
}
"""Option -> how it is completed, wherever it occurs."""
OF_COMMAND: dict[tuple[str, str], Complete] = {
    ("check", "NAMES"): BENCHMARK_OR_SUITE,
    ("fetch", "NAMES"): BENCHMARK_OR_SUITE,
    ("model", "SPEC"): names(_models),
    ("fetch", "--source"): complete_source,
    ("fetch", "--accept-terms"): names(_benchmarks),
    ("prepare", "NAME"): names(_prepared),
    ("prepare", "BENCHMARKS"): BENCHMARK_OR_SUITE,
    ("prepare", "--resize"): names(_words(("shortest", "longest", "squash"))),
    ("prepare", "--interpolation"): names(_words(("bicubic", "bilinear"))),
    ("readers", "NAME"): names(_readers),
    ("suites", "NAME"): SUITE,
    ("templates", "NAME"): names(_templates),
    ("train", "PRESET_OR_YAML"): names(_presets, files=True),
    ("export", "CHECKPOINT"): names(_checkpoints),
    ("reproduce", "SUITE"): names(_suites),
    ("reproduce", "--format"): list_of(REPRODUCE_FORMATS),
    ("leaderboard", "--format"): list_of(TABLE_FORMATS),
}
"""(command, option or argument) -> how it is completed in that command."""


# Bash splits words at colons and equals signs, too: `--model=cosmos:toy` arrives as `--model = cosmos : toy`


def join_bash_environment() -> int:
    """Join the words in the environment variables that the parser reads.

    Returns:
        How many characters of the word at the cursor bash takes for words before it: it replaces only the rest.
    """
    words = os.environ.get("COMP_WORDS", "").split("\n")  # as the script of the shell joins them
    position = os.environ.get("COMP_CWORD", "")
    cursor = int(position) if position.isdecimal() else len(words) - 1
    joined, cursor, split_off = join_bash_words(words, cursor)
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(joined), str(cursor)
    return split_off


def join_bash_words(words: list[str], cursor: int) -> tuple[list[str], int, int]:
    """Join the words of a line as bash splits them.

    Args:
        words: among them `:` and `=` as words of their own.
        cursor: number of the word that is completed.

    Returns:
        The words as the command gets them, with an option and its value as two; the number of the word that is
        completed; and how many of its characters bash takes for earlier words.
    """
    joined: list[str] = []
    new_cursor, split_off = cursor, 0
    continues = False
    for number, word in enumerate([*words, *[""] * (cursor + 1 - len(words))]):
        is_break = bool(word) and not word.strip(":=")
        is_equals_of_option = word == "=" and bool(joined) and joined[-1].startswith("--")
        if is_equals_of_option:
            if number == cursor:
                new_cursor, split_off = len(joined), 0
                joined.append("")
            continues = False
            continue
        before = len(joined[-1]) if joined else 0
        if joined and (is_break or continues) and number:
            joined[-1] += word
        else:
            before = 0
            joined.append(word)
        if number == cursor:
            new_cursor, split_off = len(joined) - 1, before + (len(word) if is_break else 0)
        continues = is_break
    return joined, new_cursor, split_off
