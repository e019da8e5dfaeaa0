"""`hf:`: the adapter of transformers' image-text models with separate towers; `hf_families` lists them.

Everything comes from the files beside the weights: preprocessing from the image processor (`hf_preprocess`), vocabulary
from the tokenizer (`hf_tokenizer`). How texts are padded and cut is a fact of the family.
"""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cosmos_core.dense import patch_features, require_supported_tower, supported_attentions
from cosmos_core.initial_weights import InitialWeights
from cosmos_core.transformers_layout import TOKEN_EMBEDDINGS, config_from_transformers, from_transformers
from cosmos_eval.models.abilities import scale_and_bias
from cosmos_eval.models.activation import activations_of
from cosmos_eval.models.base import ShortRepr
from cosmos_eval.models.digest import count_parameters, model_digest, text_case, tokenizer_identity
from cosmos_eval.models.hf_families import Family, context_length
from cosmos_eval.models.hf_features import best_query_scores, image_features, text_features
from cosmos_eval.models.hf_preprocess import ProcessorPreprocess, unpack_patches
from cosmos_eval.models.returned_values import as_features, as_patches

NOT_HASHED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
"""Keys of the configuration that do not influence embeddings, at any depth."""


class HfModel(ShortRepr):
    """Adapter of a dual encoder of transformers with its image processor and tokenizer."""

    def __init__(
        self,
        family: Family,
        network: Any,
        tokenizer: Any,
        preprocess: ProcessorPreprocess,
        *,
        clean: Callable[[str], str] = str,
        image_size: int | str,
        spec: str,
        source: str,
        code: dict[str, str] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Take over the network; it is set to eval mode and float32, without gradients.

        Args:
            clean: applied to every text before the tokenizer.
            image_size: side of the images that `preprocess` makes, or how it cuts them into patches.
            code: SHA-256 of the model's own Python files, by name.
            source: hub id or folder name, without the folders of this machine.
        """
        self.network = network.to(device).float().eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.clean = clean
        self.preprocess = preprocess
        self.spec = spec
        self.source = source
        self.device = torch.device(device)
        self.family = family
        self.image_size = image_size
        self.code = code or {}
        self.context_length = context_length(family, network.config)

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        features = image_features(self.family, self.network, self._image_inputs(x))
        return as_features(features, len(x), f"{self.spec}: encode_image", self.family.max_over_queries)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        inputs = {key: value.to(self.device) for key, value in self._tokenizer_outputs(list(texts)).items()}
        features = text_features(self.family, self.network, inputs)
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

    def _image_inputs(self, x: Tensor) -> dict[str, Tensor]:
        """The arguments of the image tower: `pixel_values`, and for patches their mask and grids."""
        x = x.to(self.device)
        return unpack_patches(x) if self.family.patches else {"pixel_values": x}

    def _tokenizer_outputs(self, texts: list[str]) -> dict[str, Tensor]:
        """The arguments of the text tower: (B, L) `input_ids`, and for most families `attention_mask`."""
        tokens = self.tokenizer(
            [self.clean(text) for text in texts],
            padding=self._padding,
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        )
        # SigLIP pools the last position of the context, so every text must be padded to all of it. It was trained
        # without an attention mask, so the tokenizer's mask must not be passed on.
        keys = ("input_ids", "attention_mask") if self.family.attention_mask else ("input_ids",)
        return {key: tokens[key] for key in keys}

    @property
    def _padding(self) -> str:
        return "max_length" if self.family.pads_to_context else "longest"

    def initial_weights(self) -> InitialWeights:
        """What a training of COSMOS starts from (`init`); RequestError if COSMOS's model lacks such towers."""
        state = self.network.state_dict()
        embeddings = state.get(TOKEN_EMBEDDINGS)
        vocabulary = 0 if embeddings is None else len(embeddings)
        config = config_from_transformers(self.network.config.to_dict(), vocabulary, self.spec)
        return InitialWeights(self.spec, config, from_transformers(state, config))

    def facts(self) -> dict[str, Any]:
        """What `show model` prints beyond `describe()`."""
        return scale_and_bias(self.network)

    @cached_property
    def digest(self) -> str:
        return model_digest(
            self.network.state_dict(),
            self.hashed_config()
            | {"activation": activations_of(self.network)}
            | ({"code": self.code} if self.code else {}),
            {"identity": tokenizer_identity(self.tokenize, self.tokenizer.get_vocab())},
            self.preprocess.settings(),
        )

    def hashed_config(self) -> dict[str, Any]:
        """The configuration without what does not influence embeddings."""
        config = json.loads(json.dumps(self.network.config.to_dict(), default=str))
        hashed: dict[str, Any] = without_keys(config, NOT_HASHED)
        return hashed

    def describe(self) -> dict[str, Any]:
        return {
            "arch": f"{self.family.name} {describe_tower(getattr(self.network.config, self.family.image_part))}",
            "activation": activations_of(self.network),
            "tokenizer": type(self.tokenizer).__name__,
            "context_length": self.context_length,
            "text_case": text_case(self.tokenize),
            "padding": self._padding,
            "image_size": self.image_size,
            **self.preprocess.describe(),
            "parameters": count_parameters(list(self.network.parameters())),
            "source": self.source,
            **({"code": "the model's own"} if self.code else {}),
        }


class QueryModel(HfModel):
    """A model whose images have several vectors, as BLIP-2's have one for each query token; the best one counts."""

    def similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """Score (n, Q, D) images with (m, D) texts: (n, m)."""
        return best_query_scores(image_features, text_features)


def describe_tower(config: Any) -> str:
    """Layers, width and patch size of an image tower, as far as its configuration has them."""
    layers, width, patch = (getattr(config, key, None) for key in ("num_hidden_layers", "hidden_size", "patch_size"))
    if width is None:
        width = getattr(config, "hidden_dim", None)  # ALIGN's EfficientNet
    return f"{layers}x{width}" + (f"/{patch}" if patch is not None else "")


def without_keys(tree: Any, keys: tuple[str, ...]) -> Any:
    """A copy of nested dictionaries without these keys."""
    if isinstance(tree, dict):
        return {key: without_keys(value, keys) for key, value in tree.items() if key not in keys}
    return tree
