"""The real encoder, written from its description, gives the stored vectors again."""

import importlib.util
import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_eval.models import load_model
from tests.real.lit_encoder import PACKAGES

ACCEPT = 5e-6


@pytest.fixture(scope="module")
def model(real_dir):
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"the encoder's packages are not installed: {', '.join(absent)}")
    return load_model("python:tests.real.lit_encoder:factory")


def stored(real_dir, name):
    with np.load(real_dir / "lit" / "embeddings" / f"{name}.npz", allow_pickle=False) as content:
        return dict(content)


def encoded(model, images):
    batch = torch.stack([model.preprocess(image) for image in images])
    return torch.cat([model.encode_image(part) for part in batch.split(16)])


def furthest(ours, theirs):
    return (ours - torch.from_numpy(theirs)).abs().max().item()


@pytest.mark.parametrize(
    ("name", "folder", "every"),
    [
        ("coco159", "coco/images/val2017", 5),
        ("cifar10_test2000", "cifar10_test2000", 63),
        ("imagenet1000", "imagenet", 29),
    ],
)
def test_images_in_files_give_the_stored_vectors(model, real_dir, name, folder, every):
    data = stored(real_dir, name)
    ours = encoded(model, [Image.open(real_dir / folder / image_id) for image_id in data["image_ids"][::every]])
    assert len(ours) >= 30
    assert furthest(ours, data["image_embeddings"][::every]) <= ACCEPT


def test_images_in_a_tar_give_the_stored_vectors(model, real_dir):
    data = stored(real_dir, "flickr8k_test")
    rows = {image_id: row for row, image_id in enumerate(data["image_ids"][::31])}
    images = {}
    with tarfile.open(real_dir / "flickr8k" / "test-0000.tar") as tar:
        for member in tar:
            if member.name in rows:
                images[member.name] = Image.open(io.BytesIO(tar.extractfile(member).read()))
    assert len(images) == len(rows) == 33
    ours = encoded(model, [images[image_id] for image_id in rows])
    assert furthest(ours, data["image_embeddings"][::31]) <= ACCEPT


def test_captions_give_the_stored_vectors(model, real_dir):
    for name, every in (("coco159", 7), ("flickr8k_test", 37)):
        data = stored(real_dir, name)
        ours = model.encode_text(data["texts"][::every].tolist())
        assert furthest(ours, data["text_embeddings"][::every]) <= ACCEPT


def test_prompts_give_the_stored_vectors(model, real_dir):
    data = stored(real_dir, "cifar10_test2000")
    prompts = data["prompts"].reshape(-1)
    ours = model.encode_text(prompts.tolist())
    assert furthest(ours, data["prompt_embeddings"].reshape(len(prompts), -1)) <= ACCEPT


def test_a_tensor_resize_would_have_been_noticed(model, real_dir):
    data = stored(real_dir, "coco159")
    images = [Image.open(real_dir / "coco/images/val2017" / i).convert("RGB") for i in data["image_ids"][:4]]
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255 for image in images]
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    resized = [torch.nn.functional.interpolate(x, (224, 224), mode="bicubic", antialias=True)[0] for x in pixels]
    ours = model.encode_image(torch.stack([(x - mean) / std for x in resized]))
    assert furthest(ours, data["image_embeddings"][:4]) > 100 * ACCEPT
