"""Shell completion: names of ours behind options and as arguments, in the protocol of the shells' scripts."""

import os
import subprocess
import sys

import pytest
import typer

from cosmos_core.config import list_presets
from cosmos_eval.cli import completion
from cosmos_eval.cli.arguments import name_of, parameters_of
from cosmos_eval.cli.completion import OF_COMMAND, OF_EVERY_COMMAND, join_bash_words
from cosmos_eval.cli.main import app, run_command
from cosmos_eval.protocol.benchmark import list_benchmarks, list_suites

HEAVY = ("torch", "pandas", "numpy", "open_clip", "transformers", "PIL", "requests", "huggingface_hub")


@pytest.fixture
def complete(monkeypatch, capsys, tmp_path):
    """The completions of a line whose words are split as bash splits them; the last one is at the cursor."""
    monkeypatch.chdir(tmp_path)

    def answer(*words: str) -> list[str]:
        monkeypatch.setenv("_COSMOS_EVAL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["cosmos-eval", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        assert run_command([]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.splitlines()

    return answer


def test_benchmarks_and_suites_are_completed_where_they_are_taken(complete):
    assert complete("run", "--benchmark", "") == sorted(list_benchmarks())
    of_cifar100 = [name for name in sorted(list_benchmarks()) if name.startswith("cifar100")]
    assert complete("run", "--benchmark", "cifar100") == of_cifar100
    assert {"cifar100", "cifar100-vtab"} <= set(of_cifar100)
    assert complete("run", "--suite", "") == sorted(list_suites())
    both = sorted({*list_benchmarks(), *list_suites()})
    for command in ("check", "fetch"):
        assert complete("data", command, "") == both
        assert complete("data", command, "cifar10", "svo") == ["svo-probes"]  # a second one
    assert complete("data", "prepare", "resized", "svo") == ["svo-probes"]
    assert complete("watch", "runs/x", "--suite", "paper-r") == ["paper-retrieval"]
    assert complete("reproduce", "paper-r") == ["paper-retrieval"]
    assert complete("show", "segmentation", "--benchmark", "voc20-cs") == ["voc20-csa"]
    assert complete("regress", "a", "b", "--benchmark", "svo") == ["svo-probes"]


def test_own_definitions_of_this_folder_are_offered_and_other_paths_are_left_to_the_shell(complete, tmp_path):
    for name in ("mine.yaml", "more.yml", "notes.txt", ".hidden.yaml", "two words.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "folder.yaml").mkdir()
    shipped = [name for name in sorted(list_benchmarks()) if name[0] == "m"]
    assert complete("run", "--benchmark", "m") == [*shipped, "mine.yaml", "more.yml"]
    assert complete("data", "check", "mi") == ["mine.yaml"]
    assert complete("train", "m") == [*(name for name in list_presets() if name[0] == "m"), "mine.yaml", "more.yml"]
    assert complete("data", "fetch", "mi") == ["mine.yaml"]
    assert complete("run", "--benchmark", "./mi") == []  # bash then offers files
    assert complete("run", "--out", "m") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["list", "rea"], ["readers"]),
        (["list", "readers", "parq"], ["parquet"]),
        (["list", "templates", "open"], ["openai-80"]),
        (["run", "--templates", "sim"], ["simple-7"]),
        (["run", "--class-names", "im"], ["imagenet1k"]),
        (["run", "--decoder", "t"], ["torchvision"]),
        (["run", "--precision", "b"], ["bf16"]),
        (["run", "--device", "c"], ["cpu", "cuda"]),
        (["train", "toy"], ["toybox"]),
        (["data", "prepare", "coco"], ["coco-stuff", "coco-object"]),
        (["data", "prepare", "aro"], ["aro-coco-order", "aro-flickr30k-order"]),
        (["data", "fetch", "cifar10-vtab", "--source", "c"], ["clip-benchmark"]),  # of this benchmark
        (["data", "fetch", "compositional", "--source", "fl"], ["flair"]),  # of all
        (["data", "fetch", "--source", "fl"], ["flair"]),
        (["leaderboard", "runs", "--format", "m"], ["md", "model-index"]),
        (["leaderboard", "runs", "--format", "md,csv,c"], ["md,csv,clip-benchmark"]),
        (["leaderboard", "runs", "--format", "md,m"], ["md,model-index"]),
        (["leaderboard", "runs", "--reference", ""], ["paper"]),
        (["reproduce", "paper", "--format", "md,"], ["md,json"]),
        (["watch", "runs", "--network", "b"], ["both"]),
        (["export", "vitb16-cc3"], ["vitb16-cc3m"]),
        (["show", "att"], ["attention"]),
        (["data", "ch"], ["check"]),
        (["run", "--bench"], ["--benchmark"]),
        # what stands before it is wrong, and is left to the command
        (["run", "--cache-limit", "-1", "--benchmark", "svo"], None),
        (["run", "--max-image-pixels", "0", "--benchmark", "svo"], ["svo-probes"]),
    ],
    ids=lambda value: " ".join(value or ()),
)
def test_names_are_completed(complete, words, expected, monkeypatch, capsys):
    if expected is None:  # nothing, and above all no message
        monkeypatch.setenv("_COSMOS_EVAL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["cosmos-eval", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        run_command([])
        assert capsys.readouterr().err == ""
    else:
        assert complete(*words) == expected


def test_model_specs_are_completed_though_bash_splits_them_at_the_colon(complete):
    assert complete("run", "--model", "o") == ["open_clip:"]
    assert complete("run", "--model", "cosmos", ":", "toy") == ["toybox"]  # bash replaces what follows the colon
    assert "vitb16-cc3m" in complete("run", "--model", "cosmos", ":")
    assert complete("run", "--model", "=", "cosmos", ":", "toy") == ["toybox"]
    assert complete("run", "--benchmark", "=", "svo") == ["svo-probes"]
    assert complete("run", "--templates", "clip-benchmark", ":", "cars") == ["cars"]
    assert complete("run", "--model", "cosmos:toy") == ["cosmos:toybox"]  # with a colon that bash does not split at


@pytest.mark.parametrize(
    ("words", "cursor", "expected"),
    [
        (["a", "b"], 1, (["a", "b"], 1, 0)),
        (["a", "b"], 2, (["a", "b", ""], 2, 0)),
        (["a", "--m", "x", ":", "y"], 4, (["a", "--m", "x:y"], 2, 2)),
        (["a", "--m", "x", ":"], 3, (["a", "--m", "x:"], 2, 2)),
        (["a", "--m", "="], 2, (["a", "--m", ""], 2, 0)),
        (["a", "--m", "=", "x"], 3, (["a", "--m", "x"], 2, 0)),
        (["a", "--m", "x", ":", "y", "z"], 5, (["a", "--m", "x:y", "z"], 3, 0)),
        (["a", "--set", "lr", "=", "1"], 4, (["a", "--set", "lr=1"], 2, 3)),
        (["a", "x", ":", "y", ":", "z"], 5, (["a", "x:y:z"], 1, 4)),
        (["a", "--m", "x", ":", "y"], 1, (["a", "--m", "x:y"], 1, 0)),
    ],
)
def test_words_that_bash_splits_are_joined(words, cursor, expected):
    assert join_bash_words(words, cursor) == expected


def test_other_shells_get_whole_words_and_fish_learns_when_to_offer_files(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def ask(shell: str, line: str, action: str = "get-args") -> tuple[int, str]:
        monkeypatch.setenv("_COSMOS_EVAL_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", action)
        code = run_command([])
        return code, capsys.readouterr().out

    code, text = ask("zsh", "cosmos-eval run --model cosmos:to")
    assert code == 0
    assert r'"cosmos\\:toybox"' in text
    assert ask("zsh", "cosmos-eval run --benchmark ./")[1] == "_files\n"
    assert ask("fish", "cosmos-eval run --model cosmos:to") == (0, "cosmos:toybox\n")
    assert ask("fish", "cosmos-eval run --benchmark svo", "is-args")[0] == 0
    assert ask("fish", "cosmos-eval run --benchmark ./", "is-args")[0] == 1


def test_the_tables_fit_the_commands():
    parameters = set()

    def visit(group: typer.Typer) -> None:
        for command in group.registered_commands:
            name = command.name or command.callback.__name__
            parameters.update((name, name_of(one, info)) for one, info in parameters_of(command.callback))
        for inner in group.registered_groups:
            visit(inner.typer_instance)

    visit(app)
    assert set(OF_COMMAND) <= parameters  # a parameter that was renamed would no longer be completed
    assert set(OF_EVERY_COMMAND) <= {name for _, name in parameters}


def test_lists_that_are_written_twice_are_those_of_the_commands():
    from cosmos_eval.datasets.decoders import DECODERS
    from cosmos_eval.engine.precision import PRECISIONS
    from cosmos_eval.models.preprocess import INTERPOLATIONS, RESIZE_MODES
    from cosmos_eval.published.references import PAPER
    from cosmos_eval.published.tables import FORMATS as REPRODUCE_FORMATS
    from cosmos_eval.report.tables import EXCHANGE, FORMATS

    assert (*FORMATS, *EXCHANGE) == completion.TABLE_FORMATS
    assert completion.REPRODUCE_FORMATS == REPRODUCE_FORMATS
    assert ("auto", *PRECISIONS) == completion.PRECISIONS
    assert OF_EVERY_COMMAND["--decoder"]("") == list(DECODERS)
    assert OF_EVERY_COMMAND["--reference"]("") == [PAPER]
    assert OF_COMMAND["prepare", "--resize"]("") == list(RESIZE_MODES)
    assert OF_COMMAND["prepare", "--interpolation"]("") == list(INTERPOLATIONS)


def test_bash_completes_with_the_script_of_show_completion_and_nothing_heavy_is_imported(tmp_path):
    """The whole way: the script, bash's own splitting, and the command, whose imports are told by a file."""
    program = tmp_path / "cosmos-eval"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "from cosmos_eval.cli.main import run_command\n"
        "code = run_command()\n"
        f"open({str(tmp_path / 'imported')!r}, 'a').write(' '.join({{*{HEAVY!r}}} & sys.modules.keys()))\n"
        "sys.exit(code)\n"
    )
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = """
        eval "$(_COSMOS_EVAL_COMPLETE=source_bash cosmos-eval)"
        for line in "--benchmark svo" "--model cosmos : toy"; do
            COMP_WORDS=(cosmos-eval run $line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _cosmos_eval_completion cosmos-eval; echo "${COMPREPLY[@]}"
        done
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines() == ["svo-probes", "toybox"], done.stderr
    assert (tmp_path / "imported").read_text() == ""
