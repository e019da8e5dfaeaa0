"""Class names and templates in other languages: the section `languages` of a definition.

    languages:
      set: imagenet          # or babel-imagenet: the word lists that clip-benchmark's package has
      only: [ar, it]         # these languages of the set; without it, all
      own:                   # own languages, by lists, or .txt or .json files beside the definition
        sw: {class_names: swahili.txt, templates: ["picha ya {c}."]}

`class_names` is a list in the order of the classes, or a map from class name (of `prompts`, or of the dataset) to the
name in the language. With a map, classes that it does not have are not candidates in that language, and their images
are left out there, as Babel-ImageNet does.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.datasets.languages import LANGUAGE_CODE
from cosmos_eval.datasets.prompts import MakeError, check_templates, clip_benchmark_file, read_word_file
from cosmos_eval.protocol.source import Source

SETS = ("imagenet", "babel-imagenet")
IMAGENET_LANGUAGES = ("ar", "cn", "it", "jp")
"""Languages for which clip-benchmark has `<code>_classnames.json` beside English: the codes are its own."""
WITHOUT_TEMPLATES = ("{c}",)
"""Templates of an own language that gives none: the names alone."""


@dataclass(frozen=True)
class LanguageWords:
    """The words of one language."""

    code: str
    class_names: Sequence[str]
    """Names of the classes of this language."""
    classes: Sequence[int] | Sequence[str] | None
    """Which of the dataset's classes these are: indices, or names of the dataset; None: all, in its order."""
    templates: Sequence[str]


def read_settings(source: Source) -> dict[str, Any]:
    """Return the section `languages` with a digest of all words, by which they are part of the fingerprint.

    Raises:
        RequestError: an unknown key, set or language, or words that cannot be read; names file and line.
    """
    section = source.value.get("languages") or {}
    for key in section:
        if key not in ("set", "only", "own"):
            raise source.refuse(("languages", key), f"unknown key {short_repr(key)} in languages; set, only or own")
    words = resolve_languages(section, source.path.parent, lambda message: source.refuse(("languages",), message))
    return {**section, "words": digest_words(words)}


def languages_of(benchmark: Any) -> list[LanguageWords]:
    """Return the words of a definition's languages.

    Raises:
        RequestError: they are no longer the words that the fingerprint of the definition is of.
    """

    def error(message: str) -> RequestError:
        return RequestError(f"{benchmark.name}: languages: {message}")

    section = {key: value for key, value in benchmark.settings.items() if key != "words"}
    words = resolve_languages(section, benchmark.folder, error)
    if digest_words(words) != benchmark.settings["words"]:
        raise error("the words changed after the definition was read; start again")
    return words


def digest_words(words: Sequence[LanguageWords]) -> str:
    """Return the SHA-256 of all that is asked, in hexadecimal."""
    values = [
        [part.code, list(part.class_names), part.classes and list(part.classes), list(part.templates)] for part in words
    ]
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def resolve_languages(section: Mapping[str, Any], folder: Path | None, error: MakeError) -> list[LanguageWords]:
    """Return the words of the languages of a section, those of its set first.

    Raises:
        RequestError: an unknown set or language, a language twice, or words that cannot be read.
    """
    name, only, own = section.get("set"), section.get("only"), section.get("own", {})
    if name is not None and name not in SETS:
        raise error(f"there is no set {short_repr(name)}{near(str(name), SETS)}")
    if only is not None and name is None:
        raise error(f"only chooses languages of a set: write set: {' or '.join(SETS)} beside it, or leave only out")
    if only is not None and (not isinstance(only, list) or not only):
        raise error("only must be a list of languages of the set")
    words = [] if name is None else (_imagenet() if name == "imagenet" else _babel_imagenet())
    if only is not None:
        by_code = {language.code: language for language in words}
        # YAML reads `no` as False, and a list of a list is not a code either
        if not all(isinstance(code, str) and code in by_code for code in only) or len(set(only)) < len(only):
            raise error(f"only must have different languages of {name}: {', '.join(by_code)}")
        words = [by_code[code] for code in only]
    if not isinstance(own, dict):
        raise error("own must be a map from language to class_names and templates")
    words = [*words, *(_own(code, value, folder, error) for code, value in own.items())]
    if not words:
        raise error(f"name a set ({' or '.join(SETS)}), or give own languages")
    twice = [code for code, count in Counter(language.code for language in words).items() if count > 1]
    if twice:
        raise error(
            f"{', '.join(twice)} of own is also in the set {name}; leave it out with only, or give another code"
        )
    return words


def _own(code: Any, value: Any, folder: Path | None, error: MakeError) -> LanguageWords:
    if not isinstance(code, str):  # YAML reads no as False, and 1 as a number
        raise error(f"{short_repr(code)} is not a code of a language; write it in quotes, such as 'no'")
    if not LANGUAGE_CODE.fullmatch(code):
        raise error(f"{short_repr(code)} is not a code of a language; write letters, digits, - and _, such as zh-Hans")

    def of_language(message: str) -> RequestError:
        return error(f"{code}: {message}")

    if not isinstance(value, dict) or not set(value) <= {"class_names", "templates"} or "class_names" not in value:
        raise of_language("must be a map with class_names, and templates if there are any")
    names, file = value["class_names"], ""
    if isinstance(names, str):
        file = f" of {names}"
        names = read_word_file(names, folder, of_language)
    classes = [str(key) for key in names] if isinstance(names, dict) else None
    texts = list(names.values()) if isinstance(names, dict) else names
    if not isinstance(texts, list) or not texts:
        raise of_language(
            f"class_names{file} must be a list of names, or a map from class name to name, with at least one"
        )
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not text.strip():
            raise of_language(
                f"name {number:,} of class_names{file} must be a text that is not blank, not {short_repr(text)}"
            )
    templates = value.get("templates", list(WITHOUT_TEMPLATES))
    if isinstance(templates, str):
        templates = read_word_file(templates, folder, of_language)
    if not isinstance(templates, list) or not templates or not all(isinstance(text, str) for text in templates):
        raise of_language("templates must be a list of texts, or a .txt or .json file with them")
    return LanguageWords(code, tuple(texts), classes, check_templates(templates, of_language))


@lru_cache
def _imagenet() -> list[LanguageWords]:
    """The words that `clip_benchmark --dataset imagenet1k --language ...` uses."""
    return [
        LanguageWords(
            code,
            clip_benchmark_file(f"{code}_classnames.json")["imagenet1k"],
            None,
            clip_benchmark_file(f"{code}_zeroshot_classification_templates.json")["imagenet1k"],
        )
        for code in IMAGENET_LANGUAGES
    ]


@lru_cache
def _babel_imagenet() -> list[LanguageWords]:
    """The words that `clip_benchmark --dataset babel_imagenet --language ...` uses, by code.

    Three of the 93 languages (br, fy, la) have no prompts in clip-benchmark, which fails there; they are left out.
    """
    templates = clip_benchmark_file("nllb_dist13b_prompts.json")
    return [
        LanguageWords(
            code.lower(),
            names,
            classes,
            [template.replace("{}", "{c}") for template in templates[code]],
        )
        for code, (classes, names) in sorted(clip_benchmark_file("babel_imagenet.json").items())
        if code in templates
    ]
