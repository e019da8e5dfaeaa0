"""Checks of a folder that sentence-transformers saved, before that library reads it.

The library imports the classes that `modules.json` names, replaces missing weights by random ones, and builds another
model where `modules.json` is missing; here each of them is a refusal in one line. Formats: sentence-transformers
6.2.0, `base/model.py` (modules.json, config_sentence_transformers.json), `base/modules/transformer.py`
(sentence_bert_config.json) and `base/modules/router.py` (router_config.json).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_core.printable import one_line
from cosmos_core.short_repr import short_repr
from cosmos_eval.models.hf_files import CONFIG, PROCESSORS, check_weights
from cosmos_eval.models.tokenizer_checks import require_tokenizer_files

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
ROUTER = "router_config.json"
ADAPTER = "adapter_config.json"
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json" for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta",
    "xlnet")
)  # fmt: skip
"""Names of a transformer's settings, in the order in which the library looks for them."""
NETWORKS = ("Transformer", "CLIPModel")
"""Classes of modules that hold a network of transformers with its processor."""
KNOWN_MODULES = (
    *NETWORKS, "Router", "Asym", "Pooling", "WeightedLayerPooling", "Dense", "LayerNorm", "Dropout", "Normalize",
    "StaticEmbedding",
)  # fmt: skip
"""Classes of the library that a model may consist of."""
CLIP_MODALITIES = ("text", "image")
LOADING_OPTIONS = {"dtype", "torch_dtype", "attn_implementation"}
"""Options of `from_pretrained` that a model's files may have; the adapter chooses the first two itself."""
_CLASS = re.compile(r"sentence_transformers(\.\w+)+")


@dataclass(frozen=True)
class SavedModule:
    """A module that a folder names: its class, and the folder with its files."""

    type: str
    folder: Path

    @property
    def class_name(self) -> str:
        return self.type.rpartition(".")[2]

    @property
    def is_foreign(self) -> bool:
        """Whether its class is not part of sentence-transformers."""
        return not _CLASS.fullmatch(self.type)


def read_modules(folder: Path, spec: str) -> list[SavedModule]:
    """The modules of a folder, those inside a router included.

    Raises:
        RequestError: the folder has no `modules.json`, or a file is damaged or names a folder outside.
    """
    if not (folder / MODULES).exists():
        is_transformers = (folder / CONFIG).exists()
        hint = f"; transformers saved it: write hf:{folder}" if is_transformers else ""
        raise RequestError(f"{spec}: {folder} has no {MODULES}, so sentence-transformers did not save it{hint}")
    entries = read_json(folder / MODULES)
    fields = ("type", "path", "name")
    if not isinstance(entries, list) or not entries or not all(
        isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in fields) for entry in entries
    ):  # fmt: skip
        raise RequestError(
            f"{spec}: {folder / MODULES} is not a list of modules with {', '.join(fields)}; copy it again"
        )
    return [
        module
        for entry in entries
        for module in _with_parts(SavedModule(entry["type"], _inside(folder, entry["path"], spec)), spec)
    ]


def _with_parts(module: SavedModule, spec: str) -> Iterator[SavedModule]:
    yield module
    if module.class_name not in ("Router", "Asym"):
        return
    path = next((module.folder / name for name in (ROUTER, CONFIG) if (module.folder / name).exists()), None)
    types = read_json(path).get("types") if path is not None else None
    if not isinstance(types, dict) or not all(isinstance(name, str) for name in types.values()):
        raise RequestError(f"{spec}: {module.folder} has no {ROUTER} with the types of its modules; copy it again")
    for name, type_name in types.items():
        yield from _with_parts(SavedModule(type_name, _inside(module.folder, name, spec)), spec)


