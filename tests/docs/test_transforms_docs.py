"""docs/transforms.md: its options are those of the code, and its commands and definition run."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.feature_transforms import CODES, LARGEST_SCALE, FeatureTransforms
from cosmos_eval.protocol.task_registry import TASKS, task_info

DOCS = (Path(__file__).parents[2] / "docs/transforms.md").read_text(encoding="utf-8")
TEXT = " ".join(DOCS.split())


def test_the_table_has_every_option_in_the_order_in_which_they_are_used():
    table = re.findall(r"^\| `--([a-z-]+).*?\| `([a-z_]+)=", DOCS, re.MULTILINE)
    names = [field.name for field in fields(FeatureTransforms)]
    assert [name for _, name in table] == names
    assert [option.replace("-", "_") for option, _ in table] == names
    assert all(f"`--quantize {code}`" in DOCS for code in CODES)
    assert f"at most {LARGEST_SCALE:g} is possible" in TEXT


def test_names_in_tables_and_of_folders_are_as_shown():
    transforms = FeatureTransforms(truncate_dim=32, quantize="int8")
    assert f"`{transforms.name_of('toybox-retrieval')}`" in DOCS
    assert f"`toybox-retrieval{transforms.folder_suffix}`" in DOCS


def test_the_tasks_are_as_listed():
    (listed,) = re.findall(r"^## Where it is defined\n\n(.*?) take the first three", DOCS, re.MULTILINE | re.DOTALL)
    taking = [name for name in TASKS.names() if task_info(name).transforms]
    words = listed.lower().replace("multi-label classification", "multilabel")
    for name in ("multiple-choice", "multilingual-retrieval", "multilingual-classification"):
        words = words.replace(name.replace("-", " "), name)
    assert set(re.split(r",\s+|\s+and\s+", words)) == set(taking)
    assert [name for name in taking if "dual_softmax" in task_info(name).transforms] == [
        "retrieval",
        "multilingual-retrieval",
    ]


def test_the_definition_is_valid(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    path = tmp_path / "toybox-retrieval-32.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_benchmark(path).transforms == FeatureTransforms(truncate_dim=32, dual_softmax=100.0)


@pytest.mark.slow
def test_the_commands_run_and_the_second_encodes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL)
    for line in block.splitlines():
        assert run_command(shlex.split(line)[1:]) == 0
    table = (tmp_path / "runs/toybox/leaderboard.md").read_text(encoding="utf-8")
    assert "## toybox-retrieval (dim 32, int8)" in table
