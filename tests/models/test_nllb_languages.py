"""Models that are told the language of texts: NLLB-CLIP of open_clip, and own adapters."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clip_benchmark.models.nllb_clip import lang_map, set_language
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval import MultilingualRetrievalData, evaluate
from cosmos_eval.cache.contents import find_cache_folder, list_cached_models
from cosmos_eval.cache.export import export_features
from cosmos_eval.cache.feature_cache import FeatureCache
from cosmos_eval.datasets.languages.words import languages_of
from cosmos_eval.engine import Engine
from cosmos_eval.engine.text_batches import text_key
from cosmos_eval.models import load_model
from cosmos_eval.models.abilities import has_method, require_languages
from cosmos_eval.models.nllb_languages import NLLB_CODES, language_switch
from cosmos_eval.models.python_adapter import PythonModel
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.open_clip_folders import shallow_timm, write_architecture
from tests.helpers.stand_ins import RandomModel, random_images

CODES = ["eng_Latn", "deu_Latn", "zho_Hant", "jpn_Jpan", "ita_Latn"]
"""Those that the small tokenizer has."""
TEXTS = ["a red cube", "ein hund", "a red cube", "x " * 90]


def save_nllb_tokenizer(folder) -> None:
    from transformers import NllbTokenizer

    words = ["<pad>", "<unk>", "<s>", "</s>", "\u2581", *"abcdefghijklmnopqrstuvwxyz012"]
    vocab = {word: i for i, word in enumerate(words)}
    NllbTokenizer(vocab=vocab, merges=[], extra_special_tokens=CODES).save_pretrained(folder)


@pytest.fixture(scope="module")
def nllb(tmp_path_factory):
    """Spec of a small NLLB-CLIP, and open_clip's own network and tokenizer of it."""
    folder = tmp_path_factory.mktemp("nllb") / "nllb-clip"
    with shallow_timm():
        network, _, tokenizer = write_architecture("nllb-clip-base", folder, save_nllb_tokenizer)
    return SimpleNamespace(spec=f"open_clip:local-dir:{folder}", network=network, tokenizer=tokenizer)


@pytest.fixture
def model(nllb):
    return load_model(nllb.spec)


def test_tokens_and_embeddings_are_those_after_clip_benchmarks_set_language(nllb, model, capsys):
    english = model.tokenize(TEXTS)
    assert torch.equal(nllb.tokenizer(TEXTS), english)  # sets its padding and truncation, too
    seen = []
    for code in (code for code, nllb_code in lang_map.items() if nllb_code in CODES):
        set_language(nllb.tokenizer, code)
        # As open_clip's tokenizer did when the figures were published. A call of transformers' tokenizer would undo it.
        expected = torch.tensor([nllb.tokenizer.tokenizer.backend_tokenizer.encode(text.strip()).ids for text in TEXTS])
        assert expected[0, 0] == nllb.tokenizer.tokenizer.convert_tokens_to_ids(lang_map[code])
        with model.use_language(code):
            assert torch.equal(model.tokenize(TEXTS), expected)
            torch.testing.assert_close(model.encode_text(TEXTS), nllb.network.encode_text(expected))
            assert model.truncated(TEXTS) == [False, False, False, True]
        seen.append(code)
        assert torch.equal(model.tokenize(TEXTS), english)  # as before
    assert {"en", "de", "zh", "cn", "jp", "ja", "it", "deu_Latn"} <= set(seen)
    capsys.readouterr()  # clip-benchmark prints


def test_the_language_is_as_before_after_an_error(model):
    english = model.tokenize(TEXTS)
    with model.use_language("de"):
        german = model.tokenize(TEXTS)
        assert not torch.equal(german, english)
        with model.use_language("zh"), pytest.raises(TypeError):
            model.encode_text([1])
        assert torch.equal(model.tokenize(TEXTS), german)
    assert torch.equal(model.tokenize(TEXTS), english)


def test_every_language_of_the_definitions_has_a_code_of_nllbs_tokenizer():
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

    for code in {*NLLB_CODES} & {*lang_map}:
        assert NLLB_CODES[code] == lang_map[code]
    assert {code for code in lang_map if "_" not in code} <= {*NLLB_CODES}
    assert set(NLLB_CODES.values()) <= {*FAIRSEQ_LANGUAGE_CODES}
    for name in ("multilingual-coco", "xm3600", "xtd200", "flickr30k-200"):
        codes = load_benchmark(name).dataset["languages"]
        assert {NLLB_CODES.get(code, code) for code in codes} <= {*FAIRSEQ_LANGUAGE_CODES}, name
    for name in ("imagenet1k-multilingual", "babel-imagenet"):
        assert {words.code for words in languages_of(load_benchmark(name))} <= {*NLLB_CODES}, name


def test_a_language_without_a_code_is_refused_with_all_others_of_the_benchmark(model):
    with pytest.raises(
        RequestError, match=r"tokenizer of \S+ has no code for the language 'br'; leave it out"
    ) as error:
        require_languages(model, ["de", "br", "fra_Latn", "red"], "babel")
    assert str(error.value).startswith("babel: ")
    assert str(error.value).endswith("(likewise fra_Latn, red)")
    require_languages(RandomModel(), ["br"], "babel")  # is told none


def test_only_nllbs_tokenizer_is_told():
    def tokenizer(*words: str):
        ids = {word: i for i, word in enumerate(words)}
        return SimpleNamespace(convert_tokens_to_ids=lambda word: ids.get(word, 0), unk_token_id=0, src_lang="en_XX")

    assert language_switch(SimpleNamespace(tokenizer=tokenizer("<unk>", "en_XX")), "mbart") is None
    assert language_switch(SimpleNamespace(tokenizer=tokenizer("<unk>", "eng_Latn")), "nllb") is not None
    assert language_switch(SimpleNamespace(), "own") is None
    assert not has_method(load_model("cosmos:toybox"), "use_language")


