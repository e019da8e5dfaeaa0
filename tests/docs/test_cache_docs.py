"""docs/cache.md: commands, figures and file names are those of the code, and its example runs."""

import inspect
import re
import shlex
from pathlib import Path

from cosmos_eval.cache import feature_cache
from cosmos_eval.cache.feature_cache import WRITE_INTERVAL
from cosmos_eval.cache.shard import FILE_PREFIX, NAMES_PREFIX
from cosmos_eval.cli.main import run_command
from cosmos_eval.models.embeddings import EmbeddingsModel
from cosmos_eval.run.evaluate import evaluate

DOCS = (Path(__file__).parents[2] / "docs/cache.md").read_text(encoding="utf-8")


def test_commands_and_options_exist(capsys):
    commands = re.findall(r"^    (cosmos-eval .*?)(?:  .*)?$", DOCS, re.M)
    assert len(commands) >= 9
    for command in commands:
        words = shlex.split(command)[1:]
        path = words[:2] if words[0] == "cache" else words[:1]
        assert run_command([*path, "--help"]) == 0
        help_text = capsys.readouterr().out
        assert all(word in help_text for word in words if word.startswith("--")), command
    assert inspect.signature(evaluate).parameters["cache"].default is True


def test_figures_are_those_of_the_code():
    assert WRITE_INTERVAL == 5
    assert "five seconds" in DOCS
    assert feature_cache.LIMIT == 10 * 10**9
    assert "(10 by default)" in DOCS
    assert feature_cache.RESERVED_BYTES == 64 * 2**20
    assert "64 MB" in DOCS
    assert f"runs/eval/{feature_cache.FOLDER}" in DOCS
    for name in (*FILE_PREFIX.values(), *NAMES_PREFIX.values()):
        assert f"      {name}-<sha256>" in DOCS


def test_embeddings_can_be_written_as_shown(tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/cache.md", "exec"), {})
    model = EmbeddingsModel(tmp_path)
    assert model.describe()["arch"] == "my model"
    assert model.read_text_embeddings(["a bear in the grass"]).tolist()[0][0] > 0.8
