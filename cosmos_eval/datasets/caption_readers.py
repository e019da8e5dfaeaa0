"""Readers of captions: in several languages, and long ones. A part of the table in `reader_registry.py`."""

from cosmos_eval.datasets.reader import NAMES, NUMBER, PATH, SWITCH, TEXT, ReaderInfo
from cosmos_eval.datasets.reader_options import EXIF

CAPTION_READERS = {
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
}
