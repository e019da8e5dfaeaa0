"""Trimmed texts: which of open_clip's towers may leave padding out, and that nothing changes where they do."""

import copy
import re
from collections import Counter
from functools import cache
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import QuickGELU
from torch import nn
from torch.nn import functional as F

from cosmos_core.model import COSMOS
from cosmos_core.text_tower import CausalText, causal_text, why_not_trimmable

VISION = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
SIZES = {"width": 64, "heads": 4, "layers": 2, "vocab_size": 300}
TOKENIZER = ("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode")
END = SIZES["vocab_size"] - 1

CAUSAL = "causal, pooled at the end token"
HF = "its text tower is a HFTextEncoder, not one of open_clip's own kind"
CLASS_TOKEN = "its text tower appends a class token, which is pooled"
LAST = "its texts are pooled by 'last', not at the end token"
BOTH_WAYS = "its text attention is not causal"


@cache
def shape_of(arch: str) -> tuple[tuple[str, object], ...]:
    """What decides how a tower works, whatever its size: class of the network, activation, text settings."""
    config = open_clip.get_model_config(arch)
    text = {k: repr(v) for k, v in config["text_cfg"].items() if k not in SIZES and k not in TOKENIZER}
    kind = "CoCa" if "multimodal_cfg" in config else "CustomTextCLIP" if config.get("custom_text") else "CLIP"
    if "hf_model_name" in text:
        kind, text = "HF", {}
    return (("kind", kind), ("quick_gelu", bool(config.get("quick_gelu"))), *sorted(text.items()))


def shapes() -> dict[tuple[tuple[str, object], ...], str]:
    """Each distinct shape among open_clip's configurations, by the first architecture that has it."""
    found: dict[tuple[tuple[str, object], ...], str] = {}
    for arch in open_clip.list_models():
        found.setdefault(shape_of(arch), arch)
    return found


def said_by_configuration(arch: str) -> str:
    """Why the texts of an architecture are left whole, or CAUSAL, by its words; the code goes by what was built."""
    text = open_clip.get_model_config(arch)["text_cfg"]
    if text.get("hf_model_name"):
        return HF
    if text.get("embed_cls"):
        return CLASS_TOKEN
    if text.get("pool_type", "argmax") == "last":
        return LAST
    return BOTH_WAYS if text.get("no_causal_mask") else CAUSAL


