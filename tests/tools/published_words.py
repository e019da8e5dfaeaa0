"""Which benchmark, metric and model of ours a published figure is about, where that is certain.

A figure is mapped only where protocol and data are ours: the same images, prompts and rule. Left out on purpose:

- mteb's classification (one template) and retrieval (captions that repeat removed), and its means over all items of
  ARO, which differ from the authors';
- ARO in vl_compo: whether its means leave out the relations that the authors' notebook lists as symmetric is not
  stated, and its shuffles are other ones than anybody's;
- segmentation with GEM, ResCLIP and TCL, with SCLIP as ClearCLIP computes it again, and plain CLIP: papers differ in
  its thresholds and in whether the last block keeps its residual.

MaskCLIP's own code has no figures of these networks. Those that ResCLIP prints are mapped, and the definitions say that
their windows, prompts and thresholds are not stated, so that they do not decide.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RETRIEVAL = {
    f"{short} R@{k}": f"{long}_recall@{k}"
    for short, long in (("I2T", "image_to_text"), ("T2I", "text_to_image"))
    for k in (1, 5, 10)
}
CSA = {
    "PASCAL VOC21": "voc21-csa",
    "PASCAL VOC20": "voc20-csa",
    "PASCAL Context60": "context60-csa",
    "PASCAL Context59": "context59-csa",
    "COCO-Object": "coco-object-csa",
    "COCO-Stuff164k (171)": "coco-stuff164k-csa",
    "Cityscapes val": "cityscapes-csa",
    "ADE20K val": "ade20k-csa",
}
ATTENTIONS = {
    ("NACLIP", "NACLIP reduced arch + PAMR"): "naclip",
    ("ResCLIP", "NACLIP (no PAMR)"): "naclip-unrefined",
    ("ResCLIP", "MaskCLIP"): "maskclip",
    ("ResCLIP", "ClearCLIP"): "clearclip",
    ("ClearCLIP", "ClearCLIP"): "clearclip",
    ("ClearCLIP", "OpenCLIP + ClearCLIP"): "clearclip",
    ("ClearCLIP", "MetaCLIP + ClearCLIP"): "clearclip",
}
"""Rows of segmentation with another attention than CSA, by the end of our benchmarks' names."""
SVO = {"subj_neg": "subject/accuracy", "verb_neg": "verb/accuracy", "obj_neg": "object/accuracy"}
MEANS = {
    "SugarCrepe macro mean of 7": ("sugarcrepe", "macro_accuracy"),
    "SugarCrepe micro mean (7511 pairs)": ("sugarcrepe", "accuracy"),
    "SVO-Probes mean of 3": ("svo-probes", "macro_accuracy"),
}
MTEB = {
    ("mteb:SugarCrepe [test]", "text_acc"): ("sugarcrepe", "accuracy"),
    ("mteb:Winoground [test]", "accuracy"): ("winoground", "group_score"),
    ("mteb:Winoground [test]", "text_acc"): ("winoground", "text_score"),
    ("mteb:Winoground [test]", "image_acc"): ("winoground", "image_score"),
}
MODELS = {
    ("SugarCrepe", "RN50"): "open_clip:RN50/openai",
    ("SugarCrepe", "ViT-B-32"): "open_clip:ViT-B-32/openai",
    ("SugarCrepe", "ViT-L-14"): "open_clip:ViT-L-14/openai",
    ("SugarCrepe", "roberta-ViT-B-32"): "open_clip:roberta-ViT-B-32/laion2b_s12b_b32k",
    ("SugarCrepe", "ViT-H-14"): "open_clip:ViT-H-14/laion2b_s32b_b79k",
    ("SugarCrepe", "ViT-bigG-14"): "open_clip:ViT-bigG-14/laion2b_s39b_b160k",
    ("SugarCrepe", "ViT-B-16 (datacomp large)"): "open_clip:ViT-B-16/datacomp_l_s1b_b8k",
    ("SugarCrepe", "ViT-L-14 (datacomp xlarge)"): "open_clip:ViT-L-14/datacomp_xl_s13b_b90k",
    ("MMVP", "OpenAI ViT-L-14 224"): "open_clip:ViT-L-14/openai",
    ("MMVP", "OpenAI ViT-L-14 336"): "open_clip:ViT-L-14-336/openai",
    ("MMVP", "SigLIP SO400M 224"): "open_clip:ViT-SO400M-14-SigLIP/webli",
    ("MMVP", "SigLIP SO400M 384"): "open_clip:ViT-SO400M-14-SigLIP-384/webli",
    ("MMVP", "DFN ViT-H-14 224"): "open_clip:ViT-H-14-quickgelu/dfn5b",
    ("SCLIP", "SCLIP (CSA, no PAMR)"): "open_clip:ViT-B-16/openai",
    ("NACLIP", "NACLIP reduced arch + PAMR"): "open_clip:ViT-B-16/openai",
    ("ResCLIP", "NACLIP (no PAMR)"): "open_clip:ViT-B-16/openai",
    ("ResCLIP", "MaskCLIP"): "open_clip:ViT-B-16/openai",
    ("ResCLIP", "ClearCLIP"): "open_clip:ViT-B-16/openai",
    ("ClearCLIP", "ClearCLIP"): "open_clip:ViT-B-16/openai",
    ("ClearCLIP", "OpenCLIP + ClearCLIP"): "open_clip:ViT-B-16/laion2b_s34b_b88k",
    ("ClearCLIP", "MetaCLIP + ClearCLIP"): "open_clip:ViT-B-16-quickgelu/metaclip_fullcc",
}
"""Of papers that call models by names of their own. MetaCLIP's rows of MMVP do not say on how much it was trained, and
EVA02's not at which size. The weights of ClearCLIP's rows are those that its code loads."""
FLAIR = {
    "CC3M-recap": "flair:flair-cc3m-recap",
    "CC12M-recap": "flair:flair-cc12m-recap",
    "YFCC15M-recap": "flair:flair-yfcc15m-recap",
    "Merged-30M": "flair:flair-merged30m",
}
"""Pretraining data in FLAIR's README -> spec."""
GELU = "GELU config; see quickgelu row"
"""Rows of weights that were trained with QuickGELU and measured without: no spec of ours builds that network."""


