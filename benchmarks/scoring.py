"""How fast recall is counted beside clip-benchmark, from the same embeddings, and in what memory.

    python benchmarks/scoring.py [--quick] [--device cuda] [--out results/speed.md]

Embeddings of 5,000 images and 25,000 texts, five an image, in 512 dimensions (1,000 and 5,000 with --quick). Both
sides compute the similarities and recall at 1, 5 and 10 in both directions; the peer is clip-benchmark's own
`evaluate` (batch 64, no mixed precision) on a model that hands the embeddings through. Both must give the same figures
to 1e-4, or the exit code is 1. The ratio of times is the median over repetitions; memory is the most that a process of
its own holds above the embeddings. Prints one JSON line last.
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

from benchmarks.memory import held, resident
from benchmarks.printed import last_line, ratio, row
from benchmarks.speed_page import tell
from benchmarks.timing import Times, take_turns
from benchmarks.worlds import run_in_worlds
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
class Plan:
    """How much is scored."""

    images: int
    repetitions: int
    width: int = 512
    device: str = "cpu"


FULL, QUICK = {"images": 5000, "repetitions": 3}, {"images": 1000, "repetitions": 3}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 images instead of 5,000")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="0: the machine's cores")
    parser.add_argument("--out", type=Path, help="write a section of this page as well")
    chosen = parser.parse_args(arguments)
    plan = Plan(**(QUICK if chosen.quick else FULL), device=chosen.device)
    load = os.getloadavg()[0]
    try:
        found = run_in_worlds([1], "benchmarks.scoring:measure", plan, threads=chosen.threads)[1]
        peaks = {
            arm: run_in_worlds([1], "benchmarks.scoring:peak", plan, arm, threads=chosen.threads)[1] for arm in ARMS
        }
    except RequestError as error:
        print(f"scoring: {error}", file=sys.stderr)
        return 2
    apart = found["apart"]
    if not apart <= SAME:
        print(f"scoring: recall differs by {apart:.2g}, so no times are compared", file=sys.stderr)
        return 1
    tell("Counting recall", table(found, peaks, plan), record(found, peaks, plan, load), chosen.out, arguments)
    return 0


def measure(world: Any, plan: Plan) -> dict[str, Any]:
    """Both arms in turns: seconds, and how far their figures are apart."""
    import torch

    images, texts = embeddings(plan)
    ours, peer = recalls(images, texts), peer_recalls(images, texts)
    apart = max(abs(ours[name] - peer[name]) for name in ours)
    arms = {"peer": partial(peer_recalls, images, texts), "ours": partial(recalls, images, texts)}
    times = take_turns(arms, plan.repetitions, world, warm_up=0)  # warmed up by the comparison
    return {"seconds": times.seconds, "apart": apart, "recall": ours, "threads": torch.get_num_threads()}


def peak(world: Any, plan: Plan, arm: str) -> int:
    """The most bytes that one arm holds above the embeddings; a small case first loads libraries and their buffers."""
    way = {"peer": peer_recalls, "ours": recalls}[arm]
    way(*embeddings(Plan(images=128, repetitions=1, device=plan.device)))
    images, texts = embeddings(plan)
    before = in_all(images.device, reset=True)
    way(images, texts)
    return in_all(images.device) - before


def in_all(device: "torch.device", reset: bool = False) -> int:
    """Of main memory, and of a GPU's where the embeddings are there: clip-benchmark takes its scores from it."""
    return resident(reset) + (held(device, reset) if device.type == "cuda" else 0)


def embeddings(plan: Plan) -> "tuple[Tensor, Tensor]":
    """(N, D) images and (5 N, D) texts of unit length; a text is its image with noise."""
    import torch
    from torch.nn.functional import normalize

    rng = torch.Generator().manual_seed(0)
    images = normalize(torch.randn(plan.images, plan.width, generator=rng), dim=1)
    noise = torch.randn(plan.images * PER_IMAGE, plan.width, generator=rng)
    noise *= 7 / plan.width**0.5  # seven times the image's length: recall at 1 is neither 0 nor 1
    texts = normalize(noise.add_(images.repeat_interleave(PER_IMAGE, dim=0)), dim=1)
    return images.to(plan.device), texts.to(plan.device)


def recalls(images: "Tensor", texts: "Tensor") -> dict[str, float]:
    """Recall at each k in both directions, ours."""
    import torch

    from cosmos_eval.metrics.query_scores import DotProducts
    from cosmos_eval.metrics.ranks import count_scored_places, expected_hit
    from cosmos_eval.metrics.similarity import check_features

    image = torch.arange(len(images)).repeat_interleave(PER_IMAGE)
    text = torch.arange(len(texts))
    found = {}
    for side, queries, candidates, positives in (
        ("text", images, texts, (image, text)),
        ("image", texts, images, (text, image)),
    ):
        check_features(queries, "query")
        check_features(candidates, "candidate")
        places = count_scored_places(DotProducts(queries, candidates), *positives, len(candidates))
        found |= {f"{side}_retrieval_recall@{k}": float(expected_hit(places, k).mean()) for k in K}
    return found


def peer_recalls(images: "Tensor", texts: "Tensor") -> dict[str, float]:
    """The same from clip-benchmark, whose words name what is retrieved."""
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
            HandsThrough(), loader, lambda rows: texts[list(rows)], images.device.type, amp=False, recall_k_list=list(K)
        )


class HandsThrough:
    """A model whose inputs are embeddings already."""

    def encode_image(self, rows: "Tensor") -> "Tensor":
        return rows

    encode_text = encode_image


def table(found: dict[str, Any], peaks: dict[str, int], plan: Plan) -> list[str]:
    """What was measured, as Markdown."""
    times = Times(found["seconds"])
    texts = plan.images * PER_IMAGE
    return [
        f"{plan.images:,} images × {texts:,} texts in {plan.width} dimensions, recall at {K} in both directions, "
        f"on {plan.device}; medians, ratio with quartiles.",
        "",
        row(["", "clip-benchmark", "ours", "ratio"]),
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
        f"Figures are at most {found['apart']:.1g} apart; recall at 1 is "
        f"{found['recall']['text_retrieval_recall@1']:.3f} for images and "
        f"{found['recall']['image_retrieval_recall@1']:.3f} for texts.",
    ]


def record(found: dict[str, Any], peaks: dict[str, int], plan: Plan, load: float) -> dict[str, Any]:
    """What the last line holds; `load` is the machine's load average before, of whatever else ran."""
    times = Times(found["seconds"])
    figures = {
        "images": plan.images,
        "texts": plan.images * PER_IMAGE,
        "width": plan.width,
        "peer_seconds": times.median("peer"),
        "ours_seconds": times.median("ours"),
        "ratio_quartiles": times.quartiles("peer", "ours"),
        "peer_peak_bytes": peaks["peer"],
        "ours_peak_bytes": peaks["ours"],
        "apart": found["apart"],
    }
    ratios = {"time": times.ratio("peer", "ours"), "memory": peaks["peer"] / peaks["ours"]}
    return last_line("scoring", ratios, figures, plan.device, found["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
