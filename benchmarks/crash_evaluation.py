"""Evaluations that are killed at file operations: a run with its feature cache and tables, and resized images."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.crash_chains import Scenario

IMAGES = 6
DEFINITION = """name: squares
version: 1
task: retrieval
dataset: {reader: jsonl, path: squares.jsonl}
metrics: {primary: text_to_image_recall@1, k: [1, 5]}
source: own
"""
MODEL = """
import torch
from torchvision.transforms.functional import pil_to_tensor
class Means:
    digest = "means of colours 1"
    def preprocess(self, image): return pil_to_tensor(image.convert("RGB").resize((8, 8))).float() / 255
    def encode_image(self, x): return x.mean(dim=(2, 3)) + torch.tensor([.1, 0, 0])
    def encode_text(self, texts):
        return torch.tensor([[len(t) + .1, t.count("1") + .1, t.count("2") + .1] for t in texts])
def build(): return Means()
"""
TIMES = ("timing", "environment", "checksum", "created", "started", "finished", "date")
"""Fields of a result that differ between any two runs: when, how fast, and the checksum over them."""
UNCOMPARED = (".html", ".md", ".csv", ".tex", "profile.json")
"""Tables: they show times and dates. That they are there is compared."""


def with_data(folder: Path) -> None:
    """A folder with a dataset, a definition and a model."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for n in range(IMAGES):
        noise = np.random.default_rng(n).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((24, 18), 0).save(folder / "images" / f"{n}.png")
        rows.append(json.dumps({"image": f"images/{n}.png", "captions": [f"square {n}", f"number {n} again"]}))
    (folder / "squares.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "squares.yaml").write_text(DEFINITION)
    (folder / "means.py").write_text(MODEL)


def commands(*lines: Sequence[str]) -> int:
    """Commands of cosmos-eval, one after the other, until one fails; the first failing exit code."""
    import sys

    from cosmos_eval.cli.main import run_command

    torch.set_num_threads(1)
    sys.path.insert(0, ".")
    return next((code for line in lines if (code := run_command(list(line)))), 0)


def evaluate() -> int:
    run = ["run", "--model", "python:means:build", "--benchmark", "squares.yaml", "--out", "out", "--batch-size", "2"]
    return commands(run, ["leaderboard", "out"])


def resize() -> int:
    return commands(["data", "prepare", "resized", "squares.yaml", "--size", "8", "--out", "resized"])


def digest(path: Path) -> str:
    """What a file says; of a result what was measured, of a table that it is there."""
    if path.name == "RESULT.json":
        return json.dumps(without_times(json.loads(path.read_text())), sort_keys=True)
    if path.name.endswith(UNCOMPARED):
        return "there"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


SCENARIOS = [
    Scenario("evaluation", evaluate, with_data, digest),
    Scenario("resized images", resize, with_data, digest),
]
