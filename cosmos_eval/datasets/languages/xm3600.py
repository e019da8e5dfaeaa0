"""Crossmodal-3600 (Thapliyal et al., EMNLP 2022): captions.jsonl with the captions of 36 languages for each image."""

from pathlib import Path
from typing import Any

from cosmos_eval.datasets.data import Data, MultilingualRetrievalData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.datasets.json_lines import read_json_lines
from cosmos_eval.datasets.languages.caption_files import read_codes


def read_xm3600(benchmark: Any, data_root: Path) -> Data:
    """Read images with their captions, in the order of the file.

    A line is an object with `image/key` (the image is `KEY.jpg`) and, for each language, a map whose `caption` is the
    list of its captions. Only the first of these is a caption of the benchmark, as in clip-benchmark, whose figures are
    published; with `all_captions: true` all are (261,375 in all 36 languages).

    Options: `path` (captions.jsonl), `images` (folder), `languages` (codes), `all_captions`.

    Raises:
        DataProblems: an invalid line (with file and line), an image without a caption in a language, missing images.
    """
    checker = DatasetChecker(benchmark, data_root)
    languages = read_codes(checker)
    path, folder = checker.require(checker.find_path("path", "file"), checker.find_path("images", "folder"))
    all_captions = bool(checker.options.get("all_captions"))
    names: list[str] = []
    captions: dict[str, list[list[str]]] = {language: [] for language in languages}
    for number, record in read_json_lines(path, checker):
        key = record.get("image/key") if isinstance(record, dict) else None
        if not isinstance(key, str) or not key.strip():
            checker.refuse(f"cannot use {path}:{number}: it has no image/key, the name of an image without .jpg")
        names.append(f"{key}.jpg")
        for language in languages:
            of_language = record.get(language)
            found = of_language.get("caption") if isinstance(of_language, dict) else None
            if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
                checker.refuse(f"cannot use {path}:{number}: {key} has no list of captions in {language}")
            captions[language].append([text.strip() for text in (found if all_captions else found[:1])])
    if not names:
        checker.refuse(f"has no line in {path}")
    checker.check_images(folder, names)
    return checker.finish(MultilingualRetrievalData.from_captions([FileImage(n, folder / n) for n in names], captions))
