"""Tiny random CLIPs with OpenAI's vocabulary, saved by open_clip and transformers, and a COSMOS."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers as hf
from safetensors.torch import save_file

from cosmos_core.checkpoint import save_checkpoint
from cosmos_core.prepare import initial_model
from cosmos_core.tokenizer import byte_pair_encoding

CONTEXT = 40
MODEL_CFG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESSING = {
    "mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD),
    "interpolation": "bicubic", "resize_mode": "shortest",
}  # fmt: skip


def perturb(network: torch.nn.Module, seed: int) -> None:
    """Other values than the zeros and ones of a new network, which would hide a wrong order or a wrong place."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.ndim:
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def write_open_clip(folder: Path, preprocessing: dict[str, Any] = PREPROCESSING, **changes: Any) -> Path:
    """A folder of open_clip (`open_clip:local-dir:FOLDER`), with weights that its own class made."""
    folder.mkdir(parents=True)
    config = {**MODEL_CFG, **changes}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}))
    torch.manual_seed(1)
    network = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    perturb(network, 1)
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder


@lru_cache(maxsize=1)
def clip_tokenizer() -> Any:
    """transformers' tokenizer of CLIP with OpenAI's words and merges."""
    encoding = byte_pair_encoding()
    merges = [pair for pair, _ in sorted(encoding.bpe_ranks.items(), key=lambda item: item[1])]
    words = {number: word for word, number in encoding.encoder.items()}
    words |= {49406: "<|startoftext|>", 49407: "<|endoftext|>"}  # open_clip has other names for these
    vocab = {word: number for number, word in words.items()}
    return hf.CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT)


def write_transformers(folder: Path, **text: Any) -> Path:
    """A folder of transformers (`hf:FOLDER`), as save_pretrained writes it."""
    tower = {"num_hidden_layers": 2, "intermediate_size": 64, "hidden_act": "quick_gelu"}
    config = hf.CLIPConfig(
        projection_dim=16,
        vision_config={**tower, "hidden_size": 24, "num_attention_heads": 3, "image_size": 32, "patch_size": 16},
        text_config={
            **tower, "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": CONTEXT,
            "vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407, **text,
        },
    )  # fmt: skip
    torch.manual_seed(2)
    network = hf.CLIPModel(config)
    perturb(network, 2)
    network.save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def write_cosmos(path: Path, vocabulary: int = 49408) -> Path:
    """A checkpoint of a training: a student and another teacher."""
    config = {**MODEL_CFG, "text_cfg": {**MODEL_CFG["text_cfg"], "vocab_size": vocabulary}}
    networks = [initial_model(config, seed) for seed in (3, 4)]
    for seed, network in enumerate(networks):
        perturb(network, seed)
    save_checkpoint(
        path, config=networks[0].config, student=networks[0], teacher=networks[1], optimizer=None, epoch=1, name="tiny"
    )
    return path
