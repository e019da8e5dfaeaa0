"""Class names and prompt templates as words: named sets, lists in the definition, or a file beside it."""

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_core.text_files import LARGEST_TEXT, read_lines

PLACEHOLDER = "{c}"
FROM_DATASET = "dataset"
NAMED_TEMPLATES = ("openai-80", "simple-7", FROM_DATASET, "clip-benchmark:NAME")
NAMED_CLASSES = ("imagenet1k", FROM_DATASET, "clip-benchmark:NAME")


@dataclass(frozen=True)
class Words:
    """What a model is asked. None: the dataset itself brings them, so that they belong to its fingerprint."""

    class_names: Sequence[str] | dict[str, str] | None
    """In class order, or folder name -> class name."""
    templates: Sequence[str] | dict[str, Sequence[str]] | None
    """For every class, with one `{c}` each; or class name -> its own prompts."""
    query_words: tuple[tuple[str, ...], ...] = ()
    """Segmentation: the words that ask for each class; a pixel's score for a class is the best of its words'."""


Refuse = Callable[[str, str], RequestError]
"""(key in prompts, message) -> the error to raise; a definition adds file and line."""


def resolve_words(prompts: dict[str, Any], folder: Path | None, refuse: Refuse | None = None) -> Words:
    """The words behind `prompts`.

    Args:
        prompts: `class_names` and `templates`, each a named set, a list, a map, or a file (`.txt` with one a line, or
            `.json` with a list or a map) beside the definition.
        folder: the definition's folder, for files.
        refuse: makes the error to raise.

    Raises:
        RequestError: an unknown set, an unreadable file, a template without exactly one placeholder `{c}` or `{}`.
    """
    refuse = refuse or (lambda key, message: RequestError(f"prompts.{key}: {message}"))
    if "words" in prompts:
        return Words(None, _templates(prompts["templates"], folder, refuse), _query_words(prompts["words"], refuse))
    return Words(
        class_names=_class_names(prompts.get("class_names", FROM_DATASET), folder, refuse),
        templates=_templates(prompts.get("templates", FROM_DATASET), folder, refuse),
    )


def _class_names(given: Any, folder: Path | None, refuse: Refuse) -> Sequence[str] | dict[str, str] | None:
    def wrong(message: str) -> RequestError:
        return refuse("class_names", message)

    if isinstance(given, str):
        if given == FROM_DATASET:
            return None
        if given == "imagenet1k":
            return tuple(_open_clip_words().IMAGENET_CLASSNAMES)
        if given.startswith("clip-benchmark:"):
            return tuple(_clip_benchmark_set("en_classnames.json", given, wrong))
        given = _from_file(given, folder, NAMED_CLASSES, wrong)
    if isinstance(given, dict):
        given = {str(key): name for key, name in given.items()}
        names = list(given.values())
    else:
        names = list(given) if isinstance(given, tuple) else given
    if isinstance(names, list) and isinstance(given, list | dict):
        other = next((one for one in names if isinstance(one, bool | int | float)), None)
        if other is not None:
            raise wrong(
                f"the name {short_repr(other)} is no text; write it in quotes (as yes, no, on, off and numbers)"
            )
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise wrong("must be a list of names, a map from folder to name, a file or one of " + ", ".join(NAMED_CLASSES))
    return given if isinstance(given, dict) else tuple(names)


def _query_words(given: Any, refuse: Refuse) -> tuple[tuple[str, ...], ...]:
    if not isinstance(given, list) or not given:
        raise refuse("words", "must be a list with one entry a class: a word, or a list of words")
    found = []
    for number, own in enumerate(given):
        words = [own] if isinstance(own, str) else own
        if not isinstance(words, list) or not words or not all(isinstance(w, str) and w.strip() for w in words):
            raise refuse(
                "words",
                f"class {number} must be a word or a list of words, not {short_repr(own)}; quote yes, no, on, off",
            )
        found.append(tuple(words))
    return tuple(found)


