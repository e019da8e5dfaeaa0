"""docs/speed.md: options, phases and figures are those of the code."""

import re
from pathlib import Path

import pytest

from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.decoders import DECODERS
from cosmos_eval.engine.batch_size import LARGEST_TRIAL, SMALLEST_TRIAL
from cosmos_eval.engine.decoder_comparison import COMPARED_IMAGES
from cosmos_eval.engine.decoding_advice import WAITED_SECONDS, WAITED_SHARE
from cosmos_eval.engine.worker_count import MEMORY_SHARE, MOST, SECONDS_FOR_A_WORKER
from cosmos_eval.profiling import PHASES

DOCS = (Path(__file__).parents[2] / "docs/speed.md").read_text(encoding="utf-8")


def help_of(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "300")
    assert run_command([*words, "--help"]) == 0
    return capsys.readouterr().out


def test_its_options_exist(monkeypatch, capsys):
    help_text = help_of(["run"], monkeypatch, capsys) + help_of(["data", "prepare"], monkeypatch, capsys)
    page = re.sub(
        r"## Compared with clip-benchmark\n.*?(?=\n## )", "", DOCS, flags=re.S
    )  # which names options of scripts
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert {"--profile", "--compile", "--decoder", "--resized", "--batch-size"} <= named
    assert {option for option in named if f"{option} " not in help_text} == set()


def test_its_phases_are_those_of_a_profile():
    table = DOCS.partition("    Where the time went")[2].partition("Bottleneck")[0]
    lines = re.findall(r"^ {6}(\S.*?)  +[\d.]+ s", table, re.M)
    assert len(lines) > 8
    assert set(lines) <= set(PHASES.values())


def test_its_numbers_are_those_of_the_code():
    words = " ".join(DOCS.split())
    assert f"from {SMALLEST_TRIAL} to at most {LARGEST_TRIAL} images" in words
    assert f"and at most {MOST};" in words
    assert (SECONDS_FOR_A_WORKER, MEMORY_SHARE, WAITED_SHARE, WAITED_SECONDS) == (1.0, 0.5, 0.5, 10.0)  # in words there
    assert f"The first {COMPARED_IMAGES} images of a benchmark" in words
    for name in DECODERS[1:]:
        assert f"`--decoder {name}`" in words
