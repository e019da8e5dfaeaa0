"""The end of `run`: numbers, and commands that work as printed."""

import re
import shlex
from pathlib import Path

from cosmos_eval.cli.main import run_command
from cosmos_eval.cli.table import print_results
from cosmos_eval.results.store import write_result
from cosmos_eval.run.result_folders import folder_of_model
from tests.helpers.boards import result_of


def printed_commands(text: str) -> list[list[str]]:
    return [shlex.split(command) for command in re.findall(r"cosmos-eval (.+)", text)]


def test_a_limited_run_prints_marked_numbers_and_how_to_see_all_of_them(tmp_path: Path, capsys):
    out = tmp_path / "my runs"
    options = ["--device", "cpu", "--no-cache", "--limit", "8", "--out", str(out)]
    assert run_command(["run", "--benchmark", "toybox-perception", "--benchmark", "toybox-retrieval", *options]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "cosmos:toybox: percent, with 95 % intervals"
    number = r"\d+\.\d \[\d+\.\d, \d+\.\d\]"
    marked = "; on 8 images only \\(--limit\\)"
    assert re.fullmatch(rf"  toybox-perception  macro_accuracy {number}{marked}", lines[1])
    assert re.fullmatch(rf"  toybox-retrieval   I→T R@1 {number}, T→I R@1 {number}{marked}", lines[2])
    commands = printed_commands(text)
    assert [command[:2] for command in commands] == [["results", "list"], ["results", "show"]]
    for command in commands:
        assert run_command(command) == 0, command
    assert "leaderboard" not in text  # it would rank nothing


def test_a_whole_run_names_the_commands_of_the_table_and_the_page(tmp_path: Path, capsys):
    out = tmp_path / "a"
    results = [result_of("m", "toybox-retrieval"), result_of("m", "toybox-retrieval", limit=3)]
    for result in results[:1]:
        model = folder_of_model(result.model.spec, result.model.digest)
        write_result(out / model / result.benchmark.name, result)
    print_results(results, out)
    commands = printed_commands(capsys.readouterr().out)
    assert commands[:2] == [["leaderboard", str(out)], ["report", str(out)]]
    assert commands[2][:2] == ["results", "show"]
    print_results(results, out, "toybox")  # one suite: its tables have its averages
    of_suite = printed_commands(capsys.readouterr().out)
    assert [command[-2:] for command in of_suite[:2]] == [["--suite", "toybox"]] * 2
    for command in (commands[0], of_suite[0], commands[2]):
        assert run_command(command) == 0
