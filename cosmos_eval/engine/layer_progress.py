"""Progress within a batch: on a CPU one forward pass may take a minute, so layers report how far it is.

Layers are the members of the outermost `nn.ModuleList`s and `nn.Sequential`s of a tower: the blocks of a transformer,
the stages of a convolutional network. Forward hooks count the layers that have run. They are attached only while
progress is shown, and change no number. For a tower without such a list, whole batches are shown; also on devices that
compute asynchronously, where a hook runs long before the layer has been computed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from cosmos_core.progress import Advance, silent

HAS_FAST_PATH = (nn.TransformerEncoderLayer, nn.TransformerEncoder, nn.MultiheadAttention)
"""Modules that torch computes with another kernel (so with other last bits) if a hook is attached to them."""


class LayerProgress:
    """Shows items of a batch as done while the batch passes the tower.

    The items shown while a batch runs are an estimate by the share of layers. `finish` corrects it: after a batch, the
    number of items shown is exact, and it never decreases.

    Args:
        model: an adapter; networks are searched for among its attributes.
        enabled: False attaches no hooks at all.
    """

    def __init__(self, model: Any, enabled: bool = True) -> None:
        self.model = model
        self.enabled = enabled
        self._advance: Advance = silent
        self._items = 0
        """Items of the batch that passes the tower now."""
        self._part = (0.0, 1.0)
        """A batch may pass in parts: the share of it that has passed before, and the share that passes now."""
        self._layers_run = 0
        self._items_ahead = 0
        """Items that are shown as done before `finish` has reported them."""

    @contextmanager
    def shown(self, advance: Advance) -> Iterator[None]:
        """Call `advance` from layers inside; code inside must call `finish` instead of `advance`."""
        outer_state = self._advance, self._items_ahead, self._items
        # Hooks cost time, so there are none if nothing is shown. Inside another `shown` there are hooks already, and
        # further ones would count each layer twice.
        is_watching = self.enabled and advance is not silent and self._advance is silent
        self._advance, self._items_ahead, self._items = advance, 0, 0
        handles = self._attach_hooks() if is_watching else []
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._advance, self._items_ahead, self._items = outer_state

    def start(self, items: int) -> None:
        """Report that a batch is about to pass the tower, after which about `items` items will be done."""
        self._items = items
        self.start_part(0, 1, 1)

    def start_part(self, done: int, size: int, count: int) -> None:
        """Report that of the batch's `count` inputs `done` have passed and the next `size` are about to pass."""
        self._part = (done / count, size / count)
        self._layers_run = 0

    def finish(self, items: int) -> None:
        """Report that items are done; those that were shown ahead are not shown again."""
        already_shown = min(items, self._items_ahead)
        self._items_ahead -= already_shown
        if items > already_shown:
            self._advance(items - already_shown)

    def _attach_hooks(self) -> list[Any]:
        handles = []
        for layers in find_towers(self.model):
            for layer in layers:

                def count(*_: Any, total: int = len(layers)) -> None:
                    self._layers_run += 1
                    share_before, share_now = self._part
                    # min: a tower may run its layers more than once
                    self._show(share_before + share_now * min(1.0, self._layers_run / total))

                handles.append(layer.register_forward_hook(count))
        return handles

    def _show(self, share: float) -> None:
        """Show the given share of the batch's items as done."""
        items_ahead = int(share * self._items)
        if items_ahead > self._items_ahead:
            new_items, self._items_ahead = items_ahead - self._items_ahead, items_ahead
            self._advance(new_items)


def find_towers(model: Any) -> list[list[nn.Module]]:
    """Return the layers of each tower of a model, without layers whose numbers a hook would change."""
    seen: set[int] = set()
    towers = []
    for network in find_networks(model):
        for layers in _split_towers(network):
            # An adapter may hold the same network, or a part of it, under two attributes: each layer counts once.
            new_layers = [layer for layer in layers if id(layer) not in seen and not has_fast_path(layer)]
            seen |= {id(layer) for layer in new_layers}
            if new_layers:
                towers.append(new_layers)
    return towers


def has_fast_path(layer: nn.Module) -> bool:
    """Whether torch takes another kernel for a layer if hooks are attached to it or to modules within it."""
    return isinstance(layer, HAS_FAST_PATH)


def find_networks(model: Any, depth: int = 2) -> list[nn.Module]:
    """Return the networks among the attributes of an adapter, or of an object that the adapter wraps."""
    if isinstance(model, nn.Module):
        return [model]
    attributes = list(getattr(model, "__dict__", {}).values()) if depth else []
    return [network for attribute in attributes for network in find_networks(attribute, depth - 1)]


def _split_towers(network: nn.Module) -> list[list[nn.Module]]:
    """Return the layers of each tower: a tower is a child that has layers, at the first level where several do."""
    if _is_layer_list(network):
        return [list(network.children())]
    layers_of_children = [(child, _find_layers(child)) for child in network.children()]
    with_layers = [(child, layers) for child, layers in layers_of_children if layers]
    if len(with_layers) == 1:
        return _split_towers(with_layers[0][0])
    return [layers for _, layers in with_layers]


def _find_layers(module: nn.Module) -> list[nn.Module]:
    """Return the members of the outermost layer lists in a module, in order."""
    if _is_layer_list(module):
        return list(module.children())
    return [layer for child in module.children() for layer in _find_layers(child)]


def _is_layer_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 1