def benchmarks_of(paper: str, model: str, benchmark: str, metric: str) -> list[tuple[str, str]]:
    """(our benchmark, our metric) of a printed column; empty where none is the same, two where two are."""
    if paper.startswith(("COSMOS", "FLAIR")):
        return _cosmos(model, benchmark, metric)
    if paper.startswith("SCLIP") or (paper.startswith("ResCLIP") and model == "SCLIP"):
        return [(CSA[benchmark], "miou")] if benchmark in CSA else []
    if (paper.partition(" ")[0], model) in ATTENTIONS and benchmark in CSA:
        name = CSA[benchmark].removesuffix("-csa")
        return [(f"{name}-{ATTENTIONS[paper.partition(' ')[0], model]}", "miou")]
    if paper.startswith(("open_clip retrieval", "vl_compo")) and metric in RETRIEVAL:
        return [
            (f"{'coco-karpathy' if benchmark.startswith('COCO') else 'flickr30k-test'}-retrieval", RETRIEVAL[metric])
        ]
    if paper.startswith("MIEB"):
        return [MTEB[benchmark, metric]] if (benchmark, metric) in MTEB else []
    if paper.startswith(("vl_compo", "SugarCrepe", "MMVP")):
        return _perception(benchmark, metric)
    return []


def _cosmos(model: str, benchmark: str, metric: str) -> list[tuple[str, str]]:
    if benchmark.startswith("COCO retrieval"):
        return [("coco-val2017-retrieval", RETRIEVAL[metric])]
    if benchmark.startswith("Flickr30k retrieval"):
        return [("flickr30k-val-retrieval", RETRIEVAL[metric])]
    if benchmark == "ImageNet-1k zero-shot":
        return [("imagenet1k", "top1")]
    if benchmark == "Flowers102 zero-shot":
        return [("flowers102", "top1")]
    if benchmark == "MMVP-VLM mean":  # the image reading: OpenCLIP's 25.9 in the same table is vl_compo's image score
        return [("mmvp-vlm", "macro_image_score")]
    if benchmark in CSA:
        return [(CSA[benchmark].removesuffix("" if "CSA" in model else "-csa"), "miou")]
    return []


def _perception(benchmark: str, metric: str) -> list[tuple[str, str]]:
    if benchmark in MEANS:
        return [MEANS[benchmark]]
    of, _, part = benchmark.partition(" ")
    if of == "SugarCrepe":
        return [("sugarcrepe", f"{part}/accuracy")]
    if of == "SVO-Probes":
        return [("svo-probes", SVO[part])]
    if of == "Winoground":
        return [("winoground", metric.replace(" ", "_"))]
    if of == "MMVP-VLM":
        reading = "image_score" if metric.startswith(("image", "pair")) else f"{metric.partition(' ')[0]}_score"
        return [("mmvp-vlm", f"macro_{reading}" if part.startswith("mean") else f"{part}/{reading}")]
    return []


def spec_of(paper: str, model: str, arch: str, pretraining: str) -> str:
    """The model spec of a printed row; empty where none names that network for certain."""
    if paper.startswith("COSMOS"):
        if model.startswith("COSMOS cosmos_"):
            return "cosmos:" + model.removeprefix("COSMOS cosmos_").replace("_", "-")
        return "cosmos:vitb16-merged30m" if model.startswith("COSMOS") and pretraining == "Merged-30M" else ""
    if paper.startswith("FLAIR") and model == "FLAIR":
        return FLAIR.get(pretraining, "")
    if paper.startswith(("open_clip", "vl_compo")):
        tower, _, tag = model.partition(" ")
        public = tower not in ("NegCLIP", "LaCLIP_ViT-B-16") and GELU not in pretraining
        return f"open_clip:{tower}/{tag}" if public else ""
    if paper.startswith("MIEB"):
        return "" if model.startswith("QuanSun/") else f"hf:{model}"  # transformers does not read that folder
    if paper.startswith("ResCLIP") and model == "SCLIP":
        return f"open_clip:{arch.replace('/', '-')}/openai"
    return MODELS.get((paper.partition(" ")[0], model), "")
