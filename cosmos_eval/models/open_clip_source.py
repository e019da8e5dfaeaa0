"""What an `open_clip:` spec names: a tag of the registry, a file, or a folder with open_clip's own configuration."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_eval.models.hub import offline_hub, quiet_hub
from cosmos_eval.models.open_clip_activation import (
    config_of,
    name_with_activation,
    parse_architecture,
    quick_gelu_of_file,
    quick_gelu_of_tag,
)
from cosmos_eval.models.open_clip_compat import (
    download_pretrained,
    get_pretrained_cfg,
    list_architectures,
    list_pretrained_tags_by_model,
    model_config,
)
from cosmos_eval.models.open_clip_files import find_declared_settings, read_open_clip_checkpoint
from cosmos_eval.models.open_clip_folder import CONFIG, OpenClipFolder, read_folder
from cosmos_eval.models.open_clip_hub import (
    describe_source,
    fetch_repository,
    fetch_tokenizer,
    find_cached,
    find_cached_tokenizer,
    has_weights,
)
from cosmos_eval.models.open_clip_text import find_text_config
from cosmos_eval.models.returned_values import format_error
from cosmos_eval.models.spec import HF_HUB, LOCAL_DIR, ModelSpec
from cosmos_eval.models.tokenizer_checks import has_tokenizer

CLIP_PREPROCESSING = {
    "mean": list(open_clip.OPENAI_DATASET_MEAN),
    "std": list(open_clip.OPENAI_DATASET_STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
"""The preprocessing of open_clip's training by default."""


@dataclass(frozen=True)
class OpenClipSource:
    """A network to build, and the weights to load into it."""

    build_name: str
    """What open_clip builds: an architecture, or `local-dir:FOLDER`."""
    arch: str
    """The architecture's name in results and messages."""
    config: dict[str, Any]
    """open_clip's model configuration, with the `quick_gelu` to build."""
    preprocessing: dict[str, Any]
    """open_clip's `preprocess_cfg`."""
    path: Path
    """The file of weights."""
    checkpoint: dict[str, Any]
    """The content of that file, with the weights under `state_dict`."""
    source: str
    """A tag, or the name of a file or folder, without the folders of this machine."""
    activation_source: str
    """What determined the activation: registry tag, file, user or architecture."""
    tokenizer_folder: Path | None = None
    """The folder with the tokenizer's files, if the tokenizer is one of transformers and the model is a folder."""

    @property
    def quick_gelu(self) -> bool:
        return bool(self.config.get("quick_gelu", False))

    @property
    def state_dict(self) -> dict[str, Any]:
        return self.checkpoint["state_dict"]

    @property
    def is_folder(self) -> bool:
        """Whether configuration and tokenizer come from a folder, not from open_clip's registry."""
        return self.build_name.startswith(f"{LOCAL_DIR}:")

    @property
    def folder(self) -> Path:
        """The folder of a source for which `is_folder` is true."""
        return Path(self.build_name.removeprefix(f"{LOCAL_DIR}:"))

    @property
    def build_options(self) -> dict[str, Any]:
        """Changes of the configuration with which open_clip builds the network: see `open_clip_network.build`."""
        options: dict[str, Any] = {"quick_gelu": self.quick_gelu}
        text_folder = find_text_config(self.folder, self.config["text_cfg"]) if self.is_folder else None
        if text_folder is not None:
            text = {"hf_model_name": str(text_folder), "hf_model_pretrained": False}
            options["text_cfg"] = {**self.config["text_cfg"], **text}
        return options


