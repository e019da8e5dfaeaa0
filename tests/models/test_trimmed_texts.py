"""Texts without padding: the engine sorts them by length and batches them by tokens, and no embedding changes."""

import random

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_core.model import COSMOS
from cosmos_core.text_tower import causal_text
from cosmos_core.tokenizer import Tokenizer
from cosmos_eval.engine import Engine
from cosmos_eval.engine.text_batches import batches_by_length
from cosmos_eval.models import load_model
from cosmos_eval.models.cosmos import CosmosModel
from cosmos_eval.models.open_clip import OpenClipModel
from cosmos_eval.models.preprocess import ImagePreprocess
from tests.closeness import assert_close
from tests.helpers.stand_ins import RandomModel

VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 24, "vocab_size": 400, "width": 32, "heads": 4, "layers": 2}
WORDS = ["a", "red", "cube", "on", "two", "large", "blue", "spheres", "beside", "the", "small", "green", "thing"]


def caption(rng: random.Random, longest: int = 30) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(0, longest)))


def captions(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [caption(rng) for _ in range(count)]


class WithoutTrimming:
    """A model of which the engine sees whole texts, because it has no `trimmed_text`."""

    def __init__(self, model) -> None:
        self.model, self.device, self.spec = model, model.device, model.spec
        self.encode_text = model.encode_text


@pytest.fixture(scope="module")
def clip() -> OpenClipModel:
    torch.manual_seed(0)
    network = open_clip.CLIP(32, VISION, TEXT)
    for block in network.transformer.resblocks:
        torch.nn.init.normal_(block.attn.in_proj_weight, std=0.3)
    torch.nn.init.normal_(network.token_embedding.weight)
    tokenizer = Tokenizer(TEXT["context_length"], TEXT["vocab_size"])
    names = {"arch": "tiny", "config": {}, "spec": "open_clip:tiny/x", "source": "x", "activation_source": "file"}
    return OpenClipModel(network, tokenizer, ImagePreprocess((32, 32)), **names)


def record_shapes(model, monkeypatch) -> list[tuple[int, int]]:
    """A list to which each call of the tower adds the shape of its ids."""
    shapes: list[tuple[int, int]] = []
    embedding = (model.network if hasattr(model, "network") else model.core).token_embedding
    forward = embedding.forward
    monkeypatch.setattr(embedding, "forward", lambda ids: (shapes.append(tuple(ids.shape)), forward(ids))[1])
    return shapes


def test_embeddings_of_trimmed_texts_are_those_of_whole_texts(clip):
    texts = captions(70)
    whole = Engine(WithoutTrimming(clip), batch_size=4).text_features(texts)
    assert (whole - Engine(clip, batch_size=4).text_features(texts)).abs().max() < 2e-6
    assert (whole - Engine(clip, batch_size=1).text_features(texts)).abs().max() < 2e-6
    assert (whole - Engine(clip, batch_size=64).text_features(texts)).abs().max() < 2e-6


def test_a_cosmos_is_trimmed_and_stays_in_training():
    torch.manual_seed(0)
    text = {**TEXT, "attn_pooler_heads": 2}
    core = COSMOS(32, {**VISION, "attn_pooler_heads": 2}, text).train()
    model = CosmosModel(core)
    texts = captions(30)
    features = Engine(model, batch_size=2).text_features(texts)
    assert (features - Engine(WithoutTrimming(model), batch_size=2).text_features(texts)).abs().max() < 2e-6
    assert core.training
    assert not features.requires_grad
    assert all(parameter.requires_grad for parameter in core.parameters())


def test_batches_hold_texts_of_similar_length_and_no_more_tokens_than_whole_texts_would(clip, monkeypatch):
    monkeypatch.setattr("cosmos_eval.models.trimmed_text.TOKENS_ON_CPU", 10**9)
    shapes = record_shapes(clip, monkeypatch)
    texts = list(dict.fromkeys(captions(200)))
    lengths = clip.trimmed_text.tokens(texts).lengths
    Engine(clip, batch_size=2).text_features(texts)
    assert sum(count for count, _ in shapes) == len(texts)
    assert all(count * length <= 2 * 4 * 24 for count, length in shapes)
    assert [length for _, length in shapes] == sorted((length for _, length in shapes), reverse=True)
    assert shapes[0][1] == lengths.max()
    assert sum(count * length for count, length in shapes) < 1.1 * lengths.sum()


def test_on_a_cpu_a_batch_passes_the_tower_in_parts(clip, monkeypatch):
    texts = list(dict.fromkeys(captions(100)))
    undivided = Engine(clip, batch_size=64).text_features(texts)
    monkeypatch.setattr("cosmos_eval.models.trimmed_text.TOKENS_ON_CPU", 50)
    shapes = record_shapes(clip, monkeypatch)
    parts = Engine(clip, batch_size=64).text_features(texts)
    assert all(count * length <= 50 for count, length in shapes)
    assert (parts - undivided).abs().max() < 2e-6


def test_the_same_texts_at_the_same_batch_size_give_the_same_bits(clip):
    texts = captions(90)
    first = Engine(clip, batch_size=3).text_features(texts)
    assert torch.equal(first, Engine(clip, batch_size=3, workers=2).text_features(texts))
    engine = Engine(clip, batch_size=3)
    engine.text_features(captions(40, seed=1))  # texts in both lists are not encoded again
    assert torch.allclose(first, engine.text_features(texts), atol=1e-5)


def test_texts_with_equal_ids_share_one_embedding(clip, monkeypatch):
    cut = " ".join(["cube"] * 40)
    texts = ["a red cube", *captions(50), "A  RED cube", cut, cut + " and more", "a red cube"]
    shapes = record_shapes(clip, monkeypatch)
    features = Engine(clip, batch_size=1).text_features(texts)
    assert torch.equal(features[0], features[51])
    assert torch.equal(features[0], features[54])
    assert torch.equal(features[52], features[53])
    assert sum(count for count, _ in shapes) == len({tuple(ids) for ids in clip.tokenizer(texts).tolist()})
    assert (features - Engine(WithoutTrimming(clip)).text_features(texts)).abs().max() < 2e-6


def test_a_tower_that_is_not_causal_sees_whole_texts_in_their_order(clip):
    torch.manual_seed(0)
    network = open_clip.CustomTextCLIP(32, VISION, {**TEXT, "no_causal_mask": True, "pool_type": "last"})
    assert causal_text(network) is None
    names = {"arch": "tiny", "config": {}, "spec": "open_clip:tiny/x", "source": "x", "activation_source": "file"}
    siglip = OpenClipModel(network, clip.tokenizer, ImagePreprocess((32, 32)), **names)
    assert siglip.trimmed_text is None
    batches = []
    network.text.register_forward_pre_hook(lambda module, arguments: batches.append(arguments[0]))
    texts = list(dict.fromkeys(captions(30)))
    features = Engine(siglip, batch_size=2).text_features(texts)
    assert torch.equal(torch.cat(batches), clip.tokenizer(texts))
    assert [len(ids) for ids in batches] == [8] * (len(texts) // 8) + [len(texts) % 8] * bool(len(texts) % 8)
    assert_close(
        features,
        torch.nn.functional.normalize(
            torch.cat([siglip.encode_text(texts[i : i + 8]) for i in range(0, len(texts), 8)]), dim=1
        ),
    )


def test_adapters_without_trimmed_text_encode_whole_texts():
    model = RandomModel()
    Engine(model, batch_size=1).text_features(["long text " * 9, "b", "c", "b", "e", "f"])
    assert model.text_batches == [["long text " * 9, "b", "c", "e"], ["f"]]


def test_a_bad_text_is_named_whatever_the_order_of_encoding(clip):
    broken = OpenClipModel(
        open_clip.CLIP(32, VISION, TEXT), clip.tokenizer, clip.preprocess,
        arch="tiny", config={}, spec="open_clip:tiny/x", source="x", activation_source="file",
    )  # fmt: skip
    token = int(clip.tokenizer(["zebra"])[0, 1])
    with torch.no_grad():
        broken.network.token_embedding.weight[token] = float("nan")
    with pytest.raises(RequestError, match="the text 'zebra cube' is not finite") as caught:
        Engine(broken, batch_size=1).text_features(["a cube", "zebra cube", "a long text without one in it", "cube"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_reaches_the_trimmed_tower(clip, precision):
    texts = captions(20)
    exact = Engine(clip, precision="fp32").text_features(texts)
    half = Engine(clip, precision=precision).text_features(texts)
    assert half.dtype == torch.float32
    assert 1e-6 < (half - exact).abs().max() < 5e-2
    whole = Engine(WithoutTrimming(clip), precision=precision).text_features(texts)
    assert (half - whole).abs().max() < 5e-2


def test_an_empty_text_and_a_truncated_one_are_encoded(clip):
    long = " ".join(["sphere"] * 99)
    features = Engine(clip).text_features(["", long])
    assert clip.trimmed_text.tokens(["", long]).lengths.tolist() == [2, 24]
    assert (features - Engine(WithoutTrimming(clip)).text_features(["", long])).abs().max() < 2e-6


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 77), min_size=1, max_size=60), st.integers(1, 300))
def test_every_text_is_in_one_batch_and_batches_keep_their_budget(lengths, budget):
    batches = batches_by_length(torch.tensor(lengths), budget)
    order = [j for batch in batches for j in batch.tolist()]
    assert order == sorted(range(len(lengths)), key=lambda j: (-lengths[j], j))
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        longest = max(lengths[j] for j in batch.tolist())
        assert len(batch) == 1 or len(batch) * longest <= budget
        if following is not None:
            assert (len(batch) + 1) * longest > budget  # as large as the budget allows


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(alphabet="ab c", max_size=12), min_size=1, max_size=20), st.randoms())
def test_batches_of_any_texts_have_the_ids_of_the_tokenizer(clip, texts, rng):
    tokens = clip.trimmed_text.tokens(texts)
    ids = clip.tokenizer(texts)
    assert len(tokens) == len(texts)
    indices = rng.sample(range(len(texts)), rng.randint(1, len(texts)))
    batch = tokens.batch(torch.tensor(indices))
    assert len(batch) == len(indices)
    assert torch.equal(batch.lengths, (ids[indices] != 0).sum(1))
    assert torch.equal(batch.ids.long(), ids[indices][:, : int(batch.lengths.max())])
    texts_as_ids = [tuple(text_ids) for text_ids in ids.tolist()]
    pairs = set(zip(texts_as_ids, tokens.contents(), strict=True))
    assert len(pairs) == len(set(texts_as_ids)) == len(set(tokens.contents()))


def test_the_model_of_the_package_gives_the_same_scores(clip):
    model = load_model("cosmos:toybox")
    texts = captions(40)
    features, whole = Engine(model).text_features(texts), Engine(WithoutTrimming(model)).text_features(texts)
    assert (features @ features.T - whole @ whole.T).abs().max() < 2e-6
