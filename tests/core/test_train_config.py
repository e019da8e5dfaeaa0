"""Configurations: presets, files and `key=value`, each mistake named with what was meant."""

import json
from pathlib import Path

import pytest
import yaml

from cosmos_core.config import TrainConfig, list_presets, load_preset
from cosmos_core.configs import preset
from cosmos_core.errors import RequestError
from cosmos_core.tokenizer import build_tokenizer
from cosmos_eval.datasets.toybox import captions, make_scene
from tests.helpers.toybox_words import vocabulary


def test_the_toybox_preset_loads_and_runs_the_cosmos_objective():
    config = load_preset("toybox")
    assert (config.name, config.data, config.objective) == ("toybox", "toybox", "cosmos")
    assert "toybox" in list_presets()


def test_toybox_views_keep_captions_true():
    views = load_preset("toybox").views
    assert views.flip == 0  # left stays left
    assert views.gray == 0  # colours keep their names
    assert views.solarise == (0, 0, 0)
    assert views.hue == 0


def test_no_two_words_of_toybox_meet_in_the_folded_vocabulary():
    tokenizer = build_tokenizer(preset("toybox")["text_cfg"])
    rows = tokenizer([*vocabulary(), ",", "."])
    assert ((rows != 0).sum(1) == 3).all()  # start, the word, end
    words = rows[:, 1].tolist()
    assert len(set(words)) == len(words) == len(vocabulary()) + 2


def test_complete_descriptions_of_toybox_fit_the_context():
    tokenizer = build_tokenizer({**preset("toybox")["text_cfg"], "context_length": 77})
    texts = [text for i in range(300) for text in captions(make_scene(0, "val", i)).full]
    assert (tokenizer(texts) != 0).sum(1).max() <= preset("toybox")["text_cfg"]["context_length"]


def test_changes_are_applied_in_order_and_typed():
    changes = ["lr=5e-4", "batch_size=32", "views.flip=0.25", "views.blur=[1, 0, 0.5]", "fix_momentum=false", "lr=1"]
    config = load_preset("toybox", [*changes, "name=17", "out=runs/a b"])
    assert config.lr == 1.0
    assert isinstance(config.lr, float)
    assert (config.batch_size, config.fix_momentum, config.name, config.out) == (32, False, "17", "runs/a b")
    assert config.views.flip == 0.25
    assert config.views.blur == (1.0, 0.0, 0.5)
    assert load_preset("toybox", ["lr=5e-4"]).lr == 5e-4


def test_a_model_is_named_or_spelled_out():
    assert load_preset("toybox", ["model=ViT-B-16"]).model == "ViT-B-16"
    spelled = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}
    assert load_preset("toybox", [f"model={json.dumps(spelled)}"]).model == spelled


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("batchsize=3", r"unknown key batchsize; did you mean batch_size"),
        ("views.flipp=0", r"unknown key views\.flipp; did you mean views\.flip"),
        ("zzz=1", "known: name, out, seed"),
        ("batch_size=many", "batch_size takes a whole number, got 'many'"),
        ("batch_size=1.5", "takes a whole number"),
        ("batch_size=true", "takes a whole number"),
        ("fix_momentum=1", "takes true or false"),
        ("lr=fast", "lr takes a number"),
        ("lr=-1", "lr must be at least 0"),
        ("lr=.nan", "lr must be at least 0 and finite, got nan"),
        ("lr=nan", "lr must be at least 0 and finite, got nan"),
        ("weight_decay=.inf", "weight_decay must be at least 0 and finite"),
        ("beta1=2", r"beta1 must be at least 0 and below 1"),
        ("beta2=1", r"beta2 must be at least 0 and below 1"),
        ("eps=-1", "eps must be at least 0"),
        ("lr_cooldown_steps=-1", "lr_cooldown_steps must be at least 0"),
        ("views.global_size=0", "global_size of the image views is at least 1 pixel"),
        ("views.local_size=-8", "local_size of the image views is at least 1 pixel"),
        ("views.ratio=[0, 1]", "ratio of the image views is two numbers above 0"),
        ("views.ratio=[2, 1]", "the smaller first"),
        ("views.blur_radius=[-1, 1]", "blur_radius is two numbers from 0"),
        ("views.contrast=-1", "contrast of the image views is a number from 0"),
        ("views.brightness=.nan", "brightness of the image views"),
        ("views.mean=[0, 0, 0]", "unknown key views.mean"),
        ("views=3", r"views has keys of its own|views takes its own keys"),
        ("views.blur=0.5", "takes 3 values"),
        ("views.flip=7", "probabilities"),
        ("objective=clap", "not one of cosmos, clip"),
        ("precision=fp8", "not one of auto"),
        ("momentum_teacher=1.5", "must be from 0 to 1"),
        ("captions=1", "captions of at least 2"),
        ("views.global_crops=1", "global_crops=2"),
        ("lr", "--set takes key=value"),
        ("=3", "--set takes key=value, got '=3'"),
    ],
)
def test_a_wrong_change_is_refused_in_one_line(change, why):
    with pytest.raises(RequestError, match=why) as caught:
        load_preset("toybox", [change])
    assert "\n" not in str(caught.value)
    assert change in str(caught.value)


