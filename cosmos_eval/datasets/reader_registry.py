"""The readers by name, each with its options. Imports neither the readers' code nor anything else that is slow.

Readers of other packages are entry points of the group `cosmos_eval.readers` (`cosmos_eval.datasets.reader`).
"""

from collections.abc import Mapping
from typing import Any

from cosmos_core.plugins import Registry
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
    find_reader_problem,
    to_reader_info,
)

LEAVE_OUT = {"leave_out_missing": SWITCH}
"""With it, items whose images are missing are counted and left out; without it, a missing image is a problem."""

EXIF = {"exif": APPLY}
"""With it, the EXIF orientation of images is applied; without it, it is ignored, as torchvision does."""

CANDIDATES = {"candidates_without_images": ALLOW}
"""With it, classes may have no image and still are candidates; without it, such a class is a problem."""

TABLE_COLUMNS = {
    "image_column": TEXT,
    "image_id_column": TEXT,
    "label_column": TEXT,
    "caption_columns": NAMES,
    "positive_column": TEXT,
    "negative_columns": NAMES,
    "negative_image_column": TEXT,
    "subset_column": TEXT,
}
"""Names of columns; without them, columns are found by their type and usual names."""
DISTRACTORS = {"distractors": ALLOW}
"""With it, images may have no caption and texts no image and still are candidates; without it, they are a problem."""

