"""Checksums of a file while it is received: SHA-256 always, and whatever else its publisher names."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

ALGORITHMS = ("sha256", "md5", "git")
"""`git` is the SHA-1 of a git blob: of `blob <size>`, a zero byte and the content, so that the size must be known."""
READ_BYTES = 1 << 20


class Digests:
    """The checksums of bytes that come one piece after the other.

    Args:
        names: of `ALGORITHMS`.
        size: of the whole file, which the checksum of a git blob begins with.
    """

    def __init__(self, names: Mapping[str, str], size: int | None) -> None:
        self._hashes = {"sha256": hashlib.sha256()}
        if "md5" in names:
            self._hashes["md5"] = hashlib.md5(usedforsecurity=False)
        if "git" in names and size is not None:
            self._hashes["git"] = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, content: bytes) -> None:
        for hash_ in self._hashes.values():
            hash_.update(content)

    def add_file(self, path: Path) -> None:
        """The bytes that an earlier process received."""
        with path.open("rb") as stream:
            while content := stream.read(READ_BYTES):
                self.update(content)

    @property
    def sha256(self) -> str:
        return self._hashes["sha256"].hexdigest()

    def difference(self, expected: Mapping[str, str]) -> str:
        """Which expected checksum the bytes do not have, in words; empty where they have all.

        A checksum that cannot be computed (a git blob of unknown size) counts as a difference: it was not checked.
        """
        for name, value in expected.items():
            computed = self._hashes[name].hexdigest() if name in self._hashes else "not computed"
            if computed != value.lower():
                return f"its {name} is {computed}, expected {value.lower()}"
        return ""


def file_digests(path: Path, names: Mapping[str, str]) -> Digests:
    """The checksums of a whole file on disk."""
    digests = Digests(names, path.stat().st_size)
    digests.add_file(path)
    return digests
