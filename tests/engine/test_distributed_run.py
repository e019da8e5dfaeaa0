"""Several ranks give the numbers of one process, to the bit. A failure is reported, and the same command continues."""

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_core.world import World
from cosmos_eval.engine.encoding import encode_images
from cosmos_eval.engine.engine import Engine
from cosmos_eval.engine.rank_group import RankGroup
from cosmos_eval.engine.rank_work import NoteCollector, RankFailure, RankReport, RankShare
from cosmos_eval.models.embeddings import write_embeddings
from cosmos_eval.run.many_models import FAILED, evaluate_remaining_models, require_equal_on_all_ranks
from cosmos_eval.run.options import RunOptions
from cosmos_eval.tasks.segmentation.measure import evaluate_chunks
from tests.helpers.killing import ended
from tests.helpers.killing_runs import outcome, read_features
from tests.helpers.processes import wait_until
from tests.helpers.rank_runs import HERE, Batchwise, start, world
from tests.helpers.worlds import captions_world

BATCH = ["--batch-size", "4"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> list[str]:
    return world(tmp_path_factory.mktemp("world"))


def command(suite: list[str], out: Path, *models: str) -> list[str]:
    options = [option for model in models for option in ("--model", model if ":" in model else HERE + model)]
    return ["run", *options, *suite, "--out", str(out), *BATCH]


def exit_codes(processes) -> list[int]:
    """Wait for processes and return their exit codes."""
    return [ended(process) for process in processes]


def printed_messages(folder: Path, ranks: int) -> list[str]:
    """The lines of all ranks that the command prints as messages, without progress."""
    lines = [line for rank in range(ranks) for line in (folder / str(rank)).read_text().splitlines()]
    return [line for line in lines if line.startswith("cosmos-eval: ")]


def encoded(folder: Path, ranks: int) -> list[Counter]:
    """For each rank, how often each input passed its model."""
    files = [folder / f"{rank}.keys" for rank in range(ranks)]
    return [Counter(file.read_text().split()) if file.exists() else Counter() for file in files]


@dataclass
class SingleProcessRun:
    """What the run of one process gave."""

    results: dict
    features: dict[str, bytes]
    encoded: Counter
    printed: str


@pytest.fixture(scope="module")
def single(suite, tmp_path_factory) -> SingleProcessRun:
    folder = tmp_path_factory.mktemp("single")
    assert exit_codes(start(command(suite, folder / "out", "Batchwise"), 1, folder / "output")) == [0]
    printed = (folder / "output/0.out").read_text().replace(str(folder), "")
    return SingleProcessRun(
        outcome(folder / "out"), read_features(folder / "out/.embeddings"), *encoded(folder / "output", 1), printed
    )


@pytest.mark.parametrize(("ranks", "seconds"), [(2, "1.0"), (3, "0.0")])
def test_ranks_give_the_tables_the_samples_and_the_features_of_one_process(suite, single, tmp_path, ranks, seconds):
    out = tmp_path / "out"
    processes = start(command(suite, out, "Batchwise"), ranks, tmp_path / "output", COSMOS_TEST_SECONDS=seconds)
    assert exit_codes(processes) == [0] * ranks, printed_messages(tmp_path / "output", ranks)
    assert sorted(single.results) == ["tiny-classification", "tiny-perception", "tiny-retrieval", "tiny-segmentation"]
    assert outcome(out) == single.results
    assert read_features(out / ".embeddings") == single.features
    by_rank = encoded(tmp_path / "output", ranks)
    assert sum(by_rank, Counter()) == single.encoded  # no input twice, and no padding
    assert all(counts["windows"] and len(counts) > 5 for counts in by_rank)
    assert (tmp_path / "output/0.out").read_text().replace(str(tmp_path), "") == single.printed
    for rank in range(1, ranks):
        assert (tmp_path / f"output/{rank}.out").read_text() == (tmp_path / f"output/{rank}").read_text() == ""
    assert "encoding images: 17/17 images" in (tmp_path / "output/0").read_text()

    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("RESULT.json")}
    assert exit_codes(start(command(suite, out, "Batchwise"), ranks, tmp_path / "again")) == [0] * ranks
    assert (tmp_path / "again/0").read_text().count("already done, kept") == 4
    assert {path: path.stat().st_mtime_ns for path in out.rglob("RESULT.json")} == stamps


def test_ranks_give_the_bits_of_one_process_with_trimmed_texts(suite, tmp_path):
    results = {}
    # its captions repeat its name, so that they are longer than 40 tokens
    long_captions = captions_world(tmp_path, name="-".join(["w"] * 30))
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        run = command([*suite[:4], "--benchmark", str(long_captions)], folder / "out", "cosmos:untrained-toybox?seed=3")
        assert exit_codes(start(run, ranks, folder / "output")) == [0] * ranks, printed_messages(
            folder / "output", ranks
        )
        results[ranks] = outcome(folder / "out"), read_features(folder / "out/.embeddings")
    assert results[1] == results[2]
    assert len(results[1][0]) == 3
    warnings = results[1][0][long_captions.stem][1]
    assert "12 of 12 texts are longer than the context of 40 tokens and were cut" in warnings[-1]


