"""A folder of class folders, or of shards, in place of a definition."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

import cosmos_eval
from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.data_folder import notes_on_folders
from cosmos_eval.run.plan import check_data


def write_classes(folder: Path, *names: str, per_class: int = 2) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(folder / name / f"{i}.png")
    return folder


def write_shards(folder: Path, split: str = "test") -> Path:
    (folder / split).mkdir(parents=True)
    (folder / "classnames.txt").write_text("red fox\ngrey wolf\n")
    (folder / split / "nshards.txt").write_text("1\n")
    with tarfile.open(folder / split / "0.tar", "w") as tar:
        for i in range(4):
            png = io.BytesIO()
            Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(png, "PNG")
            for suffix, content in (("png", png.getvalue()), ("cls", str(i % 2).encode())):
                member = tarfile.TarInfo(f"s{i}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder


def test_class_folders_name_their_classes_and_the_result(tmp_path):
    folder = write_classes(tmp_path / "our pets", "grey_wolf", "red_fox")
    benchmark = load_benchmark(folder)
    assert benchmark.name == "our-pets"
    data = datasets.read(benchmark)
    assert list(data.class_names) == ["grey wolf", "red fox"]
    assert list(data.templates) == ["a photo of a {c}."]
    assert data.labels.tolist() == [0, 0, 1, 1]
    (result,) = cosmos_eval.evaluate("cosmos:toybox", folder)
    assert result.benchmark.name == "our-pets"
    assert 0 <= result.metrics["top1"].value <= 1


def test_names_and_templates_in_the_folder_are_used(tmp_path):
    folder = write_classes(tmp_path / "pets", "c0", "c1")
    before = load_benchmark(folder).fingerprint
    (folder / "classnames.txt").write_text("wolf\nfox\n")
    (folder / "templates.txt").write_text("a drawing of a {c}\n")
    benchmark = load_benchmark(folder)
    data = datasets.read(benchmark)
    assert list(data.class_names) == ["wolf", "fox"]
    assert list(data.templates) == ["a drawing of a {c}"]
    assert benchmark.fingerprint != before


def test_wnids_get_their_names(tmp_path):
    folder = write_classes(tmp_path / "two", "n01440764", "n02123045")
    assert list(datasets.read(load_benchmark(folder)).class_names) == ["tench", "tabby cat"]


@pytest.mark.parametrize("given", ["", "test"])
def test_shards_carry_their_names(tmp_path, given):
    folder = write_shards(tmp_path / "canids")
    benchmark = load_benchmark(folder / given)
    assert benchmark.name == "canids-test"
    data = datasets.read(benchmark)
    assert list(data.class_names) == ["red fox", "grey wolf"]
    assert data.labels.tolist() == [0, 1, 0, 1]
    (folder / "zeroshot_classification_templates.txt").write_text("a {c} here\n")
    assert list(datasets.read(load_benchmark(folder)).templates) == ["a {c} here"]


def test_the_folder_is_read_whatever_the_data_root_is(tmp_path):
    folder = write_classes(tmp_path / "a/pets", "x", "y")
    write_classes(tmp_path / "b/pets", "p", "q", "r")
    root, report = check_data(load_benchmark(folder), tmp_path / "b")
    assert root == folder
    assert report.found["classes"] == 2


def test_a_split_is_named_with_the_folder_above_it(tmp_path):
    folder = write_classes(tmp_path / "pets/val", "x", "y")
    assert load_benchmark(folder).name == "pets-val"
    with pytest.raises(RequestError, match=r"has splits, val, and not classes; give one, such as .*pets/val"):
        load_benchmark(tmp_path / "pets")


def test_a_folder_with_the_name_of_a_shipped_benchmark_gets_another_name(tmp_path):
    assert load_benchmark(write_classes(tmp_path / "cifar100", "x", "y")).name == "cifar100-folder"


def test_a_folder_that_a_shipped_name_hides_is_noted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / "pets", "red", "blue")
    run_command(["data", "check", "pets", "--data-root", "elsewhere"])
    note = "note     pets is the shipped benchmark, and the folder ./pets is not read; write ./pets to evaluate"
    assert note in capsys.readouterr().out
    assert load_benchmark("./pets").name == "pets-folder"
    assert notes_on_folders(["./pets", "dtd"], None) == []
    assert notes_on_folders(["pets"], None, Path("results")) != []
    assert notes_on_folders(["pets"], None, tmp_path / "pets") == []  # a run's own output
    assert notes_on_folders(["pets"], Path()) == []  # where the shipped benchmark's data are expected


def test_folders_without_data_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="has neither a folder for each class nor shards"):
        load_benchmark(tmp_path / "empty")
    folder = write_shards(tmp_path / "canids")
    (folder / "classnames.txt").unlink()
    with pytest.raises(RequestError, match=r"has shards without classnames.txt; write it"):
        load_benchmark(folder)
    (tmp_path / "pets/x").mkdir(parents=True)
    assert run_command(["data", "check", str(tmp_path / "pets")]) == 1
    assert "has no images" in capsys.readouterr().out
