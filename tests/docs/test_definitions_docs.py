"""docs/definitions.md: its tables are those of the code, and its examples are valid."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from PIL import Image

from cosmos_eval.datasets.prompts import NAMED_CLASSES, NAMED_TEMPLATES
from cosmos_eval.datasets.reader_page import replace_tables
from cosmos_eval.datasets.reader_registry import BUILT_IN
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark, read_suite
from cosmos_eval.protocol.data_folder import TEMPLATES
from cosmos_eval.protocol.known_differences import KEYS
from cosmos_eval.protocol.task_registry import BUILT_IN as TASKS
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.tasks.segmentation.settings import SETTINGS
from tests.helpers.documents import block, check_command, commands

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "definitions.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_column(text: str) -> set[str]:
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_readers_and_options_are_those_of_the_registry():
    assert replace_tables(PAGE) == PAGE, "run: python -m cosmos_eval.datasets.reader_page docs/definitions.md"
    assert re.findall(r"^### (\S+)$", PAGE, re.MULTILINE) == list(BUILT_IN)


def test_keys_settings_and_metrics_are_those_of_the_code():
    settings_keys = {key for name in TASKS if (key := task_info(name).settings_key)}
    computed = {"settings", "fingerprint", "folder", "data_root", "path", "same_data_as", "data"}
    keys = {field.name for field in fields(Benchmark)} - computed
    assert first_column(section("Keys")) == {*keys, *settings_keys, "base"}
    assert first_column(section("Segmentation settings")) == {"segmentation", *SETTINGS}
    for key in KEYS:
        assert f"`{key}`" in section("Keys")
    metrics = {line.split(" | ")[0].strip("| "): line for line in section("Metrics").splitlines() if line[:1] == "|"}
    for name in TASKS:
        info = task_info(name)
        for metric in [*info.headline, *info.metric_options]:
            assert re.sub(r"@\d+$", "@K", metric) in metrics[name], (name, metric)
    for name in (*NAMED_TEMPLATES, *NAMED_CLASSES):
        assert f"`{name}`" in section("Prompts")
    for name in TEMPLATES:
        assert f"`{name}`" in PAGE


def test_the_definitions_and_the_suite_are_valid(tmp_path):
    (tmp_path / "pets.yaml").write_text(block(PAGE, "yaml", "name: my-pets"))
    (tmp_path / "voc.yaml").write_text(block(PAGE, "yaml", "base: voc21"))
    assert load_benchmark(tmp_path / "pets.yaml").task == "classification"
    assert load_benchmark(tmp_path / "voc.yaml").settings["attention"] == "csa"
    (tmp_path / "sets").mkdir()
    birds = yaml.safe_load((tmp_path / "pets.yaml").read_text()) | {"name": "my-birds"}
    (tmp_path / "sets/birds.yaml").write_text(yaml.safe_dump(birds))
    (tmp_path / "weekly.yaml").write_text(block(PAGE, "yaml", "averages:"))
    suite = read_suite(tmp_path / "weekly.yaml")
    assert [benchmark.name for benchmark in suite.benchmarks] == ["my-pets", "my-birds", "cifar100"]
    assert suite.averages[0].benchmarks == ("my-pets", "my-birds")


@pytest.mark.parametrize("command", commands(PAGE))
def test_every_command_of_the_page_can_be_parsed(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/weekly").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    check_command(command)