def test_a_killed_rank_is_named_and_the_same_command_continues_with_the_same_bits(suite, single, tmp_path):
    out, cache = tmp_path / "out", tmp_path / "out/.embeddings"
    settings = {"COSMOS_TEST_SECONDS": "0.0"}
    processes = start(command(suite, out, "Dying"), 2, tmp_path / "1", COSMOS_TEST_DIES="1", **settings)
    assert exit_codes(processes) == [2, -signal.SIGKILL]
    (line,) = printed_messages(tmp_path / "1", 2)
    assert line.startswith("cosmos-eval: rank 1 has ended unexpectedly")
    assert line.endswith("the same command continues from there")
    stored = read_features(cache)
    assert stored

    exit_codes_now = exit_codes(
        start(command(suite, out, "Dying"), 2, tmp_path / "0", COSMOS_TEST_DIES="0", **settings)
    )
    assert exit_codes_now == [-signal.SIGKILL, 2]
    assert printed_messages(tmp_path / "0", 2) == []  # only rank 0 prints messages; torchrun reports that it was killed
    assert stored.items() < read_features(cache).items()
    stored = read_features(cache)

    assert exit_codes(start(command(suite, out, "Dying"), 2, tmp_path / "2", **settings)) == [0, 0]
    new = sum(encoded(tmp_path / "2", 2), Counter())
    # cached features are not encoded again
    assert sum(new.values()) - new["windows"] == len(single.features) - len(stored)
    assert outcome(out) == single.results
    assert read_features(cache) == single.features


def test_an_error_on_one_rank_is_reported_once_and_ends_all_ranks(tmp_path):
    path = captions_world(tmp_path, n=10)
    (tmp_path / "pairs/images/000000000006.jpg").write_bytes(b"no image")  # in the second batch
    run = command(["--benchmark", str(path)], tmp_path / "out", "Batchwise")
    assert exit_codes(start(run, 2, tmp_path / "output")) == [2, 2]
    (line,) = printed_messages(tmp_path / "output", 2)
    assert line.startswith("cosmos-eval: rank 1: cannot decode the image")
    assert "000000000006.jpg" in line
    alone = start(run, 1, tmp_path / "alone")
    assert exit_codes(alone) == [2]
    assert printed_messages(tmp_path / "alone", 1) == [line.replace("rank 1: ", "")]


def test_a_rank_with_other_data_is_refused(tmp_path):
    path = captions_world(tmp_path, n=10)
    run = command(["--benchmark", str(path)], tmp_path / "shared", "Batchwise")
    assert exit_codes(start(run, 2, tmp_path / "one", COSMOS_TEST_OTHER_DATA="1")) == [2, 2]
    (line,) = printed_messages(tmp_path / "one", 2)
    assert line.startswith("cosmos-eval: rank 1: the image ")
    assert "was changed after it was hashed, or is another file on this machine" in line

    run = command(["--benchmark", str(path)], tmp_path / "whole", "Batchwise", "Other")
    assert exit_codes(start(run, 2, tmp_path / "two", COSMOS_TEST_OTHER_DATA="1")) == [2, 2]
    (line,) = printed_messages(tmp_path / "two", 2)
    assert line.startswith("cosmos-eval: rank 1 has the data of pairs ")
    assert not list((tmp_path / "whole").rglob("RESULT.json"))


def test_ranks_with_other_versions_of_a_package_are_refused():
    with pytest.raises(RequestError, match=r"^rank 1 has pillow 10\.0\.0 and rank 0 has 11\.1\.0: "):
        require_equal_on_all_ranks(
            RankGroup(World(0, 2), hosts=["a", "a"]), [{"pillow": "11.1.0"}, {"pillow": "10.0.0"}]
        )


def test_an_unexpected_exception_on_one_rank_ends_with_its_traceback(suite, tmp_path):
    run = command(suite, tmp_path / "out", "Batchwise")
    assert exit_codes(start(run, 2, tmp_path / "output", COSMOS_TEST_FAULT="1")) == [3, 2]
    (line,) = printed_messages(tmp_path / "output", 2)
    assert "rank 1: KeyError: 'odd'" in line
    report = Path(line.rpartition(" ")[2])
    assert 'raise KeyError("odd")' in report.read_text()
    report.unlink()


def test_ranks_with_different_weights_are_refused(suite, tmp_path):
    assert exit_codes(start(command(suite, tmp_path / "out", "OtherWeights"), 2, tmp_path / "output")) == [2, 2]
    (line,) = printed_messages(tmp_path / "output", 2)
    assert "rank 1 computes other features" in line


def test_a_bad_request_is_reported_once(suite, tmp_path):
    assert exit_codes(start(["run", "--model", "nothing", *suite], 2, tmp_path / "output")) == [2, 2]
    (line,) = printed_messages(tmp_path / "output", 2)
    assert "nothing" in line


