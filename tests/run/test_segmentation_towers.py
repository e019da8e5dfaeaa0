"""Segmentation of toybox from a model's spec to its result, with towers of timm, CLIP's ResNets and transformers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip import factory as registry

from cosmos_core.dense import patch_features
from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.engine.windows import resize_image
from cosmos_eval.models import load_model
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.tiny_hf import BUILD, save
from tests.oracles import segmentation as oracle

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
TOWERS: dict[str, dict[str, Any]] = {
    "timm": {"timm_model_name": "test_vit", "image_size": 160},
    "resnet": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "image_size": 64, "patch_size": None},
}
ATTENTION = {"timm": "naclip", "resnet": "maskclip", "hf": "clearclip"}
IMAGES = 2


@pytest.fixture(scope="module", params=ATTENTION)
def tower(request, tmp_path_factory) -> Iterator[tuple[str, str]]:
    """A kind of tower, and the spec of a small model with it."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    if kind == "hf":
        yield kind, f"hf:{save(folder / 'siglip2', BUILD['siglip2_fixed'])}"
        return
    name = f"tiny-{kind}"
    with pytest.MonkeyPatch.context() as patch:
        config = {"embed_dim": 16, "vision_cfg": TOWERS[kind], "text_cfg": TEXT}
        patch.setitem(registry._MODEL_CONFIGS, name, config)
        torch.manual_seed(0)
        torch.save(open_clip.create_model(name).state_dict(), folder / "weights.pt")
        yield kind, f"open_clip:{name}/{folder / 'weights.pt'}"


def toybox(attention: str) -> Benchmark:
    benchmark = load_benchmark("toybox-segmentation")
    dataset = benchmark.dataset | {"scenes": IMAGES, "expected": {"images": IMAGES, "classes": 9}}
    settings = benchmark.settings | {"attention": attention, "crop": 80, "stride": 64}  # four windows, which overlap
    return replace(benchmark, name=f"toybox-{attention}", dataset=dataset, settings=settings)


@torch.no_grad()
def slow_miou(spec: str, benchmark: Benchmark) -> float:
    """mIoU from label maps of one window at a time; classes that are nowhere do not count."""
    model, data = load_model(spec), datasets.load(benchmark)
    network = getattr(model.network, "visual", model.network)
    settings = benchmark.settings
    keys = ("crop", "stride", "logit_scale", "prob_thd", "area_thd")
    words = benchmark.resolve_prompts().query_words
    queries = torch.nn.functional.normalize(model.encode_text([word for of_class in words for word in of_class]))
    class_of_query = [number for number, of_class in enumerate(words) for _ in of_class]
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.preprocess.mean, model.preprocess.std))
    intersection, union = np.zeros(len(words)), np.zeros(len(words))
    for source, mask in zip(data.images, data.masks, strict=True):
        image = source.load()
        resized = np.asarray(resize_image(image, settings["short_side"], settings["long_side"]))
        pixels = (torch.from_numpy(resized.copy()).permute(2, 0, 1) / 255 - mean) / std
        logits = oracle.image_logits(
            lambda window: patch_features(network, window, settings["attention"]),
            pixels,
            (image.height, image.width),
            queries,
            oracle.Settings(**{key: settings[key] for key in keys}),
        )
        labels = oracle.labels(logits, class_of_query, oracle.Settings(**{key: settings[key] for key in keys}))
        truth = mask.load()
        for number in range(len(words)):
            predicted, real = (labels == number) & (truth != 255), truth == number
            intersection[number] += (predicted & real).sum()
            union[number] += (predicted | real).sum()
    return float((intersection[union > 0] / union[union > 0]).mean())


def test_a_tower_segments_toybox_as_a_slow_reading_of_its_definition(tower, tmp_path: Path):
    kind, spec = tower
    benchmarks = [toybox("vanilla"), toybox(ATTENTION[kind])]
    plain, other = evaluate(spec, benchmarks, out=tmp_path, batch_size=4)
    for result, benchmark in ((plain, benchmarks[0]), (other, benchmarks[1])):
        assert result.dataset.n["images"] == IMAGES
        assert result.metrics["miou"].value == pytest.approx(slow_miou(spec, benchmark), abs=1e-4)


@pytest.mark.parametrize("tower", ["resnet"], indirect=True)
def test_an_attention_that_a_resnet_has_not_is_refused_in_one_line(tower, tmp_path: Path):
    _, spec = tower
    message = r"no patch features with attention 'raw', only with vanilla, csa, maskclip, clearclip, naclip; take"
    with pytest.raises(RequestError, match=message) as refusal:
        evaluate(spec, toybox("raw"), out=tmp_path)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.rglob("RESULT.json"))
