"""Evaluation preprocessing equals the original's: pixels level by level, then the normalised tensors."""

import dataclasses
import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import Resize

from cosmos_eval.models.preprocess import ImagePreprocess
from tests.parity.golden import Pack

TENSORS = "transforms/transforms.safetensors"
FACTS = "transforms/transforms.json"


@pytest.fixture(scope="module")
def pack(parity_dir):
    return Pack.at(parity_dir)


def make_image(pack, name):
    encoded = pack.tensors(TENSORS)[f"{name}.png_bytes"].numpy().tobytes()
    return Image.open(io.BytesIO(encoded))


def settings(pack, size, resize="shortest"):
    facts = pack.json(FACTS)
    return ImagePreprocess(size, mean=facts["mean"], std=facts["std"], resize=resize)


def float_chw(image, preprocess, order):
    """`direct` shows the transform the image as it is decoded; `rgb_first` is what we do with every image."""
    return preprocess.transform(image) if order == "direct" else preprocess(image)


def uint8_hwc(image, preprocess, order):
    plain = dataclasses.replace(preprocess, mean=(0, 0, 0), std=(1, 1, 1))
    return (float_chw(image, plain, order) * 255).round().to(torch.uint8).permute(1, 2, 0)


def crops(pack):
    ours = {}
    for key in pack.compared(TENSORS):
        name, size, *rest = key.split(".")
        kind, choice = rest[-1], (rest[0] if len(rest) == 2 else "rgb_first")
        sides = [int(side) for side in size.split("x")]
        order = choice if choice in ("direct", "rgb_first") else "rgb_first"
        resize = choice if choice in ("longest", "squash") else "shortest"
        target = sides[0] if len(sides) == 1 else (sides[0], sides[1])
        image, preprocess = make_image(pack, name), settings(pack, target, resize)
        if kind == "float32_chw":
            ours[key] = float_chw(image, preprocess, order)
            continue
        pixels = uint8_hwc(image, preprocess, order)
        stored = pack.tensors(TENSORS)[key]
        step = -(-len(pixels) // len(stored))  # large crops are stored every second pixel, odd ones with the last
        ours[key] = pixels[::step, ::step]
    return ours


def statistics(image, preprocess, order):
    x = float_chw(image, preprocess, order).double()
    return {
        "sha256_uint8_hwc": hashlib.sha256(
            uint8_hwc(image, preprocess, order).contiguous().numpy().tobytes()
        ).hexdigest(),
        "sum": x.sum().item(),
        "abs_sum": x.abs().sum().item(),
        "channel_mean": x.mean((1, 2)).tolist(),
        "channel_std": x.std((1, 2)).tolist(),
    }


def facts_of_images(pack):
    """Everything that the pack says of its images in words and numbers."""
    compared, ours = pack.compared(FACTS), {}
    for name, facts in pack.json(FACTS)["images"].items():
        image = make_image(pack, name)
        ours |= {f"images/{name}/mode": image.mode, f"images/{name}/size_wh": list(image.size)}
        for output in facts["outputs"]:
            size, order = output.split(".")
            for statistic, value in statistics(make_image(pack, name), settings(pack, int(size)), order).items():
                ours[f"images/{name}/outputs/{output}/{statistic}"] = value
        for key in facts:
            if key.startswith("direct_equals_rgb_first_"):
                preprocess = settings(pack, int(key.rpartition("_")[2]))
                same = torch.equal(float_chw(image, preprocess, "direct"), float_chw(image, preprocess, "rgb_first"))
                ours[f"images/{name}/{key}"] = same
    ours |= {"mean": list(ImagePreprocess(64).mean), "std": list(ImagePreprocess(64).std)}
    for i, case in enumerate(pack.json(FACTS)["resized_wh"]):
        resize = ImagePreprocess(case["target"]).transform.transforms[0]
        assert isinstance(resize, Resize)
        resized = resize(Image.fromarray(np.zeros(case["input_wh"][::-1], np.uint8)))
        ours[f"resized_wh/{i}/output_wh"] = list(resized.size)
    # another Pillow may round a pixel otherwise, and then the hashes are not compared
    return {key: value for key, value in ours.items() if key in compared or not key.endswith("sha256_uint8_hwc")}


FILES = {TENSORS: crops, FACTS: facts_of_images}


@pytest.mark.parametrize("file", FILES)
def test_every_stored_crop_and_every_fact_of_images_come_out_again(pack, file):
    pack.compare(file, pack.ours(file, FILES[file]))
