"""`reproduce` as a person meets it: the table, the files, exit codes, and what to run where nothing was measured."""

import json
import shlex

import pytest

from cosmos_eval.cli import main as cli
from cosmos_eval.published.plan import commands
from cosmos_eval.published.reproduce import reproduce
from cosmos_eval.published.tables import markdown, render
from cosmos_eval.results.store import write_result
from tests.helpers.reproductions import COCO, FLICKR, I2T, MODEL, T2I, measured


@pytest.fixture
def folder(tmp_path):
    def store(*results):
        for i, result in enumerate(results):
            write_result(tmp_path / "eval" / f"{i}" / result.benchmark.name, result)
        return str(tmp_path / "eval")

    return store


def run(*arguments: str) -> int:
    return cli.run_command(["reproduce", *arguments])


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_what_was_reproduced_exits_with_0_and_shows_both_figures(folder, capsys):
    where = folder(measured(off={T2I: "0.1"}), measured(FLICKR))
    assert run("paper-retrieval", "--results", where, "--model", MODEL) == 0
    out = capsys.readouterr().out
    assert "4 published figures of 1 model: 3 reproduced, 1 within, 0 missed, 0 not run." in out
    table = rows(out)
    assert table[0] == [
        "model", "benchmark", "metric", "published", "measured", "difference", "tolerance", "verdict", "notes",
    ]  # fmt: skip
    assert table[1] == [
        MODEL, COCO, "I→T R@1", "68.0", "68.00 [67.00, 69.00]", "+0.00", "0.15", "reproduced", "",
    ]  # fmt: skip
    assert table[2][3:] == ["52.5", "52.60 [51.60, 53.60]", "+0.10", "0.15", "**within**", "(1)"]
    assert "1. coco-val2017-retrieval: the released code computes features in mixed precision" in out
    assert "README.md" in out  # where it was published
    assert "## Not run" not in out


def test_a_missed_figure_exits_with_1_and_gives_the_reasons_known(folder, capsys):
    assert run("paper-retrieval", "--results", folder(measured(FLICKR, off={I2T: "-2"})), "--model", MODEL) == 1
    out = capsys.readouterr().out
    row = next(row for row in rows(out) if row[1:3] == [FLICKR, "I→T R@1"])
    assert row[5:] == ["-2.00", "0.25", "**missed**", "(1) (2)"]
    assert "2. flickr30k-val-retrieval: the released code reads flickr30k_val.json" in out


def test_an_empty_folder_and_no_folder_say_what_to_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for arguments, out in ((["--results", "empty"], "empty"), ([], "runs/eval")):
        assert run("paper-retrieval", *arguments) == 0
        said = capsys.readouterr().out
        assert "40 published figures of 10 models: 0 reproduced, 0 within, 0 missed, 40 not run." in said
        assert "cosmos-eval data check paper-retrieval --data-root data" in said
        assert f"--suite paper-retrieval --precision fp32 --data-root data --out {out}" in said
        assert "hf download sankim2/cosmos cosmos_vitb16_cc3m.pt" in said
        assert "coco-val2017-retrieval (5,000 images, 25,014 texts): unzip val2017.zip" in said
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_the_commands_are_ones_that_the_command_line_takes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = commands(reproduce("sclip", []), "my results")
    assert len(lines) == 2
    assert all(line.startswith("cosmos-eval ") for line in lines)
    assert cli.run_command(shlex.split(lines[0])[1:]) == 1  # no data here
    assert cli.run_command([*shlex.split(lines[1])[1:], "--dry-run"]) == 2
    out = capsys.readouterr().out
    assert out.count("open_clip:ViT-B-16/openai × ") == 8
    assert shlex.split(lines[1])[-1] == "my results"


def test_only_what_is_missing_is_to_be_run_and_copies_under_their_own_spec():
    copy = "cosmos:copy/last.pt"
    found = reproduce("paper-retrieval", [measured(spec=copy)], models=[f"{MODEL}={copy}", "cosmos:vitb16-cc3m"])
    end = "--precision fp32 --data-root data --out out"
    assert commands(found, "out") == [
        "cosmos-eval data check paper-retrieval --data-root data",
        f"cosmos-eval run --model cosmos:vitb16-cc3m --suite paper-retrieval {end}",
        f"cosmos-eval data check {FLICKR} --data-root data",
        f"cosmos-eval run --model {copy} --benchmark {FLICKR} {end}",
    ]


