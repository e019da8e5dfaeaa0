"""Eight images on disk with a definition of each kind of data, and the same data built in Python."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

from cosmos_eval import (
    ChoiceData,
    ClassificationData,
    MultilabelData,
    PerceptionData,
    RetrievalData,
    SegmentationData,
    make_benchmark,
)
from cosmos_eval.protocol.benchmark import Benchmark
from tests.helpers.tiny_models import Colours

COUNT = 8
COLOURS = ("red", "green", "blue", "gray")
TEMPLATES = ["a {c} square", "{c}"]
NAMES = [f"images/{i}.png" for i in range(COUNT)]
LABELS = [COLOURS[i % 4] for i in range(COUNT)]
CAPTIONS = [[f"a {LABELS[i]} square", f"square {i}"] for i in range(COUNT)]
NEGATIVES = [f"a {COLOURS[(i + 1) % 4]} square" for i in range(COUNT)]
SUBSETS = ["even" if i % 2 == 0 else "odd" for i in range(COUNT)]
SETTINGS = {"crop": 16, "stride": 8, "long_side": 16}
KINDS = ("classification", "multilabel", "retrieval", "perception", "multiple-choice", "segmentation")


class Patches(Colours):
    """Colours with a feature for each patch of 4 x 4 pixels."""

    digest = "9a7c" * 16

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        mean = torch.nn.functional.avg_pool2d(x, 4)
        return torch.cat([mean, mean**2, mean[:, :2] + 0.5], dim=1).permute(0, 2, 3, 1)


def write(folder: Path) -> Path:
    """Write images, masks, and `NAME.yaml` for each of `KINDS`."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for i, (image, mask) in enumerate(zip(pixels(), masks(), strict=True)):
        Image.fromarray(image).save(folder / NAMES[i])
        Image.fromarray(mask).save(folder / f"masks/{i}.png")
    lines: dict[str, list[dict[str, Any]]] = {
        "classification": [{"image": name, "label": LABELS[i]} for i, name in enumerate(NAMES)],
        "multilabel": [{"image": name, "labels": multilabels()[i]} for i, name in enumerate(NAMES)],
        "retrieval": [{"image": name, "captions": CAPTIONS[i]} for i, name in enumerate(NAMES)],
        "perception": [
            {"image": name, "positive": CAPTIONS[i][0], "negative": NEGATIVES[i], "subset": SUBSETS[i]}
            for i, name in enumerate(NAMES)
        ],
        "multiple-choice": [
            {"image": name, "captions": [NEGATIVES[i], *CAPTIONS[i]], "answer": [1, 2], "subset": SUBSETS[i]}
            for i, name in enumerate(NAMES)
        ],
    }
    for kind in KINDS:
        definition: dict[str, Any] = {"name": kind, "version": 1, "task": kind}
        if kind == "segmentation":
            definition["dataset"] = {
                "reader": "masks",
                "images": "images",
                "masks": "masks",
                "class_names": list(COLOURS),
            }
            definition["prompts"] = {"templates": TEMPLATES, "words": {name: [name] for name in COLOURS}}
            definition["segmentation"] = SETTINGS
        else:
            (folder / f"{kind}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[kind]))
            definition["dataset"] = {"reader": "jsonl", "path": f"{kind}.jsonl"}
        if kind in ("classification", "multilabel"):
            definition["prompts"] = {"class_names": list(COLOURS), "templates": TEMPLATES}
        definition["metrics"] = {"primary": PRIMARY[kind]}
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    return folder


PRIMARY = {
    "classification": "top1",
    "multilabel": "mean_average_precision",
    "retrieval": "image_to_text_recall@1",
    "perception": "accuracy",
    "multiple-choice": "accuracy",
    "segmentation": "miou",
}


def pixels() -> list[np.ndarray]:
    """(16, 16, 3) uint8 of each image: noise over a colour."""
    colours = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "gray": (120, 120, 120)}
    draw = np.random.default_rng(0)
    return [
        np.clip(np.array(colours[LABELS[i]]) + draw.integers(-40, 41, (16, 16, 3)), 0, 255).astype(np.uint8)
        for i in range(COUNT)
    ]


def masks() -> list[np.ndarray]:
    """(16, 16) uint8 of each image: the label, another one in a corner, and an ignored row."""
    all_masks = []
    for i in range(COUNT):
        mask = np.full((16, 16), i % 4, dtype=np.uint8)
        mask[:5, :5], mask[15] = (i + 1) % 4, 255
        all_masks.append(mask)
    return all_masks


def multilabels() -> list[list[str]]:
    return [[LABELS[i], *([COLOURS[(i + 1) % 4]] if i % 3 == 0 else [])] for i in range(COUNT)]


def build(kind: str, images: Sequence[Any], **more: Any) -> Benchmark:
    """The data of a kind, from images in any form; `more` are `root` or `names`."""
    if kind == "classification":
        data: Any = ClassificationData.from_lists(images, LABELS, COLOURS, TEMPLATES, **more)
    elif kind == "multilabel":
        data = MultilabelData.from_lists(images, multilabels(), COLOURS, TEMPLATES, **more)
    elif kind == "retrieval":
        data = RetrievalData.from_pairs(images, CAPTIONS, **more)
    elif kind == "perception":
        positives = [captions[0] for captions in CAPTIONS]
        data = PerceptionData.from_lists(images, positives, NEGATIVES, SUBSETS, **more)
    elif kind == "multiple-choice":
        candidates = [[NEGATIVES[i], *CAPTIONS[i]] for i in range(COUNT)]
        data = ChoiceData.from_lists(images, candidates, [[1, 2]] * COUNT, SUBSETS, **more)
    else:
        data = SegmentationData.from_lists(images, masks(), COLOURS, **more)
        return make_benchmark(data, kind, prompts={"templates": TEMPLATES}, settings=SETTINGS)
    return make_benchmark(data, kind)
