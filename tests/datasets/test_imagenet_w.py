"""ImageNet-W: what is drawn, and on which pixels; a perfect and a constant model; bad input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.imagenet import imagenet_wnids
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.datasets_on_disk import write_image
from tests.helpers.perception_on_disk import small
from tests.helpers.stand_ins import Constant, Given

matplotlib = pytest.importorskip("matplotlib")
FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
"""It has no Chinese characters and draws boxes in their place; the authors' font is not on this machine."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i, wnid in enumerate(imagenet_wnids()[:2]):
        path = write_image(tmp_path / f"imagenet/val/{wnid}/{i}.png", seed=i, size=240)
        Image.open(path).resize((320, 240)).save(path)
    (tmp_path / "imagenet-w").mkdir()
    (tmp_path / "imagenet-w/SourceHanSerifSC-ExtraLight.otf").write_bytes(FONT.read_bytes())
    return tmp_path


def drawn_slowly(image: Image.Image, side: int, size: int) -> np.ndarray:
    """The pixels of CLIP's resize and crop, each blended with half of the white that the font puts there."""
    tensor = transforms.Compose(
        [
            transforms.Resize(side, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
        ]
    )(image)
    pixels = np.asarray(to_pil_image(tensor), dtype=np.float64)
    mask = Image.new("L", (side, side))
    font = ImageFont.truetype(str(FONT), size, layout_engine=ImageFont.Layout.BASIC)
    ImageDraw.Draw(mask).text((0.01 * side, 0.4 * side), "捷径捷径捷径", fill=255, font=font)
    alpha = np.asarray(mask, dtype=np.float64)[:, :, None] / 255 * 128 / 255
    return pixels * (1 - alpha) + 255 * alpha


@pytest.mark.parametrize(("side", "size"), [(224, 36), (100, 16)])
def test_the_watermark_is_drawn_on_what_the_model_sees(root: Path, side: int, size: int):
    data = datasets.load(small("imagenet-w", side=side), root)
    image = data.images[0].load()
    assert image.size == (side, side)
    expected = drawn_slowly(Image.open(root / f"imagenet/val/{data.images[0].key}").convert("RGB"), side, size)
    assert np.abs(np.asarray(image, dtype=np.float64) - expected).max() <= 1.5  # alpha is rounded to 8 bits


def test_clips_preprocessing_leaves_the_image_as_it_is(root: Path):
    image = datasets.load(small("imagenet-w"), root).images[1].load()
    clip = transforms.Compose(
        [transforms.Resize(224, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224)]
    )
    assert np.array_equal(np.asarray(clip(image)), np.asarray(image))


def test_images_with_and_without_the_watermark_are_different_images(root: Path):
    marked, plain = (datasets.load(small(name), root) for name in ("imagenet-w", "imagenet1k"))
    other = datasets.load(small("imagenet-w", side=336), root)
    digests = {data.images[0].digest() for data in (marked, plain, other)}
    assert len(digests) == len({data.fingerprint for data in (marked, plain, other)}) == 3
    assert marked.labels.tolist() == plain.labels.tolist()
    assert list(marked.class_names) == list(plain.class_names)


def with_one_template():
    benchmark = small("imagenet-w")
    return replace(benchmark, prompts={**benchmark.prompts, "templates": ["a photo of a {c}."]})


def test_a_perfect_and_a_constant_model(root: Path):
    benchmark = with_one_template()
    data = datasets.load(benchmark, root)
    axes = torch.eye(3).tolist()
    texts = {f"a photo of a {name}.": axes[min(i, 2)] for i, name in enumerate(data.class_names)}
    images = {image.key: axes[label] for image, label in zip(data.images, data.labels, strict=True)}
    assert tasks.run(benchmark, data, Given(images, texts)).metrics["top1"].value == 1
    images[data.images[1].key] = axes[0]
    assert tasks.run(benchmark, data, Given(images, texts)).metrics["top1"].value == 0.5
    assert tasks.run(benchmark, data, Constant()).metrics["top1"].value == pytest.approx(1 / 1000)


def test_it_runs_from_its_files_to_its_result(root: Path):
    model = "cosmos:untrained-toybox?seed=3"
    (result,) = evaluate(model, [with_one_template()], data_root=root, out=root / "out", batch_size=64)
    assert (result.primary, result.dataset.n["images"]) == ("top1", 2)


def test_a_missing_or_broken_font_is_named(root: Path):
    font = root / "imagenet-w/SourceHanSerifSC-ExtraLight.otf"
    font.write_bytes(b"no font")
    with pytest.raises(RequestError, match="cannot read the font"):
        datasets.load(small("imagenet-w", side=225), root)
    font.unlink()
    with pytest.raises(RequestError, match="SourceHanSerifSC-ExtraLight"):
        datasets.load(small("imagenet-w"), root)
    with pytest.raises(RequestError, match="at least 32 pixels"):
        datasets.load(small("imagenet-w", side=8), root)
