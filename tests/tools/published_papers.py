"""Figures of tables that papers and their repositories print as text, as rows of `published.csv`.

A table is typed off once, a line of figures for each model, and checked against the means that it prints beside them
(`tests/published/test_papers.py`). A column without a benchmark of ours is kept where the same images are measured by
a rule that is not certain to be ours. A model has a spec if the source names the weights.
"""

from tests.tools.published_babel import BABEL_IMAGENET
from tests.tools.published_long_captions import LONG_CAPTIONS
from tests.tools.published_table import PaperTable, both_ways
from tests.tools.published_words import RETRIEVAL

LLM2CLIP = PaperTable(
    paper="LLM2CLIP (arXiv 2411.04997)",
    source="LLM2CLIP, arXiv 2411.04997, table 1: COCO's 5K and Flickr's 1K test, Long-CLIP's 1K of ShareGPT4V and "
    "Urban-1k; the weights with a spec are those that its table A2 links",
    columns=(
        *both_ways("Flickr", "flickr30k-test-retrieval"),
        *both_ways("COCO", "coco-karpathy-retrieval"),
        *both_ways("SG4V", "sharegpt4v-1k-longclip"),
        *both_ways("Urban", "urban1k"),
        *both_ways("DOCCI", ""),  # "1.5K images", where its test split has 5,000
    ),
    figures={
        ("Long-CLIP", "", "ViT-B/16", ""): "85.8 70.6 56.9 40.9 94.8 93.5 79.1 79.1 63.1 71.4",
        ("jina-clip-v2", "", "", ""): "84.4 69.8 57.1 41.9 94.5 91.1 80.4 78.0 77.6 78.2",
        ("SigLIP", "", "ViT-B/16", ""): "89.1 74.7 65.8 47.8 85.8 83.5 62.8 62.4 70.1 70.6",
        ("MetaCLIP", "", "ViT-B/16", ""): "85.6 70.8 59.3 41.3 90.4 86.6 68.9 63.3 70.9 71.5",
        ("CLIP", "hf:openai/clip-vit-base-patch16", "ViT-B/16", ""):
            "82.3 62.2 52.4 33.1 84.5 79.8 67.5 53.1 60.7 57.1",
        ("CLIP + LLM2CLIP", "", "ViT-B/16", "15M"): "91.8 80.7 64.8 52.4 97.8 97.6 90.1 92.1 86.1 86.9",
        ("EVA02", "", "ViT-B/16", ""): "86.2 71.5 58.7 42.1 90.5 85.5 67.0 60.8 67.7 68.0",
        ("EVA02 + LLM2CLIP", "", "ViT-B/16", "15M"): "91.2 81.4 66.0 53.9 98.5 98.5 88.2 91.3 86.8 88.5",
        ("Long-CLIP", "", "ViT-L/14", ""): "90.0 76.2 62.8 46.3 97.2 97.3 82.5 86.1 66.5 78.6",
        ("MetaCLIP", "", "ViT-L/14", ""): "90.1 76.4 64.5 47.1 86.4 79.5 73.4 70.0 76.5 76.7",
        ("CLIP", "hf:openai/clip-vit-large-patch14", "ViT-L/14", ""):
            "85.2 65.0 56.3 36.5 84.2 83.6 68.3 55.6 63.1 65.8",
        ("CLIP + LLM2CLIP", "", "ViT-L/14", "15M"): "93.0 83.5 67.4 56.4 98.7 98.6 91.5 94.1 88.3 90.4",
        ("EVA02", "", "ViT-L/14", ""): "89.7 77.3 63.7 47.5 91.9 89.3 73.3 68.5 73.5 75.0",
        ("EVA02 + LLM2CLIP", "", "ViT-L/14", "60M"): "95.9 85.1 71.7 58.5 99.2 99.2 95.2 97.0 90.1 92.0",
        ("CLIP 336", "hf:openai/clip-vit-large-patch14-336", "ViT-L/14-336", ""):
            "87.7 67.0 58.0 37.1 86.2 84.0 72.8 57.0 67.4 65.7",
        ("EVA02 336", "", "ViT-L/14-336", ""): "89.6 78.0 64.2 47.9 91.5 89.4 76.6 70.0 74.7 76.4",
        ("SigLIP2", "hf:google/siglip2-so400m-patch14-224", "SoViT/14", ""):
            "93.9 82.9 72.0 55.5 90.2 87.2 75.7 74.5 77.0 78.9",
        ("SigLIP2 + LLM2CLIP", "", "SoViT/14", "60M"): "95.2 84.6 73.7 57.6 99.4 99.4 96.2 97.3 91.5 92.9",
        ("SigLIP 384", "", "SoViT/14", ""): "94.3 83.0 72.4 54.3 91.6 89.4 74.5 73.6 74.5 75.8",
        ("InternVL", "", "6B", ""): "94.2 81.6 69.4 53.2 92.4 90.5 79.6 77.7 79.2 81.6",
    },
)  # fmt: skip
"""Left out: SigLIP's SoViT/14 at 224, 40 points below its own figures at 384, and LLM2CLIP's ViT-L/14-336 of 60M, whose
figures do not give the mean printed beside them."""


