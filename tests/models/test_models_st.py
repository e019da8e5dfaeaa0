"""`st:` against `SentenceTransformer.encode`, on tiny random models that the library's own classes build and save."""

import json
import pickle
import shutil
from functools import cache

import pytest
import torch
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from cosmos_core.errors import RequestError
from cosmos_eval.models import load_model, slug
from cosmos_eval.models.base import Model
from cosmos_eval.models.preflight import check_model
from cosmos_eval.models.st_loading import INSTALL
from cosmos_eval.show.model import describe_model
from tests.models.test_models_hf_families import noise

st = pytest.importorskip("sentence_transformers", reason="sentence-transformers is an extra that is not installed here")
from tests.helpers.tiny_st import BUILD, CONTEXT, PROMPTS  # noqa: E402

TEXTS = ["a", "two blue spheres left of the red cube.", "a Red cube", "the cube, a red cube, " * 9]
SIZES = [(50, 40), (33, 97), (7, 5), (50, 40), (128, 30)]
IMAGES = [noise(size) for size in SIZES]
TOLERANCE = 2e-6


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    return {}, tmp_path_factory.mktemp("st")


def tiny(folders, name):
    saved, root = folders
    if name not in saved:
        BUILD[name](root / f"{name}-parts").save_pretrained(str(root / name))
        saved[name] = root / name
    return saved[name]


@pytest.fixture(params=BUILD)
def folder(request, folders):
    return tiny(folders, request.param)


@pytest.fixture(scope="session")
def qwen(folders):
    return tiny(folders, "qwen3_vl")


@pytest.fixture(scope="session")
def clip(folders):
    return tiny(folders, "clip")


@pytest.fixture
def clip_copy(clip, tmp_path):
    return shutil.copytree(clip, tmp_path / "clip")


@pytest.fixture(scope="session")
def load():
    """Load a spec whose folder no test changes."""
    return cache(lambda spec: load_model(f"st:{spec}"))


@cache
def library(folder):
    return st.SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def batch(model, images):
    vectors = [model.preprocess(image) for image in images]
    if getattr(model.preprocess, "lengths_differ", False):
        return pad_sequence(vectors, batch_first=True)
    return torch.stack(vectors)


def assert_equal_rows(actual, expected, tolerance=TOLERANCE):
    torch.testing.assert_close(actual, torch.as_tensor(expected), atol=tolerance, rtol=0)


def test_rows_are_those_of_encode_for_batches_of_one_and_many(folder, load):
    model, encoder = load(folder), library(folder)
    assert isinstance(model, Model)
    images, texts = encoder.encode(IMAGES), encoder.encode(TEXTS)
    assert images.std(axis=0).mean() > 1e-3
    assert texts.std(axis=0).mean() > 1e-3
    many = model.encode_image(batch(model, IMAGES)), model.encode_text(TEXTS)
    assert_equal_rows(many[0], images)
    assert_equal_rows(many[1], texts)
    ones = [model.encode_image(batch(model, [image])) for image in IMAGES], [model.encode_text([t]) for t in TEXTS]
    for one, whole in zip(ones, many, strict=True):
        assert_equal_rows(normalize(torch.cat(one), dim=-1), normalize(whole, dim=-1), 1e-6)
    shuffled = model.encode_image(batch(model, IMAGES[::-1])).flip(0)
    assert_equal_rows(normalize(shuffled, dim=-1), normalize(many[0], dim=-1), 1e-6)


@pytest.mark.parametrize("name", ["qwen3_vl", "router"])
def test_prompts_are_those_of_encode_query_and_encode_document(folders, load, name):
    folder = tiny(folders, name)
    options = "?text-prompt=query" + "&image-prompt=document" * (name == "qwen3_vl")
    model, plain, encoder = load(f"{folder}{options}"), load(folder), library(folder)
    texts = encoder.encode_query(TEXTS)
    assert_equal_rows(model.encode_text(TEXTS), texts)
    images = encoder.encode_document(IMAGES) if name == "qwen3_vl" else encoder.encode(IMAGES)
    assert_equal_rows(model.encode_image(batch(model, IMAGES)), images)
    assert model.digest != plain.digest
    assert slug(f"st:{folder}{options}") != slug(f"st:{folder}")
    assert model.describe()["text_prompt"].startswith("encode_query, query: ")
    if name == "qwen3_vl":
        assert model.describe()["image_prompt"] == f"encode_document, document: {PROMPTS['document']!r}"
        assert abs(model.encode_text(TEXTS) - plain.encode_text(TEXTS)).max() > 1e-3


def test_the_route_of_documents_has_other_weights(folders, load):
    folder = tiny(folders, "router")
    model = load_model(f"st:{folder}?text-prompt=document&image-prompt=query")
    assert_equal_rows(model.encode_text(TEXTS), library(folder).encode_document(TEXTS))
    assert_equal_rows(model.encode_text(TEXTS), -load(f"{folder}?text-prompt=query").encode_text(TEXTS))


