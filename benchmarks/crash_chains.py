"""Chains of kills: a command is started again and again, and killed at given points, until one start completes.

The files that it leaves must then be bit-identical to those of an uninterrupted command, without additional files.
"""

import hashlib
import os
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.crash_points import run_to_point


@dataclass(frozen=True)
class Scenario:
    """A command that may be killed."""

    name: str
    act: Callable[[], Any]
    """The command, called in its working folder; it returns or exits with 0 when it is complete."""
    prepare: Callable[[Path], None] = lambda folder: folder.mkdir(parents=True)
    """Creates the working folder."""
    digest: Callable[[Path], str] = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
    """Returns the content of a file as text or digest, without times and memory."""
    check: Callable[[Path], list[str]] = lambda folder: []
    """Returns what is wrong in the folder after a kill."""


@dataclass
class Tally:
    """Counts of what was done, and lists of what went wrong."""

    points: int = 0
    chains: int = 0
    kills: int = 0
    differences: list[str] = field(default_factory=list)
    """Files that differ from those of an uninterrupted command."""
    leftovers: list[str] = field(default_factory=list)
    """Files that an uninterrupted command does not leave."""
    wrong_after_a_kill: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Starts that ended with another exit code than 0."""

    def faults(self) -> list[str]:
        return [*self.differences, *self.leftovers, *self.wrong_after_a_kill, *self.refused]

    def figures(self) -> dict[str, int]:
        return {name: value if isinstance(value, int) else len(value) for name, value in vars(self).items()}


def kill_at_points(scenario: Scenario, root: Path, *, most: int = 0, several: int = 0, seed: int = 0) -> Tally:
    """Run one chain for each point, and more chains with two to five kills each.

    Args:
        root: an empty folder for this call.
        most: use only this many points, drawn at random; 0: all.
        several: number of chains with two to five kills.
    """
    tally, rng = Tally(), random.Random(seed)
    uninterrupted = root / "whole" / "work"
    scenario.prepare(uninterrupted)
    points = run_in(uninterrupted, scenario, 0)
    if not isinstance(points, list):
        raise RuntimeError(f"{scenario.name} ends with {points} without a kill: {last_line(uninterrupted)}")
    expected = outcome(uninterrupted, scenario)
    tally.points = len(points)
    chains: list[Sequence[int]] = [[point] for point in range(1, len(points) + 1)]
    if most and most < len(chains):
        chains = sorted(rng.sample(chains, most), key=list)
    chains += [[rng.randint(1, len(points)) for _ in range(rng.randint(2, 5))] for _ in range(several)]
    for kills in chains:
        run_chain(scenario, root / "chain" / "work", kills, expected, tally)
    return tally


def run_chain(scenario: Scenario, folder: Path, kills: Sequence[int], expected: dict[str, str], tally: Tally) -> None:
    """Run one chain. If a start does not reach its point, it completes and the chain ends."""
    scenario.prepare(folder)
    tally.chains += 1
    name = f"{scenario.name}, killed at {', '.join(map(str, kills))}"
    for kill_at in (*kills, 0):
        result = run_in(folder, scenario, kill_at)
        if isinstance(result, list):  # complete
            break
        if result != -signal.SIGKILL:
            tally.refused.append(f"{name}: exit code {result}: {last_line(folder)}")
            break
        tally.kills += 1
        tally.wrong_after_a_kill += [f"{name}: {line}" for line in scenario.check(folder)]
    files = outcome(folder, scenario)
    tally.leftovers += [f"{name}: {path}" for path in files if path not in expected]
    tally.differences += [f"{name}: {path}" for path in expected if files.get(path) != expected[path]]
    shutil.rmtree(folder.parent)


def run_in(folder: Path, scenario: Scenario, kill_at: int) -> int | list[str]:
    """Start the command in a folder; its output goes to a file beside the folder."""

    def act_in_folder() -> Any:
        os.chdir(folder)
        return scenario.act()

    return run_to_point(act_in_folder, folder, kill_at, folder.with_suffix(".output"))


def last_line(folder: Path) -> str:
    lines = folder.with_suffix(".output").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def outcome(folder: Path, scenario: Scenario) -> dict[str, str]:
    """Return every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): scenario.digest(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
