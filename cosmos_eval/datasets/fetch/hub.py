"""Datasets of the Hugging Face hub: which files a revision has, with sizes and checksums.

huggingface_hub is asked for what it knows (the endpoint, the token, commits and trees). The files themselves go through
`transfer.download` like all others: huggingface_hub 2.4 does not continue a download in another process, checks sizes
only, and, where a folder is there already, returns it with a warning although the repository is missing or gated.

`HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are read when they are needed, and not when something is imported.
"""

import fnmatch
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from cosmos_eval.datasets.fetch.errors import FetchError, Kind
from cosmos_eval.datasets.fetch.transfer import Remote

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DEFAULT_ENDPOINT = "https://huggingface.co"
COMMIT = re.compile(r"[0-9a-f]{40}")
SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")
SECONDS = 20.0
"""For one answer of the hub's API."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class HubFile:
    """A file of a dataset repository at one commit."""

    path: str
    """Below the root of the repository, with slashes."""
    size: int
    checksums: Mapping[str, str]
    """`sha256` of a large file (LFS), `git` (SHA-1 of the blob) of a small one."""


def endpoint() -> str:
    """The address of the hub, or of the mirror that `HF_ENDPOINT` names."""
    return os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or DEFAULT_ENDPOINT


def require_online() -> None:
    """FetchError where `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) turns downloads from the hub off."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").strip().upper() in ("1", "ON", "YES", "TRUE"):
            raise FetchError("offline", f"{name} is set, so nothing is fetched from the hub; unset it to fetch")


def hub_token() -> str | None:
    """The user's token: `HF_TOKEN`, or what `hf auth login` stored."""
    from huggingface_hub import get_token

    return get_token()


def resolve_revision(repository: str, revision: str | None) -> str:
    """The full commit of a revision of a dataset: 40 hexadecimal digits.

    Args:
        revision: a full commit (returned as it is, without asking), at least 7 digits of one (looked up in the list of
            commits, of which it must fit one), a branch or a tag; None is the newest commit of the main branch.

    Raises:
        FetchError: no such repository or revision, several commits that begin so, or no answer.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    require_online()
    if revision is not None and SHORT_COMMIT.fullmatch(revision):
        commits = _ask(
            repository,
            lambda api: [commit.commit_id for commit in api.list_repo_commits(repository, repo_type="dataset")],
        )
        fitting = sorted({commit for commit in commits if commit.startswith(revision)})
        if len(fitting) != 1:
            found = f"{len(fitting)} commits begin with" if fitting else "no commit begins with"
            raise FetchError("not-found", f"{repository}: {found} {revision}; give all 40 digits")
        return fitting[0]
    info = _ask(repository, lambda api: api.dataset_info(repository, revision=revision, timeout=SECONDS))
    if not info.sha or not COMMIT.fullmatch(info.sha):
        raise FetchError("http", f"{repository}: {endpoint()} names no commit; take another endpoint (HF_ENDPOINT)")
    return str(info.sha)


def list_files(repository: str, revision: str, patterns: Sequence[str] = ("*",)) -> list[HubFile]:
    """The files of a dataset at a commit whose path fits one of the patterns (`test/*`, `classnames.txt`), sorted.

    Raises:
        FetchError: no such repository or commit, nothing that fits one of the patterns, a path that leaves the
            repository, or no answer.
    """
    from huggingface_hub.hf_api import RepoFile

    require_online()
    tree = _ask(
        repository,
        lambda api: list(api.list_repo_tree(repository, recursive=True, revision=revision, repo_type="dataset")),
    )
    files = [_hub_file(repository, entry) for entry in tree if isinstance(entry, RepoFile)]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(file.path, pattern) for file in files):
            raise FetchError("not-found", f"{repository} at {revision[:12]} has no file {pattern}")
    fitting = [file for file in files if any(fnmatch.fnmatchcase(file.path, pattern) for pattern in patterns)]
    return sorted(fitting, key=lambda file: file.path)


def remote_of(repository: str, revision: str, file: HubFile) -> Remote:
    """Where a file is fetched, with what is known of it; `revision` is a full commit."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(repository, file.path, repo_type="dataset", revision=revision, endpoint=endpoint())
    return Remote(url, file.size, file.checksums, hub_token())


def _hub_file(repository: str, entry: "RepoFile") -> HubFile:  # type: ignore[name-defined]  # noqa: F821
    path = PurePosixPath(entry.path)
    # what the hub, or a mirror of it, names becomes a path on this disk
    if path.is_absolute() or ".." in path.parts or "\\" in entry.path or "\0" in entry.path:
        raise FetchError("http", f"{repository} has a file {entry.path!r:.100}, outside the repository; it is refused")
    checksums = {"sha256": entry.lfs.sha256} if entry.lfs is not None else {"git": entry.blob_id}
    return HubFile(entry.path, int(entry.size), {name: value for name, value in checksums.items() if value})


def _ask(repository: str, question: Callable[["HfApi"], Answer]) -> Answer:
    """The hub's answer; everything that can go wrong becomes one line."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub = endpoint()
    try:
        return question(HfApi(endpoint=hub, token=hub_token() or False))
    except GatedRepoError as error:
        raise FetchError("gated", gated_line(repository)) from error
    except RevisionNotFoundError as error:
        raise FetchError("not-found", f"{repository} at {hub} has no such revision") from error
    except RepositoryNotFoundError as error:
        missing = f"{hub} has no dataset {repository}, or it is private and the token (HF_TOKEN) may not read it"
        raise FetchError("not-found", missing) from error
    except HFValidationError as error:
        line = f"{repository!r:.100} cannot be a dataset of the hub: {_first_line(error)}"
        raise FetchError("not-found", line) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        kind: Kind = "rate-limited" if status == 429 else "gated" if status in (401, 403) else "http"
        raise FetchError(kind, f"{hub} answers {status} for {repository}; try again later") from error
    except Exception as error:  # of httpx or requests, depending on the version of huggingface_hub
        raise FetchError("connection", f"no answer from {hub} for {repository} ({_first_line(error)})") from error


def gated_line(repository: str) -> str:
    """What a person does to read a gated dataset."""
    return (
        f"{repository} is gated: accept its terms at {endpoint()}/datasets/{repository} with an account of the hub, "
        "then set HF_TOKEN to a token of that account (or run 'hf auth login') and fetch again"
    )


def _first_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:120]
