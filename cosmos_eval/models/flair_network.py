"""FLAIR: a CLIP whose images are pooled by attention under a text, and loading of its authors' checkpoints.

Xiao et al., "FLAIR: VLM with Fine-grained Language-informed Image Representations", CVPR 2025 (arXiv 2412.03561). The
towers are open_clip's ViT-B/16. Neither has a projection of its own: `image_post` projects all image tokens after the
last norm, `text_post` the token at the end of the text. Parameter names are those of the released checkpoints
(`xiaorui638/flair` on the hub), which hold weights only: the architecture is read from their shapes.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import LayerNorm, text_global_pool
from torch import Tensor, nn
from torch.nn import functional as F

from cosmos_core.checkpoint import require_dense_weights
from cosmos_core.errors import RequestError
from cosmos_core.layouts import read_state
from cosmos_core.printable import one_line
from cosmos_core.weight_layouts import FLAIR as FLAIR_NAMES
from cosmos_core.weight_layouts import explain_other_library

HEADS = 8
"""Heads of the attention pooler; the released code has no other number, and weights do not show it."""
HEAD_WIDTH = 64
"""Width of the heads of both towers: 12 of 768 and 8 of 512 in ViT-B/16."""
LARGEST_SCORE_BLOCK = 2**24
"""Attention weights that `pooled_scores` computes at a time: 64 MiB in float32."""


class TextConditionedPool(nn.Module):
    """One multi-head attention with norms before queries, keys and values (FLAIR, section 3.2); nothing follows it.

    Keys and values have an extra token of zeros, so that a text may attend to nothing in the image.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, HEADS, batch_first=True, add_zero_attn=True)
        self.ln_q, self.ln_k, self.ln_v = LayerNorm(width), LayerNorm(width), LayerNorm(width)

    def pooled_scores(self, texts: Tensor, tokens: Tensor) -> Tensor:
        """Cosine of each text with each image as it is pooled under this text.

        Args:
            texts: (m, D), unnormalised.
            tokens: (n, L, D) image tokens, unnormalised.

        Returns:
            (n, m)
        """
        step = max(1, LARGEST_SCORE_BLOCK // (len(texts) * HEADS * (tokens.shape[1] + 1)))
        queries = self._project(self.ln_q(texts), 0)  # (heads, m, D / heads)
        directions = F.normalize(texts, dim=-1)
        return torch.cat([self._scores(queries, directions, part) for part in tokens.split(step)])

    def _scores(self, queries: Tensor, directions: Tensor, tokens: Tensor) -> Tensor:
        """(heads, m, d) queries, (m, D) unit texts and (n, L, D) tokens -> (n, m)."""
        # A projected token of zeros at the end of keys and values.
        keys = F.pad(self._project(self.ln_k(tokens), 1), (0, 0, 0, 1))  # (n, heads, L + 1, d)
        values = F.pad(self._project(self.ln_v(tokens), 2), (0, 0, 0, 1))
        weights = (queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])).softmax(dim=-1)
        pooled = (weights @ values).transpose(1, 2).flatten(2)  # (n, m, D)
        return (F.normalize(self.attn.out_proj(pooled), dim=-1) * directions).sum(dim=-1)

    def _project(self, inputs: Tensor, part: int) -> Tensor:
        """(..., T, D) -> (..., heads, T, D / heads) queries (part 0), keys (1) or values (2)."""
        weight, bias = self.attn.in_proj_weight.chunk(3)[part], self.attn.in_proj_bias.chunk(3)[part]
        return F.linear(inputs, weight, bias).unflatten(-1, (HEADS, -1)).transpose(-2, -3)


