"""A file server on 127.0.0.1 with Range, ETag and every fault that a test asks for."""

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Request:
    """One request as the server saw it."""

    path: str
    start: int | None
    """First byte of its Range, if any."""
    headers: dict[str, str]
    """By their names as `Title-Case`, however the client spells them."""
    sent: int = 0
    """Bytes of its body, as far as the server does not drop the connection."""


@dataclass
class FileServer:
    """Serves `files` by path; `faults` decides what happens to a request before that, or None for nothing."""

    files: dict[str, bytes] = field(default_factory=dict)
    address: str = ""
    requests: list[Request] = field(default_factory=list)
    faults: Callable[["Request", "Handler"], bool] = lambda request, handler: False
    """Called with each request; True says that it has answered (or dropped) the request itself."""
    drop_after: list[int] = field(default_factory=list)
    """Bytes of the body after which the next requests lose their connection, one entry a request."""
    ranges: bool = True
    etags: bool = True
    connections: set[socket.socket] = field(default_factory=set)
    """That are open, or were opened by a client that has ended meanwhile."""
    changed: Condition = field(default_factory=Condition)
    """Of `connections`."""

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"

    def starts(self, path: str) -> list[int]:
        """The first byte that each request for a file asked for."""
        return [request.start or 0 for request in self.requests if request.path == path]

    def sent(self, path: str) -> int:
        return sum(request.sent for request in self.requests if request.path == path)

    def close_connections(self) -> None:
        """End those that clients keep for later: another server may get this port, and would not be asked."""
        with self.changed:
            for connection in self.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def settle(self) -> None:
        """Wait until every request of clients that were killed is in `requests`; no client may have a connection."""
        address = urlsplit(self.address)
        assert address.hostname
        # connections are taken in their order: those before this one are counted when it is answered
        connection = HTTPConnection(address.hostname, address.port, timeout=120)
        connection.request("HEAD", "/settled")
        connection.getresponse().read()
        connection.close()
        with self.changed:
            assert self.changed.wait_for(lambda: not self.connections, timeout=120)
        self.requests[:] = [request for request in self.requests if request.path != "settled"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        served = self.server.served
        path = unquote(urlsplit(self.path).path).lstrip("/")
        value = self.headers.get("Range", "")
        start = int(value.removeprefix("bytes=").rstrip("-")) if value else None
        request = Request(path, start, {name.title(): value for name, value in self.headers.items()})
        served.requests.append(request)
        if served.faults(request, self):
            return
        body = served.files.get(path)
        if body is None:
            self.answer(404, b"no such file")
            return
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        headers = {"ETag": etag} if served.etags else {}
        if start is not None and served.ranges and self.headers.get("If-Range", etag) == etag:
            if start >= len(body):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.answer(206, body[start:], headers, request)
        else:
            self.answer(200, body, headers, request)

    def answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, request: Request | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        drops = self.server.served.drop_after
        end = drops.pop(0) if drops and request is not None else len(body)
        if request is not None:
            request.sent += min(end, len(body))  # counted first: a client that has the body may ask at once
        self.wfile.write(body[:end])
        if end < len(body):
            self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    served: FileServer

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.served.changed:
            self.served.connections.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        super().process_request_thread(request, client_address)
        with self.served.changed:
            self.served.connections.discard(request)
            self.served.changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is part of the tests."""


@contextmanager
def serving(files: dict[str, bytes] | None = None, port: int = 0) -> Iterator[FileServer]:
    """A server of these files (path without a leading slash -> content) while the block runs."""
    served = FileServer(files or {})
    with _Server(("127.0.0.1", port), Handler) as server:
        server.served = served
        served.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
            served.close_connections()
