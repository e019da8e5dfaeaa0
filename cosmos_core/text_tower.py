"""Text towers whose features depend on the tokens up to the end token only, so that padding can be trimmed.

If attention is causal and a text is pooled at its end token, later tokens have no effect: the features of ids that
are cut there equal those of the whole context, up to rounding. Most of a context is padding (an ImageNet prompt has 13
tokens of 77), so most of the work is saved. open_clip's own `encode_text` takes whole contexts only; this is a forward
over its modules. Whether it applies is decided by looking at the modules, not at the architecture's name.
"""

from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.transformer import (
    CustomResidualAttentionBlock,
    ResidualAttentionBlock,
    TextTransformer,
    Transformer,
)
from torch import Tensor, nn

POOLED_AT_END = ("argmax", "eos")


@dataclass(frozen=True)
class CausalText:
    """A causal text tower that is pooled at the end token; `why_not_trimmable` checks whether a network has one.

    It holds the network's own modules, not copies, so later changes of the weights take effect.
    """

    tower: Any
    """The module with `token_embedding`, `positional_embedding`, `transformer`, `attn_mask`, `ln_final` and
    `text_projection`."""
    pool_type: str
    """argmax: pooled at the first largest id. eos: at the first `end_id`, or at the first token if there is none."""
    end_id: int = -1

    @property
    def context_length(self) -> int:
        return len(self.tower.positional_embedding)

    def lengths(self, ids: Tensor) -> Tensor:
        """(N, L) ids -> (N,) int64: how many tokens of each text have an effect, from 1 to L."""
        if self.pool_type == "eos":
            return (ids == self.end_id).int().argmax(dim=1) + 1
        return ids.argmax(dim=1) + 1

    def __call__(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Unnormalised features (B, D) of ids (B, L) with L at least the longest of `lengths`, at most the context.

        Tokens of row i after its first `lengths[i]` have no effect.
        """
        tower, length = self.tower, ids.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        hidden = tower.token_embedding(ids).to(dtype) + tower.positional_embedding[:length].to(dtype)
        hidden = tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length])
        # The final norm works token by token, so it is applied only to the token that is pooled.
        pooled = tower.ln_final(hidden[torch.arange(len(ids), device=ids.device), lengths - 1])
        projection = tower.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection


def causal_text(network: nn.Module) -> CausalText | None:
    """The text tower of open_clip's `network` for trimmed ids; None if it needs whole contexts."""
    if why_not_trimmable(network):
        return None
    tower: Any = network.text if hasattr(network, "text") else network
    flat = tower is network
    pool_type, end_id = (tower.text_pool_type, tower.text_eos_id) if flat else (tower.pool_type, tower.eos_id)
    return CausalText(tower, pool_type, end_id)


def why_not_trimmable(network: nn.Module) -> str:
    """Why a network of open_clip needs whole contexts, in a few words; empty if texts may be trimmed."""
    encode_text = getattr(type(network), "encode_text", None)
    tower: Any = network.text if hasattr(network, "text") else network
    if tower is not network and type(tower) is not TextTransformer:
        return f"its text tower is a {type(tower).__name__}, not one of open_clip's own kind"
    if getattr(tower, "cls_emb", None) is not None:
        return "its text tower appends a class token, which is pooled"
    if encode_text not in (open_clip.CLIP.encode_text, open_clip.CustomTextCLIP.encode_text):
        return f"a {type(network).__name__} has its own encode_text"
    pool = network.text_pool_type if tower is network else tower.pool_type
    if pool not in POOLED_AT_END:
        return f"its texts are pooled by {pool!r}, not at the end token"
    mask = tower.attn_mask
    if mask is None:
        return "its text attention is not causal"
    if not torch.equal(mask, torch.full_like(mask, float("-inf")).triu(1)):
        return "its text attention has a mask of another kind than the causal one"
    if tower is not network and (tower.use_pad_mask or tower.output_tokens):
        return "its text tower masks padding or gives tokens as well"
    if mask.shape != (len(tower.positional_embedding),) * 2:
        return "its text mask and its positions are of different lengths"
    return _foreign_block(tower.transformer)


def _foreign_block(transformer: nn.Module) -> str:
    """Which block of a transformer is not open_clip's own, and so might attend in another way; empty if none."""
    kinds = {type(transformer)} - {Transformer}
    kinds |= {type(block) for block in getattr(transformer, "resblocks", ())} - {
        ResidualAttentionBlock,
        CustomResidualAttentionBlock,
    }
    return f"its text tower has a {kinds.pop().__name__}, which is not open_clip's" if kinds else ""
