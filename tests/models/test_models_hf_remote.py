"""Models with Python code of their own: `?trust-remote-code=1`."""

import json

import pytest
import torch
from transformers import CLIPModel

from cosmos_core.errors import RequestError
from cosmos_eval.models import ModelKind, load_model
from cosmos_eval.models.plugin_adapter import load_plugin_model
from cosmos_eval.models.preflight import check_model
from cosmos_eval.models.spec import parse_spec
from cosmos_eval.protocol.benchmark import load_benchmark, load_suite
from tests.closeness import assert_close
from tests.models.test_models_hf import TEXTS, clip, noise

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = """
from transformers import CLIPConfig, CLIPModel

from .doubling import double


class MineConfig(CLIPConfig):
    model_type = "mine"


class MineModel(CLIPModel):
    config_class = MineConfig

    def get_text_features(self, **inputs):
        output = super().get_text_features(**inputs)
        output.pooler_output = double(output.pooler_output)
        return output
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A CLIP whose text features are doubled by code in its folder."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    path = clip(tmp_path / "mine") / "config.json"
    config = json.loads(path.read_text())
    auto_map = {"AutoConfig": "mine.MineConfig", "AutoModel": "mine.MineModel"}
    path.write_text(json.dumps(config | {"model_type": "mine", "architectures": ["MineModel"], "auto_map": auto_map}))
    (path.parent / "mine.py").write_text(CODE)
    (path.parent / "doubling.py").write_text("def double(x):\n    return 2 * x\n")
    (path.parent / "notes.py").write_text("# nothing\n")
    return path.parent


def test_code_runs_only_if_the_spec_says_so_and_is_part_of_the_digest(folder, capfd):
    with pytest.raises(RequestError, match=r"is a mine model; .*or read its code and add \?trust-remote-code=1$"):
        load_model(f"hf:{folder}")
    assert capfd.readouterr().err == ""
    spec = f"hf:{folder}?trust-remote-code=1"
    assert check_model(spec).note == "runs foreign code, the .py files of its repository"
    model = load_model(spec)
    assert f"{spec} runs foreign code" in capfd.readouterr().err
    plain = CLIPModel.from_pretrained(folder.parent / "mine", config=model.network.config).eval()
    tokens = model._tokenizer_outputs(TEXTS)
    with torch.no_grad():
        assert_close(model.encode_text(TEXTS), 2 * plain.get_text_features(**tokens).pooler_output)
    assert model.encode_image(model.preprocess(noise())[None]).shape == (1, 8)
    assert model.describe()["code"] == "the model's own"
    (folder / "notes.py").write_text("# something\n")
    assert load_model(spec).digest != model.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("trust-remote-code=1", "add &revision=COMMIT with the 40 digits"),
        ("trust-remote-code=1&revision=main", "add &revision=COMMIT with the 40 digits"),
        ("trust-remote-code=1&revision=" + COMMIT[:39], "add &revision=COMMIT with the 40 digits"),
        ("trust-remote-code=yes", "has the option trust-remote-code as 'yes'"),
        (f"code-revision={COMMIT}", r"\?code-revision= needs \?trust-remote-code=1"),
    ],
)
def test_code_of_the_hub_is_refused_unless_its_commit_is_given(options, message):
    with pytest.raises(RequestError, match=message) as refusal:
        load_model(f"hf:someone/model?{options}")
    assert "\n" not in str(refusal.value)


def test_code_in_another_repository_is_refused_unless_its_commit_is_given(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"auto_map": {"AutoModel": "someone/code--mine.MineModel"}}))
    with pytest.raises(RequestError, match="in another repository, someone/code; read it there, and add &code"):
        load_model(f"hf:{folder}?trust-remote-code=1")


def test_a_model_without_code_of_its_own_needs_no_option(tmp_path):
    with pytest.raises(RequestError, match=r"no code of its own \(no auto_map\); leave \?trust-remote-code=1 out"):
        load_model(f"hf:{clip(tmp_path)}?trust-remote-code=1")


def test_neither_definitions_nor_suites_nor_plug_ins_can_ask_for_it(folder, tmp_path):
    spec = f"hf:{folder}?trust-remote-code=1"
    (tmp_path / "mine.yaml").write_text(f"base: toybox-retrieval\nname: mine\nmodel: '{spec}'\n")
    with pytest.raises(RequestError, match="model"):
        load_benchmark(tmp_path / "mine.yaml")
    (tmp_path / "suite.yaml").write_text(f"name: mine\nbenchmarks: [toybox-retrieval]\nmodel: '{spec}'\n")
    with pytest.raises(RequestError, match="model"):
        load_suite(tmp_path / "suite.yaml")

    def load(parsed, device):
        return load_model(spec, device)

    kind = ModelKind("theirs", "theirs:NAME", load=load)
    for kind_or_factory in (kind, lambda name: load_model(spec)):
        with pytest.raises(RequestError, match="asks for foreign code, which only you can do"):
            load_plugin_model(None, kind_or_factory, parse_spec("cosmos:toybox"), "cpu")
