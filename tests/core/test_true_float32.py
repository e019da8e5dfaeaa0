"""True float32: every flag of both interfaces is off inside, and has the value from before afterwards."""

import pytest
import torch

from cosmos_core.true_float32 import true_float32

BACKENDS = torch.backends
HAS_NEW = hasattr(BACKENDS, "fp32_precision")
NEW = {
    "cuda.matmul": lambda: BACKENDS.cuda.matmul,
    "cudnn.conv": lambda: BACKENDS.cudnn.conv,
    "cudnn.rnn": lambda: BACKENDS.cudnn.rnn,
    "mkldnn.matmul": lambda: BACKENDS.mkldnn.matmul,
    "mkldnn.conv": lambda: BACKENDS.mkldnn.conv,
}


def read(act):
    try:
        return act()
    except RuntimeError:
        return "torch refuses to tell"


def flags() -> dict[str, object]:
    return {
        "matmul": read(torch.get_float32_matmul_precision),
        "cudnn.allow_tf32": read(lambda: BACKENDS.cudnn.allow_tf32),
        **({name: backend().fp32_precision for name, backend in NEW.items()} if HAS_NEW else {}),
    }


@pytest.fixture(autouse=True)
def restored():
    before = flags()
    matmul, cudnn = before["matmul"], before["cudnn.allow_tf32"]
    yield
    if HAS_NEW:
        BACKENDS.fp32_precision = "none"
    torch.set_float32_matmul_precision(matmul)
    BACKENDS.cudnn.allow_tf32 = cudnn
    for name, backend in NEW.items() if HAS_NEW else ():
        backend().fp32_precision = before[name]
    assert flags() == before


SETTINGS = {
    "nothing": lambda: None,
    "old matmul": lambda: torch.set_float32_matmul_precision("high"),
    "old cudnn": lambda: setattr(BACKENDS.cudnn, "allow_tf32", False),
}
NEW_SETTINGS = {
    "new matmul": lambda: setattr(BACKENDS.cuda.matmul, "fp32_precision", "tf32"),
    "new convolution": lambda: setattr(BACKENDS.cudnn.conv, "fp32_precision", "ieee"),
    "new RNN": lambda: setattr(BACKENDS.cudnn.rnn, "fp32_precision", "ieee"),
    "oneDNN": lambda: setattr(BACKENDS.mkldnn.matmul, "fp32_precision", "bf16"),
    "all at once": lambda: setattr(BACKENDS, "fp32_precision", "tf32"),
}


@pytest.mark.parametrize("setting", [*SETTINGS, *(NEW_SETTINGS if HAS_NEW else {})])
def test_flags_are_off_inside_and_as_they_were_afterwards(setting):
    (SETTINGS | NEW_SETTINGS)[setting]()
    before = flags()
    with true_float32():
        inside = flags()
    assert inside["matmul"] == "highest"
    assert {inside[name] for name in NEW if HAS_NEW} <= {"ieee"}
    if setting != "all at once":
        assert inside["cudnn.allow_tf32"] is False
    assert flags() == before


def test_one_inside_another():
    before = flags()
    with true_float32():
        outer = flags()
        with true_float32():
            assert flags() == outer
        assert flags() == outer
    assert flags() == before


def test_old_flags_that_a_later_torch_no_longer_has_are_left_alone(monkeypatch):
    before = flags()
    with monkeypatch.context() as later:
        later.delattr(torch, "get_float32_matmul_precision")
        later.delattr(torch, "set_float32_matmul_precision")
        with true_float32():
            assert {backend().fp32_precision for backend in NEW.values()} == {"ieee"} or not HAS_NEW
    assert flags() == before
