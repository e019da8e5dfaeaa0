"""The ablation: its statistics by hand, its rows on equal terms, legs that are kept, tables of whole seeds only."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.studies.ablation import __main__ as entry
from benchmarks.studies.ablation import collect, leg, report, rows, testing, why
from benchmarks.studies.ablation.__main__ import main
from benchmarks.studies.ablation.statistics import Estimate, Outcomes, estimate, over_seeds, t_quantile
from benchmarks.studies.ablation.testing import Examiner
from cosmos_core.errors import RequestError
from cosmos_core.objectives import build_objective
from cosmos_core.views import TextCrop

SHORT = [
    "batch_size=4",
    "steps=2",
    "warmup=1",
    "threads=1",
    "samples=64",
    "log_every=1",
    "model={embed_dim: 16, vision_cfg: {image_size: 64, layers: 1, width: 16, head_width: 8, patch_size: 16, "
    "attn_pooler_heads: 2}, text_cfg: {context_length: 20, vocab_size: 200, width: 16, heads: 2, layers: 1, "
    "attn_pooler_heads: 2}}",
]
TESTED = 10
"""Images of the test set that the tiny models are tested on."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- statistics -------------------------------------------------------------------------------------------------------


def test_the_interval_over_three_seeds_is_that_of_the_textbook():
    # mean 2, standard deviation 1, standard error 1/sqrt(3), t(2) = 4.302653
    low, high = over_seeds([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6)


@pytest.mark.parametrize(("freedom", "table"), [(1, 12.706205), (2, 4.302653), (3, 3.182446), (9, 2.262157)])
def test_quantiles_of_t_are_those_of_the_printed_table(freedom: int, table: float):
    assert t_quantile(freedom) == pytest.approx(table, abs=1e-6)


def test_one_seed_has_no_interval_over_seeds_and_no_difference_of_it_is_clear():
    found = estimate(Outcomes(np.ones((1, 4)), np.arange(4)))
    assert math.isnan(found.seed_low)
    assert math.isnan(found.seed_high)
    assert found.mean == found.image_low == found.image_high == 1
    assert not found.clear


def test_paired_differences_have_none_of_the_variance_that_both_rows_share():
    # seeds differ by 25 points and so do both rows with them: the difference is 25 points in every seed
    hard = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=float)
    easy = Outcomes(hard, np.arange(4))
    harder = Outcomes(hard - np.array([1, 0, 0, 0.0]), np.arange(4))
    found = estimate(easy.minus(harder))
    assert found.mean == pytest.approx(0.25)
    assert found.seeds == pytest.approx((0.25, 0.25, 0.25))
    assert (found.seed_low, found.seed_high) == pytest.approx((0.25, 0.25))
    assert over_seeds(easy.per_seed())[1] - over_seeds(easy.per_seed())[0] > 1


def test_images_are_resampled_with_all_their_captions():
    # one image with three captions that all hit, one with one that misses: captions weigh alike, images are drawn
    outcomes = Outcomes(np.array([[1.0, 1.0, 1.0, 0.0]]), np.array([0, 0, 0, 1]))
    found = estimate(outcomes)
    assert found.mean == pytest.approx(0.75)
    assert (found.image_low, found.image_high) == (0, 1)  # a draw of one image twice: a quarter of all draws each


def test_a_mean_over_subsets_weighs_subsets_alike():
    outcomes = Outcomes(np.array([[1.0, 1.0, 1.0, 0.0]]), np.arange(4), np.array([0, 0, 0, 1]))
    assert outcomes.per_seed() == [0.5]


def test_a_constant_difference_is_clear_and_a_difference_that_changes_sign_is_not():
    better = Outcomes(np.ones((3, 50)), np.arange(50))
    worse = Outcomes(np.zeros((3, 50)), np.arange(50))
    assert estimate(better.minus(worse)).clear
    assert estimate(worse.minus(better)).clear
    signs = np.array([[1.0], [-1.0], [0.5]]) * np.ones((3, 50))
    assert not estimate(Outcomes(signs, np.arange(50))).clear


def test_a_difference_clear_over_images_only_is_not_called_clear():
    assert not Estimate(0.1, (0.0, 0.2), -0.9, 1.1, 0.05, 0.15).clear
    assert not Estimate(0.1, (0.1, 0.1), 0.1, 0.1, -0.05, 0.25).clear


def test_other_samples_cannot_be_compared():
    some, other = Outcomes(np.ones((2, 3)), np.arange(3)), Outcomes(np.ones((2, 3)), np.array([0, 0, 1]))
    with pytest.raises(ValueError, match="not the same samples"):
        some.minus(other)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_the_rows_differ_in_objective_and_captions_and_in_nothing_else():
    configs = [rows.settings(one, 1).to_dict() for one in rows.ROWS]
    for config in configs:
        assert {**config, "name": "", "objective": "", "captions": 0} == {
            **configs[0],
            "name": "",
            "objective": "",
            "captions": 0,
        }
    assert len({(config["objective"], config["captions"]) for config in configs}) == len(rows.ROWS) == 7
    assert set(rows.LADDER) | set(rows.OBJECTIVES) == {one.name for one in rows.ROWS}


