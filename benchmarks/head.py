"""Measure how fast ImageNet's zero-shot head is computed, compared with clip-benchmark.

    python benchmarks/head.py [--quick] [--device cuda] [--out results/speed.md]

A ViT-B/32 with random weights, ImageNet's class names and OpenAI's 80 templates: the first 50 classes on a CPU (5 with
--quick), all 1,000 on a GPU (200 with --quick). The time goes from texts to class weights and includes tokenization.
The peer is clip-benchmark's own `zero_shot_classifier`, which encodes one class after the other, with padding. Both
must give the same weights to 1e-4 (less in mixed precision), or the exit code is 1. The ratio is the median over
repetitions. The last line printed is JSON.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.output import last_line, ratio, row
from benchmarks.peers.mixed import check_mixed
from benchmarks.processes import run_in_processes
from benchmarks.speed_page import print_and_write
from benchmarks.studies.imagenet_words import first_words
from benchmarks.timing import Times, take_turns
from cosmos_core.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from cosmos_eval.models.open_clip import OpenClipModel

SAME = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 3e-2}
"""Largest difference that is allowed for a value of the class weights, which have unit length."""
CLASSES = 1000


@dataclass(frozen=True)
class HeadPlan:
    """Sizes of the benchmark."""

    classes: int
    repetitions: int
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int = 64
    model: str = "ViT-B-32"
    config: dict[str, Any] | None = None
    """open_clip's configuration, for a model that is not in its registry."""


FULL, QUICK = HeadPlan(classes=50, repetitions=3), HeadPlan(classes=5, repetitions=3)
GPU, GPU_QUICK = replace(FULL, classes=CLASSES, repetitions=5), replace(QUICK, classes=200)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer classes: about a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", choices=list(SAME), help="precision on both sides")
    parser.add_argument("--classes", type=int, help="use the first N classes", metavar="N")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine has cores")
    parser.add_argument("--out", type=Path, help="also write a section of this page")
    options = parser.parse_args(arguments)
    quick = options.quick
    plan = (QUICK if quick else FULL) if options.device == "cpu" else (GPU_QUICK if quick else GPU)
    plan = replace(plan, device=options.device, precision=options.precision, classes=options.classes or plan.classes)
    load = os.getloadavg()[0]
    try:
        if not 1 <= plan.classes <= CLASSES:
            raise RequestError(f"--classes {plan.classes}: ImageNet has {CLASSES:,}")
        check_mixed(plan.precision, plan.device)
        measured = run_in_processes([1], "benchmarks.head:measure", plan, threads=options.threads)[1]
    except RequestError as error:
        print(f"head: {error}", file=sys.stderr)
        return 2
    difference = measured["largest_difference"]
    if not difference <= SAME[plan.precision]:
        print(f"head: class weights differ by {difference:.2g}, so no times are compared", file=sys.stderr)
        return 1
    print_and_write("Zero-shot head", table(measured, plan), record(measured, plan, load), options.out, arguments)
    return 0


def measure(world: Any, plan: HeadPlan) -> dict[str, Any]:
    """Run both sides in turns: seconds, the largest difference of the weights, and the tokens that each encoded."""
    import torch

    from benchmarks.random_model import random_model

    model = random_model(plan.model, plan.device, plan.config)
    names, templates = first_words(plan.classes)
    ours, peer = our_head(model, names, templates, plan), peer_head(model, names, templates, plan)
    arms = {
        "peer": partial(peer_head, model, names, templates, plan),
        "ours": partial(our_head, model, names, templates, plan),
    }
    times = take_turns(arms, plan.repetitions, world, warm_up=0)  # the comparison was the warm-up
    prompts = [template.format(c=name) for name in names for template in templates]
    text = model.trimmed_text
    assert text is not None
    tokens = text.tokens(prompts)
    lengths = dict(zip(tokens.contents(), tokens.lengths.tolist(), strict=True))
    return {
        "seconds": times.seconds,
        "largest_difference": float((ours - peer).abs().max()),
        "prompts": len(prompts),
        "distinct_prompts": len(lengths),
        "peer_tokens": len(prompts) * text.context_length,
        "read_tokens": sum(lengths.values()),
        "threads": torch.get_num_threads(),
    }


def our_head(model: "OpenClipModel", names: list[str], templates: list[str], plan: HeadPlan) -> "Tensor":
    """Return (C, D) class weights of cosmos-eval, from a new engine without cached features."""
    from cosmos_eval.engine import Engine
    from cosmos_eval.tasks.prompts import build_class_embeddings

    engine = Engine(model, batch_size=plan.batch_size, precision=plan.precision)
    return build_class_embeddings(engine, names, templates).cpu()


def peer_head(model: "OpenClipModel", names: list[str], templates: list[str], plan: HeadPlan) -> "Tensor":
    """Return (C, D) class weights of clip-benchmark, on the same network with open_clip's own tokenizer."""
    import contextlib
    import io

    from clip_benchmark.metrics.zeroshot_classification import zero_shot_classifier

    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        weights = zero_shot_classifier(
            model.network, model.tokenizer, names, templates, model.device.type, amp=plan.precision != "fp32"
        )
    return weights.T.float().cpu()


def table(measured: dict[str, Any], plan: HeadPlan) -> list[str]:
    """Return the lines of the Markdown text."""
    times = Times(measured["seconds"])
    classes = "all 1,000 classes" if plan.classes == CLASSES else f"the first {plan.classes} of 1,000 classes"
    per_second = [f"{measured['prompts'] / times.median(arm):,.0f}" for arm in ("peer", "ours")]
    return [
        f"Zero-shot head of {plan.model}, {classes}, {measured['prompts']:,} prompts, in {plan.precision} "
        f"on {plan.device}; medians, ratio with quartiles.",
        "",
        row(["", "clip-benchmark", "cosmos-eval", "ratio"]),
        row(["---"] * 4),
        row(["seconds", f"{times.median('peer'):.2f}", f"{times.median('ours'):.2f}", ratio(times, "peer")]),
        row(["prompts per second", *per_second, ""]),
        row(
            [
                "tokens through the tower",
                f"{measured['peer_tokens']:,}",
                f"{measured['read_tokens']:,}",
                f"{measured['peer_tokens'] / measured['read_tokens']:.2f}",
            ]
        ),
        "",
        f"Weights differ by at most {measured['largest_difference']:.1g}. "
        f"{measured['distinct_prompts']:,} prompts are distinct.",
    ]


def record(measured: dict[str, Any], plan: HeadPlan, load: float) -> dict[str, Any]:
    """Return the record of the last line; `load` is the load average of the machine before the start."""
    times = Times(measured["seconds"])
    figures = {
        "classes": plan.classes,
        **{
            key: measured[key]
            for key in ("prompts", "distinct_prompts", "peer_tokens", "read_tokens", "largest_difference")
        },
        "peer_seconds": times.median("peer"),
        "ours_seconds": times.median("ours"),
        "ratio_quartiles": times.quartiles("peer", "ours"),
        "precision": plan.precision,
        "batch_size": plan.batch_size,
    }
    ratios = {"head": times.ratio("peer", "ours")}
    return last_line("head", ratios, figures, plan.device, measured["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
