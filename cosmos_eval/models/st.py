"""`st:`: the adapter of models that sentence-transformers saved: CLIP-like ones and multimodal language models.

Everything is the library's own: its processor makes the inputs, its modules the embedding, as in
`SentenceTransformer.encode`. The spec chooses prompts, and with them the modules for queries and documents.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_eval.models.abilities import scale_and_bias
from cosmos_eval.models.activation import activations_of
from cosmos_eval.models.base import ShortRepr
from cosmos_eval.models.digest import count_parameters, model_digest, text_case, text_padding, tokenizer_identity
from cosmos_eval.models.hf import NOT_HASHED, describe_tower, without_keys
from cosmos_eval.models.hf_loading import quiet_transformers
from cosmos_eval.models.hf_preprocess import ProcessorPreprocess
from cosmos_eval.models.python_adapter import as_request_error
from cosmos_eval.models.returned_values import as_features
from cosmos_eval.models.st_preprocess import PackedStPreprocess, StPreprocess

LARGEST_CONTEXT = 2**24
"""transformers writes a number above it for a tokenizer that does not cut texts."""
_NOT_SETTINGS = (
    *NOT_HASHED, "processor_class", "image_processor_type", "feature_extractor_type", "video_processor_type",
    "auto_map", "device", "data_format", "return_tensors", "disable_grouping",
)  # fmt: skip
"""Settings of a processor that say nothing of the values that it makes."""


class Side:
    """How the model is asked for one side, images or texts.

    Args:
        name: the name of the prompt that the user chose; empty: the model's default, as `encode` does.
        prompt: the prompt itself; None for none.
        task: `query` or `document` as of `encode_query` and `encode_document`; None for `encode`.
    """

    def __init__(self, name: str, prompt: str | None, task: str | None) -> None:
        self.name, self.prompt, self.task = name, prompt, task

    def describe(self) -> str:
        """The call of the library that does the same, in words."""
        method = f"encode_{self.task}" if self.task else "encode"
        name = f"{self.name}: " if self.name else ""
        return f"{method}, {name}{self.prompt!r}" if self.prompt else f"{method}, {name}no prompt"


class StModel(ShortRepr):
    """Adapter of a `SentenceTransformer` whose modules take images and texts.

    Args:
        network: is set to eval mode and float32, without gradients.
        constants: what the image preprocessing passes to the network beside its tensors.
        code: SHA-256 of the model's own Python files, by name.
        source: hub id or folder name, without the folders of this machine.
    """

    packages = ("sentence-transformers",)
    """Packages, beside those of every model, whose version features depend on."""

    def __init__(
        self,
        network: Any,
        preprocess: StPreprocess,
        constants: dict[str, Any],
        *,
        texts: Side,
        images: Side,
        spec: str,
        source: str,
        code: dict[str, str] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.network = network.to(device).float().eval().requires_grad_(False)
        self.preprocess = preprocess
        self.constants = constants
        self.texts, self.images = texts, images
        self.spec = spec
        self.source = source
        self.code = code or {}
        self.device = torch.device(device)
        length = network.get_max_seq_length()
        self.context_length = int(length) if length is not None and length < LARGEST_CONTEXT else None

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        x = x.to(self.device)
        rows: list[Tensor] = [torch.empty(0)] * len(x)
        for members, tensors in self.preprocess.batches(x):
            embedded = self._embed({**self.constants, **tensors}, self.images)
            for member, row in zip(members, embedded, strict=True):
                rows[member] = row
        return as_features(torch.stack(rows), len(x), f"{self.spec}: encode_image")

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        features = {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in self._text_features(texts).items()
        }
        return as_features(self._embed(features, self.texts), len(texts), f"{self.spec}: encode_text")

    def _embed(self, features: dict[str, Any], side: Side) -> Tensor:
        """(B, D) embeddings of a batch, cut to the dimensions that the model's settings say."""
        options = {"task": side.task} if side.task else {}
        with as_request_error(f"{self.spec}: {type(self.network).__name__}"):
            embedding = self.network(features, **options)["sentence_embedding"]
        return embedding[..., : self.network.truncate_dim]

    def _text_features(self, texts: Sequence[str], **options: Any) -> dict[str, Any]:
        """What the library makes of texts; a text that looks like the address of an image stays a text."""
        from sentence_transformers.base.modality import infer_modality

        inputs = [text if infer_modality(text) == "text" else {"text": text} for text in texts]
        task = {"task": self.texts.task} if self.texts.task else {}
        with as_request_error(f"{self.spec}: preprocess of texts"):
            return dict(self.network.preprocess(inputs, prompt=self.texts.prompt, **task, **options))

    def tokenize(self, texts: list[str]) -> Tensor:
        """B texts -> (B, L) ids, with the tokens of the prompt and of a chat template."""
        features = self._text_features(texts)
        return features["input_ids"] if "input_ids" in features else torch.zeros(len(texts), 0, dtype=torch.long)

    def truncated(self, texts: Sequence[str]) -> list[bool] | None:
        """Whether each text is longer than the context, with its prompt and template; None if that is not known."""
        lengths = []
        with quiet_transformers():
            for options in ({}, {"processing_kwargs": {"text": {"truncation": False}}}):
                # One at a time: without padding, the number of ids is the length.
                features = [self._text_features([text], **options) for text in texts]
                if not all("input_ids" in feature for feature in features):
                    return None
                lengths.append([feature["input_ids"].shape[1] for feature in features])
        return [whole > read for read, whole in zip(*lengths, strict=True)]

    @cached_property
    def added_tokens(self) -> int:
        """Tokens that prompt, chat template and tokenizer add to a text, at most."""
        return int(self.tokenize(["a"]).shape[1])

    @cached_property
    def digest(self) -> str:
        side = {
            "texts": [self.texts.prompt or "", self.texts.task],
            "images": [self.images.prompt or "", self.images.task],
        }
        architecture = {
            "kind": "st",
            "modules": {name: _settings(module) for name, module in _modules(self.network)},
            "prompts": side,
            "truncate_dim": self.network.truncate_dim,
            "activation": activations_of(self.network),
        }
        tokenizers = [tokenizer for _, tokenizer in self._tokenizers()]
        return model_digest(
            self.network.state_dict(),
            architecture | ({"code": self.code} if self.code else {}),
            {
                "identity": tokenizer_identity(self.tokenize),
                "vocabularies": [tokenizer_identity(lambda texts: torch.zeros(0), t.get_vocab()) for t in tokenizers],
                "context": self.context_length,
            },
            {name: _processor_settings(processor) for name, processor in self._processors()},
        )

    def _processors(self) -> Iterator[tuple[str, Any]]:
        """The processors of the modules that have one, by the name of the module."""
        for name, module in _modules(self.network):
            if getattr(module, "processor", None) is not None:
                yield name, module.processor

    def _tokenizers(self) -> Iterator[tuple[str, Any]]:
        for name, module in _modules(self.network):
            tokenizer = getattr(module, "tokenizer", None)
            if hasattr(tokenizer, "get_vocab"):
                yield name, tokenizer

    def describe(self) -> dict[str, Any]:
        tokenizers = [type(tokenizer).__name__ for _, tokenizer in self._tokenizers()]
        return {
            "arch": ", ".join(_describe_module(module) for _, module in _modules(self.network)),
            "activation": activations_of(self.network),
            "tokenizer": ", ".join(dict.fromkeys(tokenizers)) or None,
            "context_length": self.context_length,
            "text_case": text_case(self.tokenize),
            "padding": text_padding(self.tokenize, self.context_length or 0),
            **self._describe_images(),
            "text_prompt": self.texts.describe(),
            "image_prompt": self.images.describe(),
            **({"truncate_dim": self.network.truncate_dim} if self.network.truncate_dim else {}),
            "normalised_by_model": type(self.network[-1]).__name__ == "Normalize",
            "trained_similarity": self.network.similarity_fn_name,
            "parameters": count_parameters(list(self.network.parameters())),
            "source": self.source,
            **({"code": "the model's own"} if self.code else {}),
        }

    def _describe_images(self) -> dict[str, Any]:
        """Size and settings of the images, as far as the processor says."""
        image_processors = [getattr(processor, "image_processor", None) for _, processor in self._processors()]
        image_processors += [processor for _, processor in self._processors() if hasattr(processor, "image_mean")]
        processor = next((processor for processor in image_processors if processor is not None), None)
        backend = str(getattr(processor, "backend", "pil"))
        described = ProcessorPreprocess(processor, backend).describe() if processor is not None else {}
        if isinstance(self.preprocess, PackedStPreprocess):
            return {"image_size": "by the image", **described, "resize": "the processor's own"}
        size = self.preprocess.features_size()
        return {"image_size": size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}", **described}

    def facts(self) -> dict[str, Any]:
        """What `show model` prints beyond `describe()`: scale and bias of the logits, and the prompts of the model."""
        networks = [module.model for _, module in _modules(self.network) if hasattr(module, "model")]
        scales = [scale for scale in map(scale_and_bias, networks) if scale["logit_scale"] is not None]
        prompts = [f"{name} {prompt!r}" for name, prompt in self.network.prompts.items() if prompt]
        return {**(scales[0] if scales else {}), "prompts": "; ".join(prompts) or "none"}


