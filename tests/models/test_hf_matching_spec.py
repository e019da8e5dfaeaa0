"""`hf:...?scorer=itm`: saved BLIP and BLIP-2 models, read back, against the library's own logits."""

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

from cosmos_eval.models import load_model
from cosmos_eval.models.preflight import check_model
from tests.helpers.tiny_hf import BUILD, save

SIZES = ((50, 40), (32, 32), (33, 90))
TEXTS = ["a red circle", "two blue squares beside a green triangle " * 9, "x"]


@pytest.mark.parametrize("name", ["blip", "blip_2"])
@torch.no_grad()
def test_scores_of_a_saved_model_are_those_of_the_library(name, tmp_path):
    folder = save(tmp_path / name, BUILD[name])
    plain, model = load_model(f"hf:{folder}"), load_model(f"hf:{folder}?scorer=itm")
    assert model.digest != plain.digest
    assert model.describe() == {**plain.describe(), "scorer": "itm"}
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in SIZES]
    x = torch.stack([model.preprocess(image) for image in images])
    tokens = model.tokenizer(TEXTS, padding=True, truncation=True, max_length=model.context_length, return_tensors="pt")
    inputs = {"pixel_values": x, "input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
    if name == "blip":
        logits = hf.BlipForImageTextRetrieval.from_pretrained(folder).eval()(**inputs, use_itm_head=True).itm_score
    else:
        network = hf.Blip2ForImageTextRetrieval.from_pretrained(folder).eval()
        logits = network(**inputs, use_image_text_matching_head=True).logits_per_image
    scores = model.score_pairs(x, TEXTS)
    torch.testing.assert_close(scores, logits[:, 1] - logits[:, 0], atol=2e-6, rtol=0)
    assert scores.std() > 1e-2
    assert torch.equal(model.encode_text(TEXTS), plain.encode_text(TEXTS))


@pytest.mark.parametrize("name", ["align", "blip_model"])
def test_a_model_without_the_head_is_refused_before_it_is_loaded(name, tmp_path):
    problem = check_model(f"hf:{save(tmp_path / name, BUILD[name])}?scorer=itm").problem
    assert "has no image-text matching head; ?scorer=itm is for" in problem
    assert "\n" not in problem
