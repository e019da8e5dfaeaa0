"""A folder as runs leave it, with names that try to become markup, for the tests of the HTML report."""

import json
import re
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw

from cosmos_eval.results.record import Result
from cosmos_eval.results.sections import BenchmarkSection, EnvironmentSection, TimingSection
from cosmos_eval.results.store import write_not_run, write_result
from cosmos_eval.tasks.outcome import Metric
from tests.results.test_results import make_result

ATTACK = "<img src=x onerror=\"window.pwned='{}'\"></script><script>window.pwned='{}'</script>"
MODELS = ("Good model", "Fair model", "Poor model")
BENCHMARKS = {"flowers": "classification", "pairs": "retrieval", "streets": "segmentation", "words": "perception"}
PRIMARY = {
    "classification": "top1", "retrieval": "text_to_image_recall@1", "segmentation": "miou",
    "perception": "macro_accuracy",
}  # fmt: skip
CLASSES = ("road", "sky", ATTACK.format("class", "class"))


def attack(where: str) -> str:
    """A name that sets `window.pwned` where somebody takes it for markup."""
    return ATTACK.format(where, where)


def metrics_of(task: str, value: float) -> dict[str, Metric]:
    """Every headline metric and some others at one value; intervals of two points to both sides."""
    at = Metric(value, max(0.0, value - 0.02), min(1.0, value + 0.02), 400)
    if task == "classification":
        return {"top1": at, "top5": at, "mean_per_class": at}
    if task == "retrieval":
        ranks = Metric(1 / value, 0.9 / value, 1.1 / value, 400)
        recalls = {f"{way}_recall@{k}": at for way in ("image_to_text", "text_to_image") for k in (1, 5)}
        return {**recalls, "image_to_text_mean_rank": ranks}
    if task == "segmentation":
        return {"miou": at, "pixel_accuracy": at, **{f"{name}/iou": at for name in CLASSES}}
    return {"macro_accuracy": at, "swap/accuracy": at}


def fingerprint_of(benchmark: str) -> str:
    """The fingerprint of one of BENCHMARKS."""
    return benchmark.encode().hex() * 4


def one(label: str, benchmark: str, value: float, /, **changes) -> Result:
    """A result of a model that is known by its label, on one of BENCHMARKS."""
    base, task = make_result(), BENCHMARKS[benchmark]
    fields = {
        "model": replace(base.model, spec=f"cosmos:{label}", label=label, digest=label.encode().hex()[:64]),
        "benchmark": BenchmarkSection(benchmark, 3, task, fingerprint=fingerprint_of(benchmark)),
        "metrics": metrics_of(task, value),
        "primary": PRIMARY[task],
        "environment": EnvironmentSection(
            python="3.11.7", packages={"torch": "2.11.0"}, hardware={"cpu": "a processor"}
        ),
        "timing": TimingSection(seconds=12.5, started="2026-11-22T02:20:36+00:00", batch_size=64),
        "warnings": (),
    }
    return make_result(**{**fields, **changes})


def write(folder: Path, result: Result, name: str = "") -> None:
    """Put a result where a run puts it."""
    place = name or "".join(c for c in result.label if c.isalnum())[:20]
    write_result(folder / place / result.benchmark.name, result)


def write_geometry(folder: Path, result: Result, **changes: object) -> Path:
    """Put into `folder` what `show geometry` writes of a result."""
    content = {
        "model": result.model.spec, "digest": result.model.digest, "precision": result.precision,
        "benchmark": result.benchmark.name, "protocol": result.benchmark.fingerprint,
        "dataset": result.dataset.fingerprint,
        "figures": {"images": 400, "modality_gap": 0.8125, "alignment": 1.5, "expected_calibration_error": 0.125,
                    "logit_scale": 100.0, "other_similarity": None},
        "intervals": {"modality_gap": [0.75, 0.875], "expected_calibration_error": [0.0625, 0.1875]},
        "confused": [{"true": attack("class"), "predicted": "rose", "images": 7.5, "low": 3.5, "high": 13.5}],
        "reliability": [{"count": 0, "confidence": None, "accuracy": None, "low": None, "high": None},
                        {"count": 400, "confidence": 0.75, "accuracy": 0.625, "low": 0.5, "high": 0.75}],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "geometry.json").write_text(json.dumps({**content, **changes}))
    return folder / "geometry.json"


def fill(folder: Path) -> Path:
    """Three models on four benchmarks and one that attacks; a limited result, a second protocol, curves, images."""
    for label, value in zip(MODELS, (0.9, 0.6, 0.3), strict=True):
        for benchmark in BENCHMARKS:
            write(folder, one(label, benchmark, value))
    write_geometry(folder / "shown", one(MODELS[0], "flowers", 0.9))
    evil = one(attack("label"), "flowers", 0.5, warnings=(attack("warning"),))
    write(folder, evil, "evil")
    quick = one("Quick look", "flowers", 0.99, limit=10)
    write(folder, quick)
    base = one("Other protocol", "flowers", 0.95)
    other = one("Other protocol", "flowers", 0.95, benchmark=replace(base.benchmark, fingerprint="f" * 64))
    write(folder, other)
    write_not_run(folder / "x" / "words", attack("not run"), "words", attack("reason"))
    lines = [
        {
            "step": step, "network": network, "benchmark": "flowers", "task": "classification", "primary": "top1",
            "metrics": {"top1": {"value": step / 400, "low": step / 500, "high": step / 300, "n": 400}}, "limit": None,
            "precision": "fp32", "digest": "d" * 64, "fingerprint": "e" * 64, "dataset": "b" * 64, "seconds": 1.5,
        }
        for step in (100, 200, 300)
        for network in ("teacher", attack("network"))
    ]  # fmt: skip
    (folder / "run").mkdir()
    (folder / "run" / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    place = folder / "images" / "<" / "script><img src=x onerror=window.pwned=1>"  # together: </script><img ...
    place.mkdir(parents=True)
    image = Image.new("RGB", (400, 300), (40, 90, 160))
    ImageDraw.Draw(image).ellipse((100, 50, 300, 250), fill=(240, 200, 40))
    image.save(place / "<img src=x onerror=window.pwned=2>.png")
    image.save(folder / "images" / "overlays.png")
    return folder


def data_of(page) -> dict:
    """The data block of a page, as its script reads it."""
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    return json.loads(block)


def noise(path, side: int = 600) -> None:
    """An image that does not compress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((side, side), 90).convert("RGB").save(path)
