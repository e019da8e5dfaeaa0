"""A user's own suite beside its definitions, and templates and class names for all benchmarks of a run."""

import json
from pathlib import Path

import pytest
import yaml

from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import load_benchmark, read_suite
from cosmos_eval.protocol.prompt_changes import replace_prompts
from cosmos_eval.protocol.suite import Average
from cosmos_eval.results.store import read_results
from cosmos_eval.run.plan import resolve_benchmarks

SUITE = """\
summary: "our sets"
benchmarks: [toybox-classification, small, sets/smaller.yaml]
averages:
  - name: both
    metric: top1
    benchmarks: [our-small, smaller]
"""


def write_small(path: Path, name: str, per_class: int = 1) -> None:
    path.parent.mkdir(exist_ok=True)
    definition = {
        "base": "toybox-classification",
        "name": name,
        "dataset": {"per_class": per_class, "expected": {"images": 48 * per_class, "classes": 48}},
    }
    path.write_text(yaml.safe_dump(definition))


@pytest.fixture
def suite(tmp_path) -> Path:
    write_small(tmp_path / "small.yaml", "our-small")
    write_small(tmp_path / "sets/smaller.yaml", "smaller")
    (tmp_path / "ours.yaml").write_text(SUITE)
    return tmp_path / "ours.yaml"


def test_a_suite_is_read_from_a_path_with_definitions_beside_it(suite):
    read = read_suite(suite)
    assert read.name == "ours"
    assert [benchmark.name for benchmark in read.benchmarks] == ["toybox-classification", "our-small", "smaller"]
    assert read.averages == (Average("both", ("our-small", "smaller"), "top1"),)
    assert read.benchmarks[0].fingerprint == load_benchmark("toybox-classification").fingerprint
    assert [benchmark.folder for benchmark in read.benchmarks] == [None, suite.parent, suite.parent / "sets"]
    assert [benchmark.name for benchmark in resolve_benchmarks([suite])] == [one.name for one in read.benchmarks]


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".yaml"])
def test_a_name_that_is_too_long_for_a_file_is_one_line(suite, name):
    suite.write_text(f"benchmarks: [{name}]")
    with pytest.raises(RequestError, match=r"there is no (benchmark|definition)") as refused:
        read_suite(suite)
    assert len(str(refused.value)) < 800
    with pytest.raises(RequestError, match=r"there is no (benchmark|definition)"):
        load_benchmark(name)
    (suite.parent / "small.yaml").write_text(f"base: {name}\nname: x")
    with pytest.raises(RequestError, match="there is no definition"):
        load_benchmark(suite.parent / "small.yaml")


def test_a_file_beside_the_suite_comes_before_a_shipped_definition(suite):
    write_small(suite.parent / "own.yaml", "toybox-classification")
    suite.write_text("benchmarks: [toybox-classification]")
    assert read_suite(suite).benchmarks[0].dataset["per_class"] == 20
    (suite.parent / "own.yaml").rename(suite.parent / "toybox-classification.yaml")
    (own,) = read_suite(suite).benchmarks
    assert own.dataset["per_class"] == 1
    assert own.fingerprint != load_benchmark("toybox-classification").fingerprint


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("small, ", "smal, ", "there is no benchmark 'smal'"),
        ("sets/smaller", "sets/tiny", "ours.yaml:2: there is no definition"),
        ("sets/smaller.yaml", "../smaller.yaml", "ours.yaml:2: there is no definition"),
        ("sets/smaller.yaml", "../smaller", "ours.yaml:2: there is no definition"),
        ("sets/smaller.yaml", "/sets/smaller.yaml", "is not a path from the suite's folder; write it relative to"),
        ("small, ", "small, small.yaml, ", "two benchmarks are called our-small"),
        ("[our-small, smaller]", "[small, smaller]", "ours.yaml:6: 'small' is not in the suite's benchmarks"),
    ],
)
def test_mistakes_in_a_suite_are_named(suite, old, new, message):
    suite.write_text(SUITE.replace(old, new, 1))
    with pytest.raises(RequestError) as refused:
        read_suite(suite)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["../shared/far.yaml", "../shared/far"])
def test_a_definition_may_lie_outside_the_suite_s_folder(suite, name):
    own = suite.parent / "suites/ours.yaml"
    own.parent.mkdir()
    write_small(suite.parent / "shared/far.yaml", "far")
    own.write_text(f"benchmarks: [{name}]")
    (far,) = read_suite(own).benchmarks
    assert (far.name, far.folder.resolve()) == ("far", suite.parent / "shared")


