"""`show model`: what it says of each kind of model, and how it says it."""

import json

import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.models.embeddings import write_embeddings
from cosmos_eval.models.python_adapter import PythonModel
from cosmos_eval.show.model import LABELS, describe_model, format_value, inspect_model
from tests.helpers.tiny_models import Colours
from tests.models.test_models_open_clip import INCEPTION, build_network
from tests.models.test_models_open_clip_folder import write_folder

SCORES = "retrieval"


def answers(sheet):
    """Whether each thing is possible, with the text, by the first word of what is asked."""
    return {answer.what.split(",")[0].split()[0]: (answer.possible, answer.text) for answer in sheet.answers}


def find(sheet, task):
    (answer,) = [answer for answer in sheet.answers if task in answer.what.split(", ")]
    return answer.possible, answer.text


def test_a_cosmos_has_all_facts_and_can_be_asked_for_everything_but_pairs():
    sheet = inspect_model("cosmos:toybox")
    assert not [key for key in LABELS if key not in sheet.facts and key not in ("activation_source", "logit_bias")]
    assert sheet.facts["embedding_width"] == 128
    assert find(sheet, "retrieval") == (True, "dot product of unit embeddings")
    assert find(sheet, "segmentation") == (True, "attention variants: vanilla, csa, maskclip, clearclip, naclip, raw")
    assert answers(sheet)["attention"] == (True, "its cross-attention poolers")
    assert answers(sheet)["scores"] == (False, "it has no score_pairs: it scores by embeddings alone")
    assert len(sheet.digest) == 64


def test_open_clips_logit_scale_preprocessing_and_activation_are_those_of_the_network(tmp_path):
    sheet = inspect_model(f"open_clip:local-dir:{write_folder(tmp_path / 'model')}")
    assert sheet.facts["logit_scale"] == pytest.approx(build_network().logit_scale.exp().item())
    assert (sheet.facts["mean"], sheet.facts["resize"]) == (list(INCEPTION["mean"]), "squash")
    assert (sheet.facts["image_size"], sheet.facts["context_length"], sheet.facts["embedding_width"]) == (32, 77, 16)
    assert (sheet.facts["activation"], sheet.facts["text_case"]) == ("quick_gelu", "lower")
    assert "logit_bias" not in sheet.facts
    possible, reason = answers(sheet)["attention"]
    assert not possible
    assert reason.startswith("has no cross-attention poolers")


def test_stored_embeddings_are_asked_only_for_what_is_stored(tmp_path):
    write_embeddings(tmp_path, ["a"], torch.ones(1, 3).numpy(), ["a text"], torch.ones(1, 3).numpy(), {"arch": "mine"})
    sheet = inspect_model(f"embeddings:{tmp_path}")
    assert (sheet.facts["arch"], sheet.facts["embedding_width"]) == ("mine", 3)
    assert find(sheet, "retrieval") == (True, "dot product of unit embeddings, of the images and texts that are stored")
    possible, reason = find(sheet, "segmentation")
    assert not possible
    assert reason.startswith("gives no features of patches: it holds embeddings of whole images")


class Pairs:
    """Scores pairs, and has nothing else."""

    digest = None

    def preprocess(self, image):
        return torch.zeros(3, 2, 2)

    def score_pairs(self, images, texts):
        return images.mean((1, 2, 3))


class Dense(Colours):
    """Patches with variants of its own, and facts."""

    digest = None
    attentions = ("vanilla", "mine")

    def encode_patches(self, x, attention="vanilla"):
        return x.permute(0, 2, 3, 1)

    def facts(self):
        return {"logit_scale": 100.0, "logit_bias": -10.0, "temperature": 0.01}


def test_an_adapter_without_facts_is_described_by_what_it_does():
    sheet = describe_model(PythonModel(Pairs(), "python:mine:build"))
    assert find(sheet, "retrieval") == (True, "its score_pairs")
    assert "embedding_width" not in sheet.facts
    assert answers(sheet)["the"] == (False, "it has no digest, so nothing is kept for later runs")
    assert any(line.split() == ["logit", "scale", "unknown"] for line in sheet.lines())


def test_an_adapters_own_facts_and_attention_variants_are_shown():
    sheet = describe_model(PythonModel(Dense(), "python:mine:build"))
    assert find(sheet, "segmentation") == (True, "attention variants: vanilla, mine")
    lines = [" ".join(line.split()) for line in sheet.lines()]
    assert {"logit scale 100", "logit bias -10", "temperature 0.01", "embedding width 8"} <= set(lines)


@pytest.mark.parametrize("facts", [3, {"scale": float("nan")}, {1: 2}])
def test_facts_that_are_not_json_values_are_refused(facts):
    adapter = Dense()
    adapter.facts = lambda: facts
    with pytest.raises(RequestError, match=r"^python:mine:build: what facts\(\) returns"):
        describe_model(PythonModel(adapter, "python:mine:build"))


def test_the_command_prints_lines_or_one_json_object(capsys):
    assert run_command(["show", "model", "cosmos:toybox"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "cosmos:toybox"]
    assert {"Supports:", "Does not support:"} <= set(lines)
    assert run_command(["show", "model", "cosmos:toybox", "--json"]) == 0
    sheet = json.loads(capsys.readouterr().out)
    assert sheet["spec"] == "cosmos:toybox"
    assert any(line.split(maxsplit=1)[1:] == [sheet["digest"]] for line in lines)
    assert [asked["possible"] for asked in sheet["can_be_asked"]] == [True, True, False, True, True]


def test_a_model_that_does_not_load_is_one_line(capsys):
    assert run_command(["show", "model", "open_clip:local-dir:/no/such/folder"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "cosmos-eval: open_clip:local-dir:/no/such/folder: the folder /no/such/folder does not exist"
    )
    assert error.count("\n") == 1


def test_values_for_people():
    values = [None, True, 1234567, 14.285714, [0.5, 2], "bicubic"]
    assert [format_value(v) for v in values] == ["unknown", "yes", "1,234,567", "14.2857", "0.5, 2", "bicubic"]
