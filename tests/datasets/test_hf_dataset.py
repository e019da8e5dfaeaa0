"""The reader `hf-dataset`: one commit, one split, only what is on disk."""

from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.fetch.hub import list_files, remote_of
from cosmos_eval.datasets.fetch.transfer import Network, download
from cosmos_eval.datasets.hf_dataset import needed_files
from cosmos_eval.protocol.benchmark import Benchmark
from tests.helpers.datasets_on_disk import define, write_image
from tests.helpers.hub_server import COMMIT, serving_hub
from tests.helpers.tables_on_disk import structs, write_table

FOLDER = f"hf/somebody--pets/{COMMIT}"


def definition(root: Path, task: str = "retrieval", **options: Any) -> Benchmark:
    options = {"repository": "somebody/pets", "revision": COMMIT, **options}
    return define(root, task, {"reader": "hf-dataset", **options}, {"templates": ["{c}"]} if task[0] == "c" else None)


def put(root: Path, *names: str) -> None:
    for i, name in enumerate(names):
        write_table(root / FOLDER / name, {"image": structs(2, 2 * i), "text": [f"{name} 0", f"{name} 1"]})


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        datasets.load(definition(root, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_split_of_a_dataset_on_disk_is_read(tmp_path: Path):
    put(tmp_path, "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet")
    data = datasets.load(definition(tmp_path))
    assert data.counts() == {"images": 2, "texts": 2}
    assert data.images[1].key == "data/test-00000-of-00001.parquet:1"
    assert datasets.load(definition(tmp_path, split="train")).texts[0] == "data/train-00000-of-00001.parquet 0"
    files = ["data/*"]
    assert len(datasets.load(definition(tmp_path, files=files)).texts) == 4


def test_configurations_are_folders(tmp_path: Path):
    put(tmp_path, "default/test/0000.parquet", "small/test/0000.parquet")
    assert "several configurations in" in refusal(tmp_path)
    assert "default, small; give dataset.config" in refusal(tmp_path)
    assert datasets.load(definition(tmp_path, config="small")).texts[0] == "small/test/0000.parquet 0"
    assert "no Parquet files of the configuration 'large'" in refusal(tmp_path, config="large")


def test_paths_in_columns_are_read_below_the_dataset(tmp_path: Path):
    write_image(tmp_path / FOLDER / "images/a.png")
    write_table(tmp_path / FOLDER / "data/test.parquet", {"image": ["images/a.png"], "text": ["one"]})
    assert datasets.load(definition(tmp_path)).images[0].key == "images/a.png"
    write_image(tmp_path / "b.png")
    write_table(tmp_path / FOLDER / "data/test.parquet", {"image": ["../../../b.png"], "text": ["one"]})
    assert "leads out of the data root" in refusal(tmp_path)


@pytest.mark.parametrize("revision", ["main", COMMIT[:12], COMMIT.upper(), COMMIT + "0", "refs/convert/parquet"])
def test_a_revision_that_is_no_full_commit_is_refused_with_how_to_find_it(tmp_path: Path, revision: str):
    put(tmp_path, "data/test.parquet")
    message = refusal(tmp_path, revision=revision)
    assert "must be a full commit of 40 hexadecimal digits" in message
    assert "'git ls-remote https://huggingface.co/datasets/somebody/pets HEAD refs/convert/parquet'" in message


@pytest.mark.parametrize(
    "repository", ["../x", "a/b/c", "a--b/c", "a/..", "/etc", "", "a b/c", "https://x.org/a", "a/b\n"]
)
def test_a_repository_that_is_no_name_is_refused(tmp_path: Path, repository: str):
    assert "must be the owner and name of a dataset" in refusal(tmp_path, repository=repository)


def test_what_is_missing_is_told_with_what_to_do(tmp_path: Path):
    for prepare in (lambda: None, lambda: put(tmp_path, "data/train-00000-of-00001.parquet")):
        prepare()
        message = refusal(tmp_path, needs="pets of somebody")
        assert (
            f"needs Parquet files of somebody/pets in {tmp_path / FOLDER}, which is not there (pets of some" in message
        )


def test_needed_files(tmp_path: Path):
    needed = needed_files(definition(tmp_path))
    assert (needed.repository, needed.revision) == ("somebody/pets", COMMIT)
    assert (needed.patterns, needed.folder) == (("*test*.parquet",), FOLDER)
    assert needed_files(definition(tmp_path, files=["a/*", "b.parquet"])).patterns == ("a/*", "b.parquet")
    with pytest.raises(RequestError, match="must be a full commit"):
        needed_files(definition(tmp_path, revision="main"))
    paths = ["README.md", "pets.py", "default/test/0000.parquet", "default/train/0000.parquet", "latest/0000.parquet"]
    assert needed.select(paths) == ["default/test/0000.parquet"]
    with pytest.raises(RequestError, match=r"and somebody/pets at 0123456789ab has none; give the commit of refs/conv"):
        needed.select(["README.md", "pets.py"])
    with pytest.raises(RequestError, match="several configurations"):
        needed.select([*paths, "other/test/0000.parquet"])


def test_needed_files_of_all_splits_of_a_task_that_learns(tmp_path: Path):
    benchmark = definition(tmp_path)
    benchmark.dataset["splits"] = {"train": {"split": "train"}}
    needed = needed_files(benchmark)
    assert needed.patterns == ("*test*.parquet", "*train*.parquet")
    assert needed.select(["test.parquet", "train.parquet", "dev.parquet"]) == ["test.parquet", "train.parquet"]


def test_from_a_hub_to_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What `data fetch` does: list, select, download, then read; other files of the repository are not fetched."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", "/nonexistent")
    origin = tmp_path / "origin"
    put(origin, "default/test/0000.parquet", "default/train/0000.parquet")
    paths = (origin / FOLDER).rglob("*.parquet")
    files = {path.relative_to(origin / FOLDER).as_posix(): path.read_bytes() for path in paths}
    benchmark = definition(tmp_path, repository="somebody/wds_tiny")
    needed = needed_files(benchmark)
    with serving_hub({**files, "pets.py": b"raise SystemExit('loading scripts never run')"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.server.address)
        listed = {file.path: file for file in list_files(needed.repository, needed.revision)}
        for path in needed.select(list(listed)):
            remote = remote_of(needed.repository, needed.revision, listed[path])
            download(remote, tmp_path / needed.folder / path, network=Network(retries=0))
    folder = tmp_path / "hf/somebody--wds_tiny" / COMMIT
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["0000.parquet"]
    assert datasets.load(benchmark).texts == ["default/test/0000.parquet 0", "default/test/0000.parquet 1"]
