"""Before the first step, ranks compare settings, packages and code, then data and initial state.

Not compared: devices, threads, workers, the folders of data and run, and what only rank 0 evaluates.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from cosmos_core.config import TrainConfig
from cosmos_core.data import Loader
from cosmos_core.data.shards import is_local
from cosmos_core.data.sources import DataSource, Records
from cosmos_core.data.tables import CaptionTable
from cosmos_core.errors import RequestError
from cosmos_core.fsdp import is_sharded
from cosmos_core.model import COSMOS
from cosmos_core.objective_state import plugin_facts
from cosmos_core.printable import plural
from cosmos_core.run_state import flatten, portable_source, source_names, to_json_types
from cosmos_core.step import Run
from cosmos_core.world import World

MACHINE_SETTINGS = ("device", "threads", "workers", "eval_data_root")
MAIN_RANK_SETTINGS = ("eval_suite", "eval_networks", "eval_limit")
"""What rank 0 alone evaluates. `eval_every`, when it does, must be equal: all ranks wait for it."""
MAY_DIFFER = (*MACHINE_SETTINGS, *MAIN_RANK_SETTINGS)
"""Settings that may differ between ranks: they change no sample, no formula and no order of collectives."""
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "open_clip_torch", "webdataset", "safetensors")
MAX_NAMED = 3
MAX_COMPARED = 16
"""Most records of a sequence, or shards of a list, whose content is compared: rendering or reading them takes time."""
BYTES_COMPARED = 2**20
"""Bytes of a shard whose content is compared."""


def agree_on_settings(config: TrainConfig, world: World) -> None:
    """RequestError on all ranks if one has other settings, packages or code. A collective."""
    if world.size > 1:
        require_equal_facts({**settings(config), **versions(), **plugin_facts(config.objective)}, world)


def agree_on_start(run: Run, loader: Loader, position: Any) -> None:
    """RequestError on all ranks if one has other data or another initial state. A collective."""
    if run.world.size > 1:
        require_equal_facts({**data_facts(loader), **state_facts(run, position)}, run.world)


def agree_on_weights(student: COSMOS, world: World) -> None:
    """RequestError on all ranks if one has other initial weights; before they are split. A collective."""
    require_equal_facts({"the student's weights": digest_of(student.state_dict())}, world)


def require_equal_facts(facts: Mapping[str, str], world: World) -> None:
    """RequestError that names what differs and on which rank, if any fact does; every rank must call it."""
    rank_facts = world.gather(dict(facts))
    names = dict.fromkeys(name for of_rank in rank_facts for name in of_rank)
    differing = [line for name in names if (line := difference(name, [of_rank.get(name) for of_rank in rank_facts]))]
    if differing:
        others = f" and {len(differing) - MAX_NAMED} more" if len(differing) > MAX_NAMED else ""
        error = RequestError(
            f"ranks do not agree: {'; '.join(differing[:MAX_NAMED])}{others}; start all ranks with the same command, "
            "data and packages"
        )
        error.quiet = not world.is_main
        raise error


def difference(name: str, values: Sequence[str | None]) -> str:
    """How a fact differs between ranks, naming the first that is not rank 0's; empty if it does not."""
    others = [rank for rank, value in enumerate(values) if value != values[0]]
    if not others:
        return ""
    first = others[0]
    further = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    rank_0_value, other_value = (value if value is not None else "absent" for value in (values[0], values[first]))
    return f"{name} is {rank_0_value} on rank 0 and {other_value} on rank {first}{further}"


def settings(config: TrainConfig) -> dict[str, str]:
    """The settings that all ranks must share, by their dotted names."""
    values = flatten(to_json_types(config.to_dict()))
    values = {key: value for key, value in values.items() if key.split(".")[0] not in MAY_DIFFER}
    values["data"] = "::".join(source_names(values["data"]))
    values["init"] = portable_source(values["init"])
    values["out"] = "set" if values["out"] else "not set"
    return {key: shorten(value) for key, value in values.items()}


def versions() -> dict[str, str]:
    """Versions of Python and packages, and the digest of cosmos_core's source."""
    package_versions = {f"package {name}": version_of(name) for name in PACKAGES}
    return {"Python": platform.python_version(), **package_versions, "the code of cosmos_core": code_digest()}


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


@cache
def code_digest() -> str:
    """Eight hex digits of the content of all source files, since an edited file has no version number."""
    folder = Path(__file__).parent
    hashed = hashlib.blake2b(digest_size=4)
    for path in sorted(folder.rglob("*.py")):
        hashed.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return hashed.hexdigest()


