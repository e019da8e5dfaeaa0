"""docs/probes.md: its commands and its definition run as written, and every command knows the results."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.store import read_results
from tests.helpers.documents import block

PROBES = (Path(__file__).resolve().parents[2] / "docs/probes.md").read_text(encoding="utf-8")
MODELS = '''
"""The mean colours of an image's quarters, and noise."""
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

class Colours:
    digest = "colours"
    def preprocess(self, image):
        return pil_to_tensor(image).float() / 255
    def encode_image(self, x):
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
    def encode_text(self, texts):
        raise AssertionError("a probe needs no texts")

class Noise(Colours):
    digest = "noise"
    def encode_image(self, x):
        return torch.randn(len(x), 12, generator=torch.Generator().manual_seed(0))

colours, noise = Colours, Noise
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of three classes, in which one colour is a bit stronger than the others."""
    root = tmp_path_factory.mktemp("probes")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3), ("test", 10)):
        for channel, name in enumerate(("blue", "green", "red")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 150, (8, 8, 3), dtype=np.uint8)
                pixels[..., channel] += 60
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    (root / "test/red/9.png").write_bytes((root / "val/red/0.png").read_bytes())
    (root / "my-probe.yaml").write_text(block(PROBES, "yaml", "name: my-probe\n"))
    (root / "probe_models.py").write_text(MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        patch.chdir(root)
        yield root


@pytest.fixture(scope="module")
def measured(folder):
    for model in ("colours", "noise"):
        command = ["run", "--model", f"python:probe_models:{model}", "--benchmark", "my-probe.yaml", "--label", model]
        assert run_command([*command, "--out", f"probes/{model}", "--cache", "cache", "--workers", "0"]) == 0
    return {model: read_results(folder / "probes" / model)[0] for model in ("colours", "noise")}


def test_the_definition_of_the_page_is_measured(measured, folder):
    colours, noise = measured["colours"], measured["noise"]
    assert set(colours.metrics) == {"top1", "mean_per_class", "few_shot_1", "few_shot_4", "knn_5"}
    assert colours.metrics["top1"].value >= 0.9
    assert noise.metrics["top1"].high < colours.metrics["top1"].low
    assert colours.dataset.n == {
        **{"images": 30, "classes": 3, "train_images": 24, "train_classes": 3, "val_images": 9, "val_classes": 3}
    }
    samples = pd.read_parquet(next((folder / "probes/colours").rglob("samples.parquet")))
    assert samples["in_train"].sum() == 1


def test_the_leak_and_the_strength_are_remarks_of_the_result(measured):
    warnings = measured["colours"].warnings
    assert any("1 of 30 evaluated images is in the split val, too: red/9.png" in line for line in warnings)
    assert any("scikit-learn's C = " in line and "on the split val, with top-1 " in line for line in warnings)


def test_data_check_counts_all_splits_and_tells_of_the_leak(folder, capsys):
    assert run_command(["data", "check", "my-probe.yaml", "--deep"]) == 0
    captured = capsys.readouterr()
    text = " ".join((captured.out + captured.err).split())
    assert "24 train images" in text
    assert "1 of 30 evaluated images is in the split val" in text


def test_a_second_run_keeps_the_result_and_an_overwriting_one_encodes_nothing(measured, folder, capsys):
    command = ["run", "--model", "python:probe_models:colours", "--benchmark", "my-probe.yaml", "--workers", "0"]
    command += ["--label", "colours", "--out", "probes/colours", "--cache", "cache"]
    assert run_command(command) == 0
    assert "already done, kept" in "".join(capsys.readouterr())
    assert run_command([*command, "--overwrite"]) == 0
    (again,) = read_results(folder / "probes/colours")
    assert again.metrics == measured["colours"].metrics
    assert again.timing.encoded["images"] == 0


def test_leaderboard_regress_and_results_know_the_probe(measured, capsys):
    assert run_command(["leaderboard", "probes"]) == 0
    assert "my-probe" in capsys.readouterr().out
    worse = ["regress", "probes/colours", "probes/noise"]
    assert run_command(worse) == 1
    assert run_command(["regress", "probes/colours", "probes/colours"]) == 0
    folder = next(Path("probes/colours").rglob("RESULT.json")).parent
    assert run_command(["results", "classes", str(folder)]) == 0
    assert "blue" in capsys.readouterr().out
    assert json.loads((folder / "RESULT.json").read_text())["benchmark"]["task"] == "probe"


def test_tasks_and_suites_list_it(capsys):
    for what in ("tasks", "suites"):
        assert run_command(["list", what]) == 0
        assert "probe" in capsys.readouterr().out


def test_the_first_command_of_the_page_names_a_shipped_benchmark():
    from cosmos_eval.protocol.benchmark import load_suite

    assert len(load_suite("probe")) == 17
    assert "--benchmark toybox-probe --limit 96" in PROBES


def test_what_is_missing_of_the_suite_is_said_as_the_page_says(tmp_path, monkeypatch, capsys):
    (command,) = re.findall(r"`cosmos-eval (data fetch [^`]+)`", PROBES)
    monkeypatch.chdir(tmp_path)
    assert run_command(command.split()) == 0
    assert "for cifar10-probe" in capsys.readouterr().out
