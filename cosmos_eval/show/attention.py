"""What a model looks at in a picture, given a text: the work behind `cosmos-eval show attention`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cosmos_core.attention_maps import AttentionMaps, normalised
from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_core.printable import printable
from cosmos_eval.datasets.base import FilePicture
from cosmos_eval.engine import resolve_device
from cosmos_eval.models import load_model
from cosmos_eval.models.base import Model, attention_reader, patch_encoder
from cosmos_eval.models.maps import similarity_maps
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.results.portable import portable_spec

KINDS = ("attention", "similarity")
LAST_BLOCKS = ("vanilla", "csa")
"""Ways through the last block that similarity is shown for where nobody says."""
SCENE_PIXELS = 256
"""Side of a toybox scene before the model's own preprocessing."""


@dataclass(frozen=True)
class PatchMap:
    """One map over the patches of a picture."""

    name: str
    values: np.ndarray
    """(h, w) raw: weights that sum to 1, or cosines."""
    shown: np.ndarray
    """(h, w) the same in [0, 1], by their own smallest and largest."""


@dataclass(frozen=True)
class ShownWord:
    """A word with its weight."""

    text: str
    weight: float | None
    """Raw: the sum over its tokens; None where the text was cut before it."""
    shown: float
    """In [0, 1], by the smallest and largest of the text's words."""
    tokens: int


@dataclass(frozen=True)
class TextMaps:
    """All that is shown for one text."""

    text: str
    maps: tuple[PatchMap, ...]
    words: tuple[ShownWord, ...] = ()
    """Empty where the model has no attention over words, or nobody asked."""

    @property
    def on_words(self) -> float:
        """The share of attention that falls on the words; the rest falls on start, end and padding."""
        return sum(word.weight or 0.0 for word in self.words)


@dataclass(frozen=True)
class Maps:
    """A picture as the model sees it, and the maps of every text."""

    model: str
    picture: str
    pixels: np.ndarray
    """(H, W, 3) uint8"""
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
    """Write attention.png and attention.html to `out`: maps of one picture, a row for each text.

    Args:
        image: the picture's file; or
        scene: number of a test scene of toybox; without `texts`, its own first caption is the text.
        kinds: of KINDS; without any, attention where the model has cross-attention poolers, else similarity.
        attentions: what the last block does for similarity, a map each; LAST_BLOCKS without any.
        size: side of the square that the model sees, in pixels, for finer maps than its own size gives.

    Raises:
        RequestError: neither or both of `image` and `scene`, a file that is no picture, no text or one without words,
            a model without what a kind needs.
    """
    from cosmos_eval.show.attention_figure import maps_figure, save_maps
    from cosmos_eval.show.attention_page import maps_page

    name, picture, texts = picture_and_texts(image, scene, texts)
    for kind in kinds:
        if kind not in KINDS:
            raise RequestError(f"unknown kind {printable(kind)!r} of map; give {' or '.join(KINDS)}")
    place = str(resolve_device(device))
    model = load_model(spec, device=place) if isinstance(spec, str) else spec
    kinds = tuple(dict.fromkeys(kinds)) or (KINDS[0] if hasattr(model, "attention_maps") else KINDS[1],)
    maps = read_maps(model, name, picture, texts, kinds, tuple(dict.fromkeys(attentions)) or LAST_BLOCKS, size)
    png, page = out / "attention.png", out / "attention.html"
    save_maps(maps_figure(maps), png)
    atomic_write_text(page, maps_page(maps))
    return Shown(maps, png, page)


