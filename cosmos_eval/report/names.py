"""What tables call metrics: their names as column heads."""

import re

SHORT = {
    "image_to_text_recall@": "I→T R@",
    "text_to_image_recall@": "T→I R@",
    "image_to_text_": "I→T ",
    "text_to_image_": "T→I ",
    "mean_per_class": "mean per class",
    "mean_average_precision": "mAP",
    "average_precision": "AP",
    "mean_rank": "mean rank",
    "median_rank": "median rank",
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "top1": "top-1",
    "top5": "top-5",
}
MISSING = "–"


def short(metric: str) -> str:
    """A metric's name as a column head; a name of another task that only holds one of these stays as it is."""
    for long, brief in SHORT.items():
        metric = re.sub(rf"(^|[/ ]){re.escape(long)}", rf"\g<1>{brief}", metric)
    metric = re.sub(r"^few_shot_(\d+)$", r"\1-shot", metric)
    return re.sub(r"^knn_(\d+)$", r"\1-NN", metric)
