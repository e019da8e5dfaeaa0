"""Processes that evaluate together: rank 0 says what is to do and keeps what comes back, the others do their share.

Work comes in pieces (a batch of images, say) that depend on dataset order and batch size only. Of N ranks, rank r
does pieces r, r + N, ... and rank 0 puts their values in order: nothing is padded, nothing done twice, and each value
has the bits that a single process would have made. Rank 0 alone reads data, decides what is known already, scores and
writes, so that ranks cannot disagree about any of it. What they send goes through main memory (gloo), whatever the
device.

A rank that fails says so in its next report, and rank 0 raises it. Otherwise whoever fails just ends: its connections
close, and nobody waits for it.
"""

import pickle
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist

from cosmos_core.errors import RequestError
from cosmos_core.world import World, is_lost_rank_error, join_world, leave_world
from cosmos_eval.engine.rank_work import Notes, Report, Share
from cosmos_eval.progress import Reporter, Silent

SECONDS = 1.0
"""Between two reports of a rank, about; a single piece may take longer."""
PATIENCE = timedelta(days=14)
"""A rank waits so long for the next order, while rank 0 reads data and scores; one that is gone is noticed at once."""
GROUPS: list[Any] = []
"""Kept until the process ends: see `cosmos_core.world.DESTROYED_GROUPS`."""

Work = Callable[[Any, Any, Iterable[Any]], Iterator[Any]]
"""(what `Crew.open` left on this rank, what all pieces share, pieces) -> a value for each piece. A function of a
module, so that another process finds it by its name."""


