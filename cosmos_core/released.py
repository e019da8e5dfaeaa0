"""The ten checkpoints that the authors released, and downloading one by its name."""

from dataclasses import dataclass
from pathlib import Path

from cosmos_core.errors import RequestError

HUB_REPOSITORY = "sankim2/cosmos"


@dataclass(frozen=True)
class Released:
    """One released checkpoint: its name here, its preset, what it was trained on, and its file in HUB_REPOSITORY."""

    name: str
    arch: str
    data: str
    file: str


DATA = {
    "cc3m": "CC3M-recap",
    "cc12m": "CC12M-recap",
    "yfcc15m": "YFCC15M-recap",
    "merged30m": "Merged30M",
    "pixelprose": "PixelProse",
}
RELEASED: dict[str, Released] = {
    f"{tower}-{data}": Released(f"{tower}-{data}", arch, title, f"cosmos_{tower}_{data}.pt")
    for tower, arch in (("vitb16", "ViT-B-16"), ("vitb32", "ViT-B-32"))
    for data, title in DATA.items()
}


def cached(name: str) -> Path | None:
    """The local file of a released checkpoint if the hub's cache has it; does not use the network."""
    from huggingface_hub import try_to_load_from_cache

    cached_file = try_to_load_from_cache(HUB_REPOSITORY, RELEASED[name].file)
    return Path(cached_file) if isinstance(cached_file, str) else None


def fetch(name: str) -> Path:
    """The local file of a released checkpoint, downloaded to the hub's cache if it is not there.

    Raises:
        RequestError: no such name; or neither the cache nor the network has it.
    """
    if name not in RELEASED:
        raise RequestError(f"no released checkpoint {name!r}; there are {', '.join(RELEASED)}")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    file = RELEASED[name].file
    try:
        try:
            return Path(hf_hub_download(HUB_REPOSITORY, file, local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(hf_hub_download(HUB_REPOSITORY, file))
    except Exception as error:  # offline, refused, no such file: the hub's and its transport's own, version by version
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RequestError(
            f"{name} is not in the local cache and could not be fetched ({file} of {HUB_REPOSITORY}: {reason}); "
            "connect to the network, or give the path of a copy"
        ) from error
