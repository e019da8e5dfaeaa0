"""What the HTML report is made of: the data of its tables and curves, images within a budget, and one closed page."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.page.assembly import assemble, digest, embedded
from cosmos_eval.page.curves import POINTS, curve_data, thinned
from cosmos_eval.page.data import Reported, report_data
from cosmos_eval.page.geometry import shipped_fingerprint
from cosmos_eval.page.images import embed, shrink
from cosmos_eval.page.report import LARGEST, put_together, write_report
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.report.board import make_board
from cosmos_eval.results.class_file import write_classes
from cosmos_eval.results.sections import TimingSection
from cosmos_eval.results.store import read_result, read_results, write_result
from cosmos_eval.tasks.class_table import class_table
from cosmos_eval.tasks.outcome import Metric
from tests.helpers.report_folder import attack, fill, fingerprint_of, one, write, write_geometry


@pytest.fixture(autouse=True)
def shipped(monkeypatch):
    monkeypatch.setattr("cosmos_eval.page.geometry.shipped_fingerprint", fingerprint_of)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("results"))


def data_of(page) -> dict:
    """The data block of a page, as its script reads it."""
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    return json.loads(block)


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


def checkpoints(folder, *names: str) -> None:
    """Results as evaluations during a training leave them."""
    for name in names:
        write(folder, one("cosmos:in-memory", "flowers", 0.5), f"evaluations/{name}/model")


def test_checkpoints_of_a_training_are_curves_and_not_rows_where_other_results_stand(tmp_path):
    checkpoints(tmp_path, "step-00000100-teacher", "step-00000200-teacher", "step-00000200-student")
    labels = {model["label"] for model in data_of(write_report(tmp_path).path)["models"]}
    assert labels == {"teacher, step 200", "student, step 200"}
    write(tmp_path, one("other", "flowers", 0.5))
    assert [model["label"] for model in data_of(write_report(tmp_path).path)["models"]] == ["other"]


def evaluation(step: int, /, **changes) -> dict:
    line = {
        "step": step, "network": "teacher", "benchmark": "flowers", "task": "classification", "primary": "top1",
        "metrics": {"top1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}}, "limit": None, "precision": "fp32",
        "digest": "d", "fingerprint": "e" * 64, "dataset": "b" * 64, "seconds": 1.5,
    }  # fmt: skip
    return {**line, **changes}


def curves(folder, *lines: dict):
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return curve_data(folder)


def test_another_protocol_or_a_limit_has_a_panel_of_its_own(tmp_path):
    lines = [evaluation(1), evaluation(2), evaluation(2, network="student"), evaluation(3, limit=5)]
    panels, remarks = curves(tmp_path, *lines, evaluation(4, fingerprint="f" * 64))
    assert remarks == []
    assert len({panel["title"] for panel in panels}) == 3
    assert [series["name"] for series in panels[0]["series"]] == ["teacher", "student"]
    assert panels[0]["series"][0]["points"] == [[1, 0.5, 0.4, 0.6, 10, "d", 1.5], [2, 0.5, 0.4, 0.6, 10, "d", 1.5]]


@pytest.mark.parametrize(
    "broken",
    [
        {"digest": 3},
        {"step": "1"},
        {"network": None},
        {"limit": "all"},
        {"metrics": {"top1": {"value": float("nan"), "low": 0.1, "high": 0.2, "n": 1}}},
        {"metrics": {"top1": {"value": 0.5}}},
        {"task": []},
        {"seconds": float("inf")},
    ],
)
def test_a_line_that_lacks_what_a_curve_shows_is_left_out(tmp_path, broken):
    panels, _ = curves(tmp_path, evaluation(1), evaluation(2, **broken))
    assert [point[0] for panel in panels for series in panel["series"] for point in series["points"]] == [1]
    embedded(panels)


def test_a_long_curve_is_thinned_and_the_page_says_so(tmp_path):
    panels, remarks = curves(tmp_path, *(evaluation(step) for step in range(1000)))
    steps = [point[0] for point in panels[0]["series"][0]["points"]]
    assert len(steps) == POINTS
    assert (steps[0], steps[-1]) == (0, 999)
    assert remarks == [f"flowers top-1, teacher: {POINTS} of 1,000 points are drawn"]
    assert thinned([1, 2, 3], 2) == [1, 3]


def noise(path, side: int = 600) -> None:
    """An image that does not compress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((side, side), 90).convert("RGB").save(path)


