"""cuDNN's attention is off in training steps and in evaluation, and as it was afterwards."""

import torch

from cosmos_core.attention_kernels import attention_kernels, without_cudnn_attention
from cosmos_core.train import train
from cosmos_eval.engine.precision import tower_precision
from tests.core.test_train import CONFIG
from tests.helpers.tiny_runs import coloured


def test_it_is_off_inside_and_restored_also_after_an_error():
    for before in (True, False):
        torch.backends.cuda.enable_cudnn_sdp(before)
        try:
            with without_cudnn_attention():
                assert not torch.backends.cuda.cudnn_sdp_enabled()
                raise ZeroDivisionError
        except ZeroDivisionError:
            assert torch.backends.cuda.cudnn_sdp_enabled() is before
    torch.backends.cuda.enable_cudnn_sdp(True)


def test_it_is_off_in_towers_of_every_precision_and_in_a_training_step(monkeypatch):
    for precision in ("fp32", "bf16"):
        with tower_precision(precision, torch.device("cpu")):
            assert not torch.backends.cuda.cudnn_sdp_enabled()
    seen = []
    backward = torch.Tensor.backward

    def look(self, *args, **options):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return backward(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "backward", look)
    train(CONFIG, coloured(8))
    assert set(seen) == {False}
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_the_kernels_that_remain_are_recorded():
    assert attention_kernels() == "flash, efficient, math"
