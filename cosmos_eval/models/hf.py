"""`hf:`: transformers' CLIP and SigLIP models (SigLIP 2 of fixed resolution included), from the hub or a folder.

Everything comes from the files beside the weights: preprocessing from the image processor (`hf_preprocess`);
vocabulary, context length and padding from tokenizer and configuration (`hf_tokenizer`). Remote code is never run.
Where weights are missing, transformers would only warn and use random ones; such files are refused here.
"""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_core.dense import patch_features, require_supported_tower, supported_attentions
from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_eval.models.activation import activations_of
from cosmos_eval.models.base import ShortRepr, as_features, as_patches, format_error, scale_and_bias
from cosmos_eval.models.digest import count_parameters, model_digest, text_case, tokenizer_identity
from cosmos_eval.models.hf_files import check_folder, check_weights, has_all_files, require_supported_family
from cosmos_eval.models.hf_preprocess import ProcessorPreprocess, check_processor
from cosmos_eval.models.hf_tokenizer import load_tokenizer
from cosmos_eval.models.hub import NOT_FETCHED, quiet_hub
from cosmos_eval.models.spec import ModelSpec

_NOT_HASHED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
"""Keys of the configuration that do not influence embeddings, at any depth."""


class HfModel(ShortRepr):
    """Adapter of a dual encoder of transformers with its image processor and tokenizer."""

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        preprocess: ProcessorPreprocess,
        *,
        clean: Callable[[str], str] = str,
        spec: str,
        source: str,
        device: str | torch.device = "cpu",
    ) -> None:
        """Take over the network; it is set to eval mode and float32, without gradients.

        Args:
            clean: applied to every text before the tokenizer.
            source: hub id or folder name, without the folders of this machine.
        """
        self.network = network.to(device).float().eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.clean = clean
        self.preprocess = preprocess
        self.spec = spec
        self.source = source
        self.device = torch.device(device)
        self.family: str = network.config.model_type
        self.context_length: int = network.config.text_config.max_position_embeddings

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        features = pooled_features(self.network.get_image_features(pixel_values=x.to(self.device)))
        return as_features(features, len(x), f"{self.spec}: encode_image")

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        inputs = {key: value.to(self.device) for key, value in self._tokenizer_outputs(list(texts)).items()}
        features = pooled_features(self.network.get_text_features(**inputs))
        return as_features(features, len(texts), f"{self.spec}: encode_text")

    @torch.no_grad()
    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        self.check_patches()
        patches = patch_features(self.network, x.to(self.device), attention)
        return as_patches(patches, len(x), f"{self.spec}: encode_patches")

    def check_patches(self) -> None:
        """RequestError if the image tower is of a kind without patch features."""
        require_supported_tower(self.network, self.spec)

    @property
    def attentions(self) -> tuple[str, ...]:
        """Attention variants of `encode_patches`; none if the image tower has no patch features."""
        return supported_attentions(self.network)

    def tokenize(self, texts: list[str]) -> Tensor:
        """B texts -> (B, L) ids."""
        return self._tokenizer_outputs(texts)["input_ids"]

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the context, with its special tokens."""
        cleaned = [self.clean(text) for text in texts]
        tokens = self.tokenizer(cleaned, truncation=False, padding=False, verbose=False)
        return [len(ids) > self.context_length for ids in tokens["input_ids"]]

    def _tokenizer_outputs(self, texts: list[str]) -> dict[str, Tensor]:
        """The arguments of the text tower: (B, L) `input_ids`, and for CLIP `attention_mask`."""
        is_siglip = self.family == "siglip"
        tokens = self.tokenizer(
            [self.clean(text) for text in texts],
            padding="max_length" if is_siglip else "longest",
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        )
        # SigLIP pools the last position of the context, so every text must be padded to all of it. It was trained
        # without an attention mask, so the tokenizer's mask must not be passed on.
        keys = ("input_ids",) if is_siglip else ("input_ids", "attention_mask")
        return {key: tokens[key] for key in keys}

    def facts(self) -> dict[str, Any]:
        """What `show model` prints beyond `describe()`."""
        return scale_and_bias(self.network)

    @cached_property
    def digest(self) -> str:
        return model_digest(
            self.network.state_dict(),
            self.hashed_config() | {"activation": activations_of(self.network)},
            {"identity": tokenizer_identity(self.tokenize, self.tokenizer.get_vocab())},
            self.preprocess.settings(),
        )

    def hashed_config(self) -> dict[str, Any]:
        """The configuration without what does not influence embeddings."""
        config = json.loads(json.dumps(self.network.config.to_dict(), default=str))
        hashed: dict[str, Any] = _without_keys(config, _NOT_HASHED)
        return hashed

    def describe(self) -> dict[str, Any]:
        vision = self.network.config.vision_config
        return {
            "arch": f"{self.family} {vision.num_hidden_layers}x{vision.hidden_size}/{vision.patch_size}",
            "activation": activations_of(self.network),
            "tokenizer": type(self.tokenizer).__name__,
            "context_length": self.context_length,
            "text_case": text_case(self.tokenize),
            "padding": "max_length" if self.family == "siglip" else "longest",
            "image_size": vision.image_size,  # `check_processor` made sure that this is what the processor makes
            **self.preprocess.describe(),
            "parameters": count_parameters(list(self.network.parameters())),
            "source": self.source,
        }


def load_hf(spec: ModelSpec, device: str | torch.device = "cpu") -> HfModel:
    """Load the model of an `hf:` spec. A hub id is downloaded unless it is in the cache; a folder needs no network.

    Raises:
        RequestError: no such folder or hub id; a model of another family; files that are missing, damaged or Git LFS
            pointers; weights that are missing, left over or not finite; the tokenizer of another model; an image
            processor for another image size.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # the command line has its own

    folder = find_local_folder(spec)
    if folder is not None:
        check_folder(folder, spec.text)
    name = str(folder) if folder is not None else spec.name
    options: dict[str, Any] = {"local_files_only": folder is not None, "trust_remote_code": False}
    try:
        with nullcontext() if folder is not None else quiet_hub():
            config = AutoConfig.from_pretrained(name, **options)
            require_supported_family(config.model_type, spec.text)
            network, loading_info = AutoModel.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
            processor = AutoImageProcessor.from_pretrained(name, backend="pil", **options)
            tokenizer, clean = load_tokenizer(name, config, spec.text, options)
    except RequestError:
        raise
    except Exception as error:
        where = "the folder" if folder is not None else "the cache, and the hub cannot be reached for it"
        raise RequestError(f"{spec.text}: not readable from {where}: {format_error(error)}") from error
    cached_folder = find_cached_folder(spec.name) if folder is None else None
    if cached_folder is not None:
        check_weights(cached_folder, spec.text)
    _check_all_loaded(spec, loading_info)
    _check_finite(spec, network)
    preprocess = ProcessorPreprocess(processor)
    check_processor(preprocess, config.vision_config.image_size, spec.text)
    source = folder.resolve().name if folder is not None else spec.name
    return HfModel(network, tokenizer, preprocess, clean=clean, spec=spec.text, source=source, device=device)


