"""The ranks of a distributed evaluation (torchrun's processes), and how they share work.

Rank 0 leads: it reads the data, decides which features are missing, divides the work, collects the values, scores and
writes. The other ranks only do the pieces that they are given. So ranks cannot disagree about what is to be done.

A *piece* of work is a batch of images, texts or pairs, or a chunk of images for segmentation. Its members depend on the
order of the dataset and on the batch size only, never on the number of ranks. Of N ranks, rank r does the pieces r,
r + N, r + 2 N, ...; with 7 pieces and 3 ranks:

    piece   0  1  2  3  4  5  6
    rank    0  1  2  0  1  2  0
    round   0  0  0  1  1  1  2

Ranks 1 and 2 have a piece less than rank 0: there is no padding, and no piece is done twice. So each value has the bits
that a single process computes, and rank 0 puts the values in the order of the pieces.

The messages of `RankGroup.distribute` on rank 0 and `RankGroup.serve` on the others:

1. Rank 0 broadcasts an order (the function, its common argument, the number of pieces) and scatters the pieces.
2. Rank 0 broadcasts a number of rounds. Each rank does that many of its pieces, then sends a report to rank 0: the
   values, notes for the user, and the failure if one occurred. A report costs time, so rank 0 chooses the number of
   rounds such that they take about `REPORT_INTERVAL`.
3. Rank 0 does its own pieces of these rounds, receives the reports, and at once broadcasts the number of the next
   rounds. So the others compute while rank 0 uses the values that it has received.
4. Steps 2 and 3 repeat until all pieces are done. An order of None ends `serve`.

All messages go through main memory (the gloo backend), also if models are on GPUs.

Failures. A piece that raises an exception is reported with its number, and rank 0 raises the exception of the lowest
number, which is the one that a single process would have met first. A rank that is killed cannot report, but its
connections close, and the next message to or from it fails. There is no time limit that slow work could exceed.
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
from cosmos_core.rank_errors import is_lost_rank_error
from cosmos_core.world import World, join_world, leave_world
from cosmos_eval.engine.rank_work import NoteCollector, RankReport, RankShare
from cosmos_eval.progress import Reporter, Silent

REPORT_INTERVAL = 1.0
"""Approximate seconds between two reports of a rank; a single piece may take longer."""
GROUP_TIMEOUT = timedelta(days=14)
"""How long a rank waits for a message. Rank 0 may read data and score for hours between two orders; a rank that has
ended is noticed at once by its closed connection."""
PROCESS_GROUPS: list[Any] = []
"""References to process groups until the process ends: see `cosmos_core.world.DESTROYED_GROUPS`."""

Work = Callable[[Any, Any, Iterable[Any]], Iterator[Any]]
"""A function that does pieces of work on a rank and returns an iterator over their values.