def _modules(network: Any) -> Iterator[tuple[str, nn.Module]]:
    """The library's modules of a model, those inside a router included, by their names."""
    from sentence_transformers.base.modules.module import Module

    for name, module in network.named_modules():
        if isinstance(module, Module):
            yield name, module


def _settings(module: Any) -> dict[str, Any]:
    """What a module computes beside its weights, as JSON values."""
    settings = {"class": type(module).__name__, "config": module.get_config_dict()}
    config: Any = getattr(module, "config", None)
    if hasattr(config, "to_dict"):
        settings["network"] = without_keys(config.to_dict(), NOT_HASHED)
    hashed: dict[str, Any] = json.loads(json.dumps(settings, default=str, sort_keys=True))
    return hashed


def _processor_settings(processor: Any) -> dict[str, Any]:
    """The settings of a processor and its chat template, as JSON values."""
    settings = without_keys(processor.to_dict() if hasattr(processor, "to_dict") else {}, _NOT_SETTINGS)
    settings["chat_template"] = getattr(processor, "chat_template", None)
    hashed: dict[str, Any] = json.loads(json.dumps(settings, default=str, sort_keys=True))
    return hashed


def _describe_module(module: Any) -> str:
    config: Any = getattr(module, "config", None)
    if not hasattr(config, "to_dict"):
        return type(module).__name__
    return f"{config.model_type} {describe_tower(getattr(config, 'vision_config', None) or config)}"
