"""Images that were resized in advance give features bit-identical to those of the original images."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets import resized as module
from cosmos_eval.datasets.image_sources import ArrayImage, FileImage
from cosmos_eval.datasets.resized import HEADER, INDEX, read_resized, recipe_digest, write_resized
from cosmos_eval.engine import Engine
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.run.evaluate import evaluate
from tests.datasets.test_decoders import encoded, photograph
from tests.engine.test_batch_splitter import Notes, Small
from tests.engine.test_image_tower import Whole
from tests.helpers.worlds import captions_world


def write_photographs(folder, count=7):
    images = []
    for i in range(count):
        path = folder / f"{i}.jpg"
        path.write_bytes(encoded(photograph(i, 40 + i, 31)))
        images.append(FileImage(path.name, path))
    return images


def write(images, folder, **settings):
    preprocess = ImagePreprocess(**{"size": 8, **settings})
    return write_resized(images, preprocess.geometry(), preprocess.pixels, folder)


def test_the_files_are_the_same_for_any_number_of_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PER_SHARD", 3)
    images = write_photographs(tmp_path)
    preprocess = ImagePreprocess(8)
    for workers in (1, 3):
        folder = tmp_path / f"{workers}"
        assert write_resized(images, preprocess.geometry(), preprocess.pixels, folder, workers=workers) == (7, 0)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_a_bad_image_ends_all_threads_and_leaves_no_index(tmp_path):
    images = write_photographs(tmp_path)
    images[2].path.write_bytes(b"no image")
    preprocess = ImagePreprocess(8)
    with pytest.raises(RequestError, match=r"2\.jpg"):
        write_resized(images, preprocess.geometry(), preprocess.pixels, tmp_path / "small", workers=3)
    assert not (tmp_path / "small" / INDEX).exists()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("settings", [{"size": 8}, {"size": (6, 9)}, {"size": 8, "resize": "longest", "fill": 9}])
def test_features_are_those_of_the_original_images(tmp_path, monkeypatch, workers, settings):
    monkeypatch.setattr(module, "PER_SHARD", 3)
    images = write_photographs(tmp_path)
    assert write(images, tmp_path / "small", **settings) == (7, 0)
    assert len(list((tmp_path / "small").glob("*.tar"))) == 3
    for image in images:  # the digests are known, and the pixels of the files are not needed any more
        image.path.write_bytes(b"")
    models = [Whole(), Whole()]
    for model in models:
        model.preprocess = ImagePreprocess(**settings)  # type: ignore[method-assign]
    reporter = Notes()
    engine = Engine(models[0], batch_size=4, workers=workers, resized=tmp_path / "small", reporter=reporter)
    features = engine.image_features(images)
    assert reporter.lines == []
    direct = Engine(models[1], batch_size=4).image_features(write_photographs(tmp_path))
    assert torch.equal(features, direct)
    assert torch.equal(torch.cat(models[0].seen), torch.cat(models[1].seen))


def test_shards_are_webdatasets_and_record_how_they_were_made(tmp_path):
    images = write_photographs(tmp_path, 3)
    write(images, tmp_path / "small")
    with tarfile.open(tmp_path / "small/resized-00000.tar") as tar:
        assert tar.pax_headers[HEADER] == recipe_digest(read_resized(tmp_path / "small").recipe)
        members = tar.getmembers()
        assert [member.name for member in members] == [f"{image.digest()}.npy" for image in images]
        for member, image in zip(members, images, strict=True):
            stream = tar.extractfile(member)
            assert stream is not None
            pixels = np.load(io.BytesIO(stream.read()), allow_pickle=False)
            assert np.array_equal(pixels, ImagePreprocess(8).pixels(image.load()))


def test_images_are_added_to_those_that_are_stored(tmp_path):
    images = write_photographs(tmp_path)
    assert write(images[:4], tmp_path / "small") == (4, 0)
    before = (tmp_path / "small/resized-00000.tar").read_bytes()
    assert write([*images, images[0]], tmp_path / "small") == (3, 5)
    assert write(images, tmp_path / "small") == (0, 7)
    assert (tmp_path / "small/resized-00000.tar").read_bytes() == before
    resized = read_resized(tmp_path / "small")
    for image in images:
        assert np.array_equal(resized.pixels(image.digest()), ImagePreprocess(8).pixels(image.load()))


def test_a_killed_run_can_be_repeated(tmp_path):
    images = write_photographs(tmp_path)
    write(images[:2], tmp_path / "small")
    (tmp_path / "small/resized-00001.tar").write_bytes(b"half of a shard")
    assert write(images, tmp_path / "small") == (5, 2)
    assert all(read_resized(tmp_path / "small").pixels(image.digest()).shape == (8, 8, 3) for image in images)


def test_images_that_are_not_stored_are_decoded_with_a_note(tmp_path):
    images = write_photographs(tmp_path)
    write(images[:4], tmp_path / "small")
    reporter = Notes()
    features = Engine(Whole(), resized=tmp_path / "small", reporter=reporter).image_features(images)
    assert reporter.lines == [f"3 of 7 images are not in {tmp_path / 'small'} and are decoded"]
    assert torch.equal(features, Engine(Whole()).image_features(images))


def test_another_preprocessing_is_refused_with_the_differences(tmp_path, monkeypatch):
    images = write_photographs(tmp_path, 2)
    small = tmp_path / "small"
    write(images, small, interpolation="bilinear", size=9)
    with pytest.raises(RequestError) as caught:
        Engine(Whole(), resized=small)
    message = (
        "(image_size 9 there, 8 here; interpolation bilinear there, bicubic here); make others, or leave --resized out"
    )
    assert str(caught.value).endswith(message)
    with pytest.raises(RequestError, match="resized in another way than this run needs"):
        write(images, small)
    with pytest.raises(RequestError, match="has a preprocessing of its own"):
        Engine(Small(9, 9), resized=small)
    write(images, tmp_path / "mine")
    monkeypatch.setattr(module.metadata, "version", lambda name: "0.1")
    with pytest.raises(RequestError, match=r"pillow [\d.]+ there, 0.1 here"):
        Engine(Whole(), resized=tmp_path / "mine")


def test_mean_and_deviation_may_differ(tmp_path):
    images = write_photographs(tmp_path, 2)
    write(images, tmp_path / "small")
    model, other = Whole(), Whole()
    preprocess = ImagePreprocess(8, mean=(0.5,) * 3, std=(0.5,) * 3)
    model.preprocess = other.preprocess = preprocess  # type: ignore[method-assign]
    features = Engine(model, resized=tmp_path / "small").image_features(images)
    assert torch.equal(features, Engine(other).image_features(images))


def test_a_damaged_shard_is_refused(tmp_path):
    images = write_photographs(tmp_path, 2)
    write(images, tmp_path / "small")
    path = tmp_path / "small/resized-00000.tar"
    content = bytearray(path.read_bytes())
    content[1536 + 200] ^= 1
    resized = read_resized(tmp_path / "small")
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"resized-00000\.tar is damaged or was changed"):
        resized.pixels(images[0].digest())
    resized.locations[images[0].digest()] = (
        0,
        0,
        10,
        module._checksum(bytes(content[:10])),
    )  # no array
    with pytest.raises(RequestError, match="is damaged or was changed"):
        resized.pixels(images[0].digest())
    path.unlink()
    with pytest.raises(RequestError, match=r"cannot read .*resized-00000\.tar"):
        resized.pixels(images[0].digest())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"form": "x"}', '{"form": "cosmos-eval resized 1", "made": {}}'])
def test_an_invalid_index_is_refused(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(RequestError, match="is not an index of resized images"):
        read_resized(tmp_path)


def test_a_folder_without_index_is_refused(tmp_path):
    with pytest.raises(RequestError, match="data prepare resized BENCHMARK"):
        read_resized(tmp_path)


def test_another_decoder_and_resized_images_exclude_each_other(tmp_path):
    write(write_photographs(tmp_path, 1), tmp_path / "small")
    with pytest.raises(RequestError, match="give it without --decoder draft"):
        Engine(Whole(), resized=tmp_path / "small", decoder="draft")


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    images = [*write_photographs(tmp_path, 1), ArrayImage("a", np.zeros((9, 9, 3), np.uint8))]
    (tmp_path / "b").write_bytes(b"nothing")
    broken = FileImage("b", tmp_path / "b")
    with pytest.raises(RequestError, match="cannot decode the image"):
        write([*images, broken], tmp_path / "small")
    assert not (tmp_path / "small" / INDEX).exists()


def test_the_command_writes_what_a_run_reads(tmp_path, capsys):
    definition = captions_world(tmp_path)
    small = tmp_path / "small"
    command = ["data", "prepare", "resized", str(definition), "--data-root", str(tmp_path), "--out", str(small)]
    assert run_command([*command, "--size", "8"]) == 0
    assert "pairs: 6 images written to" in capsys.readouterr().out
    assert json.loads((small / INDEX).read_text())["made"]["geometry"] == ImagePreprocess(8).geometry()
    direct, from_resized = (evaluate(Whole(), definition, tmp_path, resized=folder)[0] for folder in (None, small))
    assert direct.metrics == from_resized.metrics
    assert direct.identity == from_resized.identity
    assert set(from_resized.environment.record()) - set(direct.environment.record()) == {"resized"}
    assert run_command(["data", "prepare", "resized"]) == 2
    assert "resized needs the benchmarks" in capsys.readouterr().err
    assert run_command(["data", "prepare", "toybox", "more"]) == 2
    assert "takes no further names" in capsys.readouterr().err


def test_grey_and_palette_images_are_stored_as_the_model_gets_them(tmp_path):
    images = []
    for i, image in enumerate((photograph().convert("L"), photograph().quantize(16))):
        image.save(tmp_path / f"{i}.png")
        images.append(FileImage(f"{i}", tmp_path / f"{i}.png"))
    write(images, tmp_path / "small")
    resized = read_resized(tmp_path / "small")
    for source in images:
        with Image.open(source.path) as image:
            expected = ImagePreprocess(8).pixels(image)
        assert np.array_equal(resized.pixels(source.digest()), expected)
