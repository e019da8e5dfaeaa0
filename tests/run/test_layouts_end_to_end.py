"""The same images of toybox as class folders, tar shards, lines of JSON and Parquet have identical metrics."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest

from cosmos_eval.datasets.data import ClassificationData, PerceptionData, RetrievalData
from cosmos_eval.datasets.toybox.reader import (
    class_scenes,
    classification_data,
    distinct_scenes,
    perception_data,
    retrieval_data,
)
from cosmos_eval.run.evaluate import evaluate
from tests.datasets.test_datasets_webdataset import write_tar
from tests.helpers.datasets_on_disk import define
from tests.helpers.stand_ins import RandomModel
from tests.helpers.tables_on_disk import write_table

SCENES = 24


def encode(image: Any) -> bytes:
    stream = io.BytesIO()
    image.load().save(stream, "PNG")
    return stream.getvalue()


def as_folders(root: Path, contents: list[bytes], data: Any) -> dict[str, Any]:
    """A folder for each class, and the images in the order of the classes."""
    for i, (content, label) in enumerate(zip(contents, data.labels, strict=True)):
        path = root / f"folders/{label:02d}/{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {"reader": "image-folder", "path": "folders"}


def as_shards(root: Path, contents: list[bytes], data: Any) -> dict[str, Any]:
    """Two tar shards."""
    kind = "cls" if isinstance(data, ClassificationData) else "txt"
    for shard in range(2):
        members = []
        for i in range(shard * len(contents) // 2, (shard + 1) * len(contents) // 2):
            text = str(data.labels[i]) if kind == "cls" else "\n".join(captions_of(data, i))
            members += [(f"s{i:04d}.png", contents[i]), (f"s{i:04d}.{kind}", text.encode())]
        write_tar(root / f"shards/test/{shard}.tar", members)
    (root / "shards/test/nshards.txt").write_text("2")
    return {"reader": "wds", "path": "shards"}


def as_lines(root: Path, contents: list[bytes], data: Any) -> dict[str, Any]:
    """Lines of JSON, and images beside them."""
    write_files(root / "lines", contents)
    lines = []
    for i, values in values_of(data):
        values = {{"caption": "positive"}.get(key, key) if "negative" in values else key: values[key] for key in values}
        lines.append(json.dumps({"image": f"{i:03d}.png", **values}))
    (root / "lines/mine.jsonl").write_text("\n".join(lines))
    return {"reader": "jsonl", "path": "lines/mine.jsonl"}


def as_table(root: Path, contents: list[bytes], data: Any) -> dict[str, Any]:
    """Two Parquet files with encoded images, which are repeated where several rows are about one image."""
    rows = [(i, {**values, "id": f"scene {i}"}) for i, values in values_of(data)]
    for part, name in enumerate(["a", "b"]):
        some = rows[part * len(rows) // 2 : (part + 1) * len(rows) // 2]
        columns: dict[str, Any] = {key: [values[key] for _, values in some] for key in some[0][1]}
        columns["image"] = [{"bytes": contents[i], "path": None} for i, _ in some]
        write_table(root / f"table/{name}.parquet", columns, group=5)
    return {"reader": "parquet", "path": "table", "image_id_column": "id"}


def as_paths(root: Path, contents: list[bytes], data: Any) -> dict[str, Any]:
    """A Parquet file with the paths of images."""
    write_files(root / "paths", contents)
    rows = list(values_of(data))
    columns: dict[str, Any] = {key: [values[key] for _, values in rows] for key in rows[0][1]}
    write_table(root / "paths/t.parquet", {**columns, "image": [f"{i:03d}.png" for i, _ in rows]}, group=5)
    return {"reader": "parquet", "path": "paths/t.parquet"}


def write_files(folder: Path, contents: list[bytes]) -> None:
    folder.mkdir(parents=True)
    for i, content in enumerate(contents):
        (folder / f"{i:03d}.png").write_bytes(content)


def captions_of(data: RetrievalData, image: int) -> list[str]:
    return [text for text, i in zip(data.texts, data.image_of_text, strict=True) if i == image]


def values_of(data: Any) -> list[tuple[int, dict[str, Any]]]:
    """The index of the image of each row, and what stands beside it."""
    if isinstance(data, ClassificationData):
        return [(i, {"label": int(label)}) for i, label in enumerate(data.labels)]
    if isinstance(data, RetrievalData):
        return [(i, {"captions": captions_of(data, i)}) for i in range(len(data.images))]
    assert isinstance(data, PerceptionData)
    return [
        (int(image), {"caption": data.texts[right], "negative": data.texts[wrong], "subset": subset})
        for (image,), (right, wrong), subset in zip(data.item_images, data.item_texts, data.subsets, strict=True)
    ]


DATA = {
    "classification": lambda: classification_data(class_scenes(0, "test", 1), size=8),
    "retrieval": lambda: retrieval_data(distinct_scenes(0, "test", SCENES), size=8),
    "perception": lambda: perception_data(distinct_scenes(0, "test", SCENES), size=8),
}
LAYOUTS = {
    "classification": [as_folders, as_shards, as_lines, as_table, as_paths],
    "retrieval": [as_shards, as_lines, as_table, as_paths],
    "perception": [as_lines, as_table, as_paths],
}


NOT_TRIVIAL = {"classification": "top5", "retrieval": "text_to_image_recall@10", "perception": "accuracy"}


class Described(RandomModel):
    """A random model, with what a result says of its model."""

    def describe(self) -> dict[str, Any]:
        return {"arch": "random", "activation": None}


@pytest.mark.parametrize("task", DATA)
def test_every_layout_has_the_same_metrics(tmp_path: Path, task: str):
    data = DATA[task]()
    contents = [encode(image) for image in data.images]
    prompts = {"class_names": list(data.class_names), "templates": list(data.templates)[:1]} if task[0] == "c" else None
    benchmarks = []
    for write in LAYOUTS[task]:
        root = tmp_path / write.__name__
        root.mkdir()
        definition = define(root, task, write(root, contents, data), prompts)
        benchmarks.append(replace(definition, name=write.__name__))
    out = tmp_path / "out"
    results = [
        result
        for benchmark in benchmarks  # without a cache, which would answer for all layouts but the first
        for result in evaluate(Described(), benchmark, tmp_path / benchmark.name, out=out, batch_size=16, cache=False)
    ]
    samples = []
    for benchmark in benchmarks:
        (path,) = out.rglob(f"{benchmark.name}/samples.parquet")
        frame = pandas.read_parquet(path)
        samples.append(frame.drop(columns=[column for column in ("image", "query", "whole") if column in frame]))
    for result, frame in zip(results[1:], samples[1:], strict=True):
        assert result.metrics == results[0].metrics
        pandas.testing.assert_frame_equal(frame, samples[0], check_exact=True)
    assert 0 < results[0].metrics[NOT_TRIVIAL[task]].value < 1