def test_sigterm_to_all_ranks_is_reported_once(suite, tmp_path):
    processes = start(command(suite, tmp_path / "out", "Slow"), 2, tmp_path / "output")
    wait_until(lambda: all((tmp_path / f"output/{rank}.keys").exists() for rank in range(2)), *processes)
    for process in processes:
        process.terminate()
    first, second = exit_codes(processes)
    assert first == 143
    assert second in (143, 2)  # 2: it noticed the end of rank 0 before the signal arrived
    (line,) = printed_messages(tmp_path / "output", 2)
    assert "terminated; finished work is kept" in line


def test_with_as_many_models_as_ranks_each_rank_evaluates_whole_models(suite, single, tmp_path):
    models = ("Batchwise", "Other", "Third")
    out = tmp_path / "out"
    labelled = command(suite, out, *models) + [word for model in models for word in ("--label", f"my {model}")]
    assert exit_codes(start(labelled, 2, tmp_path / "output")) == [0, 0], printed_messages(tmp_path / "output", 2)
    folders = sorted(folder for folder in out.iterdir() if not folder.name.startswith("."))
    assert len(folders) == 3
    for folder in folders:
        results = outcome(folder)
        for name, (metrics, warnings, dataset, _, samples) in single.results.items():
            assert (results[name][0], results[name][1], results[name][2], results[name][4]) == (
                metrics,
                warnings,
                dataset,
                samples,
            )
    assert sum(encoded(tmp_path / "output", 2), Counter()) == Counter({k: 3 * n for k, n in single.encoded.items()})
    output = (tmp_path / "output/0").read_text()
    assert [output.count(f"(model {number} of 3)") for number in (1, 2, 3)] == [1, 1, 1]  # notes of rank 1 included
    printed = (tmp_path / "output/0.out").read_text()
    assert [printed.count(f"my {model}") for model in models] == [single.printed.count(HERE + "Batchwise")] * 3

    refused = command(suite, tmp_path / "other", "Batchwise", "Missing")
    assert exit_codes(start(refused, 2, tmp_path / "refused")) == [2, 2]
    (line,) = printed_messages(tmp_path / "refused", 2)
    assert "Missing" in line


def test_precomputed_features_are_scored_by_rank_0(tmp_path):
    path = captions_world(tmp_path, n=6)
    ids = [f"{i:012d}.jpg" for i in range(6)]
    texts = [f"pairs image {i}, caption {j}" for i in range(6) for j in range(2)]
    features = torch.eye(6)
    write_embeddings(tmp_path / "vectors", ids, features, texts, features.repeat_interleave(2, 0))
    run = command(["--benchmark", str(path)], tmp_path / "out", f"embeddings:{tmp_path / 'vectors'}")
    assert exit_codes(start(run, 2, tmp_path / "output")) == [0, 0]
    assert outcome(tmp_path / "out")["pairs"][0]["text_to_image_recall@1"].value == 1


def test_the_failure_of_the_lowest_piece_is_raised_and_equal_notes_are_shown_once():
    notes = NoteCollector()
    ranks = RankGroup(World(0, 4), notes, ["a", "a", "b", "b"])
    failures = [None, RankFailure(9, "late"), RankFailure(6, "early"), None]
    notes_by_rank = [[], ["slow"], ["slow"], ["odd"]]
    reports = [RankReport([], lines, failure) for lines, failure in zip(notes_by_rank, failures, strict=True)]
    share = RankShare(iter(()), range(0), NoteCollector())
    ranks._show_notes(reports)
    with pytest.raises(RequestError, match=r"^rank 2 on b: early$"):
        ranks._raise_first_failure(reports, share)
    assert notes.take() == ["2 other ranks: slow", "rank 3 on b: odd"]
    share.error = OSError("mine")
    with pytest.raises(OSError, match="mine"):  # as it was raised, with its own traceback
        ranks._raise_first_failure([RankReport([], [], RankFailure(0, "mine")), *reports[1:]], share)


def test_a_rank_that_cannot_start_stops_the_others():
    flags = []

    class RecordingRankGroup(RankGroup):
        def set_flag(self, flag):
            flags.append(flag)

    with pytest.raises(RequestError, match="unknown device"):
        evaluate_remaining_models(
            RecordingRankGroup(), ((None, RunOptions(device="toaster"), False), ["cosmos:toybox"], [], {})
        )
    assert flags == [FAILED]


def test_a_rank_without_a_share_has_nothing_to_do():
    engine = Engine(Batchwise(), batch_size=4, workers=2)
    assert list(encode_images(engine, None, [])) == []
    assert list(evaluate_chunks(engine, None, [])) == []


@pytest.mark.slow
def test_torchrun_gives_the_tables_of_one_process(suite, single, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COSMOS_TEST_LOG": str(tmp_path / "log")}
    torchrun = [*launcher, "-m", "cosmos_eval", *command(suite, tmp_path / "out", "Batchwise"), "--workers", "1"]
    process = subprocess.run(torchrun, capture_output=True, text=True, timeout=300, env=environment)
    assert process.returncode == 0, process.stderr
    assert process.stdout.replace(str(tmp_path), "") == single.printed
    assert outcome(tmp_path / "out") == single.results
