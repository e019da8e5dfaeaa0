"""`cosmos-eval train` as a person meets it: plans, refusals, one voice among many ranks."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from cosmos_core.checkpoint import load_checkpoint, read_file
from cosmos_core.config import TrainConfig, load_preset
from cosmos_core.errors import RequestError
from cosmos_core.train import Callback, Run, train
from cosmos_eval import evaluate
from cosmos_eval.cli import main as cli
from cosmos_eval.training.initial import prepare_initial
from tests.core.siglip import put_distribution
from tests.helpers.fork_server import SERVER
from tests.helpers.killing import ended, places, start_ranks
from tests.helpers.rank_runs import world
from tests.helpers.tiny_runs import TINY, checkpoint

TINY_RUN = {
    "model": TINY,
    "batch_size": 4,
    "steps": 4,
    "warmup": 1,
    "captions": 3,
    "views": {"local_crops": 1, "global_size": 16, "local_size": 8},
    "device": "cpu",
    "threads": 1,
    "log_every": 2,
}


def write_shard(path: Path, n: int = 12) -> Path:
    """A webdataset shard of plain squares and their names."""
    with tarfile.open(path, "w") as archive:
        for i in range(n):
            image = io.BytesIO()
            Image.new("RGB", (20, 20), ("red", "green", "blue")[i % 3]).save(image, "PNG")
            record = json.dumps({"raw_caption": [("red", "green", "blue")[i % 3]]}).encode()
            for name, content in ((f"{i}.png", image.getvalue()), (f"{i}.json", record)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A settings file with a shard of its own: trains in a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY_RUN, "data": str(write_shard(tmp_path / "colours.tar"))}))
    return path


def plan_of(text: str) -> dict[str, str]:
    """The comments of a dry run by subject, on one line each."""
    plan: dict[str, str] = {}
    for line in text.splitlines():
        if found := re.match(r"# (\w+): +(.*)", line):
            subject = found[1]
            plan[subject] = found[2]
        elif line.startswith("#"):
            plan[subject] += " " + line[1:].strip()
    return plan


def test_a_dry_run_tells_what_a_published_training_takes(capsys):
    assert cli.run_command(["train", "cc3m", "--dry-run", "--ranks", "16"]) == 0
    plan = plan_of(capsys.readouterr().out)
    assert plan["parameters"].startswith("152,382,466 (image tower 86,192,640, ")
    assert plan["length"].startswith("88,192 steps, warm-up 2,000; 32 epochs of 2,756 steps; 90,308,608 samples seen")
    assert "875 of an epoch's 2,823,019 samples fill no batch" in plan["length"]
    assert plan["step"].startswith("1,024 samples, 64 on each of 16 ranks; image views 2 of 224 pixels + 6 of 96 ")
    assert "16-bit products" in plan["memory"]
    assert plan["data"].startswith("no training data: set the shards of cc3m")
    total, parts = re.match(r"about ([\d.]+) GiB on each device, [^:]*: (.*)", plan["memory"]).groups()  # type: ignore[union-attr]
    assert float(total) == pytest.approx(sum(map(float, re.findall(r" ([\d.]+)(?:,|$)", parts))), abs=0.1)


def test_what_a_dry_run_prints_is_a_settings_file(tmp_path: Path, capsys):
    arguments = ["train", "cc12m-b32", "--set", "views.flip=0.25", "--set", "lr=1e-3", "--out", "runs/ü"]
    assert cli.run_command([*arguments, "--dry-run"]) == 0
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_preset(again) == load_preset("cc12m-b32", ["views.flip=0.25", "lr=1e-3", "out=runs/ü"])


def test_a_dry_run_looks_at_the_data_and_writes_nothing(tiny: Path, tmp_path: Path, capsys):
    before = sorted(tmp_path.iterdir())
    assert cli.run_command(["train", str(tiny), "--out", str(tmp_path / "run"), "--dry-run", "--ranks", "2"]) == 0
    plan = plan_of(capsys.readouterr().out)
    assert plan["data"].startswith(f"{tmp_path / 'colours.tar'}: 1 shard, 12 samples; 4 lanes; each rank reads with")
    assert plan["length"].startswith("4 steps, warm-up 1; 1.33 epochs of 3 steps; 16 samples seen")
    assert plan["step"].startswith("4 samples, 2 on each of 2 ranks")
    data = f"data={tmp_path / 'colours.tar'}::{tmp_path / 'colours.tar'}"
    mixed = ["train", str(tiny), "--dry-run", "--set", data, "--set", "data_weights=3::1,1::1@2"]
    assert cli.run_command(mixed) == 0
    shares = re.findall("weight ([^;]*);", plan_of(capsys.readouterr().out)["data"])
    assert shares == ["0.75, 0.5 after 2 steps", "0.25, 0.5 after 2 steps"]
    assert cli.run_command([*mixed[:-1], "data_weights=3::1,1::1@4"]) == 2
    assert "a stage begins after 4 steps, and the run ends after 4" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_of_toybox_renders_nothing_and_knows_its_samples(capsys):
    assert cli.run_command(["train", "toybox", "--dry-run"]) == 0
    plan = plan_of(capsys.readouterr().out)
    assert plan["data"].startswith("toybox: 33,280 samples; ")
    assert plan["length"].startswith("260 steps, warm-up 26; 1 epoch of 260 steps")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["cc3m"], "no training data: set the shards of cc3m, as in --set 'data=DIR/"),
        (["merged30m-b32"], "no training data: set the shards of merged30m-b32"),
        (["cc3m", "--set", "data=/no/such/{0..3}.tar", "--dry-run"], "no file /no/such/0.tar; 4 of 4 missing"),
        (["toybox", "--dry-run", "--ranks", "3"], "batch_size=128 does not divide among 3 ranks: set 126 or 129"),
        (["toybox", "--ranks", "2"], "--ranks belongs to --dry-run"),
        (["cc3n", "--dry-run"], "no training preset 'cc3n'; did you mean cc3m"),
        (["cc3m", "--set", "objective=silc", "--set", "views.local_crops=0", "--dry-run"], "set views.local_crops"),
        (
            ["toybox", "--set", "device=abacus", "--dry-run"],
            "unknown device 'abacus'; give auto, cpu, cuda, cuda:N or mps",
        ),
        (["toybox", "--set", "device=cuda:99", "--dry-run"], "no device cuda:99: torch sees"),
        (["toybox", "--set", "device=meta", "--out", "nowhere"], "no device meta"),
        (["toybox", "--set", "eval_every=9", "--set", "eval_suite=abc", "--dry-run"], "there is no benchmark 'abc'"),
        (["toybox", "--set", "eval_suite=toybox,abc", "--dry-run"], "there is no benchmark 'abc'"),
        (["toybox", "--set", "eval_every=9", "--set", "eval_suite=sclip", "--dry-run"], "evaluation while training: "),
        (["toybox", "--set", "views.local_size=8", "--dry-run"], "below the model's patch of 16 x 16 pixels"),
    ],
)
def test_a_training_that_cannot_start_is_refused_in_one_line(arguments: list[str], why: str, capsys):
    assert cli.run_command(["train", *arguments]) == 2
    captured = capsys.readouterr()
    assert why in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [["cc3m"], ["toybox", "--set", "lr=fast"], ["toybox", "--dry-run"], ["toybox", "--set", "batch_size=7"]],
)
def test_only_the_first_rank_speaks(arguments: list[str], monkeypatch, capsys):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    code = cli.run_command(["train", *arguments])
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    assert cli.run_command(["train", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out + captured.err != ""


def test_a_silent_rank_of_torchrun_waits_for_its_end_so_that_the_first_one_can_speak(monkeypatch, capsys):
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        raise cli.Terminated  # torchrun's signal, once the first rank has printed the reason and left

    monkeypatch.setattr(cli.time, "sleep", sleep)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for rank, seconds, lines in (("1", [cli.SECONDS_TO_BE_ENDED], 0), ("0", [], 1)):
        monkeypatch.setenv("RANK", rank)
        assert cli.run_command(["train", "toybox", "--set", "lr=fast"]) == 2
        assert (waited, capsys.readouterr().err.count("\n")) == (seconds, lines)
        waited.clear()


def test_a_world_size_that_is_no_number_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "many")
    assert cli.run_command(["train", "toybox", "--dry-run"]) == 2
    assert "WORLD_SIZE must be a whole number, got 'many'" in capsys.readouterr().err


def test_a_training_leaves_its_files_and_a_finished_one_is_not_replaced_unasked(tiny: Path, tmp_path: Path, capsys):
    arguments = ["train", str(tiny), "--out", str(tmp_path / "run")]
    assert cli.run_command(arguments) == 0
    assert f"Trained: {tmp_path / 'run'}" in capsys.readouterr().out
    first = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert [json.loads(line)["step"] for line in first.splitlines()] == [1, 2, 4]
    stamp = (tmp_path / "run" / "last.pt").stat().st_mtime_ns
    assert cli.run_command(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.pt").stat().st_mtime_ns == stamp
    assert cli.run_command([*arguments, "--overwrite"]) == 0
    assert (tmp_path / "run" / "last.pt").stat().st_mtime_ns != stamp
    again = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert [json.loads(line)["loss"] for line in again.splitlines()] == [
        json.loads(line)["loss"] for line in first.splitlines()
    ]


@pytest.mark.parametrize("ranks", [2])
def test_under_torchrun_one_rank_prints_and_writes(ranks: int, tiny: Path, tmp_path: Path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += ["-m", "cosmos_eval", "train", str(tiny), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained: ") == 1
    assert done.stderr.count("training tiny: 4/4 step") == 1
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 4]

    logs = [tmp_path / f"log{rank}" for rank in range(ranks)]  # of standard output and error
    again = start_ranks(["train", str(tiny), "--out", str(out)], ranks, logs=logs)
    assert [ended(process) for process in again] == [2] * ranks
    lines = "".join(log.read_text() for log in logs).splitlines()
    assert [line.count("holds a finished training") for line in lines] == [1]


class AtTheStart(Callback):
    """Writes, before the first step, this rank's weights and what an evaluation of its teacher gives."""

    def __init__(self, benchmark: str, out: Path) -> None:
        self.benchmark, self.out = benchmark, out

    def on_start(self, run: Run) -> None:
        (result,) = evaluate(run.teacher, self.benchmark)
        metrics = {name: metric.value for name, metric in result.metrics.items()}
        networks = {"student": run.student.state_dict(), "teacher": run.teacher.state_dict()}
        torch.save({"step": run.step, "metrics": metrics, **networks}, self.out / f"{run.world.rank}.pt")


