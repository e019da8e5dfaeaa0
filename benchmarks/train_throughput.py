"""Measure images per second, MFU and peak memory of training COSMOS on one GPU.

    python benchmarks/train_throughput.py [--minutes 8] [--out results/train_throughput.md] [--quick]

The model is ViT-B/16 with 2 + 6 image views and 8 captions. A case is a combination of precision, batch size, eager or
compiled, and activations kept or recomputed. A step is complete (teacher, student, loss, backward, EMA, AdamW), on
random images and captions that are already on the device: it measures what the GPU can do if it never waits for data.
Finished cases are kept in `--state`. The command stops after `--minutes`, and the same command continues; it writes the
table when all cases are done. Without a GPU, only `--quick` runs: a tiny model, to test the script. Its figures say
nothing about a GPU and go into no table.

MFU is the number of model operations divided by the seconds and by the dense 16-bit peak of the GPU. Operations are
counted by `cosmos_core.sizing.step_flops`: 2 n k m for a matrix product, twice the forward for the backward, the
forward of the teacher once; what checkpointing recomputes does not count. An image counts once, for any number of
views. The last line printed is JSON.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cosmos_core.errors import RequestError

if TYPE_CHECKING:
    from cosmos_core.config import TrainConfig

HERE = Path(__file__).resolve().parents[1]
PEAKS = {  # dense 16-bit TFLOP/s with float32 accumulation, from the data sheets; the first name that matches is used
    "H200 NVL": 835.0,
    "H200": 989.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX 4090": 165.0,
}
COLUMNS = (
    "precision",
    "batch",
    "mode",
    "checkpointing",
    "images/s",
    "ms per step [quartiles]",
    "MFU",
    "peak GiB",
    "planned GiB",
)
TINY: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 300, "width": 32, "heads": 2, "layers": 2},
}


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    precision: str
    batch: int
    compiled: bool = False
    checkpointing: bool = False

    @property
    def label(self) -> str:
        words = [self.precision, f"batch {self.batch}", "compiled" if self.compiled else "eager"]
        return ", ".join([*words, "checkpointing"] if self.checkpointing else words)


GPU = tuple(
    Case(precision, batch, compiled, checkpointing)
    for precision, checkpointing, batches in (
        ("amp_bf16", False, (64, 128, 256)),
        ("amp_bf16", True, (128, 256, 512)),
        ("amp", False, (128,)),
    )
    for batch in batches
    for compiled in (False, True)
)
GPU_QUICK = (Case("amp_bf16", 64), Case("amp_bf16", 64, checkpointing=True))
CPU_QUICK = (Case("fp32", 4), Case("fp32", 4, checkpointing=True))


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return run(parse(arguments))
    except RequestError as error:
        print(f"train_throughput: {error}", file=sys.stderr)
        return 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps of two cases; without a GPU a tiny model")
    parser.add_argument("--minutes", type=float, default=8, help="stop after this time; 0: when all cases are done")
    parser.add_argument("--steps", type=int, default=0, help="timed steps in a case; 0: 10, or 2 with --quick")
    parser.add_argument("--batches", type=int, nargs="+", help="batch sizes in place of those of the table")
    parser.add_argument("--peak", type=float, default=0, help="dense 16-bit TFLOP/s of the GPU (default: from a list)")
    parser.add_argument("--state", type=Path, default=Path("runs/train_throughput.jsonl"), help="finished cases")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "train_throughput.md", help="the table")
    parser.add_argument("--device", default="auto", help="auto: CUDA if there is one")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    from cosmos_core.train import device_of
    from cosmos_eval.results.environment import environment

    device = device_of(options.device)
    on_gpu = device.type == "cuda"
    if not on_gpu and not options.quick:
        raise RequestError("the table needs a GPU, and this machine has none; --quick tests the script on the CPU")
    measured_on = environment(device.type)
    hardware = measured_on["hardware"].get("gpu", f"CPU, {measured_on['hardware']['cpu']}")
    peak = options.peak or (next((PEAKS[name] for name in PEAKS if name in hardware), 0.0) if on_gpu else 0.0)
    stamp = {"hardware": hardware, "torch": measured_on["packages"]["torch"]}
    cases = cases_of(options, on_gpu)
    finished = {} if options.quick else read_state(options.state, stamp)
    started, longest = time.monotonic(), 0.0
    for case in cases:
        if case in finished:
            continue
        left = 60 * options.minutes - (time.monotonic() - started)
        if options.minutes and longest and left < longest:
            print(f"stopped after {len(finished)} of {len(cases)} cases; the same command continues")
            return 0
        case_started = time.monotonic()
        finished[case] = measure(case, device, options.steps or (2 if options.quick else 10), on_gpu)
        longest = max(longest, time.monotonic() - case_started)
        print(f"{case.label}: {summary(finished[case])}", flush=True)
        if not options.quick:
            append_to_state(options.state, stamp, case, finished[case])
    rows = [(case, finished[case]) for case in cases]
    text = table(rows, peak, hardware)
    print(text)
    if on_gpu and not options.quick:
        options.out.write_text(page(text, measured_on, peak), encoding="utf-8")
    print(json.dumps(record(rows, peak, measured_on)))
    return 0


def cases_of(options: argparse.Namespace, on_gpu: bool) -> list[Case]:
    """Return the cases for this machine; with `--batches`, each case with each of these batch sizes."""
    cases: Sequence[Case] = GPU if not options.quick else GPU_QUICK if on_gpu else CPU_QUICK
    if options.batches:
        cases = [replace(case, batch=batch) for batch in options.batches for case in cases]
    return list(dict.fromkeys(cases))


def config_of(case: Case, device: str, tiny: bool) -> "TrainConfig":
    """Return the published configuration with the batch size, precision and mode of one case."""
    from cosmos_core.config import load_preset

    config = load_preset("cc3m")
    views = replace(config.views, global_size=32, local_size=16) if tiny else config.views
    return replace(
        config,
        model=TINY if tiny else config.model,
        views=views,
        batch_size=case.batch,
        precision=case.precision,
        compile=case.compiled,
        grad_checkpointing=case.checkpointing,
        device=device,
        data="",
    )


def measure(case: Case, device: Any, steps: int, on_gpu: bool) -> dict[str, Any]:
    """Return seconds of a step, operations and memory of one case; or `failed` with the reason."""
    import torch

    config = config_of(case, device.type, tiny=not on_gpu)
    gc.collect()  # free the memory of the previous case
    if on_gpu:
        torch.compiler.reset()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        seconds = seconds_of_steps(config, device, steps)
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    from cosmos_core.sizing import memory, step_flops
    from cosmos_core.workload import Workload

    work = Workload(config)
    flops = {name: count for name, count in step_flops(work).items() if name != "recomputed"}
    planned = {name: size for name, size in memory(work).items() if name != "next batch"}  # these steps have none
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {
        "seconds": statistics.median(seconds),
        "quartiles": [low, high],
        "images_per_second": case.batch / statistics.median(seconds),
        "flops": sum(flops.values()),
        "planned_bytes": sum(planned.values()),
        "peak_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else None,
    }


def seconds_of_steps(config: "TrainConfig", device: Any, steps: int) -> list[float]:
    """Return the seconds of at least two whole steps on one random batch, after three that are not counted."""
    import copy

    import torch

    from cosmos_core.data import Batch
    from cosmos_core.networks import build_optimizer
    from cosmos_core.step import Run, Stepper
    from cosmos_core.train import initial_model

    student = initial_model(config.model, config.seed).to(device).train()
    teacher = copy.deepcopy(student).requires_grad_(False)
    stepper = Stepper(Run(config, student, teacher, build_optimizer(config, student), steps=100_000))
    generator, views = torch.Generator().manual_seed(0), config.views
    sizes = [views.global_size] * views.global_crops + [views.local_size] * views.local_crops
    images = [torch.randn(config.batch_size, 3, size, size, generator=generator).to(device) for size in sizes]
    shape = (config.batch_size, config.captions, student.context_length)
    texts = torch.randint(1, student.vocab_size - 1, shape, generator=generator)
    texts[..., -1] = student.vocab_size - 1  # the end token has the largest id
    batch = Batch(images, texts.to(device), [str(i) for i in range(config.batch_size)])
    step_seconds = []
    for index in range(3 + max(2, steps)):
        start = time.perf_counter()
        stepper(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if index >= 3:
            step_seconds.append(time.perf_counter() - start)
    return step_seconds


def read_state(path: Path, stamp: dict[str, str]) -> dict[Case, dict[str, Any]]:
    """Read finished cases.

    Raises:
        RequestError: they come from another machine or another version of torch.
    """
    if not path.is_file():
        return {}
    finished = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["stamp"] != stamp:
            other, this = (" with torch ".join(item.values()) for item in (entry["stamp"], stamp))
            raise RequestError(f"{path} has cases of {other}, and this machine is {this}; use another --state")
        finished[Case(**entry["case"])] = entry["found"]
    return finished


def append_to_state(path: Path, stamp: dict[str, str], case: Case, measured: dict[str, Any]) -> None:
    """Append a finished case as one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"stamp": stamp, "case": asdict(case), "found": measured}) + "\n")


