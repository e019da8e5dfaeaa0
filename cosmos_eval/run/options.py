"""The options of a run: one object from the command line, or `evaluate`, to the engine."""

from dataclasses import dataclass, fields
from numbers import Integral
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.cache.store import LIMIT
from cosmos_eval.datasets.decoders import PIL, check_decoder
from cosmos_eval.datasets.resized import read_resized
from cosmos_eval.engine.batch_size import check_batch_size


@dataclass(frozen=True, kw_only=True)
class EncodingOptions:
    """How inputs are encoded: what the engine is made with."""

    batch_size: int | str = 64
    """Images in one forward pass; "auto" finds it on CUDA."""
    workers: int = 0
    """Processes that decode images; 0 decodes in this one."""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16; auto is fp32 on CPU and bf16 on CUDA."""
    compiled: bool = False
    """Whether torch.compile makes the image tower; part of the result's precision."""
    decoder: str = PIL
    """Of JPEG files: pil, or torchvision or draft, which are part of the result's precision."""
    resized: Path | None = None
    """A folder that `cosmos-eval data prepare resized` made; the numbers are those without it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_size", check_batch_size(self.batch_size))  # "32" of a command line is 32
        check_decoder(self.decoder)
        if self.resized is not None:
            read_resized(self.resized)  # another folder is refused before any compute
        require_whole("workers", self.workers, 0, 4096)

    def of_engine(self) -> dict[str, Any]:
        """These options alone, as keyword arguments of `Engine`."""
        return {field.name: getattr(self, field.name) for field in fields(EncodingOptions)}


@dataclass(frozen=True, kw_only=True)
class RunOptions(EncodingOptions):
    """What a run is asked for, beside models, benchmarks and the folder of results.

    Raises:
        RequestError: a value that cannot be; names the option.
    """

    device: str = "auto"
    limit: int | None = None
    """Measure on this many images only; such results are marked and never ranked."""
    seed: int = 0
    """Of the resampling behind the intervals."""
    overwrite: bool = False
    """Whether finished benchmarks are measured again."""
    cache: Path | None = None
    """The folder that keeps features for later runs; None keeps none."""
    cache_limit: int = LIMIT
    """Bytes that all of them may take."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit is not None:
            require_whole("limit", self.limit, 1, 10**12)
        require_whole("seed", self.seed, 0, 2**63 - 1)

    @classmethod
    def of(cls, **options: Any) -> "RunOptions":
        """From keyword arguments of a caller; RequestError names the first that is no option."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise RequestError(f"there is no option {name!r}{near(name, known)}")
        return cls(**options)


def require_whole(name: str, value: Any, least: int, most: int) -> None:
    """RequestError where an option is not a whole number from `least` to `most`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise RequestError(f"{name} must be a whole number, got {short_repr(value)}")
    value = int(value)
    if value < least:
        raise RequestError(f"{name} must be at least {least}, got {short_repr(value)}")
    if value > most:
        raise RequestError(f"{name} must be at most {most:,}, got {short_repr(value)}")
