"""COSMOS: a CLIP whose towers also return tokens, and two cross-attention poolers that join image and text.

Kim et al., "COSMOS: Cross-Modality Self-Distillation for Vision Language Pre-training", CVPR 2025 (arXiv 2412.01814).
The towers are open_clip's; parameter names and order are those of the original project, so that its checkpoints load.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.nn import functional as F

from cosmos_core.configs import POOLER_HEADS, checked, preset
from cosmos_core.cross_pool import CrossAttentionPool, cross_modal_features
from cosmos_core.positions import run_time_positions
from cosmos_core.text_groups import TextGroups, group_texts


@dataclass
class Features:
    """Output of one forward: features of unit length, view-major (0..B-1 are every sample's first view)."""

    image_features: Tensor
    """(n_images * B, D)"""
    text_features: Tensor
    """(n_texts * B, D)"""
    logit_scale: Tensor
    """Temperature of the contrastive loss, exponentiated; a scalar."""
    distill_logit_scale: Tensor
    """Temperature of the distillation loss, exponentiated; a scalar."""
    image_cross_features: Tensor | None = None
    """(n_images * B, D) image features informed by the first caption's tokens; only in the training forward."""
    text_cross_features: Tensor | None = None
    """(n_texts * B, D) text features informed by the patches of the first global crop; only in the training forward."""


class COSMOS(nn.Module):
    """One network: image tower, text tower, poolers. Training holds two, a student and its averaged teacher.

    Args:
        embed_dim: D, the dimension of the embeddings of both modalities.
        vision_cfg, text_cfg: the towers, with open_clip's keys and `attn_pooler_heads`.
        quick_gelu: whether the towers use QuickGELU; exact GELU otherwise, as all released COSMOS weights do.

    Raises:
        RequestError: the configuration cannot carry COSMOS; the message says why.
    """

    def __init__(
        self, embed_dim: int, vision_cfg: Mapping[str, Any], text_cfg: Mapping[str, Any], quick_gelu: bool = False
    ) -> None:
        super().__init__()
        config: dict[str, Any] = {"embed_dim": embed_dim, "vision_cfg": dict(vision_cfg), "text_cfg": dict(text_cfg)}
        if quick_gelu:
            config["quick_gelu"] = True
        self.config = checked(config)
        text = {key: value for key, value in text_cfg.items() if key != "attn_pooler_heads"}
        clip = open_clip.CLIP(embed_dim, dict(vision_cfg), text, quick_gelu=quick_gelu)

        # Assigned in the order of the original's state dict, on which its optimizer's state depends (parameters by
        # number).
        self.positional_embedding = clip.positional_embedding
        self.text_projection = clip.text_projection
        self.logit_scale = clip.logit_scale
        self.distill_logit_scale = nn.Parameter(clip.logit_scale.detach().clone())
        self.visual = clip.visual
        last_norm = self.visual.ln_post
        del self.visual.ln_post
        self.visual.attn_cross_pool = CrossAttentionPool(embed_dim, vision_cfg.get("attn_pooler_heads", POOLER_HEADS))
        self.visual.ln_post = last_norm
        self.transformer = clip.transformer
        self.token_embedding = clip.token_embedding
        self.ln_final = clip.ln_final
        self.text_attn_cross_pool = CrossAttentionPool(embed_dim, text_cfg.get("attn_pooler_heads", POOLER_HEADS))
        self.image_token_mapping = nn.Linear(self.visual.conv1.out_channels, embed_dim)
        self.text_token_mapping = nn.Linear(self.transformer.width, embed_dim)
        self.attn_mask: Tensor
        self.register_buffer("attn_mask", clip.attn_mask, persistent=False)
        self.text_pool_type, self.text_end_id = clip.text_pool_type, clip.text_eos_id

        self.embed_dim = embed_dim
        self.image_size: tuple[int, int] = self.visual.image_size
        self.patch_size: tuple[int, int] = self.visual.patch_size
        self.context_length, self.vocab_size = clip.context_length, clip.vocab_size

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | str) -> "COSMOS":
        """A new model from a preset's name or a configuration; RequestError where that is impossible."""
        return cls(**(preset(config) if isinstance(config, str) else checked(config)))

    def image_tower(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> unnormalised pooled features (B, D), and patch tokens (B, h * w, width) after the final norm.

        Sizes that are not multiples of the patch are floored; position embeddings are interpolated for other sizes.
        """
        hidden = self.visual.ln_post(self.image_hidden(images))
        return hidden[:, 0] @ self.visual.proj, hidden[:, 1:]

    def image_hidden(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1 + h * w, width): the class token and the patches as the last block leaves them."""
        patches = self.visual.conv1(images)  # (B, width, h, w)
        height, width = images.shape[-2:]
        positions = run_time_positions(
            self.visual.positional_embedding, self.visual.grid_size, tuple(patches.shape[-2:]), square=height == width
        )
        class_token = self.visual.class_embedding.to(patches.dtype).expand(len(images), 1, -1)
        hidden = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1) + positions.to(patches.dtype)
        return self.visual.transformer(self.visual.ln_pre(self.visual.patch_dropout(hidden)))

    def text_tower(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) ids -> raw pooled features (B, D), and tokens (B, L, width) of all positions, padding included.

        L may be below the context length: attention is causal, so that trimming padding leaves pooled features alone.
        """
        length = ids.shape[1]
        if length > len(self.positional_embedding):
            raise ValueError(f"texts of {length} tokens for a model with a context of {len(self.positional_embedding)}")
        dtype = self.transformer.get_cast_dtype()
        hidden = self.token_embedding(ids).to(dtype) + self.positional_embedding[:length].to(dtype)
        tokens = self.ln_final(self.transformer(hidden, attn_mask=self.attn_mask[:length, :length]))
        pooled = text_global_pool(tokens, ids, self.text_pool_type, eos_token_id=self.text_end_id)
        return pooled @ self.text_projection, tokens

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, D)."""
        features = self.visual.ln_post(self.image_hidden(images)[:, 0]) @ self.visual.proj
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, ids: Tensor, normalize: bool = False) -> Tensor:
        """(B, L) token ids -> (B, D)."""
        features = self.text_tower(ids)[0]
        return F.normalize(features, dim=-1) if normalize else features

    def forward(
        self,
        images: Tensor | Sequence[Tensor],
        texts: Tensor,
        batch_size: int | None = None,
        groups: TextGroups | None = None,
    ) -> Features:
        """Features of images and texts; with `batch_size`, the training forward with cross-modal features.

        Args:
            images: (B, 3, H, W), or one such tensor for each view: global crops first, then local ones of any
                size. Crops of one size pass the tower in one batch.
            texts: (n * B, L), caption-major: 0..B-1 are every sample's first caption.
            batch_size: B. The poolers attend to the tokens of the first crop and of the first caption.
            groups: of the texts whose tokens are not needed (with `batch_size`, all but the first B). On a CPU they are
                found here; elsewhere, and while torch.compile traces this forward, texts pass whole without them.

        Returns:
            Features; the cross-modal ones only where `batch_size` is given (a teacher is called without).
        """
        views = [images] if isinstance(images, Tensor) else list(images)
        pooled_images, image_tokens = self._encode_views(views, with_tokens=batch_size is not None)
        pooled_texts, text_tokens = self._encode_texts(texts, batch_size or 0, groups)
        features = Features(
            image_features=F.normalize(pooled_images, dim=-1),
            text_features=F.normalize(pooled_texts, dim=-1),
            logit_scale=self.logit_scale.exp(),
            distill_logit_scale=self.distill_logit_scale.exp(),
        )
        if batch_size is None:
            return features
        if image_tokens is None or len(image_tokens) != batch_size or len(texts) % batch_size:
            raise ValueError(f"{len(views[0])} images in each view and {len(texts)} texts for a batch of {batch_size}")
        features.image_cross_features = cross_modal_features(
            self.text_attn_cross_pool, pooled_images, self.text_token_mapping(text_tokens)
        )
        features.text_cross_features = cross_modal_features(
            self.visual.attn_cross_pool, pooled_texts, self.image_token_mapping(image_tokens)
        )
        return features

    def _encode_views(self, views: list[Tensor], with_tokens: bool) -> tuple[Tensor, Tensor | None]:
        """Pooled features of all views in their order, and, if `with_tokens`, the patch tokens of the first view."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, view in enumerate(views):
            by_size.setdefault(tuple(view.shape[1:]), []).append(index)
        pooled: dict[int, Tensor] = {}
        tokens = None
        for indices in by_size.values():
            hidden = self.image_hidden(
                torch.cat([views[i] for i in indices]) if len(indices) > 1 else views[indices[0]]
            )
            features = self.visual.ln_post(hidden[:, 0]) @ self.visual.proj
            pooled.update(zip(indices, features.split([len(views[i]) for i in indices]), strict=True))
            if with_tokens and indices[0] == 0:
                # The final norm works token by token, so it is applied only to the tokens that the pooler reads.
                tokens = self.visual.ln_post(hidden[: len(views[0]), 1:])
        return torch.cat([pooled[i] for i in range(len(views))]), tokens

    def _encode_texts(
        self, ids: Tensor, texts_with_tokens: int, groups: TextGroups | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pooled features of all texts in their order, and tokens (texts_with_tokens, L, width) of the first ones.

        The tokens of the other texts are not needed. They pass the tower in groups of similar length, without padding:
        attention is causal, so pooled features stay the same, and a step on short captions takes about a third less
        time.
        """
        # A compiled forward would be cut in two where the lengths are read, and each group of each batch with another
        # length would be compiled as one more tower.
        if groups is None and ids.device.type == "cpu" and not torch.compiler.is_compiling():
            groups = group_texts(ids[texts_with_tokens:], ids.device)
        if groups is None or not len(ids):
            pooled, tokens = self.text_tower(ids)
            return pooled, tokens[:texts_with_tokens]
        parts, tokens = [], ids.new_empty(0)
        if texts_with_tokens:
            pooled, tokens = self.text_tower(ids[:texts_with_tokens])
            parts.append(pooled)
        if groups.counts:
            sorted_ids = ids[texts_with_tokens:][groups.order].split(groups.counts)
            pooled_groups = [
                self.text_tower(part[:, :length])[0] for part, length in zip(sorted_ids, groups.lengths, strict=True)
            ]
            parts.append(torch.cat(pooled_groups)[groups.places])
        return torch.cat(parts), tokens

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether the towers recompute activations in the backward pass to save memory."""
        self.visual.transformer.grad_checkpointing = enable
        self.transformer.grad_checkpointing = enable
