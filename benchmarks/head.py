"""How fast ImageNet's zero-shot head is made beside clip-benchmark, which passes class after class, padding included.

    python benchmarks/head.py [--quick] [--device cuda] [--out results/speed.md]

A ViT-B/32 with random weights, ImageNet's class names, OpenAI's 80 templates: the first 50 classes on a CPU (5 with
--quick), all 1,000 on a GPU (200 with --quick). From words to class weights, tokenizing included. The peer is
clip-benchmark's own `zero_shot_classifier`. Both must give the same weights to 1e-4 (in mixed precision to what that
holds), or the exit code is 1. The ratio is the median over repetitions. Prints one JSON line last.
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

from benchmarks.peers.mixed import check_mixed
from benchmarks.printed import last_line, ratio, row
from benchmarks.speed_page import tell
from benchmarks.studies.imagenet_words import first_words
from benchmarks.timing import Times, take_turns
from benchmarks.worlds import run_in_worlds
from cosmos_core.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from cosmos_eval.models.open_clip import OpenClipModel

SAME = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 3e-2}
"""What any number of a class's weights, of unit length, may differ by."""
CLASSES = 1000


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    classes: int
    repetitions: int
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int = 64
    model: str = "ViT-B-32"
    config: dict[str, Any] | None = None
    """open_clip's configuration where the model is not one of its own."""


FULL, QUICK = Plan(classes=50, repetitions=3), Plan(classes=5, repetitions=3)
GPU, GPU_QUICK = replace(FULL, classes=CLASSES, repetitions=5), replace(QUICK, classes=200)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer classes: about a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", choices=list(SAME), help="of both")
    parser.add_argument("--classes", type=int, help="the first so many")
    parser.add_argument("--threads", type=int, default=0, help="0: the machine's cores")
    parser.add_argument("--out", type=Path, help="write a section of this page as well")
    chosen = parser.parse_args(arguments)
    quick = chosen.quick
    plan = (QUICK if quick else FULL) if chosen.device == "cpu" else (GPU_QUICK if quick else GPU)
    plan = replace(plan, device=chosen.device, precision=chosen.precision, classes=chosen.classes or plan.classes)
    load = os.getloadavg()[0]
    try:
        if not 1 <= plan.classes <= CLASSES:
            raise RequestError(f"--classes {plan.classes}: ImageNet has {CLASSES:,}")
        check_mixed(plan.precision, plan.device)
        found = run_in_worlds([1], "benchmarks.head:measure", plan, threads=chosen.threads)[1]
    except RequestError as error:
        print(f"head: {error}", file=sys.stderr)
        return 2
    if not found["apart"] <= SAME[plan.precision]:
        print(f"head: class weights differ by {found['apart']:.2g}, so no times are compared", file=sys.stderr)
        return 1
    tell("Zero-shot head", table(found, plan), record(found, plan, load), chosen.out, arguments)
    return 0


def measure(world: Any, plan: Plan) -> dict[str, Any]:
    """Both sides in turns: seconds, how far their weights are apart, how many tokens each passed."""
    import torch

    from benchmarks.random_model import random_model

    model = random_model(plan.model, plan.device, plan.config)
    names, templates = first_words(plan.classes)
    ours, peer = our_head(model, names, templates, plan), peer_head(model, names, templates, plan)
    arms = {
        "peer": partial(peer_head, model, names, templates, plan),
        "ours": partial(our_head, model, names, templates, plan),
    }
    times = take_turns(arms, plan.repetitions, world, warm_up=0)  # warmed up by the comparison
    prompts = [template.format(c=name) for name in names for template in templates]
    text = model.trimmed_text
    assert text is not None
    tokens = text.tokens(prompts)
    lengths = dict(zip(tokens.contents(), tokens.lengths.tolist(), strict=True))
    return {
        "seconds": times.seconds,
        "apart": float((ours - peer).abs().max()),
        "prompts": len(prompts),
        "distinct_prompts": len(lengths),
        "peer_tokens": len(prompts) * text.context_length,
        "read_tokens": sum(lengths.values()),
        "threads": torch.get_num_threads(),
    }


def our_head(model: "OpenClipModel", names: list[str], templates: list[str], plan: Plan) -> "Tensor":
    """(C, D), by an engine that knows nothing yet."""
    from cosmos_eval.engine import Engine
    from cosmos_eval.tasks.prompts import class_weights

    engine = Engine(model, batch_size=plan.batch_size, precision=plan.precision)
    return class_weights(engine, names, templates).cpu()


def peer_head(model: "OpenClipModel", names: list[str], templates: list[str], plan: Plan) -> "Tensor":
    """(C, D), by clip-benchmark on the same network with open_clip's own tokenizer."""
    import contextlib
    import io

    from clip_benchmark.metrics.zeroshot_classification import zero_shot_classifier

    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        weights = zero_shot_classifier(
            model.network, model.tokenizer, names, templates, model.device.type, amp=plan.precision != "fp32"
        )
    return weights.T.float().cpu()


def table(found: dict[str, Any], plan: Plan) -> list[str]:
    """What was measured, as Markdown."""
    times = Times(found["seconds"])
    whose = "all 1,000 classes" if plan.classes == CLASSES else f"the first {plan.classes} of 1,000 classes"
    per_second = [f"{found['prompts'] / times.median(arm):,.0f}" for arm in ("peer", "ours")]
    return [
        f"Zero-shot head of {plan.model}, {whose}, {found['prompts']:,} prompts, in {plan.precision} on {plan.device}; "
        "medians, ratio with quartiles.",
        "",
        row(["", "clip-benchmark", "ours", "ratio"]),
        row(["---"] * 4),
        row(["seconds", f"{times.median('peer'):.2f}", f"{times.median('ours'):.2f}", ratio(times, "peer")]),
        row(["prompts a second", *per_second, ""]),
        row(
            [
                "tokens through the tower",
                f"{found['peer_tokens']:,}",
                f"{found['read_tokens']:,}",
                f"{found['peer_tokens'] / found['read_tokens']:.2f}",
            ]
        ),
        "",
        f"Weights are at most {found['apart']:.1g} apart. {found['distinct_prompts']:,} prompts are distinct.",
    ]


def record(found: dict[str, Any], plan: Plan, load: float) -> dict[str, Any]:
    """What the last line holds; `load` is the machine's load average before, of whatever else ran."""
    times = Times(found["seconds"])
    figures = {
        "classes": plan.classes,
        **{key: found[key] for key in ("prompts", "distinct_prompts", "peer_tokens", "read_tokens", "apart")},
        "peer_seconds": times.median("peer"),
        "ours_seconds": times.median("ours"),
        "ratio_quartiles": times.quartiles("peer", "ours"),
        "precision": plan.precision,
        "batch_size": plan.batch_size,
    }
    ratios = {"head": times.ratio("peer", "ours")}
    return last_line("head", ratios, figures, plan.device, found["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