class Projection(nn.Module):
    """(..., width) @ proj -> (..., embed_dim)"""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Parameter(width**-0.5 * torch.randn(width, embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.proj


class FLAIR(nn.Module):
    """Both towers, the pooler, and the scale and bias of its sigmoid loss.

    Args:
        embed_dim: D, the dimension of the embeddings of both modalities.
        vision_cfg, text_cfg: the towers, with open_clip's keys.
        logit_bias: whether it has a bias; those trained with the sigmoid loss, as all that were released, have one.
    """

    def __init__(
        self, embed_dim: int, vision_cfg: Mapping[str, Any], text_cfg: Mapping[str, Any], logit_bias: bool = True
    ) -> None:
        super().__init__()
        clip = open_clip.CLIP(
            embed_dim, dict(vision_cfg), dict(text_cfg), init_logit_bias=-10.0 if logit_bias else None
        )
        self.visual = clip.visual
        self.visual.proj = None
        self.visual_proj = TextConditionedPool(embed_dim)
        self.transformer, self.token_embedding = clip.transformer, clip.token_embedding
        self.positional_embedding, self.ln_final = clip.positional_embedding, clip.ln_final
        self.logit_scale, self.logit_bias = clip.logit_scale, clip.logit_bias
        self.image_post = Projection(self.visual.conv1.out_channels, embed_dim)
        self.text_post = Projection(self.transformer.width, embed_dim)
        self.attn_mask: Tensor
        self.register_buffer("attn_mask", clip.attn_mask, persistent=False)
        self.image_size: tuple[int, int] = self.visual.image_size
        self.context_length, self.vocab_size = clip.context_length, clip.vocab_size

    @property
    def text_projection(self) -> Tensor:
        """As `cosmos_core.text_tower.CausalText` names it."""
        return self.text_post.proj

    def image_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) of the native size -> (B, 1 + patches, D): class token and patches, projected, unnormalised."""
        visual = self.visual
        patches = visual.conv1(images).flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.to(patches.dtype).expand(len(images), 1, -1)
        hidden = torch.cat([class_token, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
        return self.image_post(visual.ln_post(visual.transformer(visual.ln_pre(hidden))))

    def text_features(self, ids: Tensor) -> Tensor:
        """(B, L) ids -> (B, D) at the end token, projected, unnormalised."""
        hidden = self.token_embedding(ids) + self.positional_embedding
        hidden = self.ln_final(self.transformer(hidden, attn_mask=self.attn_mask))
        return self.text_post(text_global_pool(hidden, ids, "argmax"))


def load_flair(path: Path) -> FLAIR:
    """A FLAIR in eval mode in float32, from a checkpoint of its authors' training code or of their release.

    Raises:
        RequestError: missing, truncated, not a checkpoint, another model's, other shapes, or weights not finite.
    """
    state = read_network(path)
    model = matching_model(state, path)
    copied = {key: state[key].to(torch.float32, copy=True).contiguous() for key in model.state_dict()}
    not_finite = next((key for key, value in copied.items() if not torch.isfinite(value).all()), None)
    if not_finite:
        raise RequestError(f"{path} is broken: {not_finite} holds NaN or infinite values")
    model.load_state_dict(copied, assign=True)
    length = model.context_length
    model.attn_mask = torch.full((length, length), -torch.inf).triu_(1)
    return model.eval()


def check_flair(path: Path) -> None:
    """Check by names and shapes whether `load_flair` will load a file; the weights are not read."""
    matching_model(read_network(path, check=False), path)


def read_network(path: Path, check: bool = True) -> dict[str, Tensor]:
    """The weights of a checkpoint file; RequestError also if their names are those of another library."""
    state = read_state(path, check=check).state
    problem = explain_other_library(state, FLAIR_NAMES)
    if problem:
        raise RequestError(f"{path} {problem}")
    return state


def matching_model(state: Mapping[str, Tensor], path: Path) -> FLAIR:
    """A model on the meta device with the architecture that the weights have; RequestError if they are not a FLAIR."""
    try:
        with torch.device("meta"):
            model = FLAIR(**architecture(state))
    except Exception as error:  # missing keys, other dimensions, sizes that open_clip or torch refuses
        raise RequestError(
            f"{path} is not a FLAIR checkpoint: its weights show no architecture ({type(error).__name__}: "
            f"{one_line(error)})"
        ) from error
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    wrong = [key for key, shape in expected.items() if key not in state or tuple(state[key].shape) != shape]
    wrong += [key for key in state if key not in expected and key != "attn_mask"]
    if wrong:
        names = ", ".join(one_line(key) for key in wrong[:3]) + (f" and {len(wrong) - 3} more" if wrong[3:] else "")
        raise RequestError(f"{path} is not a FLAIR checkpoint: missing, left over, or of another shape: {names}")
    require_dense_weights({key: state[key] for key in expected}, str(path))
    return model


def architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `FLAIR` that the shapes of weights show; KeyError, IndexError or ValueError if they do not."""
    kernel, positions = state["visual.conv1.weight"].shape, state["visual.positional_embedding"].shape[0]
    context_length, text_width = state["positional_embedding"].shape
    grid = math.isqrt(positions - 1)
    if grid * grid != positions - 1 or kernel[2] != kernel[3]:
        raise ValueError(f"{positions - 1} patches of {kernel[2]} x {kernel[3]} are not square")

    def layers(prefix: str) -> int:
        return len({key.split(".")[prefix.count(".")] for key in state if key.startswith(prefix)})

    def mlp_ratio(prefix: str) -> float:
        return state[f"{prefix}0.mlp.c_fc.weight"].shape[0] / state[f"{prefix}0.mlp.c_fc.weight"].shape[1]

    image_blocks, text_blocks = "visual.transformer.resblocks.", "transformer.resblocks."
    return {
        "embed_dim": state["image_post.proj"].shape[1],
        "vision_cfg": {
            "image_size": grid * kernel[2], "patch_size": kernel[2], "width": kernel[0], "head_width": HEAD_WIDTH,
            "layers": layers(image_blocks), "mlp_ratio": mlp_ratio(image_blocks),
        },
        "text_cfg": {
            "context_length": context_length, "vocab_size": state["token_embedding.weight"].shape[0],
            "width": text_width, "heads": text_width // HEAD_WIDTH, "layers": layers(text_blocks),
            "mlp_ratio": mlp_ratio(text_blocks),
        },
        "logit_bias": "logit_bias" in state,
    }  # fmt: skip
