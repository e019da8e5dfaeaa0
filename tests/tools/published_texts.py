"""Published figures of retrieval in other languages and with long captions, as rows of `published.csv`."""

import csv
from pathlib import Path

from tests.tools.published_words import RETRIEVAL

MULTILINGUAL_PAPER = "open_clip multilingual retrieval suite (CLIP benchmark)"
MULTILINGUAL_SOURCE = "github:mlfoundations/open_clip openclip_multilingual_retrieval_results.csv in its docs"
BENCHMARKS = {"crossmodal3600": "xm3600", "multilingual_mscoco_captions": "multilingual-coco"}
DIRECTIONS = {"image_retrieval": "T2I", "text_retrieval": "I2T"}
LOTLIP_PAPER = "LoTLIP (NeurIPS 2024)"
LOTLIP_SOURCE = "github:wuw2019/LoTLIP README.md, Evaluation Results; the columns name no k, taken as R@1"
LOTLIP_COLUMNS = (("DCI", "dci"), ("IIW", "iiw"), ("SV-10k", "sharegpt4v-10k"))
LOTLIP = {
    ("CLIP-ViT-B-32", "open_clip:ViT-B-32/openai", "400M"): "43.06 40.32 86.76 84.15 58.08 51.77",
    ("CLIP-ViT-B-16", "open_clip:ViT-B-16/openai", "400M"): "45.45 43.01 88.24 87.58 60.22 56.16",
    ("Long-CLIP-ViT-B-16", "", "400M"): "51.68 57.28 89.61 93.20 79.24 77.06",
    ("LoTLIP-ViT-B-32", "", "100M"): "59.90 56.36 93.14 91.83 83.76 78.97",
    ("LoTLIP-ViT-B-16", "", "100M"): "64.11 62.63 94.28 92.65 88.40 82.72",
}
"""(model, spec, pretraining) -> I2T and T2I of each of LOTLIP_COLUMNS, as the README prints them."""


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


def multilingual_rows(path: Path) -> list[tuple[str, ...]]:
    """The mean R@1 over languages of every model of open_clip's table, for both sets and directions.

    A model has a spec if open_clip can load it and no switch between GELU and QuickGELU is in doubt.
    """
    import open_clip

    public = {tuple(pair) for pair in open_clip.list_pretrained()}
    rows = []
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            model, tag = row["model"], row["version"]
            is_certain = (model, tag) in public and _activation_is_certain(model, tag)
            for dataset, benchmark in BENCHMARKS.items():
                for theirs, ours in DIRECTIONS.items():
                    printed = row[f"{dataset} {theirs}_recall@1 avg"]
                    rows.append(
                        (
                            MULTILINGUAL_PAPER,
                            f"{model} {tag}",
                            f"open_clip:{model}/{tag}" if is_certain else "",
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
