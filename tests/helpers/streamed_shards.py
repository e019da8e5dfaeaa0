"""A small dataset in shards on a hub and on disk, and evaluations of it."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from torch import Tensor

from cosmos_eval import evaluate
from cosmos_eval.datasets.fetch.transfer import Network
from cosmos_eval.progress import Silent
from cosmos_eval.results.record import Result
from tests.helpers.fetch_sources import image_bytes, tar_bytes
from tests.helpers.hub_server import COMMIT, HubServer, serving_hub
from tests.helpers.tiny_models import Colours

SHARDS = 5
IN_SHARD = 7
NAMES = ("cat", "dog", "fox")
KINDS = ("classification", "multilabel", "retrieval")
SMALL = {"classnames.txt": "\n".join(NAMES).encode(), "zeroshot_classification_templates.txt": b"a photo of a {c}.\n"}


class Batchwise(Colours):
    """Features hang a little on what else is in the batch: other batches would give other bits."""

    digest = "ba7c4" * 12
    spec = "python:tests.helpers.streamed_shards:Batchwise"
    encoded = 0

    def encode_image(self, x: Tensor) -> Tensor:
        type(self).encoded += len(x)
        return super().encode_image(x) + 1e-5 * x.mean()


class Other(Batchwise):
    digest = "07e43" * 12


def npy(row: list[int]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(row))
    return stream.getvalue()


def label(kind: str, number: int) -> tuple[str, bytes]:
    """Suffix and content of the label of an image."""
    if kind == "classification":
        return "cls", str(number % 3).encode()
    if kind == "multilabel":
        return "npy", npy([int(number % 3 == 0), int(number % 2), (1, -1, 0, 0, 0)[number % 5]])
    return "txt", f"caption {number}\nanother of {number}".encode()


def turned_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.open(io.BytesIO(image_bytes(99))).save(stream, "jpeg", exif=exif)
    return stream.getvalue()


def dataset_files(kind: str) -> dict[str, bytes]:
    """Five shards of seven images: one is there twice, in two shards, and one has an EXIF orientation."""
    shards = {}
    for shard in range(SHARDS):
        members = {}
        for i in range(IN_SHARD):
            number = shard * IN_SHARD + i
            content = image_bytes(3 if number == 20 else number)
            suffix, text = label(kind, number)
            members[f"s{number}.jpg"] = turned_jpeg() if number == 9 else content
            members[f"s{number}.{suffix}"] = text
        shards[f"test/{shard}.tar"] = tar_bytes(members)
    return {**shards, "test/nshards.txt": str(SHARDS).encode(), **({} if kind == "retrieval" else SMALL)}


PRIMARY = {"classification": "top1", "multilabel": "mean_average_precision", "retrieval": "text_to_image_recall@1"}


def define(folder: Path, kind: str, path: Any, **dataset: Any) -> Path:
    """A definition of the user's own; those of all folders are the same protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    value: dict[str, Any] = {"name": f"tiny-{kind}", "version": 1, "task": kind, "source": "made by a test"}
    value["dataset"] = {"reader": "wds", "path": path, "expected": {"images": SHARDS * IN_SHARD}, **dataset}
    value["metrics"] = {"primary": PRIMARY[kind]}
    if kind != "retrieval":
        value["prompts"] = {"class_names": "dataset", "templates": "dataset"}
    definition = folder / f"tiny-{kind}.yaml"
    definition.write_text(yaml.safe_dump(value), encoding="utf-8")
    return definition


@dataclass
class World:
    """One dataset on a hub, and on disk."""

    kind: str
    hub: HubServer
    folder: Path

    @property
    def address(self) -> str:
        return f"hf://datasets/{self.hub.repository}@{COMMIT}"

    def streamed(self, path: Any = None, **dataset: Any) -> Path:
        return define(self.folder / "streamed", self.kind, path or self.address, **dataset)

    def on_disk(self, **dataset: Any) -> Path:
        for path, content in self.hub.files.items():
            file = self.folder / "disk/wds_tiny" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return define(self.folder / "disk", self.kind, "wds_tiny", **dataset)

    def downloads(self) -> list[str]:
        """Shards that were asked for, sorted: two come at the same time."""
        paths = [one.path for one in self.hub.server.requests if one.path.startswith("content/test/")]
        return sorted(path.removeprefix("content/test/") for path in paths if path.endswith(".tar"))

    def forget(self) -> None:
        """Forget the requests so far."""
        self.hub.server.requests.clear()


@contextmanager
def world(folder: Path, kind: str) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, serving_hub(dataset_files(kind)) as hub:
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_TOKEN_PATH", "/nonexistent")
        patch.setenv("HF_ENDPOINT", hub.server.address)
        patch.setattr("cosmos_eval.run.streaming.Network", lambda: Network(timeout=60, retries=1, backoff=0.0))
        Batchwise.encoded = Other.encoded = 0
        yield World(kind, hub, folder)


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def run(definition: Path, out: Path, model: Any = None, **options: Any) -> Result:
    (result,) = evaluate(model or Batchwise(), definition, out=out, batch_size=4, **options)
    return result


def samples(out: Path) -> pd.DataFrame:
    return pd.read_parquet(next(out.rglob("samples.parquet")))


def features(out: Path) -> dict[str, bytes]:
    """Image key -> stored features."""
    from safetensors.numpy import load_file

    rows = {}
    for path in (out / ".embeddings").rglob("pictures-*"):
        arrays = load_file(path)
        rows.update(
            {key.tobytes().hex(): row.tobytes() for key, row in zip(arrays["keys"], arrays["rows"], strict=True)}
        )
    return rows


def require_equal(disk: Result, streamed: Result, folder: Path) -> None:
    """Everything that is measured and identified is the same, to the bit."""
    assert streamed.metrics == disk.metrics
    assert streamed.identity == disk.identity
    assert streamed.dataset == disk.dataset
    assert streamed.warnings == disk.warnings
    assert streamed.timing.encoded == disk.timing.encoded
    pd.testing.assert_frame_equal(samples(folder / "a"), samples(folder / "b"))
    assert features(folder / "a") == features(folder / "b")
