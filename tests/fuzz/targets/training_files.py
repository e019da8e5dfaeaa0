"""What a training reads: its YAML, a model configuration, tables of images and captions, and its own logs."""

import json
from pathlib import Path
from typing import Any

from cosmos_core.checkpoint import read_config
from cosmos_core.config import load_preset
from cosmos_core.configs import PRESETS, find_config_problem
from cosmos_core.data.tables import coco_captions, csv_pairs
from cosmos_core.logs import read_metrics
from cosmos_eval.report.evaluations import read_evaluations
from tests.fuzz.running import Target
from tests.helpers.datasets_on_disk import coco_files

YAML = """preset: toybox
name: mine
steps: 30
lr: 5e-4
views: {local_crops: 2, blur: [0.5, 0, 0.1]}
model:
  embed_dim: 64
  vision_cfg: {image_size: 32, layers: 2, width: 64, patch_size: 16}
  text_cfg: {context_length: 16, vocab_size: 1000, width: 64, heads: 2, layers: 1}
"""
METRIC = {"top1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}}
LINE = {"step": 3, "network": "teacher", "benchmark": "toybox", "primary": "top1", "metrics": METRIC}


def _config(folder: Path) -> list[Path]:
    (folder / "mine.yaml").write_text(YAML, encoding="utf-8")
    return [folder / "mine.yaml"]


def _model(folder: Path) -> list[Path]:
    (folder / "model.json").write_text(json.dumps(PRESETS["toybox"], indent=1), encoding="utf-8")
    return [folder / "model.json"]


def _load_model(folder: Path) -> Any:
    config = read_config(folder / "model.json")
    return config, find_config_problem(config)


def _tables(folder: Path) -> list[Path]:
    coco_files(folder)
    (folder / "t.csv").write_text('filepath,title\na.jpg,"a dog, running"\nb.jpg,a cat\n', encoding="utf-8")
    return [folder / "t.csv", folder / "coco/annotations/captions_val2017.json"]


def _load_tables(folder: Path) -> Any:
    table = csv_pairs(folder / "t.csv", "filepath", "title")
    coco = coco_captions(folder / "coco/annotations/captions_val2017.json", folder / "coco/images/val2017")
    return [table[i] for i in range(len(table))], [coco[i] for i in range(len(coco))]


def _logs(folder: Path) -> list[Path]:
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.25}\n', encoding="utf-8")
    (folder / "evaluations.jsonl").write_text(f"{json.dumps(LINE)}\n" * 2, encoding="utf-8")
    return [folder / "metrics.jsonl", folder / "evaluations.jsonl"]


def _load_logs(folder: Path) -> Any:
    return read_metrics(folder / "metrics.jsonl"), read_evaluations(folder / "evaluations.jsonl")


TARGETS = [
    Target("training-yaml", _config, lambda folder: load_preset(folder / "mine.yaml"), weight=3),
    Target("model-configuration", _model, _load_model, weight=2),
    Target("training-tables", _tables, _load_tables, weight=2),
    Target("training-logs", _logs, _load_logs),
]
