"""`flair:`: FLAIR from a file, or a checkpoint that its authors released (`cosmos_eval.models.flair_network`)."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.text_tower import CausalText
from cosmos_core.tokenizer import build_tokenizer
from cosmos_eval.models.abilities import scale_and_bias
from cosmos_eval.models.activation import activations_of
from cosmos_eval.models.base import ShortRepr
from cosmos_eval.models.digest import count_parameters, model_digest, text_case, text_padding, tokenizer_identity
from cosmos_eval.models.flair_network import FLAIR, check_flair, load_flair
from cosmos_eval.models.hub import NOT_FETCHED, quiet_hub
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.models.returned_values import as_features
from cosmos_eval.models.spec import ModelSpec
from cosmos_eval.models.spec_kinds.flair import FLAIR_REPOSITORY, RELEASED_FLAIR
from cosmos_eval.models.trimmed_text import TrimmedText

_ARGMAX = "argmax"


class FlairModel(ShortRepr):
    """What both scores of a FLAIR have in common.

    Args:
        network: in eval mode.
        source: the file or name that the weights come from, without folders of this machine.
    """

    scorer: str

    def __init__(
        self, network: FLAIR, spec: str, device: str | torch.device = "cpu", source: str = "in memory"
    ) -> None:
        self.network = network.to(device).requires_grad_(False)
        self.spec, self.source = spec, source
        self.device = torch.device(device)
        self.preprocess = ImagePreprocess(network.image_size)
        self.tokenize: Any = build_tokenizer(
            {"context_length": network.context_length, "vocab_size": network.vocab_size}
        )

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        features = self.network.text_features(self.tokenize(list(texts)).to(self.device))
        return as_features(self._text_rows(features), len(texts), f"{self.spec}: encode_text")

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the context, its start and end tokens counted."""
        return [len(self.tokenize.encode(text)) + 2 > self.network.context_length for text in texts]

    def _text_rows(self, features: Tensor) -> Tensor:
        return features

    def facts(self) -> dict[str, Any]:
        """What `show model` prints beyond `describe()`."""
        return {**scale_and_bias(self.network), "embedding_width": len(self.network.visual_proj.ln_q.weight)}

    @cached_property
    def digest(self) -> str:
        return model_digest(
            self.network.state_dict(),
            {"kind": "flair", "scorer": self.scorer},
            {"identity": tokenizer_identity(self.tokenize)},
            self.preprocess.describe(),
        )

    def describe(self) -> dict[str, Any]:
        visual, network = self.network.visual, self.network
        layers, width = len(visual.transformer.resblocks), visual.conv1.out_channels
        return {
            "arch": f"FLAIR {layers}x{width}/{visual.patch_size[0]}",
            "activation": activations_of(network),
            "tokenizer": self.tokenize.name,
            "context_length": network.context_length,
            "text_case": text_case(self.tokenize),
            "padding": text_padding(self.tokenize, network.context_length),
            **self.preprocess.describe(),
            "scorer": self.scorer,
            "parameters": count_parameters(list(network.parameters())),
            "source": self.source,
        }


class TextConditionedFlair(FlairModel):
    """The score of FLAIR's retrieval: the cosine of a text with the image as it is pooled under this text.

    Images keep their patch tokens, and the cosine is the model's logit without its scale and bias, which have no effect
    on ranks. The pooler takes features of any length, but the engine stores them at unit length; so each vector gets a
    1 at its end, by which `similarity` divides (homogeneous coordinates).
    """

    scorer = "text-conditioned"

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        tokens = self.network.image_features(x.to(self.device))[:, 1:]
        return as_features(with_one(tokens), len(x), f"{self.spec}: encode_image", allow_tokens=True)

    @torch.no_grad()
    def similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """Score (n, L, D + 1) images with (m, D + 1) texts: (n, m) cosines."""
        return self.network.visual_proj.pooled_scores(without_one(text_features), without_one(image_features))

    def _text_rows(self, features: Tensor) -> Tensor:
        return with_one(features)

    @property
    def trimmed_text(self) -> TrimmedText:
        """Tokenizer and text tower for texts without padding; possible because the tower is causal."""
        return TrimmedText(self.tokenize, _TextWithOne(self.network, _ARGMAX), self.device)


class ClipLikeFlair(FlairModel):
    """The cosine of the two global features, as in CLIP, without the pooler."""

    scorer = "clip"

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        return as_features(self.network.image_features(x.to(self.device))[:, 0], len(x), f"{self.spec}: encode_image")

    @property
    def trimmed_text(self) -> TrimmedText:
        """Tokenizer and text tower for texts without padding; possible because the tower is causal."""
        return TrimmedText(self.tokenize, CausalText(self.network, _ARGMAX), self.device)


class _TextWithOne(CausalText):
    def __call__(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return with_one(super().__call__(ids, lengths))


def with_one(features: Tensor) -> Tensor:
    """(..., D) -> (..., D + 1) float32 with a 1 at the end."""
    return torch.nn.functional.pad(features.float(), (0, 1), value=1.0)


def without_one(features: Tensor) -> Tensor:
    """The (..., D) features of `with_one` from their multiples (..., D + 1)."""
    return features[..., :-1] / features[..., -1:]


def load(spec: ModelSpec, device: str | torch.device = "cpu") -> FlairModel:
    """Load a FLAIR: the path of a checkpoint, or a released name, which is downloaded unless it is in the cache.

    Raises:
        RequestError: no such name or file, or a file that is not a FLAIR checkpoint; the message says why.
    """
    path = user_path(spec.name)
    if is_released(spec):
        path = find_cached(spec.name) or fetch(spec.name)
    adapter = ClipLikeFlair if spec.options.get("scorer") == "clip" else TextConditionedFlair
    return adapter(load_flair(path), spec.text, device, path.name)


def check(spec: ModelSpec, fetch_missing: bool = False) -> str:
    """Check a `flair:` spec without reading its weights: see `cosmos_eval.models.preflight`."""
    path = user_path(spec.name)
    if is_released(spec):
        cached = find_cached(spec.name)
        if cached is None and not fetch_missing:
            return NOT_FETCHED
        path = cached or fetch(spec.name)
    elif not path.exists() and path.suffix == "" and len(path.parts) == 1:
        raise RequestError(
            f"{spec.text}: no checkpoint file {spec.name}, and no released FLAIR with this name; released: "
            f"{', '.join(RELEASED_FLAIR)}"
        )
    check_flair(path)
    return ""


def is_released(spec: ModelSpec) -> bool:
    """Whether a spec names a released checkpoint, and not a file of that name."""
    return spec.name in RELEASED_FLAIR and not user_path(spec.name).is_file()


def find_cached(name: str) -> Path | None:
    """The local file of a released checkpoint if the hub's cache has it; does not use the network."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(FLAIR_REPOSITORY, f"{name}.pt")
    return Path(cached) if isinstance(cached, str) else None


def fetch(name: str) -> Path:
    """Download a released checkpoint to the hub's cache; RequestError if that is impossible."""
    from huggingface_hub import hf_hub_download

    try:
        with quiet_hub():
            return Path(hf_hub_download(FLAIR_REPOSITORY, f"{name}.pt"))
    except Exception as error:  # offline, refused: the hub's and its transport's own errors, version by version
        raise RequestError(
            f"flair:{name} is not in the local cache and could not be fetched ({name}.pt of {FLAIR_REPOSITORY}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}); connect to the "
            "network, or give the path of a copy"
        ) from error
