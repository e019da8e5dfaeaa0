"""Ranks agree before the first step: on settings, packages and code, then on data and on the state they begin with.

What may differ is left out: devices, threads, workers, the folders that data and run lie in, and what the first rank
alone evaluates.
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

from cosmos_core.config import TrainConfig
from cosmos_core.data import Loader
from cosmos_core.data.shards import is_local
from cosmos_core.data.sources import Records, Source
from cosmos_core.data.tables import Table
from cosmos_core.errors import RequestError
from cosmos_core.objective_state import plugin_facts
from cosmos_core.run_state import flat, plain, unplaced
from cosmos_core.step import Run
from cosmos_core.world import World

OF_A_MACHINE = ("device", "threads", "workers", "eval_data_root")
OF_THE_FIRST_RANK = ("eval_suite", "eval_networks", "eval_limit")
"""What is evaluated, by the first rank alone. When (`eval_every`) all must know: they wait for it."""
MAY_DIFFER = (*OF_A_MACHINE, *OF_THE_FIRST_RANK)
"""Settings that change no sample, no formula and no order of collectives."""
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "open_clip_torch", "webdataset", "safetensors")
MOST_NAMED = 3
MOST_LOOKED_AT = 16
"""Records of a sequence in memory, or shards of a list, whose content is compared; it may have to be rendered or
fetched."""
BYTES_LOOKED_AT = 2**20
"""Of a shard."""


def agree_on_settings(config: TrainConfig, world: World) -> None:
    """RequestError on all ranks where one has other settings, packages or code. A collective."""
    if world.size > 1:
        compare({**settings(config), **versions(), **plugin_facts(config.objective)}, world)


def agree_on_start(run: Run, loader: Loader, position: Any) -> None:
    """RequestError on all ranks where one has other data or begins with another state. A collective."""
    if run.world.size > 1:
        compare({**data_facts(loader), **state_facts(run, position)}, run.world)


def compare(facts: Mapping[str, str], world: World) -> None:
    """RequestError that names what differs, and on which rank, where any fact does; every rank must call it."""
    of_ranks = world.gather(dict(facts))
    names = dict.fromkeys(name for one in of_ranks for name in one)
    differing = [line for name in names if (line := difference(name, [one.get(name) for one in of_ranks]))]
    if differing:
        more = f" and {len(differing) - MOST_NAMED} more" if len(differing) > MOST_NAMED else ""
        error = RequestError(
            f"ranks do not agree: {'; '.join(differing[:MOST_NAMED])}{more}; start all ranks with the same command, "
            "data and packages"
        )
        error.quiet = not world.is_main
        raise error


def difference(name: str, values: Sequence[str | None]) -> str:
    """How a fact differs between ranks, empty where it does not: the first that is not rank 0's is named."""
    others = [rank for rank, value in enumerate(values) if value != values[0]]
    if not others:
        return ""
    first = others[0]
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    there, here = (value if value is not None else "absent" for value in (values[0], values[first]))
    return f"{name} is {there} on rank 0 and {here} on rank {first}{more}"


def settings(config: TrainConfig) -> dict[str, str]:
    """The settings that all ranks must share, by their dotted names."""
    values = flat(plain(config.to_dict()))
    values = {key: value for key, value in values.items() if key.split(".")[0] not in MAY_DIFFER}
    values["data"] = "::".join(unplaced(values["data"]))
    values["out"] = "set" if values["out"] else "not set"
    return {key: short(value) for key, value in values.items()}


def versions() -> dict[str, str]:
    """Python, packages and our own code."""
    found = {f"package {name}": version_of(name) for name in PACKAGES}
    return {"Python": platform.python_version(), **found, "the code of cosmos_core": code_digest()}


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


@cache
def code_digest() -> str:
    """Eight digits of what all our source files hold: an edited file has no version number."""
    folder = Path(__file__).parent
    hashed = hashlib.blake2b(digest_size=4)
    for path in sorted(folder.rglob("*.py")):
        hashed.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return hashed.hexdigest()


def data_facts(loader: Loader) -> dict[str, str]:
    """What is known of the data without reading it all: names, sizes, numbers of samples."""
    facts = {"samples in an epoch": f"{loader.samples_per_epoch:,}"}
    plan = getattr(loader, "plan", None)
    if plan is None:
        return facts
    facts["plan of the data"] = f"{plan.fingerprint():016x}"[:8]
    for source in plan.sources:
        facts.update(source_facts(source))
    return facts


def source_facts(source: Source) -> dict[str, str]:
    if isinstance(source, Records):
        return {
            f"training data {name}": f"{count:,} samples, digest {digest}"
            for name, count, digest in record_digests(source.data)
        }
    facts, looked_at = {}, places(len(source.urls))
    for place, (name, url) in enumerate(zip(source.names, source.urls, strict=True)):
        facts[f"shard {name}"] = f"{Path(url).stat().st_size:,} bytes" if is_local(url) else "remote"
        if place in looked_at and is_local(url) and Path(url).is_file():
            facts[f"shard {name}"] += f", digest {start_digest(Path(url))}"
    return facts


def places(count: int) -> set[int]:
    """At most MOST_LOOKED_AT places of a sequence, spread over it."""
    return {count * n // MOST_LOOKED_AT for n in range(MOST_LOOKED_AT)} if count else set()


def start_digest(path: Path) -> str:
    """Eight digits of what the first BYTES_LOOKED_AT of a file hold: shards of other content often have one size."""
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(BYTES_LOOKED_AT), digest_size=4).hexdigest()


def record_digests(data: Any) -> list[tuple[str, int, str]]:
    """Name, number of samples and digest of each table or sequence that records come from."""
    parts = getattr(data, "parts", None)
    if isinstance(parts, list):
        return [one for part in parts for one in record_digests(part)]
    if isinstance(data, Table) and data.path is not None:
        with data.path.open("rb") as file:
            return [(data.path.name, len(data), hashlib.file_digest(file, "blake2b").hexdigest()[:8])]
    hashed = hashlib.blake2b(digest_size=4)
    for place in sorted(places(len(data))):
        key, _, record = data[place]
        hashed.update(f"{key!r} {record!r}\n".encode(errors="surrogatepass"))
    return [("in memory", len(data), hashed.hexdigest())]


def state_facts(run: Run, position: Any) -> dict[str, str]:
    """Where the run stands, and the digests of what it stands with."""
    own = {} if run.objective is None else run.objective.state_dict()
    return {
        "the length of the run": f"{run.steps:,} steps",
        "the first step": f"{run.step + 1:,}",
        "the position in the data": digest_of(position),
        "the student's weights": digest_of(run.student.state_dict()),
        "the teacher's weights": digest_of(run.teacher.state_dict()),
        "the objective's parameters and buffers": digest_of(own),
        "the optimizer's state": digest_of(run.optimizer.state_dict()["state"]),
    }


def digest_of(value: Any) -> str:
    """Eight digits that tell nested values and tensors apart, to the bit."""
    hashed = hashlib.blake2b(digest_size=4)

    def add(item: Any) -> None:
        if isinstance(item, Mapping):
            for key in sorted(item, key=str):
                hashed.update(f"{key}:".encode())
                add(item[key])
        elif isinstance(item, list | tuple):
            for one in item:
                add(one)
        elif isinstance(item, Tensor):
            flat_bytes = item.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            hashed.update(f"{item.dtype} {tuple(item.shape)}".encode() + flat_bytes.numpy().tobytes())
        else:
            hashed.update(f"{item!r};".encode())

    add(value)
    return hashed.hexdigest()


def short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:40]}... (digest {digest_of(text)})"
