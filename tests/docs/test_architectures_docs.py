"""docs/architectures.md is what its command writes: a sample of its rows is asked again, all in the slow test."""

import random
import re
from pathlib import Path

import pytest

from cosmos_eval.models.architectures_page import ask_architecture, write_page
from cosmos_eval.models.open_clip_compat import list_architectures

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "architectures.md").read_text(encoding="utf-8")
ROWS = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `")}
SAMPLE = random.Random(7).sample(list_architectures(), 5)


def test_the_page_has_every_architecture_and_counts_its_own_rows():
    assert list(ROWS) == list_architectures()
    counts = [int(number) for number in re.search(r"has (\d+) arch\S+ (\d+) give scores, (\d+) segm", PAGE).groups()]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in ROWS.values()]
    assert counts == [len(ROWS), sum(c[3] == "yes" for c in cells), sum(not c[4].startswith("no: ") for c in cells)]
    reasons = sum(int(number) for number in re.findall(r"(\d+) because", PAGE))
    assert reasons == counts[1] - counts[2]


@pytest.mark.parametrize("arch", ["ViT-B-16", "RN50", "coca_ViT-B-32", "roberta-ViT-B-32", *SAMPLE])
def test_a_sample_of_the_rows_is_as_the_architectures_are(arch):
    assert ROWS[arch] == f"| {' | '.join(ask_architecture(arch).cells())} |"


@pytest.mark.slow
def test_the_whole_page_is_as_its_command_writes_it():
    assert write_page([ask_architecture(name) for name in list_architectures()]) == PAGE


def test_the_page_names_what_is_fetched_besides_the_weights():
    assert ROWS["ViT-B-16"].endswith("| - |")
    assert "configuration of `xlm-roberta-base`, tokenizer `xlm-roberta-base`" in ROWS["xlm-roberta-base-ViT-B-32"]
    assert ROWS["ViT-B-16-SigLIP"].endswith("| tokenizer `timm/ViT-B-16-SigLIP` |")
