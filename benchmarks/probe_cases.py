"""What `probe.py` runs: the whole search of a linear probe's regularisation and the last fit, on three sides."""

import contextlib
import io
import time
import warnings
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
CLIP_BENCHMARK = {"lr": 0.1, "epochs": 10, "seed": 0}
CLIP_BENCHMARK_BATCH = 64
"""Defaults of `clip_benchmark eval --task linear_probe`."""
KEYS = ("features", "labels")


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
    sklearn_searches: bool = True
    """Or scikit-learn makes the last fit only, at the strength that we have chosen."""


@dataclass(frozen=True)
class Part:
    """Features (N, D) float32 of unit length, and labels (N,) int64."""

    features: Tensor
    labels: Tensor


QUICK = ProbePlan(train=1_000, val=500, test=10_000, dimensions=128, classes=20)
MODERATE = ProbePlan(train=4_000, val=1_000, test=10_000, dimensions=256, classes=100)
FULL = ProbePlan(
    train=50_000, val=5_000, test=10_000, dimensions=512, classes=1_000, sklearn_searches=False
)  # the search would take scikit-learn many hours


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
    if plan.with_sklearn and plan.sklearn_searches:
        sides[SKLEARN] = scikit_learn
    warm_up = {name: Part(part.features[:200], part.labels[:200] % 2) for name, part in parts.items()}
    ours(warm_up, plan)  # threads, kernels and imports
    found: dict[str, tuple[float, dict[str, Any]]] = {}

    def turn(side: str) -> None:
        found[side] = sides[side](parts, plan)

    times = take_turns({side: partial(turn, side) for side in sides}, plan.repetitions, world, warm_up=0)
    last_fit = None
    if plan.with_sklearn and not plan.sklearn_searches:
        last_fit = compare_last_fits(parts, found[OURS][1]["strength"])
    return {
        "last_fit": last_fit,
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
    """Return the test accuracy of clip-benchmark's linear probe."""
    model, chosen = fit_clip_benchmark(parts, plan)
    test = parts["test"]
    with on_device(plan.device), torch.no_grad():
        predictions = model(test.features).argmax(1).cpu()
    return float((predictions == test.labels).double().mean()), chosen


def fit_clip_benchmark(parts: dict[str, Part], plan: ProbePlan) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Search clip-benchmark's strength, and return its final model and what it chose.

    These are the steps of its `evaluate` from the features on, with its own functions. It insists on CUDA; on a CPU
    its calls of `.cuda()` do nothing here.
    """
    from clip_benchmark.metrics.linear_probe import FeatureDataset, find_peak, train
    from torch.utils.data import DataLoader

    lr, epochs, seed = (CLIP_BENCHMARK[name] for name in ("lr", "epochs", "seed"))
    size, classes = parts["train"].features.shape[1], int(parts["train"].labels.max()) + 1
    with on_device(plan.device), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        loaders = {}
        cpu = {name: (part.features.cpu(), part.labels.cpu()) for name, part in parts.items()}
        cpu["both"] = tuple(torch.cat(pair) for pair in zip(cpu["train"], cpu["val"], strict=True))  # type: ignore[assignment]
        for name, samples in cpu.items():
            dataset = FeatureDataset(*samples)
            loaders[name] = DataLoader(dataset, batch_size=CLIP_BENCHMARK_BATCH, shuffle=True)
        fitted: list[int] = []

        def find(wd_list: Sequence[float], indices: Sequence[int]) -> int:
            fitted.extend(indices)
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
    return model, {"weight_decay": strengths[peak], "trials": len(fitted), "repeated": len(fitted) - len(set(fitted))}


@contextlib.contextmanager
def on_device(device: str) -> Iterator[None]:
    """Inside the block, `.cuda()` of tensors and modules does nothing if the device is a CPU."""
    if device != "cpu":
        yield
        return
    stay = lambda self, *args, **kwargs: self  # noqa: E731
    with substituted(torch.Tensor, "cuda", stay), substituted(torch.nn.Module, "cuda", stay):
        yield


def compare_last_fits(parts: dict[str, Part], strength: float) -> dict[str, Any]:
    """Fit train and validation features at one strength, without a start, by us and by scikit-learn.

    Returns:
        By side `seconds`, `iterations`, `objective` (mean over samples, in nats, computed in float64) and `accuracy` on
        the test features; `excess`, the objective of scikit-learn minus ours; `difference`, the largest one of the
        coefficients; and `largest`, the largest of ours.
    """
    from cosmos_eval.metrics.linear_scores import LinearClassifier
    from cosmos_eval.tasks.probe.measure import Samples, fit_last

    features, labels = (torch.cat([getattr(parts[name], key) for name in ("train", "val")]) for key in KEYS)

    def fit_ours() -> tuple[LinearClassifier, int]:
        fits = fit_last(Samples(features, labels.numpy()), strength)
        return LinearClassifier(fits.coefficients[0].cpu(), fits.intercepts[0].cpu()), int(fits.iterations[0])

    def fit_sklearn() -> tuple[LinearClassifier, int]:
        fitted = fit_scikit_learn(features.cpu().numpy(), labels.numpy(), strength)
        coefficients, intercepts = torch.from_numpy(fitted.coef_.T), torch.from_numpy(fitted.intercept_)
        return LinearClassifier(coefficients, intercepts), int(fitted.n_iter_[0])

    sides = {OURS: fit_ours, SKLEARN: fit_sklearn}
    found: dict[str, Any] = {"strength": strength}
    classifiers = {}
    for side, fit in sides.items():
        began = time.perf_counter()
        classifiers[side], iterations = fit()
        seconds = time.perf_counter() - began
        scores = parts["test"].features.cpu() @ classifiers[side].coefficients.float() + classifiers[side].intercepts
        found[side] = {
            "seconds": seconds,
            "iterations": iterations,
            "objective": compute_objective(classifiers[side], features.cpu(), labels, strength),
            "accuracy": float((scores.argmax(1) == parts["test"].labels).double().mean()),
        }
    ours, peer = (classifiers[side].coefficients.double() for side in (OURS, SKLEARN))
    return {
        **found,
        "excess": found[SKLEARN]["objective"] - found[OURS]["objective"],
        "difference": float((ours - peer).abs().max()),
        "largest": float(ours.abs().max()),
    }


def compute_objective(classifier: Any, features: Tensor, labels: Tensor, strength: float, block: int = 4096) -> float:
    """Return the mean cross-entropy plus the penalty, in float64."""
    coefficients, intercepts = classifier.coefficients.double(), classifier.intercepts.double()
    total = strength / 2 * float(coefficients.square().sum())
    for samples, truth in zip(features.split(block), labels.split(block), strict=True):
        logits = samples.double() @ coefficients + intercepts
        total += float(torch.nn.functional.cross_entropy(logits, truth, reduction="sum"))
    return total / len(features)


def scikit_learn(parts: dict[str, Part], plan: ProbePlan) -> tuple[float, dict[str, Any]]:
    """Return the test accuracy of scikit-learn's L-BFGS, with our search and its own defaults, but 1,000 iterations."""
    from cosmos_eval.metrics.strength_search import FIRST_STEP, STRENGTHS

    arrays = {name: (part.features.cpu().numpy(), part.labels.cpu().numpy()) for name, part in parts.items()}
    accuracies: dict[int, float] = {}

    def fit(strength: float, *names: str) -> Any:
        x, y = (np.concatenate([arrays[name][side] for name in names]) for side in (0, 1))
        return fit_scikit_learn(x, y, strength)

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


def fit_scikit_learn(features: np.ndarray, labels: np.ndarray, strength: float) -> Any:
    """Return scikit-learn's fit with its own defaults, but 1,000 iterations."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what has not converged after 1,000 iterations counts as it is
        return LogisticRegression(C=1 / strength, max_iter=1000).fit(features, labels)
