"""What `evaluate` leaves as it found it: the model's modes and device, torch's modes, the process after Ctrl-C."""

import io
import signal
import sys
import threading
import types
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from cosmos_core.errors import RequestError
from cosmos_eval import ClassificationData, evaluate
from cosmos_eval.progress import Silent
from cosmos_eval.progress_display import LineReporter, StatusLineReporter, choose_reporter
from cosmos_eval.run.caller_state import kept_modules
from tests.helpers.tiny_models import Colours
from tests.run.test_in_memory import classes, pil_images

pytestmark = pytest.mark.usefixtures("one_thread")


class Network(nn.Module):
    """A network with dropout and a frozen batch norm, whose numbers in train mode would be random."""

    preprocess = Colours.preprocess
    encode_text = Colours.encode_text

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(8, 8)
        self.train()
        self.norm.eval()

    def encode_image(self, x):
        return self.linear(self.drop(self.norm(torch.cat([x.mean((2, 3)), x.flatten(1)[:, :5] + 0.1], dim=1))))


@pytest.fixture
def data() -> Iterator[ClassificationData]:
    return classes(pil_images(), name="mine")


def test_a_module_is_measured_in_eval_mode_and_keeps_its_modes_and_gradients(data):
    network = Network()
    (first,), (second,) = evaluate(network, data), evaluate(network, data)
    assert first.metrics == second.metrics
    assert (network.training, network.norm.training, network.drop.training) == (True, False, True)
    assert all(parameter.requires_grad for parameter in network.parameters())
    network.encode_image(torch.rand(4, 3, 8, 8)).sum().backward()
    assert network.linear.weight.grad is not None


def test_modes_are_kept_where_the_model_fails(data):
    class Failing(Network):
        def encode_image(self, x):
            raise ValueError("no")

    network = Failing()
    with pytest.raises(RequestError, match="encode_image failed: ValueError: no"):
        evaluate(network, data)
    assert network.training


def test_a_device_is_restored():
    class Movable(nn.Linear):
        """Goes to the meta device and back, which torch allows only without its values."""

        def to(self, device):
            return self.to_empty(device=device)

    network = Movable(2, 2)
    with kept_modules((network, None)):
        network.to("meta")
        assert network.weight.device.type == "meta"
    assert network.weight.device.type == "cpu"


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_modes_of_torch_change_no_number(mode, data):
    network = Network()
    (expected,) = evaluate(network, data)
    with mode():
        (result,) = evaluate(network, data)
        was_inference, was_grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    assert result.metrics == expected.metrics
    assert (was_inference, was_grad) == (mode is torch.inference_mode, mode is torch.enable_grad)


def test_autocast_of_the_caller_changes_no_number(data):
    network = Network()
    (expected,) = evaluate(network, data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (result,) = evaluate(network, data)
        assert torch.is_autocast_enabled("cpu")
    assert (result.metrics, result.precision) == (expected.metrics, "fp32")


def test_after_an_interrupt_it_works_again_and_continues(tmp_path, data):
    class Interrupted(Network):
        digest = "interrupted"
        left = 1

        def encode_text(self, texts):
            if self.left:
                self.left -= 1
                raise KeyboardInterrupt
            return super().encode_text(texts)

    network = Interrupted()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        evaluate(network, data, out=tmp_path)
    assert network.training
    (result,) = evaluate(network, data, out=tmp_path)
    assert result.timing.encoded["images"] == 0  # they were in the cache
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_it_works_in_a_thread_without_signal_handlers(data):
    results = []
    thread = threading.Thread(target=lambda: results.extend(evaluate(Colours(), data)))
    thread.start()
    thread.join()
    assert len(results) == 1


def test_progress_is_shown_in_a_terminal_or_notebook_and_on_request(monkeypatch, capsys, data):
    evaluate(Colours(), data)  # the streams of a test are not terminals
    assert capsys.readouterr() == ("", "")
    evaluate(Colours(), data, progress=True)
    assert "mine, encoding images: 8/8 images" in capsys.readouterr().err
    assert isinstance(choose_reporter("auto"), Silent)
    assert isinstance(choose_reporter(True), LineReporter)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert type(choose_reporter("auto")).__name__ == "RichReporter"
    assert isinstance(choose_reporter(False), Silent)
    notebook = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    assert isinstance(choose_reporter("auto"), StatusLineReporter)
    assert isinstance(choose_reporter(False), Silent)
    with pytest.raises(RequestError, match="progress must be True, False or 'auto', not 'yes'"):
        evaluate(Colours(), data, progress="yes")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_of_a_notebook_is_rewritten_and_gone_at_the_end():
    stream = io.StringIO()
    reporter = StatusLineReporter(stream, every=0)
    with reporter.task("encoding images", 4, "images") as advance:
        advance(1)
        with reporter.task("reading", 2, "files") as advance_inner:
            advance_inner(2)
        reporter.note("a note")
        advance(3)
    shown = stream.getvalue()
    assert "\rencoding images: 1/4 images" in shown
    assert "\rreading: 2/2 files" in shown
    assert "a note\n" in shown
    screen = shown.rpartition("a note\n")[2]
    assert screen.endswith("\r")
    assert screen.split("\r")[-2].strip() == ""  # spaces over the last line
    assert "\x1b" not in shown
