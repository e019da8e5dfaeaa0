"""All tasks on a pretended card: no tensor on a wrong device, the CPU's metrics in float32, few waits of the host."""

import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import evaluate, load_model
from cosmos_eval.engine import Engine
from tests.device.pretended import pretended_card
from tests.engine.test_batch_splitter import make_images

BENCHMARKS = ("toybox-classification", "toybox-retrieval", "toybox-perception", "toybox-segmentation")
LIMIT = {"toybox-segmentation": 3}


def metrics(benchmark, **options):
    (result,) = evaluate("cosmos:toybox", benchmark, limit=LIMIT.get(benchmark, 16), batch_size=8, **options)
    return result.metrics


@pytest.fixture(scope="module")
def on_the_cpu():
    return {benchmark: metrics(benchmark, device="cpu") for benchmark in BENCHMARKS}


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_metrics_in_float32_are_those_of_the_cpu(benchmark, kind, on_the_cpu):
    with pretended_card(kind) as card:
        found = metrics(benchmark, device=kind, precision="fp32")
    assert card.kernels
    assert {name: metric.value for name, metric in found.items()} == pytest.approx(
        {name: metric.value for name, metric in on_the_cpu[benchmark].items()}, abs=1e-6
    )


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp16")])
@pytest.mark.parametrize("benchmark", ["toybox-classification", "toybox-segmentation"])
def test_auto_is_autocast_to_what_the_card_computes_in(benchmark, bf16, precision):
    with pretended_card(bf16=bf16):
        (result,) = evaluate("cosmos:toybox", benchmark, limit=3, device="cuda")
    assert result.precision.startswith(precision)
    assert all(0 <= metric.value <= 1 for metric in result.metrics.values())


def test_bfloat16_is_refused_on_a_card_that_emulates_it():
    with pretended_card(bf16=False), pytest.raises(RequestError, match=r"Pretended card\) does not compute in bf16"):
        evaluate("cosmos:toybox", "toybox-classification", limit=3, device="cuda", precision="bf16")


SPECS = ("cosmos:untrained-toybox", "cosmos:toybox?scorer=cross", "python:tests.helpers.tiny_models:Colours")


@pytest.mark.parametrize("spec", SPECS)
def test_adapters_score_on_the_card_as_on_the_cpu(spec):
    def metrics_of(device):
        (result,) = evaluate(spec, "toybox-retrieval", limit=6, batch_size=4, device=device, precision="fp32")
        return {name: metric.value for name, metric in result.metrics.items()}

    on_the_cpu = metrics_of("cpu")
    with pretended_card():
        assert metrics_of("cuda") == pytest.approx(on_the_cpu, abs=1e-6)


@pytest.mark.parametrize("attention", ["vanilla", "csa", "maskclip", "clearclip", "naclip", "raw"])
def test_patch_features_are_those_of_the_cpu(attention):
    model = load_model("cosmos:toybox")
    x = torch.stack([model.preprocess(image.load()) for image in make_images(2)])
    expected = model.encode_patches(x, attention=attention)
    with pretended_card():
        found = load_model("cosmos:toybox", device="cuda").encode_patches(x.to("cuda"), attention=attention)
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-6)


def test_the_host_waits_once_for_a_batch_of_images_and_its_copy():
    """One wait is the check that features are finite; the other is the copy of a batch that no worker has pinned."""
    with pretended_card() as card:
        engine = Engine(load_model("cosmos:toybox", device="cuda"), batch_size=4)
        images, waits = make_images(40), []
        for part in (images[:8], images[8:]):
            before = sum(card.waits.values())
            engine.image_features(part)
            waits.append(sum(card.waits.values()) - before)
    assert (waits[1] - waits[0]) / 6 <= 2
