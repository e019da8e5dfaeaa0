"""The gate's answer: Markdown, JSON and JUnit, remarks, and what the command writes."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np

from cosmos_eval.cli import main as cli
from cosmos_eval.regress.answer import NO_TEST, PASSED, REGRESSION
from cosmos_eval.regress.text import markdown, points, signed, to_json, to_junit
from cosmos_eval.results.store import read_result, write_result
from tests.helpers import fabricated
from tests.regress.result_pairs import hits, judged, pair


def test_remarks_say_what_was_not_tested_and_what_is_the_same(tmp_path):
    pair(tmp_path)
    for name in ("old", "new"):
        fabricated.retrieval(tmp_path / name, np.ones(40), np.ones((40, 2)), model={"digest": "7" * 64})
        fabricated.classification(tmp_path / name, hits(99, 1), name="other", model={"digest": "7" * 64})
        for path in (tmp_path / name).rglob("RESULT.json"):
            result = read_result(path)
            write_result(path.parent, replace(result, model=replace(result.model, digest="7" * 64)))
    answer = judged(tmp_path, metrics=("top1",))
    assert answer.remarks == (
        "without the requested metrics, so not tested: made-retrieval",
        "baseline and candidate have the same weights: made-classification, made-retrieval, other",
    )


def test_markdown_json_and_junit_say_the_same(tmp_path):
    fabricated.classification(tmp_path / "old", hits(200, 10), name="set|<b>&")
    fabricated.classification(tmp_path / "new", hits(200, 40), name="set|<b>&")
    fabricated.classification(tmp_path / "old", hits(200, 10), name="gone")
    fabricated.classification(tmp_path / "old", hits(3, 0), name="tiny")
    fabricated.classification(tmp_path / "new", hits(3, 0), name="tiny")
    fabricated.classification(tmp_path / "old", hits(200, 10), name="fine")
    fabricated.classification(tmp_path / "new", hits(200, 10), name="fine")
    answer = judged(tmp_path)
    record = json.loads(to_json(answer))
    assert record["exit_code"] == 2
    verdicts = {one["benchmark"]: one["verdict"] for one in record["tests"]}
    assert verdicts == {"set|<b>&": REGRESSION, "fine": PASSED, "tiny": NO_TEST}
    assert [one["detectable"] is None for one in record["tests"] if one["benchmark"] == "tiny"] == [True]
    suite = ElementTree.fromstring(to_junit(answer)).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "2")
    failed = [case.get("classname") for case in suite if case.find("failure") is not None]
    assert failed == ["set|<b>&"]
    rows = [line for line in markdown(answer).splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1, "the columns are aligned"
    assert "<b>" not in markdown(answer)
    assert "5 % over all 3 tests together (Holm). Percent" in markdown(answer)
    assert "alarm rate of 5 %. Percent" in markdown(replace(answer, tests=answer.tests[:1]))
    assert "-15.00" in rows[-2] or any("-15.00" in row for row in rows)


def test_junit_holds_no_character_that_xml_cannot(tmp_path):
    pair(tmp_path, 10, 40)
    answer = judged(tmp_path)
    bad = replace(answer, problems=(("a\x00b\ud800", "c\x1b\uffff"),))
    suite = ElementTree.fromstring(to_junit(bad)).find("testsuite")
    assert suite is not None
    assert suite[-1].get("classname") == "a\ufffdb\ufffd"


def test_a_promise_is_rounded_up_and_nothing_has_a_sign():
    assert points(0.012301) == "1.24"
    assert points(0.005) == "0.5"
    assert points(0.0) == "0"
    assert signed(-0.00001) == "0.00"
    assert signed(-0.0123) == "-1.23"


def test_the_command_writes_what_it_prints_and_leaves_with_the_answer(tmp_path, capsys):
    pair(tmp_path, 10, 40)
    old, new = str(tmp_path / "old"), str(tmp_path / "new" / "made-classification" / "RESULT.json")
    written = {name: tmp_path / f"answer.{name}" for name in ("markdown", "json", "junit")}
    options = [part for name, path in written.items() for part in (f"--{name}", str(path))]
    assert cli.run_command(["regress", old, new, *options]) == 1
    printed = capsys.readouterr().out
    assert written["markdown"].read_text() == printed
    assert printed.startswith("# Regression: made-classification top-1 -15.00")
    assert json.loads(written["json"].read_text())["settings"]["alpha"] == 0.05
    assert ElementTree.parse(written["junit"]).getroot().tag == "testsuites"
    assert cli.run_command(["regress", old, new, "--max-drop", "20"]) == 0
    assert cli.run_command(["regress", old, old]) == 0