@cache
def small(arch: str) -> nn.Module:
    """The network that open_clip builds for `arch`, with towers of another size."""
    config = copy.deepcopy(open_clip.get_model_config(arch))
    shape = dict(shape_of(arch))
    text = {**{k: v for k, v in config["text_cfg"].items() if k not in TOKENIZER}, **SIZES}
    common = {"embed_dim": 32, "vision_cfg": VISION, "quick_gelu": shape["quick_gelu"]}
    torch.manual_seed(0)
    if shape["kind"] == "CoCa":
        vision = {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        decoder = {**SIZES, "attn_pooler_heads": 2, "context_length": config["multimodal_cfg"]["context_length"]}
        network = open_clip.CoCa(**{**common, "vision_cfg": vision}, text_cfg=text, multimodal_cfg=decoder)
    elif shape["kind"] == "HF":
        from transformers import RobertaConfig

        network = open_clip.CustomTextCLIP(**common, text_cfg=dict(SIZES))
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        network.text = HFTextEncoder("roberta-base", 32, config=RobertaConfig(**sizes), pretrained=False)
    else:
        network = (open_clip.CustomTextCLIP if shape["kind"] == "CustomTextCLIP" else open_clip.CLIP)(
            **common, text_cfg=text
        )
    return louder(network).eval().requires_grad_(False)


def louder(network: nn.Module) -> nn.Module:
    """Initial weights are so small that all texts look alike; these tell them, and the places in them, apart."""
    for name, weight in network.named_parameters():
        if weight.ndim == 2 and "visual" not in name:
            nn.init.normal_(weight, std=1.5 * weight.shape[1] ** -0.5 if "embedding" not in name else 1.0)
    return network


def some_ids(context: int, end: int, count: int = 16) -> torch.Tensor:
    """Texts of all lengths up to the whole context: start, words, end, padding of zeros."""
    rng = torch.Generator().manual_seed(1)
    ids = torch.randint(5, END - 1, (count, context), generator=rng)
    ids[:, 0] = END - 1
    places = torch.linspace(1, context - 1, count).round().long()
    places[-2] = 2  # a short one among the long
    for row, place in enumerate(places.tolist()):
        ids[row, place] = end
        ids[row, place + 1 :] = 0
    return ids


SHAPES = shapes()
CAUSAL_ARCHS = [arch for arch in SHAPES.values() if said_by_configuration(arch) == CAUSAL]
OTHER_ARCHS = [arch for arch in SHAPES.values() if arch not in CAUSAL_ARCHS]


@pytest.mark.parametrize("arch", CAUSAL_ARCHS)
def test_trimmed_is_whole_for_every_causal_shape(arch):
    network = small(arch)
    tower = causal_text(network)
    assert tower is not None
    end = tower.end_id if tower.pool_type == "eos" else END
    ids = some_ids(tower.context_length, end)
    lengths = tower.lengths(ids)
    assert lengths.max() == tower.context_length
    want = F.normalize(network.encode_text(ids), dim=1)
    assert (want @ want.T - torch.eye(len(ids))).amax() < 0.999  # no two texts look alike
    for group in lengths.argsort().split(7):
        longest = int(lengths[group].max())
        found = F.normalize(tower(ids[group, :longest], lengths[group]), dim=1)
        torch.testing.assert_close(found, want[group], atol=2e-6, rtol=0)
    alone = torch.cat([tower(row[None, :length], length[None]) for row, length in zip(ids, lengths, strict=True)])
    torch.testing.assert_close(F.normalize(alone, dim=1), want, atol=2e-6, rtol=0)


@pytest.mark.parametrize("arch", CAUSAL_ARCHS)
def test_a_text_is_read_up_to_where_it_is_pooled_whatever_stands_behind(arch):
    network = small(arch)
    tower = causal_text(network)
    end = tower.end_id if tower.pool_type == "eos" else END
    ids = some_ids(tower.context_length, end)
    twice = ids.clone()
    twice[:, 2] = end  # an end marker inside a text cuts it there
    lengths = tower.lengths(twice)
    assert set(lengths.tolist()) <= {2, 3}
    want, found = network.encode_text(twice), tower(twice[:, :3], lengths)
    torch.testing.assert_close(F.normalize(found, dim=1), F.normalize(want, dim=1), atol=2e-6, rtol=0)
    without = torch.full_like(ids, 7)  # no end token at all: both kinds of pooling take the first token
    assert tower.lengths(without).tolist() == [1] * len(ids)
    torch.testing.assert_close(tower(without[:, :1], tower.lengths(without)), network.encode_text(without))


@pytest.mark.parametrize("arch", OTHER_ARCHS)
def test_trimming_is_not_applied_where_attention_or_pooling_would_notice(arch):
    network = small(arch)
    assert causal_text(network) is None
    assert why_not_trimmable(network) == said_by_configuration(arch)


@pytest.mark.parametrize("arch", ["ViT-B-16-SigLIP", "MobileCLIP-S1", "ViT-H-14-CLIPA"])
def test_the_refusal_is_needed(arch):
    """Read as if it were causal, a bidirectional tower gives other features."""
    network = copy.deepcopy(small(arch))
    tower = network.text if hasattr(network, "text") else network
    context = len(tower.positional_embedding)
    tower.attn_mask = torch.zeros(context, context)
    ids = some_ids(context, END)
    forced = CausalText(tower, "argmax")
    lengths = forced.lengths(ids)
    found = F.normalize(forced(ids[:, : lengths[5]][:6], lengths[:6]), dim=1)
    whole = F.normalize(network.encode_text(ids)[:6], dim=1)
    assert (found - whole).abs().max() > 1e-2


def test_every_configuration_of_open_clip_is_classified():
    reason_of_shape = {shape: why_not_trimmable(small(arch)) or CAUSAL for shape, arch in SHAPES.items()}
    reasons = {arch: reason_of_shape[shape_of(arch)] for arch in open_clip.list_models()}
    assert reasons == {arch: said_by_configuration(arch) for arch in reasons}
    assert set(Counter(reasons.values())) == {CAUSAL, HF, CLASS_TOKEN, LAST, BOTH_WAYS}
    for arch, reason in {
        "ViT-B-32": CAUSAL,
        "ViT-bigG-14": CAUSAL,
        "RN50-quickgelu": CAUSAL,
        "EVA02-L-14": CAUSAL,  # custom_text
        "MobileCLIP-B": CAUSAL,
        "PE-Core-B-16": CAUSAL,  # 32 tokens
        "ViT-H-14-worldwide": CAUSAL,  # pooled at a tokenizer's own end token
        "ViT-B-16-SigLIP": LAST,
        "ViT-H-14-CLIPA": LAST,
        "coca_ViT-L-14": CLASS_TOKEN,
        "MobileCLIP-S2": BOTH_WAYS,
        "roberta-ViT-B-32": HF,
        "coca_roberta-ViT-B-32": HF,
        "nllb-clip-base-siglip": HF,
    }.items():
        assert reasons[arch] == reason, arch


def test_the_table_of_the_documentation_counts_them():
    page = (Path(__file__).parents[2] / "docs/speed.md").read_text(encoding="utf-8")
    told = {}
    for line in page.splitlines():
        if row := re.match(r"\| (.*) \| (?:of `open_clip` [\d.]+|(\d+)) \| (trimmed|full length) \|", line):
            told[row[1]] = row[2], row[3]
    found = Counter(said_by_configuration(arch) for arch in open_clip.list_models())
    words = {
        "causal, pooled at the largest id": CAUSAL,
        "pooled at the last token": LAST,
        "of `transformers`": HF,
        "causal mask switched off": BOTH_WAYS,
        "class token appended": CLASS_TOKEN,
    }
    for start, reason in words.items():
        (said,) = (cells for label, cells in told.items() if label.startswith(start))
        assert said == (str(found[reason]), "trimmed" if reason == CAUSAL else "full length")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"proj_bias": True}, ""),
        ({"proj_type": "none"}, ""),
        ({"pool_type": "eos", "eos_id": 3}, ""),
        ({"ls_init_value": 0.3, "mlp_ratio": 2.0}, ""),
        ({"qk_norm": True, "scale_attn": True, "scale_fc": True, "scale_heads": True, "scale_attn_inner": True}, ""),
        ({"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-3}}, ""),
        ({"pool_type": "first"}, "its texts are pooled by 'first', not at the end token"),
        ({"pool_type": "none"}, "its texts are pooled by 'none', not at the end token"),
        ({"no_causal_mask": True}, BOTH_WAYS),
        ({"embed_cls": True}, CLASS_TOKEN),
        ({"output_tokens": True}, "its text tower masks padding or gives tokens as well"),
    ],
)
def test_settings_that_no_configuration_has_are_judged_by_what_they_build(settings, reason):
    torch.manual_seed(0)
    network = louder(open_clip.CustomTextCLIP(32, VISION, {**SIZES, **settings})).eval().requires_grad_(False)
    assert why_not_trimmable(network) == reason
    if not reason:
        tower = causal_text(network)
        ids = some_ids(77, 3 if settings.get("pool_type") == "eos" else END)
        lengths = tower.lengths(ids)
        want = F.normalize(network.encode_text(ids)[:9], dim=1)
        found = F.normalize(tower(ids[:9, : lengths[8]], lengths[:9]), dim=1)
        torch.testing.assert_close(found, want, atol=2e-6, rtol=0)


