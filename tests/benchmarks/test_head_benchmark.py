"""benchmarks/head.py: both sides give the same class weights, and the last line is the record."""

import json

import pytest
import torch

from benchmarks import head
from benchmarks.random_model import random_model
from benchmarks.studies.imagenet_words import first_words
from cosmos_core.errors import RequestError
from cosmos_core.world import World

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TINY = head.HeadPlan(classes=3, repetitions=2, model="tiny", config=CONFIG)


@pytest.fixture(scope="module")
def measured():
    return head.measure(World(), TINY)


def test_both_sides_give_the_same_weights_for_the_same_prompts(measured):
    model, (names, templates) = random_model("tiny", config=CONFIG), first_words(3)
    assert names == ["tench", "goldfish", "great white shark"]
    assert len(templates) == 80
    ours, peer = (side(model, names, templates, TINY) for side in (head.our_head, head.peer_head))
    assert ours.shape == peer.shape == (3, 32)
    assert (ours - peer).abs().max() < 1e-5
    assert torch.allclose(ours.norm(dim=1), torch.ones(3))
    assert measured["largest_difference"] < 1e-5


def test_prompts_and_tokens_are_counted(measured):
    assert measured["prompts"] == 240
    assert measured["distinct_prompts"] <= 240
    assert measured["peer_tokens"] == 240 * 77
    assert 240 * 5 < measured["read_tokens"] < 240 * 20
    assert {arm: len(seconds) for arm, seconds in measured["seconds"].items()} == {"peer": 2, "ours": 2}


def test_the_last_line_is_the_record(measured, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(head, "run_in_processes", lambda sizes, work, plan, threads: {1: measured})
    assert head.main(["--quick", "--classes", "3", "--out", str(tmp_path / "head.md")]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["name"] == "head"
    assert set(record["ratios"]) == {"head"}
    assert record["figures"]["classes"] == 3
    assert record["environment"]["hardware"]["threads"] == torch.get_num_threads()
    page = (tmp_path / "head.md").read_text(encoding="utf-8")
    assert "Made by `python benchmarks/head.py --quick --classes 3 --out" in page
    assert "the first 3 of 1,000 classes, 240 prompts, in fp32 on cpu" in page


def test_weights_that_differ_are_reported_and_no_times_are_compared(measured, monkeypatch, capsys):
    for difference in (2e-4, float("nan")):
        changed = {**measured, "largest_difference": difference}
        monkeypatch.setattr(head, "run_in_processes", lambda *a, changed=changed, **k: {1: changed})
        assert head.main(["--quick"]) == 1
        assert "class weights differ by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--classes", "1001"], "head: --classes 1001: ImageNet has 1,000\n"),
        (["--classes", "-1"], "head: --classes -1: ImageNet has 1,000\n"),
        (
            ["--precision", "fp16"],
            "head: clip-benchmark's mixed precision on a CPU is bf16; give --precision bf16 or fp32\n",
        ),
        (
            ["--device", "cuda", "--precision", "bf16"],
            "head: clip-benchmark's mixed precision on a GPU is fp16; give --precision fp16 or fp32\n",
        ),
    ],
)  # fmt: skip
def test_a_refusal_is_one_line(options, line, monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise RequestError("must not start")

    monkeypatch.setattr(head, "run_in_processes", refuse)
    assert head.main(options) == 2
    assert capsys.readouterr().err == line
