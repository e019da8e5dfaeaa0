"""Shuffled captions: the rules, the file, and its reader."""

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
from cosmos_eval.datasets.perception.aro_order import CAPTIONS_OF, prepare_aro_order
from cosmos_eval.datasets.perception.shuffles import (
    MAX_WORDS,
    build_shuffle_file,
    clean,
    format_shuffle_file,
    shuffle_caption,
)
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
    shuffled = 0
    for caption in captions:
        within_trigrams, of_trigrams = shuffle_caption(caption, 0)
        words = clean(caption).replace(",", " ,").split()
        if len(words) >= 30:
            continue
        trigrams = [words[i : i + 3] for i in range(0, len(words), 3)]
        assert [sorted(trigram) for trigram in trigrams] == [
            sorted(within_trigrams.split()[i : i + 3]) for i in range(0, len(words), 3)
        ]
        assert Counter(of_trigrams.split()) == Counter(words)
        remaining = of_trigrams.split()
        while remaining:  # every trigram is there unchanged, at another position
            trigram = next(trigram for trigram in trigrams if remaining[: len(trigram)] == trigram)
            trigrams.remove(trigram)
            remaining = remaining[len(trigram) :]
        shuffled += within_trigrams.split() != words and of_trigrams.split() != words
    assert shuffled > 20


def test_the_shuffles_of_a_caption_do_not_depend_on_other_captions():
    captions = [f"a red cat {i} on a small mat" for i in range(4)]
    items = build_shuffle_file([("x.jpg", caption) for caption in captions], seed=3)["items"]
    assert [item["shuffles"] for item in items] == [shuffle_caption(caption, 3) for caption in captions]
    assert shuffle_caption(captions[0], 3) != shuffle_caption(captions[0], 4)


def test_nouns_and_adjectives_are_shuffled_among_themselves():
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
    for shuffle in shuffle_caption(caption, seed):
        if len(shuffle.split()) < MAX_WORDS:  # punctuation marks are words here, so that a shuffle may be cut earlier
            assert sorted("".join(shuffle.split()).casefold()) == letters


def write_order(root: Path, items: object) -> Path:
    on_disk.order(root)
    return write_json(root / "aro/coco_order.json", items)


def load(root: Path, **dataset) -> PerceptionData:
    data = datasets.load(small("aro-coco-order", **dataset), root)
    assert isinstance(data, PerceptionData)
    return data


def test_the_file_is_read_and_its_tagger_is_part_of_the_data(tmp_path: Path):
    items = on_disk.order_items("val2014/")
    write_order(tmp_path, items)
    plain = load(tmp_path)
    assert [plain.texts[j] for j in plain.item_texts[0]] == [items[0]["caption"], *items[0]["shuffles"]]
    assert plain.images[0].key == "val2014/0.jpg"
    fingerprints = {plain.fingerprint}
    for tagger in ("python:mine:tag 1.0", "python:mine:tag 1.1"):
        write_json(tmp_path / "aro/coco_order.json", {"tagger": tagger, "items": items})
        data = load(tmp_path)
        assert data.texts == plain.texts
        fingerprints.add(data.fingerprint)
    assert len(fingerprints) == 3
    for tagger, message in ((7, "finds 7 as 'tagger' in"), ("\ud800", "has 1 origin with half a character")):
        write_json(tmp_path / "aro/coco_order.json", {"tagger": tagger, "items": items})
        with pytest.raises(RequestError, match=message):
            load(tmp_path)


def test_a_shuffle_that_equals_the_caption_is_not_a_negative(tmp_path: Path):
    items = on_disk.order_items("val2014/")
    items[0]["shuffles"] = ["b", items[0]["caption"], "c", "d"]
    items[1]["shuffles"] = [items[1]["caption"]] * 4
    write_order(tmp_path, items)
    data = load(tmp_path, expected={"items": 2})
    assert [data.texts[j] for j in data.item_texts[0]] == [items[0]["caption"], "b", "b", "c", "d"]
    assert data.left_out == ("item 1: every shuffle of 'a mat under a cat' equals the caption",)


