"""A small internet on 127.0.0.1: tiny datasets in their publishers' archives, and the table that names them."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cosmos_eval.datasets.fetch.plan import FetchPlan, make_fetch_plan
from cosmos_eval.datasets.fetch.table import Table, load_table
from cosmos_eval.datasets.fetch.transfer import Network
from cosmos_eval.datasets.perception.sugarcrepe import SUBSETS
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.file_server import FileServer, serving
from tests.helpers.hub_server import COMMIT, HubServer, serving_hub

FAST = Network(timeout=60.0, retries=1, backoff=0.0)
"""Patient with a busy machine, and not with a server that fails."""
HUB = "somebody/wds_tiny"
COCO = (139, 285, 632)


def image_bytes(seed: int, kind: str = "jpeg", size: tuple[int, int] = (48, 40)) -> bytes:
    """A file of coarse noise, (width, height)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR).save(stream, kind)
    return stream.getvalue()


def label_bytes(labels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(labels.astype(np.uint8)).save(stream, "png")
    return stream.getvalue()


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def tar_bytes(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def published_files() -> dict[str, bytes]:
    """Path on the server -> archive or file, as publishers have them."""
    images = {f"val2017/{name:012d}.jpg": image_bytes(i) for i, name in enumerate(COCO)}
    side_files = {"__MACOSX/val2017/._000000000139.jpg": b"\0\5\x16\7", "val2017/._000000000139.jpg": b"\0\5\x16\7"}
    maps = {f"val2017/{name:012d}.png": label_bytes(np.tile([0, 79, 91, 181, 255], (40, 10))[:, :48]) for name in COCO}
    captions = {
        "images": [{"id": name, "file_name": f"{name:012d}.jpg"} for name in COCO],
        "annotations": [{"id": i, "image_id": name, "caption": f"caption {i}"} for i, name in enumerate(COCO * 2)],
    }
    items = {
        str(j): {"filename": f"{COCO[j]:012d}.jpg", "caption": f"right {j}", "negative_caption": f"wrong {j}"}
        for j in range(2)
    }
    sst2 = {
        f"rendered-sst2/test/{name}/{i}.png": image_bytes(i, "png") for name in ("negative", "positive") for i in (1, 2)
    }
    return {
        "zips/val2017.zip": zip_bytes(images | side_files),
        "zips/annotations.zip": zip_bytes(
            {
                "annotations/captions_val2017.json": json.dumps(captions).encode(),
                "annotations/instances_val2017.json": b"{}" * 1000,
            }
        ),
        "zips/stuffthingmaps.zip": zip_bytes({**maps, "train2017/000000000009.png": maps["val2017/000000000139.png"]}),
        "sst2.tgz": tar_bytes(sst2, "w:gz"),
        **{f"sugar/{subset}.json": json.dumps(items).encode() for subset in SUBSETS},
    }


def hub_files() -> dict[str, bytes]:
    """A dataset of clip-benchmark's: two shards of the test split, and others that no benchmark reads."""
    shards = {
        f"test/{shard}.tar": tar_bytes(
            {
                name: content
                for i in range(2)
                for name, content in (
                    (f"s{shard}{i}.jpg", image_bytes(10 * shard + i)),
                    (f"s{shard}{i}.cls", str(i).encode()),
                )
            }
        )
        for shard in range(2)
    }
    return {
        **shards,
        "test/nshards.txt": b"2",
        "train/0.tar": b"x" * 5000,
        "classnames.txt": b"cat\ndog\n",
        "zeroshot_classification_templates.txt": b"a photo of a {c}.\n",
        "README.md": b"tiny",
    }


def checksums_of(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "checksums": {"sha256": hashlib.sha256(content).hexdigest()}}


def write_table(path: Path, address: str, files: Mapping[str, bytes]) -> Table:
    """The table of these sources: mirrors, a shared archive, a part of an archive, single files, a hub dataset."""

    def source(at: str, name: str = "publisher", **more: Any) -> dict[str, Any]:
        known = checksums_of(files[at]) if at in files else {}
        return {"name": name, "kind": "http", "address": f"{address}/{at}", **known, **more}

    wds = "wds/wds_tiny"
    artifacts: dict[str, Any] = {
        "wds-tiny": {
            "path": wds,
            "provides": [f"{wds}/test/nshards.txt", f"{wds}/classnames.txt"],
            "sources": [
                {
                    "name": "clip-benchmark",
                    "kind": "hub",
                    "address": HUB,
                    "files": ["test/*", "classnames.txt", "zeroshot_classification_templates.txt"],
                    "revision": COMMIT[:9],
                }
            ],
        },
        "val2017": {
            "provides": ["coco/images/val2017"],
            "unpack": {"format": "zip", "into": "coco/images"},
            "sources": [source("zips/val2017.zip"), source("mirror/val2017.zip", "mirror")],
        },
        "captions": {
            "provides": ["coco/annotations/captions_val2017.json"],
            "unpack": {"format": "zip", "into": "coco", "only": ["annotations/captions_val2017.json"]},
            "sources": [source("zips/annotations.zip")],
        },
        "maps": {
            "provides": ["coco_stuff164k/annotations/val2017"],
            "unpack": {"format": "zip", "into": "coco_stuff164k/annotations", "only": ["val2017/*"]},
            "sources": [{"name": "publisher", "kind": "http", "address": f"{address}/zips/stuffthingmaps.zip"}],
        },
        "sst2": {
            "provides": ["renderedsst2/rendered-sst2/test/negative", "renderedsst2/rendered-sst2/test/positive"],
            "unpack": {"format": "tar", "into": "renderedsst2"},
            "sources": [source("sst2.tgz")],
        },
    }
    for subset in SUBSETS:
        artifacts[f"sugar-{subset}"] = {
            "path": f"sugarcrepe/{subset}.json",
            "provides": [f"sugarcrepe/{subset}.json"],
            "sources": [source(f"sugar/{subset}.json")],
        }
    recipes = [
        {"benchmarks": ["tiny-wds"], "artifacts": ["wds-tiny"]},
        {"benchmarks": ["tiny-sst2"], "artifacts": ["sst2"]},
        {"benchmarks": ["tiny-coco"], "artifacts": ["val2017", "captions"]},
        {"benchmarks": ["tiny-sugar"], "artifacts": ["val2017", *(f"sugar-{subset}" for subset in SUBSETS)]},
        {"benchmarks": ["tiny-stuff"], "artifacts": ["val2017", "maps"], "prepare": ["coco-stuff"]},
    ]
    for artifact in artifacts.values():
        artifact.setdefault("terms", "free")
    path.write_text(yaml.safe_dump({"artifacts": artifacts, "recipes": recipes, "not_used": []}), encoding="utf-8")
    return load_table(path)


DEFINITIONS: dict[str, dict[str, Any]] = {
    "tiny-wds": {
        "base": "cifar100-vtab",
        "dataset": {"path": "wds/wds_tiny", "expected": {"images": 4, "classes": 2}},
    },
    "tiny-sst2": {"base": "renderedsst2", "dataset": {"expected": {"images": 4, "classes": 2}}},
    "tiny-coco": {"base": "coco-val2017-retrieval", "dataset": {"expected": {"images": 3, "texts": 6}}},
    "tiny-sugar": {"base": "sugarcrepe", "dataset": {"expected": {"images": 2, "items": 14}}},
    "tiny-stuff": {
        "base": "coco-stuff164k",
        "dataset": {"expected": {"images": 3, "classes": 171}},
        "segmentation": {"short_side": 112, "crop": 112, "stride": 56},
        "prompts": {"templates": ["a photo of a {c}."]},
    },
}


@dataclass
class Internet:
    """The servers, the table, and definitions of benchmarks that read what is fetched."""

    server: FileServer
    hub: HubServer
    table: Table
    folder: Path
    """Of the definitions."""

    def definition(self, name: str) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, **DEFINITIONS[name]}), encoding="utf-8")
        return path

    def plan(self, data_root: Path, *names: str, table: Table | None = None, **options: Any) -> FetchPlan:
        benchmarks = [load_benchmark(self.definition(name)) for name in names]
        return make_fetch_plan(benchmarks, data_root, table=table or self.table, **options)

    def url(self, path: str) -> str:
        return self.server.url(path)


@contextmanager
def small_internet(folder: Path) -> Iterator[Internet]:
    """The servers while the block runs, asked through the environment and a small table in place of the shipped one."""
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, serving(published_files()) as server, serving_hub(hub_files()) as hub:
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_TOKEN_PATH", "/nonexistent")
        patch.setenv("HF_ENDPOINT", hub.server.address)
        table = write_table(folder / "sources.yaml", server.address, server.files)
        patch.setattr("cosmos_eval.datasets.fetch.plan.load_table", lambda: table)
        yield Internet(server, hub, table, folder)


def contents(root: Path) -> dict[str, bytes]:
    """Path -> content of all files that readers may see."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    relative = {path.relative_to(root).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in relative.items() if not name.startswith(".cosmos-eval/")}
