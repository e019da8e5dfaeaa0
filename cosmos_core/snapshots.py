"""The checkpoints of a run: when one is due, atomic writing, pruning, and which one a run is resumed from.

The files are `OUT/step-00000100.pt` and the like, and `OUT/last.pt`, a second name (hard link) of the newest one. They
are ordinary checkpoints (the original's keys, and the model's config) with the state needed to resume. `last.pt` is
written first and the name with the step second, so that a process killed between the two never leaves a `last.pt` that
is older than another checkpoint.
"""

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
from cosmos_core.objective_state import describe_source_change
from cosmos_core.printable import plural, printable
from cosmos_core.run_lock import RunLock
from cosmos_core.run_state import (
    LENGTH_SETTINGS,
    capture_networks,
    capture_run,
    describe_environment_changes,
    environment,
    incompatible_settings,
    read_training_config,
    restore_run,
)
from cosmos_core.snapshot_checks import LAST, STEP_FILE, describe_damage, is_same_checkpoint, step_of
from cosmos_core.step import Run
from cosmos_core.world import World

LINK = f".{LAST}.link.tmp"
"""Temporary name of a hard link before it is renamed."""


def print_note(line: str) -> None:
    """Prints to stderr; the default for notes, since a failed save must not go unnoticed."""
    print(printable(line), file=sys.stderr, flush=True)


