"""Zero-shot segmentation with the pack's weights: windows, averaged logits, refinement, thresholds, and one image
from its bytes to its labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.dense import patch_features
from cosmos_core.tokenizer import build_tokenizer
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.datasets.prompts import resolve_prompts
from cosmos_eval.engine import Engine
from cosmos_eval.engine.dense import DenseFeatures
from cosmos_eval.engine.windows import resize_image, window_grid
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.tasks.prompts import build_class_embeddings, build_class_prompts
from cosmos_eval.tasks.segmentation.label_maps import BUDGET as DEFAULT
from cosmos_eval.tasks.segmentation.label_maps import LabelMapPredictor
from cosmos_eval.tasks.segmentation.pamr import affinities, refine
from cosmos_eval.tasks.segmentation.settings import SETTINGS
from tests.oracles import segmentation as oracle
from tests.parity import ours, test_parity_iou
from tests.parity.golden import Pack
from tests.parity.test_parity_classifier import PackFeatures
from tests.parity.test_parity_dense import window_tokens

NUMBERS, TENSORS = "segmentation/segmentation.json", "segmentation/segmentation.safetensors"
BUDGET = 2**16
"""So small that even the pack's images are made in many tiles; the default where they are refined."""


class PackModel:
    """The pack's student as an adapter: its patches only."""

    spec, device = "the pack's student", torch.device("cpu")

    def __init__(self, pack: Pack) -> None:
        self.visual = ours.model(pack).eval().visual
        self.preprocess = ImagePreprocess(self.visual.image_size)

    @torch.no_grad()
    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        return patch_features(self.visual, x, attention)


def settings(pack: Pack, **changes: Any) -> dict[str, Any]:
    stored = pack.json(NUMBERS)
    names = ("crop", "stride", "logit_scale", "pamr_dilations")
    return {**SETTINGS, **{name: stored[name] for name in names}, **changes}


def dense(pack: Pack, model: PackModel, index: int, attention: str, whole: bool = False) -> DenseFeatures:
    """All windows of one of the pack's images, which are stored as the tower sees them; or all of it at once."""
    image, chosen = pack.tensors(TENSORS)[f"image.{index}"][0].float(), settings(pack)
    grid = window_grid(image.shape[1], image.shape[2], 0 if whole else chosen["crop"], chosen["stride"])
    high, wide = grid.crop_height, grid.crop_width
    windows = torch.stack([image[:, top : top + high, left : left + wide] for top, left in grid.boxes()])
    features = F.normalize(model.encode_patches(windows, attention), dim=-1)
    features = features.reshape(len(grid.tops), len(grid.lefts), *features.shape[1:])
    original = tuple(pack.json(NUMBERS)["images"][index]["ori_shape"])
    return DenseFeatures(index, original, grid, features, image)


def each_window(full: DenseFeatures) -> Iterator[DenseFeatures]:
    """Every window as an image of its own."""
    size = (full.grid.crop_height, full.grid.crop_width)
    for features in full.features.flatten(0, 1):
        yield DenseFeatures(full.index, size, window_grid(*size, 0, 1), features[None, None])


def modes(pack: Pack) -> list[tuple[int, str]]:
    """Image and attention of every set of logits."""
    keys = (key.split(".") for key in pack.tensors(TENSORS) if key.startswith("slide_logits."))
    return [(int(image), attention) for _, image, attention in keys]


def label_maps(pack: Pack, case: dict[str, Any]) -> LabelMapPredictor:
    names = ("prob_thd", "area_thd", "pamr_steps")
    chosen = settings(pack, **{name: case[name] for name in names})
    budget = DEFAULT if case["pamr_steps"] else BUDGET
    return LabelMapPredictor(pack.tensors(TENSORS)["query_features"], case["query_idx"], chosen, budget)


def plain(pack: Pack, **changes: Any) -> LabelMapPredictor:
    """Maps whose classes are the query words themselves."""
    queries = pack.tensors(TENSORS)["query_features"]
    return LabelMapPredictor(queries, range(len(queries)), settings(pack, **changes), DEFAULT if changes else BUDGET)


