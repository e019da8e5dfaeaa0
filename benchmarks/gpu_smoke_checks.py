"""The checks of `gpu_smoke.py`: what the device computes, beside the CPU in float32."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from cosmos_core.objectives import OBJECTIVES
from cosmos_core.true_float32 import true_float32
from cosmos_eval import evaluate, load_model
from cosmos_eval.engine import Engine
from cosmos_eval.engine.precision import resolve_precision, tower_precision

if TYPE_CHECKING:
    from benchmarks.gpu_smoke import Smoke

HERE = Path(__file__).resolve().parents[1]
TASKS = ("toybox-retrieval", "toybox-classification", "toybox-perception", "toybox-segmentation-csa")
METRICS = {"fp32": 2e-3, "fp16": 1e-2, "bf16": 3e-2}
"""Largest change of a metric: a pair or two of ranks may change place on few samples."""
FEATURES = {"fp32": 2e-5, "fp16": 3e-3, "bf16": 2e-2}
"""Largest change of a number of a unit vector."""
ATTENTIONS = ("vanilla", "csa", "maskclip", "clearclip", "naclip", "raw")


def precisions(smoke: "Smoke") -> list[str]:
    """The precisions that the device computes in, float32 first."""
    if smoke.device.type == "mps":
        return ["fp32"]
    best = resolve_precision("auto", smoke.device)
    return ["fp32", "fp16", *(["bf16"] if best != "fp16" else [])]


def check_float32(smoke: "Smoke") -> None:
    """Products in float32 are true float32, and torch's settings are the caller's afterwards."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    torch.set_float32_matmul_precision("high")
    try:
        with tower_precision("fp32", smoke.device):
            product = (a.to(smoke.device) @ b.to(smoke.device)).cpu()
        smoke.check("float32 product against float64 (TF32 is 1e-3)", (product - exact).abs().max() / 22, 2e-5)
        kept = torch.get_float32_matmul_precision() == "high"
        smoke.check("torch's precision of products was changed", 1 - kept, 0)
    finally:
        torch.set_float32_matmul_precision("highest")


