"""Digests, keys and seeds that results, feature caches and checkpoints on disk already carry.

`digests.json` has the values of the day on which this was written; none of them is ever changed. Protocol
fingerprints stand in `fingerprints.json` (`test_protocol_published.py`), tokenizers and formats in tests of their
own. A benchmark whose data get another fingerprint is measured again and leaves its old results behind; a feature
whose key changes is encoded again; a seed that changes gives a training that was stopped other batches. So none of
these may be renamed; a constant with a better name keeps the old value:

- dataset fingerprint (`datasets/fingerprint.py`): `hashed_as` of the data classes, `RetrievalData`,
  `ClassificationData`, `PerceptionData`, `SegmentationData`; of its parts, `keys`, `contents`, `texts`,
  `text_picture`, `labels`, `class_names`, `templates`, `templates of a class`, `item_images N`, `item_texts N`,
  `subsets`, `group NAME`, `origin`, `masks`.
- digest of an image: `person=` of BLAKE2, made of `scaled1` and `turned1`; empty for images that Pillow alone
  decodes.
- protocol fingerprint (`protocol.py`): the keys `name`, `version`, `task`, `dataset`, `metrics`, `class_names`,
  `templates`, `words`, `segmentation`; the names of readers, tasks, metrics and of every option that is not a place.
- model digest (`models/digest.py`): `weights`, `architecture`, `tokenizer`, `preprocessing`; the kind `cosmos`; the
  names of parameters; `activation`; the keys of a `describe()` of the preprocessing; `PROBES`; `embeddings 1`.
- identity of a result: the order of its five parts; later scoring versions are appended to them.
- feature cache (`engine/store*.py`): the `person=` values `text` and `ids`; `cosmos-eval rows 1`; the files
  `pictures-*.safetensors`, `texts-*.safetensors`, `picture_names-*.json`, `text_names-*.json`, `space.json`; in them
  `kind`, `space`, `keys`, `rows`, `benchmark`, `names`.
- resized images (`datasets/resized.py`): `cosmos-eval resized 1`, `resized.json` with `form`, `made`, `pictures`,
  `digest`.
- seeds: the words given to `derive_seed` and `sample_generator` (`weights`, `order`, `shards`, `block`, `source`,
  `captions`, `views`) and to toybox's `Dice` (`scene`, `words`, `negative`, ...); `f"{seed} {caption}"` of ARO's
  shuffles.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from cosmos_core.checkpoint import save_checkpoint
from cosmos_core.model import COSMOS
from cosmos_core.prepare import initial_model
from cosmos_core.seeds import derive_seed, sample_generator
from cosmos_eval.cache.feature_cache import model_cache_name
from cosmos_eval.cache.shard import Shard, read_shard, shard_bytes
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.perception.shuffles import shuffle_caption
from cosmos_eval.datasets.resized import recipe_digest
from cosmos_eval.datasets.toybox import captions, make_scene, negatives, render
from cosmos_eval.models import load_model
from cosmos_eval.models.cosmos import CosmosModel
from cosmos_eval.models.embeddings import write_embeddings
from cosmos_eval.results.record import identity
from tests.compatibility.digest_cases import CASES
from tests.core.test_data import samples
from tests.core.test_data_loader import CONFIG as TRAINING
from tests.core.test_data_loader import batches, shard_folder
from tests.helpers.tiny_runs import TINY
from tests.models.test_models_hf import clip, siglip
from tests.models.test_models_open_clip import CONFIG
from tests.models.test_models_open_clip_folder import write_folder

KNOWN: dict[str, Any] = json.loads(Path(__file__).with_name("digests.json").read_text(encoding="utf-8"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fill(tensors: Mapping[str, torch.Tensor]) -> None:
    """Weights that are the same on every machine: quotients of small whole numbers, in the order of their names."""
    for number, name in enumerate(sorted(tensors)):
        if tensors[name].is_floating_point():
            values = (torch.arange(tensors[name].numel()) * 31 + number) % 97 - 48
            tensors[name].copy_((values / 97).reshape(tensors[name].shape))


def filled_cosmos() -> COSMOS:
    core = initial_model(TINY, 0)
    fill(core.state_dict())
    return core


@pytest.mark.parametrize("name", CASES)
def test_datasets_keep_their_fingerprints(tmp_path, name):
    assert CASES[name](tmp_path).fingerprint == KNOWN["datasets"][name]


def test_models_keep_their_digests(tmp_path):
    assert CosmosModel(filled_cosmos()).digest == KNOWN["models"]["cosmos"]
    assert load_model("cosmos:toybox").digest == KNOWN["models"]["cosmos:toybox"]
    assert load_model("python:tests.helpers.tiny_models:Colours").digest == KNOWN["models"]["python"]

    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    write_embeddings(tmp_path / "vectors", ["a/1.jpg", "b.jpg"], vectors[:2], ["one", "été", "", "two"], vectors)
    assert load_model(f"embeddings:{tmp_path / 'vectors'}").digest == KNOWN["models"]["embeddings"]


@pytest.mark.parametrize("quick", [False, True])
def test_open_clip_models_keep_their_digests(tmp_path, quick):
    network = open_clip.CLIP(**CONFIG, quick_gelu=quick)
    fill(network.state_dict())
    folder = write_folder(tmp_path / "tiny", quick=quick)
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    name = f"open_clip, {'QuickGELU' if quick else 'GELU'}"
    assert load_model(f"open_clip:local-dir:{folder}").digest == KNOWN["models"][name]


@pytest.mark.parametrize("write", [clip, siglip])
def test_hf_models_keep_their_digests(tmp_path, write):
    """Of one version of transformers: another may add a setting to the configuration, which is hashed."""
    folder = write(tmp_path / "tiny")
    tensors = load_file(folder / "model.safetensors")
    fill(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    known = KNOWN["models"][f"hf, {write.__name__}"]
    if metadata.version("transformers") != known["transformers"]:
        pytest.skip(f"recorded with transformers {known['transformers']}")
    assert load_model(f"hf:{folder}").digest == known["digest"]


def test_results_keep_their_identity():
    """Model, protocol and dataset fingerprints, precision and limit. A model without a digest is never itself again."""
    model, protocol, dataset = (letter * 64 for letter in "abc")
    cases = {
        "fp32": (model, protocol, dataset, "fp32", None),
        "bf16, limit 7": (model, protocol, dataset, "bf16", 7),
        "no digest": ("", protocol, dataset, "fp32", None),
    }
    assert {name: identity(*parts) for name, parts in cases.items()} == KNOWN["identities"]


def test_the_feature_cache_keeps_its_names_keys_and_form(tmp_path):
    """A space by what decides its numbers; images by their content; texts by themselves, or by their tokens."""
    about = {
        "digest": "d" * 64, "precision": "fp32", "device": "cpu", "rows": 1, "packages": {"torch": "2.11.0"},
        "spec": "not hashed", "model": {"not": "hashed"},
    }  # fmt: skip
    space = model_cache_name(about)
    assert space == KNOWN["features"]["space"]
    shard = Shard(np.arange(32, dtype=np.uint8).reshape(2, 16), np.ones((2, 3), dtype=np.float32) / 2)
    for kind, name in (("images", "pictures"), ("texts", "texts")):
        assert sha256(shard_bytes(kind, space, shard)) == KNOWN["features"][f"{name} shard"]

    core, checkpoint = filled_cosmos(), tmp_path / "tiny.pt"
    save_checkpoint(checkpoint, config=TINY, student=core, teacher=core, optimizer=None, epoch=0, name="tiny")
    CASES["jsonl, retrieval, exif applied"](tmp_path)
    for name, spec in (("cosmos", f"cosmos:{checkpoint}"), ("python", "python:tests.helpers.tiny_models:Colours")):
        out = tmp_path / name
        command = ["run", "--model", spec, "--benchmark", str(tmp_path / "mine.yaml"), "--out", str(out)]
        assert run_command([*command, "--device", "cpu"]) == 0
        (folder,) = (out / ".embeddings").iterdir()
        assert {path.name.partition("-")[0] for path in folder.iterdir()} == {
            "pictures", "texts", "picture_names", "text_names", "space.json",
        }  # fmt: skip
        for kind in ("pictures", "texts"):
            (path,) = folder.glob(f"{kind}-*.safetensors")
            keys = sorted(key.tobytes().hex() for key in read_shard(path, folder.name).keys)
            assert keys == KNOWN["features"][f"{name} {kind}"]


def test_resized_images_keep_the_digest_of_their_settings():
    made = {"geometry": {"image_size": 32, "resize": "shortest"}, "packages": {"pillow": "13.0.0"}}
    assert recipe_digest(made) == KNOWN["resized"]


def test_seeds_draw_what_they_drew():
    scene = make_scene(0, "test", 3)
    drawn = {
        "weights": derive_seed(0, "weights"),
        "captions": sample_generator(1, 2, "key", "captions").random(),
        "shuffles": shuffle_caption("a red cat sat on the mat by a door", 0),
        "toybox captions": list(captions(scene).full),
        "toybox negatives": [[one.kind, one.negative] for one in negatives(scene)],
        "toybox image": sha256(render(scene).tobytes()),
    }
    known = KNOWN["seeds"]
    assert drawn == {name: known[name] for name in drawn}
    # From a normal distribution: kernels of torch may differ in the last bits, not in the draw.
    weights = initial_model(TINY, 0).state_dict()["visual.conv1.weight"].flatten()[:4].tolist()
    assert weights == pytest.approx(known["initial weights"], abs=1e-6)


@pytest.mark.parametrize("kind", ["memory", "shards", "mixed"])
def test_training_draws_the_same_batches(tmp_path, kind):
    config = replace(TRAINING, seed=3, batch_size=8)
    if kind != "memory":
        config = replace(config, data=shard_folder(tmp_path, [9, 7, 13]), samples=24, lanes=2)
    if kind == "mixed":
        config = replace(config, data=f"{config.data}::toybox", data_weights="2::1")
    found = batches(config, 6, None if kind == "shards" else samples(29))
    drawn = [[batch.keys, batch.texts[:, 0, :4].tolist()] for batch in found]
    assert sha256(json.dumps(drawn).encode()) == KNOWN["batches"][kind], drawn