def test_the_dimensions_and_the_default_prompt_of_the_settings_hold_and_are_recorded(folders, load):
    model = load(tiny(folders, "dense"))
    assert model.encode_text(TEXTS).shape == (4, 5)
    described = model.describe()
    assert (described["truncate_dim"], described["normalised_by_model"]) == (5, False)
    assert described["text_prompt"] == "encode, 'a red '"
    assert load(tiny(folders, "qwen3_vl")).describe()["normalised_by_model"] is True


def test_images_of_one_size_pass_together_and_others_alone(qwen):
    model = load_model(f"st:{qwen}")
    groups = list(model.preprocess.batches(batch(model, IMAGES)))
    assert [members for members, _ in groups] == [[0, 3], [1], [2], [4]]
    (_, tensors), *_ = groups
    expected = library(qwen).preprocess([IMAGES[0], IMAGES[3]])
    assert all(
        torch.equal(value, expected[name]) and value.dtype == expected[name].dtype for name, value in tensors.items()
    )
    model.preprocess.can_join = False
    assert [members for members, _ in model.preprocess.batches(batch(model, IMAGES))] == [[0], [1], [2], [3], [4]]


def test_workers_receive_the_preprocessing_without_the_weights(folder, load):
    model = load(folder)
    content = pickle.dumps(model.preprocess)
    weights = b"".join(value.numpy().tobytes() for value in list(model.network.parameters())[:4])
    assert weights[:64] not in content
    assert torch.equal(pickle.loads(content)(IMAGES[0]), model.preprocess(IMAGES[0]))


def test_a_text_that_looks_like_an_address_stays_a_text(qwen, clip, load):
    for folder in (qwen, clip):
        model = load(folder)
        address = "http://127.0.0.1:9/cube.jpg"
        assert abs(model.encode_text([address]) - model.encode_text(["a"])).max() > 1e-4


def test_truncated_texts_are_counted_with_their_prompt_and_template(qwen, clip, load):
    assert load(clip).truncated(TEXTS) == [False, True, False, True]  # the tiny one reads letters
    model = load(f"{qwen}?text-prompt=query")
    added = model.added_tokens - 1
    assert added > 20
    assert model.truncated(["a" * (CONTEXT - added), "a" * (CONTEXT - added + 1)]) == [False, True]


def test_the_digest_follows_weights_settings_and_tokenizer_but_not_the_place(clip, clip_copy, load):
    digest = load(clip).digest
    assert load_model(f"st:{clip_copy}").digest == digest
    for name, old, new in (
        ("processor_config.json", '"shortest_edge": 32', '"shortest_edge": 36'),
        ("config_sentence_transformers.json", '"model_type"', '"truncate_dim": 4, "model_type"'),
        ("tokenizer_config.json", '"model_max_length": 20', '"model_max_length": 19'),
    ):
        path = clip_copy / name
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new))
        assert load_model(f"st:{clip_copy}").digest != digest, name
        path.write_text(content)
    encoder = library(clip)
    with torch.no_grad():
        encoder[0].model.text_projection.weight[0, 0] += 1e-3
    encoder.save_pretrained(str(clip_copy))
    assert load_model(f"st:{clip_copy}").digest != digest


def test_the_sheet_says_how_the_model_is_read(folder, load):
    model = load(folder)
    assert json.loads(json.dumps(model.describe())) == model.describe()
    lines = "\n".join(describe_model(model).lines())
    assert "text prompt" in lines
    assert "context length" in lines
    assert "dot product of unit embeddings" in lines


def test_the_layout_of_before_version_5_4_is_read(clip, tmp_path, load):
    """As clip-ViT-B-32 on the hub: `CLIPModel` in a folder of its own, without settings."""
    shutil.copytree(clip, tmp_path / "old" / "0_CLIPModel")
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "README.md"):
        (tmp_path / "old" / "0_CLIPModel" / name).unlink()
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    (tmp_path / "old" / "modules.json").write_text(json.dumps(modules))
    old, new = load_model(f"st:{tmp_path / 'old'}"), load(clip)
    assert torch.equal(old.encode_text(TEXTS), new.encode_text(TEXTS))
    assert check_model(f"st:{tmp_path / 'old'}").problem == ""


def change_json(file, **changes):
    content = json.loads(file.read_text())
    (content[0] if isinstance(content, list) else content).update(changes)
    file.write_text(json.dumps(content))


BERT = "sentence_transformers.sentence_transformer.modules.WordEmbeddings"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "modules.json").unlink(), "has no modules.json, .* transformers saved it: write hf:"),
        (lambda f: (f / "modules.json").write_text("[1]"), "is not a list of modules"),
        (lambda f: change_json(f / "modules.json", path="../elsewhere"), "which is not inside it"),
        (lambda f: change_json(f / "modules.json", type="mine.Encoder"), r"mine.Encoder is not .* add \?trust-remote"),
        (lambda f: change_json(f / "modules.json", type=BERT), "WordEmbeddings is of texts only or unknown"),
        (lambda f: (f / "sentence_bert_config.json").unlink(), "embeds texts only"),
        (lambda f: change_json(f / "sentence_bert_config.json", tokenizer_name_or_path="x/y"), "its tokenizer is else"),
        (lambda f: change_json(f / "sentence_bert_config.json", model_args={"device_map": "auto"}), "with device_map"),
        (lambda f: change_json(f / "config_sentence_transformers.json", model_type="CrossEncoder"), "a 'CrossEncoder'"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "is an adapter"),
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "processor_config.json").unlink(), "has no preprocessor_config.json"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer: put tokenizer.json"),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"0" * 100), "not a whole safetensors file"),
    ],
)  # fmt: skip
def test_other_folders_are_refused_in_one_line_before_they_are_read(clip_copy, spoil, message):
    spoil(clip_copy)
    problem = check_model(f"st:{clip_copy}").problem
    assert "\n" not in problem
    with pytest.raises(RequestError, match=message):
        raise RequestError(problem)
    with pytest.raises(RequestError, match=message):
        load_model(f"st:{clip_copy}")