def test_the_cache_does_not_mix_languages(model, tmp_path):
    def engine():
        return Engine(model, cache=FeatureCache(tmp_path), batch_size=1)

    first = engine()
    features = {code: first.text_features(TEXTS, language=code) for code in (None, "de", "zh")}
    assert first.encoded["texts"] == 9
    assert not torch.allclose(features["de"], features["zh"], atol=1e-3)
    assert torch.equal(features[None], Engine(model, batch_size=1).text_features(TEXTS))
    with model.use_language("de"):
        expected = torch.nn.functional.normalize(model.encode_text(TEXTS), dim=1)
    torch.testing.assert_close(features["de"], expected)
    again = engine()
    for code in ("zh", None, "de"):
        assert torch.equal(again.text_features(TEXTS, language=code), features[code])
    assert again.encoded["texts"] == 0
    assert again.text_counts.truncated == 3
    first.benchmark = again.benchmark = "both"
    first.image_features(random_images(1))
    for code in ("de", "zh"):
        first.text_features(["a"], language=code)
    with pytest.raises(RequestError, match=r"several embeddings of the text 'a', by its language.*--benchmark"):
        export_features(list_cached_models(tmp_path)[0], tmp_path / "v", ["both"])


def test_a_language_changes_nothing_for_models_that_are_told_none(tmp_path):
    model = RandomModel()
    first = Engine(model, cache=FeatureCache(tmp_path))
    features = first.text_features(["a", "b"])
    again = Engine(model, cache=FeatureCache(tmp_path))
    assert torch.equal(again.text_features(["a", "b"], language="de"), features)
    assert again.encoded["texts"] == 0
    assert text_key("a") != text_key("a", "de") != text_key("a", "fr")


def multilingual(images=5, codes=("de", "zh", "en")):
    words = np.random.default_rng(0).permuted([list("abcdefghijklmn")] * images, axis=1)
    captions = [" ".join(row) for row in words]
    return MultilingualRetrievalData.from_captions(random_images(images, side=32), dict.fromkeys(codes, captions))


def test_a_run_tells_the_languages_and_resumes(nllb, model, tmp_path):
    data = multilingual()
    (result,) = evaluate(nllb.spec, data, out=tmp_path, batch_size=1)
    assert result.timing.encoded == {"images": 5, "texts": 15}
    engine = Engine(model, batch_size=1, cache=FeatureCache(find_cache_folder(tmp_path)))
    images = engine.image_features(data.images)
    features = []
    for code in data.languages:
        features.append(engine.text_features(data.texts[:5], language=code))  # as the run has stored them
        with model.use_language(code):
            torch.testing.assert_close(features[-1], torch.nn.functional.normalize(model.encode_text(data.texts[:5])))
        correct = (images @ features[-1].T).argmax(1) == torch.arange(5)
        assert result.metrics[f"{code}/image_to_text_recall@1"].value == pytest.approx(float(correct.float().mean()))
    assert engine.encoded["texts"] == 0
    assert not torch.allclose(features[0], features[1], atol=1e-3)
    (again,) = evaluate(nllb.spec, data, out=tmp_path, batch_size=1)
    assert again.metrics == result.metrics
    (cached,) = evaluate(nllb.spec, data, out=tmp_path, batch_size=1, overwrite=True)
    assert cached.metrics == result.metrics
    assert cached.timing.encoded == {"images": 0, "texts": 0}
    with pytest.raises(RequestError, match="no code for the language 'br'"):
        evaluate(nllb.spec, multilingual(codes=("de", "br")), out=tmp_path / "other")


class Told(RandomModel):
    """An adapter whose texts begin with the code of their language; scores pairs if it is asked to."""

    language = ""

    @contextmanager
    def use_language(self, code):
        if code == "xx":
            raise KeyError(code)
        before, self.language = self.language, code
        yield
        self.language = before

    def encode_text(self, texts) -> Tensor:
        return super().encode_text([f"{self.language} {text}" for text in texts])


class ToldPairs(Told):
    def score_pairs(self, images, texts) -> Tensor:
        return (self.encode_image(images) * self.encode_text(texts)).sum(1)


@pytest.mark.parametrize("adapter", [Told, ToldPairs])
def test_an_own_adapter_is_told_the_language(adapter, tmp_path):
    model = PythonModel(adapter(), "python:own:build")
    images, texts = random_images(3), ["a", "b"]
    engine = Engine(model, cache=FeatureCache(tmp_path), batch_size=2)
    scores = {code: engine.score(images, texts, language=code).image_to_text() for code in ("de", "fr", None)}
    blocks = {code: next(iter(of_code.blocks()))[2] for code, of_code in scores.items()}
    assert not torch.allclose(blocks["de"], blocks["fr"])
    direct = Engine(PythonModel(RandomModel(), "python:own:plain") if adapter is Told else model, batch_size=2)
    if adapter is Told:
        assert torch.equal(direct.text_features(["de a"]), engine.text_features(["a"], language="de"))
    again = Engine(model, cache=FeatureCache(tmp_path), batch_size=2)
    for code, block in blocks.items():
        assert torch.equal(next(iter(again.score(images, texts, language=code).image_to_text().blocks()))[2], block)
    assert set(again.encoded.values()) == {0}
    with pytest.raises(RequestError, match="python:own:build: use_language failed: KeyError"):
        engine.text_features(["a"], language="xx")
