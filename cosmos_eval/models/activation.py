"""Find the activation functions of a built network from its modules; a configuration may say something else."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PROBE_VALUES = torch.linspace(-4, 4, 33)
_ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "tanh": torch.tanh,
}
_PARTS_OF_CLASS_NAMES = ("gelu", "relu", "silu", "swish", "tanh", "activation")


def name_of_activation(function: object) -> str:
    """The name of an activation function, identified by its values; for an unknown one its class name in lower case.

    Libraries have their own classes for the same function, so class names do not identify it.
    """
    assert callable(function)
    values: Tensor = function(_PROBE_VALUES.clone())
    for name, activation in _ACTIVATIONS.items():
        # The closest two, GELU and its tanh approximation, differ by 4e-4 on these values; rounding stays below 1e-6.
        if values.shape == _PROBE_VALUES.shape and torch.allclose(values, activation(_PROBE_VALUES), rtol=0, atol=1e-5):
            return name
    return type(function).__name__.lower()


@torch.no_grad()
def activations_of(network: nn.Module) -> str:
    """The activations of a network, sorted and joined by "+": "gelu", "quick_gelu", "quick_gelu+relu" (a ResNet tower).

    All modules that were built count, whether or not the forward pass calls them: the tanh of the poolers that
    transformers builds into some text towers is listed too.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    names = set()
    for module in network.modules():
        has_children = any(True for _ in module.children())
        has_parameters = any(True for _ in module.parameters())
        class_name = type(module).__name__.lower()
        if not has_children and not has_parameters and any(part in class_name for part in _PARTS_OF_CLASS_NAMES):
            names.add(name_of_activation(module if device.type == "cpu" else module.to("cpu")))
    return "+".join(sorted(names)) or "none"
