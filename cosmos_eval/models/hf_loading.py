"""Loading and checking of `hf:` specs, from the hub or a folder.

Where weights are missing, transformers would only warn and use random ones; such files are refused here. Code that a
model brings runs only if its spec says so (`hf_remote`).
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_eval.models.hf import HfModel, QueryModel
from cosmos_eval.models.hf_families import Family, class_name, family_of
from cosmos_eval.models.hf_files import check_folder, check_weights, has_all_files
from cosmos_eval.models.hf_matching import ITM, check_scorer, matching_class
from cosmos_eval.models.hf_preprocess import ProcessorPreprocess, make_preprocess
from cosmos_eval.models.hf_remote import (
    CODE_REVISION,
    RUNS_CODE,
    check_remote_options,
    fetch_code,
    hash_code,
    is_trusted,
    remote_advice,
    remote_family,
)
from cosmos_eval.models.hf_tokenizer import load_tokenizer
from cosmos_eval.models.hub import NOT_FETCHED, quiet_hub
from cosmos_eval.models.returned_values import format_error
from cosmos_eval.models.spec import ModelSpec
from cosmos_eval.models.spec_kinds.hf import HF_OPTIONS


def load_hf(spec: ModelSpec, device: str | torch.device = "cpu") -> HfModel:
    """Load the model of an `hf:` spec. A hub id is downloaded unless it is in the cache; a folder needs no network.

    Raises:
        RequestError: no such folder or hub id; a model of another family; files that are missing, damaged or Git LFS
            pointers; weights that are missing, left over or not finite; the tokenizer of another model; an image
            processor for another image size.
    """
    from transformers import AutoImageProcessor

    folder = find_local_folder(spec)
    check_remote_options(spec, folder)
    trusted = is_trusted(spec)
    if folder is not None:
        check_folder(folder, spec.text, remote=trusted)
    code = hash_code(fetch_code(spec, folder)) if trusted else {}
    name = str(folder) if folder is not None else spec.name
    options = _loading_options(spec, folder)
    backend = "torchvision" if spec.options.get("processor") == "fast" else "pil"
    try:
        with quiet_transformers(), nullcontext() if folder is not None else quiet_hub():
            network, family, loading_info = _load_network(spec, name, options)
            processor = AutoImageProcessor.from_pretrained(name, backend=backend, **options)
            tokenizer, clean = load_tokenizer(name, family, network.config, spec.text, options)
    except RequestError:
        raise
    except Exception as error:
        where = "the folder" if folder is not None else "the cache, and the hub cannot be reached for it"
        raise RequestError(f"{spec.text}: not readable from {where}: {format_error(error)}") from error
    cached_folder = find_cached_folder(spec) if folder is None else None
    if cached_folder is not None:
        check_weights(cached_folder, spec.text)
    check_all_loaded(spec, loading_info, family.unused_weights)
    check_finite(spec, network)
    preprocess, image_size = _make_preprocess(spec, family, network.config, processor, backend)
    adapter: Any = QueryModel if family.max_over_queries else HfModel
    if spec.options.get("scorer") == ITM:
        adapter = matching_class(adapter)
    model: HfModel = adapter(
        family,
        network,
        tokenizer,
        preprocess,
        clean=clean,
        image_size=image_size,
        spec=spec.text,
        source=folder.resolve().name if folder is not None else spec.name,
        code=code,
        device=device,
    )
    return model


def _loading_options(spec: ModelSpec, folder: Path | None) -> dict[str, Any]:
    """The options of every `from_pretrained` for a spec.

    Raises:
        RequestError: a revision of a folder.
    """
    trusted = is_trusted(spec)
    options: dict[str, Any] = {"local_files_only": folder is not None, "trust_remote_code": trusted}
    if "revision" in spec.options:
        if folder is not None:
            raise RequestError(f"{spec.text}: a folder has no revisions; leave ?revision= out")
        options["revision"] = spec.options["revision"]
    if CODE_REVISION in spec.options:
        options["code_revision"] = spec.options[CODE_REVISION]
    return options


def _load_network(spec: ModelSpec, name: str, options: dict[str, Any]) -> tuple[Any, Family, dict[str, Any]]:
    """The network in float32, its family, and what transformers says about tensors that do not fit."""
    import transformers

    trusted = is_trusted(spec)
    config = transformers.AutoConfig.from_pretrained(name, **options)
    family = None if trusted else family_of(config, spec.text, remote_advice(vars(config)))
    network_class: Any = transformers.AutoModel
    if family is not None:
        network_class = getattr(transformers, class_name(family, config.architectures) or "")
    network, loading_info = network_class.from_pretrained(
        name,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # `check_all_loaded` names the tensors, which the library's error does not
        **options,
    )
    return network, family or remote_family(config, network, spec.text), loading_info


def _make_preprocess(
    spec: ModelSpec, family: Family, config: Any, processor: Any, backend: str
) -> tuple[ProcessorPreprocess, int | str]:
    """The preprocessing, and the side of the images that it makes, or how it cuts them into patches.

    Raises:
        RequestError: the processor makes other images than the network takes, or there are no patches to choose.
    """
    if "max-num-patches" in spec.options:
        if not family.patches:
            raise RequestError(f"{spec.text}: {family.title} takes images of one size; leave max-num-patches out")
        processor.max_num_patches = int(spec.options["max-num-patches"])
    return make_preprocess(processor, family, config, spec.text, backend)


def check_hf(spec: ModelSpec, fetch: bool = False) -> str:
    """Check an `hf:` spec without reading its weights: see `cosmos_eval.models.preflight`."""
    folder = find_local_folder(spec)
    check_remote_options(spec, folder)
    if is_trusted(spec):  # whether it can be loaded is known once its code has run
        if folder is not None:
            check_folder(folder, spec.text, check=False, remote=True)
        return RUNS_CODE
    if folder is None:
        cached_folder = find_cached_folder(spec)
        folder = cached_folder if cached_folder is not None and has_all_files(cached_folder) else None
    if folder is not None:
        _check_local(spec, folder)
        return ""
    if not fetch:
        return NOT_FETCHED
    _check_on_hub(spec)
    return ""


def _check_local(spec: ModelSpec, folder: Path) -> None:
    """Check the files of a folder, or of a hub id in the cache, with nothing downloaded."""
    check_folder(folder, spec.text, check=False)
    from transformers import AutoConfig

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, **options)
            check_scorer(spec, config)
            load_tokenizer(str(folder), family_of(config, spec.text), config, spec.text, options)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{spec.text}: not readable from the folder: {format_error(error)}") from error


def _check_on_hub(spec: ModelSpec) -> None:
    """Download the configuration of a hub id, which shows that the rest can be downloaded, and check its family."""
    from transformers import AutoConfig

    try:
        with quiet_hub():
            config = AutoConfig.from_pretrained(spec.name, **_loading_options(spec, None))
    except Exception as error:
        raise RequestError(
            f"{spec.text}: not readable from the cache, and the hub cannot be reached for it: {format_error(error)}"
        ) from error
    family_of(config, spec.text, remote_advice(vars(config)))
    check_scorer(spec, config)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' warnings and bars while it loads: what matters in them is checked here."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # the command line has its own
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def find_local_folder(spec: ModelSpec, options: Iterable[str] = HF_OPTIONS) -> Path | None:
    """The folder that a spec names, None for a hub id; RequestError if it can be neither.

    Args:
        options: those of this kind of spec, for the message.
    """
    folder = user_path(spec.name)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise RequestError(
            f"{spec.text}: {spec.name} is a file; {spec.kind}: takes the folder that holds it, as save_pretrained "
            "writes it"
        )
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", spec.name):
        raise RequestError(
            f"{spec.text}: there is no folder {spec.name}; give a folder that save_pretrained wrote, or a hub id, and "
            f"after it options as ?{'=...&'.join(options)}=..."
        )
    return None


def find_cached_folder(spec: ModelSpec) -> Path | None:
    """The folder of a hub id and its revision in the local cache, None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(spec.name, "config.json", revision=spec.options.get("revision"))
    except ValueError:  # not a valid hub id
        return None
    return Path(config).parent if isinstance(config, str) else None


