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
    "subset_column": "column of the subsets",
}
"""Option -> text, for every reader that has no other text for it."""

OF_READERS = {
    "imagenet": {
        "path": "folder with class folders (wnids), or flat with all images",
        "labels": "flat folder: lines of image and label, Kaggle's CSV, or the devkit's ground truth beside meta.mat",
        "only_class_folders": "only classes that have a folder are candidates, as in ImageNet-A, -R and -O",
    },
    "image-folder": {"path": "folder with a folder for each class"},
    "jsonl": {"path": "the file", "images": "folder of the images; otherwise the folder of the file"},
    "parquet": {"path": "a file, or a folder of files", "images": "folder of images that are given by paths"},
    "hf-dataset": {
        "repository": "id on the hub",
        "revision": "commit, 40 digits",
        "config": "name of the configuration",
    },
    "clip-benchmark": {
        "dataset": "clip-benchmark's name of the dataset",
        "path": "what torchvision calls root",
        "split": "name of the split (test)",
        "without": "names of classes that are left out",
        "random_split": "seed of a random part, by PyTorch's random_split",
        "skip": "with random_split: number of images before the part",
        "published": "false: files in CIFAR's layout that are not the published ones",
    },
    "wds": {"path": "folder with classnames.txt and the folder of the split", "split": "folder of the shards (test)"},
    "karpathy": {"split": "test, val, train or restval"},
    "mmseg": {
        "layout": "voc21, voc20, context60, context59, coco-object, coco-stuff164k, ade20k or cityscapes",
        "images": "folder of the images, if it is not in the dataset's folder",
        "exif": "turn masks by their EXIF orientation, too; images always are",
    },
    "masks": {
        "masks": "folder of masks with the names of their images, or a JSON in COCO's format",
        "class_names": "the classes by index; otherwise from prompts.words, or the JSON's categories",
        "list": "file with the images to read, one a line, with or without ending",
        "mask_suffix": "what follows the name of the image (without its ending), such as _mask.png",
        "ignore_index": "value of pixels that are not evaluated (255)",
        "reduce_zero_label": "0 is not evaluated, and 1 is the first class",
        "palette": "a colour for each class, in overlays; and in RGB masks, if there are no colours",
        "colours": "class of each colour, or `ignored`; for RGB masks, or to read palettes and grey values as colours",
        "background": "JSON: class of pixels in no annotation, which are not evaluated otherwise",
        "exif": "turn masks by their EXIF orientation, too; images always are",
    },
    "sugarcrepe": {"path": "folder of the seven JSON files", "images": "COCO's val2017"},
    "svo-probes": {"path": "the CSV"},
    "mmvp-vlm": {"path": "folder with Questions.csv and the images"},
    "winoground": {"path": "examples.jsonl"},
    "aro": {
        "path": "the JSON",
        "subsets": "what the subsets are: relation or attributes",
        "symmetric": "subsets that the group `asymmetric` leaves out: their order means nothing",
    },
    "aro-order": {"path": "the JSON of `data prepare`", "shuffles": "shuffled captions of each item"},
    "toybox": {
        "split": "train, val or test",
        "seed": "seed of the scenes",
        "scenes": "number of scenes (1,000)",
        "per_class": "classification: images of each class (20)",
        "size": "side of an image in pixels (64)",
    },
}
"""Reader -> option -> text, where it differs from `TEXTS`."""


@dataclass(frozen=True)
class OptionText:
    """One option of a reader, in words."""

    name: str
    kind: str
    """What its value is, as in `KINDS`."""
    required: bool
    text: str
    """Empty for an option of a plug-in that has no description."""


def describe_options(name: str, reader: ReaderInfo) -> list[OptionText]:
    """Return the options of a reader, required ones first."""
    described = {**TEXTS, **OF_READERS.get(name, {}), **reader.about}
    return [
        OptionText(option, KINDS[kind], option in reader.required, described.get(option, ""))
        for option, kind in {**reader.required, **reader.optional}.items()
    ]
