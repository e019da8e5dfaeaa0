"""Downloads of shards in the background: the next ones come while one is read, and each is deleted after use."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

from cosmos_eval.datasets.fetch.byte_progress import FetchStopped
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.transfer import Fetched, Network, Remote, download

AHEAD = 2
"""Shards that are downloaded, or wait, while one is read: with it, so many and one are on disk."""


class ShardDownloads:
    """Shards of a list, in order, as a context manager: whatever ends its block ends the downloads.

    Args:
        shards: path below the folder, and where it is fetched.
        folder: where the shards come and go. It is left to the caller.
        ahead: how many shards may be on disk or on their way besides the one that is read.
    """

    def __init__(
        self, shards: Sequence[tuple[str, Remote]], folder: Path, ahead: int = AHEAD, network: Network | None = None
    ) -> None:
        self._waiting = deque(shards)
        self._folder = folder
        self._ahead = ahead
        self._stop = Event()
        network = network or Network()
        self._network = replace(network, sleep=self._sleep) if network.sleep is time.sleep else network
        self._pool = ThreadPoolExecutor(max(1, ahead), "stream-shard")
        self._running: deque[tuple[Path, Future[Fetched]]] = deque()

    def __enter__(self) -> "ShardDownloads":
        self._start(self._ahead)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Fetched]:
        """Yield each shard once it is on disk with the right size and checksum; it is deleted when the next is taken.

        Raises:
            FetchError: a shard cannot be fetched. Those before it were yielded.
        """
        while self._running or self._waiting:
            self._start(max(self._ahead, 1))
            path, future = self._running.popleft()
            try:
                fetched = future.result()
            except FetchError as error:
                raise _with_own_advice(error) from error
            self._start(self._ahead)
            try:
                yield fetched
            finally:
                path.unlink(missing_ok=True)

    def _start(self, count: int) -> None:
        while self._waiting and len(self._running) < count:
            name, remote = self._waiting.popleft()
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._running.append((path, self._pool.submit(download, remote, path, self._advance, self._network)))

    def _advance(self, size: int) -> None:
        if self._stop.is_set():
            raise FetchStopped

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise FetchStopped


def _with_own_advice(error: FetchError) -> FetchError:
    """Streamed data have no data root: another place for them is another folder for results."""
    return FetchError(error.kind, str(error).replace("--data-root", "--out")) if error.kind == "disk" else error