def test_images_beyond_the_budget_are_named_and_folders_take_turns(tmp_path):
    for name in ("a/1", "a/2", "a/3", "b/1"):
        noise(tmp_path / f"{name}.png")
    size = len(shrink(tmp_path / "a" / "1.png")[0])
    kept, left_out = embed(tmp_path, int(2.5 * size))
    assert [one.path for one in kept] == ["a/1.png", "b/1.png"]
    assert left_out == ["a: 2 more images, no room"]
    assert embed(tmp_path, 0) == ([], ["a: 3 more images, no room", "b: 1 more image, no room"])


def test_a_image_is_made_smaller_and_loses_what_else_its_file_tells(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    exif[0x0112] = 6  # lies on its side, and stays there: no model sees it turned
    Image.new("RGB", (1000, 4000), "red").save(tmp_path / "high.jpg", exif=exif)
    (found,), _ = embed(tmp_path, 10**6)
    assert (found.width, found.height) == (400, 1600)
    import base64

    assert b"taken at home" not in base64.b64decode(found.source.split(",")[1])


def test_what_is_no_image_is_named_and_label_maps_links_and_hidden_files_are_passed_over(tmp_path):
    (tmp_path / "broken.png").write_text("<svg onload=alert(1)>")
    for name in ("masks/1.png", ".cache/1.png", ".hidden.png", "evaluations/curve.png"):
        noise(tmp_path / name, 8)
    (tmp_path / "evaluations" / "curve.csv").write_text("step")
    os.mkfifo(tmp_path / "pipe.png")  # whoever opens it waits forever
    (tmp_path / "link.png").symlink_to(tmp_path / "masks" / "1.png")
    kept, left_out = embed(tmp_path, 10**6, with_curves=False)
    assert kept == []
    assert [one.path for one in embed(tmp_path, 10**6)[0]] == ["evaluations/curve.png"]
    assert left_out == ["broken.png: not a readable image (UnidentifiedImageError)"]


def test_a_name_that_is_no_text_does_not_stop_the_page(tmp_path):
    write(tmp_path, one("m", "flowers", 0.5))
    noise(tmp_path / "caf\udce9.png", 8)  # a byte that is not UTF-8
    page = write_report(tmp_path)
    assert page.images == 1
    assert data_of(page.path)["images"][0]["path"] == "caf\udce9.png"


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


def test_where_data_fill_the_page_images_give_way(tmp_path):
    noise(tmp_path / "1.png", 500)
    done = put_together(
        tmp_path, {"title": "t", "models": [], "groups": [], "curves": [], "x": "x" * LARGEST}, [], tmp_path / "r.html"
    )
    assert done.images == 0
    assert done.left_out == ["the folder itself: 1 more image, no room"]


def with_classes(folder: Path, label: str, count: int) -> Reported:
    result = one(label, "flowers", 0.5)
    metric = Metric(0.123456789, 0.0123456789, 0.923456789, 50)
    names = [f"a class of number {i}" for i in range(count)]
    write_classes(folder / label, class_table("recall", names, [50] * count, [metric] * count, ["a {c}"]), "d" * 64)
    write_result(folder / label, result)
    return Reported(read_result(folder / label / "RESULT.json"), f"{label}/RESULT.json")


def test_geometry_belongs_to_the_result_of_its_weights_protocol_and_data(folder):
    data = data_of(write_report(folder).path)
    (entry,) = data["geometry"]["entries"]
    assert data["models"][entry["row"]]["label"] == "Good model"
    assert data["groups"][entry["group"]]["name"] == "flowers"
    assert entry["figures"]["modality_gap"] == 0.8125
    assert entry["bins"] == [[0, None, None], [400, 0.75, 0.625]]
    assert entry["path"] == "shown/geometry.json"
    # classification and retrieval of the other models, and retrieval of this one; none of limited results
    commands = data["geometry"]["commands"]
    assert (len(commands), data["geometry"]["withoutCommand"]) == (6, 1)  # flowers of another protocol
    out = f"{folder.name}/Goodmodel/pairs"
    expected = f"cosmos-eval show geometry --model 'cosmos:Good model' --benchmark pairs --out {out} --precision fp32"
    assert expected in commands
    assert not any("Quick look" in command or "streets" in command for command in commands)


def test_geometry_of_other_results_and_broken_files_are_left_out(tmp_path):
    result = one("m", "flowers", 0.5)
    write(tmp_path, result)
    changes = [
        {"dataset": "0" * 64},
        {"digest": "another"},
        {"protocol": None},
        {"reliability": [{"count": 1, "confidence": 2.0, "accuracy": 0.5}]},
        {"figures": {"modality_gap": "<b>"}},
        {"figures": [1]},
    ]
    for number, change in enumerate(changes):
        write_geometry(tmp_path / str(number), result, **change)
    done = write_report(tmp_path)
    said = dict(line.split(": ", 1) for line in done.left_out)
    assert len(said) == 6
    assert all("of no result in this page" in said[f"{number}/geometry.json"] for number in (0, 1))
    assert all("not what show geometry writes" in said[f"{number}/geometry.json"] for number in (2, 3, 4, 5))
    assert data_of(done.path)["geometry"]["entries"] == []


def test_a_geometry_that_is_a_link_to_nothing_does_not_stop_the_page(tmp_path):
    write(tmp_path, one("m", "flowers", 0.5))
    (tmp_path / "geometry.json").symlink_to("nothing")
    (line,) = write_report(tmp_path).left_out
    assert line.startswith("geometry.json: not what show geometry writes")


def test_of_two_geometries_of_a_result_the_newer_counts_and_commands_have_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("cosmos_eval.page.geometry.MOST_COMMANDS", 2)
    result = one("m", "flowers", 0.5)
    write(tmp_path, result)
    for i, value in enumerate((0.25, 0.5)):
        os.utime(write_geometry(tmp_path / "ba"[i], result, figures={"alignment": value}), (i, i))
    for label in "xyz":
        write(tmp_path, one(label, "pairs", 0.5))
    geometry = data_of(write_report(tmp_path).path)["geometry"]
    assert [entry["figures"]["alignment"] for entry in geometry["entries"]] == [0.5]
    assert (len(geometry["commands"]), geometry["further"]) == (2, 1)


def test_a_result_that_no_command_leads_to_is_counted(tmp_path):
    base = one("m", "flowers", 0.5)
    write(tmp_path, one("named", "flowers", 0.5, precision="bf16+compile"))
    write(tmp_path, one("p", "flowers", 0.5, model=replace(base.model, spec="cosmos:/home/me/run/last.pt", label="p")))
    held = replace(base.model, spec="python:m:Net", label="held", extra={**base.model.extra, "source": "in memory"})
    write(tmp_path, one("held", "flowers", 0.5, model=held))
    changed = replace(base.benchmark, fingerprint="f" * 64)  # such as by --templates, or a definition of one's own
    write(tmp_path, one("changed", "flowers", 0.5, benchmark=changed))
    geometry = data_of(write_report(tmp_path).path)["geometry"]
    (command,) = geometry["commands"]
    assert command.endswith(f"--model cosmos:named --benchmark flowers --out {tmp_path.name}/named/flowers "
                            "--precision bf16")  # fmt: skip
    assert geometry["withoutCommand"] == 3


def test_only_shipped_definitions_have_a_shipped_fingerprint():
    assert shipped_fingerprint("pets") == load_benchmark("pets").fingerprint
    assert shipped_fingerprint("my pets") == ""


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
