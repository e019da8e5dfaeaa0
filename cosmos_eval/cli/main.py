"""The entry point: commands; an error is printed as one line, with an exit code and without a traceback."""

import contextlib
import errno
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any

import typer

from cosmos_core.errors import RequestError, dead_worker_error, is_dead_worker_error
from cosmos_core.printable import printable
from cosmos_core.signals import Interrupted
from cosmos_eval.cli import (
    cache,
    data,
    export,
    leaderboard,
    list_,
    quickstart,
    regress,
    report,
    reproduce,
    results,
    run,
    show,
    show_attention,
    show_classification,
    show_gallery,
    show_geometry,
    show_model,
    train,
    watch,
)
from cosmos_eval.cli.arguments import check_arguments, refuse_empty_paths
from cosmos_eval.cli.streams import safe_streams
from cosmos_eval.cli.warnings_ import warnings_as_lines
from cosmos_eval.rank_environment import is_main_process

COMPLETION = "_COSMOS_EVAL_COMPLETE"
"""Environment variable that the completion script of a shell sets."""
DONE, ANSWER_IS_NO, BAD_REQUEST, BUG, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143

LAUNCHERS = {"TORCHELASTIC_RUN_ID", "SLURM_PROCID"}
"""Environment variables of launchers that end the other ranks when one has failed."""
SECONDS_TO_BE_ENDED = 30.0
"""How long a rank that prints nothing waits for its end; start-up takes as long on a busy machine."""

app = typer.Typer(
    name="cosmos-eval",
    help="Zero-shot evaluation of CLIP-like models: retrieval, classification, segmentation and perception; "
    "leaderboards, regression tests of checkpoints, and the training of COSMOS.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: cosmos-eval quickstart",
)
app.command(epilog=quickstart.EXAMPLE, short_help="Train, evaluate and report on the embedded dataset, in minutes.")(
    quickstart.quickstart
)
app.command(epilog=run.EXAMPLE, short_help="Evaluate models and write results.")(run.run)
app.command(epilog=train.EXAMPLE, short_help="Pretrain a COSMOS or its CLIP baseline.")(train.train)
app.command(epilog=export.EXAMPLE, short_help="Write a checkpoint for other programs.")(export.export)
app.command(epilog=watch.EXAMPLE, short_help="Evaluate a run's checkpoints as they appear.")(watch.watch)
app.command(epilog=leaderboard.EXAMPLE, short_help="Make tables from results.")(leaderboard.leaderboard)
app.command(epilog=regress.EXAMPLE, short_help="Is a checkpoint worse than another?")(regress.regress)
app.command(epilog=report.EXAMPLE, short_help="Write one HTML page about results.")(report.report)
app.command(epilog=reproduce.EXAMPLE, short_help="Compare results with published figures.")(reproduce.reproduce)
app.add_typer(list_.app, name="list")
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")
app.add_typer(results.app, name="results")
show.app.command(epilog=show_attention.EXAMPLE)(show_attention.attention)
show.app.command(epilog=show_gallery.RETRIEVAL)(show_gallery.retrieval)
show.app.command(epilog=show_gallery.PERCEPTION)(show_gallery.perception)
show.app.command(epilog=show_classification.EXAMPLE)(show_classification.classification)
show.app.command(epilog=show_geometry.EXAMPLE)(show_geometry.geometry)
show.app.command(epilog=show_model.EXAMPLE)(show_model.model)
app.add_typer(show.app, name="show")
check_arguments(app)


class Terminated(BaseException):
    """SIGTERM arrived: unwind like Ctrl-C, so that temporary files are removed."""


