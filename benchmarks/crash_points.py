"""Every file operation below a folder as a point where a process can be killed: opening, writing, flushing, renaming,
linking, removing, making and truncating, counted in the process that does them.

A killed write leaves half of its bytes, as a crash may. What C++ writes by itself (pyarrow's tables) is one point: the
renaming that puts it in place.
"""

# paths come as strings, bytes and descriptors, and pathlib is among what is watched
# ruff: noqa: PTH100, PTH115, PTH117, PTH118

import builtins
import io
import os
import signal
import sys
import tarfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATHS = ("rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir", "chmod", "truncate")
DESCRIPTORS = ("fsync", "fdatasync", "ftruncate")


@dataclass
class Points:
    """The points of this process, from 1; it dies at number `kill_at`, before the operation is done."""

    root: str
    kill_at: int = 0
    """0: never."""
    log: list[str] = field(default_factory=list)
    """What each point was."""

    def reach(self, what: str, path: Any) -> bool:
        """Count one operation, if it is below the root; whether the process is to die in it."""
        try:
            name = os.path.abspath(os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path))
        except (OSError, TypeError):
            return False
        if name != self.root and not name.startswith(self.root + os.sep):
            return False
        self.log.append(f"{what} {os.path.relpath(name, self.root)}")
        return len(self.log) == self.kill_at

    def pass_or_die(self, what: str, path: Any) -> None:
        if self.reach(what, path):
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def intercepted(points: Points) -> Iterator[Points]:
    """Count the file operations of this process while the block runs."""
    before = {name: getattr(os, name) for name in (*PATHS, *DESCRIPTORS, "open", "write", "pwrite", "sendfile")}
    opened = builtins.open

    class Counted(io.FileIO):
        """A file whose writes are points."""

        def write(self, content: Any) -> int:
            if points.reach("write", self.fileno()):
                super().write(memoryview(content).cast("B")[: len(memoryview(content).cast("B")) // 2])
                die()
            return super().write(content) or 0

    def counted_open(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int):
            return opened(file, mode, buffering, *rest, **more)
        points.pass_or_die("open", file)
        raw = Counted(os.fspath(file), mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, *rest, **more)  # encoding, errors, newline

    def of_path(name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **more: Any) -> Any:
            if more.get("dir_fd") is not None and not os.path.isabs(path):
                points.pass_or_die(name, os.path.join(os.readlink(f"/proc/self/fd/{more['dir_fd']}"), path))
            else:
                points.pass_or_die(name, rest[0] if name in ("rename", "replace", "link") else path)
            return before[name](path, *rest, **more)

        return call

    def of_descriptor(name: str) -> Callable[..., Any]:
        def call(descriptor: Any, *rest: Any) -> Any:
            points.pass_or_die(name, descriptor if isinstance(descriptor, int) else descriptor.fileno())
            return before[name](descriptor, *rest)

        return call

    def write_of(name: str) -> Callable[..., Any]:
        def call(descriptor: int, content: Any, *rest: Any) -> Any:
            if points.reach(name, descriptor):
                before[name](descriptor, bytes(content)[: len(content) // 2], *rest)
                die()
            return before[name](descriptor, content, *rest)

        return call

    def open_low(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_CREAT | os.O_TRUNC):
            points.pass_or_die("create", path)
        return before["open"](path, flags, *rest, **more)

    replaced = {name: of_path(name) for name in PATHS} | {name: of_descriptor(name) for name in DESCRIPTORS}
    replaced |= {"open": open_low, "write": write_of("write"), "pwrite": write_of("pwrite")}
    replaced["sendfile"] = of_descriptor("sendfile")
    try:
        for name, call in replaced.items():
            setattr(os, name, call)
        builtins.open = io.open = tarfile.bltn_open = counted_open  # type: ignore[assignment]
        yield points
    finally:
        for name, call in before.items():
            setattr(os, name, call)
        builtins.open = io.open = tarfile.bltn_open = opened


def run_to_point(act: Callable[[], Any], root: Path, kill_at: int = 0, said: Path | None = None) -> int | list[str]:
    """Do something in a forked process that dies at a point.

    Args:
        act: what to do; a true answer that is a number is the process's exit code.
        root: the folder whose operations are counted.
        kill_at: the number of the point, from 1; 0: none.
        said: a file for what the process prints, outside the root.

    Returns:
        The points that it passed where it came to its end, or the (negative) signal or exit code that ended it.
    """
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(read)
        code = 70
        try:
            if said is not None:
                output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                os.dup2(output, 1)
                os.dup2(output, 2)
            with intercepted(Points(os.path.abspath(root), kill_at)) as points:
                code = int(act() or 0)
            with os.fdopen(write, "w") as pipe:
                pipe.write("\n".join(points.log))
        except SystemExit as left:
            code = int(left.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        log = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code else log.splitlines()
