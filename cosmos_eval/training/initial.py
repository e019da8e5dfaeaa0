"""The setting `init` of a training: weights of any model spec, as `cosmos_core.train` takes them.

Whether a model can become a COSMOS is not decided by its name: its adapter converts weights and configuration, and then
both networks embed the same images and texts. Where these differ, so would an evaluation before the first step.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.checkpoint import read_file
from cosmos_core.config import TrainConfig
from cosmos_core.configs import Config
from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.initial_weights import InitialWeights, LoadInitial, require_same_architecture, start_from
from cosmos_core.prepare import initial_model
from cosmos_core.run_state import portable_source
from cosmos_core.snapshot_checks import LAST
from cosmos_eval.models import load_model
from cosmos_eval.models.cosmos import CosmosModel
from cosmos_eval.models.preflight import check_model

TOLERANCE = 1e-4
"""Largest difference of a value of two unit features that count as equal."""
TEXTS = ("a red cube", "two dogs and a cat, playing.", "A photo of THE 3rd house: it's old")


def prepare_initial(config: TrainConfig, overwrite: bool = False) -> tuple[TrainConfig, LoadInitial | None]:
    """The configuration with an architecture in `model`, and a function that loads `init`; None without `init`.

    Where `model` is empty, a run that will be resumed has the architecture of its checkpoint, so that the weights it
    began with need not be there any more; else they are loaded here.

    Raises:
        RequestError: as `load_initial`.
    """
    if not config.init:
        return config, None

    @cache
    def load() -> InitialWeights:
        return load_initial(config.init)

    if config.model:
        return config, load
    model = None if overwrite else architecture_of_run(config)
    return replace(config, model=model or load().config), load


def architecture_of_run(config: TrainConfig) -> Config | None:
    """The model in a checkpoint of the run's folder, if that run began with the same `init`; else None."""
    folder = user_path(config.out) if config.out else None
    if folder is None or not folder.is_dir():
        return None
    for path in (folder / LAST, *sorted(folder.glob("step-*.pt"), reverse=True)):
        try:
            training: Any = read_file(path, check=False).get("training", {})
        except RequestError:
            continue  # the training itself looks for an intact one, and says what is wrong
        if isinstance(training, dict) and training.get("init") == portable_source(config.init):
            model = training.get("model")
            return dict(model) if isinstance(model, dict) else None
    return None


def plan_initial(config: TrainConfig) -> TrainConfig:
    """As `prepare_initial`, for a dry run: nothing is downloaded, and weights that are here are checked.

    Raises:
        RequestError: the weights cannot be used; or they are not here, and `model` is empty.
    """
    if not config.init:
        return config
    checked = check_model(config.init)
    if checked.problem:
        raise RequestError(name_init(config.init, checked.problem))
    if checked.note:
        if not config.model:
            raise RequestError(f"init={config.init} {checked.note}: set model to its architecture to plan without it")
        return config
    initial = load_initial(config.init)
    if config.model:
        require_same_architecture(config.model, initial)
        return config
    return replace(config, model=initial.config)


def load_initial(spec: str) -> InitialWeights:
    """Load the weights of a spec under COSMOS's names.

    Raises:
        RequestError: it cannot be loaded, COSMOS's model cannot represent it (says why), or gives other features.
    """
    try:
        model = load_model(spec)
    except RequestError as error:
        raise RequestError(name_init(spec, str(error))) from error
    convert = getattr(model, "initial_weights", None)
    if convert is None:
        raise RequestError(
            f"init={spec}: a {type(model).__name__} has no weights that a COSMOS can start from; take an open_clip:, "
            "hf: or cosmos: spec with the towers of CLIP"
        )
    try:
        initial: InitialWeights = convert()
    except RequestError as error:
        raise RequestError(name_init(spec, str(error))) from error
    require_equal_features(model, initial)
    return initial


def name_init(spec: str, problem: str) -> str:
    """A problem of the setting `init`; messages on a model often begin with its spec."""
    return f"init={problem}" if problem.startswith((f"{spec}:", f"{spec} ")) else f"init={spec}: {problem}"


@torch.no_grad()
def require_equal_features(model: Any, initial: InitialWeights) -> None:
    """RequestError unless a COSMOS with these weights embeds images and texts as the model does."""
    core = initial_model(initial.config, 0)
    start_from([core], initial)
    ours = CosmosModel(core.eval())
    for what, values in (("images", image_features), ("texts", text_features)):
        difference = (values(ours) - values(model)).abs().max().item()
        if not difference <= TOLERANCE:
            raise RequestError(
                f"init={initial.source}: as a COSMOS it would embed {what} otherwise (features differ by "
                f"{difference:.2g}): {explain_difference(what, model, ours)}"
            )


def explain_difference(what: str, model: Any, ours: CosmosModel) -> str:
    """Why features differ, as far as the descriptions of both models show it."""
    keys = {"images": ("mean", "std", "resize", "interpolation"), "texts": ("tokenizer", "context_length")}[what]
    theirs, mine = model.describe(), ours.describe()
    differing = [key for key in keys if key in theirs and theirs[key] != mine.get(key)]
    words = [f"{key} {theirs[key]}, not {mine.get(key)}" for key in differing]
    return "; ".join(words) or "another tower, preprocessing or tokenizer"


def image_features(model: Any) -> Tensor:
    """Unit features of two images of noise, wide and high, whose sizes no resize has to round."""
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 96), (96, 64))]
    batch = torch.stack([model.preprocess(Image.fromarray(image)) for image in images])
    return F.normalize(model.encode_image(batch).float(), dim=-1)


def text_features(model: Any) -> Tensor:
    return F.normalize(model.encode_text(list(TEXTS)).float(), dim=-1)
