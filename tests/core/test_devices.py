"""The choice of a device: the card is tried once, and a card that cannot compute is told with its reason."""

import warnings

import pytest
import torch

from cosmos_core import devices
from cosmos_core.devices import choose_device, has_bf16, require_device, why_no_cuda, why_unusable
from cosmos_core.errors import RequestError
from cosmos_core.prepare import device_of
from cosmos_core.world import World

NO_KERNEL = "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be reported"


@pytest.fixture(autouse=True)
def asked_for_the_first_time():
    why_no_cuda.cache_clear()
    yield
    why_no_cuda.cache_clear()


@pytest.fixture
def one_card(monkeypatch):
    """A machine that seems to have a card; it computes unless `why_unusable` is replaced."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(devices, "why_unusable", lambda device: "")


@pytest.mark.usefixtures("one_card")
def test_a_card_that_computes_is_chosen():
    assert choose_device() == (torch.device("cuda:0"), "")
    assert device_of("auto") == require_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.usefixtures("one_card")
def test_a_card_that_fails_its_trial_is_told_and_the_cpu_is_taken(monkeypatch):
    monkeypatch.setattr(devices, "why_unusable", lambda device: "it is broken" if device.type == "cuda" else "")
    assert choose_device() == (torch.device("cpu"), "it is broken")
    assert device_of("auto") == torch.device("cpu")
    with pytest.raises(RequestError, match="no device cuda:0: it is broken; give auto, cpu"):
        require_device("cuda:0")


@pytest.mark.usefixtures("one_card")
def test_no_rank_falls_back_alone(monkeypatch):
    monkeypatch.setattr(devices, "why_unusable", lambda device: "it is broken" if device.type == "cuda" else "")
    with pytest.raises(RequestError, match="rank 1 has no GPU that computes: there is no cuda:1, torch sees 1 CUDA"):
        device_of("auto", World(1, 2, 1))
    with pytest.raises(RequestError, match="rank 0 has no GPU that computes: it is broken; set device=cpu"):
        device_of("auto", World(0, 2, 0))


def test_a_card_that_this_torch_has_no_code_for_is_named_with_its_capability(monkeypatch):
    def fail(*size, device):
        raise RuntimeError(NO_KERNEL)

    monkeypatch.setattr(torch, "ones", fail)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla P100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90"])
    reason = why_unusable(torch.device("cuda:0"))
    assert reason.startswith("Tesla P100 has compute capability 6.0, and torch ")
    assert reason.endswith("has code for sm_75, sm_90: install a build of torch that supports this card")


def test_the_reason_of_an_old_driver_is_kept_although_torch_gives_it_only_once(monkeypatch):
    said = []

    def is_available():
        if not said:
            said.append(True)
            warnings.warn(
                "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).", stacklevel=1
            )
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            device, reason = choose_device()
            assert device == torch.device("cpu")
            assert "driver on your system is too old (found version 11040)" in reason
        with pytest.raises(RequestError, match="no device cuda: CUDA initialization: The NVIDIA driver"):
            require_device("cuda")


def test_apples_gpu_is_chosen_where_it_is_allowed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices, "why_unusable", lambda device: "")
    assert choose_device(mps=True)[0] == torch.device("mps")
    assert choose_device()[0] == device_of("auto") == torch.device("cpu")


def test_the_cpu_computes_and_meta_does_not():
    assert why_unusable(torch.device("cpu")) == ""
    assert why_unusable(torch.device("meta"))


def test_bfloat16_on_a_gpu_of_apple_needs_macos_14(monkeypatch):
    for version, expected in ((13, False), (15, True)):
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *least, v=version: (v, 0) >= least)
        assert has_bf16(torch.device("mps")) is expected


def test_a_machine_without_a_gpu_of_apple_says_so(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RequestError, match="no device mps: torch sees no GPU of Apple; give auto or cpu"):
        require_device("mps")
