"""Watch the folder of a run from another process: evaluate checkpoints as they appear, and draw the curve."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_core.checkpoint import load_checkpoint
from cosmos_core.errors import RequestError
from cosmos_core.layouts import NetworkName
from cosmos_core.logs import METRICS, read_metrics
from cosmos_eval.models.cosmos import CosmosModel
from cosmos_eval.progress import Reporter, Silent
from cosmos_eval.report.curves import save, training_figure, write_curve
from cosmos_eval.report.evaluations import EVALUATIONS, Evaluations, Line, sentence
from cosmos_eval.run.plan import PlannedBenchmark
from cosmos_eval.run.session import Session
from cosmos_eval.training.step_evaluation import measure_step
from cosmos_eval.training.sweep import Checkpoint, read_checkpoint

PATTERNS = ("step-*.pt", "last.pt")
Stamp = tuple[int, int, int]


@dataclass
class Watcher:
    """Evaluates each checkpoint of a run once, by content: `last.pt` is another name of the newest.

    A checkpoint that is deleted while it is read (the run prunes old ones) or is incomplete is left out; an incomplete
    one is tried again when it has changed. Results in `out` are kept, so that watching can be stopped and started
    again.

    Args:
        folder: of the run, with its checkpoints.
        plan: what to evaluate.
        session: with the options of the evaluation; its `out` is set here.
        out: folder for results, `evaluations.jsonl`, and the curve as PNG, table and CSV.
        networks: of `teacher` and `student`.
    """

    folder: Path
    plan: Sequence[PlannedBenchmark]
    session: Session
    out: Path
    networks: Sequence[NetworkName] = ("teacher",)
    reporter: Reporter = field(default_factory=Silent)
    seen: set[Stamp] = field(default_factory=set, init=False)
    """Stamps of files that were evaluated or could not be."""
    finished: bool = field(default=False, init=False)
    """Whether the last checkpoint of the run was seen."""

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise RequestError(f"no folder {self.folder}; give the --out folder of a training")
        self.written = Evaluations(self.out / EVALUATIONS)

    @property
    def lines(self) -> list[Line]:
        return self.written.lines

    def run(self, *, once: bool, interval: float, sleep: Callable[[float], None] = time.sleep) -> list[Line]:
        """Evaluate existing checkpoints and, unless `once`, new ones until the run is finished; returns all lines.

        Args:
            interval: seconds between two scans of the folder.

        Raises:
            RequestError: no checkpoint could be evaluated.
        """
        is_waiting = False
        while True:
            self.scan()
            if once or self.finished:
                break
            if not is_waiting:
                self.reporter.note(f"waiting for checkpoints in {self.folder}, every {interval:g} s; Ctrl-C ends it")
                is_waiting = True
            sleep(interval)
        if not self.lines:
            raise RequestError(f"no checkpoint in {self.folder} could be evaluated ({', '.join(PATTERNS)})")
        return self.lines

    def scan(self) -> int:
        """Evaluate new checkpoints in order of steps; returns how many there were."""
        done = 0
        for stamp, checkpoint in self.find_new():
            if stamp in self.seen:
                continue  # the same file under another name
            self.seen.add(stamp)
            done += self.evaluate(checkpoint)
            self.finished = self.finished or checkpoint.finished
        return done

    def find_new(self) -> list[tuple[Stamp, Checkpoint]]:
        """Checkpoints that were not seen yet, in order of steps; names with a step come before `last.pt`."""
        new = []
        for priority, pattern in enumerate(PATTERNS):
            for path in sorted(self.folder.glob(pattern)):
                try:
                    stamp = stamp_of(path)
                    if stamp not in self.seen:
                        new.append((priority, stamp, read_checkpoint(path)))
                except FileNotFoundError:
                    continue  # pruned by the run
                except (RequestError, OSError) as error:
                    self.leave_out(path, error)
        new.sort(key=lambda entry: (entry[2].step, entry[0]))
        return [(stamp, checkpoint) for _, stamp, checkpoint in new]

    def evaluate(self, checkpoint: Checkpoint) -> bool:
        """Measure the networks of one checkpoint and draw; False where it was deleted or cannot be measured."""
        for network in self.networks:
            try:
                core = load_checkpoint(checkpoint.path, weights=network).requires_grad_(False)
            except (RequestError, FileNotFoundError) as error:
                self.leave_out(checkpoint.path, error)
                return False
            spec = f"cosmos:{self.folder}/step-{checkpoint.step:08d}.pt#{network}"
            model = CosmosModel(core, spec, self.session.device, f"{checkpoint.path.name}#{network}")
            try:
                lines = measure_step(self.session, self.out, model, checkpoint.step, network, self.plan)
            except RequestError as error:  # such as embeddings that are not finite; the next checkpoint may be fine
                self.leave_out(checkpoint.path, error)
                return False
            if any(line not in self.lines for line in lines):
                self.written.put(lines)
                self.reporter.note(sentence(lines))
        self.draw()
        return True

    def draw(self) -> list[Path]:
        """Write the curve so far, and the figure of the run's log; returns the paths."""
        paths = write_curve(self.lines, self.out)
        records = read_metrics(self.folder / METRICS)
        if records:
            paths.append(self.out / "training.png")
            save(training_figure(records), paths[-1])
        return paths

    def leave_out(self, path: Path, error: Exception) -> None:
        """Note once why a file is not evaluated, unless it was deleted."""
        try:
            self.seen.add(stamp_of(path))
        except FileNotFoundError:
            return
        self.reporter.note(f"{path.name} is left out: {' '.join(str(error).split())}")


def stamp_of(path: Path) -> Stamp:
    """Identifies a file version: changes when the file is replaced; equal for two names of one file."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
