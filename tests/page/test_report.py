"""What the HTML report is made of: the data of its tables and classes, and one closed page."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.page.assembly import assemble, digest, embedded
from cosmos_eval.page.data import Reported, report_data
from cosmos_eval.page.report import put_together, write_report
from cosmos_eval.report.board import make_board
from cosmos_eval.results.class_file import write_classes
from cosmos_eval.results.sections import TimingSection
from cosmos_eval.results.store import read_result, read_results, write_result
from cosmos_eval.tasks.class_table import class_table
from cosmos_eval.tasks.outcome import Metric
from tests.helpers.report_folder import attack, data_of, fingerprint_of, noise, one, write


@pytest.fixture(autouse=True)
def shipped(monkeypatch):
    monkeypatch.setattr("cosmos_eval.page.geometry.shipped_fingerprint", fingerprint_of)


def test_the_command_writes_the_page_beside_the_results_and_says_where(folder, capsys):
    assert run_command(["report", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"Report: {folder / 'report.html'}" in said
    assert "6 models, 5 benchmarks, 2 images" in said
    assert run_command(["report", str(folder), "--out", str(folder / "elsewhere" / "page.html")]) == 0
    assert (folder / "elsewhere" / "page.html").read_text() == (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/nonexistent/place"], "/nonexistent/place"),
        (["{folder}", "--out", "{folder}/table.csv"], "is not an .html file"),
        (["{folder}", "--out", "{folder}"], "is a folder; give a file"),
        (["{folder}", "--suite", "toybox"], "belongs to the suite toybox; there are results of flowers"),
    ],
)
def test_what_cannot_be_reported_is_one_line_and_exit_2(tmp_path, arguments, said, capsys):
    write(tmp_path, one("m", "flowers", 0.5))
    assert run_command(["report", *(word.format(folder=tmp_path) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_one_is_not_said_as_many(tmp_path, capsys):
    write(tmp_path, one("m", "flowers", 0.5))
    assert run_command(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("1 model, 1 benchmark, 0 images; ")


def test_an_empty_folder_and_a_broken_result_are_refused_by_name(tmp_path):
    with pytest.raises(RequestError, match=r"no RESULT\.json and no evaluations\.jsonl"):
        write_report(tmp_path)
    write(tmp_path, one("m", "flowers", 0.5))
    (path,) = tmp_path.rglob("RESULT.json")
    path.write_text(path.read_text()[:-40])
    with pytest.raises(RequestError, match=re.escape(str(path))):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_leaderboard_holds_what_every_other_format_holds(folder):
    data = data_of(write_report(folder).path)
    board = make_board(read_results(folder))
    headline = board.headline()
    assert [column["title"] for column in data["columns"]] == headline["title"].tolist()
    assert [model["label"] for model in data["models"]][: len(board.rows)] == board.rows["label"].tolist()
    cells = {(row, number): (value, place) for row, number, value, _, _, _, place, *_ in data["cells"]}
    assert len(cells) == board.cells["column"].isin(headline.index).sum()
    for number, index in enumerate(headline.index):
        for row in board.rows.index:
            cell = board.cell(row, index)
            if cell is None:
                assert (row, number) not in cells
            else:
                value, place = cells[row, number]
                assert value == pytest.approx(cell.value, abs=1e-5)
                assert place == (None if pd.isna(cell.place) else cell.place)


def test_a_limited_result_is_on_no_board(folder):
    data = data_of(write_report(folder).path)
    (quick,) = [number for number, model in enumerate(data["models"]) if model["label"] == "Quick look"]
    assert quick not in {cell[0] for cell in data["cells"]}
    assert [result["limit"] for result in data["results"] if result["row"] == quick] == [10]


def test_two_protocols_of_a_benchmark_are_two_groups_that_tell_themselves_apart(folder):
    groups = [group for group in data_of(write_report(folder).path)["groups"] if group["name"] == "flowers"]
    assert len(groups) == 2
    assert len({group["title"] for group in groups}) == 2
    assert all(group["fingerprint"][:8] in group["title"] for group in groups)


def test_a_metric_that_only_some_results_have_is_missing_in_the_others():
    whole, part = one("whole", "flowers", 0.5), one("part", "flowers", 0.5)
    part = replace(part, metrics={"top1": part.metrics["top1"]})
    data = report_data([Reported(part, "a"), Reported(whole, "b")])
    (group,) = data["groups"]
    assert group["metrics"] == ["top1", "top5", "mean_per_class"]
    assert [result["values"][1:] for result in data["results"]] == [[0, 0], [[0.5, 0.48, 0.52, 400]] * 2]


def test_an_older_interval_without_width_has_a_remark():
    def remarks(metric: Metric) -> list[str]:
        result = replace(one("m", "flowers", 0.5), metrics={"top1": metric}, primary="top1")
        return [line for line in report_data([Reported(result, "x")])["remarks"] if "an older result" in line]

    assert len(remarks(Metric(1.0, 1.0, 1.0, 6))) == 1
    assert remarks(Metric(1.0, 0.61, 1.0, 6, "mid-p")) == []


def test_of_two_measurements_of_one_thing_the_later_is_shown(tmp_path):
    early = one("m", "flowers", 0.4, timing=TimingSection(1.0, "2026-01-01T00:00:00+00:00"))
    late = one("m", "flowers", 0.7, timing=TimingSection(1.0, "2026-01-02T00:00:00+00:00"))
    data = report_data([Reported(late, "a/RESULT.json"), Reported(early, "b/RESULT.json")])
    assert [cell[2] for cell in data["cells"]] == [0.7]
    assert data["results"][-1]["path"] == "a/RESULT.json"  # the page takes the last one of a row
    assert any("measured twice" in line for line in data["remarks"])


def test_a_report_of_some_folders_leaves_the_others_out_even_broken_ones(tmp_path):
    for label in ("kept", "stale"):
        write(tmp_path, one(label, "flowers", 0.5))
    (tmp_path / "stale" / "flowers" / "RESULT.json").write_text("{")
    data = data_of(write_report(tmp_path, within=[tmp_path / "kept"]).path)
    assert [model["label"] for model in data["models"]] == ["kept"]
    assert [result["path"] for result in data["results"]] == ["kept/flowers/RESULT.json"]


def test_published_values_are_rows_of_their_own():
    result = one("ours", "flowers", 0.5)
    row = {
        "paper": "A paper", "model": "Theirs", "arch": "", "pretraining": "", "benchmark": "flowers", "metric": "top1",
        "value": 0.712, "decimals": 1, "source": "table 3", "fingerprint": result.benchmark.fingerprint,
        "dataset": "",
    }  # fmt: skip
    data = report_data([Reported(result, "a")], pd.DataFrame([row]))
    (published,) = [number for number, model in enumerate(data["models"]) if model["kind"] == "published"]
    assert data["models"][published]["source"] == "A paper: table 3"
    (cell,) = [cell for cell in data["cells"] if cell[0] == published]
    assert cell[1:] == [0, 0.712, None, None, None, None, 1, "table 3"]


def test_data_cannot_end_their_block_or_the_page_s_title():
    page = assemble({"title": attack("x"), "\u2028": "\u2029&"}, attack("title"))
    assert page.count("<script") == 2
    assert page.count("</script") == 2
    assert "<img" not in page
    assert json.loads(embedded({"a": attack("x")})) == {"a": attack("x")}


def test_the_policy_names_the_very_style_and_script_and_nothing_else():
    page = assemble({}, "t")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert f"{tag}-src '{digest(text)}'" in policy
    assert not re.findall(
        r"""(?:src|href)=["'](?!#)|url\(|@import|innerHTML|outerHTML|insertAdjacentHTML|eval\(""", page
    )


