"""What clip-benchmark calls our benchmarks and metrics: one table for writing its files and for reading them."""

from collections.abc import Mapping
from functools import cache

from cosmos_eval.protocol.bases import read_definition
from cosmos_eval.protocol.folders import shipped_files
from cosmos_eval.protocol.task_registry import TASKS, find_task

SELECTION = "image_caption_selection"
"""clip-benchmark's task of Winoground and SugarCrepe."""
SAME = {
    "imagenet1k": "imagenet1k",
    "coco-karpathy-retrieval": "mscoco_captions",
    "flickr30k-test-retrieval": "flickr30k",
    "flickr8k-test-retrieval": "flickr8k",
    "winoground": "winoground",
}
"""Benchmarks that other readers than `wds` read, with the images, names and templates of clip-benchmark's."""
SUGAR_CREPE = "sugar_crepe/"
"""Prefix of SugarCrepe's seven files: each of them is a dataset in clip-benchmark."""
PLAIN = {"reader", "dataset", "path", "split", "expected", "needs", "published"}
"""Keys that a definition may have for the data to be clip-benchmark's; other options select other images."""


@cache
def dataset_names() -> dict[str, str]:
    """Our benchmark -> clip-benchmark's dataset, for those that are the same."""
    names = dict(SAME)
    for name, path in shipped_files().items():
        dataset = read_definition(path).value["dataset"]
        if dataset["reader"] == "wds" and "clip-benchmark/" in dataset.get("needs", ""):  # others are DataComp's
            folder = dataset["path"][-1].removeprefix("wds_")
            names[name] = "wds/" + folder.replace("vtab-", "vtab/", 1)
        elif dataset["reader"] == "clip-benchmark" and set(dataset) <= PLAIN:
            names[name] = dataset["dataset"]
    return names


def benchmarks_of(dataset: str) -> list[str]:
    """Return the names of our benchmarks that equal a dataset of clip-benchmark; empty if there are none.

    ImageNet's shards hold the images, names and templates of our `imagenet1k`, and are that, too.
    """
    if dataset.startswith(SUGAR_CREPE):
        return ["sugarcrepe"]
    names = [ours for ours, theirs in dataset_names().items() if theirs == dataset]
    plain = dataset.removeprefix("wds/")
    return names + [ours for ours, theirs in SAME.items() if theirs == plain and ours not in names]


@cache
def our_tasks() -> dict[str, tuple[str, ...]]:
    """clip-benchmark's name of a task -> ours, several where theirs takes data that are two tasks here."""
    our_names: dict[str, tuple[str, ...]] = {}
    for name in TASKS.built_in:
        if theirs := TASKS.load(name).clip_benchmark_task:
            our_names[theirs] = (*our_names.get(theirs, ()), name)
    return our_names


def _metrics(task: str) -> Mapping[str, str]:
    info = find_task(task)
    return info.clip_benchmark_metrics if info is not None else {}


def their_metric(task: str, metric: str) -> str:
    """clip-benchmark's name of one of our metrics; our name if it has none."""
    for ours, theirs in _metrics(task).items():
        if metric == ours or (ours.endswith("@") and metric.startswith(ours)):
            return theirs + metric.removeprefix(ours)
    return metric


def our_metric(task: str, metric: str) -> str:
    """Our name of one of clip-benchmark's metrics; empty if we have none."""
    for ours, theirs in _metrics(task).items():
        if metric == theirs or (theirs.endswith("@") and metric.startswith(theirs)):
            return ours + metric.removeprefix(theirs)
    return ""
