"""Stored embeddings: looked up by image and text, and refused in one line where something is missing or wrong."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine import Engine
from cosmos_eval.models import load_model
from cosmos_eval.models.base import Model
from cosmos_eval.models.embeddings import EmbeddingsModel, write_embeddings


@dataclass(frozen=True)
class NamedImage(ImageSource):
    key: str


def named(*keys):
    return [NamedImage(key) for key in keys]


IDS = ["a/1.jpg", "a/2.jpg", "b/2.jpg"]
IMAGE_EMBEDDINGS = np.array([[1, 0], [0, 2], [3, 3]], dtype=np.float32)
TEXTS = ["one", "two", "été", ""]
TEXT_EMBEDDINGS = np.arange(8, dtype=np.float32).reshape(4, 2)


@pytest.fixture
def folder(tmp_path):
    write_embeddings(
        tmp_path / "v", IDS, IMAGE_EMBEDDINGS, TEXTS, TEXT_EMBEDDINGS, {"arch": "mine", "trained": [1, 2], "epochs": 3}
    )
    return tmp_path / "v"


def test_embeddings_are_returned_in_the_requested_order_as_they_were_written(folder):
    model = load_model(f"embeddings:{folder}")
    assert isinstance(model, Model)
    assert torch.equal(model.read_image_embeddings(named("b/2.jpg", "a/1.jpg")), torch.tensor([[3.0, 3], [1, 0]]))
    expected = torch.from_numpy(TEXT_EMBEDDINGS[[3, 2, 0, 0]])
    assert torch.equal(model.read_text_embeddings(["", "été", "one", "one"]), expected)
    assert model.read_image_embeddings(named("a/1.jpg")).dtype == torch.float32


def test_an_image_is_found_by_the_last_part_of_its_key_when_that_is_unique(folder):
    model = load_model(f"embeddings:{folder}")
    assert torch.equal(model.read_image_embeddings(named("elsewhere/1.jpg")), torch.tensor([[1.0, 0]]))
    with pytest.raises(RequestError, match="lacks 1 of 1 image: 'elsewhere/2"):
        model.read_image_embeddings(named("elsewhere/2.jpg"))  # a/2.jpg or b/2.jpg?


def test_two_images_never_share_an_embedding_by_the_last_part_of_their_keys(tmp_path):
    write_embeddings(tmp_path, ["1.jpg"], IMAGE_EMBEDDINGS[:1], TEXTS, TEXT_EMBEDDINGS)
    with pytest.raises(RequestError, match="would share one embedding"):
        EmbeddingsModel(tmp_path).read_image_embeddings(named("cat/1.jpg", "dog/1.jpg"))
    assert len(EmbeddingsModel(tmp_path).read_image_embeddings(named("cat/1.jpg", "cat/1.jpg"))) == 2


def test_missing_texts_are_counted_and_the_first_are_named(folder):
    model = load_model(f"embeddings:{folder}")
    with pytest.raises(RequestError, match=r"texts\.npz lacks 4 of 5 texts: 'p', 'q', 'r', \.\.\.; encode") as refusal:
        model.read_text_embeddings(["one", "p", "q", "r", "s"])
    assert "\n" not in str(refusal.value)


def test_pixels_are_refused(folder):
    with pytest.raises(RequestError, match="read_image_embeddings"):
        load_model(f"embeddings:{folder}").encode_image(torch.zeros(1, 3, 2, 2))


def test_the_digest_depends_on_names_and_embeddings_only(folder, tmp_path):
    def digest(ids=IDS, images=IMAGE_EMBEDDINGS, texts=TEXTS, text_embeddings=TEXT_EMBEDDINGS, meta=None):
        write_embeddings(tmp_path / "w", ids, images, texts, text_embeddings, meta)
        return EmbeddingsModel(tmp_path / "w").digest

    expected = EmbeddingsModel(folder).digest
    assert digest() == expected == digest(meta={"note": "other words"})
    changed = [
        digest(ids=["a/1.jpg", "a/2.jpg", "c/2.jpg"]),
        digest(images=IMAGE_EMBEDDINGS + np.float32(1e-6)),
        digest(texts=["one", "two", "ete", ""]),
        digest(text_embeddings=TEXT_EMBEDDINGS[::-1].copy()),
    ]
    assert len({expected, *changed}) == 5


def test_the_description_holds_the_meta_as_plain_values(folder):
    described = load_model(f"embeddings:{folder}").describe()
    assert described["arch"] == "mine"
    assert described["epochs"] == 3
    assert (described["images"], described["texts"], described["dimensions"]) == (3, 4, 2)
    assert str(folder.parent) not in json.dumps(described)


def test_equal_inputs_are_written_once_and_two_embeddings_of_one_text_are_refused(tmp_path):
    write_embeddings(tmp_path, ["x", "x"], np.ones((2, 2)), ["t"], torch.ones(1, 2, requires_grad=True))
    assert len(EmbeddingsModel(tmp_path).read_text_embeddings(["t"])) == 1
    with pytest.raises(RequestError, match="'t' has two different embeddings"):
        write_embeddings(tmp_path, ["x"], np.ones((1, 2)), ["t", "t"], np.array([[1.0, 2], [2, 1]]))


def replace_arrays(folder, file, **arrays):
    with np.load(folder / file) as old:
        content = {**old, **arrays}
    np.savez(folder / file, **{key: value for key, value in content.items() if value is not None})


@pytest.mark.parametrize(
    ("file", "arrays", "message"),
    [
        ("images.npz", {"ids": np.array(["a", "b", "b"])}, "1 repeated ids, 'b' first"),
        ("texts.npz", {"texts": np.array(["a", "a", "a", "a"])}, "3 repeated texts, 'a' first"),
        ("images.npz", {"ids": np.array(["a", "b"])}, r"must be float32 \(2, D\)"),
        ("images.npz", {"ids": np.array([1, 2, 3])}, r"'ids' is int64 .* unicode array"),
        ("images.npz", {"embeddings": IMAGE_EMBEDDINGS.astype(np.float64)}, "float64"),
        ("images.npz", {"embeddings": IMAGE_EMBEDDINGS[:, 0]}, r"\(3,\)"),
        (
            "images.npz",
            {"embeddings": np.full((3, 2), np.nan, np.float32)},
            "3 embeddings hold NaN or infinity, 'a/1.jpg'",
        ),
        ("images.npz", {"embeddings": np.ones((3, 5), np.float32)}, "5 dimensions and text embeddings 2"),
        ("texts.npz", {"texts": None}, "must hold the arrays 'texts' and 'embeddings'"),
        ("texts.npz", {"texts": np.array(["a", None, "b", "c"], dtype=object)}, "no pickles"),
    ],
)
def test_a_wrong_array_is_refused_in_one_line(folder, file, arrays, message):
    replace_arrays(folder, file, **arrays)
    with pytest.raises(RequestError, match=message) as refusal:
        load_model(f"embeddings:{folder}")
    assert "\n" not in str(refusal.value)


def test_an_absent_or_broken_file_is_refused(folder, tmp_path):
    with pytest.raises(RequestError, match="there is no folder"):
        load_model(f"embeddings:{tmp_path / 'nowhere'}")
    whole = (folder / "images.npz").read_bytes()
    (folder / "images.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RequestError, match=r"cannot read .*images\.npz"):
        load_model(f"embeddings:{folder}")
    (folder / "images.npz").unlink()
    with pytest.raises(RequestError, match=r"cannot read .*images\.npz"):
        load_model(f"embeddings:{folder}")
    (folder / "meta.json").write_text("[]")
    with pytest.raises(RequestError, match=r"meta\.json holds a list"):
        load_model(f"embeddings:{folder}")


def test_a_failed_write_leaves_the_old_folder_readable(folder):
    before = EmbeddingsModel(folder).digest
    with pytest.raises(RequestError, match="NaN"):
        write_embeddings(folder, IDS, IMAGE_EMBEDDINGS, ["t"], np.array([[np.nan, 0]]))
    assert EmbeddingsModel(folder).digest == before


def test_embeddings_written_from_a_model_are_its_features_when_read(tmp_path):
    from cosmos_eval.datasets.image_sources import ArrayImage
    from cosmos_eval.engine.engine import Engine

    rng = np.random.default_rng(0)
    images = [ArrayImage(f"scenes/{i}.png", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for i in range(5)]
    texts = ["a red cube", "a blue sphere", "a red cube"]
    engine = Engine(load_model("cosmos:untrained-toybox"), batch_size=4)
    image_features, text_features = engine.image_features(images), engine.text_features(texts)
    write_embeddings(tmp_path, [p.key for p in images], image_features, texts, text_features)
    stored = Engine(load_model(f"embeddings:{tmp_path}"))
    assert stored.image_features(images[::-1]).allclose(image_features.flip(0), atol=1e-6)
    assert stored.text_features(texts).allclose(text_features, atol=1e-6)
    assert torch.equal(stored.text_features(texts)[0], stored.text_features(texts)[2])


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", '{"deep": [NaN]}', '"\\ud800"'])
def test_a_description_with_a_value_that_json_cannot_hold_is_refused_by_its_key(folder, number):
    (folder / "meta.json").write_text(f'{{"arch": "mine", "loss": {number}}}')
    with pytest.raises(RequestError, match=r"meta\.json: 'loss' is not a JSON value") as refusal:
        load_model(f"embeddings:{folder}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("key", "value"), [("arch", 3), ("activation", ["gelu"])])
def test_a_description_of_the_wrong_type_is_refused_by_its_key(folder, key, value):
    (folder / "meta.json").write_text(json.dumps({key: value}))
    with pytest.raises(RequestError, match=f"'{key}' is a {type(value).__name__}; make it a string"):
        load_model(f"embeddings:{folder}")


@pytest.mark.parametrize("content", ["[]", "null", "3", '"arch"'])
def test_a_description_that_is_not_an_object_is_refused(folder, content):
    (folder / "meta.json").write_text(content)
    with pytest.raises(RequestError, match=r"meta\.json holds a .*must be a JSON object"):
        load_model(f"embeddings:{folder}")


def test_a_description_that_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(RequestError, match="'loss' is not a JSON value"):
        write_embeddings(tmp_path / "w", IDS, IMAGE_EMBEDDINGS, TEXTS, TEXT_EMBEDDINGS, {"loss": float("nan")})
    assert not (tmp_path / "w").exists()


def test_a_description_without_an_architecture_gets_defaults(folder):
    (folder / "meta.json").write_text('{"arch": null}')
    described = load_model(f"embeddings:{folder}").describe()
    assert (described["arch"], described["activation"]) == ("embeddings", "unknown")


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp32"])
def test_stored_embeddings_are_float32_whatever_precision_is_requested(folder, precision):
    assert Engine(load_model(f"embeddings:{folder}"), precision=precision).precision == "fp32"