def check_features(smoke: "Smoke") -> None:
    """Embeddings and patch features of every attention variant, in every precision."""
    spec = "cosmos:untrained-toybox" if smoke.tiny else "cosmos:untrained-ViT-B-16"
    here, there = load_model(spec), load_model(spec, device=smoke.device)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, *here.core.image_size, generator=generator)
    texts = [" ".join(["red circle"] * n) for n in range(1, 36)]

    def features(model: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
        by_name = {"image features": model.encode_image(images), "text features": model.encode_text(texts)}
        by_name |= {f"patch features, {name}": model.encode_patches(images, attention=name) for name in ATTENTIONS}
        return {name: F.normalize(value.float(), dim=-1).cpu() for name, value in by_name.items()}

    with tower_precision("fp32", torch.device("cpu")):
        expected = features(here, x)
    for precision in precisions(smoke):
        with tower_precision(precision, smoke.device):
            found = features(there, x.to(smoke.device))
        for name, values in found.items():
            smoke.check(f"{name}, {precision}", (values - expected[name]).abs().max(), FEATURES[precision])


def check_scores(smoke: "Smoke") -> None:
    """Counts of better and tied candidates are those of the CPU where all scores are whole numbers."""
    from cosmos_eval.metrics.similarity import deduplicate_features, score_blocks

    generator = torch.Generator().manual_seed(0)
    count = 200 if smoke.tiny else 5000
    queries = torch.randint(-3, 4, (count // 5, 64), generator=generator).float()
    candidates = torch.randint(-3, 4, (count, 64), generator=generator).float()
    candidates[::7] = candidates[0]

    def scores(device: torch.device) -> torch.Tensor:
        distinct = deduplicate_features(candidates.to(device))
        blocks = [block.clone().cpu() for _, _, block in score_blocks(queries.to(device), distinct)]
        return torch.cat(blocks)[:, distinct.column.cpu()]

    differing = (scores(torch.device("cpu")) != scores(smoke.device)).sum()
    smoke.check("scores of whole numbers that differ", differing, 0)


def check_tasks(smoke: "Smoke") -> None:
    """Metrics of the four toybox tasks in every precision."""
    samples = 24 if smoke.tiny else 200
    for task in TASKS:
        limit = max(3, samples // 8) if "segmentation" in task else samples
        (expected,) = evaluate("cosmos:toybox", task, device="cpu", precision="fp32", limit=limit)
        for precision in precisions(smoke):
            (found,) = evaluate("cosmos:toybox", task, device=str(smoke.device), precision=precision, limit=limit)
            change = abs(found.metrics[found.primary].value - expected.metrics[expected.primary].value)
            smoke.check(f"{task}, {precision}: change of {found.primary}", change, METRICS[precision])


def check_training(smoke: "Smoke") -> None:
    """Losses of a few steps: every objective, mixed precision, accumulation, checkpointing, resuming."""
    losses, steps = loss_curves(smoke), training_steps(smoke)
    for objective in OBJECTIVES:
        expected = losses(objective=objective, device="cpu")
        smoke.check(f"loss of {objective}, fp32", (losses(objective=objective) - expected).abs().max(), 2e-3)
    expected = losses(device="cpu")
    cases: dict[str, tuple[dict[str, Any], float]] = {
        "accumulated": ({"accumulate": 4}, 2e-3),
        "checkpointed": ({"grad_checkpointing": True}, 2e-3),
    }
    if smoke.device.type == "cuda":
        cases["mixed precision"] = ({"precision": "auto"}, 5e-2)
    for name, (changes, most) in cases.items():
        smoke.check(f"loss, {name}", (losses(**changes) - expected).abs().max(), most)
    if smoke.device.type == "cuda":  # steps are skipped until the scale of the loss is found
        scaled = (losses(precision="amp") - expected).abs()
        smoke.check("first loss, fp16 with loss scaling", scaled[0], 5e-2)
        smoke.check("other losses, fp16 with loss scaling", scaled.max(), 0.5)
    with tempfile.TemporaryDirectory() as folder:
        whole = losses(out=folder, save_every=max(1, steps // 2), keep=0)
        for path in Path(folder).glob("*.pt"):
            if path.name != f"step-{max(1, steps // 2):08d}.pt":
                path.unlink()
        resumed = losses(out=folder, save_every=max(1, steps // 2), keep=0)
        smoke.check("loss, resumed from the middle", (resumed[-1] - whole[-1]).abs(), 2e-3)


def training_steps(smoke: "Smoke") -> int:
    return 3 if smoke.tiny else 12


def loss_curves(smoke: "Smoke") -> Callable[..., torch.Tensor]:
    """A function of changed settings that trains on toybox and returns the loss of each step."""
    from cosmos_core.config import load_preset
    from cosmos_eval.training.callback import train_from

    base = replace(
        load_preset("toybox"), steps=training_steps(smoke), batch_size=8 if smoke.tiny else 64, samples=640, warmup=2,
        log_every=1, device=str(smoke.device), precision="fp32", out="", save_every=0,
        augment="device",  # the same pixels on both sides
    )  # fmt: skip
    return lambda **changes: torch.tensor([line["loss"] for line in train_from(replace(base, **changes)).metrics])


def check_memory(smoke: "Smoke") -> None:
    """A batch that does not fit is halved, with the same features (only on CUDA)."""
    if smoke.device.type != "cuda":
        return
    from cosmos_eval.datasets.image_sources import ArrayImage
    from cosmos_eval.progress import Silent

    class Notes(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def note(self, text: str) -> None:
            self.lines.append(text)

    notes = Notes()

    model = load_model("cosmos:untrained-toybox" if smoke.tiny else "cosmos:untrained-ViT-B-16", device=smoke.device)
    pixels = torch.randint(0, 256, (512, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = [ArrayImage(str(index), image.numpy()) for index, image in enumerate(pixels)]
    expected = Engine(model, batch_size=16, precision="fp32").image_features(images)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(smoke.device).total_memory
    fraction = (torch.cuda.memory_reserved(smoke.device) + 2**30) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, fraction), smoke.device)
    try:
        found = Engine(model, batch_size=512, precision="fp32", reporter=notes).image_features(images)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, smoke.device)
    smoke.check("features of halved batches", (found - expected).abs().max(), 2e-5)
    smoke.check("no batch was halved", 0 if notes.lines or smoke.tiny else 1, 0)


def check_compiled(smoke: "Smoke") -> None:
    """A compiled tower has the features of the eager one, a compiled training its losses (only on CUDA)."""
    if smoke.device.type != "cuda":
        return
    model = load_model("cosmos:untrained-toybox" if smoke.tiny else "cosmos:untrained-ViT-B-16", device=smoke.device)
    from cosmos_eval.engine.image_tower import ImageTower

    x = torch.randn(16, 3, *model.core.image_size, device=smoke.device)
    with tower_precision("fp32", smoke.device), true_float32():
        eager = F.normalize(ImageTower(model).encode(x), dim=-1)
        compiled = F.normalize(ImageTower(model, compiled=True, compiled_size=lambda: 16).encode(x), dim=-1)
    smoke.check("features of a compiled tower, fp32", (eager - compiled).abs().max(), 2e-5)
    losses = loss_curves(smoke)
    smoke.check("loss, compiled", (losses(objective="clip", compile=True) - losses(objective="clip")).abs().max(), 2e-3)


def check_ranks(smoke: "Smoke") -> None:
    """Two ranks that share the device give the metrics of one process."""
    words = ["-m", "cosmos_eval", "run", "--model", "cosmos:toybox", "--benchmark", "toybox-retrieval", "--limit", "48"]
    words += ["--batch-size", "8", "--device", str(smoke.device), "--precision", "fp32", "--no-cache", "--out"]
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    metrics = []
    with tempfile.TemporaryDirectory() as folder:
        for name, launcher in (("one", []), ("two", ranks)):
            out = Path(folder) / name
            command = [sys.executable, *launcher, *words, str(out)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=HERE)
            if done.returncode:
                raise RuntimeError(f"{name} rank: exit code {done.returncode}; {done.stderr[-1500:]}")
            (path,) = out.glob("*/*/RESULT.json")
            metrics.append({key: metric["value"] for key, metric in json.loads(path.read_text())["metrics"].items()})
    smoke.check("metrics of two ranks that differ", sum(metrics[0][key] != metrics[1][key] for key in metrics[0]), 0)


CHECKS: dict[str, Callable[["Smoke"], None]] = {
    "float32": check_float32,
    "features": check_features,
    "scores": check_scores,
    "tasks": check_tasks,
    "training": check_training,
    "memory": check_memory,
    "ranks": check_ranks,
    "compile": check_compiled,
}
