"""Where a model looks in an image, given a text: what `cosmos-eval show attention` computes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cosmos_core.attention_maps import AttentionMaps, stretch_to_unit_range
from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_core.printable import printable
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.engine import resolve_device
from cosmos_eval.models import load_model
from cosmos_eval.models.abilities import list_attentions, require_attention_reader, require_patch_encoder
from cosmos_eval.models.base import Model
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.models.similarity_maps import similarity_maps
from cosmos_eval.results.portable import portable_spec

KINDS = ("attention", "similarity")
LAST_BLOCKS = ("vanilla", "csa")
"""Attention variants of the last block for which similarity is shown by default."""
SCENE_PIXELS = 256
"""Side of a toybox scene before the model's own preprocessing."""


@dataclass(frozen=True)
class PatchMap:
    """One map over the patches of an image."""

    name: str
    values: np.ndarray
    """(h, w) raw: weights that sum to 1, or cosines."""
    shown: np.ndarray
    """(h, w) the same scaled to [0, 1] by their minimum and maximum."""


@dataclass(frozen=True)
class ShownWord:
    """A word with its weight."""

    text: str
    weight: float | None
    """Raw: the sum over its tokens; None where the text was cut before it."""
    shown: float
    """Scaled to [0, 1] by the minimum and maximum over the words of the text."""
    tokens: int


@dataclass(frozen=True)
class TextMaps:
    """Maps and words of one text."""

    text: str
    maps: tuple[PatchMap, ...]
    words: tuple[ShownWord, ...] = ()
    """Empty where the model has no attention over words, or the kind `attention` was not requested."""

    @property
    def on_words(self) -> float:
        """The share of the attention on words; the rest is on start, end and padding tokens."""
        return sum(word.weight or 0.0 for word in self.words)


@dataclass(frozen=True)
class Maps:
    """An image as the model sees it, and the maps of every text."""

    model: str
    image: str
    """Name of the image."""
    pixels: np.ndarray
    """(H, W, 3) uint8, the model's input."""
    texts: tuple[TextMaps, ...]


@dataclass(frozen=True)
class Shown:
    """What was written."""

    maps: Maps
    png: Path
    page: Path


def show_attention(
    spec: str | Model,
    out: Path,
    *,
    image: Path | None = None,
    scene: int | None = None,
    texts: Sequence[str] = (),
    kinds: Sequence[str] = (),
    attentions: Sequence[str] = (),
    size: int | None = None,
    device: str = "auto",
) -> Shown:
    """Write attention.png and attention.html to `out`: maps of one image, a row for each text.

    Args:
        image: an image file; or
        scene: number of a test scene of toybox; its first caption is the text where `texts` is empty.
        kinds: of KINDS; by default attention where the model has cross-attention poolers, else similarity.
        attentions: attention variants of the last block, a similarity map each; by default those of LAST_BLOCKS
            that the model has.
        size: side of the model's square input in pixels; larger than its own gives finer maps.

    Raises:
        RequestError: neither or both of `image` and `scene`, a file that is not an image, no text or one without words,
            a model that lacks what a kind needs.
    """
    from cosmos_eval.show.attention_figure import maps_figure, save_maps
    from cosmos_eval.show.attention_page import maps_page

    name, pil_image, texts = read_image_and_texts(image, scene, texts)
    for kind in kinds:
        if kind not in KINDS:
            raise RequestError(f"unknown kind {printable(kind)!r} of map; give {' or '.join(KINDS)}")
    resolved = str(resolve_device(device))
    model = load_model(spec, device=resolved) if isinstance(spec, str) else spec
    kinds = tuple(dict.fromkeys(kinds)) or (KINDS[0] if hasattr(model, "attention_maps") else KINDS[1],)
    chosen_attentions = tuple(dict.fromkeys(attentions)) or _default_attentions(model)
    maps = read_maps(model, name, pil_image, texts, kinds, chosen_attentions, size)
    png, page = out / "attention.png", out / "attention.html"
    save_maps(maps_figure(maps), png)
    atomic_write_text(page, maps_page(maps))
    return Shown(maps, png, page)


