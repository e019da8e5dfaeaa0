"""Runs of the command on several ranks, as torchrun makes them, forked from a process that has the imports."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cosmos_eval.cache import feature_cache
from cosmos_eval.cache.cached_features import feature_key
from cosmos_eval.datasets import image_sources
from cosmos_eval.datasets.toybox.words import COLOURS
from cosmos_eval.engine import rank_group
from tests.helpers.fork_server import SERVER
from tests.helpers.killing import fork_workers
from tests.helpers.patch_models import Scale
from tests.helpers.processes import free_port
from tests.helpers.tiny_models import Colours

HERE = "python:tests.helpers.rank_runs:"
DATA = {"reader": "toybox", "split": "test", "seed": 0}
FAMILIES: dict[str, dict[str, Any]] = {
    # 17 images and 34 texts, 48 images and 48 texts, 9 images, 37 images: no multiple of the batches of ranks
    "retrieval": {"dataset": {**DATA, "scenes": 17}, "metrics": {"primary": "text_to_image_recall@1", "k": [1, 5]}},
    "classification": {
        "dataset": {**DATA, "per_class": 1},
        "metrics": {"primary": "top1"},
        "prompts": {"class_names": "dataset", "templates": ["{c}"]},
    },
    "perception": {"dataset": {**DATA, "scenes": 9, "seed": 1}, "metrics": {"primary": "macro_accuracy"}},
    "segmentation": {
        "dataset": {**DATA, "scenes": 37},
        "metrics": {"primary": "miou"},
        "prompts": {"templates": ["{c}"], "words": [["background"], *([name] for name in COLOURS)]},
        "segmentation": {"attention": "vanilla", "short_side": None, "crop": 32, "stride": 16, "background": True},
    },
}


def world(root: Path) -> list[str]:
    """A small benchmark of each family, rendered; arguments that name them."""
    arguments = []
    for task, fields in FAMILIES.items():
        path = root / f"tiny-{task}.yaml"
        content = {"name": path.stem, "version": 1, "task": task, "source": "made by a test", **fields}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        arguments += ["--benchmark", str(path)]
    return arguments


class Batchwise(Colours):
    """Rows that hang a little on what else is in the batch; writes down what passed it, by rank."""

    digest = "ba7c" * 16

    def __init__(self) -> None:
        self.preprocess = Pixels()  # type: ignore[method-assign]
        self.of_patch = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def encode_image(self, x: Tensor) -> Tensor:
        log(*(feature_key(b"pixels", one.numpy().tobytes()) for one in x))
        return super().encode_image(x) + 1e-5 * x.mean()

    def encode_text(self, texts: Any) -> Tensor:
        log(*(feature_key(b"text", text.encode()) for text in texts))
        rows = super().encode_text(texts)
        return rows + 1e-5 * rows.mean()

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        log("windows")
        return F.conv2d(x, self.of_patch, stride=8).permute(0, 2, 3, 1) + 1e-3 * x.mean()


class Pixels(Scale):
    """Small images for the whole-image tower."""

    def __call__(self, image: Image.Image) -> Tensor:
        return super().__call__(Image.fromarray(np.asarray(image.convert("RGB").resize((8, 8)))))


class Other(Batchwise):
    digest = "07e4" * 16


class Third(Batchwise):
    digest = "3d3d" * 16


class Dying(Batchwise):
    """Killed once on rank COSMOS_TEST_DIES, at its third batch of images."""

    batches = 0

    def encode_image(self, x: Tensor) -> Tensor:
        self.batches += 1
        if os.environ.get("RANK") == os.environ.get("COSMOS_TEST_DIES") and self.batches == 3:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return super().encode_image(x)


class OtherWeights(Batchwise):
    """Has other weights on rank 1."""

    @property
    def digest(self) -> str:  # type: ignore[override]
        return f"e15e{os.environ.get('RANK', '0')}" * 12


class Slow(Batchwise):
    """Waits at every batch of images, until a signal comes."""

    digest = "510e" * 16

    def encode_image(self, x: Tensor) -> Tensor:
        found = super().encode_image(x)
        time.sleep(120)
        return found


def log(*keys: str) -> None:
    """One append a batch, beside what this rank says."""
    with Path(f"{os.environ['COSMOS_TEST_LOG']}.keys").open("a") as stream:
        stream.write("".join(key + "\n" for key in keys))


def start(arguments: list[str], ranks: int, folder: Path, **environment: str) -> list[Any]:
    """The processes of one start of the command; what rank r says goes to FOLDER/r and, to standard output, r.out."""
    folder.mkdir(parents=True, exist_ok=True)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
    processes = []
    for rank in range(ranks):
        own = {**(place if ranks > 1 else {}), "COSMOS_TEST_LOG": str(folder / str(rank)), **environment}
        if ranks > 1:
            own |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(SERVER.Process(target=work, args=(arguments, folder / str(rank), own)))
        processes[-1].start()
    return processes


def faulty(*arguments: Any, **options: Any) -> Any:
    """A fault of ours."""
    raise KeyError("odd")


def other_content(image: image_sources.FileImage) -> bytes:
    """The file of an image as another machine might have it: the same pixels in other bytes."""
    return image.path.read_bytes() + b"another"


def work(arguments: list[str], said: Path, environment: dict[str, str]) -> None:
    """In the process: the command, with a shard of rows for every batch and a report of ranks after every one."""
    fork_workers()
    os.environ.update(environment)
    torch.set_num_threads(1)
    feature_cache.WRITE_INTERVAL, feature_cache.WRITE_PAUSE_FACTOR = -1.0, 0  # type: ignore[assignment]
    rank_group.REPORT_INTERVAL = float(environment.get("COSMOS_TEST_SECONDS", "1.0"))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    sys.stderr, sys.stdout = said.open("a", buffering=1), Path(f"{said}.out").open("a", buffering=1)  # noqa: SIM115
    from cosmos_eval.cli.main import run_command
    from cosmos_eval.engine import encoding

    if environment.get("COSMOS_TEST_FAULT", "none") == environment.get("RANK"):
        encoding.image_batches = faulty
    if environment.get("COSMOS_TEST_OTHER_DATA", "none") == environment.get("RANK"):
        image_sources.FileImage.content = other_content  # type: ignore[method-assign]
    code = run_command(arguments)
    sys.stderr.flush()
    sys.stdout.flush()
    sys.exit(code)
