"""Shuffled captions: the rules, the file, and the reader that asks with them."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.data import PerceptionData, RetrievalData
from cosmos_eval.datasets.perception.order import CAPTIONS_OF, prepare_order
from cosmos_eval.datasets.perception.shuffles import WORDS, clean, make_order, shuffle_caption, written
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers import perception_on_disk as on_disk
from tests.helpers.datasets_on_disk import write_image, write_json
from tests.helpers.perception_on_disk import small

TAGS = {"red": "JJ", "small": "JJ", "cat": "NN", "mat": "NN", "dogs": "NNS", "sits": "VBZ"}


def tag(caption: str) -> list[tuple[str, str]]:
    return [(word, TAGS.get(word, "IN")) for word in caption.split()]


tag.version = "2.1"  # type: ignore[attr-defined]


def toybox_captions() -> list[str]:
    from dataclasses import replace

    benchmark = load_benchmark("toybox-retrieval")
    data = datasets.read(replace(benchmark, dataset={"reader": "toybox", "split": "test", "seed": 0, "scenes": 20}))
    assert isinstance(data, RetrievalData)
    return list(data.texts)


def test_captions_are_cleaned_as_the_authors_do():
    assert clean('A cat; "small" (red): sits. #1 * ~\n') == "a cat small red sits 1"
    assert clean(" ".join(f"w{i}" for i in range(40))) == " ".join(f"w{i}" for i in range(30))


def test_the_rules_without_a_tagger_on_toybox_captions():
    captions = toybox_captions()
    assert len(captions) == 40
    moved = 0
    for caption in captions:
        within, of = shuffle_caption(caption, 0)
        words = clean(caption).replace(",", " ,").split()
        if len(words) >= 30:
            continue
        threes = [words[i : i + 3] for i in range(0, len(words), 3)]
        assert [sorted(three) for three in threes] == [
            sorted(within.split()[i : i + 3]) for i in range(0, len(words), 3)
        ]
        assert Counter(of.split()) == Counter(words)
        left = of.split()
        while left:  # each three stands as it was, somewhere
            three = next(three for three in threes if left[: len(three)] == three)
            threes.remove(three)
            left = left[len(three) :]
        moved += within.split() != words and of.split() != words
    assert moved > 20


def test_a_caption_has_its_own_draws_whatever_else_is_shuffled():
    captions = [f"a red cat {i} on a small mat" for i in range(4)]
    together = make_order([("x.jpg", caption) for caption in captions], seed=3)["items"]
    assert [one["shuffles"] for one in together] == [shuffle_caption(caption, 3) for caption in captions]
    assert shuffle_caption(captions[0], 3) != shuffle_caption(captions[0], 4)


def test_nouns_and_adjectives_move_among_their_own():
    seen: set[str] = set()
    caption = "small red cat sits on mat by dogs"
    for seed in range(40):
        first, second, *_ = shuffle_caption(caption, seed, tag(caption))
        a, b = first.split(), second.split()
        assert [a[3], a[4], a[6]] == ["sits", "on", "by"]
        assert sorted(a[:2]) == ["red", "small"]
        assert sorted([a[2], a[5], a[7]]) == ["cat", "dogs", "mat"]
        assert [b[i] for i in (0, 1, 2, 5, 7)] == ["small", "red", "cat", "mat", "dogs"]
        assert sorted([b[3], b[4], b[6]]) == ["by", "on", "sits"]
        seen |= {first, second}
    assert len(seen) > 12


@settings(deadline=None)
@given(st.text(max_size=80), st.integers(0, 5))
@example("{a&b<c\b0\x1b0" * 6, 0)
def test_shuffles_hold_the_letters_of_any_caption(caption, seed):
    letters = sorted("".join(clean(caption).split()).casefold())
    for one in shuffle_caption(caption, seed):
        if len(one.split()) < WORDS:  # marks are words of their own, so that more may be cut off than of the caption
            assert sorted("".join(one.split()).casefold()) == letters


def order(root: Path, items: object) -> Path:
    on_disk.order(root)
    return write_json(root / "aro/coco_order.json", items)


def load(root: Path, **dataset) -> PerceptionData:
    data = datasets.load(small("aro-coco-order", **dataset), root)
    assert isinstance(data, PerceptionData)
    return data


def test_the_file_is_read_and_its_tagger_is_part_of_the_data(tmp_path: Path):
    items = on_disk.order_items("val2014/")
    order(tmp_path, items)
    plain = load(tmp_path)
    assert [plain.texts[j] for j in plain.item_texts[0]] == [items[0]["caption"], *items[0]["shuffles"]]
    assert plain.images[0].key == "val2014/0.jpg"
    prints = {plain.fingerprint}
    for tagger in ("python:mine:tag 1.0", "python:mine:tag 1.1"):
        write_json(tmp_path / "aro/coco_order.json", {"tagger": tagger, "items": items})
        found = load(tmp_path)
        assert found.texts == plain.texts
        prints.add(found.fingerprint)
    assert len(prints) == 3
    for tagger, said in ((7, "finds 7 as 'tagger' in"), ("\ud800", "has 1 origins with half a character")):
        write_json(tmp_path / "aro/coco_order.json", {"tagger": tagger, "items": items})
        with pytest.raises(RequestError, match=said):
            load(tmp_path)


def test_a_shuffle_that_is_the_caption_is_no_rival(tmp_path: Path):
    items = on_disk.order_items("val2014/")
    items[0]["shuffles"] = ["b", items[0]["caption"], "c", "d"]
    items[1]["shuffles"] = [items[1]["caption"]] * 4
    order(tmp_path, items)
    data = load(tmp_path, expected={"items": 2})
    assert [data.texts[j] for j in data.item_texts[0]] == [items[0]["caption"], "b", "b", "c", "d"]
    assert data.left_out == ("item 1: every shuffle of 'a mat under a cat' is itself",)


def test_spaces_do_not_make_a_shuffle_another_caption(tmp_path: Path):
    items = on_disk.order_items("val2014/")
    items[0] |= {
        "caption": "a man's cat, on a mat",
        "shuffles": ["a man 's cat , on a mat", "b", "a  man's cat,on a mat", "c"],
    }
    items[1] |= {"caption": "two cats, asleep", "shuffles": ["two cats , asleep"] * 4}
    order(tmp_path, items)
    data = load(tmp_path, expected={"items": 2})
    assert [[data.texts[j] for j in own] for own in data.item_texts] == [[items[0]["caption"], "b", "b", "b", "c"]]
    assert data.left_out == ("item 1: every shuffle of 'two cats, asleep' is itself",)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shuffles": ["a", "b"]}, "needs 4 shuffles in item 1 of "),
        ({"shuffles": ["a", "b", "c", " "]}, "has an empty text in item 1 (text 5 of 5)"),
        ({"caption": ""}, "has an empty 'caption' in item 1 of "),
        ({"image": "val2014/9.jpg"}, "missing: val2014/9.jpg"),
    ],
)
def test_an_item_that_does_not_fit(tmp_path: Path, changed, said):
    items = on_disk.order_items("val2014/")
    items[1] |= changed
    order(tmp_path, items)
    with pytest.raises(RequestError) as caught:
        load(tmp_path)
    assert said in str(caught.value)


def coco(root: Path, captions: Sequence[str] = ("A small red cat sits on mat.", "red cat by dogs")) -> None:
    sentences = [{"raw": caption} for caption in captions]
    image = {"filepath": "val2014", "filename": "a.jpg", "split": "test", "sentences": sentences}
    write_json(root / "coco/annotations/dataset_coco.json", {"images": [image]})
    write_image(root / "coco/images/val2014/a.jpg")


def test_the_file_that_is_made_is_read(tmp_path: Path, monkeypatch):
    coco(tmp_path)
    expected = {"images": 1, "texts": 2}
    known = load_benchmark(CAPTIONS_OF["aro-coco-order"])
    monkeypatch.setitem(known.dataset, "expected", expected)
    made = prepare_order("aro-coco-order", known, tmp_path, tagger="python:tests.datasets.test_aro_order:tag", seed=1)
    assert made.items == 2
    assert len(made.rules) == 4
    content = json.loads(made.path.read_text(encoding="utf-8"))
    assert content["tagger"] == "python:tests.datasets.test_aro_order:tag 2.1"
    assert content["items"][0]["caption"] == "a small red cat sits on mat"
    data = load(tmp_path)
    assert data.item_texts.shape == (2, 5)
    assert "tag 2.1, sha256 " in data.origin
    with pytest.raises(RequestError, match="is there already"):
        prepare_order("aro-coco-order", known, tmp_path)


def test_shuffles_that_are_the_caption_are_counted_without_spaces(tmp_path: Path, monkeypatch):
    coco(tmp_path, ["Cats, asleep.", "red cat"])
    known = load_benchmark(CAPTIONS_OF["aro-coco-order"])
    monkeypatch.setitem(known.dataset, "expected", {"images": 1, "texts": 2})
    made = prepare_order("aro-coco-order", known, tmp_path, seed=2)
    first, second = json.loads(made.path.read_text(encoding="utf-8"))["items"]
    assert (first["shuffles"], second["shuffles"]) == (
        ["asleep cats ,", "cats , asleep"],
        ["cat red", "red cat"],
    )
    assert made.unmoved == 2  # "cats , asleep" is "cats, asleep"


@pytest.mark.parametrize(
    ("tagger", "said"),
    [
        ("spacy", "the tagger 'spacy' is no python:module:function"),
        ("python:no_such_module:tag", "cannot import the tagger's module no_such_module"),
        ("python:json:tag", "json has no function 'tag' for a tagger"),
    ],
)
def test_a_tagger_that_cannot_be_used(tmp_path: Path, capsys, tagger, said):
    assert run_command(["data", "prepare", "aro-coco-order", "--data-root", str(tmp_path), "--tagger", tagger]) == 2
    assert said in capsys.readouterr().err


def test_what_a_tagger_gives_is_checked():
    with pytest.raises(RequestError, match="it gives pairs of a token and its tag"):
        make_order([("a.jpg", "a cat")], tagger=lambda caption: caption.split(), tagger_name="mine")  # type: ignore


def test_the_file_has_an_item_a_line():
    text = written(make_order([("a.jpg", "a cat on a mat"), ("b.jpg", "é")]))
    assert len(text.splitlines()) == 4
    assert [one["image"] for one in json.loads(text)["items"]] == ["a.jpg", "b.jpg"]
