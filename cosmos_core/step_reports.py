"""What a run records of each step, once its numbers are here: state, line of metrics, progress.

On CUDA they are read while the next step computes (`cosmos_core.step.Stepper.is_late`), in the same order and with the
same content as elsewhere. What needs the run as it is after a step (a checkpoint, a callback) waits for its record.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from cosmos_core.collapse import embedding_metrics
from cosmos_core.data import Batch
from cosmos_core.devices import send, synchronize
from cosmos_core.errors import RequestError
from cosmos_core.logs import Logs, SpeedMeter, brief
from cosmos_core.step import LaunchedStep, Stepper


@dataclass(frozen=True)
class _Unread:
    """A step that is launched and not recorded yet."""

    launched: LaunchedStep
    batch: Batch
    """Without views and texts, whose memory the next batches take."""
    rank_values: list[str]
    """Names of the numbers that the log has besides those of the step; none where it has no line."""
    requests: int
    """How many questions all ranks answer together in this step's numbers."""


class StepReports:
    """Records the steps of a run in their order.

    Args:
        stepper: of the run.
        lines: of metrics so far; each new line is added.
        note_broken: shows samples that were skipped.
        advance: shows progress: steps, and a text.
    """

    def __init__(
        self,
        stepper: Stepper,
        logs: Logs,
        speed: SpeedMeter,
        lines: list[dict[str, Any]],
        note_broken: Callable[[Mapping[str, str]], None],
        advance: Callable[[int, str], None],
    ) -> None:
        self.stepper, self.run = stepper, stepper.run
        self.logs, self.speed, self.lines = logs, speed, lines
        self.note_broken, self.advance = note_broken, advance
        self.unread: _Unread | None = None
        self.position: dict[str, Any] | None = None
        """Of every lane of the data, after the last recorded step."""

    def add(self, batch: Batch, launched: LaunchedStep) -> None:
        """Take over the step that was launched last; the one before it is recorded."""
        assert self.unread is None
        rank_values = self.add_rank_values(batch, launched) if self.has_line(launched.step + 1) else []
        without_tensors = replace(batch, images=[], texts=batch.texts.new_empty(0))
        self.unread = _Unread(launched, without_tensors, rank_values, 0)

    def has_line(self, step: int) -> bool:
        """Whether the log has a line of this step."""
        return step % self.run.config.log_every == 0 or step in (1, self.run.steps)

    def add_rank_values(self, batch: Batch, launched: LaunchedStep) -> list[str]:
        """Add what ranks measure on their own samples to a step's numbers, as means over ranks; return the names."""
        values = embedding_metrics(*self.stepper.first_views)
        if self.run.world.size > 1:
            left_out = send(torch.tensor(float(batch.left_out), dtype=torch.float64), self.stepper.device)
            means = self.run.world.mean_of(torch.stack([*(value.double() for value in values.values()), left_out]))
            values = dict(zip((*values, "skipped"), means, strict=True))
        launched.numbers.add(values)
        return list(values)

    def read_later(self, requests: Sequence[bool] = ()) -> None:
        """Start the copy of the step's numbers; `finish` is called once the next step is launched.

        Args:
            requests: what this rank asks of all; with one rank nothing is sent. A collective.
        """
        assert self.unread is not None
        numbers = self.unread.launched.numbers
        if requests and self.run.world.size > 1:
            # a group that was joined before the training may be of gloo, which answers on the CPU
            answers = send(self.run.world.any_of(requests), self.stepper.device)
            numbers.add({f"request {index}": answer for index, answer in enumerate(answers)})
            self.unread = replace(self.unread, requests=len(requests))
        numbers.send()

    def finish(self) -> list[bool]:
        """Record the step that was launched and is not recorded yet, if there is one.

        Returns:
            What any rank asked for, as given to `read_later`; empty if nothing was.

        Raises:
            RequestError: its loss or gradient is not finite (`Stepper.finish`).
        """
        if self.unread is None:
            return []
        unread, self.unread = self.unread, None
        run, batch = self.run, unread.batch
        try:
            run.metrics = self.stepper.finish(unread.launched)
        except RequestError:
            # All ranks raise it. None may end while others still need it for the step that was launched meanwhile.
            synchronize(self.stepper.device)
            raise
        run.epoch = batch.epoch + batch.ends_epoch
        run.record_skipped(batch.broken)
        self.note_broken(batch.broken)
        self.speed.count(run.config.batch_size)
        self.position = batch.state
        values, text = unread.launched.numbers.read(), ""
        if unread.rank_values:
            line = {name: values[name] for name in unread.rank_values}
            # counts are summed over ranks
            skipped = round(line["skipped"] * run.world.size) if run.world.size > 1 else batch.left_out
            step = unread.launched.step + 1
            line = {"step": step, "epoch": batch.epoch, **run.metrics, **line, "skipped": skipped, **self.speed.lap()}
            self.lines.append(line)
            self.logs.write(line)
            text = brief(line)
        self.advance(1, text)
        return [values[f"request {index}"] > 0 for index in range(unread.requests)]

    @contextmanager
    def before_errors(self) -> Iterator[None]:
        """A context whose errors come after the record of the step before: its line, or that it was not finite."""
        try:
            yield
        except Exception:
            with suppress(RuntimeError):  # a device that has failed
                self.finish()
            raise
