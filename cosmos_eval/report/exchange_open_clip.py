"""open_clip's published tables (docs/openclip_results.csv and those beside it), read as references."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import read_text
from cosmos_eval.report.board_columns import AVERAGE
from cosmos_eval.report.board_references import COLUMNS

NAMED = ("name", "pretrained")
"""The first two columns: architecture and tag."""
TOP1 = {
    "ImageNet 1k": ("imagenet1k-wds", "imagenet1k"),
    "CIFAR-10": ("cifar10-vtab",),
    "CIFAR-100": ("cifar100-vtab",),
    "CLEVR Counts": ("clevr-count-vtab",),
    "CLEVR Distance": ("clevr-distance-vtab",),
    "Country211": ("country211-wds",),
    "Describable Textures": ("dtd-vtab",),
    "EuroSAT": ("eurosat-vtab",),
    "Food-101": ("food101-wds",),
    "GTSRB": ("gtsrb-wds",),
    "ImageNet Sketch": ("imagenet-sketch-wds",),
    "ImageNet v2": ("imagenetv2-wds",),
    "ImageNet-A": ("imagenet-a-wds",),
    "ImageNet-O": ("imagenet-o-wds",),
    "ImageNet-R": ("imagenet-r-wds",),
    "KITTI Vehicle Distance": ("kitti-distance-vtab",),
    "MNIST": ("mnist-wds",),
    "ObjectNet": ("objectnet-wds", "objectnet"),
    "Pascal VOC 2007": ("voc2007-wds",),
    "PatchCamelyon": ("pcam-vtab",),
    "Rendered SST2": ("renderedsst2-wds",),
    "RESISC45": ("resisc45-vtab",),
    "Stanford Cars": ("cars-wds",),
    "STL-10": ("stl10-wds",),
    "SUN397": ("sun397-wds",),
    "SVHN": ("svhn-vtab",),
}
PER_CLASS = {
    "Caltech-101": ("caltech101-vtab",),
    "FGVC Aircraft": ("fgvc-aircraft-wds",),
    "Oxford Flowers-102": ("flowers-vtab",),
    "Oxford-IIIT Pet": ("pets-vtab",),
}
"""These four report the mean recall over classes (DataComp's list of tasks)."""
GROUPS = {
    "WinoGAViL": ("winogavil", "10-12/jaccard"),
    "iWildCam": ("iwildcam-wds", "macro_f1"),
    "Camelyon17": ("camelyon17-wds", "top1"),
    "FMoW": ("fmow-wds", "worst region/top1"),
    "Dollar Street": ("dollar-street-wds", "worst income_ds/top5"),
    "GeoDE": ("geode-wds", "worst region/top1"),
}
"""Columns with other metrics (DataComp's list of tasks); all others report top-1 accuracy."""
AVERAGES = {"Average perf. on 38 datasets": "DataComp, mean of 38"}
"""Column -> name of the average of a suite that it prints."""
MEAN_OF = " & "
"""Between metrics whose mean is printed."""
RETRIEVAL = {"Flickr": "flickr30k-test-retrieval", "MSCOCO": "coco-karpathy-retrieval"}
DIRECTIONS = {"image retr.": "text_to_image", "text retr.": "image_to_text"}


NAMED_MULTILINGUAL = ("model", "version")
"""The first two columns of the table of multilingual retrieval."""
MULTILINGUAL = {"crossmodal3600": ("xm3600",), "multilingual_mscoco_captions": ("multilingual-coco", "xtd10")}
MEAN = "avg"
"""In place of a language: the mean over languages."""


def is_open_clip(header: list[str]) -> bool:
    """Whether a CSV's header is that of one of open_clip's tables."""
    if tuple(header[:2]) == NAMED_MULTILINGUAL:
        return any(multilingual_column(column) for column in header)
    return tuple(header[:2]) == NAMED and any(column in known_columns() for column in header)


def multilingual_column(column: str) -> list[tuple[str, str]]:
    """Our benchmarks and metric of a column of the table of multilingual retrieval; empty for other columns.

    Args:
        column: dataset, clip-benchmark's metric, and a language or `avg`, as in "crossmodal3600
            image_retrieval_recall@1 de".
    """
    dataset, metric, language = (*column.split(" "), "", "")[:3]
    name = "text_to_image" if metric.startswith("image_retrieval_recall@") else "image_to_text"
    if dataset not in MULTILINGUAL or "_retrieval_recall@" not in metric or not language:
        return []
    ours = f"{name}_recall@{metric.rpartition('@')[2]}"
    return [(benchmark, ours if language == MEAN else f"{language}/{ours}") for benchmark in MULTILINGUAL[dataset]]


def known_columns() -> dict[str, list[tuple[str, str]]]:
    """Column -> our benchmarks and metrics with its protocol, of the columns of one dataset."""
    columns = {name: [(benchmark, "top1") for benchmark in benchmarks] for name, benchmarks in TOP1.items()}
    columns |= {
        name: [(benchmark, "mean_per_class") for benchmark in benchmarks] for name, benchmarks in PER_CLASS.items()
    }
    columns |= {name: [measured] for name, measured in GROUPS.items()}
    for dataset, benchmark in RETRIEVAL.items():
        for words, direction in DIRECTIONS.items():
            columns |= {f"{dataset} {words} R@{k}": [(benchmark, f"{direction}_recall@{k}")] for k in (1, 5, 10)}
    return columns


def columns_of_38() -> dict[str, list[tuple[str, str]]]:
    """Column of docs/openclip_results.csv -> our benchmarks and metrics; several metrics, whose mean is printed, are
    joined by MEAN_OF."""
    columns = {name: measured for name, measured in known_columns().items() if "retr." not in name}
    both = MEAN_OF.join(f"{direction}_recall@1" for direction in ("image_to_text", "text_to_image"))
    return columns | {dataset: [(benchmark, both)] for dataset, benchmark in RETRIEVAL.items()}


def read_open_clip(path: Path) -> pd.DataFrame:
    """References from one of open_clip's tables, from the columns that have a benchmark here.

    Raises:
        RequestError: not such a table, a line of another length, a value that is not a fraction; names file and line.
    """
    try:
        lines = list(csv.reader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise RequestError(f"cannot read {path}: {error}") from error
    if not lines or not is_open_clip(lines[0]):
        raise RequestError(
            f"{path} is not one of open_clip's tables of results: it needs the columns name, pretrained, or model, "
            "version, and one of a dataset that is a benchmark here"
        )
    return pd.DataFrame(list(_rows(path, lines)), columns=list(COLUMNS))


def _rows(path: Path, lines: list[list[str]]) -> Iterator[dict[str, Any]]:
    averages = {column: [(average, AVERAGE)] for column, average in AVERAGES.items()}
    header, our_columns = lines[0], known_columns() | averages
    if tuple(header[:2]) == NAMED_MULTILINGUAL:
        our_columns = {column: multilingual_column(column) for column in header}
    for number, line in enumerate(lines[1:], 2):
        if not any(line):
            continue
        if len(line) != len(header):
            raise RequestError(
                f"{path}:{number}: {plural(len(line), 'value')} for {plural(len(header), 'column')}; fetch the file "
                "again"
            )
        for column, text in zip(header, line, strict=True):
            for benchmark, metric in our_columns.get(column, []) if text.strip() else []:
                yield {
                    "paper": path.name, "model": f"{line[0]} {line[1]}", "arch": "", "pretraining": "", "source": "",
                    "benchmark": benchmark, "metric": metric, "value": _fraction(text, f"{path}:{number}", column),
                    "decimals": max(len(text.strip().partition(".")[2]) - 2, 0),
                }  # fmt: skip


def _fraction(text: str, where: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise RequestError(
            f"{where}: {column} is {short_repr(text)}, not a fraction from 0 to 1; correct the line or remove it"
        )
    return value
