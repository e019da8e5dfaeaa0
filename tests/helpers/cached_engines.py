"""Small engines with a feature cache, and what is in their folders."""

from pathlib import Path

from cosmos_eval.cache import feature_cache
from cosmos_eval.cache.feature_cache import FeatureCache
from cosmos_eval.cache.shard import FILE_PREFIX, read_keys
from cosmos_eval.engine import Engine
from tests.helpers.stand_ins import RandomModel

TEXTS = [f"text {i}" for i in range(20)]


class Notes:
    """A reporter that keeps notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, description, total, unit="it"):
        return feature_cache.Silent().task(description, total, unit)

    def note(self, line):
        self.lines.append(line)


def build_engine(folder: Path, model=None, batch_size: int = 4, limit: int = feature_cache.LIMIT, **options) -> Engine:
    """An engine with a cache in `folder`."""
    return Engine(model or RandomModel(), batch_size=batch_size, cache=FeatureCache(folder, limit), **options)


def list_shards(folder: Path, kind: str = "images") -> list[Path]:
    return sorted(folder.glob(f"*/{FILE_PREFIX[kind]}-*.safetensors"))


def count_encoded(model: RandomModel) -> int:
    """The number of images and texts that passed a model."""
    return sum(map(len, model.image_batches)) + sum(map(len, model.text_batches))


def first_key(path: Path) -> bytes:
    """The key of the first item in a shard."""
    return read_keys(path, path.parent.name)[0].tobytes()


def other_model(**changes) -> RandomModel:
    """A model with other weights, and with changed attributes."""
    model = RandomModel(seed=1)
    for name, value in changes.items():
        setattr(model, name, value)
    return model
