"""The pointing game: its counts, checked by hand."""

import json

import numpy as np

from benchmarks.studies.pointing import HIT_KINDS, absent, answers, hit_kind, main, names, questions, touched_patches
from cosmos_core.dense import ATTENTIONS
from cosmos_eval.datasets.toybox import make_scene

SCENE = make_scene(0, "test", 2)
"""A small aqua square at top right, a large green cross at bottom right."""


def test_each_object_is_named_alone_once_and_left_out_once():
    assert list(questions(SCENE)) == [
        (0, "aqua square", {0}),
        (1, "green cross", {1}),
        (0, "green cross", {1}),
        (1, "aqua square", {0}),
    ]
    three = make_scene(0, "test", 0)
    assert next(text for question, text, _ in questions(three) if question == 1) == " and ".join(names(three)[1:])


def test_objects_touch_the_patches_of_their_corner():
    square, cross = touched_patches(SCENE, 64, (4, 4))
    assert square[:2, 2:].any()
    assert cross[2:, 2:].all()
    assert not square[:, :2].any()
    assert not square[2:].any()
    assert not cross[:2].any()


def test_the_highest_patch_is_on_a_named_object_another_or_none():
    objects = touched_patches(SCENE, 64, (4, 4))
    assert [hit_kind(objects[:, 3, 3], named) for named in ({1}, {0}, {0, 1})] == [0, 1, 0]
    maps = np.zeros((4, 4, 4))
    maps[0, 3, 3] = maps[1, 3, 3] = maps[2, 0, 0] = maps[3, 3, 3] = 1
    results = list(answers(SCENE, 7, maps, objects))
    assert [HIT_KINDS[answer.hit] for answer in results] == [HIT_KINDS[1], HIT_KINDS[0], HIT_KINDS[2], HIT_KINDS[1]]
    on_square, on_cross = objects[0].sum() / 16, objects[1].sum() / 16
    assert results[0].chance == (on_square, on_cross, 1 - on_square - on_cross)
    assert {answer.scene for answer in results} == {7}


def test_an_absent_object_shares_no_word_with_the_scene():
    assert not set(absent(SCENE).split()) & {"aqua", "square", "green", "cross"}


def test_it_writes_a_table_for_each_model_and_size(tmp_path, capsys):
    main(["--scenes", "2", "--sizes", "64", "--out", str(tmp_path), "--models", "cosmos:toybox"])
    text = (tmp_path / "attention.md").read_text(encoding="utf-8")
    assert "## cosmos:toybox, images of 64 × 64 pixels" in text
    assert text.count("| cross-attention |") == 2
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["name"], len(line["figures"])) == ("pointing", 1 + len(ATTENTIONS))  # cross-attention beside them
