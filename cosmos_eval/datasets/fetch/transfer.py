"""One file over http(s): resumed after a kill, checked before it has its name, and never more than was asked for.

`requests` speaks HTTP (proxies, TLS, pooled connections). What neither it nor `pooch` nor huggingface_hub does is here:
going on where a killed process stopped (Range with If-Range), and looking at each redirect before it is followed (see
addresses.py). What a server sends is stored as it is: `Content-Encoding` is not undone, since checksums are of files
as published.
"""

import errno
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_eval.datasets.fetch.addresses import is_same_host, next_address, shown
from cosmos_eval.datasets.fetch.digesting import Digests, file_digests
from cosmos_eval.datasets.fetch.errors import FetchError, Kind
from cosmos_eval.datasets.fetch.partial import Partial, Validator

if TYPE_CHECKING:
    from requests import Response, Session

TERABYTE = 10**12
MAX_REDIRECTS = 10
SPARE_BYTES = 200 * 10**6
"""Room that is left on the disk beside the file: a full disk breaks whatever else is at work."""
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class Network:
    """How patient a download is.

    A download that gets nowhere is tried `retries` times again, `backoff` seconds after the first failure, twice as
    long after each further one, at most `longest_wait`. Every byte that arrives makes the count begin anew: a line that
    drops every hundred megabytes still brings 39 GB, as long as each connection brings some of it.
    """

    timeout: float = 30.0
    """Seconds to wait for a connection, and for each piece of the content."""
    retries: int = 5
    backoff: float = 1.0
    longest_wait: float = 60.0
    chunk: int = 1 << 20
    """Bytes that are written at once: at most so many are lost by a kill."""
    max_bytes: int = TERABYTE
    """Most bytes of a file whose size is not known beforehand."""
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Remote:
    """A file to fetch."""

    url: str
    size: int | None = None
    """Bytes, where the publisher or our table says; a file of another size is refused."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Name of an algorithm (see digesting.py) -> hexadecimal digest."""
    token: str | None = None
    """Sent as `Authorization: Bearer` to the host of `url` and to no other."""


@dataclass(frozen=True)
class Fetched:
    """A file that was fetched."""

    path: Path
    size: int
    sha256: str
    url: str
    received: int
    """Bytes that came over the network in this call; 0 where the file was there."""


def download(
    remote: Remote, path: Path, advance: Callable[[int], None] = lambda n: None, network: Network | None = None
) -> Fetched:
    """Fetch a file to `path`, which is written whole or not at all.

    What an earlier call left unfinished is continued if the server still has the same file. A file that is there
    already is kept if its size and checksums are as expected.

    Args:
        advance: called with the number of bytes that were just received or found.

    Raises:
        FetchError: see its `kind`. What was received stays beside `path` (`.part`) for the next call, unless it is
            wrong.
    """
    network = network or Network()
    there = find_whole_file(remote, path)
    partial = Partial(path, remote.url)
    if there is not None:
        partial.record.unlink(missing_ok=True)  # of a process that was killed after it had renamed the file
        advance(there.size)
        return there
    try:
        with partial.locked() as held:
            if not held:
                raise FetchError(
                    "in-use", f"{shown(remote.url)} is being fetched to {path} by another process; wait for it"
                )
            return _Download(remote, path, partial, advance, network).run()
    except OSError as error:
        raise _disk_error(path, error) from error


def ask_validator(remote: Remote, network: Network | None = None) -> Validator:
    """Ask a server which version of a file it has, without receiving it; one request.

    Returns:
        What it says; an empty `Validator` if it does not answer as it should: a download then says why.
    """
    from requests import Session

    path = Path("not-written")
    download_of_nothing = _Download(remote, path, Partial(path, remote.url), lambda n: None, network or Network())
    try:
        with Session() as session, download_of_nothing._request(session, 0, Validator()) as response:
            length = response.headers.get("Content-Length", "")
            return Validator.of(response.headers, int(length) if length.isdigit() else None)
    except (FetchError, _Interrupted):
        return Validator()


def find_whole_file(remote: Remote, path: Path) -> Fetched | None:
    """The file under its final name, if it has the expected size and checksums, as far as there are any."""
    if not path.is_file() or (remote.size is not None and path.stat().st_size != remote.size):
        return None
    digests = file_digests(path, remote.checksums)
    if digests.difference(remote.checksums):
        return None
    return Fetched(path, path.stat().st_size, digests.sha256, remote.url, 0)


