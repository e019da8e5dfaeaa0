"""The readers by name: where each one's code is and which options a definition may give it. Imports nothing heavy.

Readers of other packages are entry points of the group `cosmos_eval.readers` (`cosmos_eval.datasets.reader`).
"""

from typing import Any

from cosmos_core.plugins import Registry
from cosmos_eval.datasets.reader import (
    ALLOW,
    APPLY,
    NAMES,
    NUMBER,
    PLACE,
    SWITCH,
    TEXT,
    ReaderInfo,
    as_reader,
    reader_problem,
)

LEFT_OUT = {"leave_out_missing": SWITCH}
"""Items whose images are missing are counted and left out; without it they are a problem."""

TURNED = {"exif": APPLY}
"""Images are turned as their EXIF orientation says; without it none is, as in torchvision and clip-benchmark."""
CANDIDATES = {"candidates_without_images": ALLOW}
"""Classes without an image compete all the same; without it they are a problem."""

BUILT_IN: dict[str, Any] = {
    "coco-captions": ReaderInfo(
        "cosmos_eval.datasets.coco:read_captions",
        kinds=("retrieval",),
        required={"images": PLACE, "annotations": PLACE},
        optional=TURNED,
        summary="COCO captions: images and a captions_*.json",
    ),
    "karpathy": ReaderInfo(
        "cosmos_eval.datasets.karpathy:read_karpathy",
        kinds=("retrieval",),
        required={"images": PLACE, "annotations": PLACE, "split": TEXT},
        optional=TURNED,
        summary="Karpathy's splits of COCO and Flickr: images and a dataset_*.json",
    ),
    "image-folder": ReaderInfo(
        "cosmos_eval.datasets.folders:read_image_folder",
        kinds=("classification",),
        required={"path": PLACE},
        optional={**TURNED, **CANDIDATES},
        summary="a folder for each class, its images below",
    ),
    "imagenet": ReaderInfo(
        "cosmos_eval.datasets.imagenet:read_imagenet",
        kinds=("classification",),
        required={"path": PLACE},
        optional={"labels": PLACE, **TURNED, **CANDIDATES},
        summary="ImageNet's validation set, as class folders or flat with the devkit's labels",
    ),
    "jsonl": ReaderInfo(
        "cosmos_eval.datasets.jsonl:read_jsonl",
        kinds=("retrieval", "classification", "perception"),
        required={"path": PLACE},
        optional={"images": PLACE, **TURNED, **CANDIDATES},
        summary="a line of JSON for each image (docs/data.md)",
    ),
    "clip-benchmark": ReaderInfo(
        "cosmos_eval.datasets.clip_benchmark:read_torchvision",
        kinds=("classification",),
        required={"dataset": TEXT, "path": PLACE},
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
    ),
    "wds": ReaderInfo(
        "cosmos_eval.datasets.wds:read_wds",
        kinds=("classification", "retrieval"),
        required={"path": PLACE},
        optional={"split": TEXT, **TURNED, **CANDIDATES},
        summary="WebDataset shards, as clip-benchmark's hub copies",
    ),
    "mmseg": ReaderInfo(
        "cosmos_eval.datasets.mmseg.reader:read_mmseg",
        kinds=("segmentation",),
        required={"layout": TEXT, "path": PLACE},
        optional={"images": PLACE, **TURNED},
        summary="images and masks in a layout of mmsegmentation",
    ),
    "sugarcrepe": ReaderInfo(
        "cosmos_eval.datasets.perception.sugarcrepe:read_sugarcrepe",
        kinds=("perception",),
        required={"path": PLACE, "images": PLACE},
        optional={**LEFT_OUT, **TURNED},
        summary="SugarCrepe's seven JSON files and COCO's images",
    ),
    "svo-probes": ReaderInfo(
        "cosmos_eval.datasets.perception.svo:read_svo",
        kinds=("perception",),
        required={"path": PLACE, "images": PLACE},
        optional={**LEFT_OUT, **TURNED},
        summary="SVO-Probes' table and its images",
    ),
    "mmvp-vlm": ReaderInfo(
        "cosmos_eval.datasets.perception.mmvp:read_mmvp",
        kinds=("perception",),
        required={"path": PLACE},
        optional={**LEFT_OUT, **TURNED},
        summary="MMVP-VLM's table and its images",
    ),
    "winoground": ReaderInfo(
        "cosmos_eval.datasets.perception.winoground:read_winoground",
        kinds=("perception",),
        required={"path": PLACE, "images": PLACE},
        optional={**LEFT_OUT, **TURNED},
        summary="Winoground's examples.jsonl and its images",
    ),
    "aro": ReaderInfo(
        "cosmos_eval.datasets.perception.aro:read_aro",
        kinds=("perception",),
        required={"path": PLACE, "images": PLACE, "subsets": TEXT},
        optional={"symmetric": NAMES, **LEFT_OUT, **TURNED},
        summary="ARO's Visual Genome relation and attribution files and images",
    ),
    "aro-order": ReaderInfo(
        "cosmos_eval.datasets.perception.order:read_order",
        kinds=("perception",),
        required={"path": PLACE, "images": PLACE},
        optional={"shuffles": NUMBER, **LEFT_OUT, **TURNED},
        summary="ARO's order sets: captions of COCO or Flickr, shuffled",
    ),
    "toybox": ReaderInfo(
        "cosmos_eval.datasets.toybox.reader:read_toybox",
        kinds=("retrieval", "classification", "perception", "segmentation"),
        required={"split": TEXT, "seed": NUMBER},
        optional={"scenes": NUMBER, "per_class": NUMBER, "size": NUMBER},
        needs_root=False,
        summary="rendered in memory from a seed; nothing is read",
    ),
}
"""Name -> its `ReaderInfo`, or `module:class` of a class as plug-ins have it. A new one is a file and a line here."""

READERS = Registry("cosmos_eval.readers", "dataset reader", BUILT_IN, reader_problem)


def reader_info(name: Any) -> ReaderInfo:
    """The reader called `name`; a plug-in is imported.

    Raises:
        RequestError: there is none, or it is a plug-in's that cannot be used.
    """
    return as_reader(READERS.load(name))
