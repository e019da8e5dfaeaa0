"""Published figures of retrieval in other languages, with long captions, and of VTAB+, as rows of `published.csv`."""

import csv
from pathlib import Path

from tests.tools.published_words import RETRIEVAL

MULTILINGUAL_PAPER = "open_clip multilingual retrieval suite (CLIP benchmark)"
MULTILINGUAL_SOURCE = "github:mlfoundations/open_clip openclip_multilingual_retrieval_results.csv in its docs"
BENCHMARKS = {"crossmodal3600": "xm3600", "multilingual_mscoco_captions": "multilingual-coco"}
DIRECTIONS = {"image_retrieval": "T2I", "text_retrieval": "I2T"}
LOTLIP_PAPER = "LoTLIP (NeurIPS 2024)"
LOTLIP_SOURCE = (
    "github:wuw2019/LoTLIP README.md of November 2024, Evaluation Results; its training/zero_shot.py computes R@1"
)
LOTLIP_COLUMNS = (("DCI", "dci"), ("IIW", "iiw"), ("SV-10k", "sharegpt4v-10k"))
LOTLIP = {
    ("CLIP-ViT-B-32", "open_clip:ViT-B-32/openai", "400M"): "43.06 40.32 86.76 84.15 58.08 51.77",
    ("CLIP-ViT-B-16", "open_clip:ViT-B-16/openai", "400M"): "45.45 43.01 88.24 87.58 60.22 56.16",
    ("Long-CLIP-ViT-B-16", "", "400M"): "51.68 57.28 89.61 93.20 79.24 77.06",
    ("LoTLIP-ViT-B-32", "", "100M"): "59.90 56.36 93.14 91.83 83.76 78.97",
    ("LoTLIP-ViT-B-16", "", "100M"): "64.11 62.63 94.28 92.65 88.40 82.72",
}
"""(model, spec, pretraining) -> I2T and T2I of each of LOTLIP_COLUMNS, as the README prints them. The README of October
2024 had the same figures with the two words exchanged."""

VTAB_PAPER = "clip-benchmark (VTAB+ of LAION-5B)"
VTAB_SOURCE = "github:LAION-AI/CLIP_benchmark benchmark/benchmark.csv"
VTAB_COLUMNS = (
    ("fer2013", "fer2013-wds"),
    ("vtab/diabetic_retinopathy", "diabetic-retinopathy-vtab"),
    ("vtab/dmlab", "dmlab-vtab"),
    ("vtab/dsprites_label_orientation", "dsprites-orientation-vtab"),
    ("vtab/dsprites_label_x_position", "dsprites-x-position-vtab"),
    ("vtab/smallnorb_label_azimuth", "smallnorb-azimuth-vtab"),
    ("vtab/smallnorb_label_elevation", "smallnorb-elevation-vtab"),
    ("voc2007_multilabel", "voc2007-multilabel-wds"),
)
"""The sets of VTAB and VTAB+ that are not among DataComp's 38."""
VTAB = {
    ("ViT-B-32", "openai"): "40.94 26.30 19.46 2.37 3.46 6.00 11.79 76.01",
    ("ViT-B-16", "openai"): "45.82 6.33 15.90 1.98 2.95 5.59 11.86 78.88",
    ("ViT-L-14", "openai"): "48.97 73.31 16.75 2.32 3.18 4.56 11.43 79.04",
    ("ViT-L-14-336", "openai"): "48.01 73.26 15.92 2.43 3.14 4.76 11.23 80.36",
    ("ViT-B-32-quickgelu", "laion400m_e32"): "42.67 33.80 17.22 1.94 2.94 4.54 9.73 76.22",
    ("ViT-B-16", "laion400m_e32"): "42.87 8.74 15.08 3.04 3.11 5.90 9.84 78.43",
    ("ViT-B-16-plus-240", "laion400m_e32"): "44.61 13.16 14.86 2.60 4.28 5.51 10.81 78.47",
    ("ViT-L-14", "laion400m_e32"): "50.10 7.15 18.56 2.57 2.98 5.17 10.97 78.47",
    ("ViT-B-32", "laion2b_e16"): "47.74 27.00 18.90 2.68 3.13 5.18 10.87 79.28",
    ("ViT-L-14", "laion2b_s32b_b82k"): "53.71 21.06 22.43 2.00 3.15 5.63 10.95 81.99",
}
"""(architecture, tag) -> acc1, of the last one mean_average_precision, of each of VTAB_COLUMNS, in percent. The last
model is `ViT-L-14 /fsx/rwightman/epoch_160.pt` in the file, which laion5b-paper.ipynb beside it calls
CLIP-ViT-L-14-laion2B-s32B-b82K. Its three other models are files whose names on the hub are not stated."""
OTHER_IMAGES = ("Long-CLIP-ViT-B-16",)
"""Not mapped: no whole number of LoTLIP's 612 images of IIW gives the 89.61 and 93.20 of this model."""


