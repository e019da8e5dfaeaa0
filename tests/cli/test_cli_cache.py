"""`cosmos-eval cache`, and the options of `run` that go with it."""

from pathlib import Path

import pytest

from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.fetch.plan_text import size_text
from tests.helpers.worlds import captions_world, classes_world

COLOURS = "python:tests.helpers.tiny_models:Colours"
CONSTANT = "python:tests.helpers.tiny_models:Constant"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    captions_world(folder)
    classes_world(folder)
    return folder


def run(root: Path, out: Path, *more: str, model: str = COLOURS) -> int:
    benchmarks = [part for name in ("pairs", "classes") for part in ("--benchmark", str(root / f"{name}.yaml"))]
    return run_command(["run", "--model", model, *benchmarks, "--out", str(out), *more])


@pytest.fixture
def said(capsys):
    """A command under `cache` on the store of OUT: its exit code, and what it prints."""

    def call(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run_command(["cache", *words])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out + shown.err

    return call


def test_a_run_keeps_its_embeddings_and_the_list_shows_them(root, tmp_path, said, capsys):
    out = tmp_path / "out"
    for model in (COLOURS, CONSTANT):
        assert run(root, out, model=model) == 0
    size = sum(path.stat().st_size for path in (out / ".embeddings").glob("*/*-*"))
    assert f"Features for later runs: {size_text(size)} in {out / '.embeddings'} " in capsys.readouterr().err
    code, text = said("list", "--cache", str(out))
    assert code == 0
    assert text.splitlines()[-1] == f"{size_text(size)} in {out / '.embeddings'}"
    rows = {line.split("\t")[1]: line.split("\t") for line in text.splitlines() if "\t" in line}
    assert rows[COLOURS][3:6] == ["fp32 cpu", "12", "15"]
    assert rows[CONSTANT][4:6] == ["12", "15"]
    assert rows[COLOURS][2] != rows[CONSTANT][2]
    assert said("list", "--cache", str(out / ".embeddings"))[1] == text
    assert said("verify", "--cache", str(out)) == (0, f"16 files, 0 damaged in {out / '.embeddings'}\n")


def test_damage_is_named_with_exit_code_1_dropped_when_asked_and_mended_by_a_run(root, tmp_path, said):
    out = tmp_path / "out"
    assert run(root, out) == 0
    path = sorted(out.rglob("pictures-*.safetensors"))[0]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, text = said("verify", "--cache", str(out))
    assert code == 1
    assert (
        f"damaged  {path.relative_to(out / '.embeddings')}: its content does not match the checksum in its name" in text
    )
    assert path.exists()
    code, text = said("verify", COLOURS, "--drop", "--cache", str(out))
    assert code == 1
    assert text.startswith("removed  ")
    assert not path.exists()
    assert said("verify", "--cache", str(out))[0] == 0
    assert run(root, out, "--overwrite") == 0
    assert path.read_bytes() == content


def test_clear_takes_one_model_or_all(root, tmp_path, said):
    out = tmp_path / "out"
    for model in (COLOURS, CONSTANT):
        assert run(root, out, model=model) == 0
    code, text = said("clear", CONSTANT, "--cache", str(out))
    assert code == 0
    assert "of 1 model removed" in text
    code, text = said("list", "--cache", str(out))
    assert COLOURS in text
    assert CONSTANT not in text
    assert said("clear", "--cache", str(out))[0] == 0
    code, text = said("list", "--cache", str(out))
    assert code == 2
    assert "no feature cache in" in text
    assert sorted(path.name for path in out.rglob("RESULT.json")) == ["RESULT.json"] * 4


def test_export_writes_a_folder_that_run_takes(root, tmp_path, said):
    out, vectors = tmp_path / "out", tmp_path / "vectors"
    assert run(root, out) == 0
    code, text = said("export", COLOURS, "--out", str(vectors), "--cache", str(out))
    assert (code, text) == (0, f"12 images and 15 texts written to {vectors}; use it as embeddings:{vectors}\n")
    assert run(root, tmp_path / "elsewhere", model=f"embeddings:{vectors}") == 0
    code, text = said("export", "nobody", "--out", str(vectors), "--cache", str(out))
    assert code == 2
    assert COLOURS in text


def test_two_precisions_of_a_model_are_told_apart_by_their_ids(root, tmp_path, said):
    out = tmp_path / "out"
    for precision in ("fp32", "bf16"):
        assert run(root, tmp_path / precision, "--precision", precision, "--cache", str(out)) == 0
    code, text = said("export", COLOURS, "--out", str(tmp_path / "v"), "--cache", str(out))
    assert code == 2
    assert "matches 2 models in" in text
    _, text = said("list", "--cache", str(out))
    (line,) = [line for line in text.splitlines() if "bf16" in line]
    assert said("export", line.split("\t")[0], "--out", str(tmp_path / "v"), "--cache", str(out))[0] == 0


def test_no_cache_keeps_nothing_and_a_limit_is_kept(root, tmp_path, capsys):
    assert run(root, tmp_path / "none", "--no-cache") == 0
    assert not (tmp_path / "none" / ".embeddings").exists()
    assert run(root, tmp_path / "small", "--cache-limit", "0.000002") == 0
    kept = list((tmp_path / "small" / ".embeddings").glob("*/*-*"))
    assert sum(path.stat().st_size for path in kept) <= 2000
    capsys.readouterr()
    assert run(root, tmp_path / "both", "--no-cache", "--cache", str(tmp_path)) == 2
    assert "exclude each other" in capsys.readouterr().err
    for number in ("0", "-1", "nan", "inf", "1e+300"):
        assert run(root, tmp_path / "zero", "--cache-limit", number) == 2
        assert f"must be a number of GB above 0, got {number}" in capsys.readouterr().err
