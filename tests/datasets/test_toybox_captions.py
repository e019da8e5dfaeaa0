"""toybox's captions are true and its negatives false; the checker agrees with a slow and obvious one."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.datasets.toybox import (
    KINDS,
    Background,
    Scene,
    SceneObject,
    captions,
    distinct_scenes,
    is_true,
    make_scene,
    negatives,
    record,
    single_object_scene,
)
from cosmos_eval.datasets.toybox.caption_check import is_related
from cosmos_eval.datasets.toybox.words import (
    BACKGROUND_COLOURS,
    BACKGROUND_PATTERNS,
    COLOURS,
    COUNTS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
)
from tests.helpers.toybox_words import vocabulary

SCENES = st.builds(make_scene, st.integers(0, 2**31), st.sampled_from(["train", "val", "test"]), st.integers(0, 10**6))
KEYS = ["raw_caption"] + [f"{length}{by}_captions" for length in ("short", "long") for by in ("IB", "SV", "LLA")]

# a small red striped circle top left, a large blue dotted star bottom right, a small blue plain circle top right
BY_HAND = Scene(
    (
        SceneObject("circle", "red", "small", "striped", "top left"),
        SceneObject("star", "blue", "large", "dotted", "bottom right"),
        SceneObject("circle", "blue", "small", "plain", "top right"),
    ),
    Background("gray", "lined"),
    "by-hand",
    "test",
)


@pytest.mark.parametrize(
    "text",
    [
        "a red circle",
        "blue star and small red circle on gray",
        "a circle and a circle",
        "a red circle left of a blue star",
        "a red circle above a blue star and a blue circle",
        "the blue star is below the blue circle",
        "a small striped red circle at top left and a blue star at bottom right on lined gray",
        "there are three objects",
        "three objects on lined gray, top left a small striped red circle, bottom right a large dotted blue star",
        "the background is lined gray",
        "a blue star on a gray background",
        "the blue star is large and dotted",
        "top right holds a blue circle",
        "bottom left is empty. center is empty",
    ],
)
def test_true_by_hand(text):
    assert is_true(text, BY_HAND)


@pytest.mark.parametrize(
    "text",
    [
        "a green circle",
        "a red star",
        "a red circle and a red circle",
        "a circle and a circle and a circle",
        "a red circle right of a blue star",
        "a red circle above a blue circle",
        "a large red circle",
        "a plain red circle",
        "a red circle at bottom right and a blue star at top left",
        "there are two objects",
        "two objects on lined gray, top left a small striped red circle",
        "the background is smooth gray",
        "a blue star on brown",
        "the blue star is small and dotted",
        "top right holds a red circle",
        "bottom left is empty. top left is empty",
    ],
)
def test_false_by_hand(text):
    assert not is_true(text, BY_HAND)


@pytest.mark.parametrize(
    "text",
    ["", "a mauve circle", "a red", "red circle blue star", "a circle on", "the circle is", "there are", "a ring ring"],
)
def test_a_sentence_that_toybox_cannot_have_written_is_refused(text):
    with pytest.raises(ValueError, match="not a sentence of toybox"):
        is_true(text, BY_HAND)


@given(SCENES)
@settings(max_examples=200, deadline=None)
def test_every_caption_is_true(scene):
    texts = captions(scene)
    for text in (texts.raw, *texts.full, texts.short, *(". ".join(sentences) for sentences in texts.long)):
        assert is_true(text, scene), text
    for sentence in itertools.chain(*record(scene).values()):
        assert is_true(sentence, scene), sentence


@given(SCENES)
@settings(max_examples=200, deadline=None)
def test_every_negative_is_false_and_one_step_from_a_true_caption(scene):
    scene_negatives = negatives(scene)
    kinds = [negative.kind for negative in scene_negatives]
    assert kinds == [kind for kind in KINDS if kind in kinds]
    assert {"replace_obj", "replace_att", "replace_rel", "add_obj", "add_att"} <= set(kinds)
    assert ("swap_obj" in kinds) == (len(scene.objects) > 1)
    for negative in scene_negatives:
        assert is_true(negative.positive, scene), negative
        assert not is_true(negative.negative, scene), negative
        true_words, false_words = (bag(text) for text in (negative.positive, negative.negative))
        new, gone = false_words - true_words, true_words - false_words
        if negative.kind.startswith("swap"):
            assert not new, negative
            assert not gone, negative
        elif negative.kind == "replace_rel":
            assert 1 <= new.total() <= 2, negative
        elif negative.kind.startswith("replace"):
            assert (new.total(), gone.total()) == (1, 1), negative
        elif negative.kind == "add_att":
            assert (new.total(), gone.total()) == (1, 0), negative
        else:
            assert (new.total(), gone.total()) == (3, 0), negative


def bag(text: str) -> Counter:
    """Count the words of a text, without "of" and articles."""
    return Counter(word for word in text.split() if word not in ("a", "an", "of"))


@given(SCENES, st.data())
@settings(max_examples=200, deadline=None)
def test_a_complete_description_is_false_once_anything_changes(scene, data):
    index = data.draw(st.integers(0, len(scene.objects) - 1))
    scene_object = scene.objects[index]
    values = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES, "place": PLACES}
    changed_property = data.draw(st.sampled_from([*values, "background", "pattern"]))
    if changed_property == "background":
        colour = data.draw(st.sampled_from([c for c in BACKGROUND_COLOURS if c != scene.background.colour]))
        other = replace(scene, background=replace(scene.background, colour=colour))
    elif changed_property == "pattern":
        pattern = data.draw(st.sampled_from([p for p in BACKGROUND_PATTERNS if p != scene.background.pattern]))
        other = replace(scene, background=replace(scene.background, pattern=pattern))
    else:
        old_value = getattr(scene_object, changed_property)
        value = data.draw(st.sampled_from([v for v in values[changed_property] if v != old_value]))
        changed_object = replace(scene_object, **{changed_property: value})
        other = replace(scene, objects=(*scene.objects[:index], changed_object, *scene.objects[index + 1 :]))
    for text in captions(scene).full:
        assert is_true(text, scene)
        assert not is_true(text, other)


@st.composite
def phrases(draw):
    """One to three object phrases as (shape, colour, size, texture, place), None for what is not mentioned."""

    def maybe(values):
        return st.none() | st.sampled_from(values)

    phrase = st.tuples(
        st.sampled_from(SHAPES[:3]), maybe(COLOURS[:2]), maybe(SIZES), maybe(TEXTURES[:2]), maybe(PLACES[:4])
    )
    return draw(st.lists(phrase, min_size=1, max_size=3))


@given(phrases(), st.data())
@settings(max_examples=200, deadline=None)
def test_the_checker_agrees_with_trying_every_assignment(stated_phrases, data):
    count = data.draw(st.integers(1, 4))
    places = data.draw(st.permutations(PLACES[:4]))[:count]
    objects = [
        SceneObject(*(data.draw(st.sampled_from(v)) for v in (SHAPES[:3], COLOURS[:2], SIZES, TEXTURES[:2])), place)
        for place in places
    ]
    relation = data.draw(st.none() | st.sampled_from(RELATIONS)) if len(stated_phrases) == 2 else None
    texts = [
        "a " + " ".join(word for word in (size, texture, colour, shape) if word) + (f" at {place}" if place else "")
        for shape, colour, size, texture, place in stated_phrases
    ]
    scene = Scene(tuple(objects), Background("gray", "smooth"), "k", "test")

    columns = {"top left": 0, "bottom left": 0, "top right": 1, "bottom right": 1}
    rows = {"top left": 0, "top right": 0, "bottom left": 1, "bottom right": 1}
    holds = {
        "left of": lambda a, b: columns[a] < columns[b],
        "right of": lambda a, b: columns[a] > columns[b],
        "above": lambda a, b: rows[a] < rows[b],
        "below": lambda a, b: rows[a] > rows[b],
    }
    expected = any(
        all(
            stated in (None, actual)
            for phrase, o in zip(stated_phrases, chosen, strict=True)
            for stated, actual in zip(phrase, (o.shape, o.colour, o.size, o.texture, o.place), strict=True)
        )
        and (relation is None or holds[relation](chosen[0].place, chosen[1].place))
        for chosen in itertools.permutations(objects, len(stated_phrases))
    )
    assert is_true((f" {relation} " if relation else " and ").join(texts), scene) == expected


def test_two_places_have_a_relation_and_never_opposite_ones():
    for places in itertools.permutations(PLACES, 2):
        a, b = (SceneObject("star", "red", "small", "plain", place) for place in places)
        true_relations = {relation for relation in RELATIONS if is_related(a, relation, b)}
        assert true_relations
        assert not {"left of", "right of"} <= true_relations
        assert not {"above", "below"} <= true_relations
        assert {relation for relation in RELATIONS if is_related(b, relation, a)} == {
            {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}[relation]
            for relation in true_relations
        }


@given(SCENES)
@settings(max_examples=100, deadline=None)
def test_a_record_has_dreamlips_structure_in_short_sentences_of_the_vocabulary(scene):
    scene_record = record(scene)
    assert list(scene_record) == KEYS
    words = set(vocabulary())
    for key, sentences in scene_record.items():
        assert sentences, key
        for sentence in sentences:
            tokens = sentence.replace(",", " ,").split()
            assert set(tokens) <= words | {","}
            assert "." not in sentence
            # a complete description with the tokens of its start and end fits the 40 tokens of the toybox preset
            assert len(tokens) <= (38 if sentence in captions(scene).full else 14)


def test_every_word_of_the_vocabulary_is_used_and_articles_fit():
    used = set()
    for i in range(800):
        scene = make_scene(0, "train", i)
        texts = [*itertools.chain(*record(scene).values()), *(n.negative for n in negatives(scene))]
        for text in texts:
            words = text.replace(",", "").split()
            used.update(words)
            for article, following in itertools.pairwise(words):
                assert article != "a" or following[0] not in "aeiou", text
                assert article != "an" or following[0] in "aeiou", text
    assert used == set(vocabulary())
    assert len(COUNTS) == 4


def test_nearly_every_complete_description_is_true_of_one_test_scene_only():
    scenes = distinct_scenes(0, "test", 300)
    texts = [(i, text) for i, scene in enumerate(scenes) for text in captions(scene).full]
    unique = [all(not is_true(text, other) for j, other in enumerate(scenes) if j != i) for i, text in texts]
    assert sum(unique) / len(unique) >= 0.97


def test_words_are_as_frequent_in_true_captions_as_in_false_ones():
    """Otherwise a model could guess from the words which caption is true, without the image."""
    in_true, in_false = Counter(), Counter()
    for i in range(1500):
        for negative in negatives(make_scene(9, "train", i)):
            if negative.kind.startswith("replace"):
                true_words, false_words = bag(negative.positive), bag(negative.negative)
                in_true.update((negative.kind, word) for word in true_words - false_words)
                in_false.update((negative.kind, word) for word in false_words - true_words)
    assert len(in_true | in_false) == 6 + 13 + 7
    for word in in_true | in_false:
        n = in_true[word] + in_false[word]
        assert n > 100
        assert abs(in_true[word] - in_false[word]) <= 4 * n**0.5, (word, in_true[word], in_false[word])


def test_negatives_of_a_single_object_have_no_swap():
    kinds = [negative.kind for negative in negatives(single_object_scene(0, "test", 0, 0))]
    assert kinds == ["replace_obj", "replace_att", "replace_rel", "add_obj", "add_att"]
