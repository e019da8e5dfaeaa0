"""Image preprocessing: what each resize mode keeps of an image, and that the recorded settings are applied."""

import pickle

import pytest
import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.models.preprocess import ImagePreprocess

PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def two_colour_image(width, height):
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    return image


def red_share(x):
    return (x[0] > 0.5).float().mean().item()


def test_shortest_crops_the_middle_squash_keeps_all_and_longest_pads():
    wide = two_colour_image(300, 100)
    wide.paste((0, 255, 0), (0, 0, 50, 100))  # a green edge that a centre crop loses
    green = {mode: ImagePreprocess(60, resize=mode, **PLAIN)(wide)[1] for mode in ("shortest", "squash", "longest")}
    assert green["shortest"].max() < 0.1
    assert green["squash"][:, :8].min() > 0.9
    assert green["longest"][:18].max() == green["longest"][-18:].max() == 0  # padding above and below
    assert green["longest"][25:35, :8].min() > 0.9
    assert all(x.shape == (60, 60) for x in green.values())


def test_a_flat_image_worked_by_hand():
    x = ImagePreprocess(8, mean=(0.5, 0.25, 0), std=(0.5, 0.25, 2))(Image.new("RGB", (20, 12), (255, 0, 51)))
    assert x.dtype == torch.float32
    assert x.shape == (3, 8, 8)
    assert x[:, 3, 3].tolist() == pytest.approx([1.0, -1.0, 0.1])


def test_conversion_to_rgb_comes_before_resizing():
    palette = two_colour_image(64, 64).convert("P", palette=Image.Palette.ADAPTIVE).resize((65, 65))
    preprocess = ImagePreprocess(9, **PLAIN)
    assert torch.equal(preprocess(palette), preprocess(palette.convert("RGB")))
    assert not torch.equal(preprocess.transform(palette), preprocess(palette))


def test_height_comes_before_width():
    preprocess = ImagePreprocess((64, 96), **PLAIN)
    assert preprocess(two_colour_image(200, 100)).shape == (3, 64, 96)
    assert preprocess.describe()["image_size"] == [64, 96]
    assert ImagePreprocess((64, 64)) == ImagePreprocess(64)


def test_interpolation_is_applied_and_recorded():
    sharp = two_colour_image(50, 50)
    bicubic, bilinear = (ImagePreprocess(224, interpolation=i, **PLAIN)(sharp) for i in ("bicubic", "bilinear"))
    assert not torch.equal(bicubic, bilinear)
    assert ImagePreprocess(224, interpolation="bilinear").describe()["interpolation"] == "bilinear"


def test_settings_that_open_clip_would_ignore_are_refused():
    with pytest.raises(RequestError, match="always bicubic"):
        ImagePreprocess((64, 96), interpolation="bilinear")
    with pytest.raises(RequestError, match="one of shortest, longest, squash"):
        ImagePreprocess(64, resize="crop")
    with pytest.raises(RequestError, match="one of bicubic, bilinear"):
        ImagePreprocess(64, interpolation="lanczos")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"std": (0.2, 0, 0.2)}, "std must be at least 1e-06"),
        ({"std": (0.2, -1, 0.2)}, "std must be at least 1e-06"),
        ({"std": (0.2, float("nan"), 0.2)}, "three finite numbers"),
        ({"mean": (0.5, float("inf"), 0.5)}, "three finite numbers"),
        ({"mean": (0.5,)}, "three finite numbers"),
    ],
)
def test_a_normalisation_with_infinite_results_is_refused(settings, message):
    with pytest.raises(RequestError, match=message):
        ImagePreprocess(32, **settings)


def test_an_instance_is_picklable_after_use_and_gives_equal_tensors():
    preprocess = ImagePreprocess(32, resize="longest", fill=128)
    first = preprocess(two_colour_image(50, 20))
    copy = pickle.loads(pickle.dumps(preprocess))
    assert copy == preprocess
    assert hash(copy) == hash(preprocess)
    assert torch.equal(copy(two_colour_image(50, 20)), first)
