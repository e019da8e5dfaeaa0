"""Models that a caller of `evaluate` holds in memory: of open_clip, of transformers, and a COSMOS."""

import types

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision import transforms
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, SiglipImageProcessorPil, SiglipModel
from transformers import PreTrainedTokenizerFast as FastTokenizer

from cosmos_core.errors import RequestError
from cosmos_core.model import COSMOS
from cosmos_eval import ClassificationData, SegmentationData, evaluate, load_model, make_benchmark
from cosmos_eval.models.python import as_model
from tests.helpers.tiny_hf import BUILD, save
from tests.models.test_models_cosmos import tiny_cosmos
from tests.models.test_models_hf import clip, clip_tokenizer, siglip

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["a red cube", "two blue spheres", "the cube " * 60]
TOKENIZER = open_clip.get_tokenizer("ViT-B-32")


def network(seed: int = 0, **vision) -> open_clip.CLIP:
    torch.manual_seed(seed)
    tower = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8, **vision}
    return open_clip.CLIP(
        embed_dim=16,
        vision_cfg=tower,
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    )


def preprocess(mean: float = 0.5) -> transforms.Compose:
    return transforms.Compose(
        [transforms.Resize((16, 16)), transforms.ToTensor(), transforms.Normalize((mean,) * 3, (0.25,) * 3)]
    )


def images(count: int = 6) -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.fixture
def data() -> ClassificationData:
    return ClassificationData.from_lists(images(), ["red cube", "sphere", "cone"] * 2, name="mine")


class Plain:
    """The adapter that its user would write."""

    def __init__(self, model: open_clip.CLIP) -> None:
        self.model = model.eval()
        self.preprocess = preprocess()

    def encode_image(self, x):
        return self.model.encode_image(x)

    def encode_text(self, texts):
        return self.model.encode_text(TOKENIZER(texts))


def test_a_model_of_open_clip_is_measured_as_by_an_adapter_and_is_not_changed(data):
    held = network().train()
    held.visual.requires_grad_(False)
    (result,) = evaluate((held, preprocess(), TOKENIZER), data)
    assert held.training
    assert {parameter.requires_grad for parameter in held.visual.parameters()} == {False}
    assert held.logit_scale.requires_grad
    (plain,) = evaluate(Plain(network()), data)
    assert result.metrics == plain.metrics
    assert result.model.spec == "python:open_clip.model:CLIP"
    assert result.timing.texts.truncated == 0
    assert result.model.activation == "gelu"
    model = as_model((held.eval(), preprocess(), TOKENIZER))
    assert model.truncated(TEXTS) == [False, False, True]
    assert torch.equal(model.encode_text(TEXTS), held.encode_text(TOKENIZER(TEXTS)))


def test_the_digest_is_of_what_the_model_is_now():
    def digest(model=None, transform=None, tokenizer=TOKENIZER):
        return as_model((model or network(), transform or preprocess(), tokenizer)).digest

    first = digest()
    assert digest() == first  # other objects with the same content
    trained = network()
    with torch.no_grad():
        trained.text_projection[0, 0] += 1e-3
    others = [
        digest(trained),
        digest(transform=preprocess(0.4)),
        digest(tokenizer=open_clip.SimpleTokenizer(context_length=77, clean="canonicalize")),
        digest(network().double()),
    ]
    assert len({first, *others}) == 5
    causal = network()
    causal.text_pool_type = "first"  # decides what is computed, and is not a weight
    assert digest(causal) != first


class Doubling(torch.nn.Module):
    """A network whose features depend on what its state dict does not have."""

    def __init__(self, factor: float = 1.0, kind: str = "buffer") -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        if kind == "buffer":
            self.register_buffer("factor", torch.tensor(factor), persistent=False)
        elif kind == "tensor":
            self.factor = torch.tensor(factor)
        elif kind == "private":
            self._factor = factor
        else:
            self.factors = {"image": factor}

    def encode_image(self, x):
        return x.mean((2, 3))

    def encode_text(self, ids):
        return ids[:, :3].float()


