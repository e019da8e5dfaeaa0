"""Compiled networks: one graph for each way to call them, and the compiler's errors in one line."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from cosmos_core.errors import RequestError
from cosmos_core.train import train
from tests.core.small_steps import CONFIG, MODEL, noise, stepper
from tests.helpers.tiny_runs import CONFIG as TINY_RUN
from tests.helpers.tiny_runs import coloured

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> CompileCounter:
    """Counts the graphs that torch.compile traces; nothing is generated from them, and no call may be cut in two."""
    torch._dynamo.reset()  # what tests before this one have compiled
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter, fullgraph=True))
    return counter


def test_texts_of_any_length_are_one_graph_for_each_way_to_call_the_networks(graphs: CompileCounter):
    model = {
        **MODEL,
        "vision_cfg": {**MODEL["vision_cfg"], "layers": 1},
        "text_cfg": {**MODEL["text_cfg"], "layers": 1},
    }
    config = replace(CONFIG, model=model, objective="clip", accumulate=2, grad_checkpointing=True)
    eager, compiled = stepper(config), stepper(replace(config, compile=True))
    for seed in range(2):  # with captions of other lengths
        assert compiled(noise(config, seed)) == pytest.approx(eager(noise(config, seed)), rel=1e-4, abs=1e-5)
        assert graphs.frame_count == 2  # the student without and with gradients; clip has no teacher


def test_an_error_of_the_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch):
    class Unsupported(Exception):
        pass

    Unsupported.__module__ = "torch._dynamo.exc"

    def failing(graph, inputs):
        raise Unsupported("no compiler\nat hand")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=failing))
    with pytest.raises(RequestError, match=r"^torch.compile fails here .*no compiler at hand.*; set compile=false$"):
        train(replace(TINY_RUN, compile=True, objective="clip"), coloured(4))