def check_all_loaded(spec: ModelSpec, loading_info: dict[str, Any], unused: tuple[str, ...]) -> None:
    """RequestError if the weights file and the network differ in their tensors; transformers only warns of that.

    Args:
        unused: prefixes of tensors that the file may have beyond the network's.
    """
    for kind, problem in (
        ("missing_keys", "lacks {} of the model's tensors"),
        ("unexpected_keys", "has {} tensors that the model does not have"),
        ("mismatched_keys", "has {} tensors of other shapes than the model's"),
    ):
        # Old files hold position_ids, a buffer that newer versions compute.
        named = (key[0] if isinstance(key, tuple) else key for key in loading_info.get(kind, ()))  # or with its shapes
        keys = sorted(str(key) for key in named if not str(key).endswith("position_ids"))
        keys = [key for key in keys if kind != "unexpected_keys" or not key.startswith(unused)]
        if keys:
            raise RequestError(
                f"{spec.text}: the weights file {problem.format(len(keys))}: {', '.join(keys[:3])}; "
                "it belongs to another configuration"
            )


def check_finite(spec: ModelSpec, network: Any) -> None:
    """RequestError that names the first parameter with NaN or infinite values."""
    broken = next((key for key, value in network.named_parameters() if not torch.isfinite(value).all()), None)
    if broken:
        raise RequestError(f"{spec.text}: the weights are broken: {broken} holds NaN or infinite values")
