"""Replace an attribute of another library's module while the library's code runs.

Three readers call libraries that would otherwise run a shell command, unpickle any object, or decode a list in another
way. None of them takes the function as an argument, so the attribute of the module is replaced during the call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def substituted(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """Set `owner.name` to `replacement` inside the block, and restore the original after it, also after an error.

    The replacement is visible in the whole process: code that may run in several threads needs a lock around it.

    Raises:
        AttributeError: `owner` has no such attribute, which means that the library has changed.
    """
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
