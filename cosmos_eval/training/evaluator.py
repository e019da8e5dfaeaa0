"""Evaluate while training: a callback for `cosmos_core.train` that measures the networks in memory."""

import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch import nn

from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.signals import Signals
from cosmos_core.step import Run
from cosmos_core.train import Callback
from cosmos_core.world import World
from cosmos_eval.models.cosmos import CosmosModel
from cosmos_eval.progress import Advance, Reporter, Silent
from cosmos_eval.rank_environment import is_main
from cosmos_eval.report.evaluations import EVALUATIONS, Evaluations, Line, sentence
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.plan import Planned, make_plan
from cosmos_eval.run.session import Session
from cosmos_eval.training.step_evaluation import measure_step

FOLDER = "evaluations"
LONGEST = timedelta(days=2)
"""How long the other ranks wait for an evaluation; the wait of ordinary collectives would end it after minutes."""


class EvaluateEvery(Callback):
    """Measures `config.eval_suite` on the teacher, the student or both, every `config.eval_every` steps and at the end.

    The weights in memory take the way of `cosmos_eval.evaluate`. Each evaluation leaves its lines in
    OUT/evaluations.jsonl, full results and samples in OUT/evaluations/step-XXXXXXXX-NETWORK, and the curve so far in
    OUT/evaluations; results of the same weights that stand are kept, so that a run that goes on repeats nothing.

    Modes of modules and states of random generators are put back, so that the training is, to the bit, the one without
    evaluation. The first rank evaluates while the others wait. An evaluation that fails (a disk that went away) is
    noted and the training goes on; one that a signal interrupts is given up, so that the checkpoint comes in time.

    Args:
        config: the run's.
        reporter: where progress and lines for people go.

    Raises:
        RequestError: an unknown suite or benchmark, or one that lacks its data: before the first step.
    """

    def __init__(self, config: TrainConfig, reporter: Reporter | None = None) -> None:
        self.config = config
        self.reporter = reporter or Silent()
        self.networks = ("teacher", "student") if config.eval_networks == "both" else (config.eval_networks,)
        self.out = Path(config.out) if config.out else None
        # only the first rank evaluates, and only its machine needs the data
        self.plan = plan_of(config) if is_main() else []
        options = RunOptions(workers=config.workers, limit=config.eval_limit or None)
        self.session = Session(None, options, Interruptible(self.reporter))
        self.written: Evaluations | None = None
        self.measured = -1
        """The last step that was evaluated."""
        self.group: Any = None

    def on_start(self, run: Run) -> None:
        """Before the first step; where a run goes on from a step whose evaluation was given up, it is made now."""
        self._begin(run, run.step)
        due = run.step > 0 and run.step % self.config.eval_every == 0
        stands = {(line["network"], line["benchmark"]) for line in self.lines if line["step"] == run.step}
        wanted = {(network, planned.benchmark.name) for network in self.networks for planned in self.plan}
        if run.world.any(due and not wanted <= stands):
            self._evaluate(run)

    def on_step(self, run: Run) -> None:
        self._begin(run, run.step - 1)
        # the end is evaluated once its checkpoint is written
        if run.step % self.config.eval_every == 0 and run.step < run.steps:
            self._evaluate(run)

    def on_end(self, run: Run) -> None:
        self._begin(run, run.step)
        if self.measured != run.step:
            self._evaluate(run)

    @property
    def lines(self) -> list[Line]:
        """What was measured so far, of this run and, where it goes on, of what came before."""
        return self.written.lines if self.written is not None else []

    def _begin(self, run: Run, start: int) -> None:
        """Before the first evaluation: what stands beyond the step from which the run goes on is of another one."""
        if self.written is not None or not run.world.is_main:
            return
        self.written = Evaluations(self.out / EVALUATIONS if self.out is not None else None)
        self.written.cut(start)
        if start == 0 and self.out is not None:
            for folder in (self.out / FOLDER).glob("step-*"):
                shutil.rmtree(folder)

    def _evaluate(self, run: Run) -> None:
        self.measured = run.step
        if run.world.is_main:
            with undisturbed(run.student, run.teacher):
                self._measure(run)
        self._meet(run.world)

    def _measure(self, run: Run) -> None:
        assert self.written is not None
        try:
            for network in self.networks:
                heed_signals()
                # a wrapper of its own each time: its digest is that of the weights as they are now
                model = CosmosModel(
                    getattr(run, network), f"cosmos:in-memory#{network}", source=f"in memory at step {run.step}"
                )
                out = self.out / FOLDER if self.out is not None else None
                lines = measure_step(self.session, out, model, run.step, network, self.plan)
                self.written.put(lines)
                self.reporter.note(sentence(lines))
            if self.out is not None:
                from cosmos_eval.report.curves import write_curve

                write_curve(self.lines, self.out / FOLDER)
        except AskedToStop:
            later = f"; cosmos-eval watch {self.out} --once makes it" if self.out and run.step == run.steps else ""
            self.reporter.note(f"step {run.step:,}: the evaluation is given up, since the run was asked to stop{later}")
        except Exception as error:  # out of memory, say: whatever it is, it is no reason to lose the training
            reason = " ".join(str(error).split()) or type(error).__name__
            self.reporter.note(f"step {run.step:,}: no evaluation ({reason}); the training goes on")

    def _meet(self, world: World) -> None:
        """All ranks wait here until the first has evaluated."""
        if world.size > 1:
            if self.group is None:
                self.group = dist.new_group(backend="gloo", timeout=LONGEST)
            dist.barrier(self.group)


def plan_of(config: TrainConfig) -> list[Planned]:
    """What is evaluated; RequestError where a suite is unknown or data is missing, with how to mend it."""
    names = [name.strip() for name in config.eval_suite.split(",") if name.strip()]
    if not names:
        raise RequestError("eval_every is set and eval_suite names nothing; give suites or benchmarks, or eval_every=0")
    plan = make_plan(names, user_path(config.eval_data_root), skip_missing=True)
    missing = [problem for planned in plan for problem in planned.problems]
    if missing:
        raise RequestError(
            f"evaluation while training: {'; '.join(missing)}; set eval_data_root, another eval_suite, or eval_every=0"
        )
    return plan


@contextmanager
def undisturbed(*networks: nn.Module) -> Iterator[None]:
    """Networks in eval mode inside; afterwards the mode of every module and all random generators are as before."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    own, numpys, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
        random.setstate(own)
        np.random.set_state(numpys)
        torch.set_rng_state(cpu)
        if cards:
            torch.cuda.set_rng_state_all(cards)


class AskedToStop(Exception):
    """A signal that ends the run after its step has come during an evaluation."""


def heed_signals() -> None:
    """AskedToStop where the training's own handler has heard a signal: a batch system does not wait for long."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(owner, Signals) and owner.received:
        raise AskedToStop


class Interruptible:
    """A reporter that ends the work it shows, between two batches, where the training was asked to stop."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def task(self, description: str, total: int, unit: str = "it") -> AbstractContextManager[Advance]:
        return self._heeding(self.reporter.task(description, total, unit))

    @contextmanager
    def _heeding(self, shown: AbstractContextManager[Advance]) -> Iterator[Advance]:
        with shown as show:

            def advance(n: int, text: str = "") -> None:
                show(n, text)
                heed_signals()

            yield advance

    def note(self, line: str) -> None:
        self.reporter.note(line)
