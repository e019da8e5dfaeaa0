"""Texts, numbers, labels and templates that a caller passes in Python, checked and converted to what readers give.

Messages are the end of a sentence that begins with what the caller called, such as `ClassificationData`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.prompts import DEFAULT_TEMPLATES, check_templates, resolve_prompts


def as_list(values: Any, noun: str) -> list[Any]:
    """Return values as a list.

    Raises:
        RequestError: a text or anything else that is not a list.
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise RequestError(f"{noun} must be a list, not {short_repr(values)}")
    return list(values)


def as_texts(values: Any, noun: str) -> list[str]:
    """Return texts as a list.

    Raises:
        RequestError: no list, or something that is not a text, as None or NaN for a missing value; names the position.
    """
    texts = as_list(values, noun)
    wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise RequestError(f"{noun}[{wrong}] must be a text, not {short_repr(texts[wrong])}")
    return [str(text) for text in texts]  # numpy.str_ and other subclasses become str


def as_whole_numbers(values: Any, noun: str, dimensions: int = 1) -> np.ndarray:
    """Return whole numbers as an int64 array of its own, which later changes of the caller's do not reach.

    Args:
        values: a list, an array, or a tensor.
        dimensions: number of dimensions that the array must have.

    Raises:
        RequestError: NaN, other fractions, texts, or an array of other dimensions.
    """
    try:
        array = np.asarray(values.cpu() if hasattr(values, "cpu") else values)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of different lengths
        raise RequestError(f"{noun} must be whole numbers, not {short_repr(values)}: {error}") from error
    if not array.size:
        shape = array.shape if array.ndim == dimensions else (0,) * dimensions
        return np.zeros(shape, dtype=np.int64)
    if array.dtype.kind == "f":
        wrong = np.flatnonzero(array.reshape(-1) != np.round(array.reshape(-1)))  # NaN differs from itself, too
        if len(wrong) or np.isinf(array).any():
            place = int(wrong[0]) if len(wrong) else int(np.flatnonzero(np.isinf(array.reshape(-1)))[0])
            raise RequestError(f"{noun}[{place}] must be a whole number, not {array.reshape(-1)[place]}")
    elif array.dtype.kind not in "iub":
        raise RequestError(f"{noun} must be whole numbers, not {short_repr(array.reshape(-1)[0])}")
    if array.ndim != dimensions:
        raise RequestError(f"{noun} must have {dimensions} dimensions, not the shape {array.shape}")
    return array.astype(np.int64)


def as_class_names(class_names: Any, labels: Iterable[Any]) -> list[str]:
    """Return class names; without any, the different labels in alphabetical order, as the reader `jsonl` does.

    Args:
        class_names: a list of texts, a named set such as `imagenet1k`, or None.
        labels: of all images.

    Raises:
        RequestError: labels that are not texts, and no class names.
    """
    if isinstance(class_names, str):
        class_names = resolve_prompts({"class_names": class_names}, None).class_names or ()
    if class_names is not None:
        return as_texts(class_names, "class_names")
    labels = list(labels)
    others = [label for label in labels if not isinstance(label, str)]
    if others:
        raise RequestError(
            f"has labels that are not names, such as {short_repr(others[0])}; give class_names, in order"
        )
    return sorted(set(labels))


def as_labels(labels: Sequence[Any], class_names: Sequence[str], noun: str = "labels") -> np.ndarray:
    """Return (N,) int64 indices of classes.

    Args:
        labels: class names, or indices of them.
        class_names: in class order.

    Raises:
        RequestError: a label that is not a class name or that several classes have, or one that is not a whole number.
    """
    if not any(isinstance(label, str) for label in labels):
        return as_whole_numbers(labels, noun)
    index_of_name = {name: i for i, name in enumerate(class_names)}
    times = Counter(class_names)
    indices = []
    for i, label in enumerate(labels):
        if not isinstance(label, str):
            raise RequestError(f"{noun}[{i}] is {short_repr(label)}, and others are class names; give one of both")
        if label not in index_of_name:
            raise RequestError(f"{noun}[{i}] is {short_repr(label)}, which is not among the class names")
        if times[label] > 1:
            raise RequestError(f"{noun}[{i}] is {label!r}, the name of several classes; give indices")
        indices.append(index_of_name[label])
    return np.array(indices, dtype=np.int64)


def as_templates(templates: Any, class_names: Sequence[str]) -> list[str] | list[list[str]]:
    """Return the templates of all classes, or one list for each class.

    Args:
        templates: a list of texts with `{c}` or `{}` for the class name; a named set such as `openai-80`; a map from
            class name to a list, or one list for each class; None for "a photo of a {c}.".

    Raises:
        RequestError: an unknown set, a template without a place for the name, or no templates for a class.
    """
    if templates is None:
        return list(DEFAULT_TEMPLATES)
    if isinstance(templates, Mapping | str):
        resolved = resolve_prompts({"templates": templates}, None, _refuse_templates).templates or ()
        if not isinstance(resolved, Mapping):
            return list(resolved)
        missing = [name for name in class_names if name not in resolved]
        if missing:
            raise RequestError(
                f"has no templates for {plural(len(missing), 'class', 'classes')}: {format_names(missing)}"
            )
        return [list(resolved[name]) for name in class_names]
    listed = as_list(templates, "templates")
    if listed and all(isinstance(entry, list | tuple) for entry in listed):
        return [list(check_templates(entry, _template_error, least=0)) for entry in listed]
    return list(check_templates(listed, _template_error)) if listed else []


def _refuse_templates(key: str, message: str) -> RequestError:
    return _template_error(message)


def _template_error(message: str) -> RequestError:
    return RequestError(f"templates: {message}")
