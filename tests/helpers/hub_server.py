"""A hub of one repository, of a dataset or a model, on 127.0.0.1: the answers for huggingface_hub and our downloads."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.helpers.file_server import FileServer, Handler, Request, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """A `FileServer` that answers as a hub does; `files` are those of `repository`, at each of `commits`."""

    server: FileServer
    repository: str = "somebody/wds_tiny"
    commits: list[str] = field(default_factory=lambda: [COMMIT])
    """Newest first."""
    token: str | None = None
    """What a gated repository asks for."""
    large: int = 1000
    """Files of this many bytes or more are LFS files: they have a SHA-256, and are served from another path."""
    broken: bool = False
    """Whether every request ends in an error of the server."""
    kind: str = "datasets"
    """Or `models`, whose files have addresses without that word."""

    def put(self, path: str, content: bytes) -> None:
        self.server.files[f"content/{path}"] = content

    @property
    def files(self) -> dict[str, bytes]:
        prefix = "content/"
        return {path.removeprefix(prefix): body for path, body in self.server.files.items() if path.startswith(prefix)}

    def answer(self, request: Request, handler: Handler) -> bool:
        path = request.path
        if path.startswith("content/"):
            return False
        if self.broken:
            handler.answer(500, b"{}")
        elif self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
            handler.answer(401, b"{}", gated)
        elif path.startswith(api := f"api/{self.kind}/{self.repository}"):
            self._answer_api(path.removeprefix(api), handler)
        elif path.startswith(prefix := f"{'' if self.kind == 'models' else self.kind + '/'}{self.repository}/resolve/"):
            commit, _, name = path.removeprefix(prefix).partition("/")
            self._answer_file(commit, name, handler)
        else:
            handler.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        return True

    def _answer_api(self, question: str, handler: Handler) -> None:
        kind, _, rest = question.strip("/").partition("/")
        revision = unquote(urlsplit(rest).path)
        known = revision in ("", "main", *self.commits)
        if not known:
            handler.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif kind in ("", "revision"):
            sha = self.commits[0] if revision in ("", "main") else revision
            siblings = [{"rfilename": path} for path in sorted(self.files)]
            handler.answer(200, json.dumps({"id": self.repository, "sha": sha, "siblings": siblings}).encode())
        elif kind == "commits":
            commits = [
                {"id": commit, "title": "", "message": "", "date": "2024-01-01T00:00:00.000Z", "authors": []}
                for commit in self.commits
            ]
            handler.answer(200, json.dumps(commits).encode())
        elif kind == "tree":
            handler.answer(200, json.dumps([self._entry(*item) for item in sorted(self.files.items())]).encode())
        else:
            handler.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _entry(self, path: str, content: bytes) -> dict[str, object]:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": blob}
        if len(content) >= self.large:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
        return entry

    def _answer_file(self, commit: str, name: str, handler: Handler) -> None:
        commit = self.commits[0] if commit == "main" else commit
        if commit not in self.commits or name not in self.files:
            handler.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content, headers = self.files[name], {"X-Repo-Commit": commit}
        if handler.command == "HEAD":  # huggingface_hub's own downloads ask first what a file is
            handler.answer(200, content, {**headers, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'})
        else:  # as the hub does: content lies elsewhere
            handler.answer(302, b"", {**headers, "Location": f"/content/{name}"})


@contextmanager
def serving_hub(files: dict[str, bytes], port: int = 0) -> Iterator[HubServer]:
    """A hub with one repository of these files while the block runs; its address is `hub.server.address`."""
    with serving(port=port) as server:
        hub = HubServer(server)
        for path, content in files.items():
            hub.put(path, content)
        server.faults = hub.answer
        yield hub
