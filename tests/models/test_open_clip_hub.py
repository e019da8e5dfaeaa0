"""`open_clip:hf-hub:ORG/NAME`, from a hub on 127.0.0.1: what is asked, what is kept, and what is refused."""

import json

import open_clip
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.models import load_model, parse_spec, slug
from cosmos_eval.models.preflight import check_model
from tests.helpers.hub_server import COMMIT, serving_hub
from tests.models.test_models_open_clip import CONFIG, TEXTS
from tests.models.test_models_open_clip_folder import load_error, word_tokenizer, write_folder

REPOSITORY = "somebody/tiny-clip"
SPEC = f"open_clip:hf-hub:{REPOSITORY}"
OLDER = "fedcba9876543210fedcba9876543210fedcba98"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A folder of one model with both files of weights, and others that must not be fetched."""
    path = write_folder(tmp_path_factory.mktemp("copy"))
    write_folder(path, name="open_clip_pytorch_model.bin")
    (path / "README.md").write_text("a card")
    (path / "training.py").write_text("raise SystemExit('code of a repository ran')")
    return path


@pytest.fixture
def hub(copy, tmp_path, monkeypatch):
    """A hub with that model and an empty cache."""
    files = {path.name: path.read_bytes() for path in copy.iterdir()}
    with serving_hub(files) as server:
        server.repository, server.kind = REPOSITORY, "models"
        server.commits = [COMMIT, OLDER]
        address = server.server.address.rstrip("/")
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


def go_offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_repository_is_the_same_model_as_a_copy_of_it_in_a_folder(hub, copy):
    model, local = load_model(SPEC), load_model(f"open_clip:local-dir:{copy}")
    assert model.digest == local.digest
    assert model.describe()["source"] == f"{REPOSITORY} at {COMMIT[:12]}"
    network, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{copy}")
    image = Image.effect_noise((37, 61), 90).convert("RGB")
    assert torch.equal(model.preprocess(image), preprocess(image))
    with torch.no_grad():
        expected = network.eval().encode_text(open_clip.get_tokenizer(f"local-dir:{copy}")(TEXTS))
    torch.testing.assert_close(model.encode_text(TEXTS), expected, atol=2e-6, rtol=2e-6)


def test_only_configuration_tokenizer_and_one_file_of_weights_are_fetched_and_then_none(hub, tmp_path, monkeypatch):
    load_model(SPEC)
    fetched = {path.name for path in (tmp_path / "cache").rglob("snapshots/*/*")}
    assert fetched == {"open_clip_config.json", "open_clip_model.safetensors"}
    go_offline(monkeypatch)
    hub.broken = True
    assert load_model(SPEC).digest  # from the cache
    assert check_model(SPEC).problem == ""


def test_a_dry_run_asks_nothing_of_the_hub(hub):
    check = check_model(SPEC, fetch=False)
    assert (check.problem, check.note) == ("", "would be fetched (not checked)")
    assert not hub.server.requests
    assert check_model(SPEC, fetch=True).problem == check_model(SPEC, fetch=True).note == ""


def test_a_revision_is_read_at_that_commit_and_named_in_the_source(hub):
    model = load_model(f"{SPEC}?revision={OLDER}")
    assert model.describe()["source"] == f"{REPOSITORY} at {OLDER[:12]}"
    assert model.digest == load_model(SPEC).digest  # the same bytes
    assert slug(f"{SPEC}?revision={OLDER}") == f"open_clip-hf-hub-somebody-tiny-clip-{OLDER[:12]}"
    assert "has no revision v9; give a branch, tag or commit of it" in load_error(f"{SPEC}?revision=v9")


def test_a_gated_repository_needs_the_users_token(hub, monkeypatch):
    hub.token = "hf_secret"
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.utils._auth._get_token_from_file", lambda: None)
    assert "is gated: accept its terms at its page on the hub, and set HF_TOKEN" in load_error(SPEC)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert load_model(SPEC).digest


def test_what_cannot_be_fetched_is_refused_in_one_line(hub, monkeypatch):
    assert "the hub has no repository somebody/else, or it is private" in load_error("open_clip:hf-hub:somebody/else")
    weights = hub.server.files.pop("content/open_clip_model.safetensors")
    del hub.server.files["content/open_clip_pytorch_model.bin"]
    assert "has no open_clip_model.safetensors or open_clip_pytorch_model.bin; its files" in load_error(SPEC)
    hub.put("config.json", b"{}")
    config = hub.server.files.pop("content/open_clip_config.json")
    assert f"it is in transformers' layout: write hf:{REPOSITORY}" in load_error(SPEC)
    hub.put("open_clip_config.json", config)
    hub.put("open_clip_model.safetensors", weights[:-5])
    assert "is not a whole safetensors file" in load_error(SPEC)
    hub.broken = True
    assert "cannot be fetched" in load_error(SPEC)


def test_without_a_network_and_a_copy_the_advice_is_a_folder(hub, monkeypatch):
    go_offline(monkeypatch)
    message = load_error(f"{SPEC}?revision={OLDER}")
    assert (
        f"hf download {REPOSITORY} --revision {OLDER} --local-dir DIR, and copy it: open_clip:local-dir:DIR" in message
    )
    assert not hub.server.requests


def test_the_tokenizer_comes_from_the_repository_that_the_configuration_names(hub, copy, tmp_path):
    """As in open_clip: from itself, or from another repository."""
    text = {**CONFIG["text_cfg"], "hf_tokenizer_name": REPOSITORY, "vocab_size": 30, "context_length": 12}
    config = {"model_cfg": {**CONFIG, "text_cfg": text}, "preprocess_cfg": {}}
    network = open_clip.CLIP(
        CONFIG["embed_dim"], CONFIG["vision_cfg"], {k: v for k, v in text.items() if k != "hf_tokenizer_name"}
    )
    torch.save(network.state_dict(), tmp_path / "weights.bin")
    word_tokenizer(30, end="word29").save_pretrained(tmp_path / "tokenizer")
    hub.server.files.clear()
    hub.put("open_clip_config.json", json.dumps(config).encode())
    hub.put("open_clip_pytorch_model.bin", (tmp_path / "weights.bin").read_bytes())
    assert "has no tokenizer" in load_error(SPEC)
    for path in (tmp_path / "tokenizer").iterdir():
        hub.put(path.name, path.read_bytes())
    features = load_model(SPEC).encode_text(["word3 word4", "word5"])
    assert not torch.equal(features[0], features[1])
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "somebody/else"
    hub.put("open_clip_config.json", json.dumps(config).encode())
    hub.commits.insert(0, "1" * 40)  # a push; the cache does not read a commit twice
    assert "its tokenizer somebody/else: the hub has no repository somebody/else" in load_error(SPEC)


@pytest.mark.parametrize(
    "name",
    ["tiny", "a/b/c", "a/../b", "a/b?revision=", "a/b?revision=../x", "a/b?rev=1", "a/b?revision=1&revision=2", ""],
)
def test_a_spec_that_names_no_repository_is_refused(name):
    with pytest.raises(RequestError, match=r"^model spec ") as refusal:
        parse_spec(f"open_clip:hf-hub:{name}")
    assert "\n" not in str(refusal.value)


def test_the_parts_of_a_spec():
    spec = parse_spec("open_clip:hf-hub:timm/ViT-B-16-SigLIP2?revision=v1.0")
    assert (spec.name, spec.rest, spec.revision) == ("hf-hub", "timm/ViT-B-16-SigLIP2", "v1.0")
