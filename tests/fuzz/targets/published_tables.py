"""Results that others published, as reference rows."""

import json
from pathlib import Path
from typing import Any

from cosmos_eval.published.references import read_file
from tests.fuzz.running import Target

CLIP_BENCHMARK = {
    "dataset": "wds/vtab/cifar10", "model": "ViT-B-32", "pretrained": "openai", "task": "zeroshot_classification",
    "metrics": {"acc1": 0.898, "acc5": 0.99, "mean_per_class_recall": 0.897}, "language": "en",
}  # fmt: skip
OPEN_CLIP = "name,pretrained,ImageNet 1k,CIFAR-10\nViT-B-32,openai,0.6332,0.898\nViT-B-16,laion400m_e32,0.67,0.91\n"


def _make(folder: Path) -> list[Path]:
    (folder / "a.json").write_text(json.dumps(CLIP_BENCHMARK, indent=1), encoding="utf-8")
    (folder / "b.csv").write_text(OPEN_CLIP, encoding="utf-8")
    return [folder / "a.json", folder / "b.csv"]


def _load(folder: Path) -> Any:
    return [read_file(folder / name).fillna("").to_dict("records") for name in ("a.json", "b.csv")]


TARGETS = [Target("published-tables", _make, _load)]
