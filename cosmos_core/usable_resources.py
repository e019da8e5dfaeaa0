"""What this process may use of its machine: cores and memory, within affinity and control groups (containers)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cosmos_core.text_files import parse_integer

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
MEMORY = Path("/proc/meminfo")
LARGEST = 2**63
"""Of the numbers that these files contain; version 1 of cgroups writes about as much for no limit."""


def local_ranks() -> int:
    """Ranks of torchrun on this machine; 1 without torchrun."""
    return parse_integer(os.environ.get("LOCAL_WORLD_SIZE", "")) or 1


def usable_cores() -> int:
    """Cores for all ranks of this machine: those of the affinity mask, or fewer by the quota of a control group.

    `os.cpu_count` alone counts all cores of the machine, also in a container or a batch job that has two of them.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on this system
        cores = os.cpu_count() or 1
    quotas = [quota for folder in cgroup_folders("cpu") if (quota := cpu_quota(folder)) is not None]
    return max(1, int(min([cores, *quotas])))


def free_memory() -> int | None:
    """Bytes of main memory that all ranks of this machine may still take; None where the system does not say.

    What the system calls available, or less by the limit of a control group: its cached files count as free.
    """
    available = read_number(MEMORY, "MemAvailable:")
    rooms = [room for folder in cgroup_folders("memory") if (room := memory_room(folder)) is not None]
    if available is not None:
        rooms.append(1024 * available)
    return max(0, min(rooms)) if rooms else None


def cgroup_folders(controller: str) -> Iterator[Path]:
    """Folders of the control groups that limit this process: its own and all above it, of both versions of cgroups."""
    try:
        lines = OWN_CGROUPS.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number != "0" and controller not in controllers.split(","):
            continue
        # Version 1 has a hierarchy for each controller; version 2 (number 0, no controllers) one for all.
        root = CGROUPS if number == "0" else CGROUPS / controller
        own = Path(path.lstrip("/"))
        yield from (root / folder for folder in (own, *own.parents) if ".." not in folder.parts)


def cpu_quota(folder: Path) -> float | None:
    """Cores of a control group's quota; None: it has none."""
    words = read_words(folder / "cpu.max") or [
        *read_words(folder / "cpu.cfs_quota_us"),
        *read_words(folder / "cpu.cfs_period_us"),
    ]
    quota, period = (parse_integer(word, LARGEST) for word in words[:2]) if len(words) >= 2 else (None, None)
    return quota / period if quota and period and quota > 0 and period > 0 else None  # "max" or -1: no quota


def memory_room(folder: Path) -> int | None:
    """Bytes that the processes of a control group may still take; None: it has no limit."""
    names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    for limit_name, used_name in names:
        words = (read_words(folder / name)[:1] for name in (limit_name, used_name))
        limit, used = (parse_integer("".join(word), LARGEST) for word in words)
        if limit is not None and used is not None:
            cached = read_number(folder / "memory.stat", "inactive_file") or 0
            return limit - max(0, used - cached)
    return None


def read_words(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text(errors="replace").split()
    return []


def read_number(path: Path, name: str) -> int | None:
    """The number behind a name in a file of lines `name number ...`."""
    with suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == name:
                return parse_integer(words[1], LARGEST)
    return None
