"""Output on terminals that lack characters, into pipes whose reader has gone, and into nothing."""

import io
import json
import os
import subprocess
import sys

import pytest

from cosmos_eval.cli import main as cli
from cosmos_eval.cli.streams import Stream
from cosmos_eval.results.store import write_result
from tests.helpers.boards import result_of


def in_shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script whose `$CE` is the command; exit codes of a pipe by `${PIPESTATUS[0]}`."""
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        timeout=300,
        check=False,
        env={**os.environ, "CE": f"{sys.executable} -m cosmos_eval", **environment},
        encoding="latin-1",
    )


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "I->T -: +/- x \\xe9 \\u4e2d ..."),
        ("latin-1", "I->T -: ± × é \\u4e2d ..."),
        ("cp1252", "I->T –: ± × é \\u4e2d …"),
        ("utf-8", "I→T –: ± × é 中 …"),
    ],
)
def test_what_an_encoding_lacks_is_replaced_by_what_can_be_read(encoding, expected):
    held = io.BytesIO()
    inner = io.TextIOWrapper(held, encoding=encoding)
    Stream(inner, escape=True, optional=False).write("I→T –: ± × é 中 …")
    inner.flush()
    assert held.getvalue().decode(encoding) == expected


def test_control_characters_and_half_characters_are_written_as_escapes():
    inner = io.StringIO()
    stream = Stream(inner, escape=True, optional=False)
    print("name\x1b[2J\x9b1m\r\tcolumn", file=stream)
    assert inner.getvalue() == "name\\x1b[2J\\x9b1m\\r\tcolumn\n"
    held = io.BytesIO()
    inner = io.TextIOWrapper(held, encoding="utf-8")
    Stream(inner, escape=True, optional=False).write("\udcff")
    inner.flush()
    assert held.getvalue() == b"\\udcff"


class Refusing(io.StringIO):
    """A stream that fails as a device does."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize("optional", [True, False])
def test_output_whose_reader_has_gone_is_dropped(optional):
    stream = Stream(Refusing(BrokenPipeError(32, "Broken pipe")), escape=True, optional=optional)
    stream.write("first")
    stream.write("second")
    stream.flush()


def test_messages_that_cannot_be_written_end_no_work_and_lost_output_is_an_error():
    full = OSError(28, "No space left on device")
    Stream(Refusing(full), escape=False, optional=True).write("a note")
    with pytest.raises(OSError, match="No space left"):
        Stream(Refusing(full), escape=False, optional=False).write("a table")


@pytest.mark.parametrize("encoding", ["cp1252"])
def test_a_table_reaches_a_terminal_that_lacks_its_signs(encoding, tmp_path):
    write_result(tmp_path / "a", result_of("one", "toybox-retrieval"))
    done = in_shell(f"$CE leaderboard {tmp_path}", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "I->T" in done.stdout
    assert "→" in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")


def test_closed_and_full_standard_output():
    script = (
        "$CE list suites >&-; echo closed $?; $CE list suites >&- 2>&-; echo both $?; "
        "$CE list suites >/dev/full; echo full $?; $CE list nothing 2>&1 | true; echo refused ${PIPESTATUS[0]}; "
        "$CE list suites 2>&1 | true; echo piped ${PIPESTATUS[0]}"
    )
    done = in_shell(script)
    assert done.stdout.split() == ["closed", "0", "both", "0", "full", "2", "refused", "2", "piped", "0"]
    (line,) = done.stderr.splitlines()
    assert "No space left on device" in line


def test_the_exit_code_is_the_answer_s_where_the_reader_has_gone(monkeypatch):
    import typer

    def answer(*arguments, **options):
        print("worse")
        raise typer.Exit(1)

    monkeypatch.setattr("cosmos_eval.regress.compare.compare", answer)
    monkeypatch.setattr("cosmos_eval.results.store.read_model", lambda path: {})
    monkeypatch.setattr(sys, "stdout", Refusing(BrokenPipeError(32, "Broken pipe")))
    assert cli.run_command(["regress", "a", "b"]) == 1


def test_a_folder_whose_name_is_not_of_the_locale_s_encoding(tmp_path):
    """In a C locale Python takes the two bytes of é for two half characters."""
    folder = tmp_path / "été"
    write_result(folder / "a", result_of("\udcc3\udca9", "toybox-retrieval"))
    options = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "LANG": ""}
    done = in_shell(f"$CE leaderboard '{folder}' --format md,json,csv,tex,html", **options)
    assert done.returncode == 0, done.stderr
    assert "\\udcc3\\udca9t\\udcc3\\udca9/leaderboard.json" in done.stderr
    assert json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))["rows"]


def test_names_of_data_make_no_lines_of_their_own(tmp_path, capsys):
    """A caption file names an image whose name tries to be a line of ours, and clears the screen."""
    evil = "gone\nready    everything\x1b[2J\u202e.jpg"
    (tmp_path / "d.jsonl").write_text(json.dumps({"image": evil, "captions": ["a"]}) + "\n")
    (tmp_path / "d.yaml").write_text(
        "name: d\nversion: 1\ntask: retrieval\ndataset: {reader: jsonl, path: d.jsonl}\n"
        "metrics: {primary: text_to_image_recall@1, k: [1]}\nsource: own\n"
    )
    assert cli.run_command(["data", "check", str(tmp_path / "d.yaml")]) == 1
    assert cli.run_command(["run", "--benchmark", str(tmp_path / "d.yaml"), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert "gone" in text
        assert not set(text) & set("\x1b\u202e")
        assert not any(line.startswith("ready    everything") for line in text.splitlines())
