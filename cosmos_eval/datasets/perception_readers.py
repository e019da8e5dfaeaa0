"""Readers of perception and composition benchmarks. A part of the table in `reader_registry.py`."""

from cosmos_eval.datasets.reader import NAMES, NUMBER, PATH, TEXT, ReaderInfo
from cosmos_eval.datasets.reader_options import EXIF, LEAVE_OUT

PERCEPTION_READERS = {
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
    "cola-single": ReaderInfo(
        "cosmos_eval.datasets.perception.cola_single:read_cola_single",
        kinds=("multilabel",),
        required={"path": PATH, "images": PATH},
        optional=EXIF,
        summary="Cola's single-object JSON and its images: classes of attributes and an object",
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
    "winogavil": ReaderInfo(
        "cosmos_eval.datasets.perception.winogavil:read_winogavil",
        kinds=("multiple-choice",),
        required={"path": PATH, "images": PATH},
        optional=EXIF,
        summary="WinoGAViL's table of words and names of images, and the images",
        about={
            "path": "winogavil_dataset.csv",
            "images": "folder of <name>.jpg, or with another ending",
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
    "crepe-systematicity": ReaderInfo(
        "cosmos_eval.datasets.perception.crepe:read_crepe_systematicity",
        kinds=("multiple-choice",),
        required={"path": PATH, "images": PATH, "training": TEXT},
        optional=EXIF,
        summary="CREPE's tables of systematicity and Visual Genome's images",
        about={
            "path": "folder of the tables",
            "images": "folder of VG_100K and VG_100K_2",
            "training": "cc12m, yfcc or laion: the training data that compounds are seen in",
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
    "negbench-chexpert": ReaderInfo(
        "cosmos_eval.datasets.perception.negbench:read_negbench_chexpert",
        kinds=("perception",),
        required={"path": PATH, "images": PATH},
        optional={**LEAVE_OUT, **EXIF},
        summary="NegBench's tables of two captions for CheXpert's images",
        about={
            "path": "the CSV",
            "images": "the folder that has CheXpert's `train` and `valid`",
        },
    ),
    "negbench-retrieval": ReaderInfo(
        "cosmos_eval.datasets.perception.negbench:read_negbench_retrieval",
        kinds=("retrieval",),
        required={"path": PATH, "images": PATH},
        optional=EXIF,
        summary="NegBench's tables of images and their captions",
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
}
