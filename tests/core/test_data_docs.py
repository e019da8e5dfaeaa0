"""What docs/data.md shows, done."""

import json
import re
from pathlib import Path

import pandas
import pytest

from cosmos_core.config import TrainConfig
from cosmos_core.data.shards import entries
from cosmos_core.data.sources import Records, ShardList, build_sources
from cosmos_core.text_crop import candidate_sentences
from tests.core.test_data import image_bytes, samples

DOCUMENT = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def python(containing: str) -> str:
    (found,) = [text for text in re.findall(r"```python\n(.*?)```", DOCUMENT, re.S) if containing in text]
    return found


def test_the_shards_of_the_example_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "captions"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        (tmp_path / "images" / f"{name}.jpg").write_bytes(image_bytes(1, "JPEG"))
        (tmp_path / "captions" / f"{name}.txt").write_text(f"One {name}.\nTwo {name}.\n")
    exec(python("ShardWriter"), {})
    found = [entry.read() for entry in entries(str(tmp_path / "mine-00000.tar"), "s")]
    assert [(key, record) for key, _, record in found] == [
        ("s/00000000", {"captions": ["One a.", "Two a."]}),
        ("s/00000001", {"captions": ["One b.", "Two b."]}),
    ]


def test_the_table_of_the_example_gives_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    row = {
        "Image Path": "http://x/1.jpg",
        "raw_caption": "Raw words",
        "longIB_captions": "One. Two.",
        "longSV_captions": "",
    }
    pandas.DataFrame([row]).to_csv("cc3m_3long_3short_1raw_captions_url.csv", index=False)
    exec(python("split_caption"), {})
    (record,) = json.loads(pandas.read_parquet("cc3m.parquet").to_json(orient="records"))
    assert candidate_sentences(record) == ["Raw words", "One", "Two"]


def test_every_kind_of_source_in_the_table_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    listed = re.findall(r"^\| (`[^|]+) \| ", DOCUMENT.partition("## What a sample")[0], re.M)
    sources = [source for row in listed for source in re.findall(r"`([^`]+)`", row)]
    assert len(sources) == 11
    (tmp_path / "cc3m").mkdir()
    for i in range(332):
        (tmp_path / "cc3m" / f"{i:05d}.tar").touch()
    (tmp_path / "one.tar").touch()
    for name in ("pairs.csv", "pairs.tsv"):
        (tmp_path / name).write_text("filepath,title\na,b\n".replace(",", "\t" if name.endswith("tsv") else ","))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2017").mkdir()
    (tmp_path / "annotations" / "captions_train2017.json").write_text('{"images": [], "annotations": []}')
    kinds = []
    for source in sources:
        text = source.replace("file:/data", f"file:{tmp_path}/cc3m").replace("cc3m/{0..9}", "cc3m/{00000..00009}")
        (found,), _ = build_sources(TrainConfig(data=text), samples(2) if source == "toybox" else None)
        kinds.append((type(found), len(found.urls) if isinstance(found, ShardList) else 0))
    shards = [(ShardList, n) for n in (332, 332, 1, 10, 10, 10, 10)]
    assert kinds == [*shards, *[(Records, 0)] * 4]
