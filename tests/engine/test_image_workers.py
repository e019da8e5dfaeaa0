"""Worker processes that load images: a dead worker, or too little shared memory, is reported in one line."""

import os
import signal
from collections import deque

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from cosmos_core import shared_memory
from cosmos_core.errors import RequestError
from cosmos_core.worker_timeouts import worker_batches
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import image_loading
from cosmos_eval.engine.image_loading import each_image, image_batches
from tests.helpers.processes import signals_after_fork

IMAGES = [ArrayImage(f"{i}", np.full((4, 4, 3), i, np.uint8)) for i in range(8)]


def make_large(image: Image.Image) -> torch.Tensor:
    """A preprocess whose result has 256 KiB."""
    return torch.zeros(2**16)


def kill_worker(image: Image.Image) -> torch.Tensor:
    """A preprocess that kills its own process."""
    os.kill(os.getpid(), signal.SIGKILL)
    return torch.zeros(1)


def test_a_killed_worker_is_reported_in_one_line():
    with pytest.raises(RequestError, match=r"^a worker that decodes images died .* fewer --workers; ") as caught:
        deque(image_batches(IMAGES, kill_worker, 4, 1), maxlen=0)
    assert "\n" not in str(caught.value)


def test_a_worker_exits_silently_on_ctrl_c_that_came_before_it_was_set_up(monkeypatch, capfd):
    monkeypatch.setattr(image_loading, "SECONDS", 1)
    loader = DataLoader(list(range(4)), **image_loading._worker_options(1))
    with signals_after_fork(signal.SIGINT), pytest.raises(RuntimeError, match="exited unexpectedly"):
        next(iter(worker_batches(loader)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers must inherit the patched function")
def test_batches_that_do_not_fit_in_shared_memory_are_refused_and_smaller_ones_are_not(monkeypatch: pytest.MonkeyPatch):
    """A batch of 4 has 1 MiB, and with one worker up to 3 batches are in shared memory at a time."""
    monkeypatch.setattr(shared_memory, "free_and_size", lambda: (2**20, 2**20))
    with pytest.raises(RequestError, match=r"need 3\.0 MiB .*: give --workers 0, --batch-size 1 or less, or a larger"):
        deque(image_batches(IMAGES, make_large, 4, 1), maxlen=0)
    assert len(list(image_batches(IMAGES, make_large, 1, 1))) == 8
    assert len(list(image_batches(IMAGES, make_large, 4, 0))) == 2
    monkeypatch.setattr(shared_memory, "free_and_size", lambda: (2**19, 2**19))
    with pytest.raises(RequestError, match=r"need 0\.8 MiB .*: give --workers 0, or a larger"):
        deque(each_image(IMAGES, make_large, 1), maxlen=0)
