"""The checks of `gpu_smoke.py`: what the device computes, beside the CPU in float32."""

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from cosmos_core.attention_kernels import without_cudnn_attention
from cosmos_core.errors import RequestError
from cosmos_core.objectives import OBJECTIVES
from cosmos_core.printable import plural
from cosmos_core.true_float32 import true_float32
from cosmos_eval import evaluate, load_model
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.engine.kept_casts import keeps_casts, kept_casts
from cosmos_eval.engine.precision import resolve_precision, tower_precision

if TYPE_CHECKING:
    from benchmarks.gpu_smoke import Smoke

HERE = Path(__file__).resolve().parents[1]
TASKS = ("toybox-retrieval", "toybox-classification", "toybox-perception", "toybox-segmentation-csa")
METRICS = {"fp32": 2e-3, "fp16": 1e-2, "bf16": 3e-2}
"""Largest change of a metric: a pair or two of ranks may change place on few samples."""
FEATURES = {"fp32": 2e-5, "fp16": 3e-3, "bf16": 2e-2}
"""Largest change of a number of a unit vector."""
ATTENTION = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
"""Largest change of a gradient of attention, in units of the largest gradient."""
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
    pixels, filters = torch.randn(8, 3, 64, 64, generator=generator), torch.randn(64, 3, 16, 16, generator=generator)
    convolved = F.conv2d(pixels.double(), filters.double(), stride=16)
    torch.set_float32_matmul_precision("high")
    try:
        with tower_precision("fp32", smoke.device):
            product = (a.to(smoke.device) @ b.to(smoke.device)).cpu()
            patches = F.conv2d(pixels.to(smoke.device), filters.to(smoke.device), stride=16).cpu()
        # in units of the standard deviation of a sum of 512 or 768 terms
        smoke.check("float32 product against float64 (TF32 is 1e-3)", (product - exact).abs().max() / 22, 2e-5)
        smoke.check("float32 convolution against float64", (patches - convolved).abs().max() / 27, 2e-5)
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
        if keeps_casts(precision, smoke.device, False):
            with kept_casts(there), tower_precision(precision, smoke.device):
                kept = features(there, x.to(smoke.device))
            changed = sum(not torch.equal(kept[name], found[name]) for name in found)
            smoke.check(f"features that change with kept casts, {precision}", changed, 0)


def check_attention(smoke: "Smoke") -> None:
    """Attention with a mask at odd lengths: its gradient is finite and that of the CPU (cuDNN's kernels are off)."""
    generator = torch.Generator().manual_seed(0)
    for precision in precisions(smoke):
        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
        differences = []
        for length in (40, 64, 77, 192):
            inputs = [torch.randn(2, 4, length, 32, generator=generator).to(dtype).float() for _ in range(3)]
            found = attention_gradients(inputs, smoke.device, dtype)
            for ours, exact in zip(found, attention_gradients(inputs, "cpu", torch.float32), strict=True):
                differences.append((ours - exact).abs().max() / exact.abs().max())
        largest = torch.stack(differences).max()  # NaN if there is one
        smoke.check(f"gradients of attention, {precision}", largest, ATTENTION[precision])


def attention_gradients(
    inputs: Sequence[torch.Tensor], device: torch.device | str, dtype: torch.dtype
) -> list[torch.Tensor]:
    """Gradients of queries, keys and values, (B, H, L, D) each, with a causal mask that is passed as a tensor."""
    q, k, v = (x.to(device, dtype, copy=True).requires_grad_() for x in inputs)
    mask = torch.full((q.shape[2], q.shape[2]), float("-inf"), device=device, dtype=dtype).triu(1)
    with without_cudnn_attention(), true_float32():
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return [x.float().cpu() for x in torch.autograd.grad(y.float().square().sum(), (q, k, v))]


def check_loading(smoke: "Smoke") -> None:
    """Images that go through workers, page-locked memory and a stream of copies have the features of the CPU."""
    spec = "cosmos:untrained-toybox"
    images = noise_images(32 if smoke.tiny else 512)
    expected = Engine(load_model(spec), precision="fp32").image_features(images)
    there = load_model(spec, device=smoke.device)
    for workers, batch in ((0, 8), (1 if smoke.tiny else 4, 8), (1 if smoke.tiny else 4, 24)):
        found = Engine(there, batch_size=batch, workers=workers, precision="fp32").image_features(images)
        name = f"features through {plural(workers, 'worker')}, batch {batch}"
        smoke.check(name, (found.cpu() - expected).abs().max(), FEATURES["fp32"])


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
    with tempfile.TemporaryDirectory() as folder:
        for task in TASKS:
            definition = write_small(task, 24 if smoke.tiny else 200, Path(folder))
            (expected,) = evaluate("cosmos:toybox", definition, device="cpu", precision="fp32")
            for precision in precisions(smoke):
                (found,) = evaluate("cosmos:toybox", definition, device=str(smoke.device), precision=precision)
                change = abs(found.metrics[found.primary].value - expected.metrics[expected.primary].value)
                smoke.check(f"{task}, {precision}: change of {found.primary}", change, METRICS[precision])


