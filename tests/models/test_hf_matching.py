"""Image-text matching heads of BLIP and BLIP-2: the library's own logits, for batches of any size."""

from types import SimpleNamespace

import pytest
import torch
import transformers as hf

from cosmos_core.errors import RequestError
from cosmos_eval.models.hf_matching import matching_class, matching_head

SIDE = 32
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
          "image_size": SIDE, "patch_size": 8}  # fmt: skip
TEXT = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 20, "encoder_hidden_size": 16}  # fmt: skip


def blip():
    config = hf.BlipConfig(text_config=TEXT, vision_config=VISION, projection_dim=8, image_text_hidden_size=8)
    return hf.BlipForImageTextRetrieval(config)


def blip_2():
    opt = {"model_type": "opt", "vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "ffn_dim": 8,
           "num_attention_heads": 1, "word_embed_proj_dim": 8, "max_position_embeddings": 8}  # fmt: skip
    config = hf.Blip2Config(
        vision_config={**VISION, "qkv_bias": True},
        qformer_config={**TEXT, "cross_attention_frequency": 1, "use_qformer_text_input": True},
        text_config=opt, num_query_tokens=3, image_text_hidden_size=8, image_token_index=None,
    )  # fmt: skip
    return hf.Blip2ForImageTextRetrieval(config)


class Adapter:
    """What the mixin needs of an adapter of `hf:`; a text is the number of its tokens."""

    spec, digest, device = "hf:tiny", "1234", torch.device("cpu")

    def __init__(self, network):
        self.network = network

    def _tokenizer_outputs(self, texts):
        lengths = torch.tensor([int(text) for text in texts])
        positions = torch.arange(int(lengths.max()))
        mask = (positions < lengths[:, None]).long()
        return {"input_ids": (1 + (positions * 7 + lengths[:, None]) % 50) * mask, "attention_mask": mask}

    def describe(self):
        return {"arch": "tiny"}


def library_scores(network, images, inputs):
    """The two logits of the library's own forward."""
    if isinstance(network, hf.BlipForImageTextRetrieval):
        logits = network(pixel_values=images, use_itm_head=True, **inputs).itm_score
    else:
        logits = network(pixel_values=images, use_image_text_matching_head=True, **inputs).logits_per_image
    return logits


@pytest.mark.parametrize("build", [blip, blip_2])
@torch.no_grad()
def test_scores_are_the_librarys_logits_whatever_shares_a_batch(build):
    torch.manual_seed(0)
    network = build().eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.3)
    model = matching_class(Adapter)(network)
    images, texts = torch.randn(3, 3, SIDE, SIDE), ["4", "9", "2"]
    logits = library_scores(network, images, model._tokenizer_outputs(texts))
    scores = model.score_pairs(images, texts)
    assert torch.allclose(scores, logits[:, 1] - logits[:, 0], rtol=0, atol=2e-6)
    # The order of the probability of a match, which is what the library's documentation computes.
    assert scores.sigmoid().tolist() == pytest.approx(logits.softmax(1)[:, 1].tolist(), abs=1e-6)
    assert scores.std() > 1e-2
    for i in range(3):  # alone, and so without padding
        single = library_scores(network, images[i : i + 1], model._tokenizer_outputs(texts[i : i + 1]))[0]
        assert scores[i].item() == pytest.approx(float(single[1] - single[0]), abs=2e-6)


def test_the_scorer_is_part_of_the_digest_and_of_the_record():
    model = matching_class(Adapter)(blip())
    assert (model.digest != Adapter.digest, len(model.digest)) == (True, 64)
    assert model.describe() == {"arch": "tiny", "scorer": "itm"}


def test_a_network_without_a_matching_head_is_refused_in_one_line():
    with pytest.raises(RequestError, match=r"a SimpleNamespace has no image-text matching head; \?scorer=itm is for"):
        matching_head(SimpleNamespace(), "hf:x")
