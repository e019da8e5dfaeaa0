"""Text-crop: what may be drawn, in which order, and what is refused."""

import hashlib
import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_core.seeds import as_random, derive_seed, sample_generator
from cosmos_core.text_crop import TextCrop, candidate_sentences, has_words, sample_sentences, split_caption

DREAMLIP = {
    "raw_caption": ["raw"],
    "shortIB_captions": ["short 1"],
    "shortSV_captions": ["short 2", "short 3"],
    "shortLLA_captions": [],
    "longIB_captions": ["long 1", "long 2"],
    "longSV_captions": ["long 3"],
    "longLLA_captions": ["long 4"],
}
PIXELPROSE = {"original_caption": "The original. Uncut", "caption": "It costs 3.50 dollars. Why? Nobody knows\nThe end"}


def test_a_caption_is_cut_at_every_period_but_not_at_other_marks():
    assert split_caption("It costs 3.50 dollars. Why? Nobody knows</s>The end.") == [
        "It costs 3",
        "50 dollars",
        "Why? Nobody knows",
        "The end",
    ]


def test_dreamlip_candidates_come_in_the_order_raw_short_long():
    everything = ["raw", "short 1", "short 2", "short 3", "long 1", "long 2", "long 3", "long 4"]
    assert candidate_sentences(DREAMLIP) == everything
    assert candidate_sentences(DREAMLIP, "short") == everything[:4]
    assert candidate_sentences(DREAMLIP, "long") == everything[4:]
    assert candidate_sentences(DREAMLIP, "raw") == everything[:1]


def test_pixelprose_keeps_the_original_caption_whole_and_splits_the_other():
    assert candidate_sentences(PIXELPROSE) == [
        "The original. Uncut",
        "It costs 3",
        "50 dollars",
        "Why? Nobody knows",
        "The end",
    ]


@pytest.mark.parametrize("record", ["One. Two", {"caption": "One. Two"}, ["One", "Two"], {"captions": ["One", "Two"]}])
def test_plain_captions_are_records_too(record):
    assert candidate_sentences(record) == ["One", "Two"]


def test_fields_that_are_none_or_one_string_are_read_like_lists():
    assert candidate_sentences({"raw_caption": "raw", "longIB_captions": None, "longSV_captions": ["long"]}) == [
        "raw",
        "long",
    ]


@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 2**32))
def test_a_draw_repeats_sentences_only_as_often_as_it_must(n, count, seed):
    sentences = [f"s{i}" for i in range(n)]
    drawn = sample_sentences(sentences, count, random.Random(seed))
    uses = Counter(drawn)
    assert len(drawn) == count
    assert all(count // n <= uses[sentence] <= -(-count // n) for sentence in sentences)


@given(st.integers(2, 12), st.integers(0, 2**32))
def test_global_captions_have_one_to_five_sentences_and_local_ones_have_one(k, seed):
    captions = TextCrop(k)(DREAMLIP, random.Random(seed))
    assert len(captions) == k
    known = set(candidate_sentences(DREAMLIP))
    for caption in captions[:2]:
        pieces = caption.split(". ")
        assert 1 <= len(pieces) <= 5
        assert len(set(pieces)) == len(pieces)  # eight candidates: no draw needs a repeat
        assert set(pieces) <= known
    assert set(captions[2:]) <= known


def test_the_same_generator_state_gives_the_same_captions_and_global_randomness_is_left_alone():
    random.seed(1)
    before = random.getstate()
    assert TextCrop(6)(DREAMLIP, random.Random(5)) == TextCrop(6)(DREAMLIP, random.Random(5))
    assert TextCrop(6)(DREAMLIP, random.Random(5)) != TextCrop(6)(DREAMLIP, random.Random(6))
    assert random.getstate() == before


def test_a_torch_generator_serves_as_well():
    draws = [TextCrop(4)(DREAMLIP, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]


def test_a_forgotten_generator_is_an_error():
    with pytest.raises(TypeError, match="NoneType"):
        TextCrop(4)(DREAMLIP, None)  # type: ignore[arg-type]
    assert isinstance(as_random(random.Random(0)), random.Random)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"raw_caption": [], "longIB_captions": []}, "no words"),
        ({"width": 3, "height": 4}, "has none of the fields .* it has: width, height"),
        ({}, "it has: nothing"),
        ("", "no words"),
        ({"raw_caption": [1, 2]}, "not a list of texts"),
        ({"original_caption": 7, "caption": "x"}, "not text but int"),
    ],
)
def test_a_record_without_words_is_refused_by_name(record, why):
    with pytest.raises(RequestError, match=f"record 000123 .*{why}|record 000123 {why}"):
        TextCrop(4)(record, random.Random(0), key="000123")


@pytest.mark.parametrize(
    "record", [{"original_caption": "", "caption": " . \n "}, {"original_caption": None}, {"raw_caption": ["", " "]}]
)
def test_empty_captions_are_drawn_as_in_the_original_and_told_apart(record):
    assert not has_words(record)
    assert all(not caption.strip(" .") for caption in TextCrop(4)(record, random.Random(0)))


def test_an_empty_caption_of_pixelprose_is_what_its_raw_mode_draws():
    assert TextCrop(3, mode="raw")({"original_caption": "", "caption": "Words."}, random.Random(0)) == [""] * 3


def test_a_record_that_knows_its_key_is_named_without_being_told():
    with pytest.raises(RequestError, match="record 0042 has no words"):
        TextCrop(4)({"__key__": "0042", "raw_caption": []}, random.Random(0))


def test_long_mode_without_long_captions_is_refused():
    with pytest.raises(RequestError, match=r"no words .*mode long"):
        TextCrop(2, mode="long")({"raw_caption": ["x"]}, random.Random(0))


def test_a_mode_that_pixelprose_has_not_is_refused():
    with pytest.raises(RequestError, match="PixelProse layout, which has no mode 'short'"):
        TextCrop(2, mode="short")(PIXELPROSE, random.Random(0))


@pytest.mark.parametrize(
    ("k", "mode", "why"),
    [
        (1, "textcrop", "at least 2"),
        (0, "random", "at least 1"),
        (4, "textcorp", "unknown caption mode 'textcorp'"),
        (4, "short_pixelprose", "unknown"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(k, mode, why):
    with pytest.raises(RequestError, match=why):
        TextCrop(k, mode)


def test_seeds_depend_on_every_part_and_are_stable():
    # a fixed value: a changed hash would silently change every seeded run
    assert derive_seed(0, 1, "key", "views") == 4991092949578838466
    seeds = {derive_seed(*parts) for parts in [(0, 1, "a"), (0, 1, "b"), (1, 0, "a"), (0, "1a"), (0, 1, "a", "")]}
    assert len(seeds) == 5
    assert sample_generator(0, 0, "k", "views").random() != sample_generator(0, 0, "k", "captions").random()


def test_a_key_that_is_no_unicode_gives_a_seed_and_ordinary_ones_keep_theirs():
    assert derive_seed(0, "images/\udce9.png") != derive_seed(0, "images/\udcea.png")
    # as before: the published small checkpoint depends on it
    expected = int.from_bytes(hashlib.blake2b("7\x1fkey é".encode(), digest_size=8).digest(), "little") >> 1
    assert derive_seed(7, "key é") == expected