class _Download:
    """One call of `download`: requests until the file is whole, or patience is at its end."""

    def __init__(
        self, remote: Remote, path: Path, partial: Partial, advance: Callable[[int], None], network: Network
    ) -> None:
        self.remote, self.path, self.partial, self.advance, self.network = remote, path, partial, advance, network
        self.received = 0
        self.shown_bytes = 0
        """What `advance` was told: bytes that are fetched twice must not count twice."""
        self.name = shown(remote.url)

    def run(self) -> Fetched:
        from requests import Session

        with Session() as session:
            failures, restarts = 0, 0
            while True:
                before = self.received
                try:
                    digests = self._receive(session)
                except _Interrupted as error:
                    failures = 1 if self.received > before else failures + 1
                    if failures > self.network.retries:
                        raise FetchError(error.kind, f"{self.name}: {error}; try again later") from error
                    self.network.sleep(self._wait_before(failures, error.retry_after))
                    continue
                wrong = digests.difference(self.remote.checksums)
                if not wrong:
                    return self._finish(digests)
                self.partial.clear()
                # bytes of an earlier call may be of another version of the file: once more, from nothing
                if restarts or self.received == self.shown_bytes:
                    raise FetchError("checksum", f"{self.name} is not the file that is expected: {wrong}")
                restarts += 1

    def _receive(self, session: "Session") -> Digests:
        """One request: append what comes to the partial file until it is whole; its checksums."""
        offset, validator = self.partial.read()
        if offset and offset == validator.size:  # killed before the file got its name
            self._refuse_wrong_size(offset)
            digests = Digests(self.remote.checksums, offset)
            digests.add_file(self.partial.content)
            self._advance_to(offset)
            return digests
        if offset and not validator.if_range and not self.remote.checksums:
            offset = 0  # nothing would tell whether the rest is of the same file
        response = self._request(session, offset, validator)
        with response:
            offset, total = self._place_in_file(response, offset, validator)
            self._refuse_wrong_size(total)
            digests = Digests(self.remote.checksums, total)
            if offset:
                digests.add_file(self.partial.content)
            else:
                self.partial.begin(Validator.of(response.headers, total))
            self._advance_to(offset)
            if total is not None:
                self._require_room(total - offset)
            size = self._append(response, offset, total, digests)
        if total is not None and size < total:
            raise _Interrupted("connection", f"the connection ended after {size:,} of {total:,} bytes")
        if self.remote.size is not None and size != self.remote.size:
            self.partial.clear()
            raise FetchError("size", f"{self.name} has {size:,} bytes, expected {self.remote.size:,}")
        return digests

    def _append(self, response: "Response", offset: int, total: int | None, digests: Digests) -> int:
        """Write the body behind the first `offset` bytes; the size of the partial file afterwards."""
        from urllib3.exceptions import HTTPError

        size, limit = offset, total if total is not None else self.network.max_bytes
        with self.partial.content.open("r+b", buffering=0) as stream:
            stream.truncate(offset)
            stream.seek(offset)
            try:
                # read1 gives what has arrived, so that a kill loses no more than is on its way
                while content := response.raw.read1(self.network.chunk, decode_content=False):
                    if size + len(content) > limit:
                        self.partial.clear()
                        raise FetchError("size", f"{self.name} has more than the {limit:,} bytes that were announced")
                    _write_all(stream, content)
                    digests.update(content)
                    size += len(content)
                    self.received += len(content)
                    self._advance_to(size)
            except (HTTPError, TimeoutError, ConnectionError) as error:
                raise _Interrupted(
                    "connection", f"the connection broke after {size:,} bytes ({_brief(error)})"
                ) from error
        return size

    def _request(self, session: "Session", offset: int, validator: Validator) -> "Response":
        """Ask for the bytes from `offset` on, following redirects that are allowed; an answer of 200 or 206."""
        from requests import RequestException

        url, headers = self.remote.url, {"Accept-Encoding": "identity", "User-Agent": "cosmos-eval"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if validator.if_range:
                headers["If-Range"] = validator.if_range
        for _ in range(MAX_REDIRECTS + 1):
            sent = dict(headers)
            if self.remote.token and is_same_host(url, self.remote.url):
                sent["Authorization"] = f"Bearer {self.remote.token}"
            try:
                response = session.get(
                    url,
                    headers=sent,
                    stream=True,
                    allow_redirects=False,
                    timeout=self.network.timeout,
                    auth=lambda request: request,  # else a password of ~/.netrc would be sent along
                )
            except RequestException as error:
                raise _Interrupted("connection", f"no answer ({_brief(error)})") from error
            except ValueError as error:  # requests prepares a redirect even where it is not to follow it
                raise FetchError("redirect", f"{shown(url)} redirects to an unreadable address: {error}") from error
            if response.status_code in (301, 302, 303, 307, 308):
                response.close()
                url = next_address(url, response.headers.get("Location", ""))
                continue
            self._refuse_status(response, offset)
            return response
        raise FetchError("redirect", f"{self.name} redirects more than {MAX_REDIRECTS} times; take another source")

    def _refuse_status(self, response: "Response", offset: int) -> None:
        status, reason = response.status_code, response.reason
        if status == 200 or (status == 206 and offset):
            return
        response.close()
        if status == 416 and offset:  # the file is shorter now than what we have of it
            self.partial.clear()
            raise _Interrupted("connection", "the server no longer has the bytes that were asked for")
        if status in (401, 403, 407):
            raise FetchError("gated", f"{self.name} may not be read ({status} {reason})")
        if status in (404, 410):
            raise FetchError("not-found", f"{self.name} is not there ({status} {reason})")
        if status == 429 or status == 408 or status >= 500:
            kind: Kind = "rate-limited" if status == 429 else "connection"
            raise _Interrupted(kind, f"the server answers {status} {reason}", _retry_after(response))
        raise FetchError("http", f"{self.name}: the server answers {status} {reason}")

    def _place_in_file(self, response: "Response", offset: int, validator: Validator) -> tuple[int, int | None]:
        """Where in the file the body of a response begins, and the size of the whole file, where the server says it."""
        length = response.headers.get("Content-Length", "")
        if response.status_code == 200:
            return 0, int(length) if length.isdigit() else None
        match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset:
            self.partial.clear()
            raise _Interrupted("connection", "the server sent other bytes than were asked for")
        total = int(match[3]) if match[3] != "*" else None
        if validator.size is not None and total is not None and total != validator.size:
            self.partial.clear()
            raise _Interrupted("connection", "the file changed on the server")
        return offset, total

    def _refuse_wrong_size(self, total: int | None) -> None:
        if total is None:
            return
        if self.remote.size is not None and total != self.remote.size:
            self.partial.clear()
            raise FetchError("size", f"{self.name} has {total:,} bytes, expected {self.remote.size:,}")
        if total > self.network.max_bytes:
            raise FetchError("size", f"{self.name} has {total:,} bytes, more than {self.network.max_bytes:,}")

    def _require_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if needed + SPARE_BYTES > free:
            raise FetchError(
                "disk",
                f"{self.path.parent} has {free / 1e9:.1f} GB free, and {self.name} needs {needed / 1e9:.1f} GB and "
                f"{SPARE_BYTES / 1e9:.1f} GB to spare; make room, or give another --data-root",
            )

    def _finish(self, digests: Digests) -> Fetched:
        size = self.partial.content.stat().st_size
        self.partial.content.replace(self.path)
        self.partial.record.unlink(missing_ok=True)
        return Fetched(self.path, size, digests.sha256, self.remote.url, self.received)

    def _advance_to(self, size: int) -> None:
        if size > self.shown_bytes:
            self.advance(size - self.shown_bytes)
            self.shown_bytes = size

    def _wait_before(self, failures: int, retry_after: float | None) -> float:
        wait = self.network.backoff * 2 ** (failures - 1) if retry_after is None else retry_after
        return min(max(wait, 0.0), self.network.longest_wait)


class _Interrupted(Exception):
    """An attempt that failed in a way that may pass."""

    def __init__(self, kind: Kind, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.retry_after = kind, retry_after


def _write_all(stream: object, content: bytes) -> None:
    """Write to an unbuffered file, which may take only a part at a time."""
    view = memoryview(content)
    while view:
        view = view[stream.write(view) :]  # type: ignore[attr-defined]


def _retry_after(response: "Response") -> float | None:
    """Seconds that the server asks to wait: a number or a date."""
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value[:9])
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None


def _disk_error(path: Path, error: OSError) -> FetchError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchError("disk", f"no room is left for {path}; make room, what was received is kept and continued")
    return FetchError("disk", f"cannot write {path}: {error.strerror or error}; give another --data-root")


def _brief(error: BaseException) -> str:
    """The innermost reason of an error of requests or urllib3, which wrap each other, in a few words."""
    inner: BaseException | None = error
    while inner is not None:
        error, inner = inner, inner.__cause__ or inner.__context__
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text[:100] or type(error).__name__