def steps(pack: Pack) -> int:
    """Of the refinement wherever it is on."""
    (found,) = {case["pamr_steps"] for case in pack.json(NUMBERS)["cases"]} - {0}
    return found


def tensors(pack: Pack) -> dict[str, Any]:
    stored, model = pack.tensors(TENSORS), PackModel(pack)
    found: dict[str, Any] = {**window_tokens(pack), **refinement(pack), **text_queries(pack), **pipeline(pack)[0]}
    for image, attention in modes(pack):
        name, full = f"{image}.{attention}", dense(pack, model, image, attention)
        maps = plain(pack)
        found[f"slide_logits.{name}"] = maps.logits(full)[None]
        if f"windows.{name}" in stored:
            found[f"windows.{name}"] = torch.stack([maps.logits(one) for one in each_window(full)])[..., ::2, ::2]
        at_once = maps.logits(dense(pack, model, image, attention, whole=True))
        found[f"whole_logits_sum_per_query.{name}"] = at_once.double().sum((1, 2))
        if f"pamr_logits.{name}" in stored:
            found[f"pamr_logits.{name}"] = plain(pack, pamr_steps=steps(pack)).logits(full)[None]
        for case in cases(pack, name):
            maps = label_maps(pack, case)
            found[f"pred.{case['key']}"] = maps.predict(full)[None]
            if f"seg_probs.{case['key']}" in stored:
                found[f"seg_probs.{case['key']}"] = maps.probabilities(full)
    return found


def cases(pack: Pack, name: str) -> list[dict[str, Any]]:
    return [case for case in pack.json(NUMBERS)["cases"] if case["key"].startswith(f"{name}.")]


def refinement(pack: Pack) -> dict[str, Tensor]:
    """`pamr_only.out_steps_S`, or `pamr_only.out_steps_S_dil_A_B`."""
    stored, found = pack.tensors(TENSORS), {}
    for key in stored:
        if key.startswith("pamr_only.out_steps_"):
            times, _, own = key.removeprefix("pamr_only.out_steps_").partition("_dil_")
            dilations = [int(d) for d in own.split("_")] if own else settings(pack)["pamr_dilations"]
            weights = affinities(stored["pamr_only.image"][0], dilations)
            found[key] = refine(stored["pamr_only.mask"][0], weights, dilations, int(times))[None]
    return found


def text_queries(pack: Pack) -> dict[str, Tensor]:
    words, templates = pack.json(NUMBERS)["query_words"], resolve_prompts({"templates": "openai-80"}, None).templates
    assert isinstance(templates, tuple)
    tokenize = build_tokenizer(pack.json("model/config.json")["text_cfg"])
    return {
        "text_queries.token_ids": torch.stack([tokenize(own) for own in build_class_prompts(words, templates)]),
        "text_queries.features": build_class_embeddings(PackFeatures(pack), words, templates),
    }


def pipeline(pack: Pack) -> tuple[dict[str, Any], dict[str, Any]]:
    """One image from its bytes on, through the engine: tensors, and numbers of the JSON."""
    stored, about = pack.tensors(TENSORS), pack.json(NUMBERS)
    long_side, short_side = about["pipeline"]["resize_scale"]
    (key,) = (key for key in stored if key.startswith("pred.pipeline."))
    attention, kind = key.removeprefix("pred.pipeline.").split(".")
    case = next(case for case in about["cases"] if case["key"].endswith(f".{kind}"))
    image = ArrayImage("pipeline", np.ascontiguousarray(stored["pipeline.raw_bgr"].numpy()[..., ::-1]))
    chosen = settings(pack, attention=attention, short_side=short_side, long_side=long_side)
    chosen |= {name: case[name] for name in ("prob_thd", "area_thd", "pamr_steps")}
    (full,) = Engine(PackModel(pack), batch_size=4).window_features([image], chosen, keep_pixels=True)
    assert full.pixels is not None
    maps = LabelMapPredictor(stored["query_features"], case["query_idx"], chosen)
    small = resize_image(image.load(), short_side, long_side)
    found = {
        "pipeline.resized_bgr": small[..., ::-1].copy(),
        "pipeline.preprocessed": full.pixels[None],
        key: maps.predict(full)[None],
    }
    numbers = {
        "pipeline/resized_shape": list(small.shape[:2]),
        "pipeline/preprocessed_sum": full.pixels.double().sum().item(),
        "pipeline/prob_sum_per_class": maps.probabilities(full).double().sum((1, 2)),
    }
    for i, case in enumerate(about["pipeline"]["resize_shapes"]):
        height, width = case["hw"]
        out = resize_image(Image.new("RGB", (width, height)), min(case["scale"]), max(case["scale"]))
        numbers[f"pipeline/resize_shapes/{i}/out"] = list(out.shape[:2])
    return found, numbers


