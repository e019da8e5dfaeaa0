"""The eight segmentation definitions: SCLIP's words and settings, with vanilla and with correlative attention."""

import json
from dataclasses import replace

import pytest

from cosmos_eval.protocol.benchmark import load_benchmark, load_suite
from tests.conftest import SHARED
from tests.helpers.segmentation_on_disk import NAMES

WITH_BACKGROUND = {"voc21", "context60", "coco-object"}


@pytest.mark.parametrize("name", NAMES)
def test_words_and_settings_are_those_of_the_released_files(name: str):
    path = SHARED / "segmentation_words.json"
    if not path.is_file():
        pytest.skip(f"no {path}; set COSMOS_SHARED_DIR")
    released = json.loads(path.read_text(encoding="utf-8"))["benchmarks"][name.replace("-", "_")]
    benchmark = load_benchmark(name)
    words = benchmark.resolve_prompts()
    assert [list(class_words) for class_words in words.query_words] == released["words"]
    assert sum(map(len, words.query_words)) == released["query_words"]
    assert len(words.templates or ()) == 80
    settings = benchmark.settings
    for key in ("short_side", "logit_scale", "prob_thd", "area_thd", "crop", "stride"):
        assert settings[key] == released[key], key
    assert settings["long_side"] == released["long_side_max"]
    assert settings["pamr_steps"] == 0
    assert settings["attention"] == "vanilla"
    assert settings["background"] == (name in WITH_BACKGROUND)
    assert benchmark.dataset["expected"]["classes"] == released["classes"] == len(words.query_words)


@pytest.mark.parametrize("name", NAMES)
def test_definitions_with_csa_differ_in_attention_only(name: str):
    vanilla, csa = load_benchmark(name), load_benchmark(f"{name}-csa")
    assert csa.settings == {**vanilla.settings, "attention": "csa"}
    assert replace(csa, name=name, summary="", settings={}, fingerprint="", published=()) == replace(
        vanilla, summary="", settings={}, fingerprint="", published=()
    )
    assert csa.fingerprint != vanilla.fingerprint
    assert csa.summary == f"{vanilla.summary}; correlative self-attention"


def test_the_suite_has_all_eight_with_both_attentions():
    suite = load_suite("paper-segmentation")
    names = [benchmark.name for benchmark in suite]
    assert names[8:] == [f"{name}-csa" for name in names[:8]]
    assert set(names[:8]) == set(NAMES)
    assert {benchmark.settings["attention"] for benchmark in suite[8:]} == {"csa"}


def test_published_counts():
    counts = {name: load_benchmark(name).dataset["expected"]["images"] for name in NAMES}
    assert counts == {
        "voc21": 1449, "voc20": 1449, "context60": 5104, "context59": 5104,
        "coco-object": 5000, "coco-stuff164k": 5000, "ade20k": 2000, "cityscapes": 500,
    }  # fmt: skip