def write_small(task: str, samples: int, folder: Path) -> Path:
    """Write a definition that is `task` with fewer scenes; to render a thousand takes longer than to encode a few."""
    per_class, scenes = max(1, samples // 48), max(3, samples // 8) if "segmentation" in task else samples
    size = f"per_class: {per_class}" if "classification" in task else f"scenes: {scenes}"
    path = folder / f"{task}.yaml"
    path.write_text(f"base: {task}\nname: small-{task}\ndataset: {{{size}, expected: {{}}}}\n", encoding="utf-8")
    return path


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
    return 3 if smoke.tiny else 8


def loss_curves(smoke: "Smoke") -> Callable[..., torch.Tensor]:
    """A function of changed settings that trains on toybox and returns the loss of each step."""
    from cosmos_core.config import load_preset
    from cosmos_core.train import train
    from cosmos_eval.datasets.toybox import train_records

    steps, batch = training_steps(smoke), 8 if smoke.tiny else 32
    base = replace(
        load_preset("toybox"), steps=steps, batch_size=batch, samples=steps * batch, warmup=2, log_every=1,
        device=str(smoke.device), precision="fp32", out="", save_every=0,
        augment="device",  # the same pixels on both sides
    )  # fmt: skip
    records = list(train_records(base.seed, base.samples))  # rendered once for all curves
    return lambda **changes: torch.tensor([line["loss"] for line in train(replace(base, **changes), records).metrics])


def check_memory(smoke: "Smoke") -> None:
    """A batch that does not fit is halved, with the same features; a training without room says so (only on CUDA)."""
    if smoke.device.type != "cuda":
        return
    from cosmos_eval.progress import Silent

    class Notes(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def note(self, text: str) -> None:
            self.lines.append(text)

    notes = Notes()

    model = load_model("cosmos:untrained-toybox" if smoke.tiny else "cosmos:untrained-ViT-B-16", device=smoke.device)
    images = noise_images(512)
    expected = Engine(model, batch_size=16, precision="fp32").image_features(images)
    with memory_left(smoke.device, 2**30):
        found = Engine(model, batch_size=512, precision="fp32", reporter=notes).image_features(images)
    smoke.check("features of halved batches", (found - expected).abs().max(), 2e-5)
    smoke.check("no batch was halved", 0 if notes.lines or smoke.tiny else 1, 0)
    del model, expected, found
    losses = loss_curves(smoke)
    with memory_left(smoke.device, 2**26):  # less than the networks of a larger model and their optimizer
        try:
            losses(model="ViT-B-32", objective="clip")
            message = "no error"
        except RequestError as error:
            message = str(error)
    smoke.tell("a training without room", message)
    smoke.check("a training without room gave another error, or none", "out of memory" not in message, 0)


@contextmanager
def memory_left(device: torch.device, size: int) -> Iterator[None]:
    """Within it, torch may allocate `size` bytes more than it holds now."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved(device) + size) / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        gc.collect()
        torch.cuda.empty_cache()


def noise_images(count: int) -> list[ArrayImage]:
    """Images of 64 by 64 with random pixels, all different."""
    pixels = torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return [ArrayImage(str(index), image.numpy()) for index, image in enumerate(pixels)]


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
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    metrics = []
    with tempfile.TemporaryDirectory() as folder:
        definition = write_small("toybox-retrieval", 48, Path(folder))
        words = ["-m", "cosmos_eval", "run", "--model", "cosmos:toybox", "--benchmark", str(definition)]
        words += ["--batch-size", "8", "--device", str(smoke.device), "--precision", "fp32", "--no-cache", "--out"]
        for name, launcher in (("one", []), ("two", ranks)):
            out = Path(folder) / name
            command = [sys.executable, *launcher, *words, str(out)]
            run_command(command, f"{name} rank" + "s" * (name == "two"), smoke.tiny)
            (path,) = out.glob("*/*/RESULT.json")
            metrics.append({key: metric["value"] for key, metric in json.loads(path.read_text())["metrics"].items()})
    smoke.check("metrics of two ranks that differ", sum(metrics[0][key] != metrics[1][key] for key in metrics[0]), 0)


def run_command(command: Sequence[str], name: str, single_thread: bool) -> None:
    """Run a command; RuntimeError with its last words if it fails. If this is interrupted, it and its ranks end."""
    environment = {**os.environ, **({"OMP_NUM_THREADS": "1"} if single_thread else {})}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=HERE, env=environment
    )
    try:
        _, messages = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun then ends its ranks, which a kill would leave behind
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
    if process.returncode:
        own = [line for line in messages.splitlines() if line.startswith(("cosmos-eval:", "RuntimeError", "torch."))]
        raise RuntimeError(f"{name}: exit code {process.returncode}; {' '.join(own) or messages[-1500:]}")


CHECKS: dict[str, Callable[["Smoke"], None]] = {
    "float32": check_float32,
    "features": check_features,
    "attention": check_attention,
    "loading": check_loading,
    "scores": check_scores,
    "tasks": check_tasks,
    "training": check_training,
    "memory": check_memory,
    "ranks": check_ranks,
    "compile": check_compiled,
}