class Snapshots:
    """The checkpoints in one folder. Every rank has one and calls the same methods; rank 0 reads and writes."""

    def __init__(
        self, out: Path, config: TrainConfig, world: World | None = None, note: Callable[[str], None] = print_note
    ) -> None:
        self.out = out
        self.config = config
        self.world = world or World()
        self.note = note if self.world.is_main else lambda line: None
        self.saved_step = -1
        """Step of the newest checkpoint that this process wrote or resumed from."""
        self.last_attempt = time.monotonic()
        self.was_killed = False
        """Whether the previous training in this folder was killed, so that work after its last step may be missing."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock while the block runs; RequestError on all ranks if another training holds it."""
        lock: RunLock | None = None

        def take() -> None:
            nonlocal lock
            lock = RunLock(self.out, advice="wait for that training, end it, or give another --out")
            self.was_killed = lock.was_killed

        self.on_main_rank(take)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due after this step by its number; equal on all ranks."""
        return bool(self.config.save_every) and step % self.config.save_every == 0

    def due_by_time(self) -> bool:
        """Whether a checkpoint is due by minutes, which rank 0 measures for all."""
        minutes = self.config.save_minutes
        return bool(minutes) and self.world.is_main and time.monotonic() - self.last_attempt >= 60 * minutes

    def save(self, run: Run, data_state: Mapping[str, Any], last: bool = False) -> Path | None:
        """Write a checkpoint and prune old ones. A collective: every rank must call it.

        Args:
            data_state: `Batch.state` of this rank's batch of the step.
            last: the run ends here, and a checkpoint that cannot be written is an error. Otherwise it is only noted,
                None is returned, and the training continues until the next one is due.

        Raises:
            RequestError: the last one cannot be written; names the newest one on disk.
        """
        path = self.out / f"step-{run.step:08d}.pt"
        if self.saved_step == run.step:
            return path
        content = capture_run(run, data_state, self.world)
        networks = capture_networks(run, keep=self.world.is_main)
        problem = self.on_main_rank(lambda: self.write(run, networks, content, path))
        self.last_attempt = time.monotonic()
        if not problem:
            self.saved_step = run.step
            return path
        if last:
            raise self.error_on_all_ranks(f"{problem}; make room, and the same command goes on from there")
        self.note(f"{problem}; the training goes on")
        return None

    def write(self, run: Run, networks: Mapping[str, Any], content: Mapping[str, Any], path: Path) -> str:
        """Write on rank 0; returns what went wrong, in words, or nothing."""
        try:
            save_checkpoint(
                self.out / LAST,
                config=run.student.config,
                student=networks["student"],
                teacher=networks["teacher"],
                optimizer=networks["optimizer"],
                epoch=run.epoch,
                name=run.config.name,
                extra=content,
            )
            self.link_or_copy(self.out / LAST, path)
        except OSError as error:
            remaining = next((f"{newest.name} is kept" for _, newest in self.step_files()), "there is no older one")
            description = f"the checkpoint of step {run.step:,} could not be written to {self.out}"
            return f"{description} ({error.strerror or error}); {remaining}"
        with suppress(OSError):  # a file that cannot be removed does no harm
            self.prune_checkpoints()
        return ""

    def link_or_copy(self, path: Path, name: Path) -> None:
        """Make `name` a hard link to `path`, or a copy if the file system has no hard links."""
        link = self.out / LINK
        try:
            link.unlink(missing_ok=True)
            link.hardlink_to(path)
            link.replace(name)
        except OSError:
            with atomic_path(name) as temporary:
                shutil.copyfile(path, temporary)
        finally:
            link.unlink(missing_ok=True)  # renaming a file onto another link to it does nothing and leaves both names
        sync_folder(self.out)

    def prune_checkpoints(self) -> None:
        """Remove step files beyond the newest `keep`, except multiples of `keep_every`."""
        if self.config.keep:
            for step, path in self.step_files()[self.config.keep :]:
                if not self.config.keep_every or step % self.config.keep_every:
                    path.unlink(missing_ok=True)

    def step_files(self) -> list[tuple[int, Path]]:
        """The step files, newest first."""
        matches = [(STEP_FILE.fullmatch(path.name), path) for path in self.out.glob("step-*.pt")]
        return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)

    def latest(self) -> Path | None:
        """The newest intact checkpoint, None if there are no checkpoints; partial files are removed.

        Damaged ones that are newer are renamed to `NAME.broken`, with a note.

        Raises:
            RequestError: there are checkpoints and none of them is intact.
        """
        return self.on_main_rank(self.find_newest_intact)

    def find_newest_intact(self) -> Path | None:
        """`latest` on rank 0."""
        self.remove_partial_files()
        last = self.out / LAST
        candidates = self.step_files()
        if last.is_file() and not any(last.samefile(path) for _, path in candidates):
            candidates = sorted(
                [*candidates, (step_of(last), last)], key=lambda candidate: (-candidate[0], candidate[1] == last)
            )
        damaged: list[tuple[Path, str]] = []
        for _, path in candidates:
            problem = describe_damage(path)
            if not problem:
                self.rename_damaged(damaged, path)
                return path
            damaged.append((path, problem))
        if damaged:
            raise RequestError(
                f"{self.out} holds no checkpoint to go on from: {damaged[0][1]}; --overwrite starts anew"
            )
        return None

    def remove_partial_files(self) -> None:
        """Remove temporary files of a killed training; the caller holds the folder's lock, so none is in use."""
        for half in [*self.out.glob(".step-*.pt.*.tmp"), *self.out.glob(f".{LAST}.*tmp")]:
            half.unlink(missing_ok=True)
        remove_leftovers(self.out)

    def rename_damaged(self, damaged: list[tuple[Path, str]], intact: Path) -> None:
        """Rename damaged files, so that they are not taken for checkpoints, and make `last.pt` a link to the intact
        one."""
        last = self.out / LAST
        for path, problem in damaged:
            self.note(f"{problem}; put aside as {path.name}.broken, going on from {intact.name}")
            if path != last and last.is_file() and last.samefile(path):
                last.unlink()
            path.rename(path.with_name(f"{path.name}.broken"))
        if damaged and intact != last:
            with suppress(OSError):  # on a full disk without hard links; the next save makes it
                self.link_or_copy(intact, last)

    def resume(self, overwrite: bool = False) -> Path | None:
        """The checkpoint to resume from; None starts from the beginning. With `overwrite`, existing checkpoints are
        removed.

        Raises:
            RequestError: the folder holds a finished training, one with other settings, or none that can be read.
        """
        return self.on_main_rank(self.remove_checkpoints if overwrite else self.find_unfinished)

    def find_unfinished(self) -> Path | None:
        """`resume` on rank 0, without `overwrite`."""
        path = self.find_newest_intact()
        if path is not None:
            content = read_file(path, check=False)  # `find_newest_intact` has just checked it
            self.require_same_settings(content, path)
            repaired = self.repair_names(path, content["step"])
            # one that was killed after its last step is resumed: the work after that step may be missing
            if content["step"] >= content["steps"] and not (repaired or self.was_killed):
                raise RequestError(
                    f"{self.out} holds a finished training of {plural(content['steps'], 'step')}; evaluate "
                    f"{self.out / LAST}, give another --out, or --overwrite"
                )
        return path

    def repair_names(self, newest: Path, step: int) -> bool:
        """Make sure that the newest checkpoint has both its names, and prune; returns whether `last.pt` was wrong.

        A process killed between the two renames leaves only one name (versions before this order left the other one).
        """
        last, step_file = self.out / LAST, self.out / f"step-{step:08d}.pt"
        wrong_name = last if newest != last else step_file
        repaired = not wrong_name.exists() or not (
            wrong_name.samefile(newest) or is_same_checkpoint(wrong_name, newest)
        )
        with suppress(OSError):  # on a full disk without hard links; the next save does it
            if repaired:
                self.note(f"{wrong_name.name} did not hold step {step:,}, the newest checkpoint, and does now")
                self.link_or_copy(newest, wrong_name)
            self.prune_checkpoints()
        return repaired and wrong_name == last

    def require_same_settings(self, content: Mapping[str, Any], path: Path) -> None:
        differing = incompatible_settings(read_training_config(content, str(path)), self.config)
        if differing:
            others = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            reason = " (schedules depend on the length of a run)" if differing[0].split()[0] in LENGTH_SETTINGS else ""
            raise RequestError(
                f"{self.out} holds a training with other settings: {'; '.join(differing[:3])}{others}{reason}; give "
                "another --out, or --overwrite"
            )

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints of the folder."""
        self.remove_partial_files()
        for path in [*(path for _, path in self.step_files()), self.out / LAST, *self.out.glob("*.pt.broken")]:
            path.unlink(missing_ok=True)

    def restore(self, run: Run, path: Path) -> dict[str, Any]:
        """Restore `run` from the checkpoint at `path`; returns the position of all ranks in the data.

        Networks, objective, optimizer, scaler, step, epoch, skipped samples, and this rank's global generators. The
        stepper must exist before, since it makes the scaler (and the objective, if the run has none).

        Raises:
            RequestError: the file is missing or of another model, or the run would have another length.
        """
        content = read_file(path)
        data_state = restore_run(run, content, path, self.world)
        self.saved_step = run.step
        self.note(f"going on from step {run.step:,} of {run.steps:,} ({path})")
        source_change = describe_source_change(self.config.objective, content)
        if source_change:
            self.note(source_change)
        environment_changes = describe_environment_changes(content.get("environment", {}), environment(run, self.world))
        if environment_changes:
            self.note(f"the last bits will not be those of a run that was never stopped: {environment_changes}")
        return data_state

    def on_main_rank(self, work: Callable[[], Any]) -> Any:
        """Call `work` on rank 0 and return its result on all ranks; its OSError or RequestError is raised on all of
        them."""
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
            raise self.error_on_all_ranks(problem)
        return answer

    def error_on_all_ranks(self, problem: str) -> RequestError:
        """An error that all ranks raise and only rank 0 prints."""
        error = RequestError(problem)
        error.quiet = not self.world.is_main
        return error
