"""The command line as a person meets it: help without weight, one line for every refusal, the contract's exit codes."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from cosmos_eval.cli import main as cli
from cosmos_eval.cli.console import LineReporter, duration
from tests.helpers.processes import hear_ctrl_c

HEAVY = (
    "torch", "torchvision", "pandas", "numpy", "open_clip", "mmseg", "mmengine", "clip_benchmark", "transformers",
    "PIL", "pyarrow", "yaml", "requests", "huggingface_hub", "jsonschema",
)  # fmt: skip
HELP = [
    [], ["quickstart"], ["run"], ["train"], ["watch"], ["leaderboard"], ["regress"], ["report"],
    ["list"], ["list", "models"], ["list", "benchmarks"], ["list", "suites"],
    ["list", "readers"], ["list", "templates"], ["list", "presets"], ["list", "objectives"], ["list", "settings"],
    ["reproduce"], ["data"], ["data", "check"], ["data", "fetch"], ["data", "prepare"], ["export"],
    ["results"], ["results", "list"], ["results", "show"], ["results", "diff"], ["results", "merge"],
    ["results", "schema"],
    ["show"], ["show", "segmentation"], ["show", "attention"], ["show", "retrieval"],
    ["show", "perception"], ["show", "model"],
    ["cache"], ["cache", "list"], ["cache", "verify"], ["cache", "clear"], ["cache", "export"],
]  # fmt: skip


def cosmos_eval(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cosmos_eval", *arguments], capture_output=True, text=True, timeout=300, **options
    )


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from cosmos_eval.cli.main import run_command\n"
        "assert run_command(['--help']) == 0\n"
        # plug-ins are not searched for; the parser of typer needs the module for the options of commands
        "assert 'importlib.metadata' not in sys.modules\n"
        f"for words in {HELP!r}:\n"
        "    assert run_command([*words, '--help']) == 0\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize("words", [words for words in HELP if words], ids=" ".join)
def test_every_help_shows_an_example(words, capsys):
    assert cli.run_command([*words, "--help"]) == 0
    assert "Example: cosmos-eval" in capsys.readouterr().out


def test_lists_import_nothing_heavy():
    code = (
        "import sys\n"
        "from cosmos_eval.cli.main import run_command\n"
        "for what in ('models', 'suites', 'benchmarks'):\n"
        "    assert run_command(['list', what]) == 0\n"
        "print('HEAVY', [name for name in ('torch', 'pandas', 'open_clip', 'mmseg') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stderr


def test_the_version_is_the_package_s(capsys):
    import cosmos_eval

    assert cli.run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"cosmos-eval {cosmos_eval.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bake"], "bake"),
        (["run", "--colour", "red"], "--colour"),
        (["run", "--model", "nonsense"], "nonsense"),
        (["run", "--model", "keras:x"], "keras"),
        (["run", "--benchmark", "imagenet2k"], "imagenet2k"),
        (["run", "--batch-size", "many"], "--batch-size"),
        (["leaderboard", "/nonexistent/place"], "/nonexistent/place"),
        (["train", "toybx"], "toybx"),
        (["run", "--suite", "papr"], "there is no suite 'papr'"),
        (["run", "--seed", "-1"], "--seed"),
        (["train", "toybox", "--set", "stepz=3", "--dry-run"], "stepz"),
        (["data", "prepare", "imagenet"], "imagenet"),
        (["data", "check", "no-such-set"], "no-such-set"),
    ],
)
def test_a_bad_request_is_one_line_and_exit_2(arguments, said, capsys):
    assert cli.run_command(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("cosmos-eval: ")
    assert said in lines[0]


def test_a_bug_is_one_line_exit_3_and_a_report(monkeypatch, capsys):
    def broken(name):
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("cosmos_eval.protocol.benchmark.list_suites", broken)
    monkeypatch.setattr("cosmos_eval.protocol.benchmark.load_benchmark", broken)
    monkeypatch.setattr("cosmos_eval.protocol.benchmark.list_benchmarks", lambda: broken(""))
    assert cli.run_command(["list", "benchmarks"]) == 3
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    report = re.search(r"with (\S+\.txt)", line).group(1)
    with open(report, encoding="utf-8") as stream:  # noqa: PTH123
        assert "ZeroDivisionError: surprise" in stream.read()
    os.unlink(report)  # noqa: PTH108


def test_a_full_disk_is_one_line_and_exit_2(monkeypatch, tmp_path, capsys):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))

    monkeypatch.setattr("cosmos_eval.results.store.read_results", full)
    assert cli.run_command(["leaderboard", str(tmp_path)]) == 2
    line = capsys.readouterr().err.strip()
    assert "No space left on device" in line
    assert "make room" in line


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_leave_with_their_codes(number, code):
    script = (
        "import sys, time\n"
        "import cosmos_eval.protocol.benchmark as protocol\n"
        "from cosmos_eval.cli.main import run_command\n"
        "def wait():\n"
        "    print('waiting', flush=True)\n"
        "    time.sleep(600)\n"
        "protocol.list_benchmarks = wait\n"
        "sys.exit(run_command(['list', 'benchmarks']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    assert process.returncode == code
    assert len(err.strip().splitlines()) == 1


def test_lists_are_lines_that_a_program_can_read(capsys):
    assert cli.run_command(["list", "benchmarks"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {"toybox-retrieval", "coco-val2017-retrieval", "imagenet1k"} <= {row[0] for row in rows}
    assert all(len(row) == 5 for row in rows)
    (coco,) = (row for row in rows if row[0] == "coco-val2017-retrieval")
    assert "val2017" in coco[4]  # what it needs on disk


@pytest.mark.parametrize("words", [[], ["list"], ["data"], ["results"]], ids=["nothing", "list", "data", "results"])
def test_a_command_without_arguments_shows_its_help(words, capsys):
    assert cli.run_command(words) == 0
    assert "Usage: cosmos-eval" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error():
    script = f"{sys.executable} -m cosmos_eval list benchmarks | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert done.stderr == ""


def test_train_dry_run_prints_the_resolved_configuration(capsys):
    import yaml

    assert cli.run_command(["train", "toybox", "--set", "steps=7", "--set", "lr=1e-3", "--dry-run"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["steps"], config["lr"], config["data"]) == (7, 1e-3, "toybox")


def test_plain_progress_tells_rate_and_end(capsys):
    reporter = LineReporter(sys.stderr, every=0.0)
    with reporter.task("encoding", 10, "images") as advance:
        time.sleep(0.01)
        advance(4)
        advance(6)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"encoding: 4/10 images, [\d,.]+ images/s, \d+ s, \d+ s left", lines[0])
    assert [line[:22] for line in lines[1:]] == ["encoding: 10/10 images"]  # the total is told once


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (125, "2 min 5 s"), (3780, "1 h 3 min")])
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_the_bar_of_a_terminal_tells_rate_and_time_left():
    import io

    from rich.console import Console

    from cosmos_eval.cli.console import RichReporter

    stream = io.StringIO()
    reporter = RichReporter(Console(file=stream, force_terminal=True, width=120))
    reporter.note("[bold]not markup[/bold]")
    with reporter.task("encoding [x]", 10, "images") as advance:
        for _ in range(10):
            advance(1)
            time.sleep(0.02)
    shown = stream.getvalue()
    assert "[bold]not markup[/bold]" in shown
    for part in ("encoding [x]", "10/10", "images/s", "eta"):
        assert part in shown


def test_words_on_how_the_work_goes_stay_until_the_next_ones(capsys):
    reporter = LineReporter(sys.stderr, every=0.0)
    with reporter.task("training", 3, "step") as advance:
        advance(1)
        advance(1, "loss 2.0")
        advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert "loss" not in lines[0]
    assert [line.partition("; ")[2] for line in lines[1:]] == ["loss 2.0"] * 2


def test_short_work_within_work_leaves_no_line_in_a_log(capsys):
    reporter = LineReporter(sys.stderr, every=60.0)
    with reporter.task("training", 1, "step") as advance:
        with reporter.task("encoding", 4, "images") as inner:
            inner(4)
        advance(1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("training: 1/1 step")


def test_work_within_work_has_a_bar_of_its_own_below():
    import io

    from rich.console import Console

    from cosmos_eval.cli.console import RichReporter

    stream = io.StringIO()
    reporter = RichReporter(Console(file=stream, force_terminal=True, width=160))
    with reporter.task("training", 3, "step") as advance:
        advance(1, "loss [2.0]")
        with reporter.task("encoding", 4, "images") as inner:
            inner(4)
            reporter.open.refresh()
        advance(2)
    for part in ("loss [2.0]", "1/3", "4/4", "3/3"):
        assert part in stream.getvalue()
    assert reporter.open is None


def test_dry_run_says_what_is_missing_and_writes_nothing(tmp_path, capsys):
    code = cli.run_command(
        ["run", "--benchmark", "coco-val2017-retrieval", "--benchmark", "toybox-retrieval", "--dry-run",
         "--data-root", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    )  # fmt: skip
    out = capsys.readouterr().out
    assert code == 2
    assert "coco-val2017-retrieval: missing" in out
    assert "toybox-retrieval: ready" in out
    assert not (tmp_path / "out").exists()


def test_json_of_the_schema_is_valid():
    from importlib import resources

    import jsonschema

    schema = json.loads(resources.files("cosmos_eval.results").joinpath("schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)


def test_progress_names_the_benchmark(capsys):
    from cosmos_eval.progress import use_benchmark_name

    reporter = LineReporter(sys.stderr, every=60.0)
    with use_benchmark_name("flowers"), reporter.task("encoding images", 4, "images") as advance:
        advance(4)
    with reporter.task("encoding images", 4, "images") as advance:
        advance(4)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("flowers, encoding images: 4/4")
    assert second.startswith("encoding images: 4/4")


def test_the_first_step_of_long_work_tells_what_is_left(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("cosmos_eval.progress_display.time.monotonic", lambda: clock[0])
    reporter = LineReporter(sys.stderr, every=0.9)
    with reporter.task("encoding", 100, "images") as advance:
        clock[0] = 0.5
        advance(1)
        (line,) = capsys.readouterr().err.splitlines()
        assert line == "encoding: 1/100 images, 2.0 images/s, 0 s, 50 s left"
        clock[0] = 0.6
        advance(1)
        assert capsys.readouterr().err == ""


def test_a_step_that_takes_long_shows_that_the_work_goes_on():
    import io
    from threading import Event

    written = Event()

    class Written(io.StringIO):
        def write(self, text):
            written.set()
            return super().write(text)

    stream = Written()
    with LineReporter(stream, every=1.0).task("encoding", 100, "images"):
        assert written.wait(120)
        assert stream.getvalue().startswith("encoding: 0/100 images")


def test_the_bar_tells_what_is_left_after_its_first_step():
    import io

    from rich.console import Console

    from cosmos_eval.cli.console import RichReporter

    stream = io.StringIO()
    reporter = RichReporter(Console(file=stream, force_terminal=True, width=160))
    with reporter.task("encoding", 1000, "images") as advance:
        time.sleep(0.02)
        advance(1)
        reporter.open.refresh()
    assert re.search(r"eta\W+(\x1b\[\d*m)*\d+ (s|min|h)", stream.getvalue())
