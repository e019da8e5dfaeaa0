"""Each family of transformers that `hf:` reads, against the library's own scores, on tiny random models."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from torch.nn.functional import normalize

from cosmos_core.errors import RequestError
from cosmos_eval.models import load_model
from cosmos_eval.models.abilities import has_similarity, is_pair_scorer, read_facts
from cosmos_eval.models.base import Model
from cosmos_eval.models.hf_families import families_table
from cosmos_eval.models.hf_preprocess import unpack_patches
from cosmos_eval.models.preflight import check_model
from cosmos_eval.models.spec_kinds.hf import HF_OPTIONS
from tests.helpers.tiny_hf import BUILD, save

TEXTS = ["a", "two blue spheres left of the red cube.", "a Red cube", "the cube, a red cube, " * 9]
SIZES = [(50, 40), (33, 97), (7, 5)]
TOLERANCE = 2e-6


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    return {}, tmp_path_factory.mktemp("families")


@pytest.fixture(params=BUILD)
def folder(request, folders):
    return tiny(folders, request.param)


def tiny(folders, name):
    saved, root = folders
    if name not in saved:
        saved[name] = save(root / name, BUILD[name])
    return saved[name]


@pytest.fixture
def model(folder, models):
    if folder not in models:
        models[folder] = load_model(f"hf:{folder}")
    return models[folder]


@pytest.fixture(scope="session")
def models():
    return {}


def noise(size):
    return Image.fromarray(np.random.default_rng(size).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def library_cosines(folder, context):
    """The library's own scores of `SIZES` and `TEXTS`, without its factor and constant."""
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    network = getattr(hf, architecture).from_pretrained(folder).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    is_siglip = architecture.startswith("Siglip")
    padding = "max_length" if is_siglip else True
    tokens = tokenizer(TEXTS, padding=padding, truncation=True, max_length=context, return_tensors="pt")
    inputs = {key: tokens[key] for key in (["input_ids"] if is_siglip else ["input_ids", "attention_mask"])}
    inputs |= dict(processor(images=[noise(size) for size in SIZES], return_tensors="pt"))
    with torch.no_grad():
        match architecture:
            case "BlipForImageTextRetrieval":
                return network(**inputs, use_itm_head=False).itm_score
            case "Blip2ForImageTextRetrieval":
                return network(**inputs).logits_per_image
            case "FlavaForPreTraining":
                # its loss is symmetric and needs as many images as texts
                logits = [network(**{k: v[:3] for k, v in inputs.items()}, return_loss=False)]
                return logits[0].contrastive_logits_per_image / network.flava.logit_scale.exp()
            case "CLIPSegForImageSegmentation":
                network = network.clip
        logits = network(**inputs).logits_per_image - (network.logit_bias if is_siglip else 0)
        return logits * network.temperature if hasattr(network, "temperature") else logits / network.logit_scale.exp()


def cosines(model, images, texts):
    images, texts = normalize(images, dim=-1), normalize(texts, dim=-1)
    return model.similarity(images, texts) if has_similarity(model) else images @ texts.T


def test_scores_are_those_of_the_library(folder, model):
    assert isinstance(model, Model)
    expected = library_cosines(folder, model.context_length)
    assert expected.std() > 0.01
    x = torch.stack([model.preprocess(noise(size)) for size in SIZES])
    scores = cosines(model, model.encode_image(x), model.encode_text(TEXTS))
    torch.testing.assert_close(scores[:, : expected.shape[1]], expected, atol=TOLERANCE, rtol=0)


def test_padding_and_the_composition_of_a_batch_change_nothing(model):
    assert model.truncated([TEXTS[0], TEXTS[-1]]) == [False, True]
    texts = normalize(model.encode_text(TEXTS), dim=-1)
    alone = torch.cat([normalize(model.encode_text([text]), dim=-1) for text in TEXTS])
    torch.testing.assert_close(texts, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(normalize(model.encode_text(TEXTS[::-1]), dim=-1).flip(0), texts, atol=1e-6, rtol=0)
    x = torch.stack([model.preprocess(noise(size)) for size in SIZES])
    images = normalize(model.encode_image(x), dim=-1)
    alone = torch.cat([normalize(model.encode_image(image[None]), dim=-1) for image in x])
    torch.testing.assert_close(images, alone, atol=1e-6, rtol=0)


def test_descriptions_are_json_and_facts_have_the_factor_of_the_logits(folder, model):
    described = model.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["padding"] == ("max_length" if folder.name.startswith("siglip") else "longest")
    assert described["context_length"] == 20
    assert (read_facts(model)["logit_scale"] is None) == (folder.name in ("blip", "blip_2"))


@pytest.mark.parametrize(("option", "backend"), [("", "pil"), ("?processor=fast", "torchvision")])
def test_pixels_are_those_of_both_processors_of_the_library(folder, model, option, backend):
    preprocess = (load_model(f"hf:{folder}{option}") if option else model).preprocess
    processor = hf.AutoImageProcessor.from_pretrained(folder, backend=backend)
    for size in SIZES:
        expected, pixels = processor(images=noise(size), return_tensors="pt"), preprocess(noise(size))
        if preprocess.patches:
            rows, columns = expected["spatial_shapes"][0].tolist()
            assert pixels[:, -3].sum() == rows * columns
            assert pixels[0, -2:].tolist() == [rows, columns]
            pixels = pixels[:, :-3]
        assert torch.equal(pixels, expected["pixel_values"][0])


@pytest.mark.parametrize(
    ("missing", "message"),
    [("tokenizer.json", "has no tokenizer"), ("preprocessor_config.json", "has no preprocessor_config.json")],
)
def test_a_folder_without_tokenizer_or_processor_is_refused_in_one_line(folder, tmp_path, missing, message):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / missing).unlink()
    problem = check_model(f"hf:{tmp_path / 'copy'}").problem
    assert message in problem
    assert "\n" not in problem


