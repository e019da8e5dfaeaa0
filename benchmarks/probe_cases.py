"""What `probe.py` runs: the whole search of a linear probe's regularisation and the last fit, on three sides."""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import take_turns
from cosmos_eval.datasets.substitution import substituted

PEER, SKLEARN, OURS = "peer", "scikit-learn", "ours"
CLIP_BENCHMARK = {"lr": 0.1, "epochs": 10, "batch_size": 64, "seed": 0}
"""Defaults of `clip_benchmark eval --task linear_probe`."""


@dataclass(frozen=True)
class ProbePlan:
    """Sizes of the benchmark."""

    train: int
    val: int
    test: int
    dimensions: int
    classes: int
    repetitions: int = 1
    device: str = "cpu"
    noise: float = 0.7
    """Spread of the images of a class, relative to that of the classes."""
    signal: int = 2
    """Power of the spectrum for the means of the classes. 2: classes differ most where features vary most. 1: equally
    in all directions once features are whitened, which AdamW's scaling of each weight favours, and L2 does not."""
    with_sklearn: bool = True


@dataclass(frozen=True)
class Part:
    """Features (N, D) float32 of unit length, and labels (N,) int64."""

    features: Tensor
    labels: Tensor


QUICK = ProbePlan(train=1_000, val=500, test=10_000, dimensions=128, classes=20)
MODERATE = ProbePlan(train=4_000, val=1_000, test=10_000, dimensions=256, classes=100)
FULL = ProbePlan(train=50_000, val=5_000, test=10_000, dimensions=512, classes=1_000)


def make_parts(plan: ProbePlan) -> dict[str, Part]:
    """Make train, val and test: normal clouds around a mean for each class, with the decaying spectrum of embeddings.

    All images share a large mean. `plan.signal` says in which directions the classes differ.
    """
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    spectrum = torch.arange(1, plan.dimensions + 1).float().pow(-0.5)
    means, common = draw(plan.classes, plan.dimensions) * spectrum**plan.signal, 2 * draw(plan.dimensions) * spectrum
    parts = {}
    for name in ("train", "val", "test"):
        n = getattr(plan, name)
        labels = torch.arange(n) % plan.classes
        samples = means[labels] + plan.noise * draw(n, plan.dimensions) * spectrum + common
        parts[name] = Part(torch.nn.functional.normalize(samples, dim=1).to(plan.device), labels)
    return parts


def measure(world: Any, plan: ProbePlan) -> dict[str, Any]:
    """Run all sides in turns: seconds, test accuracy, and what each chose."""
    parts = make_parts(plan)
    sides: dict[str, Callable[[dict[str, Part], ProbePlan], tuple[float, dict[str, Any]]]] = {PEER: peer, OURS: ours}
    if plan.with_sklearn:
        sides[SKLEARN] = scikit_learn
    warm_up = {name: Part(part.features[:200], part.labels[:200] % 2) for name, part in parts.items()}
    ours(warm_up, plan)  # threads, kernels and imports
    found: dict[str, tuple[float, dict[str, Any]]] = {}

    def turn(side: str) -> None:
        found[side] = sides[side](parts, plan)

    times = take_turns({side: partial(turn, side) for side in sides}, plan.repetitions, world, warm_up=0)
    return {
        "seconds": times.seconds,
        "accuracy": {side: accuracy for side, (accuracy, _) in found.items()},
        "chosen": {side: chosen for side, (_, chosen) in found.items()},
        "threads": torch.get_num_threads(),
    }


def ours(parts: dict[str, Part], plan: ProbePlan) -> tuple[float, dict[str, Any]]:
    """Return the test accuracy of the task `probe`, as its `run` computes it from features."""
    from cosmos_eval.metrics.accuracy import expected_topk
    from cosmos_eval.progress import Silent
    from cosmos_eval.tasks.probe.measure import Samples, fit_linear, join, rank

    train, val, test = (Samples(parts[name].features, parts[name].labels.numpy()) for name in ("train", "val", "test"))
    search, classifier, known = fit_linear(train, val, join(train, val), Silent())
    counts = rank(test, classifier, known, int(parts["train"].labels.max()) + 1)
    chosen = {"strength": search.strength, "trials": len(search.accuracies)}
    return float(expected_topk(counts, 1).mean()), chosen


