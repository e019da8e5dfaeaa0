"""Figures of long and fine-grained captions beside LoTLIP's and LLM2CLIP's, as rows of `published.csv`.

Most are secondary: notes that readers of the papers published, since the papers' own tables could not be read, or
tables that have them from other papers. They agree with each other, and those of the same weights with LoTLIP's and
LLM2CLIP's. Left out: DOCCI's and DCI's columns of HiMo-CLIP, and DeBias-CLIP's, which do not say which images they are.
"""

from tests.tools.published_table import PaperTable, both_ways

HIMO_CLIP = "HiMo-CLIP (AAAI 2026)"
COLA = PaperTable(
    paper=HIMO_CLIP,
    source="HiMo-CLIP, AAAI 2026, table 3: accuracy on COLA-multi",
    columns=(("COLA-multi", "accuracy", "cola-multi", "image_score"),),
    figures={
        ("CLIP", "open_clip:ViT-L-14/openai", "ViT-L/14", ""): "27.6",
        ("EVA-02-CLIP", "", "ViT-L/14", ""): "25.7",
        ("Long-CLIP", "", "ViT-L/14", ""): "32.4",
        ("TULIP", "", "ViT-L/14", ""): "34.8",
        ("FineLIP", "", "ViT-L/14", ""): "34.3",
        ("FG-CLIP", "", "ViT-L/14-336", ""): "30.0",
        ("HiMo-CLIP", "", "ViT-L/14", ""): "38.6",
    },
)
URBAN = PaperTable(
    paper=HIMO_CLIP,
    source="HiMo-CLIP, AAAI 2026, table 1, which has them from other papers (secondary)",
    columns=both_ways("Urban1k", "urban1k"),
    figures={
        ("CLIP", "open_clip:ViT-B-16/openai", "ViT-B/16", ""): "68.1 53.6",
        ("Long-CLIP", "", "ViT-B/16", ""): "78.9 79.5",
        ("TULIP", "", "ViT-B/16", ""): "88.1 86.6",
        ("FineLIP", "", "ViT-B/16", ""): "88.2 88.2",
        ("LoTLIP", "", "ViT-B/16", ""): "88.8 84.8",
        ("SigLIP", "", "ViT-B/16", ""): "63.0 62.3",
        ("HiMo-CLIP", "", "ViT-B/16", ""): "89.2 89.6",
        ("CLIP", "open_clip:ViT-L-14/openai", "ViT-L/14", ""): "68.7 52.8",
        ("Long-CLIP", "", "ViT-L/14", ""): "82.7 86.1",
        ("TULIP", "", "ViT-L/14", ""): "90.1 91.1",
        ("FineLIP", "", "ViT-L/14", ""): "92.3 91.2",
        ("HiMo-CLIP", "", "ViT-L/14", ""): "93.0 93.1",
    },
    secondary=True,
)
FG_CLIP = PaperTable(
    paper="FG-CLIP (ICML 2025, arXiv 2505.05071)",
    source="notes on the paper (ICML 2025 notes, long captions; secondary)",
    columns=both_ways("DCI", "dci"),
    figures={
        ("CLIP", "open_clip:ViT-B-16/openai", "ViT-B/16", ""): "45.5 43.0",
        ("FG-CLIP", "", "ViT-B/16", ""): "61.8 60.6",
    },
    secondary=True,
)
DEBIAS_CLIP = PaperTable(
    paper="DeBias-CLIP (CVPR 2026)",
    source="notes on the paper (CVPR 2026 notes, long captions; secondary)",
    columns=both_ways("Urban1k", "urban1k"),
    figures={
        ("CLIP", "open_clip:ViT-B-16/openai", "ViT-B/16", ""): "67.5 53.4",
        ("CLIP", "open_clip:ViT-L-14/openai", "ViT-L/14", ""): "68.5 56.1",
        ("Long-CLIP", "", "ViT-B/16", ""): "78.9 79.5",
        ("Long-CLIP", "", "ViT-L/14", ""): "82.5 86.0",
        ("SmartCLIP", "", "ViT-B/16", ""): "90.0 87.4",
        ("SmartCLIP", "", "ViT-L/14", ""): "93.3 90.1",
        ("DeBias-CLIP", "", "ViT-B/16", ""): "93.1 93.0",
        ("DeBias-CLIP", "", "ViT-L/14", ""): "95.2 95.2",
    },
    secondary=True,
)
SMARTCLIP = PaperTable(
    paper="SmartCLIP (CVPR 2025)",
    source="notes on the paper (CVPR 2025 notes, long captions; secondary)",
    columns=(*both_ways("ShareGPT4V", "sharegpt4v-1k-longclip"), *both_ways("Urban1k", "urban1k")),
    figures={
        ("CLIP", "open_clip:ViT-L-14/openai", "ViT-L/14", ""): "81.8 84.0 68.7 52.8",
        ("Long-CLIP", "", "ViT-L/14", ""): "95.8 95.6 82.7 86.1",
        ("SmartCLIP", "", "ViT-L/14", ""): "97.9 98.5 93.0 90.1",
    },
    secondary=True,
)
FLAIR_PAPER = "FLAIR (CVPR 2025, arXiv 2412.03561)"
FLAIR_30M = PaperTable(
    paper=FLAIR_PAPER,
    source="notes on the paper (CVPR 2025 notes, main results; secondary)",
    columns=both_ways("DOCCI-FG", "docci-fg")[1:],
    figures={("FLAIR", "flair:flair-merged30m", "ViT-B/16-FLAIR", "Merged-30M"): "25.0"},
    secondary=True,
)
FLAIR_15M = PaperTable(
    paper=FLAIR_PAPER,
    source="notes on the paper (table 1, version 1; secondary)",
    columns=both_ways("DOCCI-FG", "docci-fg"),
    figures={
        ("FLAIR", "flair:flair-yfcc15m-recap", "ViT-B/16-FLAIR", "YFCC15M-recap"): "53.7 23.0",
        ("SigLIP", "", "ViT-B/16", "YFCC15M-recap"): "46.3 18.9",
    },
    secondary=True,
)
"""FLAIR's README prints COCO and Flickr30k only."""
LONG_CAPTIONS = (COLA, URBAN, FG_CLIP, DEBIAS_CLIP, SMARTCLIP, FLAIR_30M, FLAIR_15M)
