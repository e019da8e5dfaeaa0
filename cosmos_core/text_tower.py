"""Text towers that read no further than the token they are pooled at, and so may leave the rest of a text out.

Where attention is causal and a text is pooled at its end token, what stands behind that token reaches nothing: the
features of ids that are cut there are those of the whole context, to rounding. Most of a context is padding (13 of 77
tokens of an ImageNet prompt are read), so that most of the work goes with it. open_clip's own `encode_text` takes
whole contexts only; this is a forward over its modules. Which towers it holds for is decided by what was built.
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
    """A causal text tower that is pooled at the end token; `why_whole` says of a network whether it has one.

    The modules are the network's own: nothing is copied, and weights that change later are used as they then are.
    """

    tower: Any
    """The module with `token_embedding`, `positional_embedding`, `transformer`, `attn_mask`, `ln_final` and
    `text_projection`."""
    pool_type: str
    """argmax: pooled at the first largest id. eos: at the first `end_id`, at the first token where there is none."""
    end_id: int = -1

    @property
    def context_length(self) -> int:
        return len(self.tower.positional_embedding)

    def lengths(self, ids: Tensor) -> Tensor:
        """(N, L) ids -> (N,) int64: how many tokens of each text are read, from 1 to L."""
        if self.pool_type == "eos":
            return (ids == self.end_id).int().argmax(dim=1) + 1
        return ids.argmax(dim=1) + 1

    def __call__(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Unnormalised features (B, D) of ids (B, L) with L at least the longest of `lengths`, at most the context.

        What stands behind the first `lengths[i]` tokens of row i is not read.
        """
        tower, length = self.tower, ids.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        hidden = tower.token_embedding(ids).to(dtype) + tower.positional_embedding[:length].to(dtype)
        hidden = tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length])
        # The final norm works token by token: only the one that is read passes through it.
        pooled = tower.ln_final(hidden[torch.arange(len(ids), device=ids.device), lengths - 1])
        projection = tower.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection


def causal_text(network: nn.Module) -> CausalText | None:
    """The text tower of open_clip's `network` for trimmed ids; None where it must see whole contexts."""
    if why_whole(network):
        return None
    tower: Any = network.text if hasattr(network, "text") else network
    flat = tower is network
    pool_type, end_id = (tower.text_pool_type, tower.text_eos_id) if flat else (tower.pool_type, tower.eos_id)
    return CausalText(tower, pool_type, end_id)


def why_whole(network: nn.Module) -> str:
    """Why a network of open_clip must see whole contexts, in a few words; empty where texts may be trimmed."""
    own = getattr(type(network), "encode_text", None)
    tower: Any = network.text if hasattr(network, "text") else network
    if tower is not network and type(tower) is not TextTransformer:
        return f"its text tower is a {type(tower).__name__}, not one of open_clip's own kind"
    if getattr(tower, "cls_emb", None) is not None:
        return "its text tower appends a class token, which is pooled"
    if own not in (open_clip.CLIP.encode_text, open_clip.CustomTextCLIP.encode_text):
        return f"a {type(network).__name__} encodes texts in a way of its own"
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
    return _foreign(tower.transformer)


def _foreign(transformer: nn.Module) -> str:
    """What in a transformer is not open_clip's own, and so might read tokens in another way."""
    kinds = {type(transformer)} - {Transformer}
    kinds |= {type(block) for block in getattr(transformer, "resblocks", ())} - {
        ResidualAttentionBlock,
        CustomResidualAttentionBlock,
    }
    return f"its text tower has a {kinds.pop().__name__}, which is not open_clip's" if kinds else ""
