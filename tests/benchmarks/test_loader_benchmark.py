"""The loader benchmark compares the same crops, and its record has both ratios."""

import json
import sys

import pytest
import torch

from benchmarks import loader
from benchmarks.images import write_images
from cosmos_core.views import MultiCrop

SMALL = MultiCrop(global_size=32, local_size=16, local_crops=1)


def test_both_sides_have_the_same_shapes_and_similar_pixels(tmp_path):
    files = [source.path.read_bytes() for source in write_images(4, tmp_path)]
    torch.manual_seed(0)
    peer = loader.peer_batch(files, loader.peer_transforms(SMALL, True))
    make = loader.SampleViews(SMALL, loader.TextCrop(1, "raw"))
    ours = loader.our_batch(files, make)
    assert [view.shape for view in peer] == [view.shape for view in ours]
    for theirs, view in zip(peer, ours, strict=True):
        assert theirs.mean().item() == pytest.approx(view.mean().item(), abs=1)
    assert all(view.dtype == torch.uint8 for view in loader.our_batch(files, loader.replace(make, on_device=True)))


def test_the_record_has_both_ratios(monkeypatch, capsys):
    figures = {"torchvision": 30.0, "ours": 15.0, "torchvision_crops": 10.0, "ours_device": 2.5}
    monkeypatch.setattr(loader, "measure", lambda *sizes: figures)
    monkeypatch.setattr(sys, "argv", ["loader.py", "--quick"])
    loader.main()
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["name"] == "loader"
    assert record["ratios"] == {"loader": 2.0, "loader_device": 4.0}
