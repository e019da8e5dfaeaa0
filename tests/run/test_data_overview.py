"""`data check` without names: which benchmarks have their data, in groups, and how to get those of the others."""

import re
import shlex
import subprocess
import sys

import pytest

from cosmos_eval.cli.data_table import describe_states
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.fetch.table import load_table
from cosmos_eval.protocol.benchmark import load_benchmark, load_every_benchmark
from cosmos_eval.run import data_overview
from cosmos_eval.run.data_overview import State, Way, describe_missing, find_data_states
from cosmos_eval.run.plan import check_data
from tests.helpers.worlds import classes_world

LINE = re.compile(r"  (ready|incomplete|not there) +(\S+)  +(.*?)(?:  \((.*)\))?$")


def overview(capsys, *words: str) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Benchmark -> (state, what is there or missing, how to get it); and all lines."""
    assert run_command(["data", "check", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {match[2]: (match[1], match[3], match[4] or "") for line in lines if (match := LINE.match(line))}
    return rows, lines


def test_an_empty_data_root_shows_every_benchmark_once_with_its_way(capsys, tmp_path):
    root = tmp_path / "no data"
    rows, lines = overview(capsys, "--data-root", str(root))
    assert lines[0] == f"data in {root}, which does not exist"
    assert not root.exists()
    benchmarks = {benchmark.name: benchmark for benchmark in load_every_benchmark()}
    assert rows.keys() == benchmarks.keys()
    recipes = load_table().recipes
    rendered = {name for name in benchmarks if not recipes[name].artifacts}
    assert {name for name, row in rows.items() if row[0] == "ready"} == rendered
    assert rows["toybox-retrieval"] == ("ready", "1,000 images", "")
    by_hand = {name for name, row in rows.items() if row[2].startswith("by hand")}
    assert by_hand == {name for name, recipe in recipes.items() if recipe.how == "by hand"}
    assert rows["cifar10"] == ("not there", f"{root}/cifar10", "data fetch: 170 MB")
    missing = len(benchmarks) - len(rendered)
    assert f"{len(benchmarks)} benchmarks: {len(rendered)} ready, 0 incomplete, {missing} not there" in lines


def test_a_folder_that_several_lack_is_told_once(capsys, tmp_path):
    rows, lines = overview(capsys, "--data-root", str(tmp_path))
    folder = f"{tmp_path}/VOCdevkit/VOC2012"
    assert rows["voc20"][1] == folder
    assert {rows[name][1] for name in ("voc20-csa", "voc21", "voc21-csa")} == {"as voc20"}
    assert sum(folder in line for line in lines) == 1
    # they follow each other, so that one sees them together
    order = list(rows)
    assert order[order.index("voc20") :][:7] == [
        *("voc20", "voc20-clearclip", "voc20-csa", "voc20-maskclip", "voc20-naclip", "voc20-naclip-unrefined", "voc21")
    ]


def test_the_next_command_works_and_is_the_cheapest(capsys, tmp_path):
    root = tmp_path / "it's here"
    _, lines = overview(capsys, "--data-root", str(root))
    (command,) = [line.removeprefix("next: ") for line in lines if line.startswith("next: ")]
    words = shlex.split(command)
    assert words[:4] == ["cosmos-eval", "data", "fetch", "mnist"]
    assert run_command([*words[1:], "--dry-run"]) == 0
    assert "11.6 MB" in capsys.readouterr().out


def test_what_is_begun_is_incomplete_and_comes_next(capsys, tmp_path):
    image = tmp_path / "coco" / "images" / "val2017" / "1.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"x")
    rows, lines = overview(capsys, "--data-root", str(tmp_path))
    assert rows["coco-val2017-retrieval"] == (
        "incomplete", f"{tmp_path}/coco/annotations/captions_val2017.json", "data fetch: 253 MB",
    )  # fmt: skip
    assert rows["sugarcrepe"][:2] == ("incomplete", f"{tmp_path}/sugarcrepe")
    assert rows["coco-object"][0] == "incomplete"
    assert rows["voc20"][0] == "not there"
    assert any(line.startswith("next: cosmos-eval data fetch sugarcrepe") for line in lines)


def test_nothing_is_read_or_rendered_for_benchmarks_without_data(tmp_path, monkeypatch):
    def fail(benchmark, *arguments, **options):
        raise AssertionError(benchmark.name)

    monkeypatch.setattr(data_overview, "check_data", fail)
    (tmp_path / "annotations.json").write_text("{}")  # in the data root, which some definitions name as a last resort
    states = find_data_states(load_every_benchmark(), tmp_path)
    assert {one.state for one in states} == {State.ready, State.not_there}


def test_what_is_not_there_for_the_table_is_missing_for_the_readers(tmp_path):
    for one in find_data_states(load_every_benchmark(), tmp_path):
        if one.state is State.not_there:
            _, report = check_data(one.benchmark, tmp_path)
            assert report.problems, one.benchmark.name
            assert one.plan is not None
            assert one.plan.fetched or one.plan.by_hand


def test_complete_data_are_ready_and_a_broken_image_is_found_only_by_a_deep_check(tmp_path):
    benchmark = load_benchmark(classes_world(tmp_path))
    (one,) = find_data_states([benchmark], tmp_path)
    assert (one.state, one.missing, one.way) == (State.ready, "", Way.none)
    assert one.counts["images"] > 0
    lines = list(describe_states([one], tmp_path))
    assert lines[-1] == f"run:  cosmos-eval run --model SPEC --benchmark {benchmark.name} --data-root {tmp_path}"
    image = next(path for path in sorted(tmp_path.rglob("*")) if path.suffix in (".png", ".jpg", ".ppm"))
    image.write_bytes(b"not an image")
    assert find_data_states([benchmark], tmp_path)[0].state is State.ready
    (deep,) = find_data_states([benchmark], tmp_path, deep=True)
    assert deep.state is State.incomplete
    assert image.name in deep.missing
    text = "\n".join(describe_states([deep], tmp_path))
    assert "incomplete (1), `cosmos-eval data check NAME` prints all that is wrong:" in text
    assert "next: " not in text  # nothing that could be fetched repairs it


@pytest.mark.parametrize(
    ("problem", "missing"),
    [
        ("b needs the folder data/x or data/y, which is not there (unzip x.zip)", "data/x"),
        ("b needs data/cars/a.mat (and with it b.mat), which is not there", "data/cars/a.mat"),
        (
            "b needs 5,000 images in data/x, found 4,998; missing: 1.jpg (unzip x.zip)",
            "needs 5,000 images in data/x, found 4,998; missing: 1.jpg",
        ),
        ("b: cannot read data/x.json", "cannot read data/x.json"),
        (f"b: {'x' * 201}", f"{'x' * 200}..."),
        (f"b needs {'x' * 201}, which is not there", "x" * 201),
    ],
)
def test_the_first_thing_that_is_missing(problem, missing):
    class Definition:
        name = "b"
        dataset = {"needs": "unzip x.zip"}  # noqa: RUF012

    assert describe_missing(Definition, problem) == missing


def test_names_keep_their_lines_and_exit_code(capsys, tmp_path):
    assert run_command(["data", "check", "cifar10", "toybox-segmentation", "--data-root", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ready", "missing", "note"]


def test_the_table_needs_no_heavy_package(tmp_path):
    code = (
        "import sys; from cosmos_eval.cli.main import run_command; "
        f"code = run_command(['data', 'check', '--data-root', {str(tmp_path)!r}]); "
        "print(code, sorted({'torch', 'pandas', 'requests', 'huggingface_hub'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr
