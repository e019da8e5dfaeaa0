"""`cosmos-eval show`: what it writes, what it refuses, and that it says where the numbers come from."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.cli.main import run_command
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.iou import count_class_pixels, segmentation_metrics
from cosmos_eval.models import load_model
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.task_registry import TASKS
from cosmos_eval.results.sections import BenchmarkSection
from cosmos_eval.results.store import write_result
from cosmos_eval.show import segmentation as showing
from cosmos_eval.show.segmentation import choose, file_names, find_result, per_class, show_segmentation
from cosmos_eval.tasks.segmentation.measure import SegmentedImage, predict_label_maps
from tests.helpers.segmentation_on_disk import small, write_segmentation
from tests.results.test_results import make_result


class Patches:
    """A model that is never asked: its label maps are written down."""

    spec = "python:some:patches"
    device = torch.device("cpu")
    digest = "d1ce" * 16

    def encode_patches(self, x, attention="vanilla"):
        raise AssertionError


def made_up(benchmark, data, engine) -> Iterator[SegmentedImage]:
    """Right but for the first row, which is background."""
    for i, mask in enumerate(data.masks):
        truth = mask.load()
        predicted = np.where(truth == 255, 0, truth)
        predicted[0] = 0
        yield SegmentedImage(i, predicted, truth, count_class_pixels(predicted, truth, len(data.class_names)))


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """Twelve toybox scenes of 32 pixels as a definition of one's own."""
    path = tmp_path / "small.yaml"
    record = {
        "base": "toybox-segmentation",
        "name": "small",
        "version": 1,
        "dataset": {"scenes": 12, "size": 32, "expected": {"images": 12}},
        "segmentation": {"crop": 0, "short_side": None},
    }
    path.write_text(yaml.safe_dump(record))
    return path


@pytest.fixture
def stand_in(monkeypatch) -> None:
    """Label maps that are known, so that what is written can be."""
    monkeypatch.setattr("cosmos_eval.tasks.segmentation.measure.predict_label_maps", made_up)
    monkeypatch.setattr(showing, "load_model", lambda spec, device: Patches())
    monkeypatch.setattr(showing, "require_models", lambda specs, fetch: None)


def show(definition: Path, out: Path, *arguments: str) -> int:
    command = ["show", "segmentation", "--model", Patches.spec, "--benchmark", str(definition), "--out", str(out)]
    return run_command([*command, *arguments])


