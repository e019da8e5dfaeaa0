"""Class weights from prompt ensembles (Radford et al., 2021, section 3.1.4): all prompts in large batches."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.engine.features import Features
from cosmos_eval.engine.scores import Scores
from cosmos_eval.engine.unit_features import unit_rows
from cosmos_eval.metrics.query_scores import DotProducts, MeanOverPrompts, QueryScores

Templates = Sequence[str] | Sequence[Sequence[str]]
_PLACE = re.compile(r"\{c?\}")


def class_prompts(class_names: Sequence[str], templates: Templates) -> list[list[str]]:
    """The prompts of every class: shared templates filled in with `{c}` or `{}`, or the templates of each class.

    Templates given class by class may be whole sentences without a place for the name.

    Raises:
        RequestError: no templates, not as many lists as classes, or a shared template without a place for the name.
    """
    if not len(class_names) or not len(templates):
        raise RequestError(f"need class names and templates, got {len(class_names)} and {len(templates)}")
    if all(isinstance(template, str) for template in templates):
        for template in templates:
            if not _PLACE.search(str(template)):
                raise RequestError(
                    f"the template {template!r} has no place for the class name; write {{c}} where it goes"
                )
        return [[_fill(str(template), name) for template in templates] for name in class_names]
    if len(templates) != len(class_names):
        raise RequestError(f"got templates for {len(templates)} classes and {len(class_names)} class names")
    for name, own in zip(class_names, templates, strict=True):
        if isinstance(own, str) or not len(own):
            raise RequestError(f"the class {name!r} needs a list of at least one template, got {own!r}")
    return [[_fill(template, name) for template in own] for name, own in zip(class_names, templates, strict=True)]


@dataclass(frozen=True)
class ClassPrompts:
    """The prompts of some classes, where classes with the same prompts (two ImageNet classes are called "missile") are
    one, so that they tie exactly."""

    distinct: list[list[str]]
    """The prompts of each distinct class."""
    of_class: list[int]
    """Which of those each class is."""

    @classmethod
    def of(cls, class_names: Sequence[str], templates: Templates) -> "ClassPrompts":
        """RequestError as `class_prompts`."""
        prompts = class_prompts(class_names, templates)
        seen: dict[tuple[str, ...], int] = {}
        of_class = [seen.setdefault(tuple(own), len(seen)) for own in prompts]
        return cls([list(own) for own in seen], of_class)

    @property
    def texts(self) -> list[str]:
        """All prompts of all distinct classes, one class after the other."""
        return [prompt for own in self.distinct for prompt in own]

    @property
    def places(self) -> list[range]:
        """For each distinct class, where its prompts are among `texts`."""
        ends = list(accumulate(len(own) for own in self.distinct))
        return [range(end - len(own), end) for end, own in zip(ends, self.distinct, strict=True)]

    def weights(self, features: Tensor) -> Tensor:
        """(C, D) of unit length from (P, D) features of `texts`: the mean over a class's prompts, normalised again.

        Raises:
            RequestError: features of several vectors a prompt, or a mean that is zero (names the class).
        """
        if features.ndim != 2:
            shape = " x ".join(map(str, features.shape[1:]))
            raise RequestError(f"the model gives {shape} numbers for a text; averaging prompts here takes one vector")
        means = torch.stack([rows.mean(0) for rows in features.split([len(own) for own in self.distinct])])
        first = [own[0] for own in self.distinct]
        weights = unit_rows(means, first, lambda prompt: f"the class with the prompt {prompt!r}")
        return weights[torch.tensor(self.of_class, device=weights.device)]


def class_weights(engine: Features, class_names: Sequence[str], templates: Templates) -> Tensor:
    """(C, D) rows of unit length: each prompt normalised, the mean over a class's prompts, normalised again.

    Raises:
        RequestError: as `class_prompts`, `Engine.text_features` and `ClassPrompts.weights`.
    """
    prompts = ClassPrompts.of(class_names, templates)
    return prompts.weights(engine.text_features(prompts.texts))


def class_scores(scores: Scores, prompts: ClassPrompts) -> tuple[QueryScores, Tensor | None]:
    """Scores of images against classes, and the (C, D) class weights where there are any.

    Embeddings of a class's prompts are averaged and normalised (Radford et al., 2021) where the score is the dot
    product. A model with another score has its scores averaged: see `MeanOverPrompts`.

    Args:
        scores: of images and `prompts.texts`.
    """
    if not scores.averages_prompts:
        column = torch.tensor(prompts.of_class)
        return MeanOverPrompts(scores.image_to_text(), prompts.places, column), scores.text_features
    assert scores.image_features is not None
    assert scores.text_features is not None
    weights = prompts.weights(scores.text_features)
    return DotProducts(scores.image_features, weights), weights


def _fill(template: str, name: str) -> str:
    # In one pass, and not by str.format: a name or a sentence may hold braces of its own.
    return _PLACE.sub(lambda place: name, template)
