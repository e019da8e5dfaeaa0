"""What `shared_images.py` runs: COCO retrieval and SugarCrepe, with clip-benchmark and with cosmos-eval."""

import contextlib
import io
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.utils.data import DataLoader

from benchmarks.peers.mixed import same_arithmetic
from benchmarks.random_model import random_model
from cosmos_eval.datasets.perception.sugarcrepe import SUBSETS
from cosmos_eval.models.open_clip import OpenClipModel
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark

COCO, SUGARCREPE = "coco-val2017-retrieval", "sugarcrepe"
IMAGES, SHARED = 5000, 1560
"""Images of COCO val2017, and the number of them that SugarCrepe uses."""
ROWS = {
    "replace_obj": 1652, "replace_att": 788, "replace_rel": 1406, "swap_obj": 245, "swap_att": 666, "add_obj": 2062,
    "add_att": 692,
}  # fmt: skip
"""Rows in each file of SugarCrepe."""
K = (1, 5, 10)
BATCH = 64
ARMS = ("peer", "ours")


@dataclass(frozen=True)
class SharedImagesPlan:
    """Sizes of the benchmark: one in `part` of the images and rows of the two datasets."""

    part: int
    repetitions: int
    workers: int = 2
    device: str = "cpu"
    precision: str = "fp32"
    model: str = "ViT-B-32"
    config: dict[str, Any] | None = None
    """open_clip's configuration, for a model that is not in its registry."""

    @property
    def images(self) -> int:
        return IMAGES // self.part

    @property
    def rows(self) -> dict[str, int]:
        return {name: max(1, rows // self.part) for name, rows in ROWS.items()}


QUICK = SharedImagesPlan(part=100, repetitions=1)
FULL = SharedImagesPlan(part=25, repetitions=3)
GPU = SharedImagesPlan(part=1, repetitions=3, workers=12)


def write_sets(plan: SharedImagesPlan, root: Path) -> None:
    """Write scenes in COCO's layout (JPEG of 640 by 480, five captions each), and SugarCrepe's files."""
    import json

    from PIL import Image

    from cosmos_eval.datasets.toybox import captions, distinct_scenes, render

    images, annotations = root / "coco/images/val2017", root / "coco/annotations"
    for folder in (images, annotations, root / "sugarcrepe"):
        folder.mkdir(parents=True)
    scenes = list(distinct_scenes(0, "test", plan.images))
    texts = [captions(scene) for scene in scenes]
    names = [f"{i + 1:012d}.jpg" for i in range(len(scenes))]
    all_captions = []
    # No caption occurs twice, because the two sides score ties differently: clip-benchmark counts one of the tied
    # candidates as the hit, cosmos-eval gives each its share.
    for i, (scene, name) in enumerate(zip(scenes, names, strict=True)):
        Image.fromarray(render(scene, 640)[:480]).save(images / name, quality=90)
        all_captions += [
            f"{texts[i].raw}, seen for the {word} time in {1000 + i}" for word in ORDINALS
        ]  # as long as COCO's
    content = {
        "images": [{"id": i + 1, "file_name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i // len(ORDINALS) + 1, "caption": caption} for i, caption in enumerate(all_captions)
        ],
    }
    (annotations / "captions_val2017.json").write_text(json.dumps(content), encoding="utf-8")
    shared = max(1, SHARED // plan.part)
    for subset, count in plan.rows.items():
        rows = {}
        for j in range(count):
            i, other = j % shared, texts[(j + 1 + j // shared) % len(texts)].raw
            caption = all_captions[len(ORDINALS) * i + j % len(ORDINALS)]  # as in SugarCrepe, a caption of COCO
            rows[str(j)] = {"filename": names[i], "caption": caption, "negative_caption": f"{other}, not {subset} {j}"}
        (root / f"sugarcrepe/{subset}.json").write_text(json.dumps(rows), encoding="utf-8")


ORDINALS = ("first", "second", "third", "fourth", "fifth")


def definitions(plan: SharedImagesPlan) -> list[Benchmark]:
    """Return our definitions, with the counts of this part of the data."""
    expected = {
        COCO: {"images": plan.images, "texts": plan.images * len(ORDINALS)},
        SUGARCREPE: {"images": max(1, SHARED // plan.part), "items": sum(plan.rows.values())},
    }
    benchmarks = []
    for name, counts in expected.items():
        benchmark = load_benchmark(name)
        benchmarks.append(replace(benchmark, dataset={**benchmark.dataset, "expected": counts}))
    return benchmarks


def ours(model: OpenClipModel, plan: SharedImagesPlan, root: Path) -> dict[str, float]:
    """Evaluate both benchmarks with cosmos-eval in one run, from the files to the intervals."""
    from cosmos_eval.run.evaluate import evaluate

    coco, sugarcrepe = evaluate(
        model, definitions(plan), root, batch_size=BATCH, workers=plan.workers, precision=plan.precision
    )
    recalls = {
        f"{short} R@{k}": coco.metrics[f"{direction}_recall@{k}"].value
        for short, direction in (("I2T", "image_to_text"), ("T2I", "text_to_image"))
        for k in K
    }
    return recalls | {name: sugarcrepe.metrics[f"{name}/accuracy"].value for name in SUBSETS}


def peer(model: OpenClipModel, plan: SharedImagesPlan, root: Path) -> dict[str, float]:
    """Evaluate with clip-benchmark's functions, datasets and collation, one dataset after the other."""
    from clip_benchmark.datasets.builder import image_captions_collate_fn
    from clip_benchmark.datasets.sugar_crepe import SugarCrepe
    from clip_benchmark.metrics import image_caption_selection, zeroshot_retrieval
    from torchvision.datasets import CocoCaptions

    network, device, amp = model.network, plan.device, plan.precision != "fp32"
    transform, tokenizer = model.preprocess.transform, model.tokenizer
    images = str(root / "coco/images/val2017")
    loader = partial(
        DataLoader, batch_size=BATCH, num_workers=plan.workers, collate_fn=image_captions_collate_fn, shuffle=False
    )
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        coco = CocoCaptions(images, str(root / "coco/annotations/captions_val2017.json"), transform)
        recalls = zeroshot_retrieval.evaluate(network, loader(coco), tokenizer, device, amp=amp, recall_k_list=list(K))
        figures: dict[str, float] = {}
        for short, retrieved in (("I2T", "text"), ("T2I", "image")):
            figures |= {f"{short} R@{k}": recalls[f"{retrieved}_retrieval_recall@{k}"] for k in K}
        for subset in SUBSETS:
            rows = SugarCrepe(images, str(root / f"sugarcrepe/{subset}.json"), transform)
            figures[subset] = image_caption_selection.evaluate(network, loader(rows), tokenizer, device, amp=amp)[
                "text_acc"
            ]
    return figures


def measure(world: Any, plan: SharedImagesPlan) -> dict[str, Any]:
    """Run both sides in turns: seconds, the largest difference of their figures, and the images that each encoded."""
    from benchmarks.timing import take_turns

    same_arithmetic()
    model = random_model(plan.model, plan.device, plan.config)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_sets(plan, root)
        batch_sizes = record_batch_sizes(model)
        figures = {"peer": peer(model, plan, root)}
        encoded = {"peer": sum(batch_sizes)}
        batch_sizes.clear()
        figures["ours"] = ours(model, plan, root)
        encoded["ours"] = sum(batch_sizes)
        differences = {name: abs(figures["ours"][name] - value) for name, value in figures["peer"].items()}
        arms = {"peer": partial(peer, model, plan, root), "ours": partial(ours, model, plan, root)}
        times = take_turns(arms, plan.repetitions, world, warm_up=0)  # the comparison was the warm-up
    return {
        "seconds": times.seconds,
        "largest_difference": max(differences.values()),
        "encoded": encoded,
        "figures": figures["ours"],
        "threads": torch.get_num_threads(),
    }


def record_batch_sizes(model: OpenClipModel) -> list[int]:
    """Return a list to which every forward pass of the image tower appends its number of images."""
    batch_sizes: list[int] = []

    def append_size(module: torch.nn.Module, inputs: Sequence[torch.Tensor], output: Any) -> None:
        batch_sizes.append(len(inputs[0]))

    model.network.get_submodule("visual").register_forward_hook(append_size)
    return batch_sizes