KIND_OPTIONS = {**CANDIDATES, **DISTRACTORS}
"""Options of readers that only some kinds of data have (`DataKind.options`)."""

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
    "caption-files": ReaderInfo(
        "cosmos_eval.datasets.languages.caption_files:read_caption_files",
        kinds=("multilingual-retrieval",),
        required={"images": PATH, "image_names": PATH, "captions": PATH, "languages": NAMES},
        optional={"file_name": TEXT, **EXIF},
        summary="a file of captions for each language, line by line beside a file of image names, as XTD-10",
        about={
            "image_names": "file with the name of an image a line",
            "captions": "folder of the caption files",
            "file_name": "of a caption file, with {language} for the code ({language}.txt)",
            "languages": "codes of the languages, in the order of tables",
        },
    ),
    "xm3600": ReaderInfo(
        "cosmos_eval.datasets.languages.xm3600:read_xm3600",
        kinds=("multilingual-retrieval",),
        required={"path": PATH, "images": PATH, "languages": NAMES},
        optional={"all_captions": SWITCH, **EXIF},
        summary="Crossmodal-3600's captions.jsonl and its images",
        about={
            "path": "captions.jsonl",
            "languages": "codes of the languages, in the order of tables",
            "all_captions": "all captions of an image in a language, not only the first",
        },
    ),
    "flickr-captions": ReaderInfo(
        "cosmos_eval.datasets.languages.flickr_captions:read_flickr_captions",
        kinds=("retrieval",),
        required={"path": PATH, "images": PATH},
        optional=EXIF,
        summary="lines of image, comma and caption below a header, as clip-benchmark's files for Flickr",
        about={
            "path": "the file of captions",
        },
    ),
    "json-captions": ReaderInfo(
        "cosmos_eval.datasets.long_captions.json_captions:read_json_captions",
        kinds=("retrieval",),
        required={"path": PATH, "images": PATH, "image_key": TEXT, "caption_key": TEXT},
        optional={"list_key": TEXT, "split_key": TEXT, "split": TEXT, "rejoin_sentences": SWITCH, **EXIF},
        summary="captions in JSON or JSON Lines with keys that the definition names, as DOCCI",
        about={
            "path": "a .jsonl or .jsonlines file with an object a line, or a JSON list",
            "image_key": "key of the image's name",
            "caption_key": "key of the caption, or of a list of captions",
            "list_key": "of a JSON map: key of its list of records",
            "split_key": "key of a record's split",
            "split": "only records of this split",
            "rejoin_sentences": "true: sentences are cut and joined as LoTLIP and FLAIR do",
        },
    ),
    "caption-folder": ReaderInfo(
        "cosmos_eval.datasets.long_captions.caption_folder:read_caption_folder",
        kinds=("retrieval",),
        required={"images": PATH, "captions": PATH},
        optional=EXIF,
        summary="a folder of images, and one with a text file for each, as Urban-1k",
        about={
            "captions": "folder of NAME.txt, of which the first line is the caption",
        },
    ),
    "dci": ReaderInfo(
        "cosmos_eval.datasets.long_captions.dci:read_dci",
        kinds=("retrieval",),
        required={"path": PATH, "annotations": PATH, "images": PATH, "caption": TEXT},
        optional=EXIF,
        summary="Densely Captioned Images: splits.json and a JSON for each image",
        about={
            "path": "folder with splits.json",
            "annotations": "folder of the JSON files",
            "caption": "long (short and extra caption), or short",
        },
    ),
    "iiw": ReaderInfo(
        "cosmos_eval.datasets.long_captions.iiw:read_iiw",
        kinds=("retrieval",),
        required={"path": PATH, "images": PATH},
        optional=EXIF,
        summary="ImageInWords: DOCCI-Test, IIW-400 and DCI-Test",
        about={
            "path": "folder with DOCCI_Test, IIW-400 and DCI_Test, a data.jsonl in each",
            "images": "folder with docci, docci_aar and dci",
        },
    ),
    "sharegpt4v": ReaderInfo(
        "cosmos_eval.datasets.long_captions.sharegpt4v:read_sharegpt4v",
        kinds=("retrieval",),
        required={"path": PATH, "images": PATH, "first": NUMBER},
        optional={"rejoin_sentences": SWITCH, **EXIF},
        summary="ShareGPT4V's captions of SA-1B",
        about={
            "path": "share4v_sam_10k.json, or the whole share-captioner_coco_lcs_sam_1246k_1107.json",
            "first": "number of records, from the first",
            "rejoin_sentences": "true: as LoTLIP and FLAIR; otherwise line ends become blanks, as in Long-CLIP",
        },
    ),
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
    "sugarcrepe": ReaderInfo(
        "cosmos_eval.datasets.perception.sugarcrepe:read_sugarcrepe",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="SugarCrepe's seven JSON files and COCO's images",
        about={
            "path": "folder of the seven JSON files",
            "images": "COCO's val2017",
        },
    ),
    "svo-probes": ReaderInfo(
        "cosmos_eval.datasets.perception.svo:read_svo",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="SVO-Probes' table and its images",
        about={
            "path": "the CSV",
        },
    ),
    "mmvp-vlm": ReaderInfo(
        "cosmos_eval.datasets.perception.mmvp:read_mmvp",
        kinds=("perception",),
        required={"path": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="MMVP-VLM's table and its images",
        about={
            "path": "folder with Questions.csv and the images",
        },
    ),
    "winoground": ReaderInfo(
        "cosmos_eval.datasets.perception.winoground:read_winoground",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={"tags": PATH, **LEAVE_OUT, **EXIF},
        summary="Winoground's examples.jsonl and its images",
        about={
            "path": "examples.jsonl",
            "tags": "a JSON map from id to a list of tags (Diwan et al.), each of which has metrics",
        },
    ),
    "aro": ReaderInfo(
        "cosmos_eval.datasets.perception.aro:read_aro",
        kinds=("perception",),
        required={"path": PATH, "images": PATH, "subsets": TEXT},
        optional={"symmetric": NAMES, **LEAVE_OUT, **EXIF},
        summary="ARO's Visual Genome relation and attribution files and images",
        about={
            "path": "the JSON",
            "subsets": "what the subsets are: relation or attributes",
            "symmetric": "subsets that the group `asymmetric` leaves out: their order means nothing",
        },
    ),
    "aro-order": ReaderInfo(
        "cosmos_eval.datasets.perception.aro_order:read_aro_order",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={"shuffles": NUMBER, **LEAVE_OUT, **EXIF},
        summary="ARO's order sets: captions of COCO or Flickr, shuffled",
        about={
            "path": "the JSON of `data prepare`",
            "shuffles": "shuffled captions of each item",
        },
    ),
    "sugarcrepe-pp": ReaderInfo(
        "cosmos_eval.datasets.perception.sugarcrepe_pp:read_sugarcrepe_pp",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="SugarCrepe++'s five JSON files and COCO's images",
        about={
            "path": "folder of the five JSON files",
            "images": "COCO's val2017",
        },
    ),
    "cola": ReaderInfo(
        "cosmos_eval.datasets.perception.image_caption_pairs:read_cola",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="Cola's multi-object JSON and its images",
        about={
            "path": "the JSON",
        },
    ),
    "colorswap": ReaderInfo(
        "cosmos_eval.datasets.perception.image_caption_pairs:read_colorswap",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="ColorSwap's JSON and its images",
        about={
            "path": "the JSON",
            "images": "folder that the paths of images are in",
        },
    ),
    "valse": ReaderInfo(
        "cosmos_eval.datasets.perception.valse:read_valse",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="VALSE's eleven JSON files and their images",
        about={
            "path": "folder of the JSON files",
            "images": "folder of the images, or of a folder for each `dataset` of the files",
        },
    ),
    "crepe": ReaderInfo(
        "cosmos_eval.datasets.perception.crepe:read_crepe",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="CREPE's tables of productivity and Visual Genome's images",
        about={
            "path": "folder of the folders atom, swap and negate",
            "images": "folder of VG_100K and VG_100K_2",
        },
    ),
    "whatsup": ReaderInfo(
        "cosmos_eval.datasets.perception.whatsup:read_whatsup",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="What'sUp's photos of two objects, with pairs and sets",
        about={
            "path": "the JSON",
            "images": "folder that controlled_images or controlled_clevr is in",
        },
    ),
    "spatial-pairs": ReaderInfo(
        "cosmos_eval.datasets.perception.whatsup:read_spatial_pairs",
        kinds=("perception",),
        required={"path": PATH, "images": PATH, "image_names": TEXT, "objects": TEXT},
        optional={**LEAVE_OUT, **EXIF},
        summary="What'sUp's items of COCO and Visual Genome: image id, right and wrong caption",
        about={
            "path": "the JSON",
            "image_names": "coco or visual-genome",
            "objects": "one or two objects in a caption",
        },
    ),
    "vsr": ReaderInfo(
        "cosmos_eval.datasets.perception.vsr:read_vsr",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="VSR's lines of image, caption and label",
        about={
            "path": "the jsonl of a split",
            "images": "folder with the images of COCO's train2017 and val2017",
        },
    ),
    "negbench": ReaderInfo(
        "cosmos_eval.datasets.perception.negbench:read_negbench",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="NegBench's tables of multiple choice",
        about={
            "path": "the CSV",
        },
    ),
    "countbench": ReaderInfo(
        "cosmos_eval.datasets.perception.countbench:read_countbench",
        kinds=("perception",),
        required={"path": PATH},
        optional=EXIF,
        summary="CountBench's Parquet files: the number in a caption replaced",
        about={
            "path": "folder of the Parquet files",
        },
    ),
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
