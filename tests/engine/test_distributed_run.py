"""Several ranks make the numbers of one process, to the bit; one that fails is told, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_core.world import World
from cosmos_eval.engine.encoding import encode_images
from cosmos_eval.engine.features import Engine
from cosmos_eval.engine.rank_work import Failure, Notes, Report, Share
from cosmos_eval.engine.ranks import Crew
from cosmos_eval.models.embeddings import write_embeddings
from cosmos_eval.run.many_models import FAILED, measure_some, refuse_differences
from cosmos_eval.run.options import RunOptions
from cosmos_eval.tasks.segmentation.measure import areas_of_chunks
from tests.helpers.killing import ended
from tests.helpers.killing_runs import outcome, rows_of
from tests.helpers.rank_runs import HERE, Batchwise, start, world
from tests.helpers.worlds import captions_world

BATCH = ["--batch-size", "4"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> list[str]:
    return world(tmp_path_factory.mktemp("world"))


def command(suite: list[str], out: Path, *models: str) -> list[str]:
    named = [part for model in models for part in ("--model", model if ":" in model else HERE + model)]
    return ["run", *named, *suite, "--out", str(out), *BATCH]


def codes(processes) -> list[int]:
    return [ended(process, 120) for process in processes]


def told(folder: Path, ranks: int) -> list[str]:
    """What all ranks said as the command, line by line."""
    lines = [line for rank in range(ranks) for line in (folder / str(rank)).read_text().splitlines()]
    return [line for line in lines if line.startswith("cosmos-eval: ")]


def encoded(folder: Path, ranks: int) -> list[Counter]:
    """What passed the model of each rank, and how often."""
    files = [folder / f"{rank}.keys" for rank in range(ranks)]
    return [Counter(file.read_text().split()) if file.exists() else Counter() for file in files]


@dataclass
class Whole:
    """The run of one process."""

    out: dict
    rows: dict[str, bytes]
    encoded: Counter
    printed: str


@pytest.fixture(scope="module")
def whole(suite, tmp_path_factory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    assert codes(start(command(suite, folder / "out", "Batchwise"), 1, folder / "said")) == [0]
    printed = (folder / "said/0.out").read_text().replace(str(folder), "")
    return Whole(outcome(folder / "out"), rows_of(folder / "out/.embeddings"), *encoded(folder / "said", 1), printed)


@pytest.mark.parametrize(("ranks", "seconds"), [(2, "1.0"), (3, "0.0")])
def test_ranks_give_the_tables_the_samples_and_the_rows_of_one_process(suite, whole, tmp_path, ranks, seconds):
    out = tmp_path / "out"
    processes = start(command(suite, out, "Batchwise"), ranks, tmp_path / "said", COSMOS_TEST_SECONDS=seconds)
    assert codes(processes) == [0] * ranks, told(tmp_path / "said", ranks)
    assert sorted(whole.out) == ["tiny-classification", "tiny-perception", "tiny-retrieval", "tiny-segmentation"]
    assert outcome(out) == whole.out
    assert rows_of(out / ".embeddings") == whole.rows
    by_rank = encoded(tmp_path / "said", ranks)
    assert sum(by_rank, Counter()) == whole.encoded  # nothing twice, nothing for padding
    assert all(counts["windows"] and len(counts) > 5 for counts in by_rank)
    assert (tmp_path / "said/0.out").read_text().replace(str(tmp_path), "") == whole.printed
    for rank in range(1, ranks):
        assert (tmp_path / f"said/{rank}.out").read_text() == (tmp_path / f"said/{rank}").read_text() == ""
    assert "encoding images: 17/17 images" in (tmp_path / "said/0").read_text()

    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("RESULT.json")}
    assert codes(start(command(suite, out, "Batchwise"), ranks, tmp_path / "again")) == [0] * ranks
    assert (tmp_path / "again/0").read_text().count("already done, kept") == 4
    assert {path: path.stat().st_mtime_ns for path in out.rglob("RESULT.json")} == stamps


def test_ranks_give_the_bits_of_one_process_with_a_tower_that_sees_trimmed_texts(suite, tmp_path):
    found = {}
    cut = captions_world(tmp_path, name="-".join(["w"] * 30))  # its captions repeat its name, beyond 40 tokens
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        run = command([*suite[:4], "--benchmark", str(cut)], folder / "out", "cosmos:untrained-toybox?seed=3")
        assert codes(start(run, ranks, folder / "said")) == [0] * ranks, told(folder / "said", ranks)
        found[ranks] = outcome(folder / "out"), rows_of(folder / "out/.embeddings")
    assert found[1] == found[2]
    assert len(found[1][0]) == 3
    assert "12 of 12 texts are longer than the context of 40 tokens and were cut" in found[1][0][cut.stem][1][-1]


def test_a_rank_that_is_killed_is_named_and_the_same_command_ends_with_the_same_bits(suite, whole, tmp_path):
    out, store = tmp_path / "out", tmp_path / "out/.embeddings"
    settings = {"COSMOS_TEST_SECONDS": "0.0"}
    assert codes(start(command(suite, out, "Dying"), 2, tmp_path / "1", COSMOS_TEST_DIES="1", **settings)) == [
        2,
        -signal.SIGKILL,
    ]
    (line,) = told(tmp_path / "1", 2)
    assert line.startswith("cosmos-eval: rank 1 is gone")
    assert line.endswith("the same command goes on from there")
    stored = rows_of(store)
    assert stored

    codes_now = codes(start(command(suite, out, "Dying"), 2, tmp_path / "0", COSMOS_TEST_DIES="0", **settings))
    assert codes_now == [-signal.SIGKILL, 2]
    assert told(tmp_path / "0", 2) == []  # rank 0 speaks for all, and torchrun tells of its end
    assert stored.items() < rows_of(store).items()
    stored = rows_of(store)

    assert codes(start(command(suite, out, "Dying"), 2, tmp_path / "2", **settings)) == [0, 0]
    new = sum(encoded(tmp_path / "2", 2), Counter())
    assert sum(new.values()) - new["windows"] == len(whole.rows) - len(stored)  # what was stored is not made again
    assert outcome(out) == whole.out
    assert rows_of(store) == whole.rows


def test_what_one_rank_is_refused_is_told_once_and_stops_all(tmp_path):
    path = captions_world(tmp_path, n=10)
    (tmp_path / "pairs/images/000000000006.jpg").write_bytes(b"no image")  # in the second batch
    run = command(["--benchmark", str(path)], tmp_path / "out", "Batchwise")
    assert codes(start(run, 2, tmp_path / "said")) == [2, 2]
    (line,) = told(tmp_path / "said", 2)
    assert line.startswith("cosmos-eval: rank 1: cannot decode the image")
    assert "000000000006.jpg" in line
    alone = start(run, 1, tmp_path / "alone")
    assert codes(alone) == [2]
    assert told(tmp_path / "alone", 1) == [line.replace("rank 1: ", "")]


def test_a_rank_that_has_other_files_is_refused(tmp_path):
    path = captions_world(tmp_path, n=10)
    run = command(["--benchmark", str(path)], tmp_path / "shared", "Batchwise")
    assert codes(start(run, 2, tmp_path / "one", COSMOS_TEST_OTHER_DATA="1")) == [2, 2]
    (line,) = told(tmp_path / "one", 2)
    assert line.startswith("cosmos-eval: rank 1: the image ")
    assert "was changed after it was hashed, or is another file on this machine" in line

    run = command(["--benchmark", str(path)], tmp_path / "whole", "Batchwise", "Other")
    assert codes(start(run, 2, tmp_path / "two", COSMOS_TEST_OTHER_DATA="1")) == [2, 2]
    (line,) = told(tmp_path / "two", 2)
    assert line.startswith("cosmos-eval: rank 1 has the data of pairs ")
    assert not list((tmp_path / "whole").rglob("RESULT.json"))


def test_ranks_with_other_versions_of_a_package_are_refused():
    with pytest.raises(RequestError, match=r"^rank 1 has pillow 10\.0\.0 and rank 0 has 11\.1\.0: "):
        refuse_differences(Crew(World(0, 2), hosts=["a", "a"]), [{"pillow": "11.1.0"}, {"pillow": "10.0.0"}])


def test_a_fault_of_ours_on_one_rank_ends_with_its_traceback(suite, tmp_path):
    run = command(suite, tmp_path / "out", "Batchwise")
    assert codes(start(run, 2, tmp_path / "said", COSMOS_TEST_FAULT="1")) == [3, 2]
    (line,) = told(tmp_path / "said", 2)
    assert "rank 1: KeyError: 'odd'" in line
    report = Path(line.rpartition(" ")[2])
    assert 'raise KeyError("odd")' in report.read_text()
    report.unlink()


def test_ranks_with_different_weights_are_refused(suite, tmp_path):
    assert codes(start(command(suite, tmp_path / "out", "Elsewhere"), 2, tmp_path / "said")) == [2, 2]
    (line,) = told(tmp_path / "said", 2)
    assert "rank 1 computes other features" in line


def test_a_bad_request_is_told_once(suite, tmp_path):
    assert codes(start(["run", "--model", "nothing", *suite], 2, tmp_path / "said")) == [2, 2]
    (line,) = told(tmp_path / "said", 2)
    assert "nothing" in line


def test_sigterm_to_all_ranks_is_told_once(suite, tmp_path):
    processes = start(command(suite, tmp_path / "out", "Slow"), 2, tmp_path / "said")
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"said/{rank}.keys").exists() for rank in range(2)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in processes:
        process.terminate()
    first, second = codes(processes)
    assert first == 143
    assert second in (143, 2)  # 2: it noticed that rank 0 was gone before the signal came
    (line,) = told(tmp_path / "said", 2)
    assert "terminated; finished work is kept" in line


def test_with_as_many_models_as_ranks_each_takes_whole_models(suite, whole, tmp_path):
    models = ("Batchwise", "Other", "Third")
    out = tmp_path / "out"
    assert codes(start(command(suite, out, *models), 2, tmp_path / "said")) == [0, 0], told(tmp_path / "said", 2)
    folders = sorted(folder for folder in out.iterdir() if not folder.name.startswith("."))
    assert len(folders) == 3
    for folder in folders:
        found = outcome(folder)
        for name, (metrics, warnings, dataset, _, samples) in whole.out.items():
            assert (found[name][0], found[name][1], found[name][2], found[name][4]) == (
                metrics,
                warnings,
                dataset,
                samples,
            )
    assert sum(encoded(tmp_path / "said", 2), Counter()) == Counter({k: 3 * n for k, n in whole.encoded.items()})
    said = (tmp_path / "said/0").read_text()
    assert [said.count(f"(model {number} of 3)") for number in (1, 2, 3)] == [1, 1, 1]  # also what rank 1 noted
    printed = (tmp_path / "said/0.out").read_text()
    assert [printed.count(HERE + model) for model in models] == [whole.printed.count(HERE + "Batchwise")] * 3

    refused = command(suite, tmp_path / "other", "Batchwise", "Missing")
    assert codes(start(refused, 2, tmp_path / "refused")) == [2, 2]
    (line,) = told(tmp_path / "refused", 2)
    assert "Missing" in line


def test_vectors_made_elsewhere_are_scored_by_rank_0(tmp_path):
    path = captions_world(tmp_path, n=6)
    ids = [f"{i:012d}.jpg" for i in range(6)]
    texts = [f"pairs image {i}, caption {j}" for i in range(6) for j in range(2)]
    rows = torch.eye(6)
    write_embeddings(tmp_path / "vectors", ids, rows, texts, rows.repeat_interleave(2, 0))
    run = command(["--benchmark", str(path)], tmp_path / "out", f"embeddings:{tmp_path / 'vectors'}")
    assert codes(start(run, 2, tmp_path / "said")) == [0, 0]
    assert outcome(tmp_path / "out")["pairs"][0]["text_to_image_recall@1"].value == 1


def test_of_several_failures_the_first_piece_s_is_told_and_equal_notes_once():
    notes = Notes()
    crew = Crew(World(0, 4), notes, ["a", "a", "b", "b"])
    failures = [None, Failure(9, "late"), Failure(6, "early"), None]
    said = [[], ["slow"], ["slow"], ["odd"]]
    reports = [Report([], lines, failure) for lines, failure in zip(said, failures, strict=True)]
    share = Share(iter(()), range(0), Notes())
    with pytest.raises(RequestError, match=r"^rank 2 on b: early$"):
        crew._judge(reports, share)
    assert notes.taken() == ["2 other ranks: slow", "rank 3 on b: odd"]
    share.error = OSError("mine")
    with pytest.raises(OSError, match="mine"):  # as it was raised, with its own traceback
        crew._judge([Report([], [], Failure(0, "mine")), *reports[1:]], share)


def test_a_rank_that_cannot_begin_tells_the_others_before_they_work_through_all_models():
    raised = []

    class Alone(Crew):
        def raise_flag(self, name):
            raised.append(name)

    with pytest.raises(RequestError, match="unknown device"):
        measure_some(Alone(), ((None, RunOptions(device="toaster"), False), ["cosmos:toybox"], []))
    assert raised == [FAILED]


def test_a_rank_without_a_share_has_nothing_to_do():
    engine = Engine(Batchwise(), batch_size=4, workers=2)
    assert list(encode_images(engine, None, [])) == []
    assert list(areas_of_chunks(engine, None, [])) == []


@pytest.mark.slow
def test_torchrun_gives_the_tables_of_one_process(suite, whole, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COSMOS_TEST_LOG": str(tmp_path / "log")}
    run = [*launcher, "-m", "cosmos_eval", *command(suite, tmp_path / "out", "Batchwise"), "--workers", "1"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace(str(tmp_path), "") == whole.printed
    assert outcome(tmp_path / "out") == whole.out