SIGLIP2 = PaperTable(
    paper="SigLIP 2",
    source="Tschannen et al., SigLIP 2, table 1, XM3600: R@1, 36 languages. All captions of an image, as the dataset "
    "xm3600 and the evaluator proj.image_text.retrieval of google-research/big_vision read them",
    columns=(
        ("XM3600", "T2I", "xm3600-all-captions", RETRIEVAL["T2I R@1"]),
        ("XM3600", "I2T", "xm3600-all-captions", RETRIEVAL["I2T R@1"]),
    ),
    figures={
        (name, f"open_clip:{architecture}/webli", architecture, "WebLI"): figures
        for name, architecture, figures in (
            ("SigLIP 2 B/32 256", "ViT-B-32-SigLIP2-256", "38.3 49.0"),
            ("SigLIP B/16 224", "ViT-B-16-SigLIP", "22.4 29.3"),
            ("SigLIP 2 B/16 224", "ViT-B-16-SigLIP2", "40.3 50.7"),
            ("SigLIP B/16 256", "ViT-B-16-SigLIP-256", "22.5 29.9"),
            ("SigLIP 2 B/16 256", "ViT-B-16-SigLIP2-256", "40.7 51.0"),
            ("SigLIP B/16 384", "ViT-B-16-SigLIP-384", "23.3 30.3"),
            ("SigLIP 2 B/16 384", "ViT-B-16-SigLIP2-384", "41.2 51.6"),
            ("SigLIP B/16 512", "ViT-B-16-SigLIP-512", "23.5 30.5"),
            ("SigLIP 2 B/16 512", "ViT-B-16-SigLIP2-512", "41.4 52.0"),
            ("SigLIP L/16 256", "ViT-L-16-SigLIP-256", "30.9 40.1"),
            ("SigLIP 2 L/16 256", "ViT-L-16-SigLIP2-256", "46.5 56.5"),
            ("SigLIP L/16 384", "ViT-L-16-SigLIP-384", "31.4 39.7"),
            ("SigLIP 2 L/16 384", "ViT-L-16-SigLIP2-384", "47.1 56.3"),
            ("SigLIP 2 L/16 512", "ViT-L-16-SigLIP2-512", "47.4 56.7"),
            ("SigLIP So/14 224", "ViT-SO400M-14-SigLIP", "16.0 22.8"),
            ("SigLIP 2 So/14 224", "ViT-SO400M-14-SigLIP2", "47.9 57.5"),
            ("SigLIP So/14 384", "ViT-SO400M-14-SigLIP-384", "17.8 26.6"),
            ("SigLIP 2 So/14 384", "ViT-SO400M-14-SigLIP2-378", "48.4 57.5"),
            ("mSigLIP So/16 256", "ViT-SO400M-16-SigLIP-i18n-256", "50.0 62.8"),
            ("SigLIP 2 So/16 256", "ViT-SO400M-16-SigLIP2-256", "48.1 57.5"),
            ("SigLIP 2 So/16 384", "ViT-SO400M-16-SigLIP2-384", "48.3 57.5"),
            ("SigLIP 2 So/16 512", "ViT-SO400M-16-SigLIP2-512", "48.3 57.6"),
            ("SigLIP 2 g/16 256", "ViT-gopt-16-SigLIP2-256", "48.2 58.2"),
            ("SigLIP 2 g/16 384", "ViT-gopt-16-SigLIP2-384", "48.6 57.9"),
        )
    },
)
"""Its So/14 model at 384 has 27 patches a side, which open_clip calls 378 pixels."""

