"""The definitions of MaskCLIP, ClearCLIP and NACLIP: the settings of the papers' code, and the published rows."""

import pytest

from cosmos_eval.datasets.prompts import resolve_prompts
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.published.reproduce import reproduce

SETS = ("voc21", "context60", "coco-object", "voc20", "cityscapes", "context59", "ade20k", "coco-stuff164k")
WITH_BACKGROUND = SETS[:3]
CLEARCLIP_THRESHOLDS = {"voc21": 0.5, "context60": 0.15, "coco-object": 0.4}
MASKCLIP_SIDES = {"voc20": (512, 2048), "cityscapes": (512, 1024), "context59": (520, 520)}


def settings_of(name):
    settings = load_benchmark(name).settings
    keys = ("attention", "short_side", "crop", "stride", "logit_scale", "prob_thd", "area_thd", "pamr_steps")
    return tuple(settings[key] for key in keys)


@pytest.mark.parametrize("name", SETS)
def test_clearclip_and_naclip_have_the_settings_of_their_code(name):
    crop = 224 if name == "cityscapes" else 448
    threshold = CLEARCLIP_THRESHOLDS.get(name, 0)
    assert settings_of(f"{name}-clearclip") == ("clearclip", 448, crop, 224, 50, threshold, None, 0)
    side = 560 if name == "cityscapes" else 336
    crop = 0 if name.startswith("voc") else 224
    threshold = 0.1 if name in WITH_BACKGROUND else 0
    for ending, steps in (("naclip", 10), ("naclip-unrefined", 0)):
        assert settings_of(f"{name}-{ending}") == ("naclip", side, crop, 112, 40, threshold, None, steps)


@pytest.mark.parametrize("name", SETS)
def test_maskclip_sees_whole_images_with_its_own_words_and_templates_and_is_sclips_with_background(name):
    base, ours = load_benchmark(name), load_benchmark(f"{name}-maskclip")
    assert ours.settings["attention"] == "maskclip"
    assert len(ours.resolve_prompts().query_words) == len(base.resolve_prompts().query_words)
    if name in WITH_BACKGROUND:
        assert ours.settings == base.settings | {"attention": "maskclip"}
        assert ours.resolve_prompts() == base.resolve_prompts()
    else:
        sides = (ours.settings["short_side"], ours.settings["long_side"])
        assert sides == MASKCLIP_SIDES.get(name, (512, 2048))
        assert ours.settings["crop"] == 0
        assert len(ours.resolve_prompts().templates) == 85


def test_maskclips_templates_are_openais_and_five_of_scenes():
    templates = resolve_prompts({"templates": "maskclip-85"}, None).templates
    assert templates[:80] == resolve_prompts({"templates": "openai-80"}, None).templates
    assert templates[80:] == (
        "there is a {c} in the scene.",
        "there is the {c} in the scene.",
        "this is a {c} in the scene.",
        "this is the {c} in the scene.",
        "this is one {c} in the scene.",
    )


@pytest.mark.parametrize(
    ("suite", "count", "benchmark", "printed"),
    [
        ("clearclip", 23, "voc20-clearclip", {"80.9", "81.4", "78.3"}),
        ("naclip", 9, "voc21-naclip", {"64.07"}),
        ("naclip-unrefined", 8, "voc21-naclip-unrefined", {"58.9"}),
    ],
)
def test_the_papers_rows_belong_to_their_definitions(suite, count, benchmark, printed):
    cells = reproduce(suite, []).cells
    assert len(cells) == count
    assert {cell.target.printed for cell in cells if cell.target.benchmark == benchmark} == printed
    assert all(cell.target.differences for cell in cells if cell.target.metric == "miou")
