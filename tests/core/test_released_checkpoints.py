"""Released checkpoints: fetched from the hub by name, or read from its cache."""

from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from cosmos_core import COSMOS, load_checkpoint, released
from cosmos_core.errors import RequestError
from tests.core.checkpoint_files import refusal, same, write


def test_the_ten_released_checkpoints_are_known():
    assert len(released.RELEASED) == 10
    assert released.RELEASED["vitb16-merged30m"].file == "cosmos_vitb16_merged30m.pt"
    assert released.RELEASED["vitb32-cc3m"].arch == "ViT-B-32"


def test_a_released_name_is_fetched_from_the_hub_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    model = COSMOS.from_config("toybox")
    asked = []

    def download(repository: str, file: str, local_files_only: bool = False) -> str:
        asked.append((repository, file, local_files_only))
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        return str(write(tmp_path / file, model, model, config=model.config))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setitem(released.RELEASED, "toy", released.Released("toy", "toybox", "toybox", "toy.pt"))
    assert same(load_checkpoint("toy"), model)
    assert asked == [("sankim2/cosmos", "toy.pt", True), ("sankim2/cosmos", "toy.pt", False)]


def test_a_released_checkpoint_in_the_cache_is_loaded_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import huggingface_hub

    model = COSMOS.from_config("toybox")

    def download(repository: str, file: str, local_files_only: bool = False) -> str:
        assert local_files_only
        return str(write(tmp_path / file, model, model, config=model.config))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setitem(released.RELEASED, "toy", released.Released("toy", "toybox", "toybox", "toy.pt"))
    assert same(load_checkpoint("toy"), model)


def test_without_a_network_a_released_name_gives_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import huggingface_hub

    def offline(repository: str, file: str, local_files_only: bool = False) -> str:
        raise LocalEntryNotFoundError("cannot find the file in the cache\nand no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    line = refusal("vitb16-cc3m")
    assert "vitb16-cc3m is not in the local cache" in line
    assert "cosmos_vitb16_cc3m.pt of sankim2/cosmos" in line
    with pytest.raises(RequestError, match="no released checkpoint 'x'"):
        released.fetch("x")
