"""Progress of the threads that fetch, and how they are ended."""

from collections.abc import Callable
from threading import Event, Lock


class FetchStopped(Exception):
    """The fetch ends: by Ctrl-C, or because the disk is full."""


class ByteProgress:
    """Bytes of all threads, reported in whole units."""

    def __init__(self, advance: Callable[[int], None], unit_bytes: int, stop: Event) -> None:
        self.tell, self.unit_bytes, self.stop = advance, unit_bytes, stop
        self.lock = Lock()
        self.bytes, self.told = 0, 0

    def advance(self, size: int) -> None:
        if self.stop.is_set():
            raise FetchStopped
        with self.lock:
            self.bytes += size
            whole = self.bytes // self.unit_bytes
            if whole > self.told:
                self.tell(whole - self.told)
                self.told = whole
