"""Class weights from prompt ensembles (Radford et al., 2021, section 3.1.4): all prompts in large batches."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.engine.features import Features
from cosmos_eval.engine.unit_features import unit_rows

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


def class_weights(engine: Features, class_names: Sequence[str], templates: Templates) -> Tensor:
    """(C, D) rows of unit length: each prompt normalised, the mean over a class's prompts, normalised again.

    Classes with the same prompts (two ImageNet classes are called "missile") share one row, so that they tie exactly.
    """
    prompts = class_prompts(class_names, templates)
    distinct: dict[tuple[str, ...], int] = {}
    row_of_class = [distinct.setdefault(tuple(own), len(distinct)) for own in prompts]
    features = engine.text_features([prompt for own in distinct for prompt in own])
    means = torch.stack([rows.mean(0) for rows in features.split([len(own) for own in distinct])])
    weights = unit_rows(means, [own[0] for own in distinct], lambda prompt: f"the class with the prompt {prompt!r}")
    return weights[torch.tensor(row_of_class, device=weights.device)]


def _fill(template: str, name: str) -> str:
    # In one pass, and not by str.format: a name or a sentence may hold braces of its own.
    return _PLACE.sub(lambda place: name, template)
