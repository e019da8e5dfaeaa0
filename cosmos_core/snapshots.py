"""The checkpoints of a run: when one is due, written whole or not at all, which stay, which one a run goes on from.

`OUT/step-00000100.pt` each, and `OUT/last.pt`, which names the newest whole one. They are ordinary checkpoints (the
original's keys, and the model's config) that also hold what resuming needs. `last.pt` is written first and the name
with the step second, so that a process that is killed between the two leaves no `last.pt` that is older than another.
"""

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cosmos_core.checkpoint import read_file, save_checkpoint
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_path, remove_leftovers, sync_folder
from cosmos_core.objective_state import other_source
from cosmos_core.printable import printable
from cosmos_core.run_lock import LOCK, RunLock
from cosmos_core.run_state import LENGTH, NEEDED, captured, compatible, environment, other_bits, put_back, training_of
from cosmos_core.step import Run
from cosmos_core.world import World

LAST = "last.pt"
LINK = f".{LAST}.link.tmp"
"""A second name of a checkpoint on its way to its place."""
STEP_FILE = re.compile(r"step-(\d{8,})\.pt")


def say(line: str) -> None:
    """The default for notes: a failed save must not pass in silence."""
    print(printable(line), file=sys.stderr, flush=True)


class Snapshots:
    """The checkpoints in one folder. Every rank has one and calls the same methods; rank 0 reads and writes."""

    def __init__(
        self, out: Path, config: TrainConfig, world: World | None = None, note: Callable[[str], None] = say
    ) -> None:
        self.out = out
        self.config = config
        self.world = world or World()
        self.note = note if self.world.is_main else lambda line: None
        self.saved_step = -1
        """Step of the newest checkpoint that this process wrote or went on from."""
        self.tried = time.monotonic()
        self.was_killed = False
        """Whether the training that held this folder before was killed: its end may lack something."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder while the block runs; RequestError on all ranks where another training holds it."""
        lock: RunLock | None = None

        def take() -> None:
            nonlocal lock
            lock = RunLock(self.out, advice="wait for that training, end it, or give another --out")
            self.was_killed = lock.was_killed

        self.from_main(take)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def due(self, run: Run) -> bool:
        """Whether a checkpoint is to be written after this step: by steps, or by minutes, which rank 0 decides."""
        config = self.config
        by_steps = bool(config.save_every) and run.step % config.save_every == 0
        if not config.save_minutes:
            return by_steps
        late = self.world.is_main and time.monotonic() - self.tried >= 60 * config.save_minutes
        return self.world.any(by_steps or late)

    def save(self, run: Run, data_state: Mapping[str, Any], last: bool = False) -> Path | None:
        """Write a checkpoint and let go of those that need not stay. A collective: every rank must call it.

        Args:
            data_state: where this rank's share of the data stands after the step.
            last: the run ends here. A checkpoint that cannot be written is then an error; before, it is a note and the
                training goes on, with None for an answer and another attempt when the next one is due.

        Raises:
            RequestError: the last one cannot be written; says what stands.
        """
        path = self.out / f"step-{run.step:08d}.pt"
        if self.saved_step == run.step:
            return path
        content = captured(run, data_state, self.world)
        problem = self.from_main(lambda: self.written(run, content, path))
        self.tried = time.monotonic()
        if not problem:
            self.saved_step = run.step
            return path
        if last:
            raise self.refusal(f"{problem}; make room, and the same command goes on from there")
        self.note(f"{problem}; the training goes on")
        return None

    def written(self, run: Run, content: Mapping[str, Any], path: Path) -> str:
        """Write on rank 0; what went wrong, in words, or nothing."""
        try:
            save_checkpoint(
                self.out / LAST,
                config=run.student.config,
                student=run.student,
                teacher=run.teacher,
                optimizer=run.optimizer,
                epoch=run.epoch,
                name=run.config.name,
                extra=content,
            )
            self.add_name(self.out / LAST, path)
        except OSError as error:
            stands = next((f"{found.name} stands" for _, found in self.steps()), "none stands")
            what = f"the checkpoint of step {run.step:,} could not be written to {self.out}"
            return f"{what} ({error.strerror or error}); {stands}"
        with suppress(OSError):  # what should go and cannot does no harm
            self.let_go()
        return ""

    def add_name(self, path: Path, name: Path) -> None:
        """Make `name` a second name of `path`, or a copy where the file system has no such names."""
        link = self.out / LINK
        try:
            link.unlink(missing_ok=True)
            link.hardlink_to(path)
            link.replace(name)
        except OSError:
            with atomic_path(name) as temporary:
                shutil.copyfile(path, temporary)
        finally:
            link.unlink(missing_ok=True)  # a rename onto another name of the same file leaves both
        sync_folder(self.out)

    def let_go(self) -> None:
        """Remove step files beyond the newest `keep`, except multiples of `keep_every`."""
        if self.config.keep:
            for step, path in self.steps()[self.config.keep :]:
                if not self.config.keep_every or step % self.config.keep_every:
                    path.unlink(missing_ok=True)

    def steps(self) -> list[tuple[int, Path]]:
        """The step files, newest first."""
        found = [(STEP_FILE.fullmatch(path.name), path) for path in self.out.glob("step-*.pt")]
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)

    def latest(self) -> Path | None:
        """The newest whole checkpoint, None where there is none at all; half-written files are removed.

        A damaged one that is newer is put aside as `NAME.broken`, with a note.

        Raises:
            RequestError: there are checkpoints and none of them is whole.
        """
        return self.from_main(self.newest_whole)

    def newest_whole(self) -> Path | None:
        """`latest` on rank 0."""
        self.remove_half_written()
        last = self.out / LAST
        candidates = self.steps()
        if last.is_file() and not any(last.samefile(path) for _, path in candidates):
            candidates = sorted([*candidates, (step_of(last), last)], key=lambda one: (-one[0], one[1] == last))
        damaged: list[tuple[Path, str]] = []
        for _, path in candidates:
            problem = damage(path)
            if not problem:
                self.put_aside(damaged, path)
                return path
            damaged.append((path, problem))
        if damaged:
            raise RequestError(
                f"{self.out} holds no checkpoint to go on from: {damaged[0][1]}; --overwrite starts anew"
            )
        return None

    def remove_half_written(self) -> None:
        """Remove what a killed training left; there is no other one in this folder."""
        for half in [*self.out.glob(".step-*.pt.*.tmp"), *self.out.glob(f".{LAST}.*tmp")]:
            half.unlink(missing_ok=True)
        remove_leftovers(self.out)

    def put_aside(self, damaged: list[tuple[Path, str]], whole: Path) -> None:
        """Rename damaged files, so that nothing takes them for checkpoints, and let `last.pt` name the whole one."""
        last = self.out / LAST
        for path, problem in damaged:
            self.note(f"{problem}; put aside as {path.name}.broken, going on from {whole.name}")
            if path != last and last.is_file() and last.samefile(path):
                last.unlink()
            path.rename(path.with_name(f"{path.name}.broken"))
        if damaged and whole != last:
            with suppress(OSError):  # a full disk without hard links: the next save makes it
                self.add_name(whole, last)

    def resume(self, overwrite: bool = False) -> Path | None:
        """The checkpoint to go on from, None for a new start. With `overwrite`, what stands is removed.

        Raises:
            RequestError: the folder holds a finished training, one with other settings, or none that can be read.
        """
        return self.from_main(self.clear if overwrite else self.unfinished)

    def unfinished(self) -> Path | None:
        """`resume` on rank 0, without `overwrite`."""
        path = self.newest_whole()
        if path is not None:
            content = read_file(path, check=False)  # which it was a moment ago
            self.refuse_another(content, path)
            mended = self.mend(path, content["step"])
            # one that was killed after its last step goes on from it: what comes after that step may be missing
            if content["step"] >= content["steps"] and not (mended or self.was_killed):
                raise RequestError(
                    f"{self.out} holds a finished training of {content['steps']:,} steps; evaluate "
                    f"{self.out / LAST}, give another --out, or --overwrite"
                )
        return path

    def mend(self, newest: Path, step: int) -> bool:
        """Give the newest checkpoint both its names, and remove those that need not stay; whether `last.pt` was wrong.

        A process that was killed between the two renames leaves one name (an older version of ours left the other).
        """
        last, named = self.out / LAST, self.out / f"step-{step:08d}.pt"
        missing = last if newest != last else named
        mended = not missing.exists() or not (missing.samefile(newest) or same_content(missing, newest))
        with suppress(OSError):  # a full disk without hard links: the next save does it
            if mended:
                self.note(f"{missing.name} was not that of step {step:,}, the newest checkpoint, and is now")
                self.add_name(newest, missing)
            self.let_go()
        return mended and missing == last

    def refuse_another(self, content: Mapping[str, Any], path: Path) -> None:
        differing = compatible(training_of(content, str(path)), self.config)
        if differing:
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            why = " (schedules depend on the length of a run)" if differing[0].split()[0] in LENGTH else ""
            raise RequestError(
                f"{self.out} holds a training with other settings: {'; '.join(differing[:3])}{more}{why}; give another "
                "--out, or --overwrite"
            )

    def clear(self) -> None:
        """Remove the checkpoints of the folder."""
        self.remove_half_written()
        for path in [*(path for _, path in self.steps()), self.out / LAST, *self.out.glob("*.pt.broken")]:
            path.unlink(missing_ok=True)

    def restore(self, run: Run, path: Path) -> dict[str, Any]:
        """Make `run` what it was when `path` was written; returns the position in the data, of all ranks.

        Networks, objective, optimizer, scaler, step, epoch, skipped samples, and this rank's global generators. The
        stepper must have been made before, since it makes the scaler (and the objective, where the run has none).

        Raises:
            RequestError: the file is gone or of another model, or the run would have another length.
        """
        content = read_file(path)
        data_state = put_back(run, content, path, self.world)
        self.saved_step = run.step
        self.note(f"going on from step {run.step:,} of {run.steps:,} ({path})")
        other = other_source(self.config.objective, content)
        if other:
            self.note(other)
        changed = other_bits(content.get("environment", {}), environment(run, self.world))
        if changed:
            self.note(f"the last bits will not be those of a run that was never stopped: {changed}")
        return data_state

    def from_main(self, work: Callable[[], Any]) -> Any:
        """What `work` gives on rank 0, on all ranks; its OSError and RequestError as well, as a RequestError."""
        answer, problem = None, ""
        if self.world.is_main:
            try:
                answer = work()
            except RequestError as error:
                problem = str(error)
            except OSError as error:
                problem = f"{error.strerror or error}: {error.filename or self.out}"
        answer, problem = self.world.gather((answer, problem))[0]
        if problem:
            raise self.refusal(problem)
        return answer

    def refusal(self, problem: str) -> RequestError:
        """An error that all ranks raise and the first one says."""
        error = RequestError(problem)
        error.quiet = not self.world.is_main
        return error