def mfu(measured: dict[str, Any], peak: float) -> float | None:
    """Return the model FLOP utilisation at a peak of `peak` TFLOP/s; None if the peak is unknown."""
    return measured["flops"] / measured["seconds"] / (peak * 1e12) if peak and "seconds" in measured else None


def summary(measured: dict[str, Any]) -> str:
    if "failed" in measured:
        return str(measured["failed"])
    return f"{measured['images_per_second']:.1f} images/s, {measured['seconds'] * 1e3:.1f} ms per step"


def table(rows: Sequence[tuple[Case, dict[str, Any]]], peak: float, hardware: str) -> str:
    """Return the table as Markdown; a failed case shows the reason."""
    lines = [
        f"Measured on: {hardware}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{' --- |' * len(COLUMNS)}",
    ]
    for case, measured in rows:
        cells = [case.precision, str(case.batch), "compiled" if case.compiled else "eager"]
        cells.append("on" if case.checkpointing else "off")
        if "failed" in measured:
            cells += [measured["failed"], *["–"] * (len(COLUMNS) - len(cells) - 1)]
        else:
            low, high = measured["quartiles"]
            share, peak_bytes = mfu(measured, peak), measured["peak_bytes"]
            cells += [
                f"{measured['images_per_second']:.1f}",
                f"{measured['seconds'] * 1e3:.1f} [{low * 1e3:.1f}, {high * 1e3:.1f}]",
                "–" if share is None else f"{100 * share:.1f} %",
                "–" if peak_bytes is None else f"{peak_bytes / 2**30:.1f}",
                f"{measured['planned_bytes'] / 2**30:.1f}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(text: str, environment: dict[str, Any], peak: float) -> str:
    hardware, packages = environment["hardware"], environment["packages"]
    known = f"{peak:g} TFLOP/s" if peak else "unknown, so no MFU"
    return (
        "# Training COSMOS ViT-B/16 on one GPU: images per second, MFU, memory\n\n"
        "Made by `python benchmarks/train_throughput.py`. 2 + 6 image views of 224 and 96 pixels, 8 captions of 77 "
        "tokens; whole steps on random batches in GPU memory; medians. An image counts once, for any number of views."
        "\n\n"
        f"{hardware.get('gpu')}, CUDA {hardware.get('cuda')}, {hardware['cpu']}, Python {environment['python']}, torch "
        f"{packages['torch']}, open_clip_torch {packages['open_clip_torch']}. Dense 16-bit peak: {known}. Operations: "
        "`cosmos_core/sizing.py`, without those that checkpointing repeats. Planned memory: as in `cosmos-eval train "
        "--dry-run`, without the next batch.\n\n"
        f"{text}\n"
    )


def record(rows: Sequence[tuple[Case, dict[str, Any]]], peak: float, environment: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the last line; `compiled` is the smallest speed-up of a compiled case over the eager one."""
    measured_of = dict(rows)
    speed_ups = []
    for case, measured in rows:
        eager = measured_of.get(replace(case, compiled=False), {})
        if case.compiled and "seconds" in measured and "seconds" in eager:
            speed_ups.append(eager["seconds"] / measured["seconds"])
    figures = {
        case.label: {**measured, **({"mfu": share} if (share := mfu(measured, peak)) else {})}
        for case, measured in rows
    }
    ratios = {"compiled": round(min(speed_ups), 3)} if speed_ups else {}
    return {"name": "train_throughput", "ratios": ratios, "figures": figures, "environment": environment}


if __name__ == "__main__":
    sys.exit(main())
