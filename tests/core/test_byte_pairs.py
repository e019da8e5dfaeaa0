"""The encoding at speed gives open_clip's ids for every text."""

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

from cosmos_core import byte_pairs
from cosmos_core.byte_pairs import BytePairs, faster_tokenizer, frame_ids
from cosmos_core.tokenizer import byte_pair_encoding
from cosmos_eval.models.digest import PROBES

PAIRS = BytePairs(byte_pair_encoding())
ASCII = st.text(alphabet=[chr(code) for code in range(0x00, 0x80)], max_size=60)
PIECES = st.lists(
    st.sampled_from(
        ["it's", "IT'S", "we're", "'", "''s", "dog's!", "n't", "b52", "3.50", "...", "!'s", "&amp;", "&", "<b>", "  ",
         "<start_of_text>", "<end_of_text>", "<END_OF_TEXT>", "<end_of_text", "\n", "\t", "\x7f", "\x1b[1m", "a", "-",
         "naïve", "Ã¼", "K", "ı", "ſ's", "猫", "🐱", "\ud800", "\u2019s", "1/2", "½", "_", "\\", "`"]
    ),
    max_size=10,
)  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(ASCII)
def test_any_ascii_text_has_the_ids_of_open_clip(text):
    assert PAIRS.encode(text) == byte_pair_encoding().encode(text)


@settings(deadline=None, max_examples=300)
@given(PIECES, st.sampled_from(["", " "]))
def test_marks_entities_endings_and_broken_text_have_the_ids_of_open_clip(pieces, between):
    text = between.join(pieces)
    try:
        expected = byte_pair_encoding().encode(text)
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            PAIRS.encode(text)
        return
    assert PAIRS.encode(text) == expected


def test_rows_are_those_of_the_tokenizer_for_prompts_probes_and_long_texts():
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    prompts = [template(name) for name in IMAGENET_CLASSNAMES[::97] for template in OPENAI_IMAGENET_TEMPLATES]
    texts = [*prompts, *PROBES, " ".join(["cube"] * 75), " ".join(["cube"] * 76), " ".join(["cube"] * 74), "!!!"]
    assert torch.equal(faster_tokenizer(tokenizer)(texts), tokenizer(texts))
    short = SimpleTokenizer(context_length=5)
    assert torch.equal(faster_tokenizer(short)(texts), short(texts))
    assert faster_tokenizer(tokenizer)([]).shape == (0, 77)


class Counting:
    """open_clip's encoding, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.pat = byte_pair_encoding().pat

    def encode(self, text: str) -> list[int]:
        self.asked.append(text)
        return byte_pair_encoding().encode(text)


def test_words_are_encoded_once():
    counting = Counting()
    assert BytePairs(counting).encode("A red cube, a RED cube") == byte_pair_encoding().encode("a red cube, a red cube")
    assert counting.asked == ["a", "red", "cube", ","]


def test_words_beyond_the_limit_are_encoded_each_time(monkeypatch):
    monkeypatch.setattr(byte_pairs, "MAX_WORDS", 2)
    counting = Counting()
    assert BytePairs(counting).encode("a red cube a red cube") == byte_pair_encoding().encode("a red cube a red cube")
    assert counting.asked == ["a", "red", "cube", "cube"]


@pytest.mark.parametrize(
    "options",
    [{"clean": "canonicalize"}, {"clean": "whitespace"}, {"reduction_mask": "simple"}, {"context_length": None}],
)
def test_a_tokenizer_of_another_kind_is_left_as_it_is(options):
    tokenizer = SimpleTokenizer(**options)
    assert faster_tokenizer(tokenizer) is tokenizer


def test_a_frame_cuts_and_pads():
    rows = frame_ids([[5], [5, 6, 7], [], [5, 6]], 4, start=8, end=9)
    assert rows.tolist() == [[8, 5, 9, 0], [8, 5, 6, 9], [8, 9, 0, 0], [8, 5, 6, 9]]
    assert frame_ids([[5]], 2, 8, 9).tolist() == [[8, 9]]
    assert frame_ids([], 4, 8, 9).shape == (0, 4)
