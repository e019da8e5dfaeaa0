"""Texts that are longer than a model's context: counted in the result, with one warning, also with cached features."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmos_core import COSMOS
from cosmos_eval import evaluate, to_frame
from cosmos_eval.datasets import load
from cosmos_eval.engine import Engine
from cosmos_eval.models.cosmos import CosmosModel
from cosmos_eval.models.open_clip import OpenClipModel, untruncated_length
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.results.record import Result
from cosmos_eval.results.sections import TextsSection
from tests.helpers.stand_ins import RandomModel, random_images
from tests.models.test_models_hf import clip_folder, siglip_folder
from tests.oracles.truncated_texts import truncated_token_by_token

__all__ = ["clip_folder", "siglip_folder"]
LONG = " ".join(["a wide field with many things in it"] * 12)
WORDS = ["a red circle", "a blue square", "two green rings", "a black star", "an orange heart", "a grey moon"]


@pytest.fixture(scope="module")
def toybox():
    """A COSMOS with a context of 40 tokens."""
    torch.manual_seed(0)
    return CosmosModel(COSMOS.from_config("toybox").eval(), device="cpu")


def count_texts(model, texts):
    engine = Engine(model)
    engine.text_features(texts)
    return engine.text_counts


def test_a_repeated_truncated_text_counts_each_time(toybox):
    texts = [f"{LONG} {word}" if i < 4 else word for i, word in enumerate(WORDS)]
    assert count_texts(toybox, texts).record() == {"read": 6, "truncated": 4, "context_length": 40}
    assert count_texts(toybox, [*texts, texts[0]]).record() == {"read": 7, "truncated": 5, "context_length": 40}
    assert count_texts(toybox, texts).warnings() == (
        "4 of 6 texts are longer than the context of 40 tokens and were cut "
        "(67 %: the numbers say little of how long texts are understood)",
    )
    assert count_texts(toybox, texts).truncated_share == pytest.approx(4 / 6)
    assert count_texts(toybox, WORDS).warnings() == ()


def test_a_text_that_just_fits_the_context_is_not_truncated(toybox):
    fitting = " ".join(["a"] * 38)  # with its start and its end 40 tokens
    assert len(toybox.tokenize.encode(fitting)) == 38
    assert count_texts(toybox, [fitting]).truncated == 0
    assert count_texts(toybox, [f"{fitting} a"]).truncated == 1


def test_texts_that_are_truncated_alike_are_reported_as_such(toybox):
    texts = [f"{LONG} {word}" for word in WORDS]
    counts = count_texts(toybox, texts)
    assert counts.alike
    assert counts.warnings()[0].endswith("all are the same text after that, which no model can tell apart")
    assert not count_texts(toybox, [*texts, "a moon"]).alike


def write_benchmark(folder, captions):
    from PIL import Image

    rows = []
    for i, caption in enumerate(captions):
        Image.new("RGB", (8, 8), (40 * i, 9, 9)).save(folder / f"p{i}.png")
        rows.append({"image": f"p{i}.png", "captions": [caption]})
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "d.yaml"
    path.write_text(
        "name: d\nversion: 1\ntask: retrieval\ndataset: {reader: jsonl, path: d.jsonl}\n"
        "metrics: {primary: text_to_image_recall@1, k: [1]}\nsource: own\n"
    )
    return path


def test_a_result_has_the_count_and_the_warning_also_if_all_features_were_cached(tmp_path, toybox):
    path = write_benchmark(tmp_path, [f"{LONG} {word}" for word in WORDS])
    first, again = (
        evaluate(toybox, path, out=tmp_path / name, cache=tmp_path / "cache")[0] for name in ("first", "again")
    )
    assert (first.timing.encoded["texts"], again.timing.encoded["texts"]) == (1, 0)
    for result in (first, again):
        assert result.timing.texts == TextsSection(read=6, truncated=6, context_length=40)
        assert [line for line in result.warnings if "collapsed" in line and "texts" in line] == []
        assert result.warnings[-1].startswith("6 of 6 texts are longer than the context of 40 tokens and were cut")
    assert Result.from_json(first.to_json(), "x") == first


def test_a_result_without_the_count_can_be_read(tmp_path, toybox):
    (result,) = evaluate(toybox, write_benchmark(tmp_path, WORDS), cache=False)
    text = replace(result, timing=replace(result.timing, texts=None)).to_json()
    assert "texts" not in json.loads(text)["timing"]
    assert Result.from_json(text, "x").timing.texts is None


def test_transformers_models_count_too(clip_folder, siglip_folder):
    from cosmos_eval.models import load_model

    model = load_model(f"hf:{clip_folder}")  # every letter is a token, the context has 20
    assert count_texts(model, ["abcdefghijklmnopqr", "abcdefghijklmnopqrs", "a"]).record() == {
        "read": 3,
        "truncated": 1,
        "context_length": 20,
    }
    assert count_texts(model, ["abcdefghijklmnopqrstuv", "abcdefghijklmnopqrstuw"]).alike
    model = load_model(f"hf:{siglip_folder}")  # every word is one, the context has 12 with the end
    assert count_texts(model, ["a " * 11, "a " * 12, "a red cube"]).truncated == 1


@pytest.mark.parametrize(("words", "tokens"), [(75, 77), (76, 78)])
def test_the_length_of_a_text_is_counted_before_open_clip_truncates_it(words, tokens):
    import open_clip

    assert untruncated_length(open_clip.SimpleTokenizer(), "a " * words) == tokens


def test_the_count_is_none_for_a_model_that_cannot_tell():
    assert count_texts(RandomModel(), WORDS).record() == {"read": 6, "truncated": None, "context_length": None}


def test_an_adapter_may_tell_which_texts_it_truncates(tmp_path):
    class Short:
        digest = "short"
        context_length = 3
        preprocess = staticmethod(RandomModel.preprocess)

        def encode_image(self, x):
            return x.mean(dim=(2, 3))

        def encode_text(self, texts):
            return torch.tensor([[len(text), 1.0, 2.0] for text in texts])

        def truncated(self, texts):
            return [len(text.split()) > self.context_length for text in texts]

    (result,) = evaluate(Short(), write_benchmark(tmp_path, [*WORDS, "a b c d"]), cache=False)
    assert result.timing.texts == TextsSection(read=7, truncated=1, context_length=3)
    assert result.warnings[-1].startswith("1 of 7 texts are longer than the context of 3 tokens and were cut (14 %: ")
    frame = to_frame(result)
    assert frame["truncated"].tolist() == [pytest.approx(1 / 7)] * len(frame)


def test_up_to_a_tenth_the_warning_gives_no_share(toybox):
    texts = [f"{LONG} {word}" for word in WORDS[:1]] + [f"{word} {i}" for word in WORDS for i in range(2)][:9]
    (warning,) = count_texts(toybox, texts).warnings()
    assert warning == "1 of 10 texts are longer than the context of 40 tokens and were cut"
    (warning,) = count_texts(toybox, texts[:9]).warnings()
    assert "(11 %: " in warning


@pytest.fixture(scope="module")
def tokenizers(toybox):
    """Adapters with their tokens of a text, and how many tokens each adds."""
    import open_clip

    class OfOpenClip(OpenClipModel):
        def __init__(self):
            self.tokenizer = open_clip.SimpleTokenizer()

    return {
        "cosmos": (toybox, toybox.tokenize.encode, 40, 2),
        "open_clip": (OfOpenClip(), open_clip.SimpleTokenizer().encode, 77, 2),
    }


@pytest.mark.parametrize("library", ["cosmos", "open_clip"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(texts=st.lists(st.lists(st.sampled_from([*WORDS, "é", "a", "12.5", "!"]), max_size=40), min_size=1, max_size=8))
def test_the_truncated_texts_are_those_counted_token_by_token(library, texts, tokenizers):
    model, tokens_of, context, special = tokenizers[library]
    lines = [" ".join(words) for words in texts]
    slow = truncated_token_by_token(lines, tokens_of, context, special)
    assert model.truncated(lines) == slow


def test_the_share_of_a_benchmark_is_that_counted_token_by_token(toybox):
    benchmark = load_benchmark("toybox-long")
    data = load(replace(benchmark, dataset={**benchmark.dataset, "scenes": 60, "expected": {}}))
    slow = truncated_token_by_token(data.texts, toybox.tokenize.encode, 40, 2)
    assert 0.1 < np.mean(slow) < 1
    assert count_texts(toybox, data.texts).truncated_share == np.mean(slow)


def test_transformers_truncated_texts_are_those_counted_token_by_token(clip_folder):
    from cosmos_eval.models import load_model

    model = load_model(f"hf:{clip_folder}")
    texts = [" ".join(["abc"] * n) for n in range(1, 12)] + ["", "é" * 30]
    tokens_of = partial(model.tokenizer.encode, add_special_tokens=False)
    assert model.truncated(texts) == truncated_token_by_token(texts, tokens_of, model.context_length, 2)


def test_images_alone_count_no_texts(toybox):
    engine = Engine(toybox)
    engine.image_features(random_images(2, side=64))
    assert engine.text_counts.record()["read"] == 0