def test_files_hold_the_same_in_markdown_and_json(folder, tmp_path, capsys):
    where = folder(measured(off={I2T: "0.2"}))
    out = tmp_path / "tables"
    assert run("paper-retrieval", "--results", where, "--format", "md,json", "--out", str(out)) == 1
    printed = capsys.readouterr()
    assert (out / "reproduce-paper-retrieval.md").read_text() == printed.out
    written = [f"written: {out / f'reproduce-paper-retrieval.{ending}'}" for ending in ("md", "json")]
    assert printed.err.splitlines() == written
    record = json.loads((out / "reproduce-paper-retrieval.json").read_text())
    assert record["counts"] == {"reproduced": 1, "within": 0, "missed": 1, "not run": 38}
    assert record["missed"] is True
    cell = next(one for one in record["cells"] if one["spec"] == MODEL and one["metric"] == I2T and one["measured"])
    assert (cell["printed"], cell["verdict"], cell["rounding"], cell["tolerance"]) == ("68.0", "missed", 0.05, 0.15)
    assert cell["measured"][0]["difference"] == 0.2
    assert cell["measured"][0]["value"] == 0.682
    assert cell["known_differences"][0]["points"] == 0.1
    assert cell["source"].startswith("github:ExplainableML/cosmos")
    assert len(record["cells"]) == 40
    assert any("--precision fp32" in line for line in record["to_run"]["commands"])
    assert run("paper-retrieval", "--results", where, "--format", "json") == 1
    assert (tmp_path / "eval" / "reproduce-paper-retrieval.json").is_file()


def test_requests_that_cannot_be_carried_out_exit_with_2_and_one_line(folder, tmp_path, capsys):
    where = folder(measured(limit=10))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "RESULT.json").write_text("{")
    for arguments, said in (
        (["nothing"], "there is no suite 'nothing'"),
        (["toybox"], "the suite toybox has no published figures"),
        (["paper-retrieval", "--results", str(tmp_path / "absent")], "no folder"),
        (["paper-retrieval", "--results", where], "made with --limit 10"),
        (["paper-retrieval", "--results", str(broken)], "RESULT.json"),
        (["paper-retrieval", "--model", "cosmos:toybox"], "no published figures of cosmos:toybox"),
        (
            ["paper-retrieval", "--model", f"{MODEL}=mine.pt"],
            f"mine.pt after = is not a model spec; write {MODEL}=KIND:",
        ),
        (["paper-retrieval", "--model", f"{MODEL}="], "nothing after = is not a model spec"),
        (["paper-retrieval", "--format", "pdf"], "no format 'pdf' of a reproduction; known: md, json"),
        (["paper-retrieval", "--out", str(tmp_path)], "without --format writes nothing"),
    ):
        assert run(*arguments) == 2, arguments
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_results_that_are_not_compared_are_named_with_the_reason(folder, capsys):
    where = folder(measured(limit=10), measured(FLICKR), measured(fingerprint="9" * 64, digest="9" * 64))
    assert run("paper-retrieval", "--results", where, "--model", MODEL) == 0
    out = capsys.readouterr().out
    assert "2 reproduced, 0 within, 0 missed, 2 not run" in out
    assert f"- {MODEL} on {COCO}: made with --limit 10" in out
    assert "made with version 1 (99999999) of the protocol" in out
    assert f"- {COCO}: {MODEL}" in out  # not run
    assert f"--benchmark {COCO} --precision fp32" in out


def test_other_precisions_stand_beside_float32_in_parentheses():
    found = reproduce("paper-retrieval", [measured(), measured(precision="bf16", off="1")], models=[MODEL])
    verdicts = [(row[7], row[8]) for row in rows(markdown(found, "out")) if row[1] == COCO]
    assert verdicts[0] == ("reproduced", "")
    assert verdicts[1] == ("(missed)", "bf16: the float32 result decides. (1)")


def test_long_tables_name_what_was_not_measured_below():
    text = markdown(reproduce("open-clip", []), "out")
    assert rows(text) == []
    assert "2,232 published figures of 116 models" in text
    assert "102 figures of these tables left out: no model spec is known for them." in text
    short = markdown(reproduce("open-clip", [], models=["open_clip:ViT-B-16/openai"]), "out")
    assert len(rows(short)) == 1 + 30
    assert {row[7] for row in rows(short)[1:]} == {"not run"}


def test_figures_of_several_papers_say_which_one_prints_them():
    found = reproduce(
        "compositional", [], models=["open_clip:ViT-L-14-336/openai", "open_clip:ViT-H-14/laion2b_s32b_b79k"]
    )
    printed = {row[2]: row[3] for row in rows(markdown(found, "out"))[1:]}
    assert printed["Texts/image_score"] == "6.7 MMVP"
    assert printed["swap_obj/accuracy"] == "67.48 SugarCrepe"


def test_secondary_figures_are_counted_apart():
    text = render(reproduce("paper-perception", [], secondary=True), "md", "out")
    assert "0 published figures of 0 models" in text
    assert "Figures that do not decide (secondary): 0 reproduced, 0 within, 0 missed, 1 not run." in text
    plain = render(reproduce("paper-perception", []), "md", "out")
    assert "1 more figure is reported by third parties only and left out; --secondary shows them." in plain
    assert "No published figure of the requested models on: sugarcrepe, svo-probes, mmvp-vlm." in plain
