"""Image-text matching heads of transformers' BLIP and BLIP-2: scores of pairs by models that read both together.

Sources: Li et al., BLIP, ICML 2022, section 3.2 (ITM), and BLIP-2, ICML 2023, section 3.1; the classes
`BlipForImageTextRetrieval` and `Blip2ForImageTextRetrieval` of transformers, whose logits these are. A head has two
logits, "no match" and "match". The score of a pair is the second minus the first: the logit of the probability of a
match, with its order but without its rounding to 1. (The authors' retrieval code ranks by the second logit plus the
similarity of the embeddings, and BLIP's replaces the first token of each text by `[ENC]`; transformers does neither.)

The vision tower does not see the text, so an image is encoded once for its pairs.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.printable import one_line
from cosmos_eval.models.returned_values import as_dense_float
from cosmos_eval.models.spec import ModelSpec

ITM = "itm"
"""`hf:...?scorer=itm`"""


@dataclass(frozen=True)
class MatchingHead:
    """How the networks of one class score pairs."""

    image_states: Callable[[Any, Tensor], Tensor]
    """(network, (B, 3, H, W)) -> (B, L, width) tokens of images."""
    logits: Callable[[Any, Tensor, Mapping[str, Tensor]], Tensor]
    """(network, (P, L, width) tokens of images, `input_ids` and `attention_mask` (P, T)) -> (P, 2)."""


def _image_tokens(network: Any, pixels: Tensor) -> Tensor:
    return network.vision_model(pixel_values=pixels).last_hidden_state


def _attend_to_all(tokens: Tensor) -> Tensor:
    """(P, L, width) -> (P, L) ones."""
    return torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)


def _blip_logits(network: Any, tokens: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    output = network.text_encoder(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        encoder_hidden_states=tokens,
        encoder_attention_mask=_attend_to_all(tokens),
    )
    return network.itm_head(output.last_hidden_state[:, 0])


def _blip2_logits(network: Any, tokens: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    queries = network.query_tokens.expand(len(tokens), -1, -1)
    output = network.qformer(
        query_embeds=network.embeddings(input_ids=inputs["input_ids"], query_embeds=queries),
        query_length=queries.shape[1],
        attention_mask=torch.cat([_attend_to_all(queries), inputs["attention_mask"]], dim=1),
        encoder_hidden_states=tokens,
        encoder_attention_mask=_attend_to_all(tokens),
    )
    return network.itm_head(output.last_hidden_state[:, : queries.shape[1]]).mean(dim=1)


HEADS = {
    "BlipForImageTextRetrieval": MatchingHead(_image_tokens, _blip_logits),
    "Blip2ForImageTextRetrieval": MatchingHead(_image_tokens, _blip2_logits),
}
"""Class of transformers -> its head. The names are looked up, so that nothing is imported for other models."""


def matching_head(network: Any, spec: str) -> MatchingHead:
    """The head of a network; RequestError if it has none."""
    head = HEADS.get(type(network).__name__)
    if head is None:
        raise no_head_error(spec, type(network).__name__)
    return head


def check_scorer(spec: ModelSpec, config: Any) -> None:
    """RequestError if a spec asks for the matching head, and no class with one reads a configuration's weights."""
    if spec.options.get("scorer") == ITM and not set(config.architectures or ()) & HEADS.keys():
        raise no_head_error(spec.text, ", ".join(map(str, config.architectures or ())) or "model of this configuration")


def no_head_error(spec: str, network: str) -> RequestError:
    return RequestError(
        f"{spec}: a {one_line(network, 100)} has no image-text matching head; ?scorer=itm is for "
        f"{' and '.join(HEADS)}, other models are scored by their embeddings (leave it out)"
    )


def matching_class(adapter: type) -> type:
    """The subclass of an adapter of `hf:` that scores pairs by the matching head of its network: a `PairScorer`.

    It keeps the embeddings (image-text contrast), which select candidates for reranking.
    """
    return type(f"Matching{adapter.__name__}", (MatchingScores, adapter), {})


class MatchingScores:
    """The methods of a pair scorer; a mixin before an adapter of `hf:`.

    Its digest is another one than the adapter's, so that neither results nor cached features are shared.

    Raises:
        RequestError: the network has no matching head.
    """

    network: Any
    device: torch.device
    spec: str
    _tokenizer_outputs: Callable[[list[str]], Mapping[str, Tensor]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.head = matching_head(self.network, self.spec)

    @torch.no_grad()
    def encode_pair_images(self, x: Tensor) -> Tensor:
        return self.head.image_states(self.network, x.to(self.device))

    @torch.no_grad()
    def score_encoded_pairs(self, states: Tensor, texts: Sequence[str]) -> Tensor:
        inputs = {key: value.to(self.device) for key, value in self._tokenizer_outputs(list(texts)).items()}
        logits = as_dense_float(self.head.logits(self.network, states, inputs), f"{self.spec}: itm_head")
        return logits[:, 1] - logits[:, 0]

    def score_pairs(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        return self.score_encoded_pairs(self.encode_pair_images(images), texts)

    @property
    def digest(self) -> str:
        embeddings: str = super().digest  # type: ignore[misc]
        return hashlib.sha256(f"{embeddings} {ITM}".encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "scorer": ITM}  # type: ignore[misc]