def peer(parts: dict[str, Part], plan: ProbePlan) -> tuple[float, dict[str, Any]]:
    """Return the test accuracy of clip-benchmark's linear probe.

    These are the steps of its `evaluate` from the features on, with its own functions. It insists on CUDA; on a CPU
    its calls of `.cuda()` do nothing here.
    """
    from clip_benchmark.metrics.linear_probe import FeatureDataset, find_peak, infer, train
    from torch.utils.data import DataLoader

    lr, epochs, seed = (CLIP_BENCHMARK[name] for name in ("lr", "epochs", "seed"))
    size, classes = parts["train"].features.shape[1], int(parts["train"].labels.max()) + 1
    with on_device(plan.device), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        loaders = {}
        cpu = {name: (part.features.cpu(), part.labels.cpu()) for name, part in parts.items()}
        cpu["both"] = tuple(torch.cat(pair) for pair in zip(cpu["train"], cpu["val"], strict=True))  # type: ignore[assignment]
        for name, samples in cpu.items():
            dataset = FeatureDataset(*samples)
            loaders[name] = DataLoader(dataset, batch_size=CLIP_BENCHMARK["batch_size"], shuffle=True)
        trials = 0

        def find(wd_list: Sequence[float], indices: Sequence[int]) -> int:
            nonlocal trials
            trials += len(indices)
            best: int = find_peak(
                wd_list, indices, loaders["train"], loaders["val"], size, classes, lr, epochs, False, plan.device,
                False, seed,
            )  # fmt: skip
            return best

        strengths = np.logspace(-6, 2, num=97).tolist()
        first = np.logspace(-6, 2, num=7).tolist()
        peak = find(strengths, [i for i, strength in enumerate(strengths) if strength in first])
        span = 8
        while span > 0:
            peak = find(strengths, [max(peak - span, 0), peak, min(peak + span, len(strengths) - 1)])
            span //= 2
        model = train(loaders["both"], size, classes, strengths[peak], lr, epochs, False, plan.device, seed)
        logits, target = infer(model, loaders["test"], False, plan.device)
    accuracy = float((logits.argmax(1) == target).double().mean())
    return accuracy, {"weight_decay": strengths[peak], "trials": trials}


@contextlib.contextmanager
def on_device(device: str) -> Iterator[None]:
    """Inside the block, `.cuda()` of tensors and modules does nothing if the device is a CPU."""
    if device != "cpu":
        yield
        return
    stay = lambda self, *args, **kwargs: self  # noqa: E731
    with substituted(torch.Tensor, "cuda", stay), substituted(torch.nn.Module, "cuda", stay):
        yield


def scikit_learn(parts: dict[str, Part], plan: ProbePlan) -> tuple[float, dict[str, Any]]:
    """Return the test accuracy of scikit-learn's L-BFGS, with our search and its own defaults, but 1,000 iterations."""
    import warnings

    from sklearn.linear_model import LogisticRegression

    from cosmos_eval.metrics.strength_search import FIRST_STEP, STRENGTHS

    arrays = {name: (part.features.cpu().numpy(), part.labels.cpu().numpy()) for name, part in parts.items()}
    accuracies: dict[int, float] = {}

    def fit(strength: float, *names: str) -> LogisticRegression:
        x, y = (np.concatenate([arrays[name][side] for name in names]) for side in (0, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what has not converged after 1,000 iterations counts as it is
            return LogisticRegression(C=1 / strength, max_iter=1000).fit(x, y)

    def look(indices: Sequence[int]) -> int:
        for i in indices:
            if 0 <= i < len(STRENGTHS) and i not in accuracies:
                accuracies[i] = fit(STRENGTHS[i], "train").score(*arrays["val"])
        return max(accuracies, key=lambda i: (accuracies[i], i))

    best = look(range(0, len(STRENGTHS), FIRST_STEP))
    step = FIRST_STEP // 2
    while step:
        best = look([best - step, best + step])
        step //= 2
    accuracy = float(fit(STRENGTHS[best], "train", "val").score(*arrays["test"]))
    return accuracy, {"strength": STRENGTHS[best], "trials": len(accuracies)}