XM3600_LANGUAGES = (
    "ar", "bn", "da", "de", "el", "en", "es", "fi", "fr", "hi", "id", "it", "ja", "ko", "nl", "no", "pl", "pt", "ro",
    "ru", "sv", "th", "tr", "uk", "vi", "zh",
)  # fmt: skip
XTD_LANGUAGES = ("de", "en", "es", "fr", "it", "ko", "pl", "ru", "tr", "zh")
JINA = PaperTable(
    paper="jina-embeddings-v4 (2025)",
    source="jina-embeddings-v4's report, tables A9 and A10: text-to-image recall@5 by clip-benchmark. Its figures of "
    "nllb-clip-large-siglip are those of open_clip's table of multilingual retrieval, tag v1",
    columns=tuple(
        (f"{printed} {language}", "text-to-image Recall@5", benchmark, f"{language}/{RETRIEVAL['T2I R@5']}")
        for printed, benchmark, languages in (
            ("crossmodal3600", "xm3600", XM3600_LANGUAGES),
            ("xtd10", "multilingual-coco", XTD_LANGUAGES),
        )
        for language in languages
    ),
    figures={
        ("jina-embeddings-v4", "", "Qwen2.5-VL-3B", ""):
            "75.75 57.97 80.47 91.75 66.50 76.47 83.64 66.67 88.69 47.81 87.41 87.97 91.22 82.19 81.00 71.94 80.86 "
            "81.42 84.33 90.28 72.58 83.36 73.08 86.28 88.81 86.67 "
            "92.10 93.10 91.50 91.30 92.20 86.30 89.10 91.50 84.70 82.80",
        ("jina-clip-v2", "", "", ""):
            "73.56 63.78 85.39 91.25 75.03 75.83 83.64 82.83 88.78 55.25 84.22 88.33 87.03 78.81 82.56 81.08 84.00 "
            "82.42 89.36 88.97 78.06 81.61 81.31 88.56 86.64 78.97 "
            "85.70 89.40 85.90 85.10 85.80 82.10 86.50 81.10 83.70 83.40",
        ("nllb-clip-large-siglip", "", "nllb-clip-large-siglip", "v1"):
            "78.92 75.19 87.14 89.56 77.83 73.11 82.64 86.42 87.86 60.31 86.31 85.94 86.06 78.75 81.69 82.69 82.72 "
            "82.69 90.03 86.44 79.33 81.14 83.47 85.44 85.56 76.56 "
            "88.30 89.40 88.20 87.70 89.30 85.20 89.40 83.40 88.30 86.80",
    },
)  # fmt: skip

WHATSUP = PaperTable(
    paper="What'sUp (EMNLP 2023)",
    source="Kamath et al., What'sUp, EMNLP 2023, table 6 without priors; CLIP is OpenAI's, the tags of the others are "
    "those of model_zoo in amitakamath/whatsup_vlms",
    columns=(
        *(
            (f"What'sUp Subset {subset.upper()}", printed, f"whatsup-{subset}", metric)
            for subset in "ab"
            for printed, metric in (("Indiv.", "accuracy"), ("Pairs", "pair_accuracy"), ("Set of 4", "set_accuracy"))
        ),
        *(
            (f"{printed}-spatial", f"{objects.title()}-obj.", f"whatsup-{printed.lower()}-{objects}", "accuracy")
            for printed in ("COCO", "GQA")
            for objects in ("one", "two")
        ),
    ),
    figures={
        ("CLIP ViT-B/32", "open_clip:ViT-B-32/openai", "ViT-B/32", ""):
            "30.3 0.5 0.0 31.6 1.0 0.0 43.7 51.1 46.5 47.4",
        ("CLIP ViT-L/14", "open_clip:ViT-L-14/openai", "ViT-L/14", ""):
            "26.5 1.0 0.0 25.7 2.0 0.0 49.2 49.8 46.1 48.5",
        ("NegCLIP", "", "ViT-B/32", ""): "32.5 5.3 0.0 36.3 2.0 0.0 47.4 46.4 45.3 46.7",
        ("RoBERTaCLIP", "open_clip:roberta-ViT-B-32/laion2b_s12b_b32k", "roberta-ViT-B/32", ""):
            "25.2 2.4 0.0 25.0 0.0 0.0 46.3 53.6 50.8 48.8",
        ("CoCa", "open_clip:coca_ViT-B-32/laion2b_s13b_b90k", "coca_ViT-B-32", ""):
            "29.4 2.4 0.0 29.4 3.9 0.0 48.1 45.2 45.0 49.1",
        ("CoCa-Caption", "open_clip:coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k", "coca_ViT-B-32", ""):
            "25.5 1.9 0.0 22.8 0.0 0.0 45.9 51.4 48.5 50.5",
    },
)  # fmt: skip