def train_on_rank(environment: dict[str, str], config: TrainConfig, benchmark: str, out: Path) -> None:
    """In a process of its own."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    config, initial = prepare_initial(config)
    train(config, callbacks=[AtTheStart(benchmark, out)], initial=initial)


def test_two_ranks_start_from_the_weights_of_init(tiny: Path, tmp_path: Path):
    weights = checkpoint(tmp_path / "weights.pt", 7)
    world(tmp_path)
    benchmark = str(tmp_path / "tiny-retrieval.yaml")
    other = write_shard(tmp_path / "more.tar", 20)  # as a later stage has: other data in other proportions
    data = [f"data={tmp_path / 'colours.tar'}::{other}", "data_weights=1::3", "samples=16"]
    config = load_preset(tiny, [f"init=cosmos:{weights}", "model=", "steps=1", *data])
    processes = [
        SERVER.Process(target=train_on_rank, args=(environment, config, benchmark, tmp_path))
        for environment in places(2)
    ]
    for process in processes:
        process.start()
    assert [ended(process) for process in processes] == [0, 0]
    given = load_checkpoint(weights).state_dict()
    (expected,) = evaluate(f"cosmos:{weights}", benchmark)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["step"] == 0
        for network in ("student", "teacher"):
            assert found[network].keys() == given.keys()
            assert all(torch.equal(value, given[name]) for name, value in found[network].items())
        assert found["metrics"] == {name: metric.value for name, metric in expected.metrics.items()}


@pytest.mark.parametrize(("rank", "said"), [("0", "cosmos-eval: the card"), ("3", "cosmos-eval: rank 3: the card")])
def test_what_fails_on_one_rank_alone_is_said_by_it(rank: str, said: str, monkeypatch, capsys):
    def failing(*args, **kwargs):
        raise RequestError("the card is gone")

    monkeypatch.setattr("cosmos_eval.training.callback.train_from", failing)
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert cli.run_command(["train", "toybox"]) == 2
    assert capsys.readouterr().err == f"{said} is gone\n"


def test_presets_and_settings_are_listed(capsys):
    assert cli.run_command(["list", "presets"]) == 0
    rows = dict(line.split("\t", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["cc3m"] == "ViT-B-16\t2,823,019 samples an epoch\t88,192 steps of 1,024\t--set data=SHARDS"
    assert rows["toybox"].endswith("260 steps of 128\tdata=toybox")
    assert {"yfcc15m", "merged30m", "pixelprose-b32"} <= set(rows)
    assert cli.run_command(["list", "settings"]) == 0
    settings = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["lr", "number", "0.0005", "Peak learning rate of AdamW."] in settings
    assert all(len(row) == 4 and row[3] for row in settings)
    assert [row[2] for row in settings if row[0] == "views.blur"] == ["[1, 0.1, 0.5]"]


PLUGIN = """sigmoid = tests.core.siglip:SigLip
clip = tests.core.siglip:SigLip
absent = no_such_module:SigLip
"""


def test_objectives_are_listed_with_their_options_and_plugins(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(put_distribution(tmp_path, PLUGIN)))
    assert cli.run_command(["list", "objectives"]) == 0
    said = capsys.readouterr()
    rows = {row[0]: row[1:] for row in (line.split("\t") for line in said.out.splitlines())}
    assert list(rows) == ["cosmos", "clip", "slip", "silc", "multiview", "distill", "siglip", "sigmoid"]
    assert rows["cosmos"][1:] == ["averaged teacher, cross-attention", "-", "-"]
    assert rows["sigmoid"][1:] == ["-", "init_bias=-10.0, init_scale=10.0", "learned-bias 1.0"]
    assert rows["sigmoid"][0].startswith("SigLIP (Zhai et al. 2023)")
    taken, broken = said.err.splitlines()
    assert "plug-in learned-bias 1.0 is ignored where it provides the objective clip" in taken
    assert "objective absent of plug-in learned-bias 1.0" in broken
    assert "No module named 'no_such_module'" in broken

    monkeypatch.setenv("COSMOS_EVAL_PLUGINS", "0")
    assert cli.run_command(["list", "objectives"]) == 0
    said = capsys.readouterr()
    assert (len(said.out.splitlines()), said.err) == (7, "")


def test_an_objective_of_a_plugin_is_trained_from_the_command_line_and_help_imports_none(
    tiny: Path, tmp_path: Path, monkeypatch, capsys
):
    (tmp_path / "loud.py").write_text("raise ImportError('imported')\n")
    monkeypatch.syspath_prepend(str(put_distribution(tmp_path, PLUGIN + "loud = loud:Loud")))
    for words in (["--help"], ["train", "--help"], ["list", "--help"], ["list", "presets"], ["list", "settings"]):
        assert cli.run_command(words) == 0
        assert capsys.readouterr().err == ""
    assert cli.run_command(["train", str(tiny), "--set", "objective=loud", "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "objective loud of plug-in learned-bias 1.0 (loud:Loud) cannot be used: ImportError: imported" in line
    assert "loud" not in sys.modules

    bias = ["--set", "objective=sigmoid", "--set", "objective_options.init_bias=-3"]
    assert cli.run_command(["train", str(tiny), *bias, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "the objective has 2 of its own" in plan_of(plan)["parameters"]
    (tmp_path / "again.yaml").write_text(plan)
    out = tmp_path / "run"
    assert cli.run_command(["train", str(tmp_path / "again.yaml"), "--out", str(out)]) == 0
    content = read_file(out / "last.pt")
    assert content["objective"]["state"]["bias"].item() != -3
    assert content["training"]["objective_options"] == {"init_bias": -3.0}
