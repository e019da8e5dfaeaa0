"""The options of a run: one object from the command line or `evaluate` to the engine."""

from dataclasses import dataclass, fields
from numbers import Integral
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.cache.feature_cache import LIMIT
from cosmos_eval.datasets.decoders import PIL, check_decoder
from cosmos_eval.datasets.resized import read_resized
from cosmos_eval.engine.batch_size import check_batch_size
from cosmos_eval.engine.worker_count import AUTO
from cosmos_eval.protocol.feature_transforms import FeatureTransforms


@dataclass(frozen=True, kw_only=True)
class EncodingOptions:
    """How images and texts are encoded: the options of `Engine`.

    Raises:
        RequestError: a bad value; names the option.
    """

    batch_size: int | str = 64
    """Images in one forward pass; "auto" finds the largest on CUDA."""
    workers: int | str = AUTO
    """Processes that decode images; 0 decodes in the main process, "auto" chooses a number."""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16; auto is fp32 on CPU and bf16 on CUDA."""
    compiled: bool = False
    """Whether the image tower is compiled with torch.compile; recorded in the result's precision."""
    decoder: str = PIL
    """Decoder of JPEG files: pil, torchvision or draft; the last two are recorded in the result's precision."""
    resized: Path | None = None
    """A folder of resized images, made by `cosmos-eval data prepare resized`; metrics are the same as without it."""

    def __post_init__(self) -> None:
        # The dataclass is frozen. "32" from a command line becomes 32.
        object.__setattr__(self, "batch_size", check_batch_size(self.batch_size))
        check_decoder(self.decoder)
        if self.resized is not None:
            read_resized(self.resized)  # raises for any other folder, before anything is computed
        if self.workers != AUTO:
            require_whole_number("workers", self.workers, 0, 4096, " or auto")

    def engine_arguments(self) -> dict[str, Any]:
        """The keyword arguments for `Engine`, without the further options of a subclass."""
        return {field.name: getattr(self, field.name) for field in fields(EncodingOptions)}


@dataclass(frozen=True, kw_only=True)
class RunOptions(EncodingOptions):
    """All options of a run; models, benchmarks and the folder for results are given separately.

    Raises:
        RequestError: a bad value; names the option.
    """

    device: str = "auto"
    limit: int | None = None
    """Evaluate on this many images only; such results are marked and never ranked."""
    truncate_dim: int | None = None
    """Keep this number of dimensions of each embedding; None keeps all."""
    center: bool = False
    """Whether the mean embedding of each modality is subtracted."""
    quantize: str | None = None
    """int8 or binary codes in place of the embeddings; None: neither."""
    dual_softmax: float | None = None
    """Retrieval: multiply scores with the softmax over queries of this number times the scores; None: do not."""
    seed: int = 0
    """Seed of the bootstrap resampling behind the intervals."""
    overwrite: bool = False
    """Whether finished benchmarks are evaluated again."""
    cache: Path | None = None
    """The folder of the feature cache; None keeps none."""
    cache_limit: int = LIMIT
    """Size of the feature cache in bytes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit is not None:
            require_whole_number("limit", self.limit, 1, 10**12)
        _ = self.transforms  # raises for a bad value
        require_whole_number("seed", self.seed, 0, 2**63 - 1)

    @property
    def transforms(self) -> FeatureTransforms:
        """What is done to embeddings after the fact."""
        return FeatureTransforms(**{field.name: getattr(self, field.name) for field in fields(FeatureTransforms)})

    @classmethod
    def from_keywords(cls, **options: Any) -> "RunOptions":
        """Make the options from a caller's keyword arguments; RequestError names the first unknown one."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise RequestError(f"unknown option {name!r}{near(name, known)}")
        return cls(**options)


def require_whole_number(name: str, value: Any, least: int, most: int, other: str = "") -> None:
    """RequestError where the value of an option is not a whole number between `least` and `most`.

    Args:
        other: what else the option may be, for the message.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise RequestError(f"{name} must be a whole number{other}, got {short_repr(value)}")
    value = int(value)
    if value < least:
        raise RequestError(f"{name} must be at least {least}, got {short_repr(value)}")
    if value > most:
        raise RequestError(f"{name} must be at most {most:,}, got {short_repr(value)}")
