"""The numbers of a step, which the device computes and the host reads once, together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cosmos_core.host_copy import HostCopy


class StepNumbers:
    """Named scalars on their way to the host, in one copy: each copy that the host waits for waits for all kernels."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._parts: list[Tensor] = []
        self._copy: HostCopy | None = None
        self._values: dict[str, float] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take the present values of scalars, all on one device, whatever is changed in place later."""
        if values:
            self._names += values
            self._parts.append(torch.stack([value.detach().reshape(()) for value in values.values()]))

    def send(self) -> None:
        """Start the copy, behind what is launched; nothing can be added afterwards."""
        if self._copy is None:
            self._copy = HostCopy(torch.cat(self._parts) if len(self._parts) > 1 else self._parts[0])
            self._parts = []

    def read(self) -> dict[str, float]:
        """Return all of them, also a second time; waits for the copy, not for what was launched after it."""
        if not self._values:
            self.send()
            assert self._copy is not None
            self._values = dict(zip(self._names, self._copy.read().tolist(), strict=True))
        return self._values