def data_facts(loader: Loader) -> dict[str, str]:
    """Describe the data without reading all of it: names, sizes, numbers of samples."""
    facts = {"samples in an epoch": f"{loader.samples_per_epoch:,}"}
    plan = getattr(loader, "plan", None)
    if plan is None:
        return facts
    facts["plan of the data"] = f"{plan.fingerprint():016x}"[:8]
    for source in plan.sources:
        facts.update(source_facts(source))
    return facts


def source_facts(source: DataSource) -> dict[str, str]:
    if isinstance(source, Records):
        return {
            f"training data {name}": f"{plural(count, 'sample')}, digest {digest}"
            for name, count, digest in record_digests(source.data)
        }
    facts, compared = {}, spread_indices(len(source.urls))
    for index, (name, url) in enumerate(zip(source.names, source.urls, strict=True)):
        facts[f"shard {name}"] = f"{Path(url).stat().st_size:,} bytes" if is_local(url) else "remote"
        if index in compared and is_local(url) and Path(url).is_file():
            facts[f"shard {name}"] += f", digest {start_digest(Path(url))}"
    return facts


def spread_indices(count: int) -> set[int]:
    """At most `MAX_COMPARED` indices of a sequence, spread evenly over it."""
    return {count * n // MAX_COMPARED for n in range(MAX_COMPARED)} if count else set()


def start_digest(path: Path) -> str:
    """Eight hex digits of the first `BYTES_COMPARED` bytes of a file: shards with other content often have one size."""
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(BYTES_COMPARED), digest_size=4).hexdigest()


def record_digests(data: Any) -> list[tuple[str, int, str]]:
    """Name, number of samples and digest of each table or sequence that records come from."""
    parts = getattr(data, "parts", None)
    if isinstance(parts, list):
        return [digest for part in parts for digest in record_digests(part)]
    if isinstance(data, CaptionTable) and data.path is not None:
        with data.path.open("rb") as file:
            return [(data.path.name, len(data), hashlib.file_digest(file, "blake2b").hexdigest()[:8])]
    hashed = hashlib.blake2b(digest_size=4)
    for index in sorted(spread_indices(len(data))):
        key, _, record = data[index]
        hashed.update(f"{key!r} {record!r}\n".encode(errors="surrogatepass"))
    return [("in memory", len(data), hashed.hexdigest())]


def state_facts(run: Run, position: Any) -> dict[str, str]:
    """The run's length and position, and digests of its state."""
    objective_state = {} if run.objective is None else run.objective.state_dict()
    facts = {
        "the length of the run": f"{plural(run.steps, 'step')}",
        "the first step": f"{run.step + 1:,}",
        "the position in the data": digest_of(position),
        "the objective's parameters and buffers": digest_of(objective_state),
    }
    if is_sharded(run.student):
        # Each rank has its own part, of initial weights that were compared or of rank 0's file. What is whole is not
        # sent by rank 0.
        states = (run.student.state_dict(), run.teacher.state_dict(), run.optimizer.state_dict()["state"])
        return {**facts, "the temperatures and their moments": digest_of([whole_entries(state) for state in states])}
    return {
        **facts,
        "the student's weights": digest_of(run.student.state_dict()),
        "the teacher's weights": digest_of(run.teacher.state_dict()),
        "the optimizer's state": digest_of(run.optimizer.state_dict()["state"]),
    }


def whole_entries(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """The entries of nested state dicts without tensors that are split over the ranks."""
    return {
        key: whole_entries(value) if isinstance(value, Mapping) else value
        for key, value in state.items()
        if not isinstance(value, DTensor)
    }


def digest_of(value: Any) -> str:
    """Eight hex digits of nested values and tensors, which change with every bit."""
    hashed = hashlib.blake2b(digest_size=4)

    def add(item: Any) -> None:
        if isinstance(item, Mapping):
            for key in sorted(item, key=str):
                hashed.update(f"{key}:".encode())
                add(item[key])
        elif isinstance(item, list | tuple):
            for element in item:
                add(element)
        elif isinstance(item, Tensor):
            flat_bytes = item.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            hashed.update(f"{item.dtype} {tuple(item.shape)}".encode() + flat_bytes.numpy().tobytes())
        else:
            hashed.update(f"{item!r};".encode())

    add(value)
    return hashed.hexdigest()


def shorten(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:40]}... (digest {digest_of(text)})"
