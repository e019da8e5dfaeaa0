"""Messages of commands about images: warnings of libraries, the limit of pixels, broken and missing images."""

import io
import json
import os
import warnings
from pathlib import Path

import pytest
from PIL import Image

from cosmos_core.image_files import MAX_PIXELS_VARIABLE
from cosmos_eval.cli.main import run_command
from cosmos_eval.cli.warnings_ import warnings_as_lines
from cosmos_eval.run.evaluate import evaluate
from tests.run.test_failures import COLOURS


def test_a_warning_is_one_line_without_a_path_and_once(capsys):
    before = warnings.showwarning
    with warnings_as_lines():
        for _ in range(2):
            warnings.showwarning(UserWarning("two\nlines \x1b[31m"), UserWarning, "/x/site-packages/PIL/Image.py", 1047)
    assert warnings.showwarning is before
    assert capsys.readouterr().err == "cosmos-eval: a warning of PIL: two lines \\x1b[31m\n"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A definition with one image of 1,200 pixels, where 1,000 are allowed."""
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png")
    (tmp_path / "d.jsonl").write_text(json.dumps({"image": "large.png", "captions": ["a"]}))
    (tmp_path / "d.yaml").write_text(
        "name: d\nversion: 1\ntask: retrieval\ndataset: {reader: jsonl, path: d.jsonl}\n"
        "metrics: {primary: text_to_image_recall@1, k: [1]}\n"
    )
    return tmp_path / "d.yaml"


def test_an_image_above_the_limit_is_read_if_the_option_allows_it(large: Path, monkeypatch, capsys):
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "1000")
    assert run_command(["data", "check", str(large), "--deep"]) == 1
    assert "1,200 pixels, more than the 1,000 that are read" in capsys.readouterr().out
    assert run_command(["data", "check", str(large), "--deep", "--max-image-pixels", "1200"]) == 0
    assert os.environ[MAX_PIXELS_VARIABLE] == "1000"
    run = ["run", "--model", COLOURS, "--benchmark", str(large), "--out", str(large.parent / "out")]
    for workers in ("0", "1"):
        assert run_command([*run, "--workers", workers]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval: ")]
        assert "--max-image-pixels 1200" in line
        assert run_command([*run, "--workers", workers, "--max-image-pixels", "1200", "--no-cache"]) == 0
        capsys.readouterr()
        (large.parent / "out").rename(large.parent / f"out{workers}")
    assert len(evaluate(COLOURS, large, max_image_pixels=1200)) == 1


@pytest.mark.parametrize("value", ["0", "-1", "1" + "0" * 30, "many"])
def test_a_limit_that_is_no_number_of_pixels_is_one_line(large: Path, value: str, capsys):
    assert run_command(["data", "check", str(large), "--max-image-pixels", value]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_pillows_warning_of_a_large_image_is_not_shown(large: Path, monkeypatch, capsys):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert run_command(["data", "check", str(large), "--deep"]) == 0
    captured = capsys.readouterr()
    assert "DecompressionBomb" not in captured.err + captured.out
    assert "Image.py" not in captured.err + captured.out


def test_a_damaged_exif_block_prints_no_warning_of_a_library(large: Path, capsys):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x112] = 3
    Image.new("RGB", (40, 30)).save(stream, "JPEG", exif=exif)
    content = stream.getvalue().replace(b"Exif\0\0MM\0*", b"Exif\0\0XX\0*")
    (large.parent / "large.png").write_bytes(content)
    assert run_command(["data", "check", str(large), "--deep"]) == 0
    assert ".py:" not in capsys.readouterr().err


def test_torchs_warning_is_shown_without_the_line_of_its_source(capsys):
    with warnings_as_lines():
        warnings.warn("slow here (Triggered internally at /pytorch/aten/src/ATen/Context.cpp:80.)", stacklevel=1)
    assert capsys.readouterr().err == "cosmos-eval: a warning: slow here\n"


def test_a_folder_that_several_benchmarks_lack_is_named_once_with_all_of_them(tmp_path: Path, capsys):
    assert run_command(["data", "check", "voc20", "voc21", "--data-root", str(tmp_path)]) == 1
    line, advice = capsys.readouterr().out.splitlines()
    assert line.startswith(f"missing  voc20, voc21 need the folder {tmp_path}/VOCdevkit/VOC2012 or ")
    assert advice == f"note     fetch with `cosmos-eval data fetch voc20 voc21 --data-root {tmp_path}`"
    assert run_command(["run", "--benchmark", "voc20", "--benchmark", "voc21", "--data-root", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("which is not there") == 1


def test_data_check_calls_a_broken_image_a_problem_and_an_absent_one_missing(large: Path, capsys):
    (large.parent / "large.png").write_bytes((large.parent / "large.png").read_bytes()[:60])
    assert run_command(["data", "check", str(large), "--deep"]) == 1
    assert capsys.readouterr().out.startswith("problem  d: cannot decode the image")
    (large.parent / "large.png").unlink()
    (large.parent / "elsewhere").mkdir()
    # the YAML's own folder has the annotations, so the image is reported as missing there
    assert run_command(["data", "check", str(large), "--data-root", str(large.parent / "elsewhere")]) == 1
    output = capsys.readouterr().out
    assert output.startswith(f"missing  d needs 1 image in {large.parent}, found 0; missing: large.png")
    assert output.count("missing  ") == 1
