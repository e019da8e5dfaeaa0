"""Results on disk as a run leaves them, of models that never were: hits are given, metrics follow from them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cosmos_eval.metrics.iou import PixelCounts, class_iou, segmentation_metrics
from cosmos_eval.results.record import Result
from cosmos_eval.results.sections import DatasetSection
from cosmos_eval.results.store import write_result, write_samples
from cosmos_eval.tasks.outcome import Metric
from tests.results.test_results import make_result


def stored(
    folder: Path, task: str, samples: pd.DataFrame, values: dict[str, float], primary: str, **changes: Any
) -> Result:
    """Write RESULT.json and samples.parquet below `folder/<benchmark>`; `changes` are fields of the result, and of
    its sections `benchmark`, `dataset` and `model`."""
    base = make_result()
    name = changes.pop("name", f"made-{task}")
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    result = make_result(
        benchmark=replace(base.benchmark, name=name, task=task, **changes.pop("benchmark", {})),
        dataset=replace(
            DatasetSection(fingerprint="b" * 64, n={"images": int(samples["image"].nunique())}, n_expected={}),
            **changes.pop("dataset", {}),
        ),
        model=replace(
            replace(base.model, label=folder.name, digest=(folder.name * 8)[:8] * 8), **changes.pop("model", {})
        ),
        metrics={key: Metric(value, value, value, len(samples)) for key, value in values.items()},
        primary=primary,
        samples=write_samples(place, samples),
        warnings=(),
        **changes,
    )
    write_result(place, result)
    return result


def classification(folder: Path, correct: np.ndarray, labels: np.ndarray | None = None, **changes: Any) -> Result:
    labels = np.zeros(len(correct), dtype=np.int64) if labels is None else labels
    frame = pd.DataFrame({"image": [f"p{i}" for i in range(len(correct))], "label": labels, "correct": correct})
    per_class = float(frame.groupby("label")["correct"].mean().mean())
    values = {"top1": float(np.mean(correct)), "mean_per_class": per_class}
    return stored(folder, "classification", frame, values, "top1", **changes)


def retrieval(folder: Path, to_text: np.ndarray, to_image: np.ndarray, **changes: Any) -> Result:
    """(P,) hits of images, (P, captions) hits of texts."""
    images, captions = to_image.shape
    keys = [f"p{i}" for i in range(images)]
    frame = pd.DataFrame(
        {
            "direction": ["image_to_text"] * images + ["text_to_image"] * images * captions,
            "query": [*keys, *map(str, range(images * captions))],
            "image": [*keys, *np.repeat(keys, captions)],
            "rank": 1.0,
            "hit@1": [*to_text, *to_image.ravel()],
        }
    )
    values = {
        "image_to_text_recall@1": float(np.mean(to_text)),
        "text_to_image_recall@1": float(np.mean(to_image)),
        "image_to_text_mean_rank": 1.0,
    }
    return stored(folder, "retrieval", frame, values, "text_to_image_recall@1", **changes)


def perception(
    folder: Path, correct: np.ndarray, wholes: np.ndarray, subsets: list[str], groups: list[str], **changes: Any
) -> Result:
    frame = pd.DataFrame(
        {
            "item": np.arange(len(correct)),
            "subset": subsets,
            "group kind": groups,
            "image": [f"{whole}[{i}]" for i, whole in enumerate(wholes)],
            "whole": [str(whole) for whole in wholes],
            "correct": correct,
            "expected": (correct + 0.5) / 2,
        }
    )
    values: dict[str, float] = {}
    for suffix, column in (("", "correct"), ("_expected", "expected")):
        for of in ("subset", "group kind"):
            parts = frame[frame[of] != ""].groupby(of)[column].mean()
            values |= {f"{part}/accuracy{suffix}": float(value) for part, value in parts.items()}
            title = f"macro_accuracy{suffix}" if of == "subset" else f"kind/macro_accuracy{suffix}"
            values[title] = float(parts.mean())
        values[f"accuracy{suffix}"] = float(frame[column].mean())
    return stored(folder, "perception", frame, values, "macro_accuracy", **changes)


def segmentation(folder: Path, areas: np.ndarray, **changes: Any) -> Result:
    """(U, C, 3) areas: intersection, prediction, label."""
    image, label = np.nonzero(areas[:, :, 1] + areas[:, :, 2])
    rows = areas[image, label].astype(np.int64)
    frame = pd.DataFrame({"image": [f"p{u}" for u in image], "class": label, "name": [f"c{c}" for c in label]})
    frame[["intersection", "prediction", "label"]] = rows
    total = PixelCounts(image, label, rows, areas.shape[1]).total()
    values = {
        **segmentation_metrics(total),
        **{f"c{c}/iou": float(v) for c, v in enumerate(class_iou(total)) if v == v},
    }
    return stored(folder, "segmentation", frame, values, "miou", **changes)