NEGBENCH_PAPER = "NegBench (CVPR 2025, arXiv 2501.09425)"
NEGBENCH_CHOICE = PaperTable(
    paper=NEGBENCH_PAPER,
    source="github:m1k2zoo/negbench results/mcq/1_baseline_breakdown.csv and 1_baseline_total.csv, fractions there, "
    "made after the bug fix of March 2025; the five models are ViT-B/32 (section 4 of the paper)",
    columns=tuple(
        (f"{printed} MCQ", f"{kind} Accuracy", benchmark, metric)
        for printed, benchmark in (("COCO", "negbench-coco"), ("VOC2007", "negbench-voc2007"))
        for kind, metric in (
            ("Total", "accuracy"),
            ("Positive", "positive/accuracy"),
            ("Negative", "negative/accuracy"),
            ("Hybrid", "hybrid/accuracy"),
        )
    ),
    figures={
        ("CLIP-OpenAI", "open_clip:ViT-B-32/openai", "ViT-B/32", ""): "39.30 69.14 6.84 39.31 38.72 82.55 3.35 58.98",
        ("CLIP-Laion400M", "", "ViT-B/32", ""): "31.01 49.70 16.36 25.75 31.56 62.76 8.77 43.72",
        ("CLIP-datacomp", "open_clip:ViT-B-32/datacomp_xl_s13b_b90k", "ViT-B/32", ""):
            "26.26 42.03 15.83 20.03 23.12 57.77 7.45 27.42",
        ("NegCLIP", "", "ViT-B/32", ""): "28.68 51.62 16.15 17.15 30.49 75.37 5.70 40.35",
        ("ConCLIP", "", "ViT-B/32", ""): "23.88 14.42 33.53 24.45 38.12 24.63 22.96 56.69",
    },
)  # fmt: skip
"""CLIP-Laion400M was trained with QuickGELU and measured without (the script's `ViT-B-32`): no spec builds that."""
NEGBENCH_RETRIEVAL = PaperTable(
    paper=NEGBENCH_PAPER,
    source="Alhamoud et al., NegBench, CVPR 2025, table 1 (a), ViT-B/32",
    columns=(
        ("COCO", "R@5", "negbench-coco-retrieval", RETRIEVAL["T2I R@5"]),
        ("COCO", "R-Neg@5", "negbench-coco-negated-retrieval", RETRIEVAL["T2I R@5"]),
    ),
    figures={
        ("CLIP", "open_clip:ViT-B-32/openai", "ViT-B/32", ""): "54.8 48.0",
        ("CLIP", "", "ViT-B/32", "and CC12M"): "58.8 54.5",
        ("CLIP", "", "ViT-B/32", "and CC12M-NegCap"): "58.5 57.8",
        ("CLIP", "", "ViT-B/32", "and CC12M-NegFull"): "54.2 51.9",
        ("NegCLIP", "", "ViT-B/32", ""): "68.7 64.4",
        ("NegCLIP", "", "ViT-B/32", "and CC12M"): "70.2 66.0",
        ("NegCLIP", "", "ViT-B/32", "and CC12M-NegCap"): "68.6 67.5",
        ("NegCLIP", "", "ViT-B/32", "and CC12M-NegFull"): "69.0 67.0",
    },
)

