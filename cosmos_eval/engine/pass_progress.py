"""Progress within a batch: on a CPU one forward pass may take a minute, and layers that have run tell how far it is.

Layers are the members of the outermost `nn.ModuleList`s and `nn.Sequential`s of a tower (the blocks of a transformer,
the stages of a convolutional network). Forward hooks count them; they are there only while somebody watches, and they
change no number. A tower without such a list shows whole batches, as do devices that compute asynchronously, where a
hook runs long before its layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from cosmos_core.progress import Advance, silent

HAS_FAST_PATH = (nn.TransformerEncoderLayer, nn.TransformerEncoder, nn.MultiheadAttention)
"""Modules of torch that compute with another kernel, so other last bits, once a hook is attached to them."""


class PassProgress:
    """Shows items of a batch as done while the batch passes the tower; never more than are done when it has passed.

    Args:
        model: an adapter; its networks are found among its attributes.
        enabled: whether layers are watched at all.
    """

    def __init__(self, model: Any, enabled: bool = True) -> None:
        self.model = model
        self.enabled = enabled
        self._advance: Advance = silent
        self._items = 0
        """Of the batch that passes the tower."""
        self._part = (0.0, 1.0)
        """Which share of the batch has passed before, and which passes now: a batch may pass in parts."""
        self._layers_run = 0
        self._ahead = 0
        """Items that are shown as done and are not reported as done yet."""

    @contextmanager
    def shown(self, advance: Advance) -> Iterator[None]:
        """Inside, `advance` is called by layers; `finish` must then be called in its place."""
        outer = self._advance, self._ahead, self._items
        # who shows nothing pays nothing, and watching twice would count twice
        watch = self.enabled and advance is not silent and self._advance is silent
        self._advance, self._ahead, self._items = advance, 0, 0
        handles = self._attach() if watch else []
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._advance, self._ahead, self._items = outer

    def start(self, items: int) -> None:
        """A batch that will finish about so many items is going to pass the tower."""
        self._items = items
        self.start_part(0, 1, 1)

    def start_part(self, done: int, size: int, count: int) -> None:
        """Of its `count` inputs, `done` have passed and the next `size` are going to pass together."""
        self._part = (done / count, size / count)
        self._layers_run = 0

    def finish(self, items: int) -> None:
        """So many items are done; those that were shown before are not shown again."""
        shown = min(items, self._ahead)
        self._ahead -= shown
        if items > shown:
            self._advance(items - shown)

    def _attach(self) -> list[Any]:
        handles = []
        for layers in towers_of(self.model):
            for layer in layers:

                def count(*_: Any, total: int = len(layers)) -> None:
                    self._layers_run += 1
                    before, part = self._part
                    self._show(before + part * min(1.0, self._layers_run / total))

                handles.append(layer.register_forward_hook(count))
        return handles

    def _show(self, share: float) -> None:
        ahead = int(share * self._items)
        if ahead > self._ahead:
            newly, self._ahead = ahead - self._ahead, ahead
            self._advance(newly)


def towers_of(model: Any) -> list[list[nn.Module]]:
    """The layers of each tower of a model, without those that a hook would make compute otherwise."""
    towers = [layers for network in _networks(model) for layers in _split(network)]
    seen: set[int] = set()
    distinct = []
    for layers in towers:
        own = [layer for layer in layers if id(layer) not in seen and not has_fast_path(layer)]
        seen |= {id(layer) for layer in own}
        if own:
            distinct.append(own)
    return distinct


def has_fast_path(layer: nn.Module) -> bool:
    """Whether torch takes another kernel for it once it has a hook: only its own hooks and those within count."""
    return isinstance(layer, HAS_FAST_PATH)


def _networks(model: Any, depth: int = 2) -> list[nn.Module]:
    """Networks among the attributes of an adapter, or of an object that an adapter wraps."""
    if isinstance(model, nn.Module):
        return [model]
    attributes = list(getattr(model, "__dict__", {}).values()) if depth else []
    return [network for attribute in attributes for network in _networks(attribute, depth - 1)]


def _split(network: nn.Module) -> Sequence[list[nn.Module]]:
    """Layers by tower: the parts of a network from where more than one of them has lists of layers."""
    if _is_list(network):
        return [list(network.children())]
    parts = [(child, _layers(child)) for child in network.children()]
    parts = [(child, layers) for child, layers in parts if layers]
    if len(parts) == 1:
        return _split(parts[0][0])
    return [layers for _, layers in parts]


def _layers(module: nn.Module) -> list[nn.Module]:
    """Members of the outermost lists in a module, in order."""
    if _is_list(module):
        return list(module.children())
    return [layer for child in module.children() for layer in _layers(child)]


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 1