@dataclass
class Crew:
    """The ranks of a run, as one of them sees them. With one process nothing is ever sent."""

    world: World = field(default_factory=World)
    reporter: Reporter = field(default_factory=Silent)
    """Where this rank shows what it does; on rank 0 also what others note."""
    hosts: list[str] = field(default_factory=list)
    """The machine of each rank."""
    group: Any = None
    here: Any = None
    """What `open` left on this rank."""
    busy: bool = False
    """Whether work is under way that rank 0 has not seen the end of."""

    @property
    def is_main(self) -> bool:
        return self.world.is_main

    @property
    def size(self) -> int:
        return self.world.size

    def name(self, rank: int) -> str:
        """How people know a rank."""
        return f"rank {rank} on {self.hosts[rank]}" if len(set(self.hosts)) > 1 else f"rank {rank}"

    def open(self, act: Callable[["Crew", Any], tuple[Any, Any]], about: Any) -> list[Any]:
        """Call `act(crew, about)` on every rank: it gives what later work is handed there, and a value for rank 0.

        Returns:
            The values, by rank.

        Raises:
            RequestError, Fault: as `share`.
        """
        if self.size == 1:
            self.here, value = act(self, about)
            return [value]
        return [value for _, value in self._lead(None, act, about, [None] * self.size)]

    def share(self, work: Work, common: Any, pieces: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Numbers of pieces and their values, as they come in; rank 0 calls it and takes all of them.

        Args:
            work: does the pieces that it is given, one after the other.
            common: goes to every rank.
            pieces: each goes to one rank. They may be made one by one where there is one process.

        Raises:
            RequestError: what the first failing piece raises, with its rank where that is another; or a rank is gone.
            Fault: a fault of ours on another rank.
        """
        if self.size == 1:
            return enumerate(work(self.here, common, pieces))
        return self._lead(work, None, common, list(pieces))

    def serve(self) -> None:
        """What ranks other than 0 do: their share of all work, until rank 0 has no more.

        Raises:
            RequestError: rank 0 is gone; quiet, since it says why.
        """
        try:
            while (order := self._receive()) is not None:
                work, act, common, count = order
                share = self._my_share(work, act, common, self._scatter(None), count)
                left = -(-count // self.size)
                while left:
                    rounds = self._receive()
                    left -= rounds
                    self._report(share.take(rounds))
        except RuntimeError as error:
            if not is_lost_rank_error(error):
                raise
            gone = RequestError("rank 0 is gone, and its own message says why")
            gone.quiet = True
            raise gone from error
        leave_world(self.world)

    def finish(self) -> None:
        """Let all ranks go. Only where all work came to its end: where it failed, rank 0 ends, and they notice."""
        if self.size > 1 and self.is_main and not self.busy:
            with self._all_there():
                self._send(None)
            leave_world(self.world)

    def take_number(self, what: str) -> int:
        """0, 1, 2, ... at each call by any rank: ranks that take numbered things so get each of them once."""
        return self._store().add(f"cosmos-eval/{what}", 1) - 1

    def raise_flag(self, what: str) -> None:
        self._store().set(f"cosmos-eval/{what}", "1")

    def flag(self, what: str) -> bool:
        """Whether any rank has raised it."""
        return self._store().check([f"cosmos-eval/{what}"])

    def _lead(self, work: Work | None, act: Any, common: Any, pieces: list[Any]) -> Iterator[tuple[int, Any]]:
        """Rank 0's side of some work."""
        if self.busy:
            raise RuntimeError("ranks are asked for work while they do other work")
        self.busy = True
        with self._all_there(), _can_be_sent():
            self._send((work, act, common, len(pieces)))
            own = self._scatter([pieces[rank :: self.size] for rank in range(self.size)])
        share = self._my_share(work, act, common, own, len(pieces))
        left, rounds, done = -(-len(pieces) // self.size), 1, 0
        if left:
            self._tell(rounds)
        while left:
            begun = time.monotonic()
            reports = [share.take(rounds), *self._collect()]
            self._judge(reports, share)
            first, done, left = done * self.size, done + rounds, left - rounds
            if left:  # others go on while the values are put to use
                pace = SECONDS / max(time.monotonic() - begun, 1e-3)
                rounds = max(1, min(left, 2 * rounds, int(rounds * pace)))
                self._tell(rounds)
            yield from sorted(
                (
                    (first + k * self.size + rank, value)
                    for rank, report in enumerate(reports)
                    for k, value in enumerate(report.values)
                ),
                key=lambda one: one[0],
            )
        self.busy = False

    def _judge(self, reports: list[Report], own: "Share") -> None:
        """Show what other ranks noted; raise the first failure."""
        noted: dict[str, list[int]] = {}
        for rank, report in enumerate(reports[1:], start=1):
            for line in report.notes:
                noted.setdefault(line, []).append(rank)
        for line, ranks in noted.items():
            who = self.name(ranks[0]) if len(set(ranks)) == 1 else f"{len(set(ranks))} other ranks"
            self.reporter.note(f"{who}: {line}")
        failures = [(report.failure.piece, rank) for rank, report in enumerate(reports) if report.failure]
        if not failures:
            return
        _, rank = min(failures)
        if rank == 0:
            assert own.error is not None
            raise own.error
        failure = reports[rank].failure
        assert failure is not None
        said = f"{self.name(rank)}: {failure.line}"
        if not failure.traceback:
            raise RequestError(said)
        raise Fault(said) from Elsewhere(failure.traceback)

    def _my_share(self, work: Work | None, act: Any, common: Any, own: list[Any], count: int) -> "Share":
        values = self._opened(act, common) if work is None else work(self.here, common, own)
        notes = self.reporter if isinstance(self.reporter, Notes) else Notes()
        return Share(values, range(self.world.rank, count, self.size), notes)

    def _opened(self, act: Any, about: Any) -> Iterator[Any]:
        self.here, value = act(self, about)
        yield value

    # what is sent

    def _send(self, order: Any) -> None:
        dist.broadcast_object_list([order], src=0, group=self.group)

    def _tell(self, rounds: int) -> None:
        with self._all_there():
            self._send(rounds)

    def _receive(self) -> Any:
        order = [None]
        dist.broadcast_object_list(order, src=0, group=self.group)
        return order[0]

    def _scatter(self, by_rank: list[list[Any]] | None) -> list[Any]:
        own: list[Any] = [None]
        dist.scatter_object_list(own, by_rank, src=0, group=self.group)
        return own[0]

    def _report(self, report: Report) -> None:
        content = torch.frombuffer(bytearray(pickle.dumps(report, pickle.HIGHEST_PROTOCOL)), dtype=torch.uint8)
        dist.send(torch.tensor([len(content)]), dst=0, group=self.group)
        dist.send(content, dst=0, group=self.group)

    def _collect(self) -> Iterator[Report]:
        """The reports of all other ranks, one after the other: so it is known which one is gone."""
        for rank in range(1, self.size):
            size = torch.zeros(1, dtype=torch.int64)
            with self._all_there(rank):
                dist.recv(size, src=rank, group=self.group)
                content = torch.empty(int(size), dtype=torch.uint8)
                dist.recv(content, src=rank, group=self.group)
            yield pickle.loads(content.numpy().tobytes())

    @contextmanager
    def _all_there(self, rank: int | None = None) -> Iterator[None]:
        """On rank 0: a rank that is gone is a refusal in one line."""
        try:
            yield
        except RuntimeError as error:
            if not is_lost_rank_error(error):
                raise
            who = self.name(rank) if rank is not None else "another rank"
            raise RequestError(
                f"{who} is gone (killed, or out of memory, where it did not say why itself); what was finished and "
                "stored is kept, and the same command goes on from there"
            ) from error

    def _store(self) -> Any:
        return dist.distributed_c10d._get_default_store()


class Fault(RuntimeError):
    """A fault of ours on another rank; its cause shows that rank's traceback."""


class Elsewhere(Exception):
    """A traceback of another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@contextmanager
def _can_be_sent() -> Iterator[None]:
    try:
        yield
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise RequestError(
            f"the work cannot be sent to other ranks ({' '.join(str(error).split())[:160]}); run it in one process"
        ) from error


def join_crew(reporter: Reporter) -> Crew:
    """The processes that torchrun, or a batch system with its variables, started with this one; else this one alone.

    Raises:
        RequestError: the environment is incomplete, or the others do not come.
    """
    try:
        # the CPU's backend on any device: rows are small, and a rank that waits so leaves its card alone
        return crew_of(join_world("cpu"), reporter)
    except RequestError:
        raise
    except (ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())[:200]
        raise RequestError(f"the ranks cannot find each other ({line}); start them with torchrun") from error


def crew_of(world: World, reporter: Reporter) -> Crew:
    """The ranks of a world that stands."""
    if world.size == 1:
        return Crew(reporter=reporter)
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    GROUPS.append(group)
    return Crew(world, reporter if world.is_main else Notes(), world.gather(socket.gethostname()), group)
