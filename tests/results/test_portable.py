"""Published tables tell no folder of the machine that made them."""

import csv
import io
from dataclasses import replace

import pandas as pd
import pytest

from cosmos_eval.page.report import write_report
from cosmos_eval.report.board import make_board
from cosmos_eval.report.data_files import csv_text
from cosmos_eval.report.exchange_clip_benchmark import clip_benchmark_files
from cosmos_eval.report.exchange_model_index import model_index_files
from cosmos_eval.report.tables import FORMATS, render
from cosmos_eval.results.portable import portable_spec, portable_text
from cosmos_eval.results.store import write_not_run, write_result
from tests.helpers.boards import result_of


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("cosmos:/home/me/run/last.pt", "cosmos:run/last.pt"),
        ("cosmos:/home/me/run/last.pt#student", "cosmos:run/last.pt#student"),
        ("cosmos:/home/me/last.pt", "cosmos:last.pt"),
        ("cosmos:/home/me/my runs/a b.pt?x=1", "cosmos:my runs/a b.pt?x=1"),
        ("open_clip:ViT-B-16//data/secret/best.pt", "open_clip:ViT-B-16/secret/best.pt"),
        ("hf:/scratch/user7/models/clip", "hf:clip"),
        ("open_clip:ViT-B-16/openai?tokenizer=/scratch/user7/bpe", "open_clip:ViT-B-16/openai?tokenizer=bpe"),
        ("cosmos:runs/exp1/last.pt", "cosmos:runs/exp1/last.pt"),
        ("open_clip:hf-hub:timm/ViT-B-16-SigLIP", "open_clip:hf-hub:timm/ViT-B-16-SigLIP"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
    ],
)
def test_absolute_paths_in_specs_are_cut(spec, expected):
    assert portable_spec(spec) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no /home/me/data/coco/a.jpg, nor 3", "no coco/a.jpg, nor 3"),
        ("missing (/mnt/x/voc): unzip", "missing (voc): unzip"),
        ("and/or 1/2 https://a.b/c/d /m", "and/or 1/2 https://a.b/c/d /m"),
        ("two\nlines \x1b[1m", r"two lines \x1b[1m"),
    ],
)
def test_absolute_paths_in_remarks_are_cut(text, expected):
    assert portable_text(text) == expected


def test_no_published_file_tells_a_folder_of_the_machine(tmp_path):
    secret = "/home/me/secret"
    base = result_of("x", "toybox-retrieval")
    model = replace(
        base.model, label=None, spec=f"cosmos:{secret}/run/last.pt", extra={"source": f"{secret}/run/last.pt"}
    )
    said = (f"left out {secret}/data/a.jpg",)
    result = replace(result_of("x", "toybox-retrieval", model=model), warnings=said)
    write_result(tmp_path / "a", result)
    write_not_run(tmp_path / "b", model.spec, "words", f"no {secret}/data/words.json")
    page = write_report(tmp_path).path.read_text(encoding="utf-8")
    texts = [page, *(render([result], name, [f"not run: no {secret}/data/words.json"]) for name in FORMATS)]
    board = make_board([result])
    texts += [*clip_benchmark_files(board).values(), *model_index_files(board).values()]
    texts += [*clip_benchmark_files(board), *model_index_files(board)]
    assert all("secret" not in text and "/home" not in text for text in texts)
    assert "run/last.pt" in texts[1]


FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1")


@pytest.mark.parametrize("label", FORMULAS)
def test_no_text_of_a_csv_is_a_formula(label):
    for row in csv.DictReader(io.StringIO(render([result_of(label, "toybox-retrieval")], "csv"))):
        assert row["model"][0] not in "=+-@\t\r\n"
        assert label.strip() in row["model"] or "\\" in row["model"]
        float(row["value"])


def test_numbers_of_a_csv_stay_numbers():
    text = csv_text(pd.DataFrame({"value": [-1.5, 2.0], "text": ["-1.5", "-a"], "n": [1, -2]}))
    assert text == "value,text,n\n-1.5,-1.5,1\n2.0,'-a,-2\n"


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_name_with_lines_and_escapes_stays_one_cell(name):
    evil = "a\nb\x1b[31m | c\u202e\u2028<b>`&amp;"
    text = render([result_of(evil, "toybox-retrieval")], name)
    plain = render([result_of("plain", "toybox-retrieval")], name)
    assert len(text.splitlines()) == len(plain.splitlines())
    assert not set(text) & set("\x1b\u202e\u2028")
