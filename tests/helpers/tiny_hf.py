"""Tiny random models of transformers' image-text families, saved by the library's own classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from cosmos_eval.models.hf_families import FAMILIES

CONTEXT = 20
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TOWER, "image_size": 32, "patch_size": 16}
WORDS = ["a", "red", "cube", "two", "blue", "spheres", "left", "of", "the", ".", ","]
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]


def clip_tokenizer() -> Any:
    pieces = [letter + end for letter in [*LETTERS, ",", "."] for end in ("", "</w>")]
    vocab = {word: i for i, word in enumerate(["<|startoftext|>", "<|endoftext|>", *pieces])}
    return hf.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=CONTEXT)


def bert_tokenizer() -> Any:
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *LETTERS[1:],
        *(f"##{letter}" for letter in LETTERS),
    ]
    return hf.BertTokenizer(vocab={word: i for i, word in enumerate(pieces)})


def xlm_roberta_tokenizer() -> Any:
    pieces = ["▁", *(f"▁{word}" for word in WORDS), *LETTERS, ",", "."]
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -3.0) for piece in pieces)]
    return hf.XLMRobertaTokenizer(vocab=[*vocab, ("<mask>", 0.0)])


def siglip2_tokenizer() -> Any:
    vocab = {word: i for i, word in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS, ",", "."])}
    return hf.Siglip2Tokenizer(vocab=vocab, merges=[], padding_side="right")


def text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, **more}


def clip_text(tokenizer: Any) -> dict[str, Any]:
    return text(tokenizer, bos_token_id=0, eos_token_id=1, pad_token_id=1)


def clip_images(**more: Any) -> Any:
    return hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, **more)


SQUARE = {"height": 32, "width": 32}
Parts = tuple[Any, Any, Any]
"""Network, tokenizer, image processor."""


def clip() -> Parts:
    tokenizer = clip_tokenizer()
    config = hf.CLIPConfig(text_config=clip_text(tokenizer), vision_config=VISION, projection_dim=8)
    return hf.CLIPModel(config), tokenizer, clip_images()


def siglip2_fixed() -> Parts:
    tokenizer = siglip2_tokenizer()
    config = hf.SiglipConfig(text_config=text(tokenizer), vision_config=VISION)
    return hf.SiglipModel(config), tokenizer, hf.SiglipImageProcessorPil(size=SQUARE)


def siglip2() -> Parts:
    tokenizer = siglip2_tokenizer()
    vision = {**TOWER, "patch_size": 4, "num_patches": 16}
    config = hf.Siglip2Config(text_config=text(tokenizer, projection_size=16), vision_config=vision)
    return hf.Siglip2Model(config), tokenizer, hf.Siglip2ImageProcessorPil(patch_size=4, max_num_patches=30)


def metaclip_2() -> Parts:
    tokenizer = xlm_roberta_tokenizer()
    config = hf.MetaClip2Config(
        text_config=text(tokenizer, eos_token_id=2, pad_token_id=1), vision_config=VISION, projection_dim=8
    )
    return hf.MetaClip2Model(config), tokenizer, clip_images()


def align() -> Parts:
    tokenizer = bert_tokenizer()
    vision = {
        "image_size": 64, "hidden_dim": 16, "depth_coefficient": 0.1, "width_coefficient": 0.1, "in_channels": [32, 16],
        "out_channels": [16, 16], "kernel_sizes": [3, 3], "strides": [1, 2], "num_block_repeats": [1, 1],
        "expand_ratios": [1, 2], "depthwise_padding": [],
    }  # fmt: skip
    config = hf.AlignConfig(text_config=text(tokenizer), vision_config=vision, projection_dim=8)
    processor = hf.EfficientNetImageProcessorPil(
        size={"height": 40, "width": 40}, crop_size=SQUARE, do_center_crop=True, rescale_offset=True, include_top=False
    )
    return hf.AlignModel(config), tokenizer, processor


def altclip() -> Parts:
    tokenizer = xlm_roberta_tokenizer()
    config = hf.AltCLIPConfig(
        text_config=text(tokenizer, pad_token_id=1, project_dim=12, max_position_embeddings=CONTEXT + 2),
        vision_config=VISION,
        projection_dim=8,
    )
    return hf.AltCLIPModel(config), tokenizer, clip_images()


def chinese_clip() -> Parts:
    tokenizer = bert_tokenizer()
    config = hf.ChineseCLIPConfig(text_config=text(tokenizer), vision_config=VISION, projection_dim=8)
    return hf.ChineseCLIPModel(config), tokenizer, hf.ChineseCLIPImageProcessorPil(size=SQUARE, crop_size=SQUARE)


def clipseg() -> Parts:
    tokenizer = clip_tokenizer()
    config = hf.CLIPSegConfig(
        text_config=clip_text(tokenizer), vision_config=VISION, projection_dim=8, extract_layers=[0, 1], reduce_dim=4,
        decoder_num_attention_heads=2, decoder_intermediate_size=8,
    )  # fmt: skip
    # 48 pixels where the positions are for 32: they are interpolated
    processor = hf.ViTImageProcessorPil(size={"height": 48, "width": 48}, resample=2)
    return hf.CLIPSegForImageSegmentation(config), tokenizer, processor


def groupvit() -> Parts:
    tokenizer = clip_tokenizer()
    vision = {**VISION, "depths": [1, 1], "num_group_tokens": [4, 2], "num_output_groups": [4, 2], "patch_size": 8}
    config = hf.GroupViTConfig(
        text_config=clip_text(tokenizer), vision_config=vision, projection_dim=8, projection_intermediate_dim=8
    )
    return hf.GroupViTModel(config), tokenizer, clip_images()


def flava() -> Parts:
    tokenizer = bert_tokenizer()
    config = hf.FlavaConfig(
        text_config=text(tokenizer), image_config={**VISION, "vocab_size": 8}, multimodal_config=TOWER,
        projection_dim=8, hidden_size=16, init_codebook=False,
    )  # fmt: skip
    processor = hf.FlavaImageProcessorPil(size=SQUARE, crop_size=SQUARE)
    return hf.FlavaForPreTraining(config), tokenizer, processor


def blip(network: str = "BlipForImageTextRetrieval") -> Parts:
    tokenizer = bert_tokenizer()
    config = hf.BlipConfig(
        text_config=text(tokenizer, encoder_hidden_size=16), vision_config=VISION, projection_dim=8,
        image_text_hidden_size=8,
    )  # fmt: skip
    return getattr(hf, network)(config), tokenizer, hf.BlipImageProcessorPil(size=SQUARE)


def blip_model() -> Parts:
    return blip("BlipModel")


def blip_2() -> Parts:
    tokenizer = bert_tokenizer()
    qformer = {"cross_attention_frequency": 1, "use_qformer_text_input": True}
    config = hf.Blip2Config(
        vision_config={**VISION, "qkv_bias": True},
        qformer_config=text(tokenizer, encoder_hidden_size=16, **qformer),
        text_config={"model_type": "opt", "vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "ffn_dim": 8,
                     "num_attention_heads": 1, "word_embed_proj_dim": 8, "max_position_embeddings": 8},
        num_query_tokens=3, image_text_hidden_size=8, image_token_index=None,
    )  # fmt: skip
    network = hf.Blip2ForImageTextRetrieval(config)
    tokenizer.add_tokens(["<image>"], special_tokens=True)  # as Blip2Processor does; there is no embedding for it
    return network, tokenizer, hf.BlipImageProcessorPil(size=SQUARE)


BUILD: dict[str, Callable[[], Parts]] = {
    function.__name__: function
    for function in (
        clip, siglip2_fixed, siglip2,
        metaclip_2, align, altclip, chinese_clip, clipseg, groupvit, flava, blip, blip_model, blip_2,
    )
}  # fmt: skip
NAMES = {"blip_2": "blip-2", "blip_model": "blip", "siglip2_fixed": "siglip"}
assert {NAMES.get(name, name) for name in BUILD} == FAMILIES.keys()


def save(folder: Path, build: Callable[[], Parts]) -> Path:
    """Save a model with random weights, which are large enough that texts and images differ in their features."""
    torch.manual_seed(0)
    network, tokenizer, processor = build()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    for part in (network, tokenizer, processor):
        part.save_pretrained(folder)
    return folder
