"""The readers by name: where each one's code is and which options a definition may give it. Imports nothing heavy."""

from dataclasses import dataclass, field

PLACE = "a path inside the data root, or a list of paths of which the first that has the data is read"
TEXT = "a text"
NUMBER = "a whole number"
NAMES = "a list of texts"
SWITCH = "true or false"
APPLY = "apply"
ALLOW = "allow"
"""Kinds whose one value is the word itself: the option is left out where it does not hold."""


@dataclass(frozen=True)
class ReaderInfo:
    """One reader. Options are name -> kind; a PLACE says where things lie and never enters a protocol's fingerprint."""

    where: str
    """`module:function`; the function takes (benchmark, data root) and returns Data or raises DataProblems."""
    kinds: tuple[str, ...]
    """The kinds of data that it can give (`cosmos_eval.datasets.kinds`); a task takes one."""
    required: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)
    needs_root: bool = True
    only_with: dict[str, str] = field(default_factory=dict)
    """Option -> the other option without which it does nothing."""

    def kind(self, option: str) -> str | None:
        return self.required.get(option) or self.optional.get(option)


LEFT_OUT = {"leave_out_missing": SWITCH}
"""Items whose pictures are missing are counted and left out; without it they are a problem."""

TURNED = {"exif": APPLY}
"""Images are turned as their EXIF orientation says; without it none is, as in torchvision and clip-benchmark."""
CANDIDATES = {"candidates_without_images": ALLOW}
"""Classes without an image compete all the same; without it they are a problem."""

READERS: dict[str, ReaderInfo] = {
    "coco-captions": ReaderInfo(
        "cosmos_eval.datasets.coco:read_captions",
        kinds=("retrieval",),
        required={"images": PLACE, "annotations": PLACE},
        optional=TURNED,
    ),
    "karpathy": ReaderInfo(
        "cosmos_eval.datasets.karpathy:read_karpathy",
        kinds=("retrieval",),
        required={"images": PLACE, "annotations": PLACE, "split": TEXT},
        optional=TURNED,
    ),
    "image-folder": ReaderInfo(
        "cosmos_eval.datasets.folders:read_image_folder",
        kinds=("classification",),
        required={"path": PLACE},
        optional={**TURNED, **CANDIDATES},
    ),
    "imagenet": ReaderInfo(
        "cosmos_eval.datasets.imagenet:read_imagenet",
        kinds=("classification",),
        required={"path": PLACE},
        optional={"labels": PLACE, **TURNED, **CANDIDATES},
    ),
    "jsonl": ReaderInfo(
        "cosmos_eval.datasets.jsonl:read_jsonl",
        kinds=("retrieval", "classification", "perception"),
        required={"path": PLACE},
        optional={"images": PLACE, **TURNED, **CANDIDATES},
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
    ),
    "wds": ReaderInfo(
        "cosmos_eval.datasets.wds:read_wds",
        kinds=("classification", "retrieval"),
        required={"path": PLACE},
        optional={"split": TEXT, **TURNED, **CANDIDATES},
    ),
    "mmseg": ReaderInfo(
        "cosmos_eval.datasets.mmseg.reader:read_mmseg",
        kinds=("segmentation",),
        required={"layout": TEXT, "path": PLACE},
        optional={"images": PLACE, **TURNED},
    ),
    "sugarcrepe": ReaderInfo(
        "cosmos_eval.datasets.perception.sugarcrepe:read_sugarcrepe",
        kinds=("perception",),
        required={"path": PLACE, "images": PLACE},
        optional={**LEFT_OUT, **TURNED},
    ),
    "svo-probes": ReaderInfo(
        "cosmos_eval.datasets.perception.svo:read_svo",
        kinds=("perception",),
        required={"path": PLACE, "images": PLACE},
        optional={**LEFT_OUT, **TURNED},
    ),
    "mmvp-vlm": ReaderInfo(
        "cosmos_eval.datasets.perception.mmvp:read_mmvp",
        kinds=("perception",),
        required={"path": PLACE},
        optional={**LEFT_OUT, **TURNED},
    ),
    "winoground": ReaderInfo(
        "cosmos_eval.datasets.perception.winoground:read_winoground",
        kinds=("perception",),
        required={"path": PLACE, "images": PLACE},
        optional={**LEFT_OUT, **TURNED},
    ),
    "aro": ReaderInfo(
        "cosmos_eval.datasets.perception.aro:read_aro",
        kinds=("perception",),
        required={"path": PLACE, "images": PLACE, "subsets": TEXT},
        optional={"symmetric": NAMES, **LEFT_OUT, **TURNED},
    ),
    "aro-order": ReaderInfo(
        "cosmos_eval.datasets.perception.order:read_order",
        kinds=("perception",),
        required={"path": PLACE, "images": PLACE},
        optional={"shuffles": NUMBER, **LEFT_OUT, **TURNED},
    ),
    "toybox": ReaderInfo(
        "cosmos_eval.datasets.toybox.reader:read_toybox",
        kinds=("retrieval", "classification", "perception", "segmentation"),
        required={"split": TEXT, "seed": NUMBER},
        optional={"scenes": NUMBER, "per_class": NUMBER, "size": NUMBER},
        needs_root=False,
    ),
}