def test_a_folder_with_the_weights_of_another_model_is_refused_in_one_line(folder, folders, tmp_path):
    """transformers itself would put random numbers in their place."""
    other = tiny(folders, "clip" if folder.name == "align" else "align")
    shutil.copytree(folder, tmp_path / "copy")
    shutil.copy(other / "model.safetensors", tmp_path / "copy")
    with pytest.raises(
        RequestError, match=r"^hf:.*(the weights file (lacks|has)|they belong to different models)"
    ) as refusal:
        load_model(f"hf:{tmp_path / 'copy'}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("clip", "CLIPForImageClassification"),
        ("siglip", "SiglipForImageClassification"),
        ("siglip2", "Siglip2ForImageClassification"),
        ("metaclip_2", "MetaClip2VisionModel"),
        ("align", "AlignVisionModel"),
        ("altclip", "AltCLIPVisionModel"),
        ("chinese_clip", "ChineseCLIPVisionModel"),
        ("clipseg", "CLIPSegVisionModel"),
        ("groupvit", "GroupViTVisionModel"),
        ("flava", "FlavaImageModel"),
        ("blip", "BlipForConditionalGeneration"),
        ("blip-2", "Blip2ForConditionalGeneration"),
    ],
)
def test_a_model_for_another_task_is_refused_in_one_line(tmp_path, model_type, architecture):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": [architecture]}))
    with pytest.raises(RequestError, match=f"holds the weights of .*{architecture}.*, which embeds no") as refusal:
        load_model(f"hf:{tmp_path}")
    assert "\n" not in str(refusal.value)


def test_the_token_for_images_is_read_as_words(folders):
    model = load_model(f"hf:{tiny(folders, 'blip_2')}")
    assert torch.equal(model.encode_text(["a <image> cube"]), model.encode_text(["a < image > cube"]))


def test_patches_of_images_of_any_shape_pass_together_in_as_few_columns_as_they_need(folders):
    folder = tiny(folders, "siglip2")
    model = load_model(f"hf:{folder}")
    x = torch.stack([model.preprocess(noise(size)) for size in [(64, 4), (20, 20)]])
    assert x.shape == (2, 30, 3 * 4 * 4 + 3)
    patches = unpack_patches(x)
    assert patches["spatial_shapes"].tolist() == [
        [1, 16],
        [5, 5],
    ]  # at a larger scale: two rows
    assert patches["pixel_attention_mask"].sum(dim=1).tolist() == [16, 25]
    assert patches["pixel_values"].shape == (2, 25, 48)  # without the patches that are empty in both
    assert unpack_patches(x[:1])["pixel_values"].shape == (1, 16, 48)
    assert model.describe()["image_size"] == "30 patches of 4"
    fewer = load_model(f"hf:{folder}?max-num-patches=9")
    assert fewer.preprocess(noise((20, 20)))[0, -2:].tolist() == [3, 3]
    assert len({model.digest, fewer.digest, load_model(f"hf:{folder}?processor=fast").digest}) == 3


def test_options_that_do_not_fit_the_model_are_refused(folders):
    blip = tiny(folders, "blip")
    with pytest.raises(RequestError, match="takes images of one size; leave max-num-patches out"):
        load_model(f"hf:{blip}?max-num-patches=9")
    with pytest.raises(RequestError, match="a folder has no revisions"):
        load_model(f"hf:{blip}?revision=main")
    with pytest.raises(RequestError, match="has the option 'colour'; the options are processor, max-num-patches"):
        load_model(f"hf:{blip}?processor=fast&colour=red")
    with pytest.raises(RequestError, match="has the option processor as 'quick'"):
        load_model(f"hf:{blip}?processor=quick")


@pytest.mark.parametrize("name", ["blip", "blip_2"])
def test_the_matching_head_scores_pairs_and_the_embeddings_stay(folders, name):
    spec = f"hf:{tiny(folders, name)}"
    model, plain = load_model(f"{spec}?scorer=itm"), load_model(spec)
    assert is_pair_scorer(model)
    assert not is_pair_scorer(plain)
    assert has_similarity(model) == has_similarity(plain) == (name == "blip_2")
    assert model.digest != plain.digest
    x = torch.stack([model.preprocess(noise(size)) for size in SIZES])
    assert torch.equal(model.encode_image(x), plain.encode_image(x))
    scores = model.score_pairs(x, TEXTS[:3])
    assert scores.shape == (3,)
    assert scores.std() > 0


def test_a_model_without_a_matching_head_is_refused(folders):
    with pytest.raises(RequestError, match="has no image-text matching head"):
        load_model(f"hf:{tiny(folders, 'siglip2')}?scorer=itm")


def test_retrieval_runs_with_patches_and_with_several_vectors_for_each_image(folders, tmp_path):
    from cosmos_eval import evaluate

    for name in ("siglip2", "blip_2"):
        (result,) = evaluate(f"hf:{tiny(folders, name)}", ["toybox-retrieval"], out=tmp_path, limit=6)
        assert 0 <= result.metrics["image_to_text_recall@1"].value <= 1


def test_the_page_on_transformers_has_the_table_of_families():
    page = (Path(__file__).parents[2] / "docs" / "transformers.md").read_text(encoding="utf-8")
    assert "\n".join(families_table()) in page
    assert all(f"?{option}=" in page for option in HF_OPTIONS)
