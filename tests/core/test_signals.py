"""Signals: the first one asks, the loop answers after its step, all ranks stop together."""

import os
import signal
import threading
from contextlib import suppress
from typing import Any

import pytest

from cosmos_core import signals as module
from cosmos_core.signals import Interrupted, Signals, StoppedWaiting
from cosmos_core.world import World

THREE = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


@pytest.mark.parametrize("number", THREE)
def test_a_signal_asks_and_the_process_goes_on(number: signal.Signals):
    with Signals(World()) as signals:
        assert signals.stop() == 0
        signal.raise_signal(number)
        assert signals.stop() == number
        assert signals.stop() == number  # until someone heeds it


def test_the_first_signal_counts_and_those_after_it_change_nothing():
    with Signals(World()) as signals:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
            signal.raise_signal(number)
        assert signals.stop() == signal.SIGTERM


@pytest.mark.parametrize("first", THREE)
def test_a_ctrl_c_after_the_first_signal_quits_at_once(first: signal.Signals):
    with Signals(World()):
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_was_heard_before_is_heard_again_afterwards():
    before = [signal.getsignal(number) for number in THREE]
    with suppress(ZeroDivisionError), Signals(World()):
        assert all(signal.getsignal(number) not in before for number in THREE)
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in THREE] == before


def test_outside_the_main_thread_signals_stay_as_they_are():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with Signals(World()) as signals:
            seen.append((signals.stop(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, before)]


class Pair(World):
    """Two ranks, of which the other one has heard `other`."""

    def __init__(self, other: int) -> None:
        super().__init__(rank=0, size=2)
        object.__setattr__(self, "other", other)

    def any(self, flag: bool) -> bool:
        return flag or bool(self.other)  # type: ignore[attr-defined]

    def gather(self, value: Any) -> list[Any]:
        return [value, self.other]  # type: ignore[attr-defined]


def test_a_signal_that_another_rank_heard_stops_this_one_too():
    with Signals(Pair(signal.SIGUSR1)) as signals:
        assert signals.stop() == signal.SIGUSR1
        signal.raise_signal(signal.SIGTERM)
        assert signals.stop() == signal.SIGTERM  # the first rank's, on every rank
    with Signals(Pair(0)) as signals:
        assert signals.stop() == 0


def in_a_child(work: Any) -> int:
    """The code or the negative signal that a fork of this process ends with."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
        os._exit(77)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_process_forked_off_does_not_die_of_a_signal_to_the_whole_job():
    def work() -> None:
        for number in THREE:
            os.kill(os.getpid(), number)
        os._exit(0)

    with Signals(World()) as signals:
        assert in_a_child(work) == 0
        assert signals.stop() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 0)])
def test_each_signal_has_the_contracts_exit_code_and_one_line(number: signal.Signals, code: int, tmp_path):
    stop = Interrupted(number, 1200, tmp_path / "step-00001200.pt")
    assert stop.code == code
    assert number.name in str(stop)
    assert "step 1,200" in str(stop)
    assert "step-00001200.pt" in str(stop)
    assert "\n" not in str(stop)
    assert not isinstance(stop, Exception)  # no handler of faults takes it


def blocked(descriptor: int) -> None:
    """A read of what never comes, as of a pipe whose other end is silent."""
    os.read(descriptor, 1)


@pytest.mark.parametrize("number", THREE)
def test_a_signal_ends_a_wait_for_data_that_never_come(number: signal.Signals, monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.05)
    read, write = os.pipe()
    with Signals(World()) as signals:
        threading.Timer(0.1, os.kill, [os.getpid(), number]).start()  # not before it is heard: it would end the tests
        with pytest.raises(StoppedWaiting), signals.waiting():
            blocked(read)
        assert signals.stop() == number
    os.close(read)
    os.close(write)


def test_a_signal_that_came_before_the_wait_ends_it_as_well(monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.05)
    read, write = os.pipe()
    with Signals(World()) as signals:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StoppedWaiting), signals.waiting():
            blocked(read)
    os.close(read)
    os.close(write)


def test_data_that_come_after_the_signal_are_taken_and_no_alarm_is_left(monkeypatch):
    monkeypatch.setattr(module, "GRACE", 3600.0)
    before = signal.getsignal(signal.SIGALRM)
    with Signals(World()) as signals:
        with signals.waiting():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signals.stop() == signal.SIGTERM
    assert signal.getsignal(signal.SIGALRM) == before
