"""Class names and prompt templates of a definition: named sets, lists in the definition, or files beside it."""

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
TEMPLATE_FILE = "en_zeroshot_classification_templates.json"
"""In clip-benchmark's package: its templates of each dataset."""
FROM_DATASET = "dataset"
DEFAULT_TEMPLATES = ["a photo of a {c}."]
"""Used where data come without a definition and have none: CLIP's paper's template for sets of everyday objects."""
NAMED_TEMPLATES = ("openai-80", "simple-7", "maskclip-85", FROM_DATASET, "clip-benchmark:NAME")
SCENE_TEMPLATES = tuple(
    f"{start} {{c}} in the scene."
    for start in ("there is a", "there is the", "this is a", "this is the", "this is one")
)
"""With `openai-80`, the templates of MaskCLIP (Zhou et al., ECCV 2022)."""
NAMED_CLASSES = ("imagenet1k", FROM_DATASET, "clip-benchmark:NAME")


@dataclass(frozen=True)
class ResolvedPrompts:
    """The class names and templates with which a model is prompted.

    None means that the dataset brings them; they are then part of its fingerprint.
    """

    class_names: Sequence[str] | dict[str, str] | None
    """In class order, or folder name -> class name."""
    templates: Sequence[str] | dict[str, Sequence[str]] | None
    """For all classes, with one `{c}` each; or class name -> its own prompts, with at most one."""
    query_words: tuple[tuple[str, ...], ...] = ()
    """Segmentation: the words for each class, in class order. A pixel's score for a class is its best word's score."""
    query_classes: tuple[str, ...] = ()
    """Names of the classes, if the query words are given as a map from class name to words."""


Refuse = Callable[[str, str], RequestError]
"""(key in prompts, message) -> the error to raise, to which a definition adds its file and line."""
MakeError = Callable[[str], RequestError]
"""Message -> the error to raise, for one key."""


def resolve_prompts(prompts: dict[str, Any], folder: Path | None, refuse: Refuse | None = None) -> ResolvedPrompts:
    """Return the class names and templates that a definition's `prompts` name.

    Args:
        prompts: `class_names` and `templates`, each a named set, a list, a map, or a file (`.txt` with one a line, or
            `.json` with a list or a map) beside the definition; for segmentation `words` in place of `class_names`: a
            list or a map, or a file, in which a line of a `.txt` has the words of a class with commas between them.
        folder: the definition's folder, for files.
        refuse: makes the error to raise.

    Raises:
        RequestError: an unknown set, an unreadable file, a template without exactly one placeholder `{c}` or `{}`.
    """
    refuse = refuse or (lambda key, message: RequestError(f"prompts.{key}: {message}"))
    if "words" in prompts:
        templates = _templates(prompts["templates"], folder, refuse)
        words, classes = _query_words(prompts["words"], folder, refuse)
        return ResolvedPrompts(None, templates, words, classes)
    return ResolvedPrompts(
        class_names=_class_names(prompts.get("class_names", FROM_DATASET), folder, refuse),
        templates=_templates(prompts.get("templates", FROM_DATASET), folder, refuse),
    )


def _class_names(value: Any, folder: Path | None, refuse: Refuse) -> Sequence[str] | dict[str, str] | None:
    def error(message: str) -> RequestError:
        return refuse("class_names", message)

    if isinstance(value, str):
        if value == FROM_DATASET:
            return None
        if value == "imagenet1k":
            return tuple(_open_clip_prompts().IMAGENET_CLASSNAMES)
        if value.startswith("clip-benchmark:"):
            return tuple(_clip_benchmark_set("en_classnames.json", value, error))
        value = _read_file(value, folder, NAMED_CLASSES, error)
    if isinstance(value, dict):
        value = {str(key): name for key, name in value.items()}
    names = list(value.values()) if isinstance(value, dict) else value
    if isinstance(names, list):
        not_text = next((name for name in names if isinstance(name, bool | int | float)), None)
        if not_text is not None:
            raise error(
                f"the name {short_repr(not_text)} is not a text; write it in quotes (as yes, no, on, off and numbers)"
            )
    are_names = isinstance(names, list | tuple) and all(isinstance(name, str) and name.strip() for name in names)
    if not are_names or not names:
        raise error("must be a list of names, a map from folder to name, a file or one of " + ", ".join(NAMED_CLASSES))
    return value if isinstance(value, dict) else tuple(names)


def resolve_names(value: Any, folder: Path | None, error: MakeError) -> tuple[str, ...]:
    """Return names that a definition gives as a list, or as a `.txt` or `.json` file beside it.

    Raises:
        RequestError: no such file, or no list of texts that are not blank.
    """
    names = _read_file(value, folder, (), error) if isinstance(value, str) else value
    are_names = isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names)
    if not are_names or not names:
        raise error("must be a list of names, or a .txt or .json file of them; quote yes, no, on, off and numbers")
    return tuple(name.strip() for name in names)


