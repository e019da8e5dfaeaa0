"""Evaluations to be killed at file operations: a run with feature cache and tables, and the resizing of images."""

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
"""Fields of a result that differ between any two runs: times, and the checksum over them."""
UNCOMPARED = (".html", ".md", ".csv", ".tex", "profile.json")
"""Files that show times and dates: only their existence is compared."""


def create_data(folder: Path) -> None:
    """Create a folder with a dataset, a definition and a model."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for n in range(IMAGES):
        noise = np.random.default_rng(n).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((24, 18), 0).save(folder / "images" / f"{n}.png")
        lines.append(json.dumps({"image": f"images/{n}.png", "captions": [f"square {n}", f"number {n} again"]}))
    (folder / "squares.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "squares.yaml").write_text(DEFINITION)
    (folder / "means.py").write_text(MODEL)


def run_commands(*commands: Sequence[str]) -> int:
    """Run commands of cosmos-eval one after the other until one fails; return its exit code, or 0."""
    import sys

    from cosmos_eval.cli.main import run_command

    torch.set_num_threads(1)
    sys.path.insert(0, ".")
    for command in commands:
        if code := run_command(list(command)):
            return code
    return 0


def evaluate() -> int:
    run = ["run", "--model", "python:means:build", "--benchmark", "squares.yaml", "--out", "out", "--batch-size", "2"]
    return run_commands(run, ["leaderboard", "out"])


def resize() -> int:
    return run_commands(["data", "prepare", "resized", "squares.yaml", "--size", "8", "--out", "resized"])


def digest(path: Path) -> str:
    """Return the content of a file: of a result without times, of a table only that it exists."""
    if path.name == "RESULT.json":
        return json.dumps(without_times(json.loads(path.read_text())), sort_keys=True)
    if path.name.endswith(UNCOMPARED):
        return "exists"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_times(value: Any) -> Any:
    """Remove the fields of `TIMES` from nested JSON values."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


SCENARIOS = [
    Scenario("evaluation", evaluate, create_data, digest),
    Scenario("resized images", resize, create_data, digest),
]
