"""Cross-attention pooling: features of one modality attend to the tokens of the other (COSMOS, section 3.3)."""

from open_clip.transformer import LayerNorm
from torch import Tensor, nn
from torch.nn import functional as F


class CrossAttentionPool(nn.Module):
    """One multi-head attention with a norm before queries and before keys; nothing follows it.

    Padding tokens are attended to like any other: the original has no mask here, and released weights were trained so.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_q = LayerNorm(width)
        self.ln_k = LayerNorm(width)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """(B, n, D) queries and (B, T, D) tokens of the same samples -> (B, n, D)."""
        keys = self.ln_k(tokens)
        return self.attn(self.ln_q(queries), keys, keys, need_weights=False)[0]


def cross_modal_features(pool: CrossAttentionPool, features: Tensor, tokens: Tensor) -> Tensor:
    """Features of all views, informed by the other modality's tokens of the same samples.

    The views of a sample are its queries, so that keys and values are projected once for each sample, not once for each
    view.

    Args:
        pool: the pooler of the modality that the tokens come from.
        features: (n * B, D) unnormalised, view-major: 0..B-1 are every sample's first view.
        tokens: (B, T, D) mapped tokens of the other modality's first view.

    Returns:
        (n * B, D) of unit length, in the same order.
    """
    batch, width = len(tokens), features.shape[-1]
    queries = features.unflatten(0, (-1, batch)).transpose(0, 1)  # (B, n, D)
    pooled = pool(queries, tokens).transpose(0, 1).reshape(-1, width)
    return F.normalize(features + pooled, dim=-1)
