"""Evaluates classification in several languages; protocol: `cosmos_eval.tasks.multilingual_classification`."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.datasets.languages.words import LanguageWords, languages_of
from cosmos_eval.engine.task_engine import TaskEngine
from cosmos_eval.engine.truncation import truncated_alike
from cosmos_eval.metrics.accuracy import compute_class_rank_counts, expected_topk
from cosmos_eval.models.abilities import require_languages
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.classification import TOP_K
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    require_equal_lengths,
    require_valid_index,
)
from cosmos_eval.tasks.languages import TruncatedByLanguage, add_languages
from cosmos_eval.tasks.multilingual_classification import reported_metrics
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.prompts import ClassPrompts, require_class_prompts, score_classes

PRIMARY = "top1"
"""The primary metric if a definition names none."""


@dataclass(frozen=True)
class LanguagePart:
    """What is asked in one language."""

    words: LanguageWords
    classes: np.ndarray
    """(C,) int64, which classes of the dataset the classes of this language are."""
    images: np.ndarray
    """(K,) int64, the images of these classes, ascending."""
    labels: np.ndarray
    """(K,) int64, index of the class of each image among the C."""


def language_parts(benchmark: Benchmark, data: ClassificationData) -> Iterator[LanguagePart]:
    """Yield the classes and images of each language.

    Raises:
        RequestError: another number of names than classes, a name or an index of no class, or a class twice.
    """
    index_of_name = {name: i for i, name in enumerate(data.class_names)}
    for words in languages_of(benchmark):
        where = f"{benchmark.name}: languages: {words.code}"
        if words.classes is None:
            if len(words.class_names) != len(data.class_names):
                raise RequestError(
                    f"{where} has {plural(len(words.class_names), 'name')} for the "
                    f"{plural(len(data.class_names), 'class', 'classes')}; give one for each, in their order, or a "
                    "map from class name to the name in the language"
                )
            classes = np.arange(len(data.class_names))
        else:
            unknown = [name for name in words.classes if isinstance(name, str) and name not in index_of_name]
            if unknown:
                raise RequestError(f"{where} names classes that the dataset does not have: {format_names(unknown)}")
            classes = np.array([name if isinstance(name, int) else index_of_name[name] for name in words.classes])
            require_valid_index(benchmark, classes, len(data.class_names), f"class of {words.code}", "class")
            if len(np.unique(classes)) < len(classes):
                raise RequestError(f"{where} has two names for one class; give one")
        new_label = np.full(len(data.class_names), -1, dtype=np.int64)
        new_label[classes] = np.arange(len(classes))
        labels = new_label[np.asarray(data.labels, dtype=np.int64)]
        images = np.flatnonzero(labels >= 0)
        yield LanguagePart(words, classes, images, labels[images])


def validate(benchmark: Benchmark, data: ClassificationData) -> None:
    """Check that classification in several languages can be evaluated on this data.

    Raises:
        RequestError: a label out of range, words that do not fit the classes or make no prompts, a language without an
            image, or a primary metric that is not reported.
    """
    require_equal_lengths(benchmark, images=len(data.images), labels=len(data.labels))
    require_valid_index(benchmark, data.labels, len(data.class_names), "image", "class")
    codes, class_counts = [], []
    for part in language_parts(benchmark, data):
        if not len(part.images):
            raise RequestError(
                f"{benchmark.name}: languages: {part.words.code} has a name for none of the classes that have images; "
                "leave it out, or give a larger --limit"
            )
        require_class_prompts(benchmark, part.words.class_names, part.words.templates)
        codes.append(part.words.code)
        class_counts.append(len(part.classes))
    primary_metric(benchmark, reported_metrics(codes, min(class_counts)), PRIMARY)


def run(benchmark: Benchmark, data: ClassificationData, engine: TaskEngine, seed: int = 0) -> Outcome:
    """Evaluate a model on a benchmark of classification in several languages.

    `samples` has one row per language and image that has a class in it:

    - `language`, `image`: its code, and the image's key
    - `label`, `prediction`: indices of the true class, and of the class with the highest score, in the dataset
    - `correct`, `top5`: probability in [0, 1] that the true class is among the first 1 and 5
    - `margin`: score of the true class minus that of the best other class.

    Args:
        seed: seed of the bootstrap resampling.
    """
    parts = list(language_parts(benchmark, data))
    require_languages(getattr(engine, "model", None), [part.words.code for part in parts], benchmark.name)
    has_top5 = min(len(part.classes) for part in parts) >= TOP_K
    if getattr(engine, "has_features", True):
        # All at once: then batches are those of the task classification, whatever classes the first language has.
        used = np.unique(np.concatenate([part.images for part in parts]))
        engine.image_features([data.images[i] for i in used.tolist()])
    image_keys = np.array([image.key for image in data.images], dtype=object)
    truncated = TruncatedByLanguage(engine)
    frames: list[pd.DataFrame] = []
    collapsed: list[str] = []
    for part in parts:
        code = part.words.code
        prompts = ClassPrompts.from_templates(part.words.class_names, part.words.templates)
        scores = engine.score([data.images[i] for i in part.images.tolist()], prompts.texts, language=code)
        truncated.finish(code)
        class_scores, class_features = score_classes(scores, prompts)
        counts = compute_class_rank_counts(class_scores, torch.from_numpy(part.labels), len(part.classes))
        columns = {
            "language": code,
            "image": image_keys[part.images],
            "label": part.classes[part.labels],
            "prediction": part.classes[counts.prediction.numpy()],
            "correct": expected_topk(counts, 1).numpy(),
            **({"top5": expected_topk(counts, TOP_K).numpy()} if has_top5 else {}),
            "margin": counts.margin.numpy(),
        }
        frames.append(pd.DataFrame(columns))
        features = {f"class prompts in {code}": class_features}
        if not collapsed:
            features = {"images": scores.image_features, **features}
        exclude = [f"{name} in {code}" for name in truncated_alike(engine, "class prompts")]
        collapsed += collapse_warnings(features, exclude)
    samples = pd.concat(frames, ignore_index=True)
    image = np.concatenate([part.images for part in parts])
    language = np.repeat(np.arange(len(parts)), [len(part.images) for part in parts])
    codes = [part.words.code for part in parts]
    measured = Measured(len(data.images))
    for name, column in (("top1", "correct"), ("top5", "top5")):
        if column in samples:
            add_languages(measured, name, samples[column].to_numpy(), language, image, codes)
    metrics = measured.metrics(seed)
    return Outcome(
        metrics=metrics,
        samples=samples,
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=(*dict.fromkeys(collapsed), *truncated.warnings(), *_describe_words(parts)),
    )


def _describe_words(parts: list[LanguagePart]) -> list[str]:
    """Say of which languages the words decide something before any model is asked."""
    alone = [part.words.code for part in parts if len(part.classes) == 1]
    lines = (
        [f"languages with a single class, so that every image counts as right: {format_names(alone)}"] if alone else []
    )
    tied = []
    for part in parts:
        names = Counter(" ".join(name.split()) for name in part.words.class_names)
        classes = sum(count for count in names.values() if count > 1)
        if classes:
            tied.append(f"{part.words.code} {classes:,} of {len(part.classes):,}")
    return [
        *lines,
        *([f"classes that share their name with another one and tie: {format_names(tied)}"] if tied else []),
    ]
