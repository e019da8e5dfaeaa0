"""The published presets hold the published values, each compared with the original's training scripts."""

import json
import math
import re
from pathlib import Path

import pytest

from cosmos_core.config import PRESETS, TrainConfig, list_presets, load_preset
from cosmos_core.errors import RequestError
from cosmos_core.train import train
from tests.conftest import SHARED

PUBLISHED = ("cc3m", "cc12m", "yfcc15m", "merged30m", "pixelprose")
TRAINING_DOC = Path(__file__).resolve().parents[2] / "docs" / "training.md"
FIELDS = {
    "model": "model",
    "lr": "lr",
    "warmup": "warmup",
    "epochs": "epochs",
    "train-num-samples": "samples",
    "precision": "precision",
    "workers": "workers",
    "log-every-n-steps": "log_every",
    "wd": "weight_decay",
    "beta1": "beta1",
    "beta2": "beta2",
    "eps": "eps",
    "caption-sampling-mode": "caption_mode",
    "num-sampled-captions": "captions",
    "momentum-teacher": "momentum_teacher",
    "fix-momentum": "fix_momentum",
    "global_batch": "batch_size",
}
VIEWS = {"global-crops-number": "global_crops", "local-crops-number": "local_crops", "crop-scale": "crop_scale"}
ELSEWHERE = {
    "dataset-type",  # any of ours
    "batch-size",  # of a GPU: ours is global
    "gpus",
    "save-frequency",  # in epochs: ours is in steps, below
    "use-imagecrop-aug",  # what COSMOS is: always on
    "output-all",
    "attentional-pool",
    "cosmos",
}


@pytest.fixture(scope="module")
def originals() -> dict[str, dict]:
    path = SHARED / "training_presets.json"
    if not path.is_file():
        pytest.skip(f"no values of the original's scripts at {path}; set COSMOS_SHARED_DIR")
    return json.loads(path.read_text())["presets"]


