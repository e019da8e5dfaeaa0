"""Chains of kills: a command is started again and again, killed at given points of its starts, until it comes to its
end; what stands then must be, to the bit, what a start that nobody disturbed leaves, and nothing else."""

import hashlib
import os
import random
import shutil
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
    """The command, in the folder that it works in; it returns or exits with 0 where it came to its end."""
    prepare: Callable[[Path], None] = lambda folder: folder.mkdir(parents=True)
    """Makes the folder that it begins in."""
    digest: Callable[[Path], str] = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
    """What a file says, without time and memory."""
    check: Callable[[Path], list[str]] = lambda folder: []
    """What is wrong in the folder after a kill."""


@dataclass
class Tally:
    """What was done and found."""

    points: int = 0
    chains: int = 0
    kills: int = 0
    differences: list[str] = field(default_factory=list)
    """Files that are not those of a start that nobody disturbed."""
    leftovers: list[str] = field(default_factory=list)
    """Files that it does not have."""
    wrong_after_a_kill: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Starts that did not end with 0."""

    def faults(self) -> list[str]:
        return [*self.differences, *self.leftovers, *self.wrong_after_a_kill, *self.refused]

    def figures(self) -> dict[str, int]:
        return {name: value if isinstance(value, int) else len(value) for name, value in vars(self).items()}


def kill_at_points(scenario: Scenario, root: Path, *, most: int = 0, several: int = 0, seed: int = 0) -> Tally:
    """One chain for each point (a sample of `most` of them, if given), and `several` chains of two to five kills.

    Args:
        root: an empty folder for this call.
    """
    tally, draw = Tally(), random.Random(seed)
    whole = root / "whole" / "work"
    scenario.prepare(whole)
    points = run_in(whole, scenario, 0)
    if not isinstance(points, list):
        raise RuntimeError(f"{scenario.name} ends with {points} undisturbed: {last_line(whole)}")
    expected = outcome(whole, scenario)
    tally.points = len(points)
    chains: list[Sequence[int]] = [[point] for point in range(1, len(points) + 1)]
    if most and most < len(chains):
        chains = sorted(draw.sample(chains, most))
    chains += [[draw.randint(1, len(points)) for _ in range(draw.randint(2, 5))] for _ in range(several)]
    for kills in chains:
        run_chain(scenario, root / "chain" / "work", kills, expected, tally)
    return tally


def run_chain(scenario: Scenario, folder: Path, kills: Sequence[int], expected: dict[str, str], tally: Tally) -> None:
    """One chain; a point that a start does not reach lets it come to its end."""
    scenario.prepare(folder)
    tally.chains += 1
    name = f"{scenario.name}, killed at {', '.join(map(str, kills))}"
    for kill_at in (*kills, 0):
        ended = run_in(folder, scenario, kill_at)
        if isinstance(ended, list):
            break
        if ended != -9:
            tally.refused.append(f"{name}: exit {ended}: {last_line(folder)}")
            break
        tally.kills += 1
        tally.wrong_after_a_kill += [f"{name}: {line}" for line in scenario.check(folder)]
    found = outcome(folder, scenario)
    tally.leftovers += [f"{name}: {path}" for path in found if path not in expected]
    tally.differences += [f"{name}: {path}" for path in expected if found.get(path) != expected[path]]
    shutil.rmtree(folder.parent)


def run_in(folder: Path, scenario: Scenario, kill_at: int) -> int | list[str]:
    """A start in a folder; what it prints goes beside the folder."""

    def there() -> Any:
        os.chdir(folder)
        return scenario.act()

    return run_to_point(there, folder, kill_at, folder.with_suffix(".said"))


def last_line(folder: Path) -> str:
    lines = folder.with_suffix(".said").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def outcome(folder: Path, scenario: Scenario) -> dict[str, str]:
    """Every file below a folder and what it says."""
    return {
        str(path.relative_to(folder)): scenario.digest(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
