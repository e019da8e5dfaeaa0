"""`data fetch`, `run --fetch` and `watch --fetch` from an empty folder to numbers, against servers on 127.0.0.1."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.store import read_result
from tests.helpers.fetch_sources import Internet, contents, small_internet
from tests.helpers.hub_server import COMMIT

COLOURS = "python:tests.helpers.tiny_models:Colours"
PATCHES = "cosmos:untrained-toybox?seed=3"


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with small_internet(tmp_path / "definitions") as served:
        yield served


@pytest.mark.parametrize(
    ("names", "model", "fetched"),
    [
        (["tiny-wds"], COLOURS, {"tiny-wds": ["wds-tiny"]}),
        (["tiny-sst2"], COLOURS, {"tiny-sst2": ["sst2"]}),
        (["tiny-coco", "tiny-sugar"], COLOURS, {"tiny-coco": ["captions", "val2017"]}),
        (["tiny-stuff"], PATCHES, {"tiny-stuff": ["maps", "val2017"]}),
    ],
    ids=["wds", "torchvision", "coco-and-sugarcrepe", "segmentation"],
)
def test_one_command_leads_from_an_empty_folder_to_a_table(internet, tmp_path, capsys, names, model, fetched):
    root, out = tmp_path / "data", tmp_path / "out"
    definitions = [option for name in names for option in ("--benchmark", str(internet.definition(name)))]
    arguments = ["run", "--model", model, *definitions, "--data-root", str(root), "--out", str(out), "--fetch", "--yes"]
    assert run_command(arguments) == 0
    printed = capsys.readouterr()
    assert all(name in printed.out for name in names)
    assert "to fetch into" in printed.err
    assert "to fetch into" not in printed.out
    results = {path.parent.name: read_result(path) for path in out.rglob("RESULT.json")}
    assert sorted(results) == sorted(names)
    for name, artifacts in fetched.items():
        assert sorted(results[name].environment.fetched) == artifacts
    if "tiny-coco" in names:
        assert sorted(results["tiny-sugar"].environment.fetched)[-1] == "val2017"
        assert internet.server.starts("zips/val2017.zip") == [0]
    if "tiny-wds" in names:
        part = results["tiny-wds"].environment.fetched["wds-tiny"]
        assert (part["revision"], part["files"], part["source"]) == (COMMIT, 5, "clip-benchmark")


def test_without_a_data_root_data_are_fetched_to_the_folder_data_and_read_there(internet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["run", "--model", COLOURS, "--benchmark", str(internet.definition("tiny-sst2")), "--out", "out"]
    assert run_command([*command, "--fetch", "--yes"]) == 0
    assert (tmp_path / "data/renderedsst2/rendered-sst2").is_dir()


def test_the_manifest_is_no_part_of_the_identity(internet, tmp_path):
    root, definition = tmp_path / "data", str(internet.definition("tiny-sst2"))
    command = ["run", "--model", COLOURS, "--benchmark", definition, "--data-root", str(root)]
    assert run_command([*command, "--out", str(tmp_path / "a"), "--fetch", "--yes"]) == 0
    (root / ".cosmos-eval/fetched.json").unlink()
    assert run_command([*command, "--out", str(tmp_path / "b")]) == 0
    first, second = (read_result(next((tmp_path / name).rglob("RESULT.json"))) for name in "ab")
    assert first.environment.fetched
    assert not second.environment.fetched
    assert first.identity == second.identity


def test_a_dry_run_uses_no_network_asks_nothing_and_writes_nothing(internet, tmp_path, capsys, monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    root = tmp_path / "data"
    definition = str(internet.definition("tiny-coco"))
    assert run_command(["data", "fetch", definition, "--data-root", str(root), "--dry-run"]) == 0
    assert "val2017: " in capsys.readouterr().out
    assert run_command(["data", "fetch", "paper-retrieval", "--data-root", str(root), "--dry-run"]) == 0
    assert not root.exists()
    assert internet.server.requests == []


def test_nothing_is_fetched_where_nobody_can_be_asked(internet, tmp_path, capsys):
    root, definition = tmp_path / "data", str(internet.definition("tiny-coco"))
    assert run_command(["data", "fetch", definition, "--data-root", str(root)]) == 2
    assert "add --yes" in capsys.readouterr().err
    run = [
        "run",
        "--model",
        COLOURS,
        "--benchmark",
        definition,
        "--data-root",
        str(root),
        "--out",
        str(tmp_path / "out"),
    ]
    assert run_command([*run, "--fetch"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert run_command([*run, "--yes"]) == 2
    assert "add --fetch" in capsys.readouterr().err
    assert internet.server.requests == []
    assert not root.exists()


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_the_question_is_asked_once(internet, tmp_path, monkeypatch, answer, code):
    import typer

    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", lambda text, **options: asked.append(text) or answer == "y")
    definition = str(internet.definition("tiny-coco"))
    assert run_command(["data", "fetch", definition, "--data-root", str(tmp_path / "data")]) == code
    assert len(asked) == 1
    assert bool(internet.server.requests) == (answer == "y")


def test_data_fetch_ends_with_the_check_and_a_second_one_has_nothing_to_do(internet, tmp_path, capsys):
    command = ["data", "fetch", str(internet.definition("tiny-stuff")), "--data-root", str(tmp_path / "data"), "--yes"]
    assert run_command(command) == 0
    assert "ready    tiny-stuff: 3 images" in capsys.readouterr().out
    before = contents(tmp_path / "data")
    assert run_command(command) == 0
    printed = capsys.readouterr().out
    assert "already there: val2017, maps" in printed
    assert contents(tmp_path / "data") == before


def test_what_failed_is_one_line_and_exit_code_2(internet, tmp_path, capsys):
    del internet.server.files["sst2.tgz"]
    definition = str(internet.definition("tiny-sst2"))
    assert run_command(["data", "fetch", definition, "--data-root", str(tmp_path / "data"), "--yes"]) == 2
    printed = capsys.readouterr()
    assert "missing  tiny-sst2 needs" in printed.out
    last = printed.err.strip().splitlines()[-1]
    assert "not everything was fetched: sst2: " in last
    assert "404" in last
    assert "Traceback" not in printed.err


def test_a_message_about_missing_data_tells_the_command_that_fetches_them(internet, tmp_path, capsys):
    root, definition = tmp_path / "data", str(internet.definition("tiny-sst2"))
    run = [
        "run",
        "--model",
        COLOURS,
        "--benchmark",
        definition,
        "--data-root",
        str(root),
        "--out",
        str(tmp_path / "out"),
    ]
    assert run_command(run) == 2
    advice = f"fetch with `cosmos-eval data fetch {definition} --data-root {root}`"
    assert advice in capsys.readouterr().err
    assert run_command(["data", "check", definition, "--data-root", str(root)]) == 1
    assert advice in capsys.readouterr().out


def test_the_advice_on_shipped_benchmarks_differs_where_a_person_is_needed(tmp_path, capsys):
    root = ["--data-root", str(tmp_path)]
    assert run_command(["data", "check", "cifar100", "cityscapes", *root]) == 1
    printed = capsys.readouterr().out
    assert f"fetch with `cosmos-eval data fetch cifar100 --data-root {tmp_path}`" in printed
    assert f"steps for a person: `cosmos-eval data fetch cityscapes --dry-run --data-root {tmp_path}`" in printed


def test_a_copy_of_restricted_data_needs_its_name_and_the_accepted_terms(tmp_path, capsys):
    command = ["data", "fetch", "fer2013", "--data-root", str(tmp_path / "data"), "--dry-run"]
    assert run_command(command) == 0
    assert "by hand, fer2013" in capsys.readouterr().out
    assert run_command([*command, "--source", "clip-benchmark-fer2013"]) == 2
    assert "--accept-terms fer2013" in capsys.readouterr().err
    assert run_command([*command, "--source", "clip-benchmark-fer2013", "--accept-terms", "fer2013"]) == 0
    assert "terms accepted for fer2013" in capsys.readouterr().out


def test_the_list_names_each_benchmark_with_its_way(capsys):
    assert run_command(["data", "fetch", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("automatic  ") and "sugarcrepe" in line for line in lines)
    assert any(line.startswith("by hand    ") and "cityscapes" in line for line in lines)
    assert run_command(["data", "fetch"]) == 2


def test_watch_fetches_first(internet, tmp_path, capsys):
    from tests.helpers.tiny_runs import checkpoint

    run_dir = tmp_path / "run"
    checkpoint(run_dir / "step-00000100.pt", 100)
    command = ["watch", str(run_dir), "--benchmark", str(internet.definition("tiny-sst2")), "--once"]
    root = ["--data-root", str(tmp_path / "data")]
    assert run_command([*command, *root]) == 2
    assert run_command([*command, *root, "--fetch", "--yes"]) == 0
    assert "tiny-sst2" in capsys.readouterr().out


def test_the_command_imports_no_torch_for_its_help_and_its_plan(tmp_path):
    code = (
        "import sys; from cosmos_eval.cli.main import run_command; "
        f"codes = [run_command(['data', 'fetch', 'cifar100-vtab', '--dry-run', '--data-root', {str(tmp_path)!r}])]; "
        "print(codes, sorted({'torch', 'pandas', 'requests', 'huggingface_hub'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines()[-1] == "[0] []", done.stdout + done.stderr