def test_what_was_changed_by_hand_is_left_whole():
    def clip() -> open_clip.CLIP:
        return open_clip.CLIP(32, VISION, dict(SIZES))

    class OwnWay(open_clip.CLIP):
        def encode_text(self, text, normalize=False):
            return super().encode_text(text, normalize) + 1

    assert why_not_trimmable(OwnWay(32, VISION, dict(SIZES))) == "a OwnWay has its own encode_text"
    windowed = clip()
    windowed.attn_mask = torch.full((77, 77), float("-inf")).triu(1) + torch.full((77, 77), float("-inf")).tril(-5)
    assert why_not_trimmable(windowed) == "its text attention has a mask of another kind than the causal one"
    foreign = clip()
    foreign.transformer.resblocks[1] = nn.Identity()
    assert why_not_trimmable(foreign) == "its text tower has a Identity, which is not open_clip's"
    longer = clip()
    longer.positional_embedding = nn.Parameter(torch.zeros(248, SIZES["width"]))
    assert why_not_trimmable(longer) == "its text mask and its positions are of different lengths"
    assert why_not_trimmable(nn.Identity()) == "a Identity has its own encode_text"


def test_cosmos_reads_trimmed_texts_as_it_reads_whole_ones():
    text = {**SIZES, "width": 32, "context_length": 20, "attn_pooler_heads": 2}
    torch.manual_seed(0)
    model = louder(COSMOS(32, {**VISION, "attn_pooler_heads": 2}, text, quick_gelu=True)).eval().requires_grad_(False)
    assert any(isinstance(module, QuickGELU) for module in model.transformer.modules())
    tower = CausalText(model, model.text_pool_type, model.text_end_id)
    ids = some_ids(20, END, 12)
    lengths = tower.lengths(ids)
    assert lengths.tolist() == ((ids != 0) * torch.arange(1, 21)).amax(1).tolist()
    want = F.normalize(model.encode_text(ids), dim=1)[:6]
    torch.testing.assert_close(F.normalize(tower(ids[:6, : lengths[5]], lengths[:6]), dim=1), want, atol=2e-6, rtol=0)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_in_half_precision_trimmed_and_whole_are_as_near_as_half_precision_is(precision):
    network = small("ViT-B-32")
    tower = causal_text(network)
    ids = some_ids(77, END)[:8]
    lengths = tower.lengths(ids)
    exact = F.normalize(network.encode_text(ids), dim=1)
    with torch.autocast("cpu", dtype=precision):
        whole = F.normalize(network.encode_text(ids).float(), dim=1)
        found = F.normalize(tower(ids[:, : int(lengths.max())], lengths).float(), dim=1)
    error = (whole - exact).abs().max()
    assert 0 < error < 0.1
    assert (found - whole).abs().max() <= 2 * error
    assert (found - exact).abs().max() <= 2 * error
