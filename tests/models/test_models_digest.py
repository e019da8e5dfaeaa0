"""What changes a model's digest, and the activations of built networks."""

import torch
from open_clip.transformer import QuickGELU
from torch import nn
from transformers.activations import ACT2FN

from cosmos_eval.models.activation import activations_of
from cosmos_eval.models.digest import model_digest, text_case, text_padding, tokenizer_identity, weights_digest


def test_the_digest_of_weights_is_the_hash_of_names_types_shapes_and_bytes():
    tensors = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor(3, dtype=torch.int64)}
    import hashlib
    import struct

    by_hand = hashlib.sha256(
        b"a torch.int64 ()\n" + struct.pack("<q", 3) + b"b torch.float32 (2,)\n" + struct.pack("<2f", 1, 2)
    ).hexdigest()
    assert weights_digest(tensors) == by_hand


def test_equal_weights_have_one_digest_whatever_their_memory_layout():
    values = torch.arange(12.0).reshape(3, 4)
    transposed = {"w": values.T.contiguous().T}
    assert not transposed["w"].is_contiguous()
    assert weights_digest({"w": values}) == weights_digest(transposed) == weights_digest({"w": nn.Parameter(values)})


def test_name_type_shape_and_value_each_change_the_digest():
    values = torch.zeros(4)
    variants = [
        {"w": values},
        {"v": values},
        {"w": values.reshape(2, 2)},
        {"w": torch.zeros(4, dtype=torch.int32)},
        {"w": torch.zeros(8, dtype=torch.bfloat16)},
        {"w": torch.tensor([0.0, 0, 0, -0.0])},
        {"w": values, "x": torch.zeros(0)},
    ]
    assert len({weights_digest(v) for v in variants}) == len(variants)


def test_architecture_tokenizer_and_preprocessing_each_change_the_digest():
    base = ({"w": torch.ones(1)}, {"width": 3}, {"identity": "t"}, {"size": 64})
    changed = [base]
    changed += [(base[0], {"width": 4}, *base[2:]), (*base[:2], {"identity": "u"}, base[3]), (*base[:3], {"size": 65})]
    assert len({model_digest(*parts) for parts in changed}) == 4
    assert model_digest(*base) == model_digest(*base)


def word_tokenizer(texts, lower=False, canonical=False, length=8):
    all_ids = []
    for text in texts:
        text = text.lower() if lower or canonical else text
        text = text.translate(str.maketrans("", "", ".,")) if canonical else text
        ids = [sum(map(ord, word)) for word in text.split()][:length]
        all_ids.append(ids + [0] * (length - len(ids)))
    return torch.tensor(all_ids)


def test_a_tokenizer_is_identified_by_its_ids():
    tokenizers = [
        word_tokenizer,
        lambda t: word_tokenizer(t, lower=True),
        lambda t: word_tokenizer(t, canonical=True),
        lambda t: word_tokenizer(t, length=9),
    ]
    assert len({tokenizer_identity(tokenize) for tokenize in tokenizers}) == 4
    assert [text_case(tokenize) for tokenize in tokenizers] == ["kept", "lower", "canonical", "kept"]
    assert tokenizer_identity(word_tokenizer, {"a": 1}) != tokenizer_identity(word_tokenizer, {"a": 2})
    assert text_padding(word_tokenizer, 8) == "max_length"
    assert text_padding(lambda t: word_tokenizer(t, length=3), 8) == "longest"


def test_activations_are_identified_by_their_values_whatever_their_library():
    for module, name in (
        (nn.GELU(), "gelu"),
        (nn.GELU(approximate="tanh"), "gelu_tanh"),
        (QuickGELU(), "quick_gelu"),
        (ACT2FN["gelu"], "gelu"),
        (ACT2FN["quick_gelu"], "quick_gelu"),
        (ACT2FN["gelu_pytorch_tanh"], "gelu_tanh"),
        (ACT2FN["gelu_new"], "gelu_tanh"),
        (nn.ReLU(), "relu"),
        (nn.SiLU(), "silu"),
        (nn.LeakyReLU(), "leakyrelu"),
    ):
        assert activations_of(nn.Sequential(nn.Linear(2, 2), module, nn.Dropout(0.5))) == name


def test_two_activations_are_both_named_and_a_network_without_one_has_none():
    assert activations_of(nn.Sequential(nn.ReLU(), nn.Conv2d(1, 1, 1), QuickGELU())) == "quick_gelu+relu"
    assert activations_of(nn.Linear(2, 2)) == "none"