def digest_of(model, tokenizer=TOKENIZER) -> str:
    return as_model((model, preprocess(), tokenizer)).digest


@pytest.mark.parametrize("kind", ["buffer", "tensor", "private", "map"])
def test_the_digest_covers_what_the_state_dict_lacks(kind):
    assert digest_of(Doubling(1.0, kind)) == digest_of(Doubling(1.0, kind))
    assert digest_of(Doubling(1.0, kind)) != digest_of(Doubling(2.0, kind))


def test_the_digest_covers_the_code():
    def in_a_notebook(expression: str) -> torch.nn.Module:
        cell = f"class Cell(Doubling):\n    def encode_image(self, x):\n        return {expression}\n"
        exec(cell, names := {"Doubling": Doubling, "__name__": "__main__"})
        return names["Cell"]()

    def scaled(factor: float):
        return lambda x: factor * x.mean((2, 3))

    models = [
        in_a_notebook("x.mean((2, 3))"),
        in_a_notebook("x.mean((2, 3)).abs()"),
        Doubling(),
        Doubling(),
        Doubling(),
    ]
    models[3].encode_image = scaled(2.0)
    models[4].encode_image = scaled(3.0)
    hooked = Doubling()
    hooked.register_forward_hook(lambda module, given, result: 2 * result)
    assert len({digest_of(model) for model in (*models, hooked)}) == 6
    assert digest_of(in_a_notebook("x.mean((2, 3))")) == digest_of(models[0])


def test_the_digest_covers_the_code_of_a_tokenizer():
    def tokenizer(word: str):
        return lambda texts: torch.tensor([[len(text), int(word in text)] for text in texts])

    assert digest_of(Doubling(), tokenizer("zebra")) == digest_of(Doubling(), tokenizer("zebra"))
    assert digest_of(Doubling(), tokenizer("zebra")) != digest_of(Doubling(), tokenizer("gnu"))


def test_using_a_model_does_not_change_its_digest():
    held = network()
    before = digest_of(held)
    with torch.no_grad():
        held.encode_image(torch.rand(1, 3, 16, 16))
        held.encode_text(TOKENIZER(TEXTS))
    assert digest_of(held) == before


def test_a_loaded_model_that_was_trained_is_another_model(tmp_path, data):
    loaded = load_model("cosmos:untrained-toybox")
    (first,) = evaluate(loaded, data, out=tmp_path)
    with torch.no_grad():
        for parameter in loaded.core.parameters():
            parameter += 0.1
    (second,) = evaluate(loaded, data, out=tmp_path)
    assert first.model.digest != second.model.digest
    assert len(list(tmp_path.glob("*/mine/RESULT.json"))) == 2


class Reversed(COSMOS):
    def encode_image(self, x):
        return super().encode_image(x.flip(-1))


def test_a_class_that_inherits_from_cosmos_is_not_the_model_of_its_weights():
    core = tiny_cosmos()
    changed = Reversed(**core.config)
    changed.load_state_dict(core.state_dict())
    assert as_model(changed).digest not in ("", as_model(core).digest)


def test_results_of_a_trained_model_get_a_folder_of_their_own(tmp_path, data):
    held = network()
    evaluate((held, preprocess(), TOKENIZER), data, out=tmp_path)
    with torch.no_grad():
        held.text_projection += 1.0
    evaluate((held, preprocess(), TOKENIZER), data, out=tmp_path)
    evaluate((held, preprocess(), TOKENIZER), data, out=tmp_path)
    assert len(list(tmp_path.glob("*/mine/RESULT.json"))) == 2


