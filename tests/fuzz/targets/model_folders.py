"""Folders of models of other libraries: their JSON is read by those libraries, whose failures are ours to tell."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cosmos_eval import load_model
from tests.fuzz.running import Target


@cache
def _texts() -> list[str]:
    return ["a red thing", "größer"]


def _make(folder: Path) -> list[Path]:
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": 49408, "eos_token_id": 2, "bos_token_id": 49406, "pad_token_id": 1}
    vision = {**size, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    tokenizer = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    merges = sorted(tokenizer.bpe_ranks, key=lambda pair: tokenizer.bpe_ranks[pair])
    files = {
        "preprocessor_config.json": {
            "crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 32}, "do_center_crop": True,
            "do_normalize": True, "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "resample": 3,
            "image_processor_type": "CLIPImageProcessor", "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        },
        "vocab.json": {names.get(key, key): value for key, value in tokenizer.encoder.items()},
        "tokenizer_config.json": {
            "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer",
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    lines = "#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n"
    (folder / "merges.txt").write_text(lines, encoding="utf-8")
    return [folder / name for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json")]


def _load(folder: Path) -> Any:
    model = load_model(f"hf:{folder}")
    return model.encode_text(_texts()).tolist(), model.encode_image(torch.zeros(1, 3, 32, 32)).tolist()


TARGETS = [Target("transformers-folder", _make, _load, quick=3)]
