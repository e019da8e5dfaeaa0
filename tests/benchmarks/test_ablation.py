"""The ablation: statistics checked by hand, rows that differ only as intended, resuming of trials, and the tables."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.studies.ablation import __main__ as entry
from benchmarks.studies.ablation import collect, distillation, evaluation, report, rows, trial
from benchmarks.studies.ablation.__main__ import main
from benchmarks.studies.ablation.evaluation import TrialEvaluator
from benchmarks.studies.ablation.statistics import Estimate, Outcomes, estimate, over_seeds, t_quantile
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
"""Number of test images for the tiny models."""


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


def test_one_seed_has_no_interval_over_seeds_and_no_clear_difference():
    result = estimate(Outcomes(np.ones((1, 4)), np.arange(4)))
    assert math.isnan(result.seed_low)
    assert math.isnan(result.seed_high)
    assert result.mean == result.image_low == result.image_high == 1
    assert not result.clear


def test_paired_differences_exclude_the_variance_that_both_rows_share():
    # seeds differ by 25 points and so do both rows with them: the difference is 25 points in every seed
    hard = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=float)
    easy = Outcomes(hard, np.arange(4))
    harder = Outcomes(hard - np.array([1, 0, 0, 0.0]), np.arange(4))
    result = estimate(easy.minus(harder))
    assert result.mean == pytest.approx(0.25)
    assert result.seeds == pytest.approx((0.25, 0.25, 0.25))
    assert (result.seed_low, result.seed_high) == pytest.approx((0.25, 0.25))
    assert over_seeds(easy.per_seed())[1] - over_seeds(easy.per_seed())[0] > 1


def test_images_are_resampled_with_all_their_captions():
    # one image with three captions that all hit, one with one that misses: captions weigh alike, images are drawn
    outcomes = Outcomes(np.array([[1.0, 1.0, 1.0, 0.0]]), np.array([0, 0, 0, 1]))
    result = estimate(outcomes)
    assert result.mean == pytest.approx(0.75)
    assert (result.image_low, result.image_high) == (0, 1)  # a draw of one image twice: a quarter of all draws each


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
    first, second = Outcomes(np.ones((2, 3)), np.arange(3)), Outcomes(np.ones((2, 3)), np.array([0, 0, 1]))
    with pytest.raises(ValueError, match="not the same samples"):
        first.minus(second)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_differ_only_in_objective_and_captions():
    configs = [rows.settings(row, 1).to_dict() for row in rows.ROWS]
    for config in configs:
        assert {**config, "name": "", "objective": "", "captions": 0} == {
            **configs[0],
            "name": "",
            "objective": "",
            "captions": 0,
        }
    assert len({(config["objective"], config["captions"]) for config in configs}) == len(rows.ROWS) == 7
    assert set(rows.STEPS) | set(rows.OBJECTIVES) == {row.name for row in rows.ROWS}


def test_every_step_adds_its_component():
    settings_of = {}
    for row in rows.ROWS:
        config = rows.settings(row, 0)
        objective = build_objective(config.objective)
        views = config.required_views()
        kept = views.kept_captions or views.captions
        crops = (views.images.global_crops, views.images.local_crops)
        settings_of[row.name] = (*crops, kept, objective.needs_teacher, objective.cross_attention)
    assert settings_of["clip"] == (1, 0, 1, False, False)
    assert settings_of["image_views"] == (2, 0, 1, False, False)
    assert settings_of["text_views"] == (2, 0, 4, False, False)
    assert settings_of["distill"] == (2, 2, 4, True, False)
    assert settings_of["cosmos"] == (2, 2, 4, True, True)
    assert settings_of["slip"] == (2, 0, 2, False, False)
    assert settings_of["silc"] == (2, 2, 1, True, False)


def test_the_first_caption_of_a_sample_is_the_same_in_every_row():
    import random

    record = {"raw_caption": "a red circle", "longIB_captions": [f"sentence {i}" for i in range(12)]}
    firsts = set()
    for row in rows.ROWS:
        config = rows.settings(row, 0)
        views = config.required_views()
        firsts.add(TextCrop(views.captions, config.caption_mode)(record, random.Random(3))[0])
    assert len(firsts) == 1


# --- end to end -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluator() -> TrialEvaluator:
    return TrialEvaluator(TESTED)


@pytest.fixture(scope="module")
def trained(evaluator: TrialEvaluator, tmp_path_factory) -> Path:
    """Trials of all seven rows with two seeds: two steps of a tiny model each, evaluated on a few images."""
    out = tmp_path_factory.mktemp("ablation")
    for seed in (0, 1):
        for row in rows.ROWS:
            trial.run_trial(rows.settings(row, seed, SHORT), trial.folder_of(out, row, seed), evaluator, "abc")
    return out


def test_every_row_of_a_seed_reads_the_same_images_in_the_same_order(trained: Path):
    trials = collect.finished_trials(trained)
    for seed in (0, 1):
        assert len({trials[name][seed].record["samples_digest"] for name in trials}) == 1
    assert trials["clip"][0].record["samples_digest"] != trials["clip"][1].record["samples_digest"]


def test_a_trial_records_the_inputs_of_its_networks(trained: Path):
    trials = collect.finished_trials(trained)
    clip, cosmos = trials["clip"][0].record["given"], trials["cosmos"][0].record["given"]
    assert clip["student"] == {"images": [[4, 3, 64, 64]], "texts": [4, 20], "cross_features": False}
    assert clip["teacher"] is None
    assert [shape[-1] for shape in cosmos["student"]["images"]] == [64, 64, 32, 32]
    assert cosmos["student"]["texts"] == [16, 20]
    assert cosmos["student"]["cross_features"]
    assert cosmos["teacher"]["texts"] == [8, 20]


def test_a_finished_trial_is_kept(trained: Path, evaluator: TrialEvaluator):
    row = rows.row("clip")
    folder = trial.folder_of(trained, row, 0)
    before = (folder / "last.pt").stat().st_mtime_ns
    record = trial.run_trial(rows.settings(row, 0, SHORT), folder, evaluator)
    assert record["commit"] == "abc"
    assert (folder / "last.pt").stat().st_mtime_ns == before


def test_a_trial_killed_after_its_training_is_only_evaluated(
    trained: Path, evaluator: TrialEvaluator, tmp_path, monkeypatch
):
    row = rows.row("clip")
    folder = trial.folder_of(tmp_path, row, 0)
    shutil.copytree(trial.folder_of(trained, row, 0), folder)
    (folder / trial.FINISHED).unlink()
    monkeypatch.setattr(trial, "train", lambda *a, **k: pytest.fail("trained again"))
    record = trial.run_trial(rows.settings(row, 0, SHORT), folder, evaluator)
    assert record["results"].keys() == {"toybox-retrieval", "toybox-classification", "toybox-perception"}


def test_a_trial_with_other_settings_is_refused(trained: Path):
    row = rows.row("clip")
    with pytest.raises(RequestError, match="has another training"):
        trial.is_finished(trial.folder_of(trained, row, 0), rows.settings(row, 0, [*SHORT, "lr=0.5"]))


def test_rows_with_different_settings_are_not_one_ablation(trained: Path, tmp_path: Path):
    for name in ("clip", "cosmos"):
        shutil.copytree(trained / f"{name}-seed0", tmp_path / f"{name}-seed0")
    record = json.loads((tmp_path / "cosmos-seed0" / trial.FINISHED).read_text())
    record["config"]["lr"] = 0.5
    (tmp_path / "cosmos-seed0" / trial.FINISHED).write_text(json.dumps(record))
    with pytest.raises(RequestError, match="in lr: they are not one ablation"):
        collect.finished_trials(tmp_path)


def test_the_report_has_all_rows_and_keeps_text_written_by_hand(trained: Path, tmp_path: Path):
    report.write_report(trained, tmp_path)
    path = tmp_path / "ablation.md"
    path.write_text(path.read_text() + "By hand.\n")
    figures = report.write_report(trained, tmp_path)
    text = path.read_text()
    assert text.endswith("By hand.\n")
    assert text.count(report.MARK) == 1
    for row in rows.ROWS:
        assert row.title in text
    for row_name, previous in zip(rows.STEPS[1:], rows.STEPS, strict=False):
        assert f"| {row_name} − {previous} |" in text
    assert "2 seeds" in text
    assert f"Evaluated on {TESTED} images only" in text
    assert (tmp_path / "ablation.png").stat().st_size < 100_000
    # the figures are those of the results on disk
    trials = collect.finished_trials(trained)
    values = []
    for seed in (0, 1):
        cosmos = trials["cosmos"][seed]
        stored = json.loads((cosmos.folder / cosmos.record["results"]["toybox-perception"] / "RESULT.json").read_text())
        values.append(stored["metrics"]["macro_accuracy"]["value"])
    assert figures["cosmos_macro_accuracy"] == pytest.approx(sum(values) / 2, abs=1e-4)


def test_seeds_that_a_row_lacks_are_left_out_of_the_tables(trained: Path, tmp_path: Path):
    for folder in trained.iterdir():
        if folder.name != "cosmos-seed1":
            shutil.copytree(folder, tmp_path / folder.name)
    assert report.write_report(tmp_path, tmp_path)["seeds"] == 1
    assert "1 seed" in (tmp_path / "ablation.md").read_text()


@pytest.fixture
def half_done(trained: Path, evaluator: TrialEvaluator, tmp_path: Path, monkeypatch) -> list[str]:
    """A command with two rows and one seed; the trial of `clip` is already finished in its folder."""
    shutil.copytree(trained / "clip-seed0", tmp_path / "clip-seed0")
    monkeypatch.setattr(evaluation, "TrialEvaluator", lambda limit: evaluator)
    changes = [part for change in SHORT for part in ("--set", change)]
    return ["--seeds", "0", "--out", str(tmp_path), "--results", str(tmp_path), *changes, "--rows", "clip", "slip"]


def test_the_command_continues_with_unfinished_trials(half_done: list[str], tmp_path: Path, monkeypatch, capsys):
    started = []

    def run(command: list[str], check: bool) -> None:
        started.append(command[command.index("--trial") + 1 :])
        assert command[1:3] == ["-m", "benchmarks.studies.ablation"]
        assert check
        main(command[3:])

    monkeypatch.setattr(entry.subprocess, "run", run)
    finished = (tmp_path / "clip-seed0" / trial.FINISHED).stat().st_mtime_ns
    main([*half_done, "--commit", "abc"])
    output = capsys.readouterr().out
    assert started == [["slip", "0"]]
    assert "clip, seed 0: finished, kept" in output
    assert (tmp_path / "clip-seed0" / trial.FINISHED).stat().st_mtime_ns == finished
    last = json.loads(output.strip().splitlines()[-1])
    assert (last["name"], last["figures"]["seeds"]) == ("ablation", 1)
    started.clear()
    main([*half_done, "--commit", "abc"])
    assert started == []


def test_a_trial_that_fails_ends_the_command_with_one_line(half_done: list[str], monkeypatch):
    def run(command: list[str], check: bool) -> None:
        raise subprocess.CalledProcessError(2, command)

    monkeypatch.setattr(entry.subprocess, "run", run)
    with pytest.raises(RequestError, match="a trial failed with exit code 2"):
        main([*half_done, "--commit", "abc"])


def test_no_finished_trial_is_one_line(tmp_path: Path):
    with pytest.raises(RequestError, match="no finished trial"):
        report.write_report(tmp_path, tmp_path)


def test_distillation_is_measured_on_unseen_batches(trained: Path):
    trials = collect.finished_trials(trained)
    plain, cross = (distillation.figures(trials[name][0]) for name in ("distill", "cosmos"))
    assert plain.keys() == cross.keys() == distillation.FIGURES.keys()
    # without cross-attention, the loss is that of plain features; with it, the two differ
    assert plain["distill_loss"] == pytest.approx(plain["plain_distill_loss"])
    assert cross["distill_loss"] != pytest.approx(cross["plain_distill_loss"])
    assert plain["distill_loss"] == pytest.approx((plain["from_image"] + plain["from_text"]) / 2)
    assert min(cross["clip_gradient"], cross["distill_gradient"]) > 0
    assert -1 <= cross["cosine"] <= 1


def test_the_gradient_of_a_weight_that_a_loss_does_not_use_is_zero():
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    assert distillation.flat_gradient((2 * used).sum(), [used, unused]).tolist() == [2, 2, 0, 0, 0]