Its arguments are the rank's `local_state`, the argument common to all pieces, and the pieces of the rank. It must be a
function of a module: ranks receive it by its name."""


@dataclass
class RankGroup:
    """The ranks of a run, as one of them sees them. A single process is a group of one, which sends no messages."""

    world: World = field(default_factory=World)
    reporter: Reporter = field(default_factory=Silent)
    """Shows progress of this rank; on rank 0 also the notes of the others."""
    hosts: list[str] = field(default_factory=list)
    """Host name of each rank."""
    process_group: Any = None
    """The group of torch.distributed for all messages of this class."""
    local_state: Any = None
    """What the function of the last `run_on_all` left on this rank for later work: usually the engine."""
    busy: bool = False
    """Whether work is going on that rank 0 has not seen the end of."""

    @property
    def is_main(self) -> bool:
        return self.world.is_main

    @property
    def size(self) -> int:
        return self.world.size

    def name(self, rank: int) -> str:
        """Return how messages call a rank: with its host if there are several."""
        return f"rank {rank} on {self.hosts[rank]}" if len(set(self.hosts)) > 1 else f"rank {rank}"

    def run_on_all(self, function: Callable[["RankGroup", Any], tuple[Any, Any]], argument: Any) -> list[Any]:
        """Call `function(ranks, argument)` on every rank; rank 0 calls this method.

        Args:
            function: returns what later work on this rank is given (`local_state`), and a value for rank 0.

        Returns:
            The values, by rank.

        Raises:
            RequestError, RankError: as `distribute`.
        """
        if self.size == 1:
            self.local_state, value = function(self, argument)
            return [value]
        return [value for _, value in self._lead(None, function, argument, [None] * self.size)]

    def distribute(self, work: Work, common: Any, pieces: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Divide pieces of work among the ranks; rank 0 calls this method.

        Rank 0 must take all values: until then no other work can start.

        Args:
            work: does the pieces of one rank.
            common: an argument that every rank gets.
            pieces: each goes to one rank. A single process may create them one by one, while it takes the values.

        Yields:
            The number of a piece and its value, in the order of pieces.

        Raises:
            RequestError: the failure of the lowest piece, after the name of its rank unless that is rank 0; or a rank
                has ended.
            RankError: the lowest failure is an unexpected exception on another rank.
        """
        if self.size == 1:
            return enumerate(work(self.local_state, common, pieces))
        return self._lead(work, None, common, list(pieces))

    def serve(self) -> None:
        """Do this rank's share of all work until rank 0 has no more; all ranks but rank 0 call this method.

        Raises:
            RequestError: rank 0 has ended. It is not shown: rank 0 has printed the reason itself.
        """
        try:
            while (order := self._receive()) is not None:
                work, function, common, piece_count = order
                share = self._own_share(work, function, common, self._scatter(None), piece_count)
                rounds_left = -(-piece_count // self.size)
                while rounds_left:
                    rounds = self._receive()
                    rounds_left -= rounds
                    self._send_report(share.do_rounds(rounds))
        except RuntimeError as error:
            if not is_lost_rank_error(error):
                raise
            lost = RequestError("rank 0 has ended; its own message gives the reason")
            lost.quiet = True
            raise lost from error
        leave_world(self.world)

    def finish(self) -> None:
        """On rank 0: end `serve` on the other ranks.

        After a failure (`busy`), nothing is sent: rank 0 ends, and the others notice it. They may be in the middle of
        their work, where they expect another message.
        """
        if self.size > 1 and self.is_main and not self.busy:
            with self._lost_rank_refused():
                self._broadcast(None)
            leave_world(self.world)

    def next_number(self, counter: str) -> int:
        """Return 0, 1, 2, ... for the first, second, third, ... call on any rank.

        Ranks that choose work by these numbers do each piece exactly once.
        """
        return self._key_value_store().add(f"cosmos-eval/{counter}", 1) - 1

    def set_flag(self, flag: str) -> None:
        """Set a flag that all ranks can see."""
        self._key_value_store().set(f"cosmos-eval/{flag}", "1")

    def is_flag_set(self, flag: str) -> bool:
        """Whether any rank has set a flag."""
        return self._key_value_store().check([f"cosmos-eval/{flag}"])

    def _lead(self, work: Work | None, function: Any, common: Any, pieces: list[Any]) -> Iterator[tuple[int, Any]]:
        """Do rank 0's part of `distribute`: steps 1 to 4 of the module's docstring.

        `run_on_all` is the same with `function` instead of `work`, and with one piece for each rank.
        """
        if self.busy:
            raise RuntimeError("work was started before all values of other work were taken")
        self.busy = True
        with self._lost_rank_refused(), _unpicklable_refused():
            self._broadcast((work, function, common, len(pieces)))
            own_pieces = self._scatter([pieces[rank :: self.size] for rank in range(self.size)])
        share = self._own_share(work, function, common, own_pieces, len(pieces))
        rounds_left = -(-len(pieces) // self.size)
        rounds, rounds_done = 1, 0  # one round first, to learn how long it takes
        if rounds_left:
            self._start_rounds(rounds)
        while rounds_left:
            start = time.monotonic()
            reports = [share.do_rounds(rounds), *self._receive_reports()]
            self._show_notes(reports)
            self._raise_first_failure(reports, share)
            first_piece = rounds_done * self.size
            rounds_done += rounds
            rounds_left -= rounds
            if rounds_left:  # before the values are yielded, so that the other ranks do not wait meanwhile
                rounds_per_report = rounds * REPORT_INTERVAL / max(time.monotonic() - start, 1e-3)
                rounds = max(1, min(rounds_left, 2 * rounds, int(rounds_per_report)))
                self._start_rounds(rounds)
            yield from self._in_piece_order(reports, first_piece)
        self.busy = False

    def _in_piece_order(self, reports: list[RankReport], first_piece: int) -> list[tuple[int, Any]]:
        """Return the values of all reports with the numbers of their pieces, in order."""
        values = []
        for rank, report in enumerate(reports):
            for done_round, value in enumerate(report.values):
                values.append((first_piece + done_round * self.size + rank, value))
        return sorted(values, key=lambda numbered: numbered[0])

    def _show_notes(self, reports: list[RankReport]) -> None:
        """Show the notes of other ranks; a note of several ranks is shown once."""
        ranks_of_line: dict[str, list[int]] = {}
        for rank, report in enumerate(reports[1:], start=1):
            for line in report.notes:
                ranks_of_line.setdefault(line, []).append(rank)
        for line, ranks in ranks_of_line.items():
            who = self.name(ranks[0]) if len(set(ranks)) == 1 else f"{len(set(ranks))} other ranks"
            self.reporter.note(f"{who}: {line}")

    def _raise_first_failure(self, reports: list[RankReport], own_share: RankShare) -> None:
        """Raise the failure with the lowest piece, if there is any."""
        failures = [(report.failure.piece, rank) for rank, report in enumerate(reports) if report.failure]
        if not failures:
            return
        _, rank = min(failures)
        if rank == 0:
            assert own_share.error is not None
            raise own_share.error
        failure = reports[rank].failure
        assert failure is not None
        line = f"{self.name(rank)}: {failure.line}"
        if not failure.traceback:
            raise RequestError(line)
        raise RankError(line) from RemoteTraceback(failure.traceback)

    def _own_share(self, work: Work | None, function: Any, common: Any, own_pieces: list[Any], count: int) -> RankShare:
        """Return this rank's share of `count` pieces; nothing is done yet."""
        values = self._call_once(function, common) if work is None else work(self.local_state, common, own_pieces)
        notes = self.reporter if isinstance(self.reporter, NoteCollector) else NoteCollector()
        return RankShare(values, range(self.world.rank, count, self.size), notes)

    def _call_once(self, function: Any, argument: Any) -> Iterator[Any]:
        """`run_on_all` as work with one piece for each rank."""
        self.local_state, value = function(self, argument)
        yield value

    # Messages. Objects are sent by pickle: all ranks are processes of one user, started together.

    def _broadcast(self, message: Any) -> None:
        dist.broadcast_object_list([message], src=0, group=self.process_group)

    def _start_rounds(self, rounds: int) -> None:
        with self._lost_rank_refused():
            self._broadcast(rounds)

    def _receive(self) -> Any:
        """Return the next broadcast of rank 0."""
        message = [None]
        dist.broadcast_object_list(message, src=0, group=self.process_group)
        return message[0]

    def _scatter(self, pieces_by_rank: list[list[Any]] | None) -> list[Any]:
        """Return this rank's pieces; rank 0 gives those of all ranks, the others None."""
        own_pieces: list[Any] = [None]
        dist.scatter_object_list(own_pieces, pieces_by_rank, src=0, group=self.process_group)
        return own_pieces[0]

    def _send_report(self, report: RankReport) -> None:
        content = torch.frombuffer(bytearray(pickle.dumps(report, pickle.HIGHEST_PROTOCOL)), dtype=torch.uint8)
        dist.send(torch.tensor([len(content)]), dst=0, group=self.process_group)
        dist.send(content, dst=0, group=self.process_group)

    def _receive_reports(self) -> Iterator[RankReport]:
        """Receive the reports of all other ranks, in order of ranks.

        A gather would be shorter, but its error does not tell which rank has ended.
        """
        for rank in range(1, self.size):
            size = torch.zeros(1, dtype=torch.int64)
            with self._lost_rank_refused(rank):
                dist.recv(size, src=rank, group=self.process_group)
                content = torch.empty(int(size), dtype=torch.uint8)
                dist.recv(content, src=rank, group=self.process_group)
            yield pickle.loads(content.numpy().tobytes())

    @contextmanager
    def _lost_rank_refused(self, rank: int | None = None) -> Iterator[None]:
        """Turn the error of a message to or from a rank that has ended into a RequestError."""
        try:
            yield
        except RuntimeError as error:
            if not is_lost_rank_error(error):
                raise
            who = self.name(rank) if rank is not None else "another rank"
            raise RequestError(
                f"{who} has ended unexpectedly (killed, or out of memory, unless it printed another reason); finished "
                "results and cached features are kept, and the same command continues from there"
            ) from error

    def _key_value_store(self) -> Any:
        """Return the key-value store of the process group, which all ranks share."""
        return dist.distributed_c10d._get_default_store()


class RankError(RuntimeError):
    """An unexpected exception (a bug) on another rank; its cause shows the traceback of that rank."""


class RemoteTraceback(Exception):
    """The traceback of an exception in another process, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@contextmanager
def _unpicklable_refused() -> Iterator[None]:
    try:
        yield
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise RequestError(
            f"the work cannot be sent to other ranks ({' '.join(str(error).split())[:160]}); run it in one process"
        ) from error


def join_rank_group(reporter: Reporter) -> RankGroup:
    """Join the processes that torchrun, or a batch system with the same variables, started together with this one.

    Without such variables, the group has this process only.

    Raises:
        RequestError: the environment is incomplete, or the processes do not find each other.
    """
    try:
        # The CPU's backend for any device: features are small, and a rank that waits for a message leaves its GPU idle.
        return build_rank_group(join_world("cpu"), reporter)
    except RequestError:
        raise
    except (ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())[:200]
        raise RequestError(f"the ranks cannot find each other ({line}); start them with torchrun") from error


def build_rank_group(world: World, reporter: Reporter) -> RankGroup:
    """Return the ranks of a world that was joined; every rank must call it."""
    if world.size == 1:
        return RankGroup(reporter=reporter)
    group = dist.new_group(backend="gloo", timeout=GROUP_TIMEOUT)
    PROCESS_GROUPS.append(group)
    return RankGroup(world, reporter if world.is_main else NoteCollector(), world.gather(socket.gethostname()), group)
