"""Folders in open_clip's layout for each architecture of its registry: towers of the same classes with random weights,
but few layers, and small vocabularies where the tokenizer would come from the hub."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip import timm_model
from safetensors.torch import save_file
from torch import nn

from cosmos_eval.models.open_clip_compat import model_config

WORDS = 40
END = WORDS - 1
PREPROCESSING = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}
SHALLOW = ({"depth": 1}, {"depths": (1,) * 4}, {"layers": (1,) * 5}, {"layers": (1,) * 4}, {})
"""Arguments of timm's families for one layer, or one in each stage; the first that a family takes is used."""


@contextmanager
def shallow_timm() -> Iterator[None]:
    """timm's image towers with one layer; everything else as their names say."""
    create = timm.create_model

    def create_shallow(name: str, **options: Any) -> nn.Module:
        for sizes in SHALLOW:
            try:
                return create(name, **{**options, **sizes})
            except (TypeError, IndexError, AssertionError):  # of another family
                continue
        raise AssertionError(name)

    timm_model.timm.create_model = create_shallow
    try:
        yield
    finally:
        timm_model.timm.create_model = create


def shrink(arch: str) -> dict[str, Any]:
    """The `model_cfg` of an architecture with towers of one layer."""
    config = copy.deepcopy(model_config(arch))
    assert config is not None
    vision, text, width = config["vision_cfg"], config["text_cfg"], config["embed_dim"]
    if isinstance(vision.get("layers"), list):
        config["embed_dim"] = width = 512  # 32 times the width: the attention pool has 8 heads
        vision.update(layers=[1, 1, 1, 1], width=16)
    elif not vision.get("timm_model_name"):
        vision.update(layers=1, width=32, head_width=16)
        if vision.get("attentional_pool"):
            vision.update(attn_pooler_queries=4)
    if text.get("hf_tokenizer_name"):
        text.update(vocab_size=WORDS)
        if "eos_id" in text or text.get("pool_type") == "eos":
            text.update(eos_id=END)
    else:
        text.pop("vocab_size", None)  # coca_base has more embeddings than open_clip's tokenizer has words
    if not text.get("hf_model_name"):
        own = width if text.get("proj_type") == "none" else 16
        text.update(layers=1, width=own, heads=2)
    if "multimodal_cfg" in config:
        config["multimodal_cfg"].update(layers=1, width=16, heads=2)
    return config


def text_tower_config(config: dict[str, Any]) -> Any:
    """transformers' configuration of a small text tower of the family that an architecture names."""
    import transformers

    text, name = config["text_cfg"], config["text_cfg"]["hf_model_name"].lower()
    width = 16 if text.get("hf_proj_type") in ("linear", "mlp") else config["embed_dim"]
    common = {"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": END}
    if "mt5" in name:
        return transformers.MT5Config(d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, **common)
    if "nllb" in name:
        layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
        return transformers.M2M100Config(d_model=width, encoder_ffn_dim=16, decoder_ffn_dim=16, **layers, **common)
    kind = transformers.XLMRobertaConfig if "xlm" in name else transformers.RobertaConfig
    sizes = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return kind(max_position_embeddings=130, **sizes, **common)


def save_tokenizer(folder: Path) -> None:
    """A tokenizer of transformers with the special tokens that open_clip's modes ask for."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {"[PAD]": 0, "[UNK]": 1, "[BOS]": 2, "[CLS]": 3, **{f"word{i}": i for i in range(4, END)}, "[EOS]": END}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[("[EOS]", END)])
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", bos_token="[BOS]", cls_token="[CLS]",
        eos_token="[EOS]", sep_token="[EOS]",
    ).save_pretrained(folder)  # fmt: skip


def write_architecture(
    arch: str, folder: Path, save_tokenizer: Callable[[Path], None] = save_tokenizer
) -> tuple[nn.Module, Any, Any]:
    """Write the folder; return open_clip's own network, image transform and tokenizer of it, as its factory makes them.

    Must be called, and the folder be loaded, within `shallow_timm`.
    """
    folder.mkdir(parents=True)
    config = shrink(arch)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESSING}))
    options: dict[str, Any] = {}
    if config["text_cfg"].get("hf_tokenizer_name"):
        save_tokenizer(folder)
    if config["text_cfg"].get("hf_model_name"):
        text_tower_config(config).save_pretrained(folder)
        # open_clip itself reads this configuration from the hub, by its name
        options["text_cfg"] = {**config["text_cfg"], "hf_model_name": str(folder), "hf_model_pretrained": False}
    torch.manual_seed(len(arch))
    created = open_clip.create_model_and_transforms(f"local-dir:{folder}", pretrained_text=False, **options)
    network, preprocess = created[0].eval(), created[2]
    for parameter in network.parameters():  # zeros and ones of a new network would hide a wrong order of operations
        parameter.data.nan_to_num_(0, 0, 0).clamp_(-100, 100)  # CoCa leaves a projection uninitialised
        if parameter.ndim:
            parameter.data.add_(0.02 * torch.randn_like(parameter))
    save_file(
        {key: value.contiguous().clone() for key, value in network.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return network, preprocess, open_clip.get_tokenizer(f"local-dir:{folder}")