VALSE = PaperTable(
    paper="MM-SHAP (ACL 2023)",
    source="Parcalabescu and Frank, MM-SHAP, ACL 2023, table 2, acc_r on VALSE; which CLIP it is, it does not say",
    columns=(
        *(
            (f"VALSE {printed}", "acc_r", "valse", f"{piece}/accuracy")
            for printed, piece in (
                ("existence", "existence"),
                ("plurality", "plurals"),
                ("counting balanced", "counting-hard"),
                ("counting small numbers", "counting-small-quant"),
                ("counting adversarial", "counting-adversarial"),
                ("spatial relations", "relations"),
                ("action replacement", "action-replacement"),
                ("actant swap", "actant-swap"),
                ("coreference standard", "coreference-standard"),
                ("coreference clean", "coreference-hard"),
                ("Foil-it!", "foil-it"),
            )
        ),
        ("VALSE Avg.", "acc_r", "valse", "macro_accuracy"),
    ),
    figures={
        ("CLIP", "", "", ""): "66.9 56.2 62.1 62.5 57.5 64.3 75.6 68.6 52.1 49.7 88.8 64.0",
        ("LXMERT", "", "", ""): "78.6 64.4 62.2 69.2 42.6 60.2 54.8 45.8 46.8 44.2 87.1 59.6",
        ("ALBEF mscoco", "", "", ""): "78.6 80.1 71.8 74.3 68.9 74.6 79.8 62.6 62.2 59.6 97.0 73.6",
        ("ALBEF flickr", "", "", ""): "80.6 78.9 71.0 73.6 64.3 73.3 82.4 55.5 59.9 57.7 96.6 72.1",
    },
)
VSR = PaperTable(
    paper="VSR (TACL 2023)",
    source="github:cambridgeltl/visual-spatial-reasoning README.md, CLIP (frozen); which CLIP and by which "
    "code, it does not say",
    columns=(("VSR random split", "accuracy", "vsr-random", "accuracy"),),
    figures={("CLIP (frozen)", "", "", ""): "56.0"},
)
"""Its 54.5 of the zero-shot split is left out: the README says 616 items, and the file has 1,222."""
CREPE = PaperTable(
    paper="CREPE (CVPR 2023)",
    source="Papers with Code's results of the paper (aggregator), two of its models on the set for LAION-400M; which "
    "version of the paper, it does not say",
    columns=tuple(
        (f"CREPE {negatives}, {compounds}", "Recall@1", "crepe-systematicity-laion", f"{subset}/accuracy")
        for negatives, compounds, subset in (
            ("HN-Atom + HN-Comp", "SC", "seen combined"),
            ("HN-Atom + HN-Comp", "UC", "unseen combined"),
            ("HN-Atom", "UC", "unseen atom"),
            ("HN-Comp", "UC", "unseen comp"),
        )
    ),
    figures={
        ("ViT-L-14 (LAION400M)", "", "ViT-L/14", "LAION-400M"): "39.44 33.81 47.86 60.78",
        ("ViT-B-16 (LAION400M)", "", "ViT-B/16", "LAION-400M"): "37.01 30.81 44.93 59.00",
    },
    secondary=True,
)
"""Without a spec: open_clip has two sets of weights of each, of two epochs."""
COUNTBENCH = PaperTable(
    paper="Teaching CLIP to Count to Ten (ICCV 2023)",
    source="a page about the paper that has its table (secondary), baseline A: CLIP-B/32, official",
    columns=(("CountBench", "accuracy", "countbench", "accuracy"),),
    figures={("CLIP-B/32 (official)", "open_clip:ViT-B-32/openai", "ViT-B/32", ""): "31.67"},
    secondary=True,
)
"""The table's other models are the authors' own."""
TABLES = (
    LLM2CLIP,
    SIGLIP2,
    JINA,
    WHATSUP,
    NEGBENCH_CHOICE,
    NEGBENCH_RETRIEVAL,
    VALSE,
    VSR,
    CREPE,
    COUNTBENCH,
    BABEL_IMAGENET,
    *LONG_CAPTIONS,
)


def paper_rows() -> list[tuple[str, ...]]:
    """The rows of all tables."""
    return [row for table in TABLES for row in table.rows()]