def as_type(text: object, like: object) -> object:
    """What a script says, in the type of our field."""
    return type(like)(text) if isinstance(text, str) else text


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_value_is_that_of_the_original_script(name: str, originals: dict[str, dict]):
    theirs, ours = originals[name], load_preset(name)
    assert set(theirs) == {*FIELDS, *VIEWS, *ELSEWHERE}, "a value that no field of ours was compared with"
    for key, field in FIELDS.items():
        value = getattr(ours, field)
        assert value == as_type(theirs[key], value), key
    for key, field in VIEWS.items():
        value = getattr(ours.views, field)
        assert value == as_type(theirs[key], value), key
    assert ours.batch_size == int(theirs["batch-size"]) * theirs["gpus"]
    epoch = ours.samples // ours.batch_size
    assert ours.save_every == ours.keep_every == int(theirs["save-frequency"]) * epoch
    assert ours.objective == "cosmos"
    assert all(theirs[key] is True for key in ("use-imagecrop-aug", "output-all", "attentional-pool", "cosmos"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_strengths_of_the_views_are_the_defaults_of_the_published_augmentation(name: str):
    config = load_preset(name)
    defaults = TrainConfig()
    assert config.views == defaults.views
    assert (config.lr_schedule, config.grad_clip, config.ema_before_step) == ("cosine", 0, True)
    assert (config.accumulate, config.grad_checkpointing, config.compile, config.seed) == (1, False, False, 0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_preset_of_the_other_model_differs_in_the_model_alone(name: str):
    large, small = load_preset(name).to_dict(), load_preset(f"{name}-b32").to_dict()
    assert {key for key in large if large[key] != small[key]} == {"name", "model"}
    assert (large["model"], small["model"], small["name"]) == ("ViT-B-16", "ViT-B-32", f"{name}-b32")


@pytest.mark.parametrize("name", PUBLISHED)
def test_ranks_of_the_original_share_the_batch_and_the_lanes_evenly(name: str, originals: dict[str, dict]):
    config, ranks = load_preset(name), originals[name]["gpus"]
    assert config.batch_size % config.lanes == 0
    assert config.lanes % ranks == 0
    assert (config.batch_size // ranks) % (config.lanes // ranks) == 0


def test_merged_30m_is_the_sum_of_its_three_parts():
    assert load_preset("merged30m").samples == sum(load_preset(p).samples for p in ("cc3m", "cc12m", "yfcc15m"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_preset_says_where_its_values_are_from_and_how_large_the_original_ran(name: str):
    head = (PRESETS / f"{name}.yaml").read_text().split("samples:")[0]
    assert "the original project's" in head
    config = load_preset(name)
    gpus, each = map(int, re.search(r"(\d+) GPUs with (\d+) samples each", head).groups())  # type: ignore[union-attr]
    assert f"global batch {config.batch_size:,}" in head
    assert gpus * each == config.batch_size


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_document_has_the_lengths_of_both(name: str):
    """Whole batches here; the original rounds batches up, and then to a multiple of its 16 workers."""
    config = load_preset(name)
    ours = config.samples // config.batch_size
    batches = math.ceil(config.samples / config.batch_size)
    theirs = math.ceil(batches / config.workers) * config.workers
    row = next(line for line in TRAINING_DOC.read_text().splitlines() if line.startswith(f"| `{name}` "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == [f"{config.samples:,}", f"{config.batch_size:,}"]
    assert cells[-4:] == [f"{ours:,}", f"{theirs:,}", f"{32 * ours:,}", f"{32 * theirs:,}"]


@pytest.mark.parametrize("name", [*PUBLISHED, "cc3m-b32"])
def test_a_run_without_shards_is_refused_in_one_line(name: str):
    with pytest.raises(RequestError, match=r"no training data.*data=") as caught:
        train(load_preset(name, ["device=cpu", "model=toybox"]))
    assert "\n" not in str(caught.value)


def test_every_preset_loads_and_is_called_after_its_file():
    for name in list_presets():
        assert load_preset(name).name == name


def test_a_file_that_builds_on_a_preset_is_a_run_of_its_own(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("preset: cc12m-b32\nlr: 1e-3\n")
    config = load_preset(path)
    assert (config.name, config.lr, config.batch_size, config.model) == ("mine", 1e-3, 4096, "ViT-B-32")
    path.write_text("preset: cc3m\nname: another\n")
    assert load_preset(path).name == "another"
    path.write_text(f"preset: {path}\n")
    with pytest.raises(RequestError, match="is not one of"):
        load_preset(path)


def test_one_value_of_a_model_is_changed_by_its_dotted_key():
    config = load_preset("cc3m", ["model.embed_dim=256", "model.text_cfg.width=256", "model.text_cfg.layers=6"])
    expected = {"embed_dim": 256, "layers": 6, "width": 256, "patch_size": 16}
    found = {**config.model["vision_cfg"], **config.model["text_cfg"], **config.model}
    assert {key: found[key] for key in expected} == expected
    assert load_preset("cc3m").model == "ViT-B-16"
    assert load_preset("cc3m", ["model=ViT-B-32", "model.quick_gelu=true"]).model["quick_gelu"] is True


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["model.text_cfg.layerz=6"], "unknown key model.text_cfg.layerz; did you mean model.text_cfg.layers"),
        (["model.vision_cfg=3"], "unknown key model.vision_cfg; did you mean model.vision_cfg."),
        (["model.zzz=3"], "unknown key model.zzz; keys are such as"),
        (["model.text_cfg.layers=six"], "not a whole number above 0: text_cfg.layers 'six'"),
        (["model.embed_dim=256"], "its text width 512 is not its embed_dim 256"),
        (["model=nonsense", "model.embed_dim=256"], "no model preset 'nonsense'"),
        (["model=3", "model.embed_dim=256"], "no model preset '3'"),
    ],
)
def test_a_wrong_change_of_a_model_is_refused_in_one_line(changes: list[str], why: str):
    with pytest.raises(RequestError, match=re.escape(why)) as caught:
        load_preset("cc3m", changes)
    assert "\n" not in str(caught.value)
