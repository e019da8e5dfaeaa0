"""The readers by name, each with its options. Imports neither the readers' code nor anything else that is slow.

Readers of other packages are entry points of the group `cosmos_eval.readers` (`cosmos_eval.datasets.reader`).
"""

from collections.abc import Mapping
from typing import Any

from cosmos_core.plugins import Registry
from cosmos_eval.datasets.caption_readers import CAPTION_READERS
from cosmos_eval.datasets.perception_readers import PERCEPTION_READERS
from cosmos_eval.datasets.reader import (
    COLOUR_MAP,
    COLOURS,
    NAMES,
    NAMES_OR_FILE,
    NUMBER,
    PATH,
    SWITCH,
    TEXT,
    ReaderInfo,
    find_reader_problem,
    to_reader_info,
)
from cosmos_eval.datasets.reader_options import CANDIDATES, DISTRACTORS, EXIF, TABLE_COLUMNS

BUILT_IN: dict[str, Any] = {
    "coco-captions": ReaderInfo(
        "cosmos_eval.datasets.coco:read_captions",
        kinds=("retrieval",),
        required={"images": PATH, "annotations": PATH},
        optional=EXIF,
        summary="COCO captions: images and a captions_*.json",
    ),
    "karpathy": ReaderInfo(
        "cosmos_eval.datasets.karpathy:read_karpathy",
        kinds=("retrieval",),
        required={"images": PATH, "annotations": PATH, "split": TEXT},
        optional=EXIF,
        summary="Karpathy's splits of COCO and Flickr: images and a dataset_*.json",
        about={
            "split": "test, val, train or restval",
        },
    ),
    "image-folder": ReaderInfo(
        "cosmos_eval.datasets.image_folder:read_image_folder",
        kinds=("classification",),
        required={"path": PATH},
        optional={**EXIF, **CANDIDATES},
        summary="a folder for each class, with its images",
        about={
            "path": "folder with a folder for each class",
        },
    ),
    "imagenet": ReaderInfo(
        "cosmos_eval.datasets.imagenet:read_imagenet",
        kinds=("classification",),
        required={"path": PATH},
        optional={"labels": PATH, "only_class_folders": SWITCH, **EXIF, **CANDIDATES},
        summary="ImageNet's validation set, as class folders or flat with the devkit's labels; its variants' folders",
        about={
            "path": "folder with class folders (wnids), or flat with all images",
            "labels": "flat folder: lines of image and label, Kaggle's CSV, or the devkit's "
            "ground truth beside meta.mat",
            "only_class_folders": "only classes that have a folder are candidates, as in ImageNet-A, -R and -O",
        },
    ),
    "cub": ReaderInfo(
        "cosmos_eval.datasets.cub:read_cub",
        kinds=("classification",),
        required={"path": PATH, "split": TEXT},
        optional={**EXIF, **CANDIDATES},
        summary="CUB-200-2011's unpacked archive: four lists of ids and the folder of images",
        about={
            "path": "folder of images.txt, classes.txt, image_class_labels.txt and train_test_split.txt",
            "split": "test or train",
        },
    ),
    "imagenet-w": ReaderInfo(
        "cosmos_eval.datasets.imagenet_w:read_imagenet_w",
        kinds=("classification",),
        required={"path": PATH, "font": PATH},
        optional={"labels": PATH, "side": NUMBER, **EXIF, **CANDIDATES},
        summary="ImageNet's validation set with the watermark of ImageNet-W, drawn on images that are cropped",
        about={
            "path": "folder of ImageNet, as of the reader imagenet",
            "labels": "flat folder: as of the reader imagenet",
            "font": "the authors' SourceHanSerifSC-ExtraLight.otf",
            "side": "pixels of the square that images are cropped to (224): the input of the model",
        },
    ),
    "inaturalist": ReaderInfo(
        "cosmos_eval.datasets.inaturalist:read_inaturalist",
        kinds=("classification",),
        required={"path": PATH},
        optional={**EXIF, **CANDIDATES},
        summary="iNaturalist 2021's unpacked archives: a folder for each species",
        about={
            "path": "folder of the folders of the classes, such as val",
        },
    ),
    "objectnet": ReaderInfo(
        "cosmos_eval.datasets.objectnet:read_objectnet",
        kinds=("classification",),
        required={"path": PATH},
        optional={"border": NUMBER, **EXIF},
        summary="ObjectNet's unpacked archive: the 113 classes that ImageNet has, too",
        about={
            "path": "folder with images and mappings, such as objectnet-1.0",
            "border": "pixels that are cut off each side (0); the red border is one pixel wide",
        },
    ),
    "jsonl": ReaderInfo(
        "cosmos_eval.datasets.jsonl:read_jsonl",
        kinds=(
            "retrieval",
            "classification",
            "multilabel",
            "perception",
            "multiple-choice",
            "multilingual-retrieval",
        ),
        required={"path": PATH},
        optional={"images": PATH, **EXIF, **CANDIDATES, **DISTRACTORS},
        summary="a line of JSON for each image (docs/own_data.md)",
        about={
            "path": "the file",
            "images": "folder of the images; otherwise the folder of the file",
        },
    ),
    "parquet": ReaderInfo(
        "cosmos_eval.datasets.parquet.reader:read_parquet",
        kinds=("retrieval", "classification", "perception"),
        required={"path": PATH},
        optional={"images": PATH, "files": NAMES, "split": TEXT, **TABLE_COLUMNS, **EXIF, **CANDIDATES},
        summary="rows of Parquet files: images as bytes or paths, labels, captions (docs/own_data.md)",
        about={
            "path": "a file, or a folder of files",
            "images": "folder of images that are given by paths",
        },
    ),
    "hf-dataset": ReaderInfo(
        "cosmos_eval.datasets.hf_dataset:read_hf_dataset",
        kinds=("retrieval", "classification", "perception"),
        required={"repository": TEXT, "revision": TEXT},
        optional={"split": TEXT, "config": TEXT, "files": NAMES, **TABLE_COLUMNS, **EXIF, **CANDIDATES},
        needed_files="cosmos_eval.datasets.hf_dataset:needed_files",
        summary="Parquet files of a dataset of the Hugging Face hub, below DATA_ROOT/hf (docs/own_data.md)",
        about={
            "repository": "id on the hub",
            "revision": "commit, 40 digits",
            "config": "name of the configuration",
        },
    ),
    "clip-benchmark": ReaderInfo(
        "cosmos_eval.datasets.clip_benchmark:read_torchvision",
        kinds=("classification",),
        required={"dataset": TEXT, "path": PATH},
        optional={
            "split": TEXT,
            "without": NAMES,
            "random_split": NUMBER,
            "skip": NUMBER,
            "published": SWITCH,
            **CANDIDATES,
        },
        only_with={"skip": "random_split"},
        summary="a torchvision dataset, as clip-benchmark builds it",
        about={
            "dataset": "clip-benchmark's name of the dataset",
            "path": "what torchvision calls root",
            "split": "name of the split (test)",
            "without": "names of classes that are left out",
            "random_split": "seed of a random part, by PyTorch's random_split",
            "skip": "with random_split: number of images before the part",
            "published": "false: files in CIFAR's layout that are not the published ones",
        },
    ),
    "wds": ReaderInfo(
        "cosmos_eval.datasets.webdataset:read_webdataset",
        kinds=("classification", "multilabel", "retrieval"),
        required={"path": PATH},
        optional={"split": TEXT, "metadata": NAMES, "groups": NAMES, **EXIF, **CANDIDATES},
        stream="cosmos_eval.datasets.webdataset_stream:StreamedWebDataset",
        summary="WebDataset shards, as clip-benchmark's hub copies",
        about={
            "path": "folder with classnames.txt and the folder of the split, or its address "
            "(https://..., hf://datasets/OWNER/NAME@COMMIT): then it is streamed",
            "split": "folder of the shards (test)",
            "metadata": "names of the first numbers of each image's .npy, besides its label (WILDS)",
            "groups": "those of metadata whose groups have accuracies of their own",
        },
    ),
    **CAPTION_READERS,
    "mmseg": ReaderInfo(
        "cosmos_eval.datasets.mmseg.reader:read_mmseg",
        kinds=("segmentation",),
        required={"layout": TEXT, "path": PATH},
        optional={"images": PATH, **EXIF},
        summary="images and masks in a layout of mmsegmentation",
        about={
            "layout": "voc21, voc20, context60, context59, coco-object, coco-stuff164k, ade20k or cityscapes",
            "images": "folder of the images, if it is not in the dataset's folder",
            "exif": "turn masks by their EXIF orientation, too; images always are",
        },
    ),
    "masks": ReaderInfo(
        "cosmos_eval.datasets.own_masks.reader:read_masks",
        kinds=("segmentation",),
        required={"images": PATH, "masks": PATH},
        optional={
            "class_names": NAMES_OR_FILE,
            "list": PATH,
            "mask_suffix": TEXT,
            "ignore_index": NUMBER,
            "reduce_zero_label": SWITCH,
            "palette": COLOURS,
            "colours": COLOUR_MAP,
            "background": TEXT,
            **EXIF,
        },
        summary="images with masks: class indices, palettes, RGB maps, or COCO's JSON (docs/own_data.md)",
        about={
            "masks": "folder of masks with the names of their images, or a JSON in COCO's format",
            "class_names": "the classes by index; otherwise from prompts.words, or the JSON's categories",
            "list": "file with the images to read, one a line, with or without ending",
            "mask_suffix": "what follows the name of the image (without its ending), such as _mask.png",
            "ignore_index": "value of pixels that are not evaluated (255)",
            "reduce_zero_label": "0 is not evaluated, and 1 is the first class",
            "palette": "a colour for each class, in overlays; and in RGB masks, if there are no colours",
            "colours": "class of each colour, or `ignored`; for RGB masks, or to read "
            "palettes and grey values as colours",
            "background": "JSON: class of pixels in no annotation, which are not evaluated otherwise",
            "exif": "turn masks by their EXIF orientation, too; images always are",
        },
    ),
    **PERCEPTION_READERS,
    "toybox": ReaderInfo(
        "cosmos_eval.datasets.toybox.reader:read_toybox",
        kinds=("retrieval", "classification", "perception", "segmentation"),
        required={"split": TEXT, "seed": NUMBER},
        optional={"scenes": NUMBER, "per_class": NUMBER, "size": NUMBER, "captions": TEXT},
        needs_root=False,
        summary="rendered in memory from a seed; nothing is read",
        about={
            "split": "train, val or test",
            "seed": "seed of the scenes",
            "scenes": "number of scenes (1,000)",
            "per_class": "classification: images of each class (20)",
            "size": "side of an image in pixels (64)",
            "captions": "retrieval: complete (two of each image), or long (one of several sentences)",
        },
    ),
}
"""Name -> `ReaderInfo`, or the `module:class` of a class such as plug-ins write. A new reader needs a line here."""

READERS = Registry("cosmos_eval.readers", "dataset reader", BUILT_IN, find_reader_problem)


def reader_info(name: Any) -> ReaderInfo:
    """Return the reader called `name`. If a plug-in provides it, the plug-in is imported.

    Raises:
        RequestError: there is no such reader, or its plug-in cannot be used.
    """
    return to_reader_info(READERS.load(name))


def reads_same_data(dataset: Mapping[str, Any], base_dataset: Mapping[str, Any]) -> bool:
    """Return whether the `dataset` section of a definition has the reader, paths and split of that of its base.

    Raises:
        RequestError: as `reader_info`.
    """
    info = reader_info(dataset.get("reader"))
    paths = (key for key in (*info.required, *info.optional) if info.kind(key) == PATH)
    return all(dataset.get(key) == base_dataset.get(key) for key in ("reader", "split", "splits", *paths))
