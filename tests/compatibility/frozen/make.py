"""What made this folder; it ran with commit 055e6bd (README.md says how) and only writes what is not there."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from cosmos_core.config import load_preset
from cosmos_core.signals import Interrupted
from cosmos_core.train import Callback, Run, train
from cosmos_eval.datasets.toybox import captions, make_scene, render, train_records

BENCHMARKS = ("retrieval", "classification", "perception", "segmentation", "files")
STOPPED_AT = 4


class Stop(Callback):
    """Asks for a stop after a step, as Ctrl-C or a scheduler does."""

    def on_step(self, run: Run) -> None:
        if run.step == STOPPED_AT:
            os.kill(os.getpid(), signal.SIGTERM)


def write_files(root: Path) -> None:
    """Six scenes as JPEG, PNG and palette PNG with their captions, and two PNG files with 16 bits a value."""
    root.mkdir()
    lines = []
    for i in range(6):
        scene = make_scene(1, "test", i)
        image = Image.fromarray(render(scene, 40))
        path = root / f"{i}.{('jpg', 'png', 'png')[i % 3]}"
        (image.quantize(16) if i % 3 == 2 else image).save(path)
        lines.append(json.dumps({"image": path.name, "captions": list(captions(scene).full)}))
    (root / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = []
    for i in range(2):
        values = (np.arange(256, dtype=np.uint16).reshape(16, 16) * (150 + 100 * i)).astype(np.uint16)
        Image.fromarray(values).save(root / f"deep{i}.png")
        lines.append(json.dumps({"image": f"deep{i}.png", "captions": [f"gradient {i}"]}))
    (root / "deep.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def train_and_stop() -> None:
    """`train`: stopped after step 4 of 8. `finished.jsonl`: the log of the same training, gone on with to its end."""
    config = replace(load_preset("tiny.yaml"), out="train")
    try:
        train(config, train_records(config.seed, config.samples), callbacks=[Stop()])
    except Interrupted as stopped:
        print(repr(stopped))
    shutil.copytree("train", "finished")
    cosmos_eval("train", "tiny.yaml", "--out", "finished")
    shutil.copy("finished/metrics.jsonl", "finished.jsonl")
    shutil.rmtree("finished")


def measure(spec: str, names: tuple[str, ...], out: str, *options: str) -> None:
    definitions = [f"--benchmark=definitions/frozen-{name}.yaml" for name in names]
    cosmos_eval("run", f"--model={spec}", *definitions, "--out", out, "--batch-size", "8", "--device", "cpu", *options)


def cosmos_eval(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cosmos_eval", *arguments], check=True)


def main() -> None:
    if not Path("definitions/files").exists():
        write_files(Path("definitions/files"))
    if not Path("train").exists():
        train_and_stop()
    if not Path("results").exists():
        for part in ("teacher", "student"):
            measure(f"cosmos:train/last.pt#{part}", BENCHMARKS, "results")
        measure("cosmos:toybox", BENCHMARKS, "results", "--no-cache")
        measure("cosmos:train/last.pt#teacher", ("16-bit",), "results-16-bit", "--no-cache")
    if not Path("resized").exists():
        cosmos_eval("data", "prepare", "resized", "definitions/frozen-files.yaml", "--size", "32", "--out", "resized")


if __name__ == "__main__":
    main()
