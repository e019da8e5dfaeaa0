"""Loading and checking of `st:` specs, from the hub or a folder.

A hub id is downloaded first, and then read as a folder, so that what was checked is what is read. Where weights are
missing, transformers would only warn and use random ones; such files are refused here. Code that a model brings runs
only if its spec says so (`hf_remote`).
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from cosmos_core.errors import RequestError
from cosmos_core.printable import one_line
from cosmos_core.short_repr import short_repr
from cosmos_eval.models.hf_loading import check_all_loaded, check_finite, find_local_folder, quiet_transformers
from cosmos_eval.models.hf_remote import RUNS_CODE, check_remote_options, fetch_code, hash_code, is_trusted
from cosmos_eval.models.hub import NOT_FETCHED, offline_hub, quiet_hub
from cosmos_eval.models.returned_values import format_error
from cosmos_eval.models.spec import ModelSpec
from cosmos_eval.models.spec_kinds.st import ST_OPTIONS
from cosmos_eval.models.st import Side, StModel
from cosmos_eval.models.st_files import (
    MODULES,
    NETWORKS,
    SavedModule,
    check_st_folder,
    code_references,
    read_modules,
    read_transformer_settings,
)
from cosmos_eval.models.st_preprocess import make_st_preprocess, without_networks

ORGANISATION = "sentence-transformers"
"""The owner of hub ids without one, as in the library."""
INSTALL = "python -m pip install --no-deps sentence-transformers==6.2.0"
OLDEST = 6, 2
"""The first version of the library that was compared with this adapter."""
NOT_DOWNLOADED = ("onnx/*", "openvino/*", "*.onnx", "*.ot", "*.h5", "*.msgpack", "*.gguf", "*.md", "*.png", "*.jpg")
"""Files of a repository that are not read here: other backends, documentation."""
QUERY_PROMPTS, DOCUMENT_PROMPTS = ("query",), ("document", "passage", "corpus")
"""Names of prompts that the library's `encode_query` and `encode_document` use."""
UNUSED_WEIGHTS = ("lm_head.",)
"""The head of a language model, which an embedder does not read."""


def load_st(spec: ModelSpec, device: str | torch.device = "cpu") -> StModel:
    """Load the model of an `st:` spec. A hub id is downloaded unless it is in the cache; a folder needs no network.

    Raises:
        RequestError: sentence-transformers is missing or too old; no such folder or hub id; files that are missing or
            damaged; a model of texts only; weights that are missing or not finite; no prompt of this name.
    """
    require_library(spec)
    local_folder = find_local_folder(spec, ST_OPTIONS)
    check_remote_options(spec, local_folder)
    _check_revision(spec, local_folder)
    folder = local_folder if local_folder is not None else _download(spec)
    trusted = is_trusted(spec)
    modules = check_st_folder(folder, spec.text, remote=trusted)
    code = hash_code(_find_code(spec, folder, modules)) if trusted else {}
    network = _load_network(spec, folder, modules, trusted)
    check_finite(spec, network)
    _check_modalities(spec, network)
    texts, images = (_choose_side(spec, network, option) for option in ("text-prompt", "image-prompt"))
    preprocess, constants = make_st_preprocess(without_networks(network[0]), spec.text, images.prompt, images.task)
    if images.name and images.prompt and not preprocess.reads_prompt():
        raise RequestError(f"{spec.text}: its images take no prompt; leave ?image-prompt= out")
    return StModel(
        network,
        preprocess,
        constants,
        texts=texts,
        images=images,
        spec=spec.text,
        source=local_folder.resolve().name if local_folder is not None else hub_id(spec),
        code=code,
        device=device,
    )


def require_library(spec: ModelSpec) -> None:
    """RequestError that says how to install sentence-transformers, unless it is there and new enough."""
    try:
        version = metadata.version("sentence-transformers")
    except metadata.PackageNotFoundError:
        raise RequestError(f"{spec.text}: needs the package sentence-transformers; install it: {INSTALL}") from None
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise RequestError(f"{spec.text}: needs sentence-transformers {oldest} or later, not {version}: {INSTALL}")


def hub_id(spec: ModelSpec) -> str:
    """The repository of a spec that names no folder; without an owner it is the library's own."""
    return spec.name if "/" in spec.name else f"{ORGANISATION}/{spec.name}"


def _check_revision(spec: ModelSpec, folder: Path | None) -> None:
    if folder is not None and "revision" in spec.options:
        raise RequestError(f"{spec.text}: a folder has no revisions; leave ?revision= out")


def _download(spec: ModelSpec) -> Path:
    """The folder of a hub id in the cache, downloaded unless it is there."""
    from huggingface_hub import constants, snapshot_download

    try:
        with quiet_hub():
            folder = snapshot_download(
                hub_id(spec),
                revision=spec.revision or None,
                ignore_patterns=list(NOT_DOWNLOADED),
                local_files_only=constants.HF_HUB_OFFLINE,
            )
    except Exception as error:
        raise RequestError(
            f"{spec.text}: not readable from the cache, and the hub cannot be reached for it: {format_error(error)}"
        ) from error
    return Path(folder)