def test_a_file_may_build_on_a_preset(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("preset: toybox\nsteps: 3\nviews: {local_crops: 0}\n")
    config, preset = load_preset(path), load_preset("toybox")
    assert (config.steps, config.views.local_crops) == (3, 0)
    assert (config.batch_size, config.views.crop_scale) == (preset.batch_size, preset.views.crop_scale)


def test_what_a_run_writes_down_can_be_read_back(tmp_path: Path):
    config = load_preset("toybox", ["views.blur=[0.5, 0, 0]", "steps=7"])
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(config.to_dict()))))
    assert load_preset(path) == config


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- a list", "must hold key: value"),
        ("lr: [", r"bad\.yaml:1: not YAML"),
        ("preset: toyboks", "'toyboks' is not one of"),
        ("learning_rate: 1", "unknown key learning_rate"),
        ("lr: {a: 1}", "takes a number"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, why: str):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match=why) as caught:
        load_preset(path)
    assert "bad.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_and_a_missing_file_are_refused():
    with pytest.raises(RequestError, match="did you mean toybox"):
        load_preset("toyboks")
    with pytest.raises(RequestError, match=r"cannot read /no/such/file\.yaml"):
        load_preset("/no/such/file.yaml")


def test_every_field_is_documented():
    import inspect
    import re

    source = inspect.getsource(TrainConfig)
    fields = re.findall(r"^    (\w+): .*\n    (\"\"\")?", source, flags=re.M)
    assert len(fields) > 30
    assert [name for name, doc in fields if not doc] == []


@pytest.mark.parametrize("value", [10**30, -1, 10**400])
@pytest.mark.parametrize(
    "key", ["steps", "batch_size", "workers", "accumulate", "samples", "lanes", "shuffle", "warmup"]
)
def test_absurd_numbers_are_refused_by_their_name(key: str, value: int):
    with pytest.raises(RequestError, match=rf"^{key} must be at (most|least)") as caught:
        TrainConfig(**{key: value})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("lr=1e300", "lr must be at most"),
        ("lr=.inf", "lr must be at least 0 and finite, got inf"),
        ("lr=.nan", "lr must be at least 0 and finite, got nan"),
        ("weight_decay=-1", "weight_decay must be at least 0"),
        (f"seed={2**63}", "seed"),
        (f"views.global_size={10**12}", "global_size of the image views is at most 8,192 pixels"),
        (f"views.local_crops={10**12}", "at most 1024 crops of an image"),
        (f"epochs={10**15}", "epochs must be at most"),
        ('name="a\\0b"', "name holds a zero byte"),
        ('model.text_cfg.layers="\\0"', "."),
    ],
)
def test_settings_that_no_training_bears_are_refused_in_one_line(change: str, said: str):
    with pytest.raises(RequestError, match=said) as caught:
        load_preset("toybox", [change])
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)