def test_missing_and_broken_weights_are_refused(clip, clip_copy):
    from safetensors.torch import load_file, save_file

    tensors = load_file(clip / "model.safetensors")
    name = "text_projection.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, clip_copy / "model.safetensors")
    with pytest.raises(RequestError, match=f"lacks 1 of the model's tensors: {name}"):
        load_model(f"st:{clip_copy}")
    larger = torch.cat([tensors[name], tensors[name]])
    save_file(tensors | {name: larger}, clip_copy / "model.safetensors")
    with pytest.raises(RequestError, match=f"has 1 tensors of other shapes than the model's: {name}"):
        load_model(f"st:{clip_copy}")
    save_file(tensors | {name: tensors[name] * float("nan")}, clip_copy / "model.safetensors")
    with pytest.raises(RequestError, match="the weights are broken"):
        load_model(f"st:{clip_copy}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("?text-prompt=passage", "has no prompt 'passage'; it has document, query"),
        ("?image-prompt=document", "its images take no prompt"),
        ("?revision=main", "a folder has no revisions"),
        ("?scorer=itm", "there is no folder"),
        ("?trust-remote-code=1", "the model has no code of its own"),
        ("?text-prompt=", "has the option text-prompt as ''"),
    ],
)
def test_wrong_options_are_refused(clip_copy, options, message):
    change_json(clip_copy / "config_sentence_transformers.json", prompts={"query": "q:", "document": "d:"})
    with pytest.raises(RequestError, match=message):
        load_model(f"st:{clip_copy}{options}")


def test_code_of_the_model_runs_only_if_the_spec_says_so(clip_copy, capfd, monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "cache"))
    (clip_copy / "twice.py").write_text(
        "from sentence_transformers.base.modules import Transformer\n\n\nclass Twice(Transformer):\n"
        "    def forward(self, features, **options):\n        output = super().forward(features, **options)\n"
        "        output['sentence_embedding'] = 2 * output['sentence_embedding']\n        return output\n"
    )
    plain = load_model(f"st:{clip_copy}")
    change_json(clip_copy / "modules.json", type="twice.Twice")
    with pytest.raises(RequestError, match="read its code"):
        load_model(f"st:{clip_copy}")
    assert "foreign code" not in capfd.readouterr().err
    model = load_model(f"st:{clip_copy}?trust-remote-code=1")
    assert "runs foreign code" in capfd.readouterr().err
    assert torch.equal(model.encode_text(TEXTS), 2 * plain.encode_text(TEXTS))
    (clip_copy / "twice.py").open("a").write("# more\n")
    assert load_model(f"st:{clip_copy}?trust-remote-code=1").digest != model.digest
    change_json(clip_copy / "modules.json", type="someone/code--twice.Twice")
    with pytest.raises(RequestError, match="in another repository, someone/code"):
        load_model(f"st:{clip_copy}?trust-remote-code=1")
    with pytest.raises(RequestError, match="&revision=COMMIT with the 40 digits"):
        load_model("st:someone/model?trust-remote-code=1")


def test_a_hub_id_is_read_from_the_cache_without_a_network(clip, tmp_path, monkeypatch):
    import socket

    def refuse(*_, **__):
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert check_model("st:clip-tiny").note == "would be fetched (not checked)"
    with pytest.raises(RequestError, match="not readable from the cache, and the hub cannot be reached"):
        load_model("st:clip-tiny")
    home = tmp_path / "hub" / "models--sentence-transformers--clip-tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    shutil.copytree(clip, home / "snapshots" / commit)
    check = check_model("st:clip-tiny")
    assert (check.problem, check.note) == ("", "")
    model = load_model("st:clip-tiny")
    assert model.source == "sentence-transformers/clip-tiny"
    assert model.digest == load_model(f"st:{clip}").digest
    assert check_model(f"st:clip-tiny?revision={commit[::-1]}").note == "would be fetched (not checked)"


def test_without_the_package_the_message_has_the_command(clip, monkeypatch):
    from importlib import metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    problem = check_model(f"st:{clip}").problem
    assert INSTALL in problem
    assert "\n" not in problem
    monkeypatch.setattr(metadata, "version", lambda name: "5.4.1")
    assert "6.2 or later, not 5.4.1" in check_model(f"st:{clip}").problem