def test_every_step_of_the_ladder_adds_what_it_says():
    wanted = {}
    for one in rows.ROWS:
        config = rows.settings(one, 0)
        objective = build_objective(config.objective)
        views = config.required_views()
        kept = views.kept_captions or views.captions
        crops = (views.images.global_crops, views.images.local_crops)
        wanted[one.name] = (*crops, kept, objective.needs_teacher, objective.cross_attention)
    assert wanted["clip"] == (1, 0, 1, False, False)
    assert wanted["image_views"] == (2, 0, 1, False, False)
    assert wanted["text_views"] == (2, 0, 4, False, False)
    assert wanted["distill"] == (2, 2, 4, True, False)
    assert wanted["cosmos"] == (2, 2, 4, True, True)
    assert wanted["slip"] == (2, 0, 2, False, False)
    assert wanted["silc"] == (2, 2, 1, True, False)


def test_the_first_caption_of_a_sample_is_the_same_in_every_row():
    import random

    record = {"raw_caption": "a red circle", "longIB_captions": [f"sentence {i}" for i in range(12)]}
    firsts = set()
    for one in rows.ROWS:
        config = rows.settings(one, 0)
        views = config.required_views()
        firsts.add(TextCrop(views.captions, config.caption_mode)(record, random.Random(3))[0])
    assert len(firsts) == 1


# --- end to end -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner(TESTED)


@pytest.fixture(scope="module")
def trained(examiner: Examiner, tmp_path_factory) -> Path:
    """All seven rows and two seeds, two steps of a tiny model each, tested on a few images."""
    out = tmp_path_factory.mktemp("ablation")
    for seed in (0, 1):
        for one in rows.ROWS:
            leg.do_leg(rows.settings(one, seed, SHORT), leg.folder_of(out, one, seed), examiner, "abc")
    return out


def test_every_row_of_a_seed_reads_the_same_images_in_the_same_order(trained: Path):
    legs = collect.finished_legs(trained)
    for seed in (0, 1):
        assert len({legs[name][seed].record["samples_digest"] for name in legs}) == 1
    assert legs["clip"][0].record["samples_digest"] != legs["clip"][1].record["samples_digest"]


def test_a_leg_records_what_its_networks_were_given(trained: Path):
    legs = collect.finished_legs(trained)
    clip, cosmos = legs["clip"][0].record["given"], legs["cosmos"][0].record["given"]
    assert clip["student"] == {"images": [[4, 3, 64, 64]], "texts": [4, 20], "cross_features": False}
    assert clip["teacher"] is None
    assert [shape[-1] for shape in cosmos["student"]["images"]] == [64, 64, 32, 32]
    assert cosmos["student"]["texts"] == [16, 20]
    assert cosmos["student"]["cross_features"]
    assert cosmos["teacher"]["texts"] == [8, 20]


def test_a_finished_leg_is_kept(trained: Path, examiner: Examiner):
    one = rows.row("clip")
    folder = leg.folder_of(trained, one, 0)
    before = (folder / "last.pt").stat().st_mtime_ns
    record = leg.do_leg(rows.settings(one, 0, SHORT), folder, examiner)
    assert record["commit"] == "abc"
    assert (folder / "last.pt").stat().st_mtime_ns == before


def test_a_leg_killed_after_its_training_is_only_tested(trained: Path, examiner: Examiner, tmp_path, monkeypatch):
    one = rows.row("clip")
    folder = leg.folder_of(tmp_path, one, 0)
    shutil.copytree(leg.folder_of(trained, one, 0), folder)
    (folder / leg.FINISHED).unlink()
    monkeypatch.setattr(leg, "train", lambda *a, **k: pytest.fail("trained again"))
    record = leg.do_leg(rows.settings(one, 0, SHORT), folder, examiner)
    assert record["results"].keys() == {"toybox-retrieval", "toybox-classification", "toybox-perception"}


def test_a_leg_with_other_settings_is_refused(trained: Path):
    one = rows.row("clip")
    with pytest.raises(RequestError, match="holds another training"):
        leg.is_finished(leg.folder_of(trained, one, 0), rows.settings(one, 0, [*SHORT, "lr=0.5"]))


def test_rows_with_different_settings_are_no_ablation(trained: Path, tmp_path: Path):
    for name in ("clip", "cosmos"):
        shutil.copytree(trained / f"{name}-seed0", tmp_path / f"{name}-seed0")
    record = json.loads((tmp_path / "cosmos-seed0" / leg.FINISHED).read_text())
    record["config"]["lr"] = 0.5
    (tmp_path / "cosmos-seed0" / leg.FINISHED).write_text(json.dumps(record))
    with pytest.raises(RequestError, match="in lr: not one ablation"):
        collect.finished_legs(tmp_path)