def _inside(folder: Path, name: str, spec: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise RequestError(f"{spec}: {folder} names the folder {one_line(short_repr(name))}, which is not inside it")
    return folder / path


def read_transformer_settings(folder: Path) -> dict[str, Any]:
    """The settings of a transformer, which are empty in models older than version 5.4."""
    path = next((folder / name for name in TRANSFORMER_CONFIGS if (folder / name).exists()), None)
    settings = read_json(path) if path is not None else {}
    if not isinstance(settings, dict):
        raise RequestError(f"{path} holds a {type(settings).__name__}, not settings; copy it again")
    return settings


def modalities_of(module: SavedModule) -> tuple[str, ...]:
    """What a module with a network takes: `text`, `image`, `message` and others.

    Without `modality_config` the library takes a `Transformer` for one of texts.
    """
    config = read_transformer_settings(module.folder).get("modality_config")
    if isinstance(config, dict):
        return tuple(config)
    return CLIP_MODALITIES if module.class_name == "CLIPModel" else ("text",)


def code_references(modules: list[SavedModule]) -> list[str]:
    """Classes outside of the library that a model names, as `module.Class` or `repository--module.Class`."""
    references = [module.type for module in modules if module.is_foreign]
    for folder in dict.fromkeys(module.folder for module in modules):
        config = read_json(folder / CONFIG) if (folder / CONFIG).exists() else {}
        mapping = config.get("auto_map") if isinstance(config, dict) else None
        references += (
            [value for value in mapping.values() if isinstance(value, str)] if isinstance(mapping, dict) else []
        )
    return references


def check_st_folder(folder: Path, spec: str, check: bool = True, remote: bool = False) -> list[SavedModule]:
    """RequestError unless a folder holds all files of a model that embeds images and texts; returns its modules.

    Args:
        check: compare weights with their checksums; see `cosmos_core.tensor_files.read_tensors`.
        remote: the model may have classes of its own.
    """
    modules = read_modules(folder, spec)
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).exists() else {}
    model_type = settings.get("model_type", "SentenceTransformer") if isinstance(settings, dict) else settings
    if model_type != "SentenceTransformer":
        raise RequestError(
            f"{spec}: it is a {one_line(short_repr(model_type))}, not a SentenceTransformer; st: takes models with one "
            "embedding for each input"
        )
    foreign = [module for module in modules if module.is_foreign]
    if foreign and not remote:
        raise RequestError(
            f"{spec}: its module {one_line(foreign[0].type, 100)} is not of sentence-transformers; read its code and "
            "add ?trust-remote-code=1"
        )
    for module in modules:
        if not module.is_foreign and module.class_name not in KNOWN_MODULES:
            raise RequestError(
                f"{spec}: its module {one_line(module.type, 100)} is of texts only or unknown; st: reads "
                f"{', '.join(KNOWN_MODULES)}"
            )
    networks = [module for module in modules if module.class_name in NETWORKS and not module.is_foreign]
    if foreign:
        return modules  # what its own classes need is known once they run
    if not any({"image", "message"} & set(modalities_of(module)) for module in networks):
        raise RequestError(f"{spec}: it embeds texts only; st: needs a model of images and texts")
    for module in networks:
        _check_network(module, spec, check)
    return modules


def _check_network(module: SavedModule, spec: str, check: bool) -> None:
    """RequestError unless a module has all files of its network, and no settings that lead elsewhere."""
    folder = module.folder
    if (folder / ADAPTER).exists():
        raise RequestError(
            f"{spec}: {folder} is an adapter (PEFT) of another model; merge both (merge_and_unload), and save the whole"
        )
    if not (folder / CONFIG).exists():
        raise RequestError(f"{spec}: {folder} has no {CONFIG}; copy the whole model again")
    settings = read_transformer_settings(folder)
    if settings.get("tokenizer_name_or_path") is not None:
        raise RequestError(
            f"{spec}: its tokenizer is elsewhere, {one_line(short_repr(settings['tokenizer_name_or_path']), 100)}; "
            "save model and tokenizer in one folder"
        )
    for key in ("model_args", "model_kwargs"):
        unknown = sorted(set(settings.get(key) or ()) - LOADING_OPTIONS)
        if unknown:
            raise RequestError(
                f"{spec}: {folder} loads its weights with {one_line(', '.join(unknown), 100)} ({key}), which st: does "
                f"not know; it knows {', '.join(sorted(LOADING_OPTIONS))}"
            )
    modalities = modalities_of(module)
    if "image" in modalities and not any((folder / name).exists() for name in PROCESSORS):
        raise RequestError(
            f"{spec}: {folder} has no {PROCESSORS[0]}; put this model's there (processor.save_pretrained writes it)"
        )
    if "text" in modalities:
        require_tokenizer_files(folder, spec)
    check_weights(folder, spec, check=check)
