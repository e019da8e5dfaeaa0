"""Geometry in the HTML report: that of the same weights, protocol and data, else the command that measures it."""

import json
import os
from dataclasses import replace

import pytest

from cosmos_eval.page.geometry import shipped_fingerprint
from cosmos_eval.page.report import write_report
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.report_folder import data_of, fingerprint_of, one, write, write_geometry


@pytest.fixture(autouse=True)
def shipped(monkeypatch):
    monkeypatch.setattr("cosmos_eval.page.geometry.shipped_fingerprint", fingerprint_of)


def test_geometry_belongs_to_the_result_of_its_weights_protocol_and_data(folder):
    data = data_of(write_report(folder).path)
    (entry,) = data["geometry"]["entries"]
    assert data["models"][entry["row"]]["label"] == "Good model"
    assert data["groups"][entry["group"]]["name"] == "flowers"
    assert entry["figures"]["modality_gap"] == 0.8125
    assert entry["intervals"]["modality_gap"] == [0.75, 0.875]
    assert entry["bins"] == [[0, None, None, None, None], [400, 0.75, 0.625, 0.5, 0.75]]
    assert entry["confused"][0][1:] == ["rose", 7.5, 3.5, 13.5]
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
        {"intervals": {"modality_gap": [0.5]}},
    ]
    for number, change in enumerate(changes):
        write_geometry(tmp_path / str(number), result, **change)
    done = write_report(tmp_path)
    said = dict(line.split(": ", 1) for line in done.left_out)
    assert len(said) == 7
    assert all("of no result in this page" in said[f"{number}/geometry.json"] for number in (0, 1))
    assert all("not what show geometry writes" in said[f"{number}/geometry.json"] for number in (2, 3, 4, 5, 6))
    assert data_of(done.path)["geometry"]["entries"] == []


def test_a_geometry_of_a_version_without_intervals_is_read(tmp_path):
    result = one("m", "flowers", 0.5)
    write(tmp_path, result)
    path = write_geometry(tmp_path, result, reliability=[{"count": 4, "confidence": 0.75, "accuracy": 0.5}])
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "intervals"})
    )
    done = write_report(tmp_path)
    assert done.left_out == []
    (entry,) = data_of(done.path)["geometry"]["entries"]
    assert (entry["intervals"], entry["bins"]) == ({}, [[4, 0.75, 0.5, None, None]])


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
