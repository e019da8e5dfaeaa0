"""A user's own YAML that says where its data are: `data fetch` and `run --fetch`, against servers on 127.0.0.1."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.store import read_result
from tests.helpers.fetch_sources import HUB, Internet, image_bytes, small_internet, zip_bytes
from tests.helpers.hub_server import COMMIT
from tests.helpers.tables_on_disk import structs, write_table

COLOURS = "python:tests.helpers.tiny_models:Colours"


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with small_internet(tmp_path / "definitions") as served:
        yield served


def write_definition(path: Path, dataset: dict[str, Any], **more: Any) -> Path:
    value = {
        "name": path.stem,
        "version": 1,
        "task": "classification",
        "dataset": dataset,
        "prompts": {"class_names": "dataset", "templates": ["a {c}"]},
        "metrics": {"primary": "top1"},
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def hub_pets(internet: Internet, tmp_path: Path) -> Path:
    """A definition with the reader `hf-dataset`; the hub has its split and another."""
    for split in ("test", "train"):
        columns = {"image": structs(4), "label": [0, 1, 0, 1]}
        table = write_table(tmp_path / "origin" / f"{split}.parquet", columns, class_names=["cat", "dog"])
        internet.hub.put(f"data/{split}-00000-of-00001.parquet", table.read_bytes())
    return write_definition(
        tmp_path / "own/pets.yaml", {"reader": "hf-dataset", "repository": HUB, "revision": COMMIT, "split": "test"}
    )


def test_the_advised_command_fetches_a_hub_dataset(hub_pets, internet, tmp_path, capsys):
    root = ["--data-root", str(tmp_path / "data")]
    assert run_command(["data", "check", str(hub_pets), *root]) == 1
    printed = capsys.readouterr().out
    assert f"needs Parquet files of {HUB} in {tmp_path}" in printed
    command = shlex.split(printed.split("fetch with `")[1].split("`")[0])
    assert run_command([*command[1:], "--dry-run"]) == 0
    assert "size not known" in capsys.readouterr().out
    assert internet.hub.server.requests == []
    assert run_command([*command[1:], "--yes"]) == 0
    printed = capsys.readouterr().out
    assert "download: about " in printed  # the hub was asked
    assert "size not known" not in printed
    assert "ready    pets: 4 images, 2 classes" in printed


def test_run_fetch_leads_from_a_hub_dataset_to_a_table_without_a_data_root(
    hub_pets, internet, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    command = ["run", "--model", COLOURS, "--benchmark", str(hub_pets), "--out", "out"]
    assert run_command([*command, "--dry-run"]) == 2
    assert "fetch with `cosmos-eval data fetch " in (printed := capsys.readouterr().out)
    assert "pets: missing: " in printed
    assert run_command([*command, "--fetch", "--dry-run"]) == 0
    assert "pets: ready once it is fetched" in (printed := capsys.readouterr().out)
    assert "missing: " not in printed
    assert run_command(command) == 2
    error = capsys.readouterr().err
    advised = error.split("fetch with `")[1].split("`")[0]
    assert "--skip-missing" not in error  # there is no rest to run
    assert run_command([*command, "--fetch", "--yes"]) == 0
    assert "pets" in capsys.readouterr().out
    (part,) = read_result(next(Path("out").rglob("RESULT.json"))).environment.fetched.values()
    assert (part["address"], part["revision"], part["files"]) == (HUB, COMMIT, 1)
    # and the other way: fetched as advised, without --data-root, and read by the same command
    Path("data").rename("away")
    assert run_command([*shlex.split(advised)[1:], "--yes"]) == 0
    assert run_command([*command[:-1], "again"]) == 0


def test_a_gated_hub_dataset_is_one_line(hub_pets, internet, tmp_path, capsys):
    internet.hub.token = "hf_secret"
    assert run_command(["data", "fetch", str(hub_pets), "--data-root", str(tmp_path / "data"), "--yes"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is gated: accept its terms at" in last
    assert not (tmp_path / "data/hf").exists()


def test_an_archive_that_a_definition_names_is_fetched_for_a_run(internet, tmp_path, capsys):
    internet.server.files["pets.zip"] = zip_bytes(
        {f"photos/{kind}/{i}.jpg": image_bytes(i) for i, kind in enumerate(("cat", "dog"))}
    )
    part = {"url": internet.url("pets.zip"), "unpack": {"format": "zip", "into": "pets"}, "terms": "ours"}
    definition = write_definition(
        tmp_path / "own/pets.yaml", {"reader": "image-folder", "path": "pets/photos"}, fetch=[part]
    )
    command = ["run", "--model", COLOURS, "--benchmark", str(definition), "--data-root", str(tmp_path / "data")]
    assert run_command([*command, "--out", str(tmp_path / "out"), "--fetch", "--yes"]) == 0
    printed = capsys.readouterr().err
    assert "over plain http, no checksum is known" in printed
    assert "terms: ours" in printed
    (result,) = (tmp_path / "out").rglob("RESULT.json")
    assert [part["address"] for part in read_result(result).environment.fetched.values()] == [internet.url("pets.zip")]
