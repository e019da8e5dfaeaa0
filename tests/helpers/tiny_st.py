"""Tiny random models of images and texts, built and saved by the classes of sentence-transformers."""

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.helpers.tiny_hf import VISION, clip_images, clip_text, clip_tokenizer

PROMPTS = {"query": "find:", "document": "describe the picture"}
CONTEXT = 128
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for item in message['content'] %}"
    "{% if item['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif item['type'] == 'text' %}{{ item['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}<|endoftext|>"
)


def randomise(network: Any) -> Any:
    """Weights of a size at which different inputs give clearly different embeddings."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def save_clip(folder: Path) -> Path:
    """A CLIP as transformers saves it."""
    tokenizer = clip_tokenizer()
    torch.manual_seed(0)
    network = hf.CLIPModel(hf.CLIPConfig(text_config=clip_text(tokenizer), vision_config=VISION, projection_dim=8))
    randomise(network).save_pretrained(folder)
    hf.CLIPProcessor(clip_images(), tokenizer).save_pretrained(folder)
    return folder


def qwen_tokenizer() -> Any:
    vocab = {letter: i for i, letter in enumerate(sorted(bytes_to_unicode().values()))}
    return hf.Qwen2Tokenizer(vocab=vocab, merges=[], additional_special_tokens=SPECIAL, model_max_length=CONTEXT)


def save_qwen(folder: Path) -> Path:
    """A Qwen3-VL, which keeps the aspect ratio of images and reads them in a conversation."""
    tokenizer = qwen_tokenizer()
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(SPECIAL), strict=True))
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 8,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 16, "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }  # fmt: skip
    config = hf.Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    randomise(hf.Qwen3VLModel(config)).save_pretrained(folder)
    sizes = {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    images = hf.Qwen2VLImageProcessor(min_pixels=16 * 16, max_pixels=64 * 64, **sizes)
    hf.Qwen3VLProcessor(images, tokenizer, hf.Qwen3VLVideoProcessor(**sizes), TEMPLATE).save_pretrained(folder)
    return folder


def build_clip(folder: Path) -> Any:
    """Like clip-ViT-B-32 as version 5.4 and later save it: one `Transformer`, no pooling, no prompts."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    return SentenceTransformer(modules=[Transformer(str(save_clip(folder)))], device="cpu")


def build_qwen(folder: Path) -> Any:
    """An embedder on a multimodal language model: its last token, with prompts for queries and documents."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = [Transformer(str(save_qwen(folder))), Pooling(16, pooling_mode="lasttoken"), Normalize()]
    return SentenceTransformer(modules=modules, prompts=PROMPTS, device="cpu")


def build_dense(folder: Path) -> Any:
    """A CLIP with a projection behind it, cut to five dimensions, and a prompt that it has by default."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer

    torch.manual_seed(2)
    modules = [Transformer(str(save_clip(folder))), Dense(8, 6)]
    prompts = {"short": "a red "}
    return SentenceTransformer(
        modules=modules, prompts=prompts, default_prompt_name="short", truncate_dim=5, device="cpu"
    )


def build_router(folder: Path) -> Any:
    """Two networks, one for queries and one for documents."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router, Transformer

    first = Transformer(str(save_clip(folder / "first")))
    second = Transformer(str(save_clip(folder / "second")))
    with torch.no_grad():
        second.model.text_projection.weight.mul_(-1)
    return SentenceTransformer(modules=[Router.for_query_document([first], [second])], device="cpu")


BUILD = {"clip": build_clip, "qwen3_vl": build_qwen, "dense": build_dense, "router": build_router}
