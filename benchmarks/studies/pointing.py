"""Where the highest patch of a map lies, on toybox: what `show attention` draws, counted over many scenes.

    python -m benchmarks.studies.pointing [--models SPEC ...] [--scenes 400] [--sizes 64 128] [--quick] [--out results]

The pointing game of Zhang et al. ("Top-down Neural Attention by Excitation Backprop", ECCV 2016) on patches: a map hits
what its highest patch touches. Test scenes of two objects and more, each object with patches of its own. Two questions:
the text names one object of the scene ("red star"), and the text names all but one ("red star and blue ring"). Words
have a third: the text names an object that is in the image and one that is not, in either order; which of the two has
more of the attention? Writes attention.md; prints one JSON line last.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cosmos_core.dense import ATTENTIONS
from cosmos_core.files import atomic_write_text
from cosmos_eval.datasets.toybox import Scene, instances, make_scene, render
from cosmos_eval.datasets.toybox.words import COLOURS, SHAPES
from cosmos_eval.metrics.intervals import intervals, mean_of
from cosmos_eval.metrics.share_interval import evidence_of, share_intervals
from cosmos_eval.models import load_model
from cosmos_eval.models.maps import similarity_maps
from cosmos_eval.results.environment import environment
from cosmos_eval.show.attention import preprocess_of

ON, ELSEWHERE = ("on what is named", "on another object", "on no object"), 2
MODELS = ("cosmos:toybox", "cosmos:untrained-toybox?seed=0")
QUESTIONS = ("one object is named", "all but one are named")


@dataclass(frozen=True)
class Answer:
    """One text of one scene: what the highest patch touches (an index of ON), and the chance of each at random."""

    scene: int
    question: int
    hit: int
    chance: tuple[float, float, float]


def names(scene: Scene) -> list[str]:
    return [f"{thing.colour} {thing.shape}" for thing in scene.objects]


def questions(scene: Scene) -> Iterator[tuple[int, str, set[int]]]:
    """Question, text, and the objects that the text names."""
    said = names(scene)
    for i, name in enumerate(said):
        yield 0, name, {i}
        others = [j for j in range(len(said)) if j != i]
        yield 1, " and ".join(said[j] for j in others), set(others)


def touched(scene: Scene, side: int, grid: tuple[int, int]) -> np.ndarray:
    """(objects, h, w): whether a patch touches an object."""
    owner = np.asarray(instances(scene, side))
    height, width = grid
    patches = owner.reshape(height, side // height, width, side // width)
    return np.stack([(patches == 1 + i).any((1, 3)) for i in range(len(scene.objects))])


def kind_of(on: np.ndarray, named: set[int]) -> int:
    """What a patch touches, an index of ON: a named object before another one."""
    if any(on[i] for i in named):
        return 0
    return 1 if on.any() else ELSEWHERE


def answers(scene: Scene, number: int, maps: np.ndarray, objects: np.ndarray) -> Iterator[Answer]:
    """For each question's (h, w) map of a scene."""
    flat = objects.reshape(len(objects), -1)
    for (question, _, named), one in zip(questions(scene), maps, strict=True):
        kinds = [kind_of(flat[:, place], named) for place in range(flat.shape[1])]
        chance = tuple(kinds.count(kind) / len(kinds) for kind in range(3))
        yield Answer(number, question, kinds[int(one.argmax())], chance)  # type: ignore[arg-type]


def absent(scene: Scene) -> str:
    """An object of which neither colour nor shape is in the scene."""
    colour = next(one for one in COLOURS if one not in {thing.colour for thing in scene.objects})
    shape = next(one for one in SHAPES if one not in {thing.shape for thing in scene.objects})
    return f"{colour} {shape}"


def read_words(model: Any, x: torch.Tensor, scene: Scene) -> Iterator[float]:
    """For each object and order: 1 where the words of what is there have more attention than those of what is not."""
    other = absent(scene)
    for name in names(scene):
        for first in (True, False):
            text = f"{name} and {other}" if first else f"{other} and {name}"
            weights = model.attention_maps(x, [text]).word_weights(0)
            there, missing = (sum(weights[:2]), sum(weights[3:]))[:: 1 if first else -1]
            yield float(there > missing)