def check_hf(spec: ModelSpec, fetch: bool = False) -> str:
    """Check an `hf:` spec without reading its weights: see `cosmos_eval.models.preflight`."""
    folder = find_local_folder(spec)
    if folder is None:
        cached_folder = find_cached_folder(spec.name)
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
        config = AutoConfig.from_pretrained(folder, **options)
        load_tokenizer(str(folder), config, spec.text, options)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{spec.text}: not readable from the folder: {format_error(error)}") from error


def _check_on_hub(spec: ModelSpec) -> None:
    """Download the configuration of a hub id, which shows that the rest can be downloaded, and check its family."""
    from transformers import AutoConfig

    try:
        with quiet_hub():
            config = AutoConfig.from_pretrained(spec.name, trust_remote_code=False)
    except Exception as error:
        raise RequestError(
            f"{spec.text}: not readable from the cache, and the hub cannot be reached for it: {format_error(error)}"
        ) from error
    require_supported_family(config.model_type, spec.text)


def find_local_folder(spec: ModelSpec) -> Path | None:
    """The folder that a spec names, None for a hub id; RequestError if it can be neither."""
    folder = user_path(spec.name)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise RequestError(
            f"{spec.text}: {spec.name} is a file; hf: takes the folder that holds it, as save_pretrained writes it"
        )
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", spec.name):
        raise RequestError(
            f"{spec.text}: there is no folder {spec.name}; give a folder that save_pretrained wrote, or a hub id"
        )
    return None


def find_cached_folder(hub_id: str) -> Path | None:
    """The folder of a hub id in the local cache, None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(hub_id, "config.json")
    except ValueError:  # not a valid hub id
        return None
    return Path(config).parent if isinstance(config, str) else None


def _check_all_loaded(spec: ModelSpec, loading_info: dict[str, Any]) -> None:
    """RequestError if the weights file and the network differ in their tensors; transformers only warns of that."""
    for kind, problem in (
        ("missing_keys", "lacks {} of the model's tensors"),
        ("unexpected_keys", "has {} tensors that the model does not have"),
        ("mismatched_keys", "has {} tensors of other shapes than the model's"),
    ):
        # Old files hold position_ids, a buffer that newer versions compute.
        keys = sorted(str(key) for key in loading_info.get(kind, ()) if not str(key).endswith("position_ids"))
        if keys:
            raise RequestError(
                f"{spec.text}: the weights file {problem.format(len(keys))}: {', '.join(keys[:3])}; "
                "it belongs to another configuration"
            )


def _check_finite(spec: ModelSpec, network: Any) -> None:
    """RequestError that names the first parameter with NaN or infinite values."""
    broken = next((key for key, value in network.named_parameters() if not torch.isfinite(value).all()), None)
    if broken:
        raise RequestError(f"{spec.text}: the weights are broken: {broken} holds NaN or infinite values")


def pooled_features(output: Any) -> Tensor:
    """The features in what `get_image_features` returns: a tensor or, in newer versions, a model output."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _without_keys(tree: Any, keys: tuple[str, ...]) -> Any:
    """A copy of nested dictionaries without these keys."""
    if isinstance(tree, dict):
        return {key: _without_keys(value, keys) for key, value in tree.items() if key not in keys}
    return tree