def _templates(given: Any, folder: Path | None, refuse: Refuse) -> Sequence[str] | dict[str, Sequence[str]] | None:
    def wrong(message: str) -> RequestError:
        return refuse("templates", message)

    if isinstance(given, str):
        if given == FROM_DATASET:
            return None
        if given in ("openai-80", "simple-7"):
            words = _open_clip_words()
            made = words.OPENAI_IMAGENET_TEMPLATES if given == "openai-80" else words.SIMPLE_IMAGENET_TEMPLATES
            return tuple(template(PLACEHOLDER) for template in made)
        if given.startswith("clip-benchmark:"):
            given = _clip_benchmark_set("en_zeroshot_classification_templates.json", given, wrong)
        else:
            given = _from_file(given, folder, NAMED_TEMPLATES, wrong)
    if isinstance(given, dict):
        if not given:
            raise wrong("the map from class name to prompts is empty")
        # A class's own prompts are often whole sentences, so a placeholder is not asked for.
        return {str(name): check_templates(some, wrong, least=0) for name, some in given.items()}
    return check_templates(given, wrong)


def check_templates(given: Any, wrong: Callable[[str], RequestError], least: int = 1) -> tuple[str, ...]:
    """Templates with `{}` written as `{c}`.

    Raises:
        RequestError: not a list of texts; fewer than `least` or more than one placeholder; another brace.
    """
    if not isinstance(given, list | tuple) or not given or not all(isinstance(one, str) for one in given):
        raise wrong("must be a list of texts, a file or one of " + ", ".join(NAMED_TEMPLATES))
    templates = []
    for one in given:
        template = one.replace("{}", PLACEHOLDER)
        count = template.count(PLACEHOLDER)
        rest = template.replace(PLACEHOLDER, "")
        if not least <= count <= 1 or "{" in rest or "}" in rest:
            raise wrong(
                f"the template {short_repr(one)} must have one place for the class name, {{c}} or {{}}, "
                "and no other brace"
            )
        templates.append(template)
    return tuple(templates)


def _from_file(name: str, folder: Path | None, named: Sequence[str], wrong: Callable[[str], RequestError]) -> Any:
    """The content of a `.txt` (one a line, blank lines left out) or `.json` file beside the definition."""
    relative = PurePosixPath(name)
    if relative.suffix not in (".txt", ".json"):
        raise wrong(f"unknown set {short_repr(name)}{near(name, named)}")
    if folder is None or relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise wrong(f"the file {name} must lie in the definition's own folder")
    path = folder / relative
    try:
        if relative.suffix == ".txt":
            return [line.strip() for line in read_lines(path) if line.strip()]
        return read_json(path, largest=LARGEST_TEXT)
    except RequestError as error:
        raise wrong(str(error)) from error


def _clip_benchmark_set(file: str, given: str, wrong: Callable[[str], RequestError]) -> list[str]:
    sets = _clip_benchmark_json(file)
    key = given.removeprefix("clip-benchmark:")
    if key not in sets:
        raise wrong(f"clip-benchmark has no set {short_repr(key)}{near(key, sets)}")
    return list(sets[key])


@lru_cache
def _clip_benchmark_json(file: str) -> dict[str, list[str]]:
    """A word list that clip-benchmark ships, read without importing its code (which would bring torch)."""
    return json.loads((_package_folder("clip_benchmark") / "datasets" / file).read_text(encoding="utf-8"))


@lru_cache
def _open_clip_words() -> Any:
    """open_clip's prompt file, run by itself: it has no imports, while `import open_clip` would bring torch."""
    path = _package_folder("open_clip") / "zero_shot_metadata.py"
    spec = importlib.util.spec_from_file_location("_open_clip_zero_shot_metadata", path)
    if spec is None or spec.loader is None:
        raise RequestError(f"open_clip's prompt file {path} is missing; install open_clip_torch again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise RequestError(f"the package {name} is not installed; install the project's requirements again")
    return Path(spec.submodule_search_locations[0])
