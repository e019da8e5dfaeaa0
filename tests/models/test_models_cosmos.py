"""The adapter of COSMOS: equal embeddings and one digest from memory, a checkpoint or safetensors."""

import copy
import pickle

import pytest
import torch
from PIL import Image

from cosmos_core.checkpoint import save_checkpoint, save_safetensors
from cosmos_core.errors import RequestError
from cosmos_core.model import COSMOS
from cosmos_eval.models import load_model
from cosmos_eval.models.base import Model
from cosmos_eval.models.cosmos import CosmosModel
from tests.closeness import assert_close

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 300, "width": 16, "heads": 2, "layers": 1},
}
TEXTS = ["a red cube", "A RED cube", "two blue spheres left of a very very large and striped green torus"]


def tiny_cosmos(seed=0):
    torch.manual_seed(seed)
    return COSMOS.from_config(CONFIG)


@pytest.fixture(scope="module")
def student():
    return tiny_cosmos(1)


@pytest.fixture(scope="module")
def teacher():
    return tiny_cosmos(2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, student, teacher):
    path = tmp_path_factory.mktemp("run") / "exp" / "last.pt"
    save_checkpoint(
        path, config=CONFIG, student=student, teacher=teacher, optimizer=None, epoch=1, name="exp"
    )  # fmt: skip
    return path


def make_image(colour="red"):
    return Image.new("RGB", (50, 40), colour)


def test_embeddings_are_those_of_the_network_unnormalised(student):
    model = CosmosModel(student)
    assert isinstance(model, Model)
    x = torch.stack([model.preprocess(make_image()), model.preprocess(make_image("blue"))])
    assert x.shape == (2, 3, 32, 32)
    with torch.no_grad():
        assert_close(model.encode_image(x), student.eval().encode_image(x))
    embeddings = model.encode_text(TEXTS)
    assert embeddings.shape == (3, 16)
    assert embeddings.dtype == torch.float32
    assert not embeddings.requires_grad
    assert_close(embeddings[0], embeddings[1])  # the tokenizer lower-cases
    assert (embeddings.norm(dim=1) - 1).abs().min() > 1e-3


def test_the_teacher_is_the_default_and_the_selector_chooses_the_student(checkpoint, student, teacher):
    by_default = load_model(f"cosmos:{checkpoint}")
    assert by_default.digest == CosmosModel(teacher).digest == load_model(f"cosmos:{checkpoint}#teacher").digest
    assert load_model(f"cosmos:{checkpoint}#student").digest == CosmosModel(student).digest != by_default.digest
    assert_close(by_default.encode_text(TEXTS), CosmosModel(teacher).encode_text(TEXTS))


def test_the_digest_does_not_depend_on_file_name_or_format(tmp_path, checkpoint, teacher):
    save_safetensors(tmp_path / "renamed.safetensors", teacher)
    assert load_model(f"cosmos:{tmp_path / 'renamed.safetensors'}").digest == load_model(f"cosmos:{checkpoint}").digest


def test_the_digest_changes_with_one_weight_or_the_architecture(teacher):
    changed = copy.deepcopy(teacher)
    with torch.no_grad():
        changed.logit_scale += 1e-4
    quick = COSMOS.from_config({**CONFIG, "quick_gelu": True})
    quick.load_state_dict(teacher.state_dict())
    assert len({CosmosModel(m).digest for m in (teacher, changed, quick)}) == 3


def test_a_network_in_training_keeps_its_mode_and_gradients(student):
    core = copy.deepcopy(student).train()
    model = CosmosModel(core)
    model.encode_text(TEXTS)
    assert core.training
    assert all(parameter.requires_grad for parameter in core.parameters())


def test_the_description_names_what_influences_the_embeddings(checkpoint):
    described = load_model(f"cosmos:{checkpoint}").describe()
    assert described["activation"] == "gelu"
    assert described["tokenizer"] == "openai-bpe folded to 300"
    assert (described["context_length"], described["text_case"], described["padding"]) == (12, "lower", "max_length")
    assert (described["image_size"], described["resize"], described["interpolation"]) == (32, "shortest", "bicubic")
    assert described["parameters"] == sum(p.numel() for p in tiny_cosmos().parameters())
    assert described["source"] == "last.pt#teacher"


def test_quick_gelu_is_read_from_the_built_network():
    assert CosmosModel(COSMOS.from_config({**CONFIG, "quick_gelu": True})).describe()["activation"] == "quick_gelu"


def test_an_untrained_model_depends_on_its_seed_only():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = load_model("cosmos:untrained-toybox?seed=3")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert load_model("cosmos:untrained-toybox?seed=3").digest == first.digest
    assert load_model("cosmos:untrained-toybox").digest != first.digest
    assert first.describe()["arch"] == "COSMOS toybox"


def test_preprocessing_is_picklable(student):
    preprocess = CosmosModel(student).preprocess
    assert torch.equal(pickle.loads(pickle.dumps(preprocess))(make_image()), preprocess(make_image()))


@pytest.mark.parametrize("spec", ["cosmos:no-such-name", "cosmos:no/such/file.pt", "cosmos:untrained-huge"])
def test_an_unknown_name_or_file_is_refused_in_one_line(spec):
    with pytest.raises(RequestError) as refusal:
        load_model(spec)
    assert "\n" not in str(refusal.value)


def test_the_packaged_models_student_is_refused_without_a_path_of_this_machine():
    with pytest.raises(RequestError, match=r"holds toybox's teacher only; write cosmos:toybox$") as refusal:
        load_model("cosmos:toybox#student")
    assert "safetensors" not in str(refusal.value)
    assert "/" not in str(refusal.value)
