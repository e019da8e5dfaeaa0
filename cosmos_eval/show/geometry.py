"""Geometry of a model's embeddings on a benchmark, and whether its probabilities can be believed (`show geometry`)."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosmos_core.collapse import alignment, uniformity
from cosmos_core.files import atomic_write_text
from cosmos_core.printable import plural
from cosmos_eval.datasets import with_fingerprint
from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.datasets.kinds import CLASSIFICATION, RETRIEVAL
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.calibration import Reliability, reliability, top_predictions
from cosmos_eval.metrics.detection_interval import detection_intervals
from cosmos_eval.metrics.embedding_geometry import effective_rank, modality_gap, singular_value_shares
from cosmos_eval.metrics.out_of_distribution import auroc, fpr_at_recall
from cosmos_eval.models.abilities import read_facts
from cosmos_eval.models.preflight import require_models
from cosmos_eval.progress import Reporter, use_reporter
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.report.curves import save
from cosmos_eval.results.portable import portable_spec
from cosmos_eval.run.options import RunOptions
from cosmos_eval.show.class_predictions import confused_pairs, predict
from cosmos_eval.show.geometry_embeddings import PairedEmbeddings, Shown, encode_pairs
from cosmos_eval.show.geometry_figure import Drawn, geometry_figure
from cosmos_eval.show.geometry_intervals import (
    MOST_FOR_UNIFORMITY,
    Interval,
    as_lists,
    calibration_intervals,
    confusion_interval,
    embedding_intervals,
    for_uniformity,
)
from cosmos_eval.show.opening import CacheChoice, describe_cache, open_engine, read_data
from cosmos_eval.tasks.class_table import distinguish_names

CONFUSED = 10
"""Most confused pairs of classes."""

KINDS = (RETRIEVAL, CLASSIFICATION)


@dataclass(frozen=True)
class Geometry:
    """What was computed and written."""

    figures: dict[str, float]
    """Name -> value, in the order to show them."""
    intervals: dict[str, Interval]
    """Name -> 95 % interval, of all but counts, the logit scale, and figures of classes alone."""
    confused: list[dict[str, Any]]
    """For classification, the most confused pairs: `true`, `predicted`, and `images` in expectation under ties, with
    `low` and `high`."""
    files: dict[str, Path]
    """What it shows -> its file."""
    remarks: tuple[str, ...]


def show_geometry(
    spec: str,
    benchmark: str | Path,
    out: Path,
    data_root: Path | None = None,
    *,
    against: str | Path | None = None,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
    cache: CacheChoice | None = None,
) -> Geometry:
    """Write `geometry.png` and `geometry.json` of a retrieval or classification benchmark.

    Texts are the captions, or the embeddings of the classes. Pairs are images with their captions, or with their class.
    Confidence is that of each image's first class, or of each caption's first image, at the model's own logit scale.

    Args:
        against: another retrieval or classification benchmark, whose images are out of distribution. They are
            detected by the highest score with any text, and with classes also by the highest probability.
        cache: the feature cache that is used; none by default.

    Raises:
        RequestError: a benchmark of another kind, missing data, or a model without one embedding for each input.
    """
    require_models([spec], fetch=True)
    definition, data = read_data(benchmark, KINDS, data_root, reporter, "geometry")
    data = with_fingerprint(data, reporter=reporter)  # images keep their digests: the engine does not read them again
    assert isinstance(data, Shown)
    other = None
    if against is not None:
        outside, outside_data = read_data(against, KINDS, data_root, reporter, "geometry")
        other = outside, with_fingerprint(outside_data, reporter=reporter)
    cache = cache or CacheChoice(None)
    engine = open_engine(spec, options or RunOptions(), cache, reporter)
    engine.start_benchmark(definition.name)
    prepared = encode_pairs(engine, data, definition)
    scale = read_facts(engine.model).get("logit_scale")
    remarks: list[str] = []
    figures = _geometry_figures(prepared, remarks)
    with use_reporter(reporter):
        intervals = embedding_intervals(prepared)
    bins, bin_intervals = None, np.zeros((0, 2))
    if scale:
        predictions = top_predictions(prepared.queries, prepared.right, float(scale))
        bins = reliability(predictions.confidence, predictions.correct)
        figures |= {
            "logit_scale": float(scale),
            "expected_calibration_error": bins.error,
            "mean_confidence": float(predictions.confidence.mean()),
            "accuracy": float(predictions.correct.mean()),
        }
        with use_reporter(reporter):
            of_calibration, bin_intervals = calibration_intervals(prepared, predictions)
        intervals |= of_calibration
    else:
        remarks.append("the model does not say its logit scale: no calibration, and no probabilities")
    ood = None
    if other is not None:
        of_benchmark = {image.digest() for image in data.images}
        shared = sum(image.digest() in of_benchmark for image in other[1].images)
        if shared:
            verb = "is" if shared == 1 else "are"
            of_all = plural(len(other[1].images), "image")
            remarks.append(f"{shared:,} of {of_all} of {other[0].name} {verb} in {definition.name}, too")
        with use_reporter(reporter):
            ood = _out_of_distribution(engine, prepared, other, scale, figures, intervals)
    # bounds and value are computed in different ways: rounding must not put them in another order
    intervals = {name: (min(low, figures[name]), max(high, figures[name])) for name, (low, high) in intervals.items()}
    confused = _confused(data, prepared)
    title = f"{portable_spec(spec)} on {definition.name}"
    files = {"Figure": out / "geometry.png", "Values": out / "geometry.json"}
    modalities = {"images": prepared.images, "texts": prepared.texts}
    drawn = Drawn(
        prepared.matching,
        prepared.shuffled,
        {name: singular_value_shares(features).numpy() for name, features in modalities.items()},
        bins,
        bin_intervals,
        ood,
        other[0].name if other else "",
    )
    save(geometry_figure(drawn, figures, intervals, title), files["Figure"])
    finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    values = {
        "model": portable_spec(spec),
        "digest": engine.model.digest,
        "precision": engine.precision,
        "benchmark": definition.name,
        "protocol": definition.fingerprint,
        "dataset": data.fingerprint,
        "figures": finite,
        "intervals": as_lists(intervals),
        "confused": confused,
    }
    if other is not None:
        values["against"] = other[0].name
    if bins is not None:
        values["reliability"] = _bins_as_json(bins, bin_intervals)
    atomic_write_text(files["Values"], json.dumps(values, indent=1, allow_nan=False) + "\n")
    remarks.append(describe_cache(cache, engine))
    return Geometry(figures, intervals, confused, files, tuple(filter(None, remarks)))


def _geometry_figures(prepared: PairedEmbeddings, remarks: list[str]) -> dict[str, float]:
    """Gap, alignment, uniformity and effective rank."""
    images, texts = prepared.images.float().cpu(), prepared.texts.float().cpu()
    image_index, text_index = torch.from_numpy(prepared.pairs[:, 0]), torch.from_numpy(prepared.pairs[:, 1])
    spread = [part[torch.from_numpy(for_uniformity(part))] for part in (images, texts)]
    if max(len(images), len(texts)) > MOST_FOR_UNIFORMITY:
        remarks.append(f"uniformity uses {MOST_FOR_UNIFORMITY:,} embeddings of each modality, spread evenly")
    return {
        "images": len(images),
        "texts": len(texts),
        "dimensions": images.shape[1],
        "modality_gap": modality_gap(images, texts),
        "alignment": alignment(images[image_index], texts[text_index]),
        "uniformity_images": uniformity(spread[0]),
        "uniformity_texts": uniformity(spread[1]),
        "effective_rank_images": effective_rank(images),
        "effective_rank_texts": effective_rank(texts),
        "matching_similarity": float(prepared.matching.mean()),
        "other_similarity": float(prepared.shuffled.mean()) if len(prepared.shuffled) else float("nan"),
    }


def _out_of_distribution(
    engine: Engine,
    prepared: PairedEmbeddings,
    other: tuple[Benchmark, Any],
    scale: float | None,
    figures: dict[str, float],
    intervals: dict[str, Interval],
) -> tuple[np.ndarray, np.ndarray]:
    """Add the figures of telling the images from those of another benchmark; returns what the picture draws."""
    from cosmos_eval.engine.embedding_scores import DotProductScores

    _, data = other
    outside_features = engine.image_features(data.images)
    outside = DotProductScores(outside_features, prepared.texts.to(outside_features.device)).image_to_text()
    no_pairs = np.zeros((0, 2), dtype=np.int64)
    unit = float(scale) if scale else 1.0
    inside_top = top_predictions(prepared.of_images, no_pairs, unit)
    outside_top = top_predictions(outside, no_pairs, unit)
    figures["ood_images"] = len(data.images)
    kinds = {"score": (inside_top.score, outside_top.score)}
    if scale and prepared.of_images is prepared.queries:  # of classes
        kinds["probability"] = (inside_top.confidence, outside_top.confidence)
    for kind, (inside, outside_scores) in kinds.items():
        names = f"ood_auroc_{kind}", f"ood_fpr95_{kind}"
        figures |= dict(zip(names, (auroc(inside, outside_scores), fpr_at_recall(inside, outside_scores)), strict=True))
        intervals |= dict(zip(names, detection_intervals(inside, outside_scores), strict=True))
    return kinds["score"]


def _confused(data: Shown, prepared: PairedEmbeddings) -> list[dict[str, Any]]:
    """The most confused pairs of classes."""
    if not isinstance(data, ClassificationData):
        return []
    names: Sequence[str] = distinguish_names(list(data.class_names))
    confusion = predict(prepared.queries, np.asarray(data.labels, dtype=np.int64)).confusion
    pairs = []
    for i, j, images in confused_pairs(confusion, CONFUSED):
        low, high = confusion_interval(images, len(data.images))
        pairs.append({"true": names[i], "predicted": names[j], "images": images, "low": low, "high": high})
    return pairs


def _bins_as_json(bins: Reliability, intervals: np.ndarray) -> list[dict[str, float | int | None]]:
    """Bins without queries have no values."""
    names = ("confidence", "accuracy", "low", "high")
    values = np.column_stack([bins.confidence, bins.accuracy, intervals])
    return [
        {"count": int(n), **{name: float(value) if n else None for name, value in zip(names, row, strict=True)}}
        for n, row in zip(bins.count, values, strict=True)
    ]
