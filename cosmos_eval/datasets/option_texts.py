"""What each option of a reader means, in one line: for `list readers NAME` and docs/definitions.md."""

from dataclasses import dataclass

from cosmos_eval.datasets.reader import (
    ALLOW,
    APPLY,
    COLOUR_MAP,
    COLOURS,
    NAMES,
    NAMES_OR_FILE,
    NUMBER,
    PATH,
    SWITCH,
    TEXT,
    ReaderInfo,
)

KINDS = {
    PATH: "path",
    TEXT: "text",
    NUMBER: "whole number",
    NAMES: "list of texts",
    SWITCH: "true or false",
    NAMES_OR_FILE: "list, .txt or .json",
    COLOURS: "list of colours",
    COLOUR_MAP: "map from colour to class",
    APPLY: "apply",
    ALLOW: "allow",
}
"""Kind of an option's value -> its name in tables."""

TEXTS = {
    "path": "folder of the data",
    "images": "folder of the images",
    "annotations": "the JSON of the authors",
    "split": "name of the split",
    "exif": "turn images by their EXIF orientation, which is ignored otherwise",
    "candidates_without_images": "classes without an image are candidates, and not a mistake",
    "distractors": "images without a caption and captions without an image are candidates, and not a mistake",
    "leave_out_missing": "count items whose images are missing and leave them out; otherwise they are a mistake",
    "files": "patterns of the files below the folder",
    "image_column": "column of the images (bytes or paths)",
    "image_id_column": "column whose equal values are one image, that of the first of these rows",
    "label_column": "column of the labels",
    "caption_columns": "columns of the captions",
    "positive_column": "column of the right captions",
    "negative_columns": "columns of the wrong captions",
    "negative_image_column": "perception: column of an image that fits the wrong caption (two images, two captions)",
    "subset_column": "column of the subsets",
    "group_columns": "columns whose values, joined by a space, divide the items into a further group",
}
"""Option -> text, for every reader that says nothing else in `ReaderInfo.about`."""


@dataclass(frozen=True)
class OptionText:
    """One option of a reader, in words."""

    name: str
    kind: str
    """What its value is, as in `KINDS`."""
    required: bool
    text: str
    """Empty for an option of a plug-in that has no description."""


def describe_options(reader: ReaderInfo) -> list[OptionText]:
    """Return the options of a reader, required ones first."""
    described = {**TEXTS, **reader.about}
    return [
        OptionText(option, KINDS[kind], option in reader.required, described.get(option, ""))
        for option, kind in {**reader.required, **reader.optional}.items()
    ]
