"""A model of transformers (`hf_families`) with its processor, as the caller of `evaluate` holds them."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_core.errors import RequestError
from cosmos_eval.models.digest import model_digest, tokenizer_identity
from cosmos_eval.models.hf import HfModel
from cosmos_eval.models.hf_families import context_length, family_of
from cosmos_eval.models.hf_preprocess import make_preprocess
from cosmos_eval.models.hf_tokenizer import cleaning_of
from cosmos_eval.models.in_memory import HOW, device_of, dtype_of, identify_architecture, identify_preprocess
from cosmos_eval.models.python_adapter import as_request_error


class HeldHfModel(HfModel):
    """Adapter of a network of transformers in memory, which it does not change; `evaluate` puts it in eval mode.

    Args:
        network: a CLIPModel, SiglipModel or one of the same interface.
        processor: has `image_processor` and `tokenizer`, as CLIPProcessor and AutoProcessor.
        spec: name of the model in results.

    Raises:
        RequestError: another family of models, no such processor, or one for another image size.
    """

    def __init__(self, network: nn.Module, processor: Any, *, spec: str) -> None:
        image_processor = getattr(processor, "image_processor", None)
        tokenizer = getattr(processor, "tokenizer", None)
        if image_processor is None or tokenizer is None:
            raise RequestError(
                f"{spec}: the processor is a {type(processor).__name__} without image_processor and tokenizer; {HOW}, "
                "with AutoProcessor.from_pretrained(...)"
            )
        config: Any = network.config
        # `architectures` is of the file that the weights came from, if any; what the network is, its class says.
        self.family = family_of({"model_type": config.model_type}, spec)
        if self.family.max_over_queries:
            raise RequestError(
                f"{spec}: {self.family.title} is not read from memory; save model and processor with save_pretrained "
                "to one folder and give hf:FOLDER"
            )
        self.network = network
        self.tokenizer = tokenizer
        self.clean: Callable[[str], str] = cleaning_of(self.family, type(tokenizer).__name__)
        self.preprocess, self.image_size = make_preprocess(image_processor, self.family, config, spec)
        self.code: dict[str, str] = {}
        self.spec = spec
        self.source = "in memory"
        self.device, self.dtype = device_of(network), dtype_of(network)
        self.context_length = context_length(self.family, config)

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        with as_request_error(f"{self.spec}: get_image_features"):
            return super().encode_image(x)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        with as_request_error(f"{self.spec}: get_text_features"):
            return super().encode_text(texts)

    def _image_inputs(self, x: Tensor) -> dict[str, Tensor]:
        inputs = super()._image_inputs(x)
        return inputs | {"pixel_values": inputs["pixel_values"].to(self.dtype)}

    @cached_property
    def digest(self) -> str:
        return model_digest(
            self.network.state_dict(),
            {**identify_architecture(self.network), "config": self.hashed_config()},
            {"identity": tokenizer_identity(self.tokenize, self.tokenizer.get_vocab())},
            {**identify_preprocess(self.preprocess), "settings": self.preprocess.settings(), "text": ""},
        )