def picture_and_texts(
    image: Path | None, scene: int | None, texts: Sequence[str]
) -> tuple[str, Image.Image, tuple[str, ...]]:
    """What the picture is called, the picture, and the texts, each on one line.

    Raises:
        RequestError: see `show_attention`.
    """
    if (image is None) == (scene is None):
        raise RequestError("give the picture by --image FILE, or a toybox test scene by --scene N; one of the two")
    texts = [" ".join(text.split()) for text in texts]
    for i, text in enumerate(texts, 1):
        if not text:
            which = "--text" if len(texts) == 1 else f"--text {i} of {len(texts)}"
            raise RequestError(f"{which} is empty; give the words to look for")
    if image is not None:
        if not texts:
            raise RequestError("give at least one --text: the words to look for in the picture")
        return image.name, FilePicture(image.name, image).load(), tuple(texts)
    from cosmos_eval.datasets.toybox import captions, make_scene, render

    assert scene is not None
    if scene < 0:
        raise RequestError(f"no toybox scene {scene}; they are counted from 0")
    made = make_scene(0, "test", scene)
    picture = Image.fromarray(render(made, SCENE_PIXELS))
    return f"toybox test scene {scene}", picture, tuple(texts or [captions(made).full[0]])


def read_maps(
    model: Any,
    name: str,
    picture: Image.Image,
    texts: Sequence[str],
    kinds: Sequence[str],
    attentions: Sequence[str],
    size: int | None = None,
) -> Maps:
    """The maps of one picture; see `show_attention`.

    Raises:
        RequestError: a model without what a kind needs, a size that it cannot take, values that are not finite, a text
            without words.
    """
    if "attention" in kinds:
        attention_reader(model)
    if "similarity" in kinds:
        patch_encoder(model)  # refused before anything is encoded
    x = preprocess_of(model, size)(picture)[None]
    columns: list[tuple[str, Tensor]] = []  # name and (N, h, w)
    attended: AttentionMaps | None = None
    for kind in kinds:
        if kind == "attention":
            attended = model.attention_maps(x.expand(len(texts), -1, -1, -1), texts)
            for text, words in zip(texts, attended.words, strict=True):
                if not any(word.places for word in words):
                    raise RequestError(f"--text {printable(text)!r} has no words that {model.spec} reads")
            columns.append(("cross-attention", attended.patches))
        else:
            columns += [
                (f"similarity, {attention}", similarity_maps(model, x, texts, attention)[0]) for attention in attentions
            ]
    for title, values in columns:
        if not values.isfinite().all():
            raise RequestError(f"{model.spec}: {title} is not finite; the weights are broken")
    return Maps(
        model=portable_spec(model.spec),
        picture=name,
        pixels=seen(x[0], model.preprocess),
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
    """The model's preprocessing, to a square of another size where that is asked.

    Raises:
        RequestError: the model's preprocessing knows one size only.
    """
    if size is None:
        return model.preprocess
    if not isinstance(model.preprocess, ImagePreprocess):
        raise RequestError(f"{model.spec} scales pictures in its own way; leave --size out")
    return replace(model.preprocess, size=size)


def patch_map(name: str, values: Tensor) -> PatchMap:
    return PatchMap(name, values.cpu().numpy(), normalised(values, 2).cpu().numpy())


def shown_words(attended: AttentionMaps, index: int) -> tuple[ShownWord, ...]:
    """The words of one text; what was cut off has no weight and takes no part in the scale."""
    words, weights = attended.words[index], attended.word_weights(index)
    read = [weight for word, weight in zip(words, weights, strict=True) if word.places]
    scaled = iter(normalised(torch.tensor(read)).tolist())
    return tuple(
        ShownWord(word.text, weight, next(scaled), len(word.places))
        if word.places
        else ShownWord(word.text, None, 0.0, 0)
        for word, weight in zip(words, weights, strict=True)
    )


def seen(x: Tensor, preprocess: Any) -> np.ndarray:
    """(3, H, W) as a model's `preprocess` makes it -> (H, W, 3) uint8: what the model sees, cropped and scaled."""
    mean, std = (getattr(preprocess, name, None) for name in ("mean", "std"))
    x = x.float().cpu()
    if mean is not None and std is not None:
        x = x * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    return (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