def test_the_report_has_all_rows_and_what_was_written_by_hand(trained: Path, tmp_path: Path):
    report.write_report(trained, tmp_path)
    path = tmp_path / "ablation.md"
    path.write_text(path.read_text() + "By hand.\n")
    figures = report.write_report(trained, tmp_path)
    text = path.read_text()
    assert text.endswith("By hand.\n")
    assert text.count(report.MARK) == 1
    for one in rows.ROWS:
        assert one.title in text
    for ours, theirs in zip(rows.LADDER[1:], rows.LADDER, strict=False):
        assert f"| {ours} − {theirs} |" in text
    assert "2 seeds" in text
    assert f"Evaluated on {TESTED} images only" in text
    assert (tmp_path / "ablation.png").stat().st_size < 100_000
    # the table holds what the results on the disk say
    legs = collect.finished_legs(trained)
    values = []
    for seed in (0, 1):
        one = legs["cosmos"][seed]
        stored = json.loads((one.folder / one.record["results"]["toybox-perception"] / "RESULT.json").read_text())
        values.append(stored["metrics"]["macro_accuracy"]["value"])
    assert figures["cosmos_macro_accuracy"] == pytest.approx(sum(values) / 2, abs=1e-4)


def test_seeds_that_some_row_lacks_are_left_out_of_the_tables(trained: Path, tmp_path: Path):
    for folder in trained.iterdir():
        if folder.name != "cosmos-seed1":
            shutil.copytree(folder, tmp_path / folder.name)
    assert report.write_report(tmp_path, tmp_path)["seeds"] == 1
    assert "1 seed" in (tmp_path / "ablation.md").read_text()


@pytest.fixture
def half_done(trained: Path, examiner: Examiner, tmp_path: Path, monkeypatch) -> list[str]:
    """A command of two rows and one seed, of which `clip` stands finished in its folder."""
    shutil.copytree(trained / "clip-seed0", tmp_path / "clip-seed0")
    monkeypatch.setattr(testing, "Examiner", lambda limit: examiner)
    changes = [part for change in SHORT for part in ("--set", change)]
    return ["--seeds", "0", "--out", str(tmp_path), "--results", str(tmp_path), *changes, "--rows", "clip", "slip"]


def test_the_command_goes_on_with_what_is_not_finished(half_done: list[str], tmp_path: Path, monkeypatch, capsys):
    begun = []

    def run(command: list[str], check: bool) -> None:
        begun.append(command[command.index("--leg") + 1 :])
        assert command[1:3] == ["-m", "benchmarks.studies.ablation"]
        assert check
        main(command[3:])

    monkeypatch.setattr(entry.subprocess, "run", run)
    finished = (tmp_path / "clip-seed0" / leg.FINISHED).stat().st_mtime_ns
    main([*half_done, "--commit", "abc"])
    said = capsys.readouterr().out
    assert begun == [["slip", "0"]]
    assert "clip, seed 0: finished, kept" in said
    assert (tmp_path / "clip-seed0" / leg.FINISHED).stat().st_mtime_ns == finished
    last = json.loads(said.strip().splitlines()[-1])
    assert (last["name"], last["figures"]["seeds"]) == ("ablation", 1)
    begun.clear()
    main([*half_done, "--commit", "abc"])
    assert begun == []


def test_a_leg_that_fails_ends_the_command_in_one_line(half_done: list[str], monkeypatch):
    def run(command: list[str], check: bool) -> None:
        raise subprocess.CalledProcessError(2, command)

    monkeypatch.setattr(entry.subprocess, "run", run)
    with pytest.raises(RequestError, match="a leg failed with 2"):
        main([*half_done, "--commit", "abc"])


def test_no_finished_leg_is_one_line(tmp_path: Path):
    with pytest.raises(RequestError, match="no finished leg"):
        report.write_report(tmp_path, tmp_path)


def test_what_distillation_asks_of_the_towers_is_measured_on_unseen_batches(trained: Path):
    legs = collect.finished_legs(trained)
    plain, cross = (why.figures(legs[name][0]) for name in ("distill", "cosmos"))
    assert plain.keys() == cross.keys() == why.FIGURES.keys()
    # without cross-attention the loss is the one on plain features; with it they are two
    assert plain["distill_loss"] == pytest.approx(plain["plain_distill_loss"])
    assert cross["distill_loss"] != pytest.approx(cross["plain_distill_loss"])
    assert plain["distill_loss"] == pytest.approx((plain["from_image"] + plain["from_text"]) / 2)
    assert min(cross["clip_gradient"], cross["distill_gradient"]) > 0
    assert -1 <= cross["cosine"] <= 1


def test_the_gradient_of_a_weight_that_a_loss_does_not_read_is_zero():
    read, unread = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    assert why.flat_gradient((2 * read).sum(), [read, unread]).tolist() == [2, 2, 0, 0, 0]
