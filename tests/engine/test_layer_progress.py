"""Progress within a batch: layers report items as done, the final count is exact, and features do not change."""

from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch import nn

from cosmos_eval.engine import Engine
from cosmos_eval.engine.layer_progress import LayerProgress, find_towers
from tests.helpers.stand_ins import RandomModel, random_images


class LayeredModel(RandomModel):
    """A model whose image tower has four layers before its projection."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.ModuleDict({"visual": nn.Sequential(*(nn.Identity() for _ in range(4)))})

    def encode_image(self, x):
        return super().encode_image(self.network["visual"](x))


class Watcher:
    def __init__(self) -> None:
        self.steps: list[int] = []

    @contextmanager
    def task(self, description, total, unit="it"):
        yield lambda n, text="": self.steps.append(n) if "encoding" in description else None

    def note(self, line):
        pass


def test_a_batch_advances_layer_by_layer_and_the_final_count_is_exact():
    watcher, model = Watcher(), LayeredModel()
    features = Engine(model, batch_size=8, reporter=watcher).image_features(random_images(10))
    # 8 images in 4 layers: two each; then 2 images: 0.5, 1, 1.5 and 2 of them
    assert watcher.steps == [2, 2, 2, 2, 1, 1]
    assert torch.equal(features, Engine(LayeredModel(), batch_size=8).image_features(random_images(10)))
    assert not any(layer._forward_hooks for layer in model.network["visual"])


def test_no_hooks_are_attached_while_no_progress_is_shown():
    model = LayeredModel()
    progress = LayerProgress(model)
    with progress.shown(lambda n, text="": None):
        assert all(layer._forward_hooks for layer in model.network["visual"])
    engine = Engine(model, batch_size=8)  # silent
    hook_counts = []
    first_layer = model.network["visual"][0]

    def forward(x):
        hook_counts.append(len(first_layer._forward_hooks))
        return x

    first_layer.forward = forward
    engine.image_features(random_images(3))
    assert hook_counts == [0]


def test_the_count_of_a_batch_in_parts_never_decreases_and_ends_at_its_size():
    steps: list[int] = []
    progress = LayerProgress(LayeredModel())
    visual = progress.model.network["visual"]
    with progress.shown(lambda n, text="": steps.append(n)):
        progress.start(8)
        for done in (0, 4):
            progress.start_part(done, 4, 8)
            visual(torch.zeros(4, 3, 8, 8))
            visual(torch.zeros(4, 3, 8, 8))  # a tower that runs its layers twice
        progress.finish(8)
    assert sum(steps) == 8
    assert all(step > 0 for step in steps)


def test_items_that_finish_in_a_later_batch_are_counted_once():
    steps: list[int] = []
    progress = LayerProgress(LayeredModel())
    with progress.shown(lambda n, text="": steps.append(n)):
        progress.start(2)
        progress.model.network["visual"](torch.zeros(1, 3, 8, 8))
        progress.finish(1)  # the second image has a window in the next batch
        progress.start(1)
        progress.model.network["visual"](torch.zeros(1, 3, 8, 8))
        progress.finish(1)
        progress.finish(1)
    assert sum(steps) == 3


def test_layers_are_found_by_tower_and_those_with_a_fast_path_are_left_out():
    clip = nn.ModuleDict(
        {
            "visual": nn.ModuleDict({"blocks": nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))}),
            "text": nn.ModuleList(nn.Linear(2, 2) for _ in range(5)),
            "projection": nn.Linear(2, 2),
        }
    )
    assert [len(layers) for layers in find_towers(SimpleNamespace(network=clip))] == [3, 5]
    assert [len(layers) for layers in find_towers(SimpleNamespace(adapter=SimpleNamespace(network=clip)))] == [3, 5]
    torch_encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 3, enable_nested_tensor=False)
    assert find_towers(SimpleNamespace(network=torch_encoder)) == []
    assert find_towers(SimpleNamespace(network=nn.Linear(2, 2))) == []
