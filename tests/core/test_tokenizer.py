"""Token ids: the frame around OpenAI's encoding, and the folding to a small vocabulary."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_core.tokenizer import Tokenizer, build_tokenizer

FOLDED = Tokenizer(context_length=8, vocab_size=100)


def test_a_sentence_is_framed_by_start_and_end_and_padded_with_zeros():
    assert Tokenizer(8)("a photo of a cat").tolist() == [[49406, 320, 1125, 539, 320, 2368, 49407, 0]]


def test_folding_worked_by_hand():
    # 320 mod 97 = 29, 1125 mod 97 = 58, 539 mod 97 = 54, 2368 mod 97 = 40; one more each, and 98, 99 around them
    assert FOLDED("a photo of a cat").tolist() == [[98, 30, 59, 55, 30, 41, 99, 0]]


def test_an_exclamation_mark_whose_id_is_zero_is_not_taken_for_padding():
    assert Tokenizer().encode("!(") == [0, 263]
    assert FOLDED("!(").tolist() == [[98, 1, 1 + 263 % 97, 99, 0, 0, 0, 0]]


def test_what_does_not_fit_is_cut_and_ends_with_the_end_token():
    row = FOLDED("one two three four five six seven eight nine")[0]
    assert row[0] == 98
    assert row[-1] == 99
    assert (row[1:-1] > 0).all()


def test_text_is_cleaned_as_open_clip_does():
    assert Tokenizer().encode("A&amp;amp;B") == Tokenizer().encode("a & b")
    assert torch.equal(FOLDED("  Red\n BALL "), FOLDED("red ball"))


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=40), vocabulary=st.integers(4, 3000))
def test_the_end_token_is_the_largest_id_of_any_text_and_ids_fit_the_vocabulary(text: str, vocabulary: int):
    row = Tokenizer(12, vocabulary)(text)[0]
    assert row.max() == vocabulary - 1
    assert row.min() >= 0
    end = int(row.argmax())
    assert (row[1:end] > 0).all()
    assert (row[end + 1 :] == 0).all() or "<end_of_text>" in text.lower()


def test_a_literal_end_marker_cuts_the_pooled_text_there():
    row = FOLDED("red <end_of_text> blue")[0]
    assert int(row.argmax()) == 2


def test_many_texts_give_one_row_each_and_none_give_no_rows():
    assert FOLDED(["a", "b"]).shape == (2, 8)
    assert FOLDED([]).shape == (0, 8)
    assert FOLDED(["a"]).dtype == torch.long


def test_the_configuration_of_a_text_tower_decides():
    built = build_tokenizer({"context_length": 12, "vocab_size": 300, "width": 8})
    assert built(["a cat"]).shape == (1, 12)
    assert built(["a cat"]).max() == 299
    assert isinstance(built, Tokenizer)
    assert built.name == "openai-bpe folded to 300"
    assert Tokenizer().name == "openai-bpe"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"hf_tokenizer_name": "google/mt5-base", "vocab_size": 250100}, "google/mt5-base"),
        ({"vocab_size": 60000}, "60000"),
        ({"vocab_size": 3}, "vocabulary of 3"),
        ({"context_length": 1}, "context of 1"),
    ],
)
def test_a_tokenizer_that_is_not_built_in_is_refused(config: dict, reason: str):
    with pytest.raises(RequestError, match=reason):
        build_tokenizer(config)


def test_it_can_be_sent_to_worker_processes():
    import pickle

    assert torch.equal(pickle.loads(pickle.dumps(FOLDED))("a cat"), FOLDED("a cat"))