def lotlip_rows() -> list[tuple[str, ...]]:
    """The rows of LoTLIP's README. The weights of CLIP are those that it links."""
    rows = []
    for (model, spec, pretraining), printed in LOTLIP.items():
        figures = iter(printed.split())
        for column, benchmark in LOTLIP_COLUMNS:
            for direction in ("I2T", "T2I"):
                is_ours = model not in OTHER_IMAGES
                rows.append(
                    (
                        LOTLIP_PAPER,
                        model,
                        spec,
                        model[-8:].replace("ViT-B-", "ViT-B/"),
                        pretraining,
                        benchmark if is_ours else "",
                        RETRIEVAL[f"{direction} R@1"] if is_ours else "",
                        next(figures),
                        "",
                        column,
                        direction,
                        LOTLIP_SOURCE,
                    )
                )
    return rows


def vtab_rows() -> list[tuple[str, ...]]:
    """The rows of clip-benchmark's table, of the sets that open_clip's table does not have."""
    rows = []
    for (model, tag), printed in VTAB.items():
        for (column, benchmark), figure in zip(VTAB_COLUMNS, printed.split(), strict=True):
            metric, printed_metric = ("top1", "acc1")
            if column == "voc2007_multilabel":
                metric = printed_metric = "mean_average_precision"
            rows.append(
                (
                    VTAB_PAPER,
                    f"{model} {tag}",
                    f"open_clip:{model}/{tag}",
                    model,
                    tag,
                    benchmark,
                    metric,
                    figure,
                    "",
                    column,
                    printed_metric,
                    VTAB_SOURCE,
                )
            )
    return rows


def multilingual_rows(path: Path) -> list[tuple[str, ...]]:
    """The mean R@1 over languages of every model of open_clip's table, for both sets and directions.

    A model has a spec if open_clip can load it and no switch between GELU and QuickGELU is in doubt. NLLB-CLIP has
    none: clip-benchmark tells its tokenizer the language of the texts, and this package leaves it at English.
    """
    import open_clip

    public = {tuple(pair) for pair in open_clip.list_pretrained()}
    rows = []
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            model, tag = row["model"], row["version"]
            is_ours = (model, tag) in public and _activation_is_certain(model, tag) and not model.startswith("nllb")
            for dataset, benchmark in BENCHMARKS.items():
                for theirs, ours in DIRECTIONS.items():
                    printed = row[f"{dataset} {theirs}_recall@1 avg"]
                    rows.append(
                        (
                            MULTILINGUAL_PAPER,
                            f"{model} {tag}",
                            f"open_clip:{model}/{tag}" if is_ours else "",
                            model,
                            tag,
                            benchmark,
                            RETRIEVAL[f"{ours} R@1"],
                            f"{100 * float(printed):.2f}",
                            "",
                            dataset,
                            f"{theirs}_recall@1 avg",
                            MULTILINGUAL_SOURCE,
                        )
                    )
    return rows


def _activation_is_certain(model: str, tag: str) -> bool:
    import open_clip

    needs_quick_gelu = bool((open_clip.get_pretrained_cfg(model, tag) or {}).get("quick_gelu"))
    has_it = model.endswith("-quickgelu") or tag == "openai"
    return needs_quick_gelu == has_it or bool((open_clip.get_model_config(model) or {}).get("quick_gelu"))
