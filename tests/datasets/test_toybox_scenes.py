"""toybox's scenes: the same for a seed in every process, no content in two splits, balanced classes."""

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.toybox import (
    CLASSES,
    SPLITS,
    class_scenes,
    distinct_scenes,
    make_scene,
    mask,
    record,
    render,
    single_object_scene,
    split_of,
    train_records,
)
from tests.helpers.toybox_words import vocabulary

SEEDS = st.integers(0, 2**31)
SPLIT_NAMES = st.sampled_from(sorted(SPLITS))

PROGRAM = """
import hashlib, json
from cosmos_eval.datasets.toybox import make_scene, negatives, record, render
h = hashlib.sha256()
for split in ("train", "val", "test"):
    for i in range(8):
        scene = make_scene(3, split, i)
        h.update(render(scene).tobytes() + json.dumps(record(scene)).encode() + repr(negatives(scene)).encode())
print(h.hexdigest())
"""


def test_two_processes_make_the_same_scenes():
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


def test_version_1_draws_the_scenes_that_checkpoints_were_trained_on():
    """A change of images, words or splits needs a new `VERSION`; these values are those of version 1."""
    scenes = [make_scene(0, split, index) for split in ("train", "test") for index in range(100)]
    text_digest = hashlib.sha256(repr([(scene.signature(), record(scene)) for scene in scenes]).encode()).hexdigest()
    assert text_digest[:16] == "e5894cd2f4e97404"
    # means, not bytes: the cosine of another machine may change the last bit of a pixel
    means = np.mean([render(scene).mean((0, 1)) for scene in scenes], axis=0)
    assert means == pytest.approx([119.819, 120.728, 110.058], abs=0.01)


@given(SEEDS, SPLIT_NAMES, st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_the_content_of_a_scene_of_any_seed_belongs_to_its_split(seed, split, index):
    assert split_of(make_scene(seed, split, index).signature()) == split
    assert split_of(single_object_scene(seed, split, index % len(CLASSES), index).signature()) == split


def test_no_content_occurs_in_two_splits_whatever_the_seed():
    contents = {}
    for split, seed in (("train", 0), ("train", 1), ("val", 0), ("test", 0), ("test", 1)):
        signatures = {make_scene(seed, split, index).signature() for index in range(400)}
        signatures |= {scene.signature() for _, scene in class_scenes(seed, split, 2)}
        contents.setdefault(split, set()).update(signatures)
    assert not contents["train"] & contents["val"]
    assert not contents["train"] & contents["test"]
    assert not contents["val"] & contents["test"]


def test_every_bucket_belongs_to_one_split():
    bucket_counts = Counter(bucket for buckets in SPLITS.values() for bucket in buckets)
    assert bucket_counts == Counter(range(100))


def test_a_signature_does_not_depend_on_the_order_of_objects():
    scene = next(s for i in range(50) if len((s := make_scene(0, "test", i)).objects) == 3)
    reversed_scene = type(scene)(scene.objects[::-1], scene.background, scene.key, scene.split)
    assert reversed_scene.signature() == scene.signature()


@given(SEEDS, SPLIT_NAMES, st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_objects_have_different_places_and_differ_in_colour_or_shape(seed, split, index):
    objects = make_scene(seed, split, index).objects
    assert 1 <= len(objects) <= 4
    assert len({o.place for o in objects}) == len(objects)
    assert len({(o.colour, o.shape) for o in objects}) == len(objects)
    assert len(objects) == 1 or all(o.place != "center" for o in objects)


def test_numbers_of_objects_have_their_shares():
    counts = Counter(len(make_scene(5, "train", i).objects) for i in range(2000))
    for count, share in zip((1, 2, 3, 4), (0.35, 0.35, 0.18, 0.12), strict=True):
        assert counts[count] / 2000 == pytest.approx(share, abs=0.045)  # four standard errors


def test_classification_is_exactly_balanced_and_shows_its_class():
    labelled = class_scenes(0, "test", 3)
    assert Counter(label for label, _ in labelled) == dict.fromkeys(range(48), 3)
    for label, scene in labelled:
        (scene_object,) = scene.objects
        assert f"{scene_object.colour} {scene_object.shape}" == CLASSES[label]
        assert scene_object.size == "large"
        assert scene.specks
        assert set(np.unique(mask(scene))) == {0, 1 + label // 8}
    assert len({scene.key for _, scene in labelled}) == len(labelled)


def test_classification_images_differ_within_a_class():
    images = [render(single_object_scene(0, "test", 7, index)).tobytes() for index in range(20)]
    assert len(set(images)) == 20


def test_distinct_scenes_leave_out_repeated_content_and_keep_the_order():
    scenes = distinct_scenes(0, "test", 300)
    assert len({scene.signature() for scene in scenes}) == 300
    keys = [scene.key for scene in scenes]
    assert keys == sorted(keys)
    assert distinct_scenes(0, "test", 100) == scenes[:100]


def test_training_records_are_the_same_lazily_and_rendered_at_once():
    progress = []
    lazy, rendered = train_records(4, 130), train_records(4, 130, on_done=progress.append)
    assert sum(progress) == 130
    assert len(lazy) == len(rendered) == 130
    for index in (0, 57, 129, -1):
        key, pixels, captions = lazy[index]
        assert key == rendered[index][0]
        assert captions == rendered[index][2]
        assert pixels.dtype == np.uint8
        assert pixels.shape == (64, 64, 3)
        np.testing.assert_array_equal(pixels, rendered[index][1])
    assert len(lazy[3:7]) == 4
    with pytest.raises(IndexError):
        lazy[130]


def test_an_unknown_split_and_class_are_refused():
    with pytest.raises(RequestError, match="train, val, test"):
        make_scene(0, "dev", 0)
    with pytest.raises(RequestError, match="0 to 47"):
        single_object_scene(0, "test", 48, 0)


def test_every_word_is_one_token_and_no_two_share_an_id_when_folded():
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    tokens = {word: tokenizer.encode(word) for word in (*vocabulary(), ",")}
    assert all(len(ids) == 1 for ids in tokens.values())
    assert len({1 + ids[0] % (1200 - 3) for ids in tokens.values()}) == len(tokens)