def test_the_page_of_a_full_suite_stays_below_5_megabytes(tmp_path):
    """30 benchmarks x 20 models: 171 classes twice, 420 readings of parts, and too many images."""
    found = []
    for b in range(30):
        parts = {0: 171, 1: 171, 2: 420}.get(b, 3)
        for m in range(20):
            base = one(f"open_clip:ViT-B-16/a-long-tag-of-weights-{m}", "flowers", 0.3 + m / 100 + b / 1000)
            more = {f"part number {i}/iou": Metric(i / 997, i / 999, 0.87654321, 5000 + i) for i in range(parts)}
            benchmark = replace(base.benchmark, name=f"benchmark-{b}", fingerprint=f"{b:064d}")
            result = replace(base, metrics=base.metrics | more, benchmark=benchmark)
            found.append(Reported(result, f"model-{m}-of-some-name/benchmark-{b}/RESULT.json"))
    for i in range(24):
        noise(tmp_path / "images" / f"{i}.png", 500)
    data = {"title": "t", "madeBy": "m", "lead": [], "curves": [], "notRun": [], **report_data(found)}
    done = put_together(tmp_path, data, [], tmp_path / "report.html")
    assert (done.models, done.benchmarks) == (20, 30)
    assert 3_000_000 < done.path.stat().st_size < 5_000_000
    assert done.images > 5
    assert done.left_out == [f"images: {24 - done.images} more images, no room"]


def with_classes(folder: Path, label: str, count: int) -> Reported:
    result = one(label, "flowers", 0.5)
    metric = Metric(0.123456789, 0.0123456789, 0.923456789, 50)
    names = [f"a class of number {i}" for i in range(count)]
    write_classes(folder / label, class_table("recall", names, [50] * count, [metric] * count, ["a {c}"]), "d" * 64)
    write_result(folder / label, result)
    return Reported(read_result(folder / label / "RESULT.json"), f"{label}/RESULT.json")


def test_names_of_classes_are_in_the_page_once_and_values_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("cosmos_eval.page.classes.MOST_CHARACTERS", 40_000)
    found = [with_classes(tmp_path, f"model-{i}", 1000) for i in range(3)]
    (tmp_path / "model-1" / "CLASSES.json").write_text("{}")
    data = report_data(found)
    (group,) = data["groups"]
    assert len(group["classes"]["names"]) == 1000
    assert (group["classes"]["metric"], group["classes"]["n"][7]) == ("recall", 50)
    kept = [result.get("classes") for result in data["results"]]
    assert (kept[0][0], kept[1:]) == ([0.12346, 0.01235, 0.92346], [None, None])
    damaged, full = data["classesLeftOut"]
    assert "not a valid table of classes" in damaged
    assert full == "classes of model-2/RESULT.json: no room; see cosmos-eval results classes"
    written = put_together(tmp_path, {"title": "t", "curves": [], **data}, [], tmp_path / "r.html")
    assert written.left_out == [damaged, full]


def test_classes_that_are_metrics_are_not_stored_twice():
    streets = one("a", "streets", 0.5)
    data = report_data([Reported(streets, "a/RESULT.json")])
    assert data["groups"][0]["classes"]["title"] == "IoU"
    assert "classes" not in data["results"][0]
