"""Class embeddings from prompt ensembles (Radford et al., CLIP, 2021, section 3.1.4).

A class name is filled into several templates, the prompts are encoded, and the mean of their embeddings stands for the
class. All prompts of all classes are encoded together, so that batches are large.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.datasets.data.class_prompts import Templates
from cosmos_eval.engine.embedding_scores import DotProductScores
from cosmos_eval.engine.scores import Scores
from cosmos_eval.engine.task_engine import TaskEngine
from cosmos_eval.engine.unit_features import normalise_features
from cosmos_eval.metrics.query_scores import MeanOverPrompts, QueryScores
from cosmos_eval.protocol.benchmark import Benchmark

PLACEHOLDER = re.compile(r"\{c?\}")
"""Where a template takes the class name: `{c}` or `{}`."""


def build_class_prompts(class_names: Sequence[str], templates: Templates) -> list[list[str]]:
    """The prompts of each class: its name filled into the shared templates, or into the templates of that class.

    A template of one class may be a whole sentence without a placeholder, such as a description of the class.

    Raises:
        RequestError: no class names, no templates, not one list of templates for each class, or a shared template
            without a placeholder.
    """
    if not len(class_names) or not len(templates):
        raise RequestError(f"prompts need class names and templates, got {len(class_names)} and {len(templates)}")
    if all(isinstance(template, str) for template in templates):
        for template in templates:
            if not PLACEHOLDER.search(str(template)):
                raise RequestError(
                    f"the template {template!r} has no placeholder for the class name; write {{c}} where the name goes"
                )
        return [[_fill(str(template), name) for template in templates] for name in class_names]
    if len(templates) != len(class_names):
        raise RequestError(
            f"got templates for {plural(len(templates), 'class', 'classes')} and "
            f"{plural(len(class_names), 'class name')}"
        )
    for name, templates_of_class in zip(class_names, templates, strict=True):
        if isinstance(templates_of_class, str) or not len(templates_of_class):
            raise RequestError(f"the class {name!r} needs a list of at least one template, got {templates_of_class!r}")
    return [
        [_fill(template, name) for template in templates_of_class]
        for name, templates_of_class in zip(class_names, templates, strict=True)
    ]


def require_class_prompts(benchmark: Benchmark, class_names: Sequence[str], templates: Templates) -> None:
    """Raise RequestError, with the benchmark's name, if class names and templates make no prompts."""
    try:
        build_class_prompts(class_names, templates)
    except RequestError as error:
        raise RequestError(f"{benchmark.name}: {error}") from error


@dataclass(frozen=True)
class ClassPrompts:
    """The prompts of all classes, with classes that have the same prompts merged.

    Two ImageNet classes are called "missile". One embedding for both makes their scores equal to the last bit, so that
    they count as a tie; computed twice, they might differ by rounding and one of them would always win.
    """

    distinct_prompts: list[list[str]]
    """The prompts of each distinct class."""
    distinct_index: list[int]
    """For each class, its position in `distinct_prompts`."""

    @classmethod
    def from_templates(cls, class_names: Sequence[str], templates: Templates) -> "ClassPrompts":
        """Fill in the templates; RequestError as `build_class_prompts`."""
        index_of_prompts: dict[tuple[str, ...], int] = {}
        distinct_index = [
            index_of_prompts.setdefault(tuple(prompts), len(index_of_prompts))
            for prompts in build_class_prompts(class_names, templates)
        ]
        return cls([list(prompts) for prompts in index_of_prompts], distinct_index)

    @property
    def texts(self) -> list[str]:
        """All prompts of the distinct classes, one class after the other."""
        return [prompt for prompts in self.distinct_prompts for prompt in prompts]

    @property
    def text_ranges(self) -> list[range]:
        """For each distinct class, the positions of its prompts in `texts`."""
        ends = list(accumulate(len(prompts) for prompts in self.distinct_prompts))
        return [range(end - len(prompts), end) for end, prompts in zip(ends, self.distinct_prompts, strict=True)]

    def average(self, features: Tensor) -> Tensor:
        """Average the embeddings of each class's prompts and normalise the means.

        Args:
            features: (P, D) embeddings of `texts`, of unit length.

        Returns:
            (C, D) class embeddings of unit length.

        Raises:
            RequestError: several vectors for each prompt, which cannot be averaged, or a mean that is zero (names the
                class).
        """
        if features.ndim != 2:
            shape = " x ".join(map(str, features.shape[1:]))
            raise RequestError(
                f"the model gives features of shape {shape} for each text; here prompts are averaged, which needs one "
                "vector for each"
            )
        features_by_class = features.split([len(prompts) for prompts in self.distinct_prompts])
        means = torch.stack([of_class.mean(0) for of_class in features_by_class])
        first_prompts = [prompts[0] for prompts in self.distinct_prompts]
        embeddings = normalise_features(means, first_prompts, lambda prompt: f"the class with the prompt {prompt!r}")
        return embeddings[torch.tensor(self.distinct_index, device=embeddings.device)]


def build_class_embeddings(engine: TaskEngine, class_names: Sequence[str], templates: Templates) -> Tensor:
    """(C, D) class embeddings of unit length, the weights of CLIP's zero-shot classifier: the normalised mean of the
    normalised embeddings of each class's prompts.

    Raises:
        RequestError: as `build_class_prompts`, `Engine.text_features` and `ClassPrompts.average`.
    """
    prompts = ClassPrompts.from_templates(class_names, templates)
    return prompts.average(engine.text_features(prompts.texts))


def score_classes(scores: Scores, prompts: ClassPrompts) -> tuple[QueryScores, Tensor | None]:
    """Scores of images against classes, from scores of images against all prompts.

    If the score is the dot product, the embeddings of a class's prompts are averaged and normalised (Radford et al.,
    2021). If the model has a similarity of its own, the scores of a class's prompts are averaged (`MeanOverPrompts`).

    Args:
        scores: scores of images and `prompts.texts`.

    Returns:
        Scores of N images against C classes, and what stands for the classes: their (C, D) embeddings, or the text
        features of a model with a similarity of its own; None if it has no features.
    """
    if not scores.averages_prompts:
        column = torch.tensor(prompts.distinct_index)
        return MeanOverPrompts(scores.image_to_text(), prompts.text_ranges, column), scores.text_features
    assert scores.image_features is not None
    assert scores.text_features is not None
    class_embeddings = prompts.average(scores.text_features)
    assert isinstance(scores, DotProductScores)
    return scores.of_classes(class_embeddings), class_embeddings


def _fill(template: str, name: str) -> str:
    # Not str.format, which would fail on other braces in a sentence. All placeholders are replaced in one pass, so that
    # a class name that itself contains `{}` stays as it is.
    return PLACEHOLDER.sub(lambda match: name, template)
