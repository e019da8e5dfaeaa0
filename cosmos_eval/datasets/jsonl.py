"""A user's own data, one JSON object a line: images with captions, labels, or right and wrong texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.printable import plural
from cosmos_eval.datasets.data import ChoiceData, Data, MultilingualRetrievalData, PerceptionData, RetrievalData
from cosmos_eval.datasets.data.choices import Choice
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.jsonl_labels import build_classification, build_multilabel
from cosmos_eval.datasets.jsonl_records import Records, short_json


def read_jsonl(benchmark: Any, data_root: Path) -> Data:
    """Read images with their captions, labels or texts, in the order of the file.

    A line is, by kind of data:
        retrieval: {"image": "a.jpg", "captions": ["...", "..."]}; an image may have several lines. Captions of several
            images: {"images": ["a.jpg", "b.jpg"], "captions": ["..."]}. With the option `distractors: allow`, no
            caption (`[]`) for an image and no image (`"images": []`) for captions that are only candidates
        classification: {"image": "a.jpg", "label": "cat"} or {"image": "a.jpg", "label": 0}; one line for each image
        multilabel: {"image": "a.jpg", "labels": ["cat", "dog"], "undecided": ["car"]}; one line for each image, labels
            as names or indices, none as []; `undecided` (also called `difficult` or `ignore`) may be missing
        perception: {"image": "a.jpg", "positive": "...", "negative": "...", "subset": "..."}; an image may have several

    A metadata.jsonl of `datasets`' imagefolder is read too: `file_name` is the image, `text` or `caption` its captions.
    A text in place of a list is a list of one. Other keys and blank lines are ignored.

        multiple-choice: {"image": "a.jpg", "captions": ["...", "..."], "answer": 0, "subset": "..."} or
            {"images": ["a.jpg", "b.jpg"], "caption": "...", "answer": 1}; several right ones as "answer": [0, 2]

        multilingual-retrieval: {"image": "a.jpg", "captions": {"de": ["..."], "fr": "..."}}; one line for each
            image, the same languages in every line

    Images are below `images`, or in the folder of the file. Class names are `prompts.class_names`: a list in
    class order, or a map from label to name; without it, the different labels in alphabetical order.

    Options: `path` (the file), `images` (folder), `distractors` (see above).

    Raises:
        DataProblems: an invalid line (with file and line), images missing, labels out of range, empty classes.
    """
    checker = DatasetChecker(benchmark, data_root)
    path = checker.find_path("path", "file")
    folder = checker.find_path("images", "folder") if "images" in checker.options else None
    if path is None or (folder is None and "images" in checker.options):
        checker.raise_if_problems()
    assert path is not None
    records = Records(path, folder or path.parent, benchmark.data_kind, checker)
    return checker.finish(_BUILDERS[benchmark.data_kind](records, benchmark))


def _build_retrieval(records: Records, benchmark: Any) -> RetrievalData:
    allows_distractors = "distractors" in records.checker.options
    captions: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    """First image of a caption -> such captions, each with its further images."""
    without_image: list[str] = []
    for line, record in records:
        value = record["captions"]
        image_captions = [value] if isinstance(value, str) else value
        name = records.name_in_file["captions"]
        is_empty = image_captions == []
        if not isinstance(image_captions, list) or (is_empty and not allows_distractors):
            advice = "; for an image that is a candidate only, write distractors: allow in dataset" if is_empty else ""
            records.refuse(
                line, f"{name!r} must be a text or a list with at least one text, found {short_json(value)}{advice}"
            )
        for caption in image_captions:
            if not isinstance(caption, str):
                wrong = short_json(caption)
                records.refuse(line, f"{name!r} must be a text or a list with at least one text, found {wrong}")
        names = record["image"] if isinstance(record["image"], list) else [record["image"]]
        first, *further = dict.fromkeys(names) if names else [""]
        if first:
            captions.setdefault(first, []).extend((caption, tuple(further)) for caption in image_captions)
        else:
            without_image += image_captions
    images = records.images()
    index_of_image = {image.key: i for i, image in enumerate(images)}
    texts: list[str] = []
    pairs: list[tuple[int, int]] = []
    for image in images:
        for caption, further_names in captions.get(image.key, []):
            pairs += [(index_of_image[key], len(texts)) for key in (image.key, *further_names)]
            texts.append(caption)
    return RetrievalData.from_pairs(images, [*texts, *without_image], np.array(pairs, dtype=np.int64))


def _build_perception(records: Records, benchmark: Any) -> PerceptionData:
    names, positives, negatives, subsets = [], [], [], []
    for line, record in records:
        names.append(record["image"])
        positives.append(records.text(line, record, "positive"))
        negatives.append(records.text(line, record, "negative"))
        subsets.append(records.text(line, record, "subset") if "subset" in record else "all")
    images = records.images()
    index_of_image = {image.key: i for i, image in enumerate(images)}
    return PerceptionData.pairs(
        images=images,
        item_image=[index_of_image[name] for name in names],
        positives=positives,
        negatives=negatives,
        subsets=subsets,
    )


def _build_multiple_choice(records: Records, benchmark: Any) -> ChoiceData:
    items: list[tuple[list[str], Choice]] = []
    for line, record in records:
        names = [record["image"]] if isinstance(record["image"], str) else record["image"]
        captions = records.texts(line, record, "captions")
        candidates = max(len(names), len(captions))
        if min(len(names), len(captions)) > 1 or candidates < 2:
            records.refuse(
                line,
                f"has {plural(len(names), 'image')} and {plural(len(captions), 'caption')}; give one image and "
                "several captions, or several images and one caption",
            )
        answer = record["answer"]
        right = answer if isinstance(answer, list) else [answer]
        is_position = [type(position) is int and 0 <= position < candidates for position in right]
        if not right or not all(is_position):
            name = records.name_in_file["answer"]
            records.refuse(
                line,
                f"{name!r} must be the position of the right candidate from 0 to {candidates - 1}, or a list of such "
                f"positions, not {short_json(answer)}",
            )
        if len(set(right)) == candidates:
            records.refuse(line, f"all {candidates} candidates are right; an item needs a wrong one")
        subset = records.text(line, record, "subset") if "subset" in record else "all"
        items.append((names, Choice((), captions, right, subset)))
    images = records.images()
    index_of_image = {image.key: i for i, image in enumerate(images)}
    return ChoiceData.from_items(
        images, (item._replace(images=[index_of_image[name] for name in names]) for names, item in items)
    )


def _build_multilingual(records: Records, benchmark: Any) -> MultilingualRetrievalData:
    names: dict[str, int] = {}
    captions: dict[str, list[list[str]]] = {}
    for line, record in records:
        name, value = records.text(line, record, "image"), record["captions"]
        if name in names:
            records.refuse(
                line, f"{name!r} is the image of line {names[name]}, too; write all its captions in one line"
            )
        if not isinstance(value, dict) or not value:
            records.refuse(line, f'"captions" must be a map from language to captions, found {short_json(value)}')
        if names and set(value) != set(captions):
            different = ", ".join(sorted(set(value) ^ set(captions)))
            records.refuse(line, f"has other languages than the lines before it: {different}; give all in every line")
        for language in value:
            captions.setdefault(language, []).append(records.texts(line, value, language))
        names[name] = line
    return MultilingualRetrievalData.from_captions(records.images(), captions)


_BUILDERS: dict[str, Callable[[Records, Any], Data]] = {
    "retrieval": _build_retrieval,
    "classification": build_classification,
    "multilabel": build_multilabel,
    "perception": _build_perception,
    "multiple-choice": _build_multiple_choice,
    "multilingual-retrieval": _build_multilingual,
}
"""Kind of data -> the function that builds it."""