def is_finished(out: Path, config: TrainConfig | None = None) -> bool:
    """Whether a folder holds a training, of `config` if given, done to its end; one killed at its end is not."""
    try:
        content = read_file(out / LAST, check=False)
        ours = config is None or not compatible(training_of(content, str(out / LAST)), config)
    except (RequestError, KeyError, TypeError, ValueError):  # absent, damaged, or not of a training
        return False
    done = type(content.get("step")) is int and content["step"] == content.get("steps")
    return ours and done and not (out / LOCK).exists() and not damage(out / LAST)


def refuse_older_last(path: Path) -> None:
    """RequestError where `path` is a `last.pt` beside which a newer whole checkpoint stands.

    An older version of ours left that when it was killed between two renames; whoever asks for the last checkpoint
    would get the numbers of another.
    """
    if path.name != LAST or not path.is_file():
        return
    steps = [(int(match[1]), one) for one in path.parent.glob("step-*.pt") if (match := STEP_FILE.fullmatch(one.name))]
    newer = sorted((step, one) for step, one in steps if step > step_of(path) >= 0)
    whole = next((one for _, one in reversed(newer) if not damage(one)), None)
    if whole is not None:
        raise RequestError(
            f"{path} is of step {step_of(path):,}, and {whole.name} beside it is newer: a training was killed while it "
            f"wrote them; name {whole}, or start the training again, which mends {LAST}"
        )


def same_content(one: Path, other: Path) -> bool:
    """Whether two files hold the same checkpoint, as far as the step that they tell; a copy takes long to compare."""
    return step_of(one) == step_of(other) and one.stat().st_size == other.stat().st_size


def step_of(path: Path) -> int:
    """The step that a checkpoint tells, -1 where it tells none."""
    try:
        return int(read_file(path, check=False).get("step", -1))
    except (RequestError, TypeError, ValueError):
        return -1


def damage(path: Path) -> str:
    """Why a run cannot go on from a file, empty where it can. Reads all of it: a bit that fell over is seen."""
    try:
        content = read_file(path)
    except RequestError as error:
        return str(error).removesuffix("; copy or download it again")
    except OSError as error:
        return f"{path} is damaged ({error})"
    missing = [key for key in NEEDED if key not in content]
    if missing:
        return f"{path} was not written by a run that can go on: it lacks {', '.join(missing)}"
    numbers = [key for key in ("step", "steps", "epoch") if type(content.get(key)) is not int]
    return f"{path} is damaged: its {numbers[0]} is no whole number" if numbers else ""