def test_a_model_of_open_clip_segments_with_its_own_normalisation():
    masks = [np.zeros((20, 24), dtype=np.uint8) for _ in range(2)]
    masks[1][5:] = 1
    benchmark = make_benchmark(
        SegmentationData.from_lists(images(2), masks, ["red", "blue"]), settings={"crop": 16, "stride": 8}
    )
    (result,) = evaluate((network(), preprocess(), TOKENIZER), benchmark)
    assert 0 <= result.metrics["miou"].value <= 1
    model = as_model((network().eval(), preprocess(0.4), TOKENIZER))
    assert model.preprocess.mean == (0.4,) * 3
    assert model.encode_patches(torch.rand(1, 3, 16, 16)).shape == (1, 2, 2, 16)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_model_of_transformers_has_the_numbers_of_its_folder(family, tmp_path, data):
    folder = {"clip": clip, "siglip": siglip}[family](tmp_path)
    (expected,) = evaluate(f"hf:{folder}", data)
    if family == "clip":
        held = CLIPModel.from_pretrained(folder)
        processor = CLIPProcessor(CLIPImageProcessorPil.from_pretrained(folder), clip_tokenizer())
    else:
        held = SiglipModel.from_pretrained(folder)
        parts = SiglipImageProcessorPil.from_pretrained(folder), FastTokenizer.from_pretrained(folder)
        processor = types.SimpleNamespace(image_processor=parts[0], tokenizer=parts[1])
    held.train()
    (result,) = evaluate((held, processor), data)
    assert result.metrics == expected.metrics
    assert held.training
    assert result.model.extra["context_length"] == expected.model.extra["context_length"]
    assert as_model((held, processor)).digest == result.model.digest


@pytest.mark.parametrize("name", ["siglip2", "flava", "align"])
def test_other_families_of_transformers_have_the_features_of_their_folder(name, tmp_path):
    model = load_model(f"hf:{save(tmp_path, BUILD[name])}")
    processor = types.SimpleNamespace(image_processor=model.preprocess.processor, tokenizer=model.tokenizer)
    held = as_model((model.network, processor))
    x = torch.stack([model.preprocess(image) for image in images(2)])
    assert torch.equal(torch.stack([held.preprocess(image) for image in images(2)]), x)
    assert torch.equal(held.encode_image(x), model.encode_image(x))
    assert torch.equal(held.encode_text(TEXTS), model.encode_text(TEXTS))
    assert held.describe()["image_size"] == model.describe()["image_size"]
    assert held.facts() == model.facts()


def test_a_cosmos_needs_nothing_else(data):
    core = tiny_cosmos().train()
    (result,) = evaluate(core, data)
    assert result.model.spec == "cosmos:in-memory"
    assert core.training
    assert result.metrics["top1"].n == 6


def test_what_is_no_model_is_refused_with_the_form_that_works(data):
    random_crop = transforms.Compose([transforms.RandomResizedCrop(16), transforms.ToTensor()])
    how = r"\(model, preprocess, tokenizer\).*\(model, processor\)"
    for model, message in (
        (network(), f"without preprocess;.*{how}"),
        ((network(), preprocess()), f"with 1 further part.*{how}"),
        ((preprocess(), network()), f"does not begin with a model; .*{how}"),
        ((), f"does not begin with a model; .*{how}"),
        ((network(), preprocess(), preprocess()), "the tokenizer failed"),
        ((network(), preprocess(), "ViT-B-32"), "tokenizer is a str, which cannot be called"),
        ((network(), random_crop, TOKENIZER), "give the one for evaluation"),
        ((network(), lambda image: image, TOKENIZER), "preprocess returned Image"),
    ):
        with pytest.raises(RequestError, match=message) as refusal:
            evaluate(model, data)
        assert "\n" not in str(refusal.value)
    with pytest.raises(RequestError, match="without image_processor and tokenizer"):
        evaluate((CLIPModelLike(), object()), data)


class CLIPModelLike(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)

    def get_image_features(self, pixel_values):
        raise AssertionError


def test_models_are_shown_in_one_line():
    assert repr(load_model("python:tests.helpers.tiny_models:Colours")) == (
        "PythonModel('python:tests.helpers.tiny_models:Colours', on cpu)"
    )
    assert repr(as_model((network(), preprocess(), TOKENIZER))) == (
        "HeldDualEncoder('python:open_clip.model:CLIP', on cpu)"
    )
