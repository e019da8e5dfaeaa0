"""Measure time and memory of retrieval scoring from given embeddings, compared with clip-benchmark.

    python benchmarks/scoring.py [--quick] [--device cuda] [--out results/speed.md]

There are embeddings of 5,000 images and 25,000 texts, five for each image, in 512 dimensions (1,000 and 5,000 with
--quick). Both sides compute the similarities and recall@1, 5 and 10 in both directions. The peer is clip-benchmark's
own `evaluate` (batch size 64, no mixed precision) with a model that returns its input. Both must give the same figures
to 1e-4, or the exit code is 1. The ratio of the times is the median over repetitions. Memory is measured in separate
processes, as the peak above that of the embeddings. The last line printed is JSON.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.memory import peak_bytes, peak_resident_bytes
from benchmarks.output import last_line, ratio, row
from benchmarks.processes import run_in_processes
from benchmarks.speed_page import print_and_write
from benchmarks.timing import Times, take_turns
from cosmos_core.errors import RequestError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

K = (1, 5, 10)
BATCH = 64
PER_IMAGE = 5
SAME = 1e-4
ARMS = ("peer", "ours")


@dataclass(frozen=True)
class ScoringPlan:
    """Sizes of the benchmark."""

    images: int
    repetitions: int
    width: int = 512
    device: str = "cpu"


FULL, QUICK = {"images": 5000, "repetitions": 3}, {"images": 1000, "repetitions": 3}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 images instead of 5,000")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine has cores")
    parser.add_argument("--out", type=Path, help="also write a section of this page")
    options = parser.parse_args(arguments)
    plan = ScoringPlan(**(QUICK if options.quick else FULL), device=options.device)
    load = os.getloadavg()[0]
    try:
        measured = run_in_processes([1], "benchmarks.scoring:measure", plan, threads=options.threads)[1]
        peaks = {
            arm: run_in_processes([1], "benchmarks.scoring:peak", plan, arm, threads=options.threads)[1] for arm in ARMS
        }
    except RequestError as error:
        print(f"scoring: {error}", file=sys.stderr)
        return 2
    difference = measured["largest_difference"]
    if not difference <= SAME:
        print(f"scoring: recall differs by {difference:.2g}, so no times are compared", file=sys.stderr)
        return 1
    lines, line = table(measured, peaks, plan), record(measured, peaks, plan, load)
    print_and_write("Retrieval scoring", lines, line, options.out, arguments)
    return 0


def measure(world: Any, plan: ScoringPlan) -> dict[str, Any]:
    """Run both sides in turns: seconds, and the largest difference of their recalls."""
    import torch

    images, texts = embeddings(plan)
    ours, peer = recalls(images, texts), peer_recalls(images, texts)
    difference = max(abs(ours[name] - peer[name]) for name in ours)
    arms = {"peer": partial(peer_recalls, images, texts), "ours": partial(recalls, images, texts)}
    times = take_turns(arms, plan.repetitions, world, warm_up=0)  # the comparison was the warm-up
    return {
        "seconds": times.seconds,
        "largest_difference": difference,
        "recall": ours,
        "threads": torch.get_num_threads(),
    }


def peak(world: Any, plan: ScoringPlan, arm: str) -> int:
    """Return the peak of one side's memory above that of the embeddings, in bytes."""
    compute = {"peer": peer_recalls, "ours": recalls}[arm]
    compute(*embeddings(ScoringPlan(images=128, repetitions=1, device=plan.device)))  # load libraries and buffers
    images, texts = embeddings(plan)
    before = total_peak_bytes(images.device, reset=True)
    compute(images, texts)
    return total_peak_bytes(images.device) - before


def total_peak_bytes(device: "torch.device", reset: bool = False) -> int:
    """Return the peak of main memory and, on CUDA, of GPU memory, because clip-benchmark scores on the CPU."""
    return peak_resident_bytes(reset) + (peak_bytes(device, reset) if device.type == "cuda" else 0)


def embeddings(plan: ScoringPlan) -> "tuple[Tensor, Tensor]":
    """Return (N, D) embeddings of images and (5 N, D) of texts, of unit length; a text is its image plus noise."""
    import torch
    from torch.nn.functional import normalize

    rng = torch.Generator().manual_seed(0)
    images = normalize(torch.randn(plan.images, plan.width, generator=rng), dim=1)
    noise = torch.randn(plan.images * PER_IMAGE, plan.width, generator=rng)
    noise *= 7 / plan.width**0.5  # seven times as long as an image's embedding, so that recall@1 is neither 0 nor 1
    texts = normalize(noise.add_(images.repeat_interleave(PER_IMAGE, dim=0)), dim=1)
    return images.to(plan.device), texts.to(plan.device)