def _query_words(
    value: Any, folder: Path | None, refuse: Refuse
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Return the words of each class, and the names of the classes if they are given."""
    if isinstance(value, str):
        is_text = value.endswith(".txt")
        value = _read_file(value, folder, (), lambda message: refuse("words", message))
        if is_text:  # a line for each class, with commas between its words, as SCLIP's lists
            value = [[word.strip() for word in line.split(",") if word.strip()] for line in value]
    classes: tuple[str, ...] = ()
    if isinstance(value, dict):
        not_text = next((name for name in value if not isinstance(name, str) or not name.strip()), None)
        if not_text is not None:
            raise refuse("words", f"the class {short_repr(not_text)} is not a text; write it in quotes")
        classes, value = tuple(name.strip() for name in value), list(value.values())
    if not isinstance(value, list) or not value:
        raise refuse(
            "words",
            "must be a list with one entry a class, a word or a list of words; or a map from class to words; or a .txt "
            "or .json file of these",
        )
    words_by_class = []
    for number, entry in enumerate(value):
        words = [entry] if isinstance(entry, str) else entry
        are_words = isinstance(words, list) and all(isinstance(word, str) and word.strip() for word in words)
        if not are_words or not words:
            name = short_repr(classes[number]) if classes else str(number)
            raise refuse(
                "words",
                f"class {name} must be a word or a list of words, not {short_repr(entry)}; quote yes, no, on, off",
            )
        words_by_class.append(tuple(words))
    return tuple(words_by_class), classes


def _templates(value: Any, folder: Path | None, refuse: Refuse) -> Sequence[str] | dict[str, Sequence[str]] | None:
    def error(message: str) -> RequestError:
        return refuse("templates", message)

    if isinstance(value, str):
        if value == FROM_DATASET:
            return None
        if value in ("openai-80", "simple-7", "maskclip-85"):
            prompts = _open_clip_prompts()
            functions = prompts.SIMPLE_IMAGENET_TEMPLATES if value == "simple-7" else prompts.OPENAI_IMAGENET_TEMPLATES
            added = SCENE_TEMPLATES if value == "maskclip-85" else ()
            return (*(function(PLACEHOLDER) for function in functions), *added)
        if value.startswith("clip-benchmark:"):
            value = _clip_benchmark_set(TEMPLATE_FILE, value, error)
        else:
            value = _read_file(value, folder, NAMED_TEMPLATES, error)
    if isinstance(value, dict):
        if not value:
            raise error("the map from class name to prompts is empty")
        # Prompts of a single class are often whole sentences, so they need no placeholder.
        return {str(name): check_templates(templates, error, least=0) for name, templates in value.items()}
    return check_templates(value, error)


def list_template_sets() -> dict[str, tuple[str, ...]]:
    """Return name -> templates of every named set: those of open_clip, then those of clip-benchmark's datasets.

    Sets with other prompts for each class are left out.
    """
    names = [name for name in NAMED_TEMPLATES if name != FROM_DATASET and not name.startswith("clip-benchmark:")]
    names += [f"clip-benchmark:{name}" for name in sorted(clip_benchmark_file(TEMPLATE_FILE))]
    sets = {}
    for name in names:
        texts = resolve_prompts({"templates": name}, None).templates
        if texts is not None and not isinstance(texts, dict):
            sets[name] = tuple(texts)
    return sets


def check_templates(value: Any, error: MakeError, least: int = 1) -> tuple[str, ...]:
    """Return templates in which `{}` is written as `{c}`.

    Args:
        value: what a definition or a file has.
        error: makes the error to raise.
        least: fewest placeholders in a template, 0 or 1.

    Raises:
        RequestError: not a list of texts; fewer than `least` or more than one placeholder; another brace.
    """
    if not isinstance(value, list | tuple) or not value or not all(isinstance(text, str) for text in value):
        raise error("must be a list of texts, a file or one of " + ", ".join(NAMED_TEMPLATES))
    templates = []
    for text in value:
        template = text.replace("{}", PLACEHOLDER)
        count = template.count(PLACEHOLDER)
        rest = template.replace(PLACEHOLDER, "")
        if not least <= count <= 1 or "{" in rest or "}" in rest:
            raise error(
                f"the template {short_repr(text)} must have one place for the class name, {{c}} or {{}}, "
                "and no other brace"
            )
        templates.append(template)
    return tuple(templates)


def _read_file(name: str, folder: Path | None, named_sets: Sequence[str], error: MakeError) -> Any:
    """Return the content of a `.txt` (one text a line, without blank lines) or `.json` file beside the definition.

    Args:
        named_sets: names that may have been meant, for the message.
    """
    relative = PurePosixPath(name)
    if relative.suffix not in (".txt", ".json"):
        if not named_sets:
            raise error(f"{short_repr(name)} must be a .txt or .json file, or the texts themselves")
        raise error(f"unknown set {short_repr(name)}{near(name, named_sets)}")
    if folder is None or relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise error(f"the file {name} must be in the definition's own folder")
    path = folder / relative
    try:
        if relative.suffix == ".txt":
            return [line.strip() for line in read_lines(path) if line.strip()]
        return read_json(path, largest=LARGEST_TEXT)
    except RequestError as cause:
        raise error(str(cause)) from cause


def read_word_file(name: str, folder: Path | None, error: MakeError) -> Any:
    """Return the content of a `.txt` (a list of its lines) or `.json` file beside the definition.

    Raises:
        RequestError: another ending, a path outside of the definition's folder, or an unreadable file.
    """
    return _read_file(name, folder, (), error)


def _clip_benchmark_set(file_name: str, value: str, error: MakeError) -> list[str]:
    """Return the texts that clip-benchmark has for the dataset in `clip-benchmark:DATASET`."""
    sets = clip_benchmark_file(file_name)
    dataset = value.removeprefix("clip-benchmark:")
    if dataset not in sets:
        raise error(f"clip-benchmark has no set {short_repr(dataset)}{near(dataset, sets)}")
    return list(sets[dataset])


@lru_cache
def clip_benchmark_file(file_name: str) -> dict[str, Any]:
    """Read a file of class names or templates from clip-benchmark without importing its code, which imports torch."""
    path = _package_folder("clip_benchmark") / "datasets" / file_name
    return json.loads(path.read_text(encoding="utf-8"))


@lru_cache
def _open_clip_prompts() -> Any:
    """Import open_clip's prompt file by its path: it has no imports, while `import open_clip` imports torch."""
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