def test_spaces_do_not_make_a_shuffle_another_caption(tmp_path: Path):
    items = on_disk.order_items("val2014/")
    items[0] |= {
        "caption": "a man's cat, on a mat",
        "shuffles": ["a man 's cat , on a mat", "b", "a  man's cat,on a mat", "c"],
    }
    items[1] |= {"caption": "two cats, asleep", "shuffles": ["two cats , asleep"] * 4}
    write_order(tmp_path, items)
    data = load(tmp_path, expected={"items": 2})
    assert [[data.texts[j] for j in item] for item in data.item_texts] == [[items[0]["caption"], "b", "b", "b", "c"]]
    assert data.left_out == ("item 1: every shuffle of 'two cats, asleep' equals the caption",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shuffles": ["a", "b"]}, "needs 4 shuffles in item 1 of "),
        ({"shuffles": ["a", "b", "c", " "]}, "has an empty text in item 1 (text 5 of 5)"),
        ({"caption": ""}, "has an empty 'caption' in item 1 of "),
        ({"image": "val2014/9.jpg"}, "missing: val2014/9.jpg"),
    ],
)
def test_an_item_that_does_not_fit_is_refused(tmp_path: Path, changes, message):
    items = on_disk.order_items("val2014/")
    items[1] |= changes
    write_order(tmp_path, items)
    with pytest.raises(RequestError) as caught:
        load(tmp_path)
    assert message in str(caught.value)


def coco(root: Path, captions: Sequence[str] = ("A small red cat sits on mat.", "red cat by dogs")) -> None:
    sentences = [{"raw": caption} for caption in captions]
    image = {"filepath": "val2014", "filename": "a.jpg", "split": "test", "sentences": sentences}
    write_json(root / "coco/annotations/dataset_coco.json", {"images": [image]})
    write_image(root / "coco/images/val2014/a.jpg")


def test_the_prepared_file_can_be_read(tmp_path: Path, monkeypatch):
    coco(tmp_path)
    expected = {"images": 1, "texts": 2}
    captions = load_benchmark(CAPTIONS_OF["aro-coco-order"])
    monkeypatch.setitem(captions.dataset, "expected", expected)
    prepared = prepare_aro_order(
        "aro-coco-order", captions, tmp_path, tagger="python:tests.datasets.test_aro_order:tag", seed=1
    )
    assert prepared.items == 2
    assert len(prepared.rules) == 4
    content = json.loads(prepared.path.read_text(encoding="utf-8"))
    assert content["tagger"] == "python:tests.datasets.test_aro_order:tag 2.1"
    assert content["items"][0]["caption"] == "a small red cat sits on mat"
    data = load(tmp_path)
    assert data.item_texts.shape == (2, 5)
    assert "tag 2.1, sha256 " in data.origin
    with pytest.raises(RequestError, match="exists already"):
        prepare_aro_order("aro-coco-order", captions, tmp_path)


def test_shuffles_that_equal_the_caption_without_spaces_are_counted(tmp_path: Path, monkeypatch):
    coco(tmp_path, ["Cats, asleep.", "red cat"])
    captions = load_benchmark(CAPTIONS_OF["aro-coco-order"])
    monkeypatch.setitem(captions.dataset, "expected", {"images": 1, "texts": 2})
    prepared = prepare_aro_order("aro-coco-order", captions, tmp_path, seed=2)
    first, second = json.loads(prepared.path.read_text(encoding="utf-8"))["items"]
    assert (first["shuffles"], second["shuffles"]) == (
        ["asleep cats ,", "cats , asleep"],
        ["cat red", "red cat"],
    )
    assert prepared.unchanged == 2  # "cats , asleep" is "cats, asleep"


@pytest.mark.parametrize(
    ("tagger", "message"),
    [
        ("spacy", "the tagger 'spacy' is not of the form python:module:function"),
        ("python:no_such_module:tag", "cannot import the tagger's module no_such_module"),
        ("python:json:tag", "json has no function 'tag', which --tagger names"),
    ],
)
def test_a_tagger_that_cannot_be_used_is_refused(tmp_path: Path, capsys, tagger, message):
    assert run_command(["data", "prepare", "aro-coco-order", "--data-root", str(tmp_path), "--tagger", tagger]) == 2
    assert message in capsys.readouterr().err


def test_what_a_tagger_returns_is_checked():
    with pytest.raises(RequestError, match="it must return pairs of a token and its tag"):
        build_shuffle_file([("a.jpg", "a cat")], tagger=lambda caption: caption.split(), tagger_name="mine")  # type: ignore


def test_the_file_has_one_item_per_line():
    text = format_shuffle_file(build_shuffle_file([("a.jpg", "a cat on a mat"), ("b.jpg", "é")]))
    assert len(text.splitlines()) == 4
    assert [item["image"] for item in json.loads(text)["items"]] == ["a.jpg", "b.jpg"]