def test_suites_and_benchmarks_in_place_of_each_other_are_told_apart(suite):
    with pytest.raises(RequestError, match="is a suite, not a benchmark; give it with --suite"):
        load_benchmark(suite)
    with pytest.raises(RequestError, match="is a benchmark, not a suite; give it with --benchmark"):
        read_suite(suite.parent / "small.yaml")
    with pytest.raises(RequestError, match=r"there is no suite .*absent.yaml"):
        read_suite("absent.yaml")


def test_an_own_suite_is_run_and_averaged_with_own_templates(suite, tmp_path, capsys):
    suite.write_text(SUITE.replace("toybox-classification, ", ""))
    (tmp_path / "mine.txt").write_text("one {c}\n")
    out = tmp_path / "results"
    command = ["run", "--suite", str(suite), "--templates", str(tmp_path / "mine.txt"), "--out", str(out)]
    assert run_command(command) == 0
    results = read_results(out)
    assert {result.benchmark.name for result in results} == {"our-small", "smaller"}
    definition = yaml.safe_load((tmp_path / "small.yaml").read_text())
    definition["prompts"] = {"templates": ["one {c}"]}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(definition))
    fingerprint = load_benchmark(tmp_path / "small.yaml").fingerprint
    assert fingerprint in {result.benchmark.fingerprint for result in results}
    capsys.readouterr()
    # the suite of these templates, so that its averages are over the protocols that were measured
    definition = yaml.safe_load((tmp_path / "sets/smaller.yaml").read_text())
    definition["prompts"] = {"templates": ["one {c}"]}
    (tmp_path / "sets/smaller.yaml").write_text(yaml.safe_dump(definition))
    assert run_command(["leaderboard", str(out), "--suite", str(suite)]) == 0
    assert "both" in capsys.readouterr().out


def test_templates_and_class_names_count_as_if_they_stood_in_the_definitions(tmp_path):
    benchmarks = [load_benchmark(name) for name in ("toybox-retrieval", "toybox-classification", "toybox-segmentation")]
    retrieval, classification, segmentation = replace_prompts(benchmarks, templates="simple-7")
    assert retrieval == benchmarks[0]
    assert classification.resolve_prompts().templates == segmentation.resolve_prompts().templates
    assert len(classification.resolve_prompts().templates) == 7
    assert classification.fingerprint != benchmarks[1].fingerprint
    write_small(tmp_path / "small.yaml", "small")
    small = load_benchmark(tmp_path / "small.yaml")
    names = [f"thing {i}" for i in range(48)]
    (tmp_path / "names.json").write_text(json.dumps(names))
    (changed,) = replace_prompts([small], class_names=str(tmp_path / "names.json"))
    definition = yaml.safe_load((tmp_path / "small.yaml").read_text())
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**definition, "prompts": {"class_names": names}}))
    assert changed.fingerprint == load_benchmark(tmp_path / "small.yaml").fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"templates": "simple-8"}, "--templates: unknown set 'simple-8'; did you mean simple-7?"),
        ({"templates": "absent.txt"}, "--templates: "),
        ({"class_names": "words.csv"}, "--class-names: unknown set"),
    ],
)
def test_wrong_templates_are_refused_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError) as refused:
        replace_prompts([load_benchmark("toybox-classification")], **arguments)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_templates_that_change_nothing_are_refused():
    with pytest.raises(RequestError, match="--templates changes nothing: toybox-retrieval have no templates"):
        replace_prompts([load_benchmark("toybox-retrieval")], templates="simple-7")
    with pytest.raises(RequestError, match="--class-names changes nothing"):
        replace_prompts([load_benchmark("toybox-segmentation")], class_names="imagenet1k")


@pytest.mark.parametrize("text", ["name: ours\nbenchmarks: [{}]\n", "base: {}\nname: ours\n"])
def test_a_name_that_no_file_can_have_is_an_unknown_benchmark(tmp_path, text):
    path = tmp_path / "ours.yaml"
    path.write_text(text.format("x" * 300))
    with pytest.raises(RequestError, match=r"there is no (benchmark|definition) 'xxx\S*\.\.\.") as refusal:
        resolve_benchmarks([str(path)])
    assert len(str(refusal.value)) < 400
