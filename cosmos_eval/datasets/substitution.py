"""An attribute of another library's module, replaced while its code runs.

Three readers call code that would otherwise run a command, unpickle objects, or decode a list in another way. None of
those libraries takes the function as an argument, so the module's attribute is replaced for the length of one call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def substituted(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """Set `owner.name` to `replacement`; put the original back at the end, after an error, too.

    It holds for the whole process: callers that may run in several threads take a lock around it.

    Raises:
        AttributeError: `owner` has no such attribute: the library changed, and nothing would be replaced.
    """
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
