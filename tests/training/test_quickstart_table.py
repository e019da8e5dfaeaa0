"""The README's table is what a quickstart prints today: to the digit on this kind of CPU, elsewhere near it."""

import re
from pathlib import Path

import pytest
import torch

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.environment import cpu_name
from cosmos_eval.results.store import read_results

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = (
    ("toybox-retrieval", "image_to_text_recall@1"),
    ("toybox-retrieval", "text_to_image_recall@1"),
    ("toybox-classification", "top1"),
    ("toybox-segmentation", "miou"),
    ("toybox-segmentation-csa", "miou"),
    ("toybox-perception", "macro_accuracy"),
)
LABELS = {
    "COSMOS, shipped checkpoint (1,800 steps)": "COSMOS, shipped checkpoint (trained longer)",
    "COSMOS, 260 steps": "COSMOS, 260 steps",
    "CLIP loss, 260 steps": "CLIP loss, 260 steps",
    "untrained": "untrained",
}
TRAINED_HERE = ("COSMOS, 260 steps", "CLIP loss, 260 steps")
OTHER_CPU_POINTS = 0.2
"""What rounding may move of a row that is not trained here: one or two of a thousand near ties."""
OTHER_TRAINING_POINTS = 3.0
"""What it may move of a row that is: a Xeon and an EPYC gave CLIP rows up to 1.8 points apart (intervals over images do
not hold what differs between trainings)."""


def readme_table() -> dict[str, list[tuple[float, float, float]]]:
    """The rows of the README's first table: label -> (value, low, high) in percent, a column each."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("*", "")
    rows = {}
    for name, label in LABELS.items():
        (line,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", text, re.M)
        cells = [re.fullmatch(r"\s*(\S+) \[(\S+), (\S+)\]\s*", cell) for cell in line.split("|")]
        assert len(cells) == len(COLUMNS)
        assert all(cells)
        rows[label] = [tuple(map(float, cell.groups())) for cell in cells if cell]
    return rows


def test_every_row_of_the_readme_has_a_figure_and_its_interval():
    for row in readme_table().values():
        assert all(0 <= low <= value <= high <= 100 for value, low, high in row)


@pytest.fixture
def two_threads():
    """The threads of the README's table: with one thread the CLIP row is another (see results/toybox.md)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
def test_the_readme_shows_what_a_quickstart_prints(tmp_path):
    """Six and a half minutes on two quiet cores."""
    assert run_command(["quickstart", "--out", str(tmp_path)]) == 0
    results = {(one.label, one.benchmark.name): one for one in read_results(tmp_path / "results")}
    same_cpu = f": {cpu_name()}, " in (ROOT / "results" / "toybox.md").read_text(encoding="utf-8")
    for label, row in readme_table().items():
        for (benchmark, name), (value, low, high) in zip(COLUMNS, row, strict=True):
            metric = results[label, benchmark].metrics[name]
            ours = tuple(100 * x for x in (metric.value, metric.low, metric.high))
            where = f"{label}, {benchmark} {name}"
            if same_cpu:
                assert [f"{x:.1f}" for x in ours] == [f"{x:.1f}" for x in (value, low, high)], where
            else:
                points = OTHER_TRAINING_POINTS if label in TRAINED_HERE else OTHER_CPU_POINTS
                assert ours[0] == pytest.approx(value, abs=points), where