def _find_code(spec: ModelSpec, folder: Path, modules: list[SavedModule]) -> list[Path]:
    """The folders with the code of the model, which is all beside its weights, and say that it will run."""
    references = code_references(modules)
    elsewhere = sorted({reference.split("--")[0] for reference in references if "--" in reference})
    if elsewhere:
        raise RequestError(
            f"{spec.text}: the code is in another repository, {one_line(', '.join(elsewhere), 200)}; copy model and "
            "code into one folder, and correct its auto_map"
        )
    return fetch_code(spec, folder, references)


def _load_network(spec: ModelSpec, folder: Path, modules: list[SavedModule], trusted: bool) -> Any:
    """The model in float32 on the CPU, read from a folder without the network."""
    from sentence_transformers import SentenceTransformer

    options: dict[str, Any] = {"dtype": torch.float32}
    attentions = {
        (settings.get(key) or {}).get("attn_implementation")
        for module in modules if module.class_name in NETWORKS
        for settings in [read_transformer_settings(module.folder)] for key in ("model_args", "model_kwargs")
    }  # fmt: skip
    if attentions - {None, "sdpa", "eager"}:
        options["attn_implementation"] = "sdpa"  # others, such as flash attention, do not exist in float32
    try:
        with quiet_transformers(), _quiet_library(), offline_hub(), _loading_reports() as reports:
            network = SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=trusted,
                model_kwargs=options,
            )
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{spec.text}: not readable from {folder.name}: {format_error(error)}") from error
    for report in reports:
        check_all_loaded(spec, report, UNUSED_WEIGHTS)
    return network


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Silence the library's warnings while it loads: what matters in them is checked here."""
    logger = logging.getLogger("sentence_transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _loading_reports() -> Iterator[list[dict[str, Any]]]:
    """Collect what transformers says about tensors that do not fit, which the library does not pass on."""
    from transformers import PreTrainedModel

    reports: list[dict[str, Any]] = []
    original = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def from_pretrained(cls: Any, *args: Any, **options: Any) -> Any:
        reported = {"output_loading_info": True, "ignore_mismatched_sizes": True}
        network, report = original(cls, *args, **options | reported)
        reports.append(report)
        return network

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)  # type: ignore[assignment]
    try:
        yield reports
    finally:
        PreTrainedModel.from_pretrained = classmethod(original)  # type: ignore[assignment]


def _check_modalities(spec: ModelSpec, network: Any) -> None:
    """RequestError unless the model embeds images and texts."""
    missing = [name for name in ("image", "text") if not network.supports(name)]
    if missing:
        takes = ", ".join(name if isinstance(name, str) else "+".join(name) for name in network.modalities)
        raise RequestError(
            f"{spec.text}: it embeds no {missing[0]}s, only {takes}; st: needs a model of images and texts"
        )


def _choose_side(spec: ModelSpec, network: Any, option: str) -> Side:
    """The prompt of one side.

    Raises:
        RequestError: the model has no prompt of this name, or its images take none.
    """
    name = spec.options.get(option, "")
    if not name:
        default = network.default_prompt_name
        return Side("", network.prompts.get(default) if default is not None else None, None)
    task = "query" if name in QUERY_PROMPTS else "document" if name in DOCUMENT_PROMPTS else None
    if name not in network.prompts:
        known = ", ".join(sorted(network.prompts))
        raise RequestError(f"{spec.text}: has no prompt {short_repr(name)}; it has {one_line(known, 200) or 'none'}")
    return Side(name, network.prompts[name], task)


def check_st(spec: ModelSpec, fetch: bool = False) -> str:
    """Check an `st:` spec without reading its weights: see `cosmos_eval.models.preflight`."""
    require_library(spec)
    folder = find_local_folder(spec, ST_OPTIONS)
    check_remote_options(spec, folder)
    _check_revision(spec, folder)
    note = RUNS_CODE if is_trusted(spec) else ""
    if folder is None:
        folder = _find_cached(spec)
        if folder is None and not fetch:
            return NOT_FETCHED
        if folder is None:
            read_modules(_download_lists(spec), spec.text)
            return note
    check_st_folder(folder, spec.text, check=False, remote=is_trusted(spec))
    return note


def _find_cached(spec: ModelSpec) -> Path | None:
    """The folder of a hub id in the local cache, None if it is not whole there; does not use the network."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub_id(spec), MODULES, revision=spec.revision or None)
    if not isinstance(path, str):
        return None
    folder = Path(path).parent
    try:
        modules = read_modules(folder, spec.text)
    except RequestError:
        return None
    networks = [module.folder for module in modules if module.class_name in NETWORKS]
    is_whole = all(any(path.suffix in (".safetensors", ".bin") for path in home.glob("*")) for home in networks)
    return folder if is_whole else None


def _download_lists(spec: ModelSpec) -> Path:
    """Download the list of modules of a hub id, which shows that the rest can be downloaded; returns its folder."""
    from huggingface_hub import hf_hub_download

    try:
        with quiet_hub():
            return Path(hf_hub_download(hub_id(spec), MODULES, revision=spec.revision or None)).parent
    except Exception as error:
        raise RequestError(
            f"{spec.text}: not readable from the cache, and the hub cannot be reached for it: {format_error(error)}"
        ) from error
