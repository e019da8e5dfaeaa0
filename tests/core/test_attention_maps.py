"""Attention maps: the weights that the poolers use, and the words that they fall on."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from cosmos_core.attention_maps import (
    AttentionMaps,
    attention_maps,
    pooler_weights,
    stretch_to_unit_range,
    word_weights,
)
from cosmos_core.cross_pool import CrossAttentionPool
from cosmos_core.model import COSMOS
from cosmos_core.token_words import Word, words_of
from cosmos_core.tokenizer import Tokenizer
from tests.closeness import assert_close
from tests.core.test_model import some_images, some_texts, tiny
from tests.oracles.attention_maps import pooled


def hand_made(heads: int = 1) -> CrossAttentionPool:
    """Queries and keys as they come, no norms: weights are softmax(q k^T / sqrt(d)) of what is put in."""
    pool = CrossAttentionPool(2, heads)
    pool.ln_q, pool.ln_k = nn.Identity(), nn.Identity()
    with torch.no_grad():
        pool.attn.in_proj_weight.copy_(torch.eye(2).repeat(3, 1))
        pool.attn.in_proj_bias.zero_()
        pool.attn.out_proj.weight.copy_(torch.eye(2))
        pool.attn.out_proj.bias.zero_()
    return pool


def trained_like(seed: int = 0) -> COSMOS:
    """A small model whose poolers have opinions: sharp weights, and norms that are not the identity."""
    model = tiny().eval()
    generator = torch.Generator().manual_seed(seed)
    for pool in (model.visual.attn_cross_pool, model.text_attn_cross_pool):
        for parameter in pool.parameters():
            parameter.data += torch.randn(parameter.shape, generator=generator)
    return model


@torch.no_grad()
def test_one_head_by_hand():
    # d = 2: logits are 0, ln 2 and ln 5 for a query of (sqrt 2, 0), so that weights are 1/8, 2/8 and 5/8
    query = torch.tensor([[[math.sqrt(2), 0.0]]])
    tokens = torch.tensor([[[0.0, 3.0], [math.log(2), -1.0], [math.log(5), 0.5]]])
    assert pooler_weights(hand_made(), query, tokens)[0, 0].tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8])


@torch.no_grad()
def test_two_heads_are_averaged():
    # d = 1 a head: the first prefers the second token by 3 to 1, the second has no preference
    query = torch.tensor([[[1.0, 1.0]]])
    tokens = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]]])
    weights = pooler_weights(hand_made(heads=2), query, tokens)[0, 0]
    assert weights.tolist() == pytest.approx([(1 / 4 + 1 / 2) / 2, (3 / 4 + 1 / 2) / 2])


@torch.no_grad()
def test_a_pooler_that_cannot_tell_its_tokens_apart_weighs_them_alike():
    weights = pooler_weights(trained_like().visual.attn_cross_pool, torch.randn(2, 1, 16), torch.ones(2, 5, 16))
    torch.testing.assert_close(weights, torch.full((2, 1, 5), 0.2))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 3))
@torch.no_grad()
def test_weights_are_those_that_make_the_pooler_s_output(seed, count, batch):
    pool = trained_like(seed).text_attn_cross_pool
    generator = torch.Generator().manual_seed(seed)
    queries, tokens = (torch.randn(batch, n, 16, generator=generator) for n in (1, count))
    weights, output = pooler_weights(pool, queries, tokens), pool(queries, tokens)
    for i in range(batch):
        slow, out = pooled(pool, queries[i, 0], tokens[i])
        assert weights[i, 0].tolist() == pytest.approx(slow, abs=1e-5)
        torch.testing.assert_close(output[i, 0].double(), out, atol=2e-4, rtol=1e-4)


@torch.no_grad()
def test_each_modality_is_read_with_the_pooled_feature_of_the_other():
    """Against the training forward: what the slow weights make of values is what the cross-modal features add."""
    model, images, ids = trained_like(), some_images(3), some_texts(3)
    maps = attention_maps(model, images, ids)
    features = model(images, ids, batch_size=3)
    image_features, image_tokens = model.image_tower(images)
    text_features, text_tokens = model.text_tower(ids)
    for i in range(3):
        for own, shown, pool, tokens, whole in (
            (text_features, maps.patches, model.visual.attn_cross_pool, model.image_token_mapping(image_tokens),
             features.text_cross_features),
            (image_features, maps.tokens, model.text_attn_cross_pool, model.text_token_mapping(text_tokens),
             features.image_cross_features),
        ):  # fmt: skip
            slow, output = pooled(pool, own[i], tokens[i])
            assert shown[i].flatten().tolist() == pytest.approx(slow, abs=1e-5)
            informed = nn.functional.normalize(own[i].double() + output, dim=0)
            torch.testing.assert_close(whole[i].double(), informed, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_shapes_follow_the_image_and_weights_sum_to_one():
    maps = attention_maps(trained_like(), some_images(2, 24, 44), some_texts(2))
    assert maps.patches.shape == (2, 3, 5)  # patches of 8: 44 pixels hold five whole ones
    assert maps.tokens.shape == (2, 10)
    torch.testing.assert_close(maps.patches.sum((1, 2)), torch.ones(2))
    torch.testing.assert_close(maps.tokens.sum(1), torch.ones(2))
    assert maps.patches.std() > 0.01


@torch.no_grad()
def test_rows_of_patches_run_from_the_top_and_each_from_the_left():
    model, images = trained_like(), some_images(1)
    before = model.image_tower(images)[1]
    images[:, :, 8:16, 24:32] += 3  # the second row's fourth patch
    after = model.image_tower(images)[1]
    changed = (after - before).norm(dim=-1).reshape(4, 4)
    assert changed.argmax() == 1 * 4 + 3  # the order of the tokens
    weights = pooler_weights(
        model.visual.attn_cross_pool, model.encode_text(some_texts(1))[:, None], model.image_token_mapping(after)
    )
    assert_close(attention_maps(model, images, some_texts(1)).patches.flatten(), weights.flatten())


@torch.no_grad()
def test_a_pair_has_the_same_maps_alone_and_in_a_batch():
    model, images, ids = trained_like(), some_images(3), some_texts(3)
    together = attention_maps(model, images, ids)
    for i in range(3):
        alone = attention_maps(model, images[i : i + 1], ids[i : i + 1])
        torch.testing.assert_close(together.patches[i], alone.patches[0])
        torch.testing.assert_close(together.tokens[i], alone.tokens[0])


@torch.no_grad()
def test_the_text_s_padding_leaves_the_patch_weights_alone():
    model, ids = trained_like(), torch.tensor([[3, 7, 49, 0, 0, 0, 0, 0, 0, 0]])
    whole, short = (attention_maps(model, some_images(1), rows) for rows in (ids, ids[:, :3]))
    torch.testing.assert_close(whole.patches, short.patches)
    assert whole.tokens[0, :3].sum() < 1 - 1e-3  # the pooler reads padding; what it takes is not hidden


def test_images_and_texts_must_be_pairs():
    with pytest.raises(ValueError, match="2 images and 3 texts"):
        attention_maps(tiny(), some_images(2), some_texts(3))


def test_normalised_goes_from_0_to_1_in_every_map_of_its_own():
    weights = torch.tensor([[[0.1, 0.3], [0.2, 0.4]], [[5.0, 5.0], [9.0, 5.0]]])
    expected = torch.tensor([[[0, 2 / 3], [1 / 3, 1]], [[0, 0], [1.0, 0]]])
    torch.testing.assert_close(stretch_to_unit_range(weights, 2), expected)
    torch.testing.assert_close(stretch_to_unit_range(torch.tensor([2.0, 1.0, 1.5])), torch.tensor([1.0, 0.0, 0.5]))


def test_a_constant_map_is_0_and_not_nan():
    assert torch.equal(stretch_to_unit_range(torch.full((2, 3, 3), 1 / 9), 2), torch.zeros(2, 3, 3))
    assert torch.equal(stretch_to_unit_range(torch.tensor([0.7])), torch.zeros(1))


def test_pieces_and_endings_belong_to_their_word_and_signs_stand_alone():
    (words,) = words_of(Tokenizer(77), ["The dog's antidisestablishmentarianism, b52"])
    assert [(word.text, list(word.positions)) for word in words] == [
        ("The", [1]),
        ("dog's", [2, 3]),  # dog, 's
        ("antidisestablishmentarianism", [4, 5, 6, 7, 8, 9]),
        (",", [10]),
        ("b52", [11, 12, 13]),  # b, 5, 2: digits are encoded one by one
    ]


def test_a_folded_vocabulary_has_the_same_words():
    texts = ["a small striped purple circle at top left", "unfoldable isn't"]
    assert words_of(Tokenizer(40, 1000), texts) == words_of(Tokenizer(40), texts)


def test_words_beyond_the_context_have_no_places():
    (words,) = words_of(Tokenizer(5, 100), ["red antidisestablishmentarianism blue star"])
    assert [(word.text, list(word.positions)) for word in words] == [
        ("red", [1]),
        ("antidisestablishmentarianism", [2, 3]),  # its other four tokens are cut off
        ("blue", []),
        ("star", []),
    ]
    assert word_weights(torch.tensor([0.4, 0.1, 0.2, 0.1, 0.2]), words) == pytest.approx([0.1, 0.3, 0, 0])


def test_words_are_written_as_in_the_text_unless_cleaning_changed_more_than_their_case():
    (kept,), (cleaned,) = words_of(Tokenizer(), ["  A  RED Ring"]), words_of(Tokenizer(), ["Fish &amp; CHIPS"])
    assert [word.text for word in kept] == ["A", "RED", "Ring"]
    assert [word.text for word in cleaned] == ["fish", "&", "chips"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.integers(3, 30))
@example("&lt;end_of_text&gt; Isn't <start_of_text>'s", 30)
def test_words_cover_the_tokens_of_any_text_without_gap_or_overlap(text, length):
    tokenizer = Tokenizer(length, 1000)
    (words,) = words_of(tokenizer, [text])
    places = [place for word in words for place in word.positions]
    assert places == list(range(1, 1 + min(len(tokenizer.encode(text)), length - 2)))
    ids = [0, *tokenizer.encode(text)]
    for word in words:
        if word.positions and word.positions.stop < length - 1:  # not cut
            said = tokenizer.decode(ids[word.positions.start : word.positions.stop])
            assert said.replace(" ", "") == word.text.lower()


def test_a_word_s_weight_is_the_sum_over_its_tokens():
    words = (Word("a", range(1, 2)), Word("b", range(2, 4)))
    maps = AttentionMaps(torch.ones(1, 1, 1), torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.25]]), (words,))
    assert maps.word_weights(0) == pytest.approx([0.2, 0.45])
