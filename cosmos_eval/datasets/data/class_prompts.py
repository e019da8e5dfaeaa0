"""Class names and prompt templates, which several kinds of data have: how they are hashed and checked."""

from collections.abc import Sequence

from cosmos_eval.datasets.consistency import find_broken_texts
from cosmos_eval.datasets.fingerprint import ContentHash

Templates = Sequence[str] | Sequence[Sequence[str]]
"""Templates that all classes share, or one list of templates for each class."""


def hash_class_prompts(content: ContentHash, class_names: Sequence[str], templates: Templates) -> None:
    """Hash class names and templates. The names and the order of what is hashed never change."""
    content.strings("class_names", class_names)
    content.strings("templates", select_shared_templates(templates))
    for class_templates in templates:
        if not isinstance(class_templates, str):
            content.strings("templates of a class", class_templates)


def find_broken_class_prompts(class_names: Sequence[str], templates: Templates) -> list[str]:
    """Return the problems of `find_broken_texts` in class names and templates."""
    texts = select_shared_templates(templates) or [text for class_templates in templates for text in class_templates]
    return find_broken_texts("class names", class_names) + find_broken_texts("prompts", texts)


def select_shared_templates(templates: Templates) -> list[str]:
    """Return the templates that all classes share; empty if each class has its own."""
    return [template for template in templates if isinstance(template, str)]
