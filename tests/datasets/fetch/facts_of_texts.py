"""Addresses of benchmarks in other languages, with long captions, and of associations and species, which have no row in
the collected facts.

Each with its figures, `(exact size, about size), checksums, revision`, and where it was read.
"""

Facts = tuple[tuple[int | None, int | None], dict[str, str], str | None]
SILENT: Facts = ((None, None), {}, None)
CLIP_BENCHMARK = "clip-benchmark 1.6.2, clip_benchmark/datasets"
XTD10 = "https://raw.githubusercontent.com/adobe-research/Cross-lingual-Test-Dataset-XTD10/main/"
IIW = "https://raw.githubusercontent.com/google/imageinwords/"
FOLDERS = {"XTD10": ("en", "es", "it", "ko", "pl", "ru", "tr", "zh"), "MIC": ("de", "fr"), "STAIR": ("jp",)}


def _iiw(commit: str, folder: str) -> dict[str, tuple[Facts, str]]:
    facts: Facts = ((None, None), {}, commit)
    return {f"{IIW}{commit}/datasets/{folder}/data.jsonl": (facts, "files of google/imageinwords")}


WINOGAVIL = "5cac6963c15aa99d46c449f6295b356780368a78"
READ: dict[str, tuple[Facts, str]] = {
    f"https://raw.githubusercontent.com/WinoGAViL/WinoGAViL-experiments/{WINOGAVIL}/assets/winogavil_dataset.csv": (
        ((None, 509_000), {}, WINOGAVIL),
        "the file itself, 509,163 characters",
    ),
    "https://huggingface.co/datasets/nlphuji/winogavil": (SILENT, "its card, and eval_utils/wino_eval.py of DataComp"),
    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz": (
        ((1_150_585_339, None), {"md5": "97eceeb196236b17998738112f37df78"}, None),
        "public code that downloads and verifies the archive, which gives address, size and MD5 alike",
    ),
    "https://github.com/facebookresearch/Whac-A-Mole": (
        SILENT,
        "imagenet_w/watermark_transform.py and MANIFEST.in, which name the folder and the font",
    ),
    "https://ml-inat-competition-datasets.s3.amazonaws.com/2021/val.tar.gz": (
        ((None, None), {"md5": "f6f6e0e242e3d4c9569ba56400938afc"}, None),
        "torchvision/datasets/inaturalist.py",
    ),
    **{
        f"{XTD10}{folder}/test_1kcaptions_{code}.txt": (SILENT, f"{CLIP_BENCHMARK}/xtd10.py")
        for folder, codes in FOLDERS.items()
        for code in codes
    },
    f"{XTD10}XTD10/test_image_names.txt": (SILENT, f"{CLIP_BENCHMARK}/xtd10.py"),
    "https://nllb-data.com/test/xtd10/images.tar.gz": (SILENT, f"{CLIP_BENCHMARK}/xtd10.py"),
    "https://google.github.io/crossmodal-3600/web-data/captions.zip": (SILENT, f"{CLIP_BENCHMARK}/crossmodal3600.py"),
    "https://open-images-dataset.s3.amazonaws.com/crossmodal-3600/images.tgz": (
        SILENT,
        f"{CLIP_BENCHMARK}/crossmodal3600.py",
    ),
    **{
        f"https://github.com/mehdidc/retrieval_annotations/releases/download/1.0.0/{name}_test_zh.txt": (
            SILENT,
            f"{CLIP_BENCHMARK}/builder.py",
        )
        for name in ("flickr30k", "flickr8k")
    },
    "https://github.com/visheratin/nllb-clip": (SILENT, f"{CLIP_BENCHMARK}/xtd200.py and flickr30k_200.py"),
    "https://storage.googleapis.com/docci/data/docci_descriptions.jsonlines": (
        ((None, 10_500_000), {}, None),
        "index.html of google/docci",
    ),
    "https://storage.googleapis.com/docci/data/docci_images.tar.gz": (
        ((None, 7_100_000_000), {}, None),
        "index.html of google/docci",
    ),
    "https://github.com/ExplainableML/flair": (SILENT, "README.md of ExplainableML/flair"),
    **_iiw("9b4a42335be8deaca1f68ee407b111537dd3bf3b", "DOCCI_Test"),
    **_iiw("c8746bde7fd3162f387540df7d774d59e4167b6a", "IIW-400"),
    **_iiw("e2160c98988cffd1526398850a5acbae04ee0676", "DCI_TEST"),
    "https://github.com/google/imageinwords/tree/main/datasets": (SILENT, "datasets/EVAL_DATASETS.md of FLAIR"),
    "BeichenZhang/Urban1k": (
        (
            (80_586_923, None),
            {"sha256": "08e42b3fada77abf7f890a087ed6e9f9fbba1dc143f9f09801ed83187ae617b8"},
            "953fcf1d1a3bde031d9424a91a0154e594b5a586",
        ),
        "public reports of downloads, which give revision, size and the LFS digest alike",
    ),
    "https://github.com/facebookresearch/DCI": (SILENT, "README.md of facebookresearch/DCI"),
    "https://huggingface.co/datasets/Lin-Chen/ShareGPT4V": (SILENT, "datasets/EVAL_DATASETS.md of FLAIR"),
}
TERMS = {
    "CC BY 4.0 (annotations); each picture its owner's",
    "Adobe Research License; captions of MIC and STAIR by their authors",
    "Flickr terms of use of each picture",
    "CC BY 4.0",
    "captions of Flickr30k in Chinese; terms not stated",
    "captions of Flickr8k in Chinese; terms not stated",
    "terms not stated by nllb-clip",
    "captions of Flickr30k; terms not stated by nllb-clip",
    "CC BY 4.0 of DOCCI",
    "DOCCI CC BY 4.0; SA-1B research licence",
    "CC BY 4.0 of ImageInWords",
    "none stated by its authors",
    "CC BY-NC; images of SA-1B, research licence",
    "as the page of ShareGPT4V says; images of SA-1B, research licence",
}
SAME_DATA = {"imagenet-w": "imagenet1k", "imagenet1k-multilingual": "imagenet1k", "babel-imagenet": "imagenet1k"}
for _name in ("flickr30k-200", "flickr30k-cn-test-retrieval"):
    SAME_DATA[_name] = "flickr30k-test-retrieval"
SAME_DATA["flickr8k-cn-test-retrieval"] = "flickr8k-test-retrieval"
