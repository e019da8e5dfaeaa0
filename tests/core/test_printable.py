"""Names from data in messages and tables: visible, in one line, and never obeyed by a terminal."""

import unicodedata

import pytest

from cosmos_core.printable import list_counts, printable, without_controls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("été 中文 \N{FAMILY}", "été 中文 \N{FAMILY}"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m\x85", r"\x9b31m\x85"),
        ("\x7f\x00", r"\x7f\x00"),
        ("cod\u202egpj.exe", r"cod\u202egpj.exe"),
        ("two\u2028lines\u2029", r"two\u2028lines\u2029"),
        ("\udcff.jpg", r"\udcff.jpg"),
        ("\ufeffname", r"\ufeffname"),
    ],
)
def test_characters_that_a_terminal_obeys_become_escapes(text, expected):
    assert printable(text) == expected


def test_no_control_or_separator_of_unicode_is_left():
    every = "".join(map(chr, range(0x110000)))
    left = {unicodedata.category(character) for character in printable(every)}
    assert not left & {"Cc", "Zl", "Zp", "Cs"}
    directions = {unicodedata.bidirectional(character) for character in printable(every)}
    assert not directions & {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def test_joiners_of_scripts_and_emoji_stay():
    assert printable("\u0915\u094d\u200d\u0937") == "\u0915\u094d\u200d\u0937"


def test_output_keeps_its_own_lines_and_tabs():
    assert without_controls("a\tb\nc\x1b[2J\r\x9b") == "a\tb\nc\\x1b[2J\\r\\x9b"


def test_counts_have_the_singular_of_their_nouns_where_there_is_one():
    assert list_counts({"images": 1, "classes": 1, "languages": 1}) == "1 image, 1 class, 1 language"
    assert list_counts({"texts": 1_000, "candidates_without_images": 1}) == "1,000 texts, 1 candidate without images"
    assert list_counts({"train_images": 1, "undecided": 1, "classes": 2}) == "1 train image, 1 undecided, 2 classes"
    assert list_counts({"class_names": 1, "boxes": 1, "queries": 1}) == "1 class name, 1 box, 1 query"
    assert list_counts({}) == ""
