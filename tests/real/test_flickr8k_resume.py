"""The flickr8k preset on the real shards: legs that go on where the last one stopped, a report of what was measured."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.studies import flickr8k, flickr8k_report
from cosmos_core.checkpoint import read_file
from cosmos_core.errors import RequestError

TINY = (
    "model={embed_dim: 16, vision_cfg: {image_size: 32, layers: 1, width: 16, head_width: 8, patch_size: 16, "
    "attn_pooler_heads: 2}, text_cfg: {context_length: 16, vocab_size: 300, width: 16, heads: 2, layers: 1, "
    "attn_pooler_heads: 2}}"
)
CHANGES = [TINY, "views.global_size=32", "views.local_size=16", "save_every=0"]


def command(out: Path, root: Path, *more: str) -> list[str]:
    changes = [part for change in CHANGES for part in ("--set", change)]
    return ["--quick", "--data-root", str(root), "--out", str(out), *changes, *more]


@pytest.fixture(scope="module")
def root(real_dir: Path) -> Path:
    return real_dir / "flickr8k"


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    flickr8k.main(command(out, root))
    return out


def test_legs_give_the_training_that_was_never_stopped(whole: Path, root: Path, tmp_path: Path, capsys):
    legs = 0
    while not (tmp_path / "flickr8k.md").is_file():
        flickr8k.main(command(tmp_path, root, "--minutes", "0.000001"))
        legs += 1
        assert legs < 20
    assert legs == 6  # one step each; the last of them ends the training
    assert "stopped after --minutes" in capsys.readouterr().out
    there, here = (read_file(folder / "cosmos" / "last.pt") for folder in (whole, tmp_path))
    for network in ("student", "teacher"):
        for key, value in there[network].items():
            assert torch.equal(value, here[network][key]), key
    assert [line["metrics"] for line in lines(whole)] == [line["metrics"] for line in lines(tmp_path)]


def lines(out: Path) -> list[dict]:
    return flickr8k_report.read_evaluations(out / "cosmos" / "evaluations.jsonl")


def test_the_table_holds_what_was_measured(whole: Path):
    text = (whole / "flickr8k.md").read_text()
    assert [(line["step"], line["network"]) for line in lines(whole)] == [
        (3, "teacher"),
        (3, "student"),
        (6, "teacher"),
        (6, "student"),
    ]
    for line in lines(whole):
        for key in flickr8k_report.COLUMNS:
            assert flickr8k_report.shown(line["metrics"][key]) in text
    assert "Evaluated on 40 images only" in text
    assert (whole / "flickr8k.png").stat().st_size < 150_000


def test_no_place_of_the_machine_is_in_the_record(whole: Path, root: Path):
    for path in (whole / "flickr8k.md", whole / "cosmos" / "record.json"):
        assert str(root) not in path.read_text()
        assert str(whole) not in path.read_text()


def test_a_finished_row_is_kept(whole: Path, root: Path, capsys):
    before = (whole / "cosmos" / "last.pt").stat().st_mtime_ns
    flickr8k.main(command(whole, root))
    said = capsys.readouterr().out
    assert "cosmos: finished, kept" in said
    assert json.loads(said.strip().splitlines()[-1])["name"] == "flickr8k"
    assert (whole / "cosmos" / "last.pt").stat().st_mtime_ns == before


def test_missing_data_is_one_line(tmp_path: Path):
    with pytest.raises(RequestError, match=r"no test-0000\.tar in"):
        flickr8k.main(["--data-root", str(tmp_path)])


def test_chance_is_that_of_a_random_order():
    assert flickr8k_report.chance("text_to_image_recall@5", 1000) == pytest.approx(0.005)
    assert flickr8k_report.chance("image_to_text_recall@1", 1000) == pytest.approx(5 / 5000)
    # two images, ten captions: two draws both miss with 5/10 * 4/9
    assert flickr8k_report.chance("image_to_text_recall@2", 2) == pytest.approx(1 - 5 / 10 * 4 / 9)
