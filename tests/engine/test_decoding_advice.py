"""The note where decoding is the limit: only where it was, once for each benchmark, and only advice that is true."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cosmos_eval
from cosmos_eval.datasets.decoders import Decoder
from cosmos_eval.datasets.image_sources import ArrayImage, FileImage
from cosmos_eval.engine import decoding_advice
from cosmos_eval.engine.decoding_advice import decoding_note
from cosmos_eval.engine.worker_count import Workers
from cosmos_eval.models.preprocess import ImagePreprocess
from tests.engine.test_batch_splitter import Notes

PREPARE = (
    "--resized (for every further model of this input size; made by 'cosmos-eval data prepare resized photos "
    "--size {size}')"
)


def engine_with(workers: Workers, preprocess: Any = None, **settings: Any) -> Any:
    """An engine that waited for 70 of 100 seconds."""
    workers.waited, workers.elapsed = settings.pop("times", (70.0, 100.0))
    model = SimpleNamespace(preprocess=preprocess or ImagePreprocess(224))
    parts = {"resized": None, "decoder": Decoder(), "model": model}
    return SimpleNamespace(workers=workers, **(parts | settings))


def used(number: int, fixed: int | None, most: int, short: bool = False) -> Workers:
    return Workers(fixed, most, used=number, is_short_of_shared_memory=short)


def jpegs(folder: Path, size: int) -> list[FileImage]:
    path = folder / f"{size}.jpg"
    Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(path)
    return [FileImage(path.name, path)]


def note(engine: Any, images: Any = (), windows: bool = False) -> str:
    return decoding_note(engine, "photos", images, windows)


def test_the_note_says_how_long_and_names_what_helps_in_this_case(tmp_path: Path):
    engine = engine_with(used(0, 0, 8))
    start = "images waited for decoding 70% of the time (70 s): "
    resized = PREPARE.format(size=224)
    assert note(engine, jpegs(tmp_path, 300)) == f"{start}--workers 8 or {resized} would help"
    large = jpegs(tmp_path, 600)
    assert note(engine, large) == f"{start}--workers 8 or {resized} or --decoder draft (other pixels) would help"
    assert note(engine, large, windows=True) == f"{start}--workers 8 would help"


@pytest.mark.parametrize("times", [(49.0, 100.0), (9.9, 9.9), (0.0, 0.0)])
def test_there_is_no_note_where_the_tower_is_the_limit_or_the_data_are_tiny(times: tuple[float, float]):
    assert note(engine_with(used(0, 0, 8), times=times)) == ""


def test_more_workers_are_advised_only_where_there_are_cores_for_them():
    assert "--workers" not in note(engine_with(used(8, 8, 8)))
    assert "--workers" not in note(engine_with(used(3, None, 8)))  # auto has chosen what is useful
    assert "a larger /dev/shm (docker run --shm-size) or" in note(engine_with(used(1, None, 8, short=True)))


def test_resized_images_are_advised_only_where_the_command_makes_what_the_model_needs():
    def advised(preprocess: Any, **settings: Any) -> bool:
        return "--resized" in note(engine_with(used(8, 8, 8), preprocess, **settings))

    assert advised(ImagePreprocess(336, resize="squash"))
    assert not advised(ImagePreprocess((224, 336)))
    assert not advised(ImagePreprocess(224, resize="longest", fill=128))
    assert not advised(lambda image: torch.zeros(3))
    assert not advised(ImagePreprocess(224), resized="a folder")
    assert not advised(ImagePreprocess(224), decoder=Decoder("draft", (224, 224)))
    line = note(engine_with(used(8, 8, 8), ImagePreprocess(336, resize="squash", interpolation="bilinear")))
    assert "prepare resized photos --size 336 --resize squash --interpolation bilinear'" in line


def test_a_smaller_decoding_is_advised_only_for_large_jpegs(tmp_path: Path):
    engine = engine_with(used(8, 8, 8))
    png = tmp_path / "a.png"
    Image.new("RGB", (900, 900)).save(png)
    array = ArrayImage("a", np.zeros((900, 900, 3), np.uint8))
    for images in ([FileImage("a", png)], [array], [], [FileImage("b", png / "no")]):
        assert "draft" not in note(engine, images)
    assert "draft" not in note(engine_with(used(8, 8, 8), lambda image: torch.zeros(3)), jpegs(tmp_path, 900))


def test_where_nothing_helps_the_note_says_that_all_was_used():
    line = note(engine_with(used(8, None, 8), resized="a folder"))
    assert line == "images waited for decoding 70% of the time (70 s): all usable cores decoded"
    for workers in (used(3, None, 8), used(0, None, 0)):  # memory for three only; a system that spawns processes
        assert note(engine_with(workers, resized="a folder")) == "images waited for decoding 70% of the time (70 s)"


def test_a_run_tells_it_once_for_each_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoding_advice, "WAITED_SECONDS", 0.0)
    monkeypatch.setattr(decoding_advice, "WAITED_SHARE", 0.0)
    reporter = Notes()
    names = ["toybox-retrieval", "toybox-classification"]
    cosmos_eval.evaluate("cosmos:toybox", names, limit=8, workers=0, device="cpu", reporter=reporter)
    told = [line for line in reporter.lines if "waited for decoding" in line]
    assert [line.partition(":")[0] for line in told] == names
    assert all("data prepare resized toybox-" in line for line in told)


def test_no_command_is_advised_that_cannot_read_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoding_advice, "WAITED_SECONDS", 0.0)
    monkeypatch.setattr(decoding_advice, "WAITED_SHARE", 0.0)
    data = cosmos_eval.ClassificationData.from_lists(jpegs(tmp_path, 300), ["a"], name="mine")
    reporter = Notes()
    cosmos_eval.evaluate("cosmos:toybox", data, workers=0, device="cpu", reporter=reporter)
    (told,) = [line for line in reporter.lines if "waited for decoding" in line]
    assert "data prepare" not in told