def numbers(pack: Pack) -> dict[str, Any]:
    model, about = PackModel(pack), pack.json(NUMBERS)
    made = pack.ours(TENSORS, tensors)
    found = pipeline(pack)[1]
    places = {case["key"]: i for i, case in enumerate(about["cases"])}
    for image, attention in modes(pack):
        name = f"{image}.{attention}"
        full = dense(pack, model, image, attention)
        if name in about["window_order"]:
            found[f"window_order/{name}"] = full.grid.window_count
        for case in cases(pack, name):
            i = places[case["key"]]
            probabilities = label_maps(pack, case).probabilities(full)
            labels = torch.from_numpy(made[f"pred.{case['key']}"]).flatten()
            found[f"cases/{i}/prob_sum_per_class"] = probabilities.double().sum((1, 2))
            found[f"cases/{i}/class_histogram"] = torch.bincount(labels, minlength=len(probabilities))
    return found


FILES = {TENSORS: tensors, NUMBERS: numbers}


@pytest.fixture(scope="module")
def pack(parity_dir: Path) -> Pack:
    return Pack.at(parity_dir)


@pytest.mark.parametrize("file", FILES)
def test_every_stored_value_of_segmentation_comes_out_again(pack: Pack, file: str):
    pack.compare(file, pack.ours(file, FILES[file]))


def test_the_oracle_gives_the_stored_logits_labels_and_refinement_too(pack: Pack):
    stored, model = pack.tensors(TENSORS), PackModel(pack)
    for index, attention in modes(pack):
        name = f"{index}.{attention}"
        image, original = stored[f"image.{index}"][0].float(), pack.json(NUMBERS)["images"][index]["ori_shape"]
        for case in cases(pack, name):
            given = {**settings(pack), **case}
            fields = ("crop", "stride", "logit_scale", "prob_thd", "area_thd", "pamr_steps", "pamr_dilations")
            chosen = oracle.Settings(**{field: given[field] for field in fields})
            logits = oracle.image_logits(
                lambda x, attention=attention: model.encode_patches(x, attention),
                image,
                tuple(original),
                stored["query_features"],
                chosen,
            )
            kind = "pamr_logits" if case["pamr_steps"] else "slide_logits"
            if f"{kind}.{name}" in stored:
                assert (logits - stored[f"{kind}.{name}"][0]).abs().max() <= 5e-5
            same = oracle.labels(logits, case["query_idx"], chosen) == stored[f"pred.{case['key']}"][0].numpy()
            assert same.mean() >= 0.999, case["key"]


def test_what_is_not_compared_here_is_compared_with_the_areas(pack: Pack):
    """The other two files of the folder are `test_parity_iou`'s."""
    assert set(pack.files("segmentation")) == {*FILES, test_parity_iou.FILE, test_parity_iou.MAPS}
    leaves = set(pack.leaves(test_parity_iou.FILE))
    rest = {key for key in leaves if not key.startswith("reduce_zero_label/")} - set(test_parity_iou.numbers(pack))
    assert rest == {"num_classes", "ignore_index"}
