"""`open_clip:hf-hub:ORG/NAME`: a repository of the Hugging Face hub in the layout of open_clip's push_to_hf_hub.

Its configuration, tokenizer and one file of weights are downloaded to the cache of huggingface_hub, all of one commit,
and then read as a folder: nothing in them is executed. `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they
mean to huggingface_hub. Where the hub cannot be asked, a copy in the cache is used.
"""

from collections.abc import Sequence
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.printable import one_line
from cosmos_eval.models.hub import offline_hub, quiet_hub
from cosmos_eval.models.open_clip_folder import CONFIG, SUFFIXES, WEIGHTS
from cosmos_eval.models.returned_values import format_error
from cosmos_eval.models.spec import HF_HUB, ModelSpec
from cosmos_eval.models.tokenizer_checks import FILE_SETS

TOKENIZER_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",  # names the class of a tokenizer if tokenizer_config.json does not, and describes a text tower
    *dict.fromkeys(name for names in FILE_SETS for name in names),
)
MAIN = "main"
"""The revision that a spec without `?revision=` means."""


def fetch_repository(spec: ModelSpec, online: bool = True) -> Path:
    """The folder in the cache with configuration, tokenizer and weights of a repository at one commit.

    Args:
        online: whether files that are not in the cache may be downloaded.

    Raises:
        RequestError: no such repository or revision, a gated one without access, one that is not in open_clip's layout,
            or a download that fails; one line.
    """
    if online:
        with quiet_hub() as is_online:
            if is_online:
                return _download(spec)
    folder = find_cached(spec.rest, spec.revision, [CONFIG])
    if folder is None or not has_weights(folder):
        raise RequestError(
            f"{spec.text}: {spec.rest} is not in the cache, and the hub cannot be reached; fetch it on a connected "
            f"machine with: hf download {spec.rest}{_revision_option(spec)} --local-dir DIR, and copy it: "
            "open_clip:local-dir:DIR"
        )
    return folder


def has_weights(folder: Path) -> bool:
    """Whether a folder has a file of weights of one of the names that open_clip looks for, or only one such file."""
    return select_weights([path.name for path in folder.iterdir()]) is not None


def _download(spec: ModelSpec) -> Path:
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        info = hub.model_info(spec.rest, revision=spec.revision or None)
        names = [sibling.rfilename for sibling in info.siblings or ()]
    except Exception as error:
        raise RequestError(f"{spec.text}: {explain_hub_error(error, spec.rest, spec.revision)}") from error
    if CONFIG not in names:
        hint = f": write hf:{spec.rest}" if "config.json" in names else ""
        layout = "in transformers' layout" if hint else "not in open_clip's layout"
        raise RequestError(f"{spec.text}: {spec.rest} has no {CONFIG}; it is {layout}{hint}")
    weights = select_weights(names)
    if weights is None:
        found = ", ".join(one_line(name, 60) for name in names if name.endswith(SUFFIXES)) or "none"
        raise RequestError(
            f"{spec.text}: {spec.rest} has no {WEIGHTS[0]} or {WEIGHTS[2]}; its files of weights: {found}"
        )
    try:
        # By its name, so that the cache knows the commit of the branch or tag; the others are of that same commit.
        folder = Path(hub.hf_hub_download(spec.rest, CONFIG, revision=spec.revision or MAIN)).parent
        for name in [*(name for name in TOKENIZER_FILES if name in names), weights]:
            hub.hf_hub_download(spec.rest, name, revision=folder.name)
    except Exception as error:
        raise RequestError(f"{spec.text}: {explain_hub_error(error, spec.rest, spec.revision)}") from error
    return folder


def fetch_tokenizer(spec: ModelSpec, repository: str, online: bool = True) -> Path:
    """The folder in the cache with the tokenizer of another repository, which a configuration names.

    Raises:
        RequestError: as `fetch_repository`.
    """
    from huggingface_hub import HfApi

    if online:
        with quiet_hub() as is_online:
            if is_online:
                hub = HfApi()
                try:
                    info = hub.model_info(repository)
                    names = [sibling.rfilename for sibling in info.siblings or ()]
                    wanted = [name for name in TOKENIZER_FILES if name in names]
                    paths = [Path(hub.hf_hub_download(repository, name, revision=MAIN)) for name in wanted]
                except Exception as error:
                    reason = explain_hub_error(error, repository, "")
                    raise RequestError(f"{spec.text}: its tokenizer {repository}: {reason}") from error
                if paths:
                    return paths[0].parent
                raise RequestError(f"{spec.text}: {repository}, which its configuration names, has no tokenizer")
    folder = find_cached_tokenizer(repository)
    if folder is not None:
        return folder
    raise RequestError(
        f"{spec.text}: its tokenizer {repository} is not in the cache, and the hub cannot be reached; fetch it on a "
        f"connected machine with: hf download {repository}, and copy the cache (HF_HOME)"
    )


def find_cached_tokenizer(repository: str) -> Path | None:
    """The folder in the cache with a repository's tokenizer, None if it is not there."""
    folders = (find_cached(repository, "", names) for names in FILE_SETS)
    return next((folder for folder in folders if folder is not None), None)


def find_cached(repository: str, revision: str, names: Sequence[str]) -> Path | None:
    """The folder in the cache that has these files of a repository, None if one of them is missing."""
    from huggingface_hub import try_to_load_from_cache

    try:
        with offline_hub():
            paths = [try_to_load_from_cache(repository, name, revision=revision or MAIN) for name in names]
    except ValueError:  # not a valid id of a repository
        return None
    return Path(paths[0]).parent if all(isinstance(path, str) for path in paths) else None  # type: ignore[arg-type]


def select_weights(names: Sequence[str]) -> str | None:
    """The file of weights that open_clip would take of these, None if there is none or only a guess."""
    preferred = next((name for name in WEIGHTS if name in names), None)
    others = [name for name in names if name.endswith(SUFFIXES) and "/" not in name]
    return preferred or (others[0] if len(others) == 1 else None)


def explain_hub_error(error: Exception, repository: str, revision: str) -> str:
    """What went wrong in a request to the hub, and what to do, in one line."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated: accept its terms at its page on the hub, and set HF_TOKEN to a token of the same "
            "account"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision or MAIN}; give a branch, tag or commit of it"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no repository {repository}, or it is private; check the name, or set HF_TOKEN"
    return f"{repository} cannot be fetched: {format_error(error)}; run again, or give a copy: open_clip:local-dir:DIR"


def _revision_option(spec: ModelSpec) -> str:
    return f" --revision {spec.revision}" if spec.revision else ""


def describe_source(spec: ModelSpec, folder: Path) -> str:
    """What a result records as the source of the weights: the repository and the commit."""
    return f"{spec.rest} at {folder.name[:12]}" if spec.name == HF_HUB else spec.rest