def version(show: bool) -> None:
    """Print the version and stop."""
    if show:
        import cosmos_eval

        print(f"cosmos-eval {cosmos_eval.__version__}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of the whole command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with the exit codes of the contract."""
    sys.exit(run_command(arguments))


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 the answer is no, 2 a bad request, 3 a bug, 130, 143."""
    with safe_streams(), warnings_as_lines():
        if os.environ.get(COMPLETION):  # the shell asks, not a user
            from cosmos_eval.cli.completion import answer_shell

            code = answer_shell(app)
        else:
            code = _run_command(arguments)
        try:
            sys.stdout.flush()
        except OSError as error:  # a full disk may be noticed only when buffered output is written
            code = code or say_os_error(error)
        sys.stderr.flush()
    return code


def _run_command(arguments: Sequence[str] | None) -> int:
    def terminate(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    before: Any = None
    with contextlib.suppress(ValueError):  # not in the main thread (a test): signals stay as they are
        before = signal.signal(signal.SIGTERM, terminate)
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        refuse_empty_paths(app, words)
        code = typer.main.get_command(app).main(args=words, prog_name="cosmos-eval", standalone_mode=False)
        # The parser may handle Ctrl-C itself and report it by its return value only.
        return say_stopped(INTERRUPTED) if code == INTERRUPTED else code if isinstance(code, int) else DONE
    except (KeyboardInterrupt, typer.Abort):
        return say_stopped(INTERRUPTED)
    except Terminated:
        return say_stopped(TERMINATED)
    except Interrupted as stopped:  # after a checkpoint
        if not stopped.quiet:
            say(str(stopped))
        return stopped.code
    except RequestError as error:
        if error.quiet:
            wait_to_be_ended()
        else:
            say(str(error))
        return BAD_REQUEST
    except OSError as error:
        return say_os_error(error)
    except SystemExit:  # raised by the parser when the reader of our output has closed the pipe (`| head`)
        return DONE
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.ctx.get_help())  # type: ignore[attr-defined]
            return DONE
        if is_dead_worker_error(error):  # raised by torch wherever the main process happens to be
            say(str(dead_worker_error(error, "--workers")))
            return BAD_REQUEST
        if memory_line := lack_of_memory(error):
            say(memory_line)
            return BAD_REQUEST
        if hasattr(error, "format_message"):  # a usage error of the parser
            message = error.format_message().rstrip(".").replace(": Value error, ", ": ")  # words of the parser's own
            say(f"{message}; see 'cosmos-eval --help'")
            return BAD_REQUEST
        return say_bug(error)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def say(line: str) -> None:
    """Print a message as one line on standard error."""
    print(f"cosmos-eval: {printable(' '.join(line.split()))}", file=sys.stderr)


def wait_to_be_ended() -> None:
    """Wait until the launcher ends this rank, since another one prints the error and may not have got that far.

    torchrun, and srun with --kill-on-bad-exit, end all ranks when the first has failed, even the one that would have
    told the reason.
    """
    if LAUNCHERS & os.environ.keys():
        with contextlib.suppress(KeyboardInterrupt, Terminated):
            time.sleep(SECONDS_TO_BE_ENDED)


def say_stopped(code: int) -> int:
    """Report that Ctrl-C or SIGTERM ended the work; of several ranks only the first prints it."""
    if not is_main_process():
        return code
    how = "interrupted" if code == INTERRUPTED else "terminated"
    say(f"{how}; finished work is kept, and the same command goes on from there")
    return code


def say_os_error(error: OSError) -> int:
    """Report an error of the operating system, such as a full disk or a folder without permission."""
    if error.errno is None:
        return say_bug(error)
    if isinstance(error, BrokenPipeError):
        return DONE  # the reader of our output has closed the pipe
    advice = {
        errno.ENOSPC: "make room and run again; finished work is kept",
        errno.EDQUOT: "make room and run again; finished work is kept",
        errno.EACCES: "choose a folder that you may write to",
        errno.EROFS: "choose a folder that can be written",
    }.get(error.errno, "check the path and run again")
    location = f" {error.filename}" if error.filename else ""
    say(f"{error.strerror}:{location or ' while writing'}; {advice}")
    return BAD_REQUEST


def lack_of_memory(error: Exception) -> str:
    """The line for an error that means a lack of memory, wherever it was raised; empty for another error."""
    if not isinstance(error, RuntimeError | MemoryError):
        return ""  # before torch is imported
    from cosmos_core.memory_errors import is_out_of_memory
    from cosmos_core.printable import one_line

    if not is_out_of_memory(error):
        return ""
    return f"out of memory ({one_line(str(error), 160)}); free memory, lower the batch size, or give another device"


def say_bug(error: Exception) -> int:
    """Report a bug of cosmos-eval or a plug-in: one line that names the file with the traceback."""
    import tempfile
    import traceback

    from cosmos_core.plugins import plugin_of_bug  # imports importlib.metadata, a fifth of the time of --help

    plugin = plugin_of_bug(error)
    problem = f"a bug in {f'the {plugin}' if plugin else 'cosmos-eval'} ({type(error).__name__}: {error})"
    authors = " to its authors" if plugin else ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="cosmos-eval-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as report:
            report.write("".join(traceback.format_exception(error)))
        say(f"{problem}; please report it{authors} with {report.name}")
    except OSError:
        say(f"{problem}; its traceback could not be written")
    return BUG


if __name__ == "__main__":
    main()
