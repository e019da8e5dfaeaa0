"""Cores and memory that this process may use, on machines that are made up of files."""

import os
from pathlib import Path

import pytest

from cosmos_core import usable_resources as resources

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16 cores and 64 GiB of which 48 are available, without control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    for name in ("CGROUPS", "OWN_CGROUPS", "MEMORY"):
        monkeypatch.setattr(resources, name, tmp_path / name.lower())
    meminfo = f"MemTotal: {64 * 2**20} kB\nMemAvailable: {48 * 2**20} kB\n"
    (tmp_path / "memory").write_text(meminfo, encoding="ascii")
    return tmp_path


def limit(machine: Path, own: str, **files: str) -> None:
    """Put this process in control groups, given as lines of /proc/self/cgroup, with files such as `a__cpu.max`."""
    (machine / "own_cgroups").write_text(own, encoding="ascii")
    for name, text in files.items():
        path = machine / "cgroups" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


def test_without_control_groups_all_cores_of_the_affinity_mask_and_available_memory_may_be_used(machine: Path):
    assert resources.usable_cores() == 16
    assert resources.free_memory() == 48 * GIB


def test_the_smallest_quota_of_a_group_and_those_above_it_counts(machine: Path):
    files = {"cpu.max": "max 100000", "batch__cpu.max": "250000 100000", "batch__job__cpu.max": "max 100000"}
    limit(machine, "0::/batch/job\n", **files)
    assert resources.usable_cores() == 2  # of 2.5
    limit(machine, "0::/batch/job\n", **{"batch__cpu.max": "40000 100000"})
    assert resources.usable_cores() == 1  # of 0.4: never none


def test_quotas_of_the_first_version_of_control_groups_count(machine: Path):
    files = {"cpu__box__cpu.cfs_quota_us": "400000", "cpu__box__cpu.cfs_period_us": "100000"}
    limit(machine, "5:cpuset:/\n1:cpu,cpuacct:/box\n", **files)
    assert resources.usable_cores() == 4
    limit(machine, "1:cpu,cpuacct:/box\n", **{"cpu__box__cpu.cfs_quota_us": "-1"})
    assert resources.usable_cores() == 16


def test_cached_files_of_a_limited_group_count_as_free(machine: Path):
    files = {"memory.max": str(8 * GIB), "memory.current": str(7 * GIB), "memory.stat": f"inactive_file {4 * GIB}\n"}
    limit(machine, "0::/\n", **files)
    assert resources.free_memory() == 5 * GIB
    limit(machine, "0::/\n", **{"memory.max": "max"})
    assert resources.free_memory() == 48 * GIB
    old = {"memory__memory.limit_in_bytes": str(2 * GIB), "memory__memory.usage_in_bytes": str(3 * GIB)}
    limit(machine, "4:memory:/elsewhere\n", **old)  # a path outside the container: its root is what is mounted
    assert resources.free_memory() == 0


def test_a_machine_that_tells_nothing_has_its_cores_and_unknown_memory(machine: Path, monkeypatch: pytest.MonkeyPatch):
    (machine / "memory").unlink()
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert (resources.usable_cores(), resources.free_memory()) == (6, None)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert resources.usable_cores() == 1


@pytest.mark.parametrize("text", ["", "1", "max", "x y", "100000 0", "-5 100000", "9" * 400 + " 1"])
def test_a_quota_that_is_none_limits_nothing(machine: Path, text: str):
    limit(machine, "0::/\nnonsense\n7:\n", **{"cpu.max": text})
    assert resources.usable_cores() == 16


def test_ranks_of_this_machine_are_those_of_torchrun(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert resources.local_ranks() == 1
    for text, ranks in (("8", 8), ("0", 1), ("many", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", text)
        assert resources.local_ranks() == ranks
