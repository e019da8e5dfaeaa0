"""File operations below a folder as points at which a process can be killed.

Opening, writing, flushing, renaming, linking, removing, creating and truncating are counted in the process itself. A
killed write leaves half of its bytes, as a crash can do. Files that C++ code writes (pyarrow's tables) have one point:
the rename to their final name.
"""

# os.path in place of pathlib: paths may be strings, bytes or descriptors, and pathlib itself is intercepted
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
    """The points of this process, numbered from 1. It is killed at point `kill_at`, before the operation is done."""

    root: str
    kill_at: int = 0
    """0: never killed."""
    log: list[str] = field(default_factory=list)
    """A description of each point."""

    def reach(self, operation: str, path: Any) -> bool:
        """Count one operation, if it is below the root; return whether the process is to be killed in it."""
        try:
            name = os.path.abspath(os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path))
        except (OSError, TypeError):
            return False
        if name != self.root and not name.startswith(self.root + os.sep):
            return False
        self.log.append(f"{operation} {os.path.relpath(name, self.root)}")
        return len(self.log) == self.kill_at

    def pass_or_die(self, operation: str, path: Any) -> None:
        if self.reach(operation, path):
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def intercepted(points: Points) -> Iterator[Points]:
    """Count the file operations of this process while the block runs."""
    original = {name: getattr(os, name) for name in (*PATHS, *DESCRIPTORS, "open", "write", "pwrite", "sendfile")}
    original_open = builtins.open

    class CountedFile(io.FileIO):
        """A file whose writes are points."""

        def write(self, content: Any) -> int:
            if points.reach("write", self.fileno()):
                content_bytes = memoryview(content).cast("B")
                super().write(content_bytes[: len(content_bytes) // 2])
                die()
            return super().write(content) or 0

    def counted_open(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int):
            return original_open(file, mode, buffering, *rest, **more)
        points.pass_or_die("open", file)
        raw = CountedFile(os.fspath(file), mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, *rest, **more)  # encoding, errors, newline

    def counted_path_call(name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **more: Any) -> Any:
            if more.get("dir_fd") is not None and not os.path.isabs(path):
                points.pass_or_die(name, os.path.join(os.readlink(f"/proc/self/fd/{more['dir_fd']}"), path))
            else:
                points.pass_or_die(name, rest[0] if name in ("rename", "replace", "link") else path)
            return original[name](path, *rest, **more)

        return call

    def counted_descriptor_call(name: str) -> Callable[..., Any]:
        def call(descriptor: Any, *rest: Any) -> Any:
            points.pass_or_die(name, descriptor if isinstance(descriptor, int) else descriptor.fileno())
            return original[name](descriptor, *rest)

        return call

    def counted_write(name: str) -> Callable[..., Any]:
        def call(descriptor: int, content: Any, *rest: Any) -> Any:
            if points.reach(name, descriptor):
                original[name](descriptor, bytes(content)[: len(content) // 2], *rest)
                die()
            return original[name](descriptor, content, *rest)

        return call

    def counted_os_open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_CREAT | os.O_TRUNC):
            points.pass_or_die("create", path)
        return original["open"](path, flags, *rest, **more)

    replaced = {name: counted_path_call(name) for name in PATHS} | {
        name: counted_descriptor_call(name) for name in DESCRIPTORS
    }
    replaced |= {"open": counted_os_open, "write": counted_write("write"), "pwrite": counted_write("pwrite")}
    replaced["sendfile"] = counted_descriptor_call("sendfile")
    try:
        for name, call in replaced.items():
            setattr(os, name, call)
        builtins.open = io.open = tarfile.bltn_open = counted_open  # type: ignore[attr-defined]
        yield points
    finally:
        for name, call in original.items():
            setattr(os, name, call)
        builtins.open = io.open = tarfile.bltn_open = original_open  # type: ignore[attr-defined]


def run_to_point(
    act: Callable[[], Any], root: Path, kill_at: int = 0, output_path: Path | None = None
) -> int | list[str]:
    """Call a function in a forked process that is killed at a point.

    Args:
        act: the function; it may return an exit code.
        root: the folder whose file operations are counted.
        kill_at: the number of the point, from 1; 0: none.
        output_path: a file outside of the root for the output of the process.

    Returns:
        The points that the process passed if it completed with 0; otherwise its exit code, or minus the signal.
    """
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(read)
        code = 70
        try:
            if output_path is not None:
                output = os.open(output_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                os.dup2(output, 1)
                os.dup2(output, 2)
            with intercepted(Points(os.path.abspath(root), kill_at)) as points:
                code = int(act() or 0)
            with os.fdopen(write, "w") as pipe:
                pipe.write("\n".join(points.log))
        except SystemExit as error:
            code = int(error.code or 0)
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