def measure(model: Any, scenes: Sequence[Scene], side: int) -> tuple[dict[str, list[Answer]], list[tuple[int, float]]]:
    every = ("cross-attention", *(f"similarity, {a}" for a in ATTENTIONS))
    found: dict[str, list[Answer]] = {name: [] for name in every}
    words: list[tuple[int, float]] = []
    preprocess = preprocess_of(model, side)
    for number, scene in enumerate(scenes):
        x = preprocess(Image.fromarray(render(scene, side)))[None]
        texts = [text for _, text, _ in questions(scene)]
        maps = {"cross-attention": model.attention_maps(x.expand(len(texts), -1, -1, -1), texts).patches}
        maps |= {f"similarity, {a}": similarity_maps(model, x, texts, a)[0] for a in ATTENTIONS}
        for name, values in maps.items():
            objects = touched(scene, side, tuple(values.shape[1:]))
            found[name] += answers(scene, number, values.numpy(), objects)
        words += [(number, value) for value in read_words(model, x, scene)]
    return found, words


def share(values: Sequence[float], scenes: Sequence[int], total: int) -> str:
    """Percent with the 95 % interval that results have, the scene its unit."""
    hits, unit = np.asarray(values, np.float64), np.asarray(scenes)
    resampled = intervals([mean_of(hits, unit, total)], total)
    ((low, high),) = share_intervals([evidence_of(hits, unit)], resampled)
    return f"{100 * np.mean(values):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def section(
    spec: str, side: int, found: dict[str, list[Answer]], words: list[tuple[int, float]], total: int
) -> list[str]:
    """The tables of one model at one size."""
    some = next(iter(found.values()))
    lines = [f"## {spec}, images of {side} × {side} pixels", ""]
    for question, title in enumerate(QUESTIONS):
        asked = [answer for answer in some if answer.question == question]
        lines += [f"{title.capitalize()} ({len(asked):,} texts):", ""]
        lines += [f"| map | {' | '.join(ON)} |", "|---" * (1 + len(ON)) + "|"]
        for name, all_answers in found.items():
            mine = [answer for answer in all_answers if answer.question == question]
            cells = [share([float(a.hit == kind) for a in mine], [a.scene for a in mine], total) for kind in range(3)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        chance = np.mean([answer.chance for answer in asked], axis=0)
        lines += [f"| any patch at random | {' | '.join(f'{100 * value:.1f}' for value in chance)} |", ""]
    there = share([value for _, value in words], [scene for scene, _ in words], total)
    lines += [
        f"Words ({len(words):,} texts that name an object which is in the image and one which is not): those of the "
        f"object that is there have more of the attention in {there} % of the texts; at random 50.",
        "",
    ]
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="the shipped one and an untrained one")
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="pixels of a side, each a section")
    parser.add_argument("--quick", action="store_true", help="40 scenes")
    parser.add_argument("--out", type=Path, help="folder of attention.md; without it, it is printed only")
    options = parser.parse_args(arguments)
    wanted = 40 if options.quick else options.scenes
    scenes: list[Scene] = []
    index = 0
    while len(scenes) < wanted:
        scene = make_scene(0, "test", index)
        scenes += [scene] if len(scene.objects) > 1 else []
        index += 1
    sizes = " ".join(map(str, options.sizes))
    changed = "" if tuple(options.models) == MODELS else f" --models {' '.join(options.models)}"
    lines = [
        "# Where maps point",
        "",
        f"Made by `python -m benchmarks.studies.pointing{changed} --scenes {wanted} --sizes {sizes}`: "
        f"{wanted:,} toybox test scenes of two objects and more. Percent of texts whose highest patch touches a named "
        "object, only another one, or none, with 95 % intervals over scenes; what is counted stands in "
        "`benchmarks/studies/pointing.py`.",
        "",
    ]
    figures: dict[str, float] = {}
    for spec, side in product(options.models, options.sizes):
        found, words = measure(load_model(spec), scenes, side)
        lines += section(spec, side, found, words, wanted)
        for name, every in found.items():
            hits = [answer.hit == 0 for answer in every if answer.question == 0]
            figures[f"{spec}, {side} pixels, {name}: {QUESTIONS[0]}, {ON[0]}"] = round(float(np.mean(hits)), 4)
    text = "\n".join(lines)
    if options.out:
        atomic_write_text(options.out / "attention.md", text)
    print(text)
    print(json.dumps({"name": "pointing", "ratios": {}, "figures": figures, "environment": environment()}))


if __name__ == "__main__":
    main()
