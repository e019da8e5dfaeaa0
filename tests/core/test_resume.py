"""Going on: which checkpoint of a folder a run starts from, what damage does, and which settings may differ."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from cosmos_core.checkpoint import save_checkpoint
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.run_state import MAY_CHANGE, incompatible_settings, portable_settings, read_training_config
from cosmos_core.snapshot_checks import is_finished, require_newest_last
from cosmos_core.train import Callback, Run, train
from tests.core.test_snapshots import Notes, names, saved, snapshots, some_run
from tests.core.test_train import CONFIG, weights
from tests.helpers.tiny_runs import coloured


def test_an_empty_folder_has_nothing_to_go_on_from(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    for out in (tmp_path, tmp_path / "absent"):
        assert snapshots(out).latest() is None
        assert snapshots(out).resume() is None


def test_half_written_files_are_ignored_and_removed(tmp_path: Path):
    saved(tmp_path, 10)
    for half in (".step-00000020.pt.abc123.tmp", ".last.pt.x.tmp", ".last.pt.link.tmp"):
        (tmp_path / half).write_bytes(b"half")
    assert snapshots(tmp_path).latest() == tmp_path / "step-00000010.pt"
    assert names(tmp_path) == ["last.pt", "step-00000010.pt"]


def damaged(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "a flipped bit":
        place = content.find(weights(some_run(20).teacher)["visual.conv1.weight"].numpy().tobytes()[:64])
        assert place > 0
        content[place] ^= 1
    elif kind == "cut":
        del content[len(content) // 2 :]
    elif kind == "zeros":
        content[1000:] = bytes(len(content) - 1000)
    else:
        content.clear()
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["a flipped bit", "cut", "zeros", "empty"])
def test_a_damaged_newest_one_falls_back_to_the_one_before_with_a_note(tmp_path: Path, kind: str):
    saved(tmp_path, 10, 20)
    damaged(tmp_path / "step-00000020.pt", kind)
    notes = Notes()
    assert snapshots(tmp_path, notes).latest() == tmp_path / "step-00000010.pt"
    assert len(notes) == 1
    assert "step-00000020.pt" in notes[0]
    assert "going on from step-00000010.pt" in notes[0]
    assert names(tmp_path) == ["last.pt", "step-00000010.pt", "step-00000020.pt.broken"]
    assert (tmp_path / "last.pt").samefile(tmp_path / "step-00000010.pt")
    assert snapshots(tmp_path).latest() == tmp_path / "step-00000010.pt"


def test_last_alone_is_enough_and_a_newer_last_is_preferred(tmp_path: Path):
    saved(tmp_path, 10, 20)
    (tmp_path / "step-00000020.pt").unlink()
    assert snapshots(tmp_path).latest() == tmp_path / "last.pt"
    (tmp_path / "step-00000010.pt").unlink()
    run = some_run()
    assert snapshots(tmp_path).restore(run, snapshots(tmp_path).latest()) == {"lane 0": 20}
    assert run.step == 20


def test_nothing_but_damage_is_refused_and_left_alone(tmp_path: Path):
    saved(tmp_path, 10, 20)
    for path in tmp_path.glob("step-*.pt"):
        damaged(path, "cut")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RequestError, match=r"holds no checkpoint to go on from: .*step-00000020.pt.*--overwrite"):
        snapshots(tmp_path).resume()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_weights_alone_is_no_run_to_go_on(tmp_path: Path):
    run = some_run()
    save_checkpoint(
        tmp_path / "last.pt", config=run.student.config, student=run.student, teacher=run.teacher, optimizer=None,
        epoch=1, name="older", extra={"step": 6, "training": CONFIG.to_dict()},
    )  # fmt: skip
    with pytest.raises(RequestError, match="it lacks optimizer, steps, data_state, skipped, rng; --overwrite"):
        snapshots(tmp_path).resume()


def test_a_run_goes_on_only_with_the_settings_it_had(tmp_path: Path):
    saved(tmp_path, 10)
    assert snapshots(tmp_path).resume() == tmp_path / "step-00000010.pt"
    with pytest.raises(RequestError, match=r"other settings: lr 0\.001 there and 0\.002 here; give another --out"):
        snapshots(tmp_path, lr=2e-3).resume()
    with pytest.raises(RequestError, match=r"steps 6 there and 7 here \(schedules depend on the length of a run\)"):
        snapshots(tmp_path, steps=7).resume()
    with pytest.raises(RequestError, match=r"seed .*; lr .*; warmup .* and 1 more"):
        snapshots(tmp_path, seed=1, lr=0.1, warmup=0, beta1=0.8).resume()
    assert names(tmp_path) == ["last.pt", "step-00000010.pt"]


def test_a_finished_run_says_so_and_is_replaced_only_when_asked(tmp_path: Path):
    saved(tmp_path, 90, 100)
    with pytest.raises(RequestError, match=r"finished training of 100 steps; evaluate .*last\.pt.*--overwrite"):
        snapshots(tmp_path).resume()
    (tmp_path / "step-00000095.pt.broken").write_bytes(b"?")
    (tmp_path / "metrics.jsonl").write_text("")
    assert snapshots(tmp_path).resume(overwrite=True) is None
    assert names(tmp_path) == ["metrics.jsonl"]


def test_data_that_have_grown_make_a_run_of_another_length(tmp_path: Path):
    folder = saved(tmp_path, 10)
    with pytest.raises(RequestError, match="of a run of 100 steps, and this one has 120: schedules depend"):
        folder.restore(some_run(steps=120), tmp_path / "last.pt")


def test_another_model_is_refused_by_the_first_key(tmp_path: Path):
    folder = saved(tmp_path, 10)
    other = some_run()
    other.student.text_projection = torch.nn.Parameter(torch.zeros(3, 3))
    with pytest.raises(RequestError, match="student does not fit this model: text_projection"):
        folder.restore(other, tmp_path / "last.pt")


def test_settings_that_train_nothing_may_differ_and_all_others_may_not():
    known = {item.name for item in fields(TrainConfig)}
    assert known >= MAY_CHANGE
    assert incompatible_settings(CONFIG, CONFIG) == []
    changed = {
        "out": "elsewhere", "workers": 3, "device": "cuda:1", "threads": 2, "log_every": 7, "keep": 5, "keep_every": 10,
        "save_every": 11, "save_minutes": 1.5, "eval_every": 10, "eval_suite": "paper", "name": "other",
    }  # fmt: skip
    assert incompatible_settings(CONFIG, replace(CONFIG, **changed)) == []
    for key, value in {"lanes": 3, "shuffle": 9, "data": "x.tar", "batch_size": 8, "precision": "fp32"}.items():
        assert [line.split()[0] for line in incompatible_settings(CONFIG, replace(CONFIG, **{key: value}))] == [key]
    flipped = replace(CONFIG, views=replace(CONFIG.views, flip=0.5))
    assert incompatible_settings(CONFIG, flipped) == ["views.flip 0.0 there and 0.5 here"]


def test_a_configuration_read_from_a_file_is_the_one_that_was_written():
    as_json = {"training": {**CONFIG.to_dict(), "views": {**CONFIG.to_dict()["views"], "blur": [0.0, 0.0, 0.0]}}}
    assert incompatible_settings(read_training_config(as_json, "file"), CONFIG) == []


def test_other_threads_or_ranks_are_allowed_and_noted(tmp_path: Path):
    path = snapshots(tmp_path).save(some_run(step=10), {})
    notes, run = Notes(), some_run()
    torch.set_num_threads(torch.get_num_threads() + 1)
    try:
        snapshots(tmp_path, notes).restore(run, path)
    finally:
        torch.set_num_threads(torch.get_num_threads() - 1)
    assert len(notes) == 2
    assert "threads" in notes[1]
    assert run.step == 10


def left_by_a_killed_training(out: Path) -> None:
    """Two checkpoints whose newer one has not become `last.pt`, and a lock that nobody holds any more."""
    saved(out, 90, 100)
    (out / "last.pt").unlink()
    (out / "last.pt").hardlink_to(out / "step-00000090.pt")


def test_a_stale_last_is_mended_by_the_next_start_which_ends_the_run(tmp_path: Path):
    left_by_a_killed_training(tmp_path)
    assert not is_finished(tmp_path)
    with pytest.raises(RequestError, match=r"last\.pt is of step 90, and step-00000100\.pt beside it is newer"):
        require_newest_last(tmp_path / "last.pt")
    notes = Notes()
    assert snapshots(tmp_path, notes).resume() == tmp_path / "step-00000100.pt"
    assert (tmp_path / "last.pt").samefile(tmp_path / "step-00000100.pt")
    assert len(notes) == 1
    require_newest_last(tmp_path / "last.pt")
    assert is_finished(tmp_path)
    with pytest.raises(RequestError, match="finished training of 100 steps"):
        snapshots(tmp_path).resume()


def test_a_newer_checkpoint_that_is_damaged_makes_no_last_stale(tmp_path: Path):
    left_by_a_killed_training(tmp_path)
    damaged(tmp_path / "step-00000100.pt", "cut")
    require_newest_last(tmp_path / "last.pt")
    assert snapshots(tmp_path).resume() == tmp_path / "step-00000090.pt"


def test_a_training_that_was_killed_between_the_two_names_of_a_checkpoint_gets_the_second(tmp_path: Path):
    saved(tmp_path, 10, 20)
    (tmp_path / "step-00000020.pt").unlink()
    assert snapshots(tmp_path).resume() == tmp_path / "last.pt"
    assert (tmp_path / "last.pt").samefile(tmp_path / "step-00000020.pt")
    assert names(tmp_path) == ["last.pt", "step-00000010.pt", "step-00000020.pt"]


def test_a_finished_training_that_was_killed_after_its_last_step_is_ended(tmp_path: Path):
    saved(tmp_path, 100)
    (tmp_path / ".lock").write_text('{"pid": 1}')
    assert not is_finished(tmp_path)
    folder = snapshots(tmp_path)
    with folder.locked():
        assert folder.resume() == tmp_path / "step-00000100.pt"
    assert is_finished(tmp_path)


def test_a_finished_training_of_other_settings_is_not_the_one_that_is_asked_for(tmp_path: Path):
    saved(tmp_path, 100)
    assert is_finished(tmp_path, CONFIG)
    assert not is_finished(tmp_path, replace(CONFIG, lr=0.5))


def test_two_trainings_in_one_folder_are_refused_and_overwrite_removes_nothing_meanwhile(tmp_path: Path):
    config = replace(CONFIG, out=str(tmp_path / "run"), save_every=2)

    class Second(Callback):
        def on_step(self, run: Run) -> None:
            if run.step == 3:
                for overwrite in (False, True):
                    with pytest.raises(
                        RequestError, match=r"run is in use by process \d+ on .*; wait for that training"
                    ):
                        train(config, coloured(8), overwrite=overwrite)

    train(config, coloured(8), callbacks=[Second()])
    assert names(tmp_path / "run") == ["last.pt", "metrics.jsonl", "step-00000004.pt", "step-00000006.pt"]
    assert is_finished(tmp_path / "run", config)


def test_a_checkpoint_tells_no_folder_of_this_machine_and_a_run_goes_on_from_it():
    data = "/home/somebody/data/{000..011}.tar::coco:/mnt/coco/captions.json,/mnt/coco/images::pipe:cat /mnt/a.tar"
    config = replace(CONFIG, data=data, out="/home/somebody/runs/x", eval_data_root="/mnt/eval")
    told = portable_settings(config)
    assert told["data"] == "{000..011}.tar::coco:captions.json,images::pipe:cat a.tar"
    assert (told["out"], told["eval_data_root"]) == ("x", "eval")
    assert incompatible_settings(read_training_config({"training": told}, "file"), config) == []
    assert incompatible_settings(
        read_training_config({"training": told}, "file"), replace(config, data=data.replace("a.tar", "b.tar"))
    )
    relative = replace(CONFIG, data="shards/{000..011}.tar::https://host/a/b.tar", out="runs/x")
    assert portable_settings(relative) == relative.to_dict()
