"""What can go wrong while a file is fetched."""

from typing import Literal

from cosmos_core.errors import RequestError

Kind = Literal[
    "not-found",
    "gated",
    "rate-limited",
    "connection",
    "redirect",
    "checksum",
    "size",
    "disk",
    "offline",
    "in-use",
    "archive",
    "http",
]


class FetchError(RequestError):
    """A file that could not be fetched; the message is one line with the address and how to go on.

    Args:
        kind: what went wrong, for code that tries another source: "not-found" (the server has no such file), "gated"
            (an account must accept terms, or a token is missing), "rate-limited", "connection" (no answer, too slow, or
            dropped more often than retries allow), "redirect" (to an address that is refused), "checksum", "size" (more
            or fewer bytes than expected), "disk" (no room, or no right to write), "offline" (downloads are turned
            off), "in-use" (another process fetches the same file), "archive" (what came cannot be unpacked or
            converted), or "http" (any other status of the server).
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind

    @property
    def may_another_source_help(self) -> bool:
        """Whether another source may succeed; a full disk, for example, is full for every source."""
        return self.kind not in ("disk", "offline", "in-use")
