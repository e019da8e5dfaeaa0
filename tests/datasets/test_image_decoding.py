"""How images of a dataset are decoded: EXIF orientation as the definition says, scaled values, and the remarks."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.decoders import Decoder, use_decoder
from cosmos_eval.datasets.perception.crops import CroppedImage
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.segmentation_on_disk import (
    FOLDERS,
    SIZES,
    files_of,
    raw_labels,
    small,
    write_labels,
    write_segmentation,
)


def photo(path: Path, orientation: int = 1, seed: int = 0, size: tuple[int, int] = (24, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x112] = orientation
    Image.fromarray(coarse).resize(size[::-1]).save(path, exif=exif)
    return path


def definition(folder: Path, images: list[str], **dataset):
    (folder / "d.jsonl").write_text(
        "".join(json.dumps({"image": name, "captions": [f"image {name}"]}) + "\n" for name in images)
    )
    value = {
        "name": "d",
        "version": 1,
        "task": "retrieval",
        "dataset": {"reader": "jsonl", "path": "d.jsonl", **dataset},
        "metrics": {"primary": "text_to_image_recall@1"},
    }
    (folder / "d.yaml").write_text(yaml.safe_dump(value))
    return load_benchmark(folder / "d.yaml")


def test_without_the_option_exif_is_ignored_and_the_number_of_turned_images_is_remarked(tmp_path: Path):
    names = [photo(tmp_path / f"{i}.jpg", orientation).name for i, orientation in enumerate((1, 6, 3))]
    data = datasets.load(definition(tmp_path, names))
    for source in data.images:
        with Image.open(tmp_path / source.key) as image:
            assert source.load().tobytes() == image.convert("RGB").tobytes()
    assert data.remarks == ("2 of 3 images have an EXIF orientation that is not applied (exif: apply would turn them)",)
    assert datasets.check(definition(tmp_path, names), deep=True).remarks == data.remarks


@pytest.mark.parametrize("decoder", ["pil", "torchvision", "draft"])
def test_exif_apply_turns_images_for_every_decoder(tmp_path: Path, decoder: str):
    names = [photo(tmp_path / f"{i}.jpg", i, seed=i).name for i in range(1, 9)]
    data = datasets.load(definition(tmp_path, names, exif="apply"))
    with use_decoder(Decoder(decoder)):
        for source in data.images:
            with Image.open(tmp_path / source.key) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
            loaded = source.load()
            assert loaded.size == upright.size
            assert np.abs(np.asarray(loaded, int) - np.asarray(upright, int)).mean() < 3
    assert data.remarks == ("7 of 8 images have an EXIF orientation that was applied (exif: apply)",)


def test_only_images_that_are_decoded_in_another_way_have_another_digest(tmp_path: Path):
    photo(tmp_path / "plain.jpg")
    photo(tmp_path / "turned.jpg", 3)
    plain, applied = (
        datasets.load(definition(tmp_path, ["plain.jpg", "turned.jpg"], **more)) for more in ({}, {"exif": "apply"})
    )
    assert plain.images[0].digest() == applied.images[0].digest()
    assert plain.images[1].digest() != applied.images[1].digest()
    assert plain.fingerprint != applied.fingerprint
    definitions = [definition(tmp_path, ["plain.jpg"], **more) for more in ({}, {"exif": "apply"})]
    assert definitions[0].fingerprint != definitions[1].fingerprint


def test_images_of_16_bits_have_another_digest_than_their_bytes_alone(tmp_path: Path):
    import hashlib

    deep = tmp_path / "deep.png"
    Image.fromarray(np.arange(0, 65536, 32, dtype=np.uint16).reshape(32, 64)).save(deep)
    photo(tmp_path / "plain.png")
    data = datasets.load(definition(tmp_path, ["deep.png", "plain.png"]))
    plain_digests = [hashlib.blake2b((tmp_path / p.key).read_bytes(), digest_size=16).hexdigest() for p in data.images]
    assert data.images[0].digest() != plain_digests[0]
    assert data.images[1].digest() == plain_digests[1]
    assert data.remarks == ("1 of 2 images has more than 8 bits a value, which were scaled to 8",)


def test_a_box_is_cut_from_the_image_as_it_is_decoded(tmp_path: Path):
    from cosmos_eval.datasets.image_sources import UprightImage

    path = photo(tmp_path / "a.jpg", 6, size=(24, 40))
    low = CroppedImage("a.jpg[2,30,5,6]", path, (2, 30, 5, 6))  # outside the file, inside the turned image
    with pytest.raises(RequestError, match="is outside "):
        low.digest()
    upright = UprightImage(low)
    upright.digest()
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB").crop((2, 30, 7, 36))
    assert upright.load().tobytes() == expected.tobytes()


@pytest.mark.parametrize("value", ["ignore", True, None, ["apply"], "Apply"])
def test_the_only_value_of_exif_is_apply(tmp_path: Path, value):
    with pytest.raises(RequestError, match=r"d\.yaml:\d+: exif must be apply"):
        definition(tmp_path, [], exif=value)


def segmentation(
    tmp_path: Path, image_orientation: int, mask_orientation: int = 1, upright_mask: bool = False, **dataset
):
    root = write_segmentation(tmp_path, "ade20k", count=1)
    image, mask = (root / path for path in files_of("ade20k", 0))
    photo(image, image_orientation, size=SIZES[0])
    labels = raw_labels("ade20k", 0)
    write_labels(mask, labels.T if upright_mask else labels)
    exif = Image.Exif()
    exif[0x112] = mask_orientation
    if mask_orientation != 1:
        with Image.open(mask) as opened:
            opened.save(mask, exif=exif)
    benchmark = small("ade20k", images=1, **dataset)
    return benchmark, datasets.check(benchmark, tmp_path, deep=True).problems


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_turned_image_with_a_mask_that_is_not_turned_is_a_problem(tmp_path: Path, orientation: int):
    benchmark, problems = segmentation(tmp_path, orientation)
    assert len(problems) == 1
    assert f"that EXIF turns differently from the mask in {tmp_path}" in problems[0]
    assert f"ADE_val_00000001.jpg (orientation {orientation}, mask 1)" in problems[0]
    with pytest.raises(RequestError, match="turns differently from the mask"):
        datasets.load(benchmark, tmp_path)
    # following the advice: upright and without the tag
    path = tmp_path / FOLDERS["ade20k"] / files_of("ade20k", 0)[0]
    with Image.open(path) as image:
        ImageOps.exif_transpose(image).save(path)
    assert datasets.check(benchmark, tmp_path, deep=True).problems == ()


def test_a_mask_with_an_orientation_of_its_own_is_a_problem_without_the_option(tmp_path: Path):
    for image_orientation in (1, 3):
        assert "turns differently" in segmentation(tmp_path, image_orientation, mask_orientation=3)[1][0]


def test_with_exif_apply_image_and_mask_are_turned_alike_or_refused(tmp_path: Path):
    benchmark, problems = segmentation(tmp_path, 3, mask_orientation=3, exif="apply")
    assert problems == ()
    data = datasets.load(benchmark, tmp_path)
    flipped = raw_labels("ade20k", 0).astype(int)[::-1, ::-1]
    assert (data.masks[0].load() == np.where(flipped == 0, 255, flipped - 1)).all()
    assert "turns differently" in segmentation(tmp_path, 3, mask_orientation=4, exif="apply")[1][0]
    assert "turns differently" in segmentation(tmp_path, 3, exif="apply")[1][0]


def test_a_mask_of_16_bits_is_refused_as_such(tmp_path: Path):
    root = write_segmentation(tmp_path, "ade20k", count=1)
    Image.fromarray(raw_labels("ade20k", 0).astype(np.uint16)).save(root / files_of("ade20k", 0)[1])
    problems = datasets.check(small("ade20k", images=1), tmp_path).problems
    assert len(problems) == 1
    assert "with more than 8 bits per pixel" in problems[0]
    assert "colours" not in problems[0]
