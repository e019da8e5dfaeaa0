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
from cosmos_core.fsdp import whole_network
from cosmos_core.model import COSMOS
from cosmos_core.run_state import device_of
from cosmos_core.signals import Signals
from cosmos_core.step import Run
from cosmos_core.train import Callback
from cosmos_core.world import World
from cosmos_eval.models.cosmos import CosmosModel
from cosmos_eval.progress import Advance, Reporter, Silent
from cosmos_eval.rank_environment import is_main_process
from cosmos_eval.report.evaluations import EVALUATIONS, Evaluations, Line, sentence
from cosmos_eval.run.options import RunOptions
from cosmos_eval.run.plan import PlannedBenchmark, make_plan
from cosmos_eval.run.session import Session
from cosmos_eval.training.step_evaluation import measure_step

FOLDER = "evaluations"
LONGEST_EVALUATION = timedelta(days=2)
"""Timeout of the other ranks during an evaluation; that of ordinary collectives is minutes."""


class EvaluateEvery(Callback):
    """Measures `config.eval_suite` on the teacher, the student or both, every `config.eval_every` steps and at the end.

    The weights in memory are evaluated as by `cosmos_eval.evaluate`. Each evaluation writes its lines to
    OUT/evaluations.jsonl, full results and samples to OUT/evaluations/step-XXXXXXXX-NETWORK, and the curve so far to
    OUT/evaluations; existing results of the same weights are kept, so that a resumed run repeats nothing.

    Modes of modules and states of random generators are restored, so that training is bit-identical with and without
    evaluation. The first rank evaluates while the others wait. If an evaluation fails (a disk that is gone), a note is
    printed and training continues; a signal stops an evaluation, so that the checkpoint is written in time.

    Args:
        config: the run's.
        reporter: for progress and notes.

    Raises:
        RequestError: an unknown suite or benchmark, or one without its data; before the first step.
    """

    def __init__(self, config: TrainConfig, reporter: Reporter | None = None) -> None:
        self.config = config
        self.reporter = reporter or Silent()
        self.networks = ("teacher", "student") if config.eval_networks == "both" else (config.eval_networks,)
        self.out = Path(config.out) if config.out else None
        # only the first rank evaluates, and only its machine needs the data
        self.plan = plan_of(config) if is_main_process() else []
        options = RunOptions(limit=config.eval_limit or None)
        self.session = Session(None, options, Interruptible(self.reporter))
        self.written: Evaluations | None = None
        self.measured = -1
        """The last step that was evaluated."""
        self.group: Any = None

    def on_start(self, run: Run) -> None:
        """Before the first step: evaluate what `init` gave, or a step that a stopped run did not."""
        self._begin(run, run.step)
        # a run that starts from other weights has something to measure before its first step
        due = run.step % self.config.eval_every == 0 if run.step else bool(run.init)
        done = {(line["network"], line["benchmark"]) for line in self.lines if line["step"] == run.step}
        wanted = {(network, planned.benchmark.name) for network in self.networks for planned in self.plan}
        if run.world.any(due and not wanted <= done):
            self._evaluate(run)

    def is_due(self, step: int, ends_epoch: bool) -> bool:
        return step % self.config.eval_every == 0

    def on_step(self, run: Run) -> None:
        self._begin(run, run.step - 1)
        # the end is evaluated once its checkpoint is written
        if self.is_due(run.step, False) and run.step < run.steps:
            self._evaluate(run)

    def on_end(self, run: Run) -> None:
        self._begin(run, run.step)
        if self.measured != run.step:
            self._evaluate(run)

    @property
    def lines(self) -> list[Line]:
        """What was measured so far, also before the run was resumed."""
        return self.written.lines if self.written is not None else []

    def _begin(self, run: Run, start: int) -> None:
        """Before the first evaluation: drop lines beyond the start step, which an earlier run wrote."""
        if self.written is not None or not run.world.is_main:
            return
        self.written = Evaluations(self.out / EVALUATIONS if self.out is not None else None)
        self.written.cut(start)
        if start == 0 and self.out is not None:
            for folder in (self.out / FOLDER).glob("step-*"):
                shutil.rmtree(folder)

    def _evaluate(self, run: Run) -> None:
        self.measured = run.step
        # Every rank takes part in gathering networks that are split: both, since ranks may name different ones.
        whole = {name: whole_network(getattr(run, name), keep=run.world.is_main) for name in ("student", "teacher")}
        networks = {name: whole[name] for name in self.networks}
        if run.world.is_main:
            with evaluation_mode(*networks.values()):
                self._measure(run, networks)
        self._wait_for_main(run.world)

    def _measure(self, run: Run, networks: dict[str, COSMOS]) -> None:
        assert self.written is not None
        try:
            device = device_of(run)
            for network in self.networks:
                raise_if_stop_requested()
                # a new wrapper each time: its digest is that of the present weights
                model = CosmosModel(
                    networks[network], f"cosmos:in-memory#{network}", device, f"in memory at step {run.step}"
                )
                out = self.out / FOLDER if self.out is not None else None
                lines = measure_step(self.session, out, model, run.step, network, self.plan)
                self.written.put(lines)
                self.reporter.note(sentence(lines))
            if self.out is not None:
                from cosmos_eval.report.curves import write_curve

                write_curve(self.lines, self.out / FOLDER)
        except StopRequested:
            later = f"; make it with cosmos-eval watch {self.out} --once" if self.out and run.step == run.steps else ""
            self.reporter.note(f"step {run.step:,}: the evaluation was stopped, since the run was asked to stop{later}")
        except Exception as error:  # any error, such as out of memory, must not end the training
            reason = " ".join(str(error).split()) or type(error).__name__
            self.reporter.note(f"step {run.step:,}: evaluation failed ({reason}); the training continues")

    def _wait_for_main(self, world: World) -> None:
        """Wait on all ranks until the first has evaluated."""
        if world.size > 1:
            if self.group is None:
                self.group = dist.new_group(backend="gloo", timeout=LONGEST_EVALUATION)
            dist.barrier(self.group)


