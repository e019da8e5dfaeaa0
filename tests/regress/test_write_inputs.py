"""write_inputs.py: another environment embeds what it writes, and `embeddings:` has all that the benchmarks ask for."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.cli import main as cli
from cosmos_eval.results.store import read_results

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "regress.md").read_text(encoding="utf-8")
SCRIPT = runpy.run_path(str(ROOT / ".github" / "actions" / "regress" / "write_inputs.py"))

SMALL = """\
name: small
version: 1
task: retrieval
dataset: {reader: toybox, split: test, seed: 7, scenes: 20}
metrics: {primary: text_to_image_recall@1, k: [1]}
"""


def test_the_page_s_script_gives_embeddings_of_the_inputs_that_are_written(tmp_path, monkeypatch, capsys):
    definition = tmp_path / "small.yaml"
    definition.write_text(SMALL)
    monkeypatch.setattr(sys, "argv", ["", "--benchmark", str(definition), "--out", str(tmp_path / "inputs")])
    assert SCRIPT["main"]() == 0
    path = tmp_path / "inputs" / "inputs.json"
    assert capsys.readouterr().out == f"{path}\n"
    inputs = json.loads(path.read_text())
    assert (len(inputs["images"]), len(inputs["texts"])) == (20, 40)
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    vectors = tmp_path / "vectors"
    vectors.mkdir()
    monkeypatch.setenv("COSMOS_EVAL_INPUTS", str(path))
    monkeypatch.setenv("COSMOS_EVAL_EMBEDDINGS", str(vectors))
    exec(compile(script, "embed.py", "exec"), {})
    out = str(tmp_path / "out")
    assert (
        cli.run_command(["run", "--model", f"embeddings:{vectors}", "--benchmark", str(definition), "--out", out]) == 0
    )
    (result,) = read_results(tmp_path / "out")
    assert result.dataset.n == {"images": 20, "texts": 40}


def test_an_unknown_benchmark_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["", "--suite", "nope", "--out", str(tmp_path / "inputs")])
    assert SCRIPT["main"]() == 2
    assert capsys.readouterr().err.startswith("write_inputs: there is no benchmark 'nope'")


def test_inputs_that_one_vector_for_each_image_cannot_answer_are_refused(tmp_path):
    write_inputs = SCRIPT["write_inputs"]
    with pytest.raises(RequestError, match="gives no features of patches"):
        write_inputs(["toybox-segmentation"], tmp_path, tmp_path / "inputs")
    definitions = []
    for seed in (7, 8):
        definition = tmp_path / f"{seed}.yaml"
        folder = tmp_path / str(seed) / "a"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (seed, 0, 0)).save(folder / "x.png")
        definition.write_text(
            f"name: s{seed}\nversion: 1\ntask: classification\nmetrics: {{primary: top1}}\n"
            f"dataset: {{reader: image-folder, path: '{seed}'}}\nprompts: {{templates: ['a {{c}}']}}\n"
        )
        definitions.append(str(definition))
    with pytest.raises(RequestError, match="two benchmarks call different images"):
        write_inputs(definitions, tmp_path, tmp_path / "inputs")