def recalls(images: "Tensor", texts: "Tensor") -> dict[str, float]:
    """Return the recall at each k in both directions, computed by cosmos-eval."""
    import torch

    from cosmos_eval.metrics.query_scores import DotProducts
    from cosmos_eval.metrics.ranks import compute_rank_counts, expected_hit
    from cosmos_eval.metrics.similarity import check_features

    image = torch.arange(len(images)).repeat_interleave(PER_IMAGE)
    text = torch.arange(len(texts))
    recall: dict[str, float] = {}
    for side, queries, candidates, positives in (
        ("text", images, texts, (image, text)),
        ("image", texts, images, (text, image)),
    ):
        check_features(queries, "query")
        check_features(candidates, "candidate")
        rank_counts = compute_rank_counts(DotProducts(queries, candidates), *positives, len(candidates))
        recall |= {f"{side}_retrieval_recall@{k}": float(expected_hit(rank_counts, k).mean()) for k in K}
    return recall


def peer_recalls(images: "Tensor", texts: "Tensor") -> dict[str, float]:
    """Return the same from clip-benchmark; its names say what is retrieved: `text` is image to text."""
    import contextlib
    import io

    from clip_benchmark.metrics import zeroshot_retrieval

    loader = [
        (images[start : start + BATCH], [range(PER_IMAGE * i, PER_IMAGE * (i + 1)) for i in range(start, stop)])
        for start in range(0, len(images), BATCH)
        for stop in [min(start + BATCH, len(images))]
    ]
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        return zeroshot_retrieval.evaluate(
            PassThrough(),
            loader,
            lambda numbers: texts[list(numbers)],
            images.device.type,
            amp=False,
            recall_k_list=list(K),
        )


class PassThrough:
    """A model that returns its inputs, which are embeddings."""

    def encode_image(self, embeddings: "Tensor") -> "Tensor":
        return embeddings

    encode_text = encode_image


def table(measured: dict[str, Any], peaks: dict[str, int], plan: ScoringPlan) -> list[str]:
    """Return the lines of the Markdown text."""
    times = Times(measured["seconds"])
    texts, ks = plan.images * PER_IMAGE, ", ".join(map(str, K))
    return [
        f"{plan.images:,} images × {texts:,} texts in {plan.width} dimensions, recall@{ks} in both directions, "
        f"on {plan.device}; medians, ratio with quartiles.",
        "",
        row(["", "clip-benchmark", "cosmos-eval", "ratio"]),
        row(["---"] * 4),
        row(["seconds", f"{times.median('peer'):.2f}", f"{times.median('ours'):.2f}", ratio(times, "peer")]),
        row(
            [
                "MiB above the embeddings",
                *(f"{peaks[arm] / 2**20:,.0f}" for arm in ARMS),
                f"{peaks['peer'] / peaks['ours']:.1f}",
            ]
        ),
        "",
        f"Figures differ by at most {measured['largest_difference']:.1g}; recall@1 is "
        f"{measured['recall']['text_retrieval_recall@1']:.3f} from image to text and "
        f"{measured['recall']['image_retrieval_recall@1']:.3f} from text to image.",
    ]


def record(measured: dict[str, Any], peaks: dict[str, int], plan: ScoringPlan, load: float) -> dict[str, Any]:
    """Return the record of the last line; `load` is the load average of the machine before the start."""
    times = Times(measured["seconds"])
    figures = {
        "images": plan.images,
        "texts": plan.images * PER_IMAGE,
        "width": plan.width,
        "peer_seconds": times.median("peer"),
        "ours_seconds": times.median("ours"),
        "ratio_quartiles": times.quartiles("peer", "ours"),
        "peer_peak_bytes": peaks["peer"],
        "ours_peak_bytes": peaks["ours"],
        "largest_difference": measured["largest_difference"],
    }
    ratios = {"time": times.ratio("peer", "ours"), "memory": peaks["peer"] / peaks["ours"]}
    return last_line("scoring", ratios, figures, plan.device, measured["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