def suites_of(config: TrainConfig) -> list[str]:
    """The names of suites and benchmarks in `eval_suite`."""
    return [name.strip() for name in config.eval_suite.split(",") if name.strip()]


def plan_of(config: TrainConfig) -> list[PlannedBenchmark]:
    """The benchmarks to evaluate; RequestError where a suite is unknown or data is missing."""
    names = suites_of(config)
    if not names:
        raise RequestError("eval_every is set but eval_suite is empty; give suites or benchmarks, or eval_every=0")
    plan = make_plan(names, user_path(config.eval_data_root), skip_missing=True)
    missing = [problem for planned in plan for problem in planned.problems]
    if missing:
        raise RequestError(
            f"evaluation while training: {'; '.join(missing)}; set eval_data_root, another eval_suite, or eval_every=0"
        )
    return plan


@contextmanager
def evaluation_mode(*networks: nn.Module) -> Iterator[None]:
    """Networks are in eval mode inside; afterwards modes of modules and all random generators are restored."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    python_state, numpy_state, cpu_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)


class StopRequested(Exception):
    """A signal that ends the run was received during an evaluation."""


def raise_if_stop_requested() -> None:
    """StopRequested where the signal handler of the training received a signal: batch systems soon kill the process."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(owner, Signals) and owner.received:
        raise StopRequested


class Interruptible:
    """A reporter that raises StopRequested between two batches where the training was asked to stop."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def task(self, description: str, total: int, unit: str = "it") -> AbstractContextManager[Advance]:
        return self._stoppable(self.reporter.task(description, total, unit))

    @contextmanager
    def _stoppable(self, shown: AbstractContextManager[Advance]) -> Iterator[Advance]:
        with shown as show:

            def advance(n: int, text: str = "") -> None:
                show(n, text)
                raise_if_stop_requested()

            yield advance

    def note(self, line: str) -> None:
        self.reporter.note(line)