def read_image_and_texts(
    image: Path | None, scene: int | None, texts: Sequence[str]
) -> tuple[str, Image.Image, tuple[str, ...]]:
    """Name of the image, the image, and the texts, each on one line.

    Raises:
        RequestError: see `show_attention`.
    """
    if (image is None) == (scene is None):
        raise RequestError("give the image with --image FILE, or a toybox test scene with --scene N; one of the two")
    texts = [" ".join(text.split()) for text in texts]
    for i, text in enumerate(texts, 1):
        if not text:
            which = "--text" if len(texts) == 1 else f"--text {i} of {len(texts)}"
            raise RequestError(f"{which} is empty; give the text to look for")
    if image is not None:
        if not texts:
            raise RequestError("give at least one --text: the text to look for in the image")
        return image.name, FileImage(image.name, image).load(), tuple(texts)
    from cosmos_eval.datasets.toybox import captions, make_scene, render

    assert scene is not None
    if scene < 0:
        raise RequestError(f"no toybox scene {scene}; they are counted from 0")
    toybox_scene = make_scene(0, "test", scene)
    rendered = Image.fromarray(render(toybox_scene, SCENE_PIXELS))
    return f"toybox test scene {scene}", rendered, tuple(texts or [captions(toybox_scene).full[0]])


def _default_attentions(model: Any) -> tuple[str, ...]:
    """Those of LAST_BLOCKS that a model has; all if it does not say, or has no patch features and will be refused."""
    attentions = list_attentions(model)
    return tuple(name for name in LAST_BLOCKS if name in attentions) if attentions else LAST_BLOCKS


def read_maps(
    model: Any,
    name: str,
    image: Image.Image,
    texts: Sequence[str],
    kinds: Sequence[str],
    attentions: Sequence[str],
    size: int | None = None,
) -> Maps:
    """Compute the maps of one image; see `show_attention`.

    Raises:
        RequestError: a model that lacks what a kind needs, a size that it cannot take, values that are not finite, a
            text without words.
    """
    if "attention" in kinds:
        require_attention_reader(model)
    if "similarity" in kinds:
        for attention in attentions:
            require_patch_encoder(model, attention)  # raises before anything is encoded
    x = preprocess_of(model, size)(image)[None]
    columns: list[tuple[str, Tensor]] = []  # name and (N, h, w)
    attended: AttentionMaps | None = None
    for kind in kinds:
        if kind == "attention":
            attended = model.attention_maps(x.expand(len(texts), -1, -1, -1), texts)
            for text, words in zip(texts, attended.words, strict=True):
                if not any(word.positions for word in words):
                    raise RequestError(f"--text {printable(text)!r} has no word in the context of {model.spec}")
            columns.append(("cross-attention", attended.patches))
        else:
            columns += [
                (f"similarity, {attention}", similarity_maps(model, x, texts, attention)[0]) for attention in attentions
            ]
    for title, values in columns:
        if not values.isfinite().all():
            raise RequestError(f"{model.spec}: {title} is not finite; use other weights, these are damaged")
    return Maps(
        model=portable_spec(model.spec),
        image=name,
        pixels=pixels_of_input(x[0], model.preprocess),
        texts=tuple(
            TextMaps(
                text,
                tuple(patch_map(title, values[i]) for title, values in columns),
                shown_words(attended, i) if attended is not None else (),
            )
            for i, text in enumerate(texts)
        ),
    )


def preprocess_of(model: Any, size: int | None) -> Any:
    """The model's preprocessing, to a square of `size` pixels where that is not None.

    Raises:
        RequestError: the size of the model's preprocessing cannot be changed.
    """
    if size is None:
        return model.preprocess
    if not isinstance(model.preprocess, ImagePreprocess):
        raise RequestError(f"{model.spec} has its own preprocessing, whose size cannot be changed; leave --size out")
    return replace(model.preprocess, size=size)


def patch_map(name: str, values: Tensor) -> PatchMap:
    return PatchMap(name, values.cpu().numpy(), stretch_to_unit_range(values, 2).cpu().numpy())


def shown_words(attended: AttentionMaps, index: int) -> tuple[ShownWord, ...]:
    """The words of one text; words beyond the context have no weight and are left out of the scale."""
    words, weights = attended.words[index], attended.word_weights(index)
    weights_of_read = [weight for word, weight in zip(words, weights, strict=True) if word.positions]
    scaled = iter(stretch_to_unit_range(torch.tensor(weights_of_read)).tolist())
    return tuple(
        ShownWord(word.text, weight, next(scaled), len(word.positions))
        if word.positions
        else ShownWord(word.text, None, 0.0, 0)
        for word, weight in zip(words, weights, strict=True)
    )


def pixels_of_input(x: Tensor, preprocess: Any) -> np.ndarray:
    """(3, H, W) output of a model's `preprocess` -> (H, W, 3) uint8: what the model sees, cropped and scaled."""
    mean, std = (getattr(preprocess, name, None) for name in ("mean", "std"))
    x = x.float().cpu()
    if mean is not None and std is not None:
        x = x * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    return (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
