"""Retrieval and classification in several languages: by hand, perfect, constant and NaN models, and the plain tasks."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_core.plugins import resolve
from cosmos_eval import evaluate, tasks
from cosmos_eval.datasets.data import ClassificationData, MultilingualRetrievalData, RetrievalData
from cosmos_eval.datasets.languages.words import digest_words, resolve_languages
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.bootstrap import mean_estimator, mean_per_class_estimator
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.tasks.languages import LanguageMeans
from tests.helpers.stand_ins import Constant, Given, RandomModel, benchmark, random_images
from tests.helpers.tiny_models import Colours
from tests.helpers.tiny_models import Constant as ColourConstant

RETRIEVAL = benchmark("multilingual-retrieval", k=[1, 2])
CODES = ("de", "fr", "ja")


def values(outcome):
    return {name: metric.value for name, metric in outcome.metrics.items()}


def captions(n, per_image=1):
    return {code: [[f"{code} {i} {j}" for j in range(per_image)] for i in range(n)] for code in CODES}


def axes(n):
    return {f"image-{i}": np.eye(n)[i] for i in range(n)}


def test_two_languages_by_hand():
    data = MultilingualRetrievalData.from_captions(
        random_images(3), {"de": ["eins", "zwei", "drei"], "fr": ["un", "deux", "trois"]}
    )
    of_text = {
        **dict(zip(["eins", "zwei", "drei"], np.eye(3), strict=True)),
        **dict(zip(["un", "deux", "trois"], np.eye(3)[[0, 2, 1]], strict=True)),  # deux and trois are confused
    }
    outcome = tasks.run(RETRIEVAL, data, Given(axes(3), of_text))
    metrics = values(outcome)
    # in French the second and third have a score of 0 with their own, tied with the first below one rival
    second = (1 + 0.5 + 0.5) / 3
    assert metrics["de/image_to_text_recall@1"] == metrics["de/image_to_text_recall@2"] == 1
    assert metrics["fr/image_to_text_recall@1"] == pytest.approx(1 / 3)
    assert metrics["fr/image_to_text_recall@2"] == pytest.approx(second)
    assert metrics["image_to_text_recall@1"] == pytest.approx((1 + 1 / 3) / 2)
    assert metrics["text_to_image_recall@2"] == pytest.approx((1 + second) / 2)
    assert outcome.primary == "image_to_text_recall@1"
    samples = outcome.samples
    assert len(samples) == 2 * 2 * 3
    french = samples[(samples["language"] == "fr") & (samples["direction"] == "text_to_image")]
    assert french["query"].tolist() == ["3", "4", "5"]
    assert french["image"].tolist() == ["image-0", "image-1", "image-2"]
    assert french["rank"].tolist() == [1, 2.5, 2.5]
    for metric in outcome.metrics.values():
        assert metric.low <= metric.value <= metric.high


def test_captions_of_other_languages_are_no_candidates():
    """A model to which every French text is the image of the German one: alone each language is perfect."""
    data = MultilingualRetrievalData.from_captions(random_images(4), captions(4))
    of_text = {text: np.eye(4)[i] for text, i in zip(data.texts, data.image_of_text, strict=True)}
    assert set(values(tasks.run(RETRIEVAL, data, Given(axes(4), of_text))).values()) == {1}


def test_a_constant_model_scores_chance_in_every_language():
    data = MultilingualRetrievalData.from_captions(random_images(5), captions(5, 2))
    outcome = tasks.run(RETRIEVAL, data, Constant())
    texts = {1: 2 / 10, 2: 1 - (8 / 10) * (7 / 9)}
    for name, value in values(outcome).items():
        k = int(name[-1])
        assert value == pytest.approx(k / 5 if "text_to_image" in name else texts[k]), name
    assert outcome.warnings[0].startswith("collapsed: the features of all 5 images")


def test_each_language_is_the_task_retrieval_on_its_captions():
    images = random_images(12)
    data = MultilingualRetrievalData.from_captions(images, captions(12, 2))
    model = RandomModel()
    engine = Engine(model)
    outcome = tasks.run(RETRIEVAL, data, engine)
    assert engine.encoded == {"images": 12, "texts": 72}  # images once, not once for each language
    alone = {}
    for number, code in enumerate(CODES):
        texts = data.texts_in(number)
        part = RetrievalData(images, [data.texts[j] for j in texts], data.image_of_text[texts])
        alone[code] = tasks.run(benchmark("retrieval", k=[1, 2]), part, Engine(RandomModel()))
        for name in ("image_to_text_recall@1", "text_to_image_recall@2"):
            theirs = alone[code].metrics[name]
            ours = outcome.metrics[f"{code}/{name}"]
            assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=1e-9)
    for name in ("image_to_text_recall@1", "text_to_image_recall@2"):
        mean = np.mean([values(one)[name] for one in alone.values()])
        assert outcome.metrics[name].value == pytest.approx(mean)


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_the_mean_over_languages_is_that_of_means_per_class(data):
    n, languages, images = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    language = np.concatenate([np.arange(languages), rng.integers(0, languages, n)])
    image = rng.integers(0, images, len(language))
    outcomes = rng.random(len(language))
    means = LanguageMeans(outcomes, language, image, languages, images)
    for _ in range(3):
        drawn = np.bincount(rng.integers(0, images, images), minlength=images).astype(float)
        slow = mean_per_class_estimator(outcomes, language, image)(drawn)
        assert means.mean(drawn) == pytest.approx(slow, nan_ok=True)
        for number in range(languages):
            selected = language == number
            slow = mean_estimator(outcomes[selected], image[selected], images)(drawn)
            assert means.of_language(number, drawn) == pytest.approx(slow, nan_ok=True)


class NotANumber(RandomModel):
    def encode_text(self, texts):
        return super().encode_text(texts) * math.nan


def test_a_model_that_gives_nan_is_refused():
    data = MultilingualRetrievalData.from_captions(random_images(3), captions(3))
    with pytest.raises(RequestError, match="not finite"):
        tasks.run(RETRIEVAL, data, Engine(NotANumber()))


def test_data_and_metrics_that_do_not_fit_are_refused():
    data = MultilingualRetrievalData.from_captions(random_images(3), captions(3))
    broken = data.replaced(
        texts=data.texts[:-1], image_of_text=data.image_of_text[:-1], language_of_text=data.language_of_text[:-1]
    )
    with pytest.raises(RequestError, match="has 1 image without a caption in ja: image-2; correct the annotations"):
        tasks.validate(RETRIEVAL, broken)
    wrong = replace(RETRIEVAL, metrics={"k": [1], "primary": "it/image_to_text_recall@1"})
    with pytest.raises(RequestError, match="no metric 'it/image_to_text_recall@1' here"):
        tasks.validate(wrong, data)


def classification(section, folder=None, primary=None):
    words = resolve_languages(section, folder, RequestError)
    one = benchmark("multilingual-classification", **({"primary": primary} if primary else {}))
    return replace(one, settings={**section, "words": digest_words(words)}, folder=folder)


NAMES = ("house", "dog", "tree")
OWN = {
    "own": {
        "de": {"class_names": ["Haus", "Hund", "Baum"], "templates": ["ein {c}", "{c}"]},
        "fr": {"class_names": {"tree": "arbre", "house": "maison"}},
    }
}


def class_data(labels):
    return ClassificationData(random_images(len(labels)), np.array(labels), NAMES, [])


def test_a_language_without_a_name_for_a_class_leaves_its_images_out():
    data = class_data([0, 1, 2, 2])
    axis = dict(zip(NAMES, np.eye(3), strict=True))
    of_text = {"ein Haus": axis["house"], "Haus": axis["house"], "ein Hund": axis["tree"], "Hund": axis["tree"]}
    of_text |= {"ein Baum": axis["dog"], "Baum": axis["dog"], "arbre": axis["tree"], "maison": axis["house"]}
    of_image = {f"image-{i}": axis[NAMES[label]] for i, label in enumerate(data.labels)}
    outcome = tasks.run(classification(OWN), data, Given(of_image, of_text))
    assert values(outcome) == {"de/top1": 0.25, "fr/top1": 1, "top1": 0.625}  # in French there is no dog
    french = outcome.samples[outcome.samples["language"] == "fr"]
    assert french["image"].tolist() == ["image-0", "image-2", "image-3"]
    assert french["label"].tolist() == french["prediction"].tolist() == [0, 2, 2]  # classes of the dataset


def test_a_remark_names_languages_with_one_class_and_with_equal_names():
    words = {"de": {"class_names": ["Kran", "Kran", "Hund"]}, "fr": {"class_names": {NAMES[0]: "maison"}}}
    outcome = tasks.run(classification({"own": words}), class_data([0, 1, 2, 2]), Constant())
    assert outcome.warnings[-2:] == (
        "languages with a single class, so that every image counts as right: fr",
        "classes that share their name with another one and tie: de 2 of 3",
    )


def test_a_constant_model_scores_chance_among_the_classes_of_each_language():
    outcome = tasks.run(classification(OWN), class_data([0, 1, 2, 2]), Constant())
    assert values(outcome) == {
        "de/top1": pytest.approx(1 / 3),
        "fr/top1": pytest.approx(1 / 2),
        "top1": pytest.approx((1 / 3 + 1 / 2) / 2),
    }


def test_each_language_is_the_task_classification_with_its_words():
    labels = np.arange(40) % 6
    names = [f"class {i}" for i in range(6)]
    images = random_images(40)
    words = {"class_names": [f"Klasse {i}" for i in range(6)], "templates": ["ein {c}", "das {c}"]}
    data = ClassificationData(images, labels, names, [])
    engine = Engine(RandomModel())
    section = {"own": {"de": words, "sw": {"class_names": [f"darasa {i}" for i in range(6)]}}}
    outcome = tasks.run(classification(section), data, engine)
    assert engine.encoded["images"] == 40
    alone = ClassificationData(images, labels, words["class_names"], words["templates"])
    theirs = tasks.run(benchmark("classification"), alone, Engine(RandomModel())).metrics
    for name in ("top1", "top5"):
        ours = outcome.metrics[f"de/{name}"]
        expected = (theirs[name].value, theirs[name].low, theirs[name].high)
        assert (ours.value, ours.low, ours.high) == pytest.approx(expected, abs=1e-9)
    assert values(outcome)["top5"] == pytest.approx((values(outcome)["de/top5"] + values(outcome)["sw/top5"]) / 2)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"own": {"de": {"class_names": ["Haus"]}}}, "languages: de has 1 name for the 3 classes"),
        ({"own": {"de": {"class_names": {"cat": "Katze"}}}}, "de names classes that the dataset does not have: cat"),
        ({"own": {"de": {"class_names": {"dog": "Hund"}}}}, "de has a name for none of the classes that have images"),
        ({"set": "imagenet", "only": ["it"]}, "languages: it has 1,000 names for the 3 classes"),
        ({"set": "babel-imagenet", "only": ["de"]}, "class of de 0 refers to class 1|refers to class"),
    ],
)
def test_words_that_do_not_fit_the_dataset_are_refused_before_any_compute(section, message):
    with pytest.raises(RequestError, match=message):
        tasks.validate(classification(section), class_data([0, 2, 2, 0]))


def test_words_that_changed_since_the_definition_was_read_are_refused():
    changed = classification(OWN)
    with pytest.raises(RequestError, match="the words changed after the definition was read"):
        tasks.validate(replace(changed, settings={**changed.settings, "words": "0" * 64}), class_data([0, 1, 2]))


def write_own(folder, names):
    from PIL import Image

    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 9, 9)).save(folder / f"{i}.png")
    lines = [f'{{"image": "{i}.png", "label": "{NAMES[i % 3]}"}}\n' for i in range(6)]
    (folder / "d.jsonl").write_text("".join(lines))
    (folder / "sw.txt").write_text("\n".join(names), encoding="utf-8")
    definition = {
        "name": "d",
        "version": 1,
        "task": "multilingual-classification",
        "dataset": {"reader": "jsonl", "path": "d.jsonl"},
        "prompts": {"class_names": list(NAMES)},
        "languages": {"own": {"sw": {"class_names": "sw.txt", "templates": ["picha ya {c}."]}, "de": OWN["own"]["de"]}},
        "metrics": {"primary": "sw/top1"},
    }
    (folder / "d.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    return folder / "d.yaml"


def test_an_own_language_by_a_word_file_from_end_to_end_and_its_comparison(tmp_path):
    path = write_own(tmp_path, ["nyumba", "mbwa", "mti"])
    (first,), (second,) = (
        evaluate(model(), path, cache=False, out=tmp_path / model.__name__) for model in (Colours, ColourConstant)
    )
    assert first.primary == "sw/top1"
    assert first.dataset.n == {"images": 6, "classes": 3}
    assert set(first.metrics) == {"sw/top1", "de/top1", "top1"}
    assert second.metrics["top1"].value == pytest.approx(1 / 3)
    info = task_info("multilingual-classification")
    frames = tuple(
        pd.read_parquet(next((tmp_path / name).rglob("samples.parquet"))) for name in ("Colours", "Constant")
    )
    for metric in ("sw/top1", "top1"):
        hits = resolve(info.paired)(metric, (first, second), frames)
        weights = np.ones(len(hits.baseline)) if hits.weights is None else hits.weights
        assert np.average(hits.baseline, weights=weights) == pytest.approx(first.metrics[metric].value)
        assert np.average(hits.candidate, weights=weights) == pytest.approx(second.metrics[metric].value)
    before = load_benchmark(path).fingerprint
    write_own(tmp_path, ["nyumba", "mbwa", "miti"])
    assert load_benchmark(path).fingerprint != before  # the words are part of the protocol


def test_the_comparison_of_retrieval_weighs_languages_alike():
    images = random_images(6)
    data = MultilingualRetrievalData.from_captions(
        images, {"de": [[f"a {i}", f"b {i}", f"c {i}"] for i in range(6)], "fr": [f"f {i}" for i in range(6)]}
    )
    one, other = (tasks.run(RETRIEVAL, data, Engine(RandomModel(seed=seed))) for seed in (0, 1))
    info = task_info("multilingual-retrieval")
    for metric in ("text_to_image_recall@2", "de/text_to_image_recall@2", "image_to_text_recall@1"):
        hits = resolve(info.paired)(metric, (one, other), (one.samples, other.samples))
        weights = np.ones(len(hits.baseline)) if hits.weights is None else hits.weights
        assert np.average(hits.baseline, weights=weights) == pytest.approx(one.metrics[metric].value)
        assert np.average(hits.candidate, weights=weights) == pytest.approx(other.metrics[metric].value)
    with pytest.raises(RequestError, match="no sample is in the language it"):
        resolve(info.paired)("it/image_to_text_recall@1", (one, other), (one.samples, other.samples))


class ShortContext(RandomModel):
    """Reads three words of a text."""

    context_length = 3

    def truncated(self, texts):
        return [len(text.split()) > 3 for text in texts]


def test_a_warning_names_the_languages_of_which_many_texts_were_cut():
    data = MultilingualRetrievalData.from_captions(
        random_images(4), {"de": [f"ein Bild {i} hier dort" for i in range(4)], "fr": [f"image {i}" for i in range(4)]}
    )
    engine = Engine(ShortContext())
    outcome = tasks.run(RETRIEVAL, data, engine)
    assert outcome.warnings == ("texts that were cut, by language: de 100 %",)
    assert engine.text_counts.record() == {"read": 8, "truncated": 4, "context_length": 3}
    assert "(50 %: " in engine.text_counts.warnings()[0]
