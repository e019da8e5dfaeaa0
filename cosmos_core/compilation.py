"""torch.compile for training: both networks, and what its compiler says when it fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from cosmos_core.errors import RequestError
from cosmos_core.memory_errors import is_out_of_memory
from cosmos_core.printable import one_line

COMPILERS = ("torch._dynamo", "torch._inductor")


def compile_networks(*networks: nn.Module) -> list[Callable[..., Any]]:
    """Modules that share their parameters with `networks`; each is compiled when it is first called.

    All are the same code, called with other numbers of views: without `dynamic=False` torch would take a size that
    differs between them for one that varies, and compile slower kernels. In a run sizes do not vary. torch also counts
    compilations of this code over all trainings of a process, and from the ninth on it does not compile: hence the
    reset.
    """
    torch.compiler.reset()
    return [torch.compile(network, dynamic=False) for network in networks]


def is_compiler_error(error: BaseException) -> bool:
    """Whether an exception comes from torch.compile, and not from the code that it runs."""
    return not is_out_of_memory(error) and type(error).__module__.startswith(COMPILERS)


@contextmanager
def report_compiler_errors(advice: str) -> Iterator[None]:
    """Turn an error of torch.compile inside into a RequestError of one line, which ends with `advice`."""
    try:
        yield
    except Exception as error:
        if is_compiler_error(error):
            raise RequestError(
                f"torch.compile fails here ({type(error).__name__}: {one_line(error, 300)}); {advice}"
            ) from error
        raise