def find_source(spec: ModelSpec, check: bool = True, online: bool = True) -> OpenClipSource:
    """Find and read what a spec names. The weights of a tag are downloaded unless they are in the cache.

    Args:
        check: compare the file with its checksums; see `cosmos_core.tensor_files.read_tensors`.
        online: whether the weights of a tag may be downloaded.

    Raises:
        RequestError: unknown architecture or tag; no such file or folder; a file that is not a checkpoint or would
            execute code; another activation than the spec asks for; a file with nothing that determines the
            activation; a download that fails.
    """
    if spec.name == LOCAL_DIR:
        return folder_source(spec, read_folder(user_path(spec.rest), spec.text), check)
    if spec.name == HF_HUB:
        return repository_source(spec, check, online)
    arch, wants_quick_gelu = parse_architecture(spec)
    tag_config = get_pretrained_cfg(arch, spec.rest)
    if not tag_config:
        return file_source(spec, arch, wants_quick_gelu, check)
    quick_gelu = quick_gelu_of_tag(spec, arch, wants_quick_gelu, tag_config)
    path = Path(fetch_weights(spec, tag_config, online))
    keys = ("mean", "std", "interpolation", "resize_mode", "size")
    return OpenClipSource(
        build_name=arch,
        arch=name_with_activation(arch, quick_gelu),
        config={**config_of(arch), "quick_gelu": quick_gelu},
        preprocessing={key: value for key, value in tag_config.items() if key in keys},
        path=path,
        checkpoint=read_open_clip_checkpoint(path, check),
        source=f"{spec.rest} of open_clip's registry",
        activation_source="registry tag",
    )


def file_source(spec: ModelSpec, arch: str, wants_quick_gelu: bool | None, check: bool) -> OpenClipSource:
    """Read the checkpoint file of a spec `ARCH/PATH`; arguments and errors as `find_source`."""
    path = user_path(spec.rest)
    if not path.exists():
        tags = ", ".join(list_pretrained_tags_by_model(arch)) or "none"
        raise RequestError(f"{spec.text}: {spec.rest!r} is neither a file nor a tag of {arch}; its tags: {tags}")
    if (path / "open_clip_config.json").is_file():
        raise RequestError(f"{spec.text}: {path} is a folder of open_clip; write open_clip:{LOCAL_DIR}:{path}")
    checkpoint = read_open_clip_checkpoint(path, check)
    quick_gelu, activation_source = quick_gelu_of_file(spec, arch, wants_quick_gelu, path, checkpoint)
    return OpenClipSource(
        build_name=arch,
        arch=name_with_activation(arch, quick_gelu),
        config={**config_of(arch), "quick_gelu": quick_gelu},
        preprocessing=preprocessing_of_file(arch, path),
        path=path,
        checkpoint=checkpoint,
        source=path.name,
        activation_source=activation_source,
    )


def repository_source(spec: ModelSpec, check: bool, online: bool) -> OpenClipSource:
    """Fetch and read the repository of a spec `hf-hub:ORG/NAME`; arguments and errors as `find_source`.

    As in open_clip, the tokenizer comes from the repository that the configuration names, which may be another one.
    """
    folder = read_folder(fetch_repository(spec, online), spec.text)
    tokenizer = folder.config["text_cfg"].get("hf_tokenizer_name")
    tokenizer_folder = None
    if names_other_tokenizer(tokenizer, spec, folder.path):
        tokenizer_folder = fetch_tokenizer(spec, tokenizer, online)
    source = folder_source(spec, folder, check)
    return replace(
        source,
        source=describe_source(spec, folder.path),
        tokenizer_folder=tokenizer_folder or source.tokenizer_folder,
    )


def folder_source(spec: ModelSpec, folder: OpenClipFolder, check: bool) -> OpenClipSource:
    """Read the weights of a folder in open_clip's layout; errors as `find_source`."""
    checkpoint = read_open_clip_checkpoint(folder.weights, check)
    folder.check_sizes(checkpoint["state_dict"], spec.text)
    config = {**folder.config, "quick_gelu": bool(folder.config.get("quick_gelu", False))}
    # A registered architecture with the same configuration gives the folder its name.
    registered = {name: model_config(name) or {} for name in list_architectures()}
    equal_archs = [
        name
        for name, registered_config in registered.items()
        if {**registered_config, "quick_gelu": registered_config.get("quick_gelu", False)} == config
    ]
    return OpenClipSource(
        build_name=f"{LOCAL_DIR}:{folder.path}",
        arch=equal_archs[0] if equal_archs else folder.describe_architecture(),
        config=config,
        preprocessing=folder.preprocessing,
        path=folder.weights,
        checkpoint=checkpoint,
        source=folder.path.resolve().name,
        activation_source="file",
        tokenizer_folder=folder.path if folder.config["text_cfg"].get("hf_tokenizer_name") else None,
    )


