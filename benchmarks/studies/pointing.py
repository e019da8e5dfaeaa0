"""Pointing game on toybox: which object has the highest patch of the maps that `show attention` draws.

    python -m benchmarks.studies.pointing [--models SPEC ...] [--scenes 400] [--sizes 64 128] [--quick] [--out results]

The pointing game of Zhang et al. ("Top-down Neural Attention by Excitation Backprop", ECCV 2016), on patches: a map
hits the object that its highest patch touches. The scenes are test scenes with at least two objects, on separate
patches. There are two questions: the text names one object of the scene ("red star"), or it names all objects but one
("red star and blue ring"). For the attention to words there is a third question: the text names an object that is in
the image and one that is not, in both orders; which of the two has more attention? The script writes attention.md; the
last line printed is JSON.
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
from cosmos_eval.metrics.bootstrap import bootstrap_intervals, mean_estimator
from cosmos_eval.metrics.proportion import estimate_proportion, proportion_intervals
from cosmos_eval.models import load_model
from cosmos_eval.models.similarity_maps import similarity_maps
from cosmos_eval.results.environment import environment
from cosmos_eval.show.attention import preprocess_of

HIT_KINDS, ON_NO_OBJECT = ("on a named object", "on another object", "on no object"), 2
MODELS = ("cosmos:toybox", "cosmos:untrained-toybox?seed=0")
QUESTIONS = ("one object is named", "all but one are named")


@dataclass(frozen=True)
class Answer:
    """For one text of one scene: what the highest patch touches (index of HIT_KINDS), and the chance of each kind."""

    scene: int
    question: int
    hit: int
    chance: tuple[float, float, float]


def names(scene: Scene) -> list[str]:
    """Return the names of the objects of a scene, as "red star"."""
    return [f"{item.colour} {item.shape}" for item in scene.objects]


def questions(scene: Scene) -> Iterator[tuple[int, str, set[int]]]:
    """Yield the question, the text, and the indices of the objects that the text names."""
    object_names = names(scene)
    for i, name in enumerate(object_names):
        yield 0, name, {i}
        others = [j for j in range(len(object_names)) if j != i]
        yield 1, " and ".join(object_names[j] for j in others), set(others)


def touched_patches(scene: Scene, side: int, grid: tuple[int, int]) -> np.ndarray:
    """Return (objects, h, w) booleans: whether a patch touches an object."""
    instance_map = np.asarray(instances(scene, side))
    height, width = grid
    patches = instance_map.reshape(height, side // height, width, side // width)
    return np.stack([(patches == 1 + i).any((1, 3)) for i in range(len(scene.objects))])


def hit_kind(touched: np.ndarray, named: set[int]) -> int:
    """Return what a patch touches, as an index of HIT_KINDS; a named object takes precedence."""
    if any(touched[i] for i in named):
        return 0
    return 1 if touched.any() else ON_NO_OBJECT


def answers(scene: Scene, number: int, maps: np.ndarray, objects: np.ndarray) -> Iterator[Answer]:
    """Yield the answer for each question of a scene, from its (h, w) map."""
    flat = objects.reshape(len(objects), -1)
    for (question, _, named), values in zip(questions(scene), maps, strict=True):
        kinds = [hit_kind(flat[:, patch], named) for patch in range(flat.shape[1])]
        chance = tuple(kinds.count(kind) / len(kinds) for kind in range(3))
        yield Answer(number, question, kinds[int(values.argmax())], chance)  # type: ignore[arg-type]


def absent(scene: Scene) -> str:
    """Return the name of an object whose colour and shape are both absent from the scene."""
    colours, shapes = {item.colour for item in scene.objects}, {item.shape for item in scene.objects}
    colour = next(word for word in COLOURS if word not in colours)
    shape = next(word for word in SHAPES if word not in shapes)
    return f"{colour} {shape}"


def word_preferences(model: Any, x: torch.Tensor, scene: Scene) -> Iterator[float]:
    """Yield, for each object and order, 1 if its words have more attention than those of an absent object, else 0."""
    absent_name = absent(scene)
    for name in names(scene):
        for first in (True, False):
            text = f"{name} and {absent_name}" if first else f"{absent_name} and {name}"
            weights = model.attention_maps(x, [text]).word_weights(0)
            # a text has five words: colour, shape, "and", colour, shape
            present_weight, absent_weight = (sum(weights[:2]), sum(weights[3:]))[:: 1 if first else -1]
            yield float(present_weight > absent_weight)


def measure(model: Any, scenes: Sequence[Scene], side: int) -> tuple[dict[str, list[Answer]], list[tuple[int, float]]]:
    """Return the answers of each map, and the (scene, word preference) pairs."""
    map_names = ("cross-attention", *(f"similarity, {a}" for a in ATTENTIONS))
    answers_of: dict[str, list[Answer]] = {name: [] for name in map_names}
    words: list[tuple[int, float]] = []
    preprocess = preprocess_of(model, side)
    for number, scene in enumerate(scenes):
        x = preprocess(Image.fromarray(render(scene, side)))[None]
        texts = [text for _, text, _ in questions(scene)]
        maps = {"cross-attention": model.attention_maps(x.expand(len(texts), -1, -1, -1), texts).patches}
        maps |= {f"similarity, {a}": similarity_maps(model, x, texts, a)[0] for a in ATTENTIONS}
        for name, values in maps.items():
            objects = touched_patches(scene, side, tuple(values.shape[1:]))
            answers_of[name] += answers(scene, number, values.numpy(), objects)
        words += [(number, value) for value in word_preferences(model, x, scene)]
    return answers_of, words


def format_rate(values: Sequence[float], scenes: Sequence[int], total: int) -> str:
    """Format a rate in percent with its 95 % interval over scenes."""
    hits, unit = np.asarray(values, np.float64), np.asarray(scenes)
    resampled = bootstrap_intervals([mean_estimator(hits, unit, total)], total)
    ((low, high),) = proportion_intervals([estimate_proportion(hits, unit)], resampled)
    return f"{100 * np.mean(values):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def section(
    spec: str, side: int, answers_of: dict[str, list[Answer]], words: list[tuple[int, float]], total: int
) -> list[str]:
    """Return the lines of the section for one model and image size."""
    answers_of_one_map = next(iter(answers_of.values()))
    lines = [f"## {spec}, images of {side} × {side} pixels", ""]
    for question, title in enumerate(QUESTIONS):
        to_question = [answer for answer in answers_of_one_map if answer.question == question]
        lines += [f"{title.capitalize()} ({len(to_question):,} texts):", ""]
        lines += [f"| map | {' | '.join(HIT_KINDS)} |", "|---" * (1 + len(HIT_KINDS)) + "|"]
        for name, all_answers in answers_of.items():
            hits = [answer.hit for answer in all_answers if answer.question == question]
            unit = [answer.scene for answer in all_answers if answer.question == question]
            cells = [format_rate([float(hit == kind) for hit in hits], unit, total) for kind in range(3)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        chance = np.mean([answer.chance for answer in to_question], axis=0)
        lines += [f"| random patch | {' | '.join(f'{100 * value:.1f}' for value in chance)} |", ""]
    present = format_rate([value for _, value in words], [scene for scene, _ in words], total)
    lines += [
        f"Words ({len(words):,} texts that name an object in the image and one that is not): the words of the object "
        f"in the image have more attention in {present} % of the texts; chance is 50 %.",
        "",
    ]
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models",
        nargs="+",
        default=list(MODELS),
        help="model specs",
    )
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="image sizes in pixels")
    parser.add_argument("--quick", action="store_true", help="40 scenes")
    parser.add_argument("--out", type=Path, help="folder for attention.md (default: only print it)")
    options = parser.parse_args(arguments)
    scene_count = 40 if options.quick else options.scenes
    scenes: list[Scene] = []
    index = 0
    while len(scenes) < scene_count:
        scene = make_scene(0, "test", index)
        scenes += [scene] if len(scene.objects) > 1 else []
        index += 1
    sizes = " ".join(map(str, options.sizes))
    models = "" if tuple(options.models) == MODELS else f" --models {' '.join(options.models)}"
    lines = [
        "# Where maps point: the pointing game on toybox",
        "",
        f"Made by `python -m benchmarks.studies.pointing{models} --scenes {scene_count} --sizes {sizes}`: "
        f"{scene_count:,} toybox test scenes with at least two objects. Percent of texts whose highest patch touches a "
        "named object, only another one, or none, with 95 % intervals over scenes. `benchmarks/studies/pointing.py` "
        "describes the method.",
        "",
    ]
    figures: dict[str, float] = {}
    for spec, side in product(options.models, options.sizes):
        answers_of, words = measure(load_model(spec), scenes, side)
        lines += section(spec, side, answers_of, words, scene_count)
        for name, all_answers in answers_of.items():
            hits = [answer.hit == 0 for answer in all_answers if answer.question == 0]
            figures[f"{spec}, {side} pixels, {name}: {QUESTIONS[0]}, {HIT_KINDS[0]}"] = round(float(np.mean(hits)), 4)
    text = "\n".join(lines)
    if options.out:
        atomic_write_text(options.out / "attention.md", text)
    print(text)
    print(json.dumps({"name": "pointing", "ratios": {}, "figures": figures, "environment": environment()}))


if __name__ == "__main__":
    main()