def written(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


@pytest.mark.usefixtures("stand_in")
def test_four_images_share_a_figure_and_the_bars_say_that_they_are_of_these_only(definition, tmp_path, capsys):
    out = tmp_path / "shown"
    assert show(definition, out) == 0
    assert written(out) == ["iou.png", "overlays.png"]
    said = capsys.readouterr().out
    assert re.match(r"4 of 12 images: mIoU \d+\.\d", said)
    assert f"Overlays: {out}/overlays.png" in said
    assert f"{out}/iou.png, measured on the 4 images shown only" in said


@pytest.mark.usefixtures("stand_in")
def test_all_images_have_a_figure_and_a_mask_each(definition, tmp_path, capsys):
    out = tmp_path / "shown"
    assert show(definition, out, "--images", "0", "--masks") == 0
    data = datasets.read(load_benchmark(definition))
    names = [f"{image.key}.png" for image in data.images]
    expected = [*(f"masks/{name}" for name in names), *(f"overlays/{name}" for name in names), "iou.png"]
    assert written(out) == sorted(expected)
    said = capsys.readouterr().out
    assert f"Predicted masks: {out}/masks (12 files" in said
    assert f"Overlays: {out}/overlays (12 files" in said
    for made in made_up(None, data, None):
        with Image.open(out / "masks" / names[made.index]) as image:
            assert image.mode == "P"
            assert np.array_equal(np.asarray(image), made.predicted_labels)
            assert image.getpalette()[: 3 * len(data.palette)] == [value for colour in data.palette for value in colour]


@pytest.mark.usefixtures("stand_in")
def test_named_images_are_shown_once_and_their_miou_is_over_them(definition, tmp_path):
    data = datasets.read(load_benchmark(definition))
    keys = [data.images[i].key for i in (7, 2, 7)]
    shown = show_segmentation(Patches(), definition, tmp_path / "shown", keys=keys)
    assert (shown.images, shown.total) == (2, 12)
    areas = sum(made.areas for made in made_up(None, data, None) if made.index in (2, 7))
    iou = [i / (p + t - i) for i, p, t in areas.T.tolist() if p + t]
    assert shown.miou == pytest.approx(sum(iou) / len(iou))


@pytest.mark.usefixtures("stand_in")
def test_only_some_of_many_images_are_drawn_and_every_one_has_its_mask(definition, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(showing, "DRAWN", 2)
    assert show(definition, tmp_path / "shown", "--images", "0", "--masks") == 0
    assert len(list((tmp_path / "shown" / "masks").rglob("*.png"))) == 12
    assert len(list((tmp_path / "shown" / "overlays").rglob("*.png"))) == 2
    assert "2 files, spread evenly" in capsys.readouterr().out


@pytest.mark.usefixtures("stand_in")
def test_a_mask_that_cannot_be_written_whole_leaves_the_one_that_was_there(definition, tmp_path, monkeypatch):
    out = tmp_path / "shown"
    assert show(definition, out, "--images", "1", "--masks") == 0
    (mask,) = (out / "masks").rglob("*.png")
    before = mask.read_bytes()

    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as stream:
            stream.write(content[:10])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert show(definition, out, "--images", "1", "--masks") == 2
    assert mask.read_bytes() == before
    assert [path.name for path in mask.parent.iterdir()] == [mask.name]


@pytest.mark.usefixtures("stand_in")
def test_bars_come_from_the_result_of_the_same_model_and_protocol(definition, tmp_path, capsys):
    benchmark = load_benchmark(definition)
    metric = make_result().metrics["top1"]
    same = replace(
        make_result(),
        model=replace(make_result().model, digest=Patches.digest),
        benchmark=BenchmarkSection("small", 1, "segmentation", benchmark.fingerprint),
        metrics={"miou": metric, "red/iou": replace(metric, value=0.5, low=0.4, high=0.6)},
        primary="miou",
    )
    runs = tmp_path / "runs"
    write_result(runs / "other", replace(same, model=replace(same.model, digest="0" * 64)))
    assert find_result(runs, Patches(), benchmark, "fp32") is None
    write_result(runs / "limited", replace(same, limit=4))
    write_result(runs / "whole", same)
    (runs / "broken").mkdir()
    (runs / "broken" / "RESULT.json").write_text("{")
    path, found = find_result(runs, Patches(), benchmark, "bf16")
    assert (path.parent.name, found) == ("whole", same)
    assert per_class(found) == (["red"], [0.5], [(0.4, 0.6)])
    assert show(definition, tmp_path / "shown", "--results", str(runs)) == 0
    known_by = same.dataset.fingerprint[:8]
    assert f"measured on 4 images (data {known_by}), fp32: {runs / 'whole' / 'RESULT.json'}" in capsys.readouterr().out


@pytest.mark.usefixtures("stand_in")
def test_bars_are_of_the_images_shown_where_no_result_fits(definition, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    assert show(definition, tmp_path / "shown", "--results", str(tmp_path / "runs")) == 0
    assert f"no result of this model and benchmark in {tmp_path / 'runs'}" in capsys.readouterr().out


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--key", "toybox-test-0-9999"], "no image 'toybox-test-0-9999' among its 12"),
        (["--key", "a", "--images", "3"], "give one of the two"),
        (["--results", "no/such/folder"], "no folder no/such/folder"),
        (["--benchmark", "toybox-classification"], "has the task classification"),
        (["--benchmark", "toybox"], "is a suite"),
        (["--benchmark", "voc21", "--data-root", "no/such/data"], "val.txt)"),
        (["--images", "-1"], "--images"),
        (["--images", "2", "--pictures", "2"], "former name of --images; give one of the two"),
        (["--key", "a", "--pictures", "3"], "give one of the two"),
        (["--precision", "fp8"], "fp8"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_a_bad_request_is_one_line_and_exit_2(definition, tmp_path, capsys, arguments, said):
    assert show(definition, tmp_path / "shown", *arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "shown").exists()


def test_a_real_model_s_label_maps_are_what_is_saved(definition, tmp_path):
    out = tmp_path / "shown"
    model = load_model("cosmos:toybox")
    shown = show_segmentation(model, definition, out, images=2, masks=True, batch_size=3)
    benchmark = load_benchmark(definition)
    data = datasets.read(benchmark)
    own = replace(data, images=data.images[:7:6], masks=data.masks[:7:6])  # the first and the seventh of twelve
    total = 0
    for made in predict_label_maps(benchmark, own, Engine(model, batch_size=3)):
        with Image.open(out / "masks" / f"{own.images[made.index].key}.png") as image:
            assert np.array_equal(np.asarray(image), made.predicted_labels)
        total = total + made.areas
    assert shown.miou == pytest.approx(segmentation_metrics(total)["miou"])


@pytest.mark.parametrize("name", ["cityscapes", "voc20"])
@pytest.mark.usefixtures("stand_in")
def test_datasets_on_disk_keep_their_folders_and_their_colours(tmp_path, name):
    root, out = tmp_path / "data", tmp_path / "shown"
    write_segmentation(root, name)
    benchmark = small(name)
    shown = show_segmentation("python:some:patches", benchmark, out, root, images=0, masks=True)
    assert shown.images == shown.total == 3
    data = datasets.read(benchmark, root)
    assert any((mask.load() == 255).any() for mask in data.masks)
    for made in made_up(None, data, None):
        with Image.open((out / "masks" / data.images[made.index].key).with_suffix(".png")) as image:
            assert np.array_equal(np.asarray(image), made.predicted_labels)
            assert image.getpalette()[: 3 * len(data.palette)] == [value for colour in data.palette for value in colour]


def test_a_model_without_patches_is_refused(definition, tmp_path, capsys):
    command = ["show", "segmentation", "--model", "python:tests.helpers.tiny_models:Colours"]
    assert run_command([*command, "--benchmark", str(definition), "--out", str(tmp_path / "shown")]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]  # after what was encoded meanwhile
    assert line.startswith("cosmos-eval: python:tests.helpers.tiny_models:Colours")
    assert "patches" in line


@pytest.mark.usefixtures("stand_in")
def test_the_former_name_of_images_is_a_hidden_alias(definition, tmp_path, capsys):
    assert show(definition, tmp_path, "--pictures", "3") == 0
    assert capsys.readouterr().out.startswith("3 of 12 images")
    assert run_command(["show", "segmentation", "--help"]) == 0
    told = capsys.readouterr().out
    assert "--images" in told
    assert "--pictures" not in told


def test_images_are_spread_evenly():
    keys = [f"k{i}" for i in range(10)]
    assert choose(keys, (), 4, "b") == [0, 2, 5, 7]
    assert choose(keys, (), 0, "b") == list(range(10))
    assert choose(keys, (), 99, "b") == list(range(10))
    with pytest.raises(RequestError, match="similar keys: k1"):
        choose(keys, ["k11"], 4, "b")


def test_files_are_named_by_their_images():
    keys = ["a/x.jpg", "a/y.JPG", "y.v2", "b/z.png", "b/z.jpg"]
    assert file_names(keys) == ["a/x.png", "a/y.png", "y.v2.png", "b/z.png.png", "b/z.jpg.png"]
    with pytest.raises(RequestError, match="outside"):
        file_names(["../up.jpg"])


def test_every_task_with_images_to_show_is_a_task():
    from cosmos_eval.cli.show import app

    assert {command.callback.__name__ for command in app.registered_commands} <= {
        *TASKS.built_in,
        "attention",
        "geometry",
        "model",
    }