def is_local(spec: ModelSpec) -> bool:
    """Whether the weights of a spec need no download: a file, a folder, or a tag whose file is in a cache.

    Raises:
        RequestError: an unknown architecture, or another activation than that of the tag.
    """
    if spec.name == LOCAL_DIR:
        return True
    if spec.name == HF_HUB:
        return is_repository_cached(spec)
    arch, wants_quick_gelu = parse_architecture(spec)
    tag_config = get_pretrained_cfg(arch, spec.rest)
    if not tag_config:
        return True
    quick_gelu_of_tag(spec, arch, wants_quick_gelu, tag_config)
    if "file" in tag_config:
        return True
    hub_path = tag_config.get("hf_hub", "")  # ORG/NAME/ or ORG/NAME/FILE
    if not hub_path:
        return (Path("~/.cache/clip").expanduser() / Path(tag_config.get("url", "")).name).is_file()
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, _, file = hub_path.rpartition("/")
    files = [file] if file else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    files += [f"{Path(name).stem}.safetensors" for name in files]  # which open_clip prefers
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in files)


def is_repository_cached(spec: ModelSpec) -> bool:
    """Whether configuration, weights and tokenizer of a spec `hf-hub:ORG/NAME` are in the cache."""
    path = find_cached(spec.rest, spec.revision, [CONFIG])
    if path is None or not has_weights(path):
        return False
    tokenizer = read_folder(path, spec.text).config["text_cfg"].get("hf_tokenizer_name")
    return not names_other_tokenizer(tokenizer, spec, path) or find_cached_tokenizer(str(tokenizer)) is not None


def names_other_tokenizer(tokenizer: str | None, spec: ModelSpec, folder: Path) -> bool:
    """Whether the tokenizer that a repository's configuration names is in another repository."""
    return bool(tokenizer) and (str(tokenizer).lower() != spec.rest.lower() or not has_tokenizer(folder))


def fetch_weights(spec: ModelSpec, tag_config: dict[str, Any], online: bool = True) -> str:
    """The path of a tag's weights, downloaded if they are not in the cache and `online` is true."""
    try:
        with quiet_hub() if online else offline_hub():
            return download_pretrained(tag_config)
    except Exception as error:
        raise RequestError(
            f"{spec.text}: the weights are not in the cache and cannot be fetched: {format_error(error)}; "
            f"fetch them on a connected machine, or give a file: open_clip:{spec.name}/PATH"
        ) from error


def preprocessing_of_file(arch: str, path: Path) -> dict[str, Any]:
    """The `preprocess_cfg` for a checkpoint file.

    It is the one in `open_clip_config.json` beside the file, else the one that all weights of the architecture in the
    registry share, else CLIP's.
    """
    declared = find_declared_settings(path, {}).get("preprocessing")
    if declared:
        return declared
    keys = ("mean", "std", "interpolation", "resize_mode")
    tag_configs = [get_pretrained_cfg(arch, tag) for tag in list_pretrained_tags_by_model(arch)]
    # As JSON texts, so that equal settings count once; means and deviations may be lists or tuples.
    settings = {
        json.dumps({key: list(config[key]) if key in ("mean", "std") else config[key] for key in keys})
        for config in tag_configs
    }
    if len(settings) == 1:
        return json.loads(settings.pop())
    # The weights differ (one of ViT-L-14 and one of ViT-H-14 do), or there are none; open_clip's training uses CLIP's.
    return dict(CLIP_PREPROCESSING)
