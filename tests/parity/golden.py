"""The golden pack: its reader, the tolerance of everything in it, and the one comparison that all parity tests use.

Names are `file::key`; keys of nested JSON are joined by `/`. Nothing here knows a size, a seed or a number of crops:
they come from the pack's own files, so that another pack of the same structure passes the same tests.
"""

import fnmatch
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDERS = ("model", "checkpoint", "schedules", "text", "retrieval", "classification", "transforms")
"""What the pack holds for the model, its training and the evaluation without segmentation."""


@dataclass(frozen=True)
class Rule:
    """How far a value may be from the stored one.

    `exact`: equal in shape and every element. Otherwise |ours - theirs| <= absolute + relative * |theirs|, elementwise,
    or, with `low` and `high`, low - absolute <= ours <= high + absolute. `skip` says why a stored value is not
    something to compare.
    """

    absolute: Any = 0.0
    relative: float = 0.0
    exact: bool = False
    low: float | None = None
    high: float | None = None
    skip: str = ""

    def tolerance(self, theirs: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.absolute, np.float64), theirs.shape) + self.relative * np.abs(theirs)


EXACT = Rule(exact=True)
INPUT = Rule(skip="goes in, is not compared")
NOTE = Rule(skip="a remark of the pack's author")
RAW = Rule(absolute=3e-5)
UNIT = Rule(absolute=3e-6)
LOSS = Rule(absolute=1e-5)
GRADIENT = Rule(absolute=2e-5, relative=1e-4)
FLOAT64 = Rule(absolute=1e-18, relative=1e-10)


def within(absolute: Any, relative: float = 0.0) -> Rule:
    return Rule(absolute=absolute, relative=relative)


def compare(name: str, ours: Any, theirs: Any, rule: Rule) -> None:
    """Assert that `ours` is `theirs` as closely as `rule` asks: tensors, arrays, numbers, strings, None, lists."""
    assert not rule.skip, f"{name} is not to be compared: {rule.skip}"
    if not (is_numeric(ours) and is_numeric(theirs)):
        assert ours == theirs, f"{name}: ours {ours!r}, stored {theirs!r}"
        return
    mine, stored = as_array(ours), as_array(theirs)
    assert mine.shape == stored.shape, f"{name}: shape {mine.shape}, stored {stored.shape}"
    if rule.exact:
        same = mine == stored
        assert same.all(), f"{name}: {np.count_nonzero(~same)} of {same.size} differ from the stored values"
        return
    mine, stored = mine.astype(np.float64), stored.astype(np.float64)
    if rule.low is not None and rule.high is not None:
        slack = np.asarray(rule.absolute)
        inside = (mine >= rule.low - slack) & (mine <= rule.high + slack)
        assert inside.all(), f"{name}: {mine} is outside [{rule.low}, {rule.high}]"
        return
    excess = np.abs(mine - stored) - rule.tolerance(stored)
    # a comparison that is false for NaN, so that NaN fails
    assert (excess <= 0).all(), (
        f"{name}: off by up to {np.abs(mine - stored).max():.3g}, allowed {rule.tolerance(stored).max():.3g}"
    )


def is_numeric(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(is_numeric(item) for item in value)
    return isinstance(value, bool | int | float | np.ndarray | np.generic | Tensor)


def as_array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


@dataclass
class Pack:
    """A golden pack on disk; files are read once."""

    folder: Path
    cache: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path | str) -> "Pack":
        """The pack in a folder; the same object each time, so that what was read or computed for it is kept."""
        return PACKS.setdefault(Path(folder), cls(Path(folder)))

    def ours(self, file: str, compute: "Callable[[Pack], dict[str, Any]]") -> dict[str, Any]:
        """What our code gives for a file, computed once."""
        key = f"ours:{file}"
        if key not in self.cache:
            self.cache[key] = compute(self)
        return self.cache[key]

    def files(self, *folders: str) -> list[str]:
        """Every file of the folders (default: FOLDERS), relative to the pack."""
        chosen = folders or FOLDERS
        return [f"{folder}/{path.name}" for folder in chosen for path in sorted((self.folder / folder).iterdir())]

    def path(self, file: str) -> Path:
        return self.folder / file

    def json(self, file: str) -> Any:
        if file not in self.cache:
            self.cache[file] = json.loads(self.path(file).read_text(encoding="utf-8"))
        return self.cache[file]

    def tensors(self, file: str) -> dict[str, Tensor]:
        if file not in self.cache:
            self.cache[file] = load_file(self.path(file))
        return dict(self.cache[file])

    def leaves(self, file: str) -> dict[str, Any]:
        """Every array, number, string or list of scalars in a file, by key."""
        if file.endswith(".safetensors"):
            return self.tensors(file)
        if file.endswith(".json"):
            return dict(flatten(self.json(file)))
        if file.endswith(".pt"):
            return dict(flatten(torch.load(self.path(file), map_location="cpu", weights_only=True)))
        raise ValueError(f"no reader for {file}")

    def rule(self, file: str, key: str) -> Rule:
        """The tolerance of a stored value; KeyError where the table does not know it."""
        name = f"{file}::{key}"
        for pattern, rule in RULES:
            if fnmatch.fnmatchcase(name, pattern):
                return rule(self, file, key) if callable(rule) else rule
        raise KeyError(f"no tolerance for {name}")

    def compared(self, file: str) -> dict[str, Rule]:
        """The keys of a file that are to be compared, with their rules."""
        rules = {key: self.rule(file, key) for key in self.leaves(file)}
        return {key: rule for key, rule in rules.items() if not rule.skip}

    def compare(self, file: str, ours: dict[str, Any], only: str = "*") -> None:
        """Compare all keys of a file that match `only`; a key missing on either side fails."""
        rules = {key: rule for key, rule in self.compared(file).items() if fnmatch.fnmatchcase(key, only)}
        assert rules, f"{file} holds nothing that matches {only}"
        assert set(ours) == set(rules), f"{file}: keys differ: {sorted(set(ours) ^ set(rules))[:8]}"
        stored = self.leaves(file)
        for key, rule in rules.items():
            compare(f"{file}::{key}", ours[key], stored[key], rule)


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dicts and lists; a list that holds scalars only is one leaf."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}/{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(item, dict | list | Tensor) for item in tree):
        for i, value in enumerate(tree):
            yield from flatten(value, f"{prefix}/{i}" if prefix else str(i))
    else:
        yield prefix, tree


def shifts(theirs: Any, rule: Rule) -> Iterator[Any]:
    """The stored value moved by ten times its tolerance (exact ones by one unit): everywhere, then in one element."""
    if not is_numeric(theirs):
        yield from altered(theirs)
        return
    stored = as_array(theirs)
    if stored.size == 0:
        yield np.zeros(1)
        return
    if rule.exact:
        moved = one_unit(stored)
    elif rule.low is not None and rule.high is not None:
        yield np.full(stored.shape, rule.high + 10 * rule.absolute)
        yield np.full(stored.shape, rule.low - 10 * rule.absolute)
        return
    else:
        moved = stored.astype(np.float64) + 10 * rule.tolerance(stored.astype(np.float64))
    yield moved
    for place in {0, stored.size // 2, stored.size - 1}:
        single = stored.astype(moved.dtype).copy().reshape(-1)
        single[place] = moved.reshape(-1)[place]
        yield single.reshape(stored.shape)


def one_unit(stored: np.ndarray) -> np.ndarray:
    if stored.dtype == bool:
        return ~stored
    if stored.dtype.kind == "f":
        return np.nextafter(stored, np.asarray(np.inf, stored.dtype))
    return stored.astype(np.int64) + 1


def altered(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield [*value, "one more"]
        for i, item in enumerate(value):
            yield [*value[:i], next(altered(item)), *value[i + 1 :]]
    elif isinstance(value, str):
        yield value + "x"
    elif value is None:
        yield 0
    else:
        yield next(shifts(value, EXACT))


PACKS: dict[Path, Pack] = {}
RuleOf = Callable[[Pack, str, str], Rule]
RULES: list[tuple[str, Rule | RuleOf]] = []


def _number_of_elements(pack: Pack, parameter: str) -> int:
    return max(1, pack.tensors("model/student_init.safetensors")[parameter].numel())


def _sum_over_patches(pack: Pack, file: str, key: str) -> Rule:
    positions = pack.tensors(file)[key.replace("image_raw_tokens_sum", "run")]
    return within(RAW.absolute * (len(positions) - 1))


def _gradient_norm(pack: Pack, file: str, key: str) -> Rule:
    *_, parameter, kind = ["", *key.split("/")] if key.endswith(("/sum", "/l2", "/absmax")) else [*key.split("/"), "l2"]
    count = _number_of_elements(pack, parameter)
    if kind == "absmax":
        return GRADIENT
    if kind == "l2":  # of the largest error that the elements may have: norms obey the triangle inequality
        return within(GRADIENT.absolute * count**0.5, GRADIENT.relative)
    gradient = pack.tensors("model/grads.safetensors")[parameter]
    return within(GRADIENT.absolute * count + GRADIENT.relative * gradient.double().abs().sum().item())


def _student_after_step(pack: Pack, file: str, key: str) -> Rule:
    gradient = pack.tensors("model/grads.safetensors")[key]
    firm = gradient.abs() > 1e-5
    if key == "token_embedding.weight":
        unused = torch.ones(len(gradient), dtype=torch.bool)
        unused[pack.tensors("model/inputs.safetensors")["texts_nB_L"].unique()] = False
        firm |= unused[:, None]
    return within(np.where(firm.numpy(), 2e-6, 1.1e-3))


def _final_sum(pack: Pack, file: str, key: str) -> Rule:
    _, parameter, _ = key.split("/")
    norm = pack.leaves(file)[key.removesuffix("sum") + "l2"]
    return within(2e-3 * max(norm, 1e-3) * _number_of_elements(pack, parameter) ** 0.5)


def _retrieval_metric(pack: Pack, file: str, key: str) -> Rule:
    case, _, metric = key.split("/")
    if not pack.json(file)[case]["tied"]:
        return within(1e-5)
    bounds = [pack.json(file)[case]["tie_bounds"][side][metric] for side in ("optimistic", "pessimistic")]
    return Rule(absolute=1e-5, low=min(bounds), high=max(bounds))


def _preprocessed(same_pillow: Rule, other_pillow: Rule) -> RuleOf:
    def rule(pack: Pack, file: str, key: str) -> Rule:
        import PIL

        return same_pillow if pack.json("transforms/transforms.json")["pillow"] == PIL.__version__ else other_pillow

    return rule


def _sum_over_pixels(pack: Pack, file: str, key: str) -> Rule:
    sides = [int(side) for side in key.split("/")[3].split(".")[0].split("x")]
    count = 3 * sides[0] * sides[-1]
    return _preprocessed(within(1e-6 * count), within(ONE_LEVEL * count))(pack, file, key)


ONE_LEVEL = 1 / 255 / 0.25
"""One of 256 levels in units of the normalised picture, with room for the smallest of the three deviations."""

RULES += [
    # model
    ("model/config.json::*", INPUT),
    ("model/fp32_vs_fp64.json::*", NOTE),
    ("model/*inputs.safetensors::*", INPUT),
    ("model/*_init.safetensors::*", INPUT),
    ("model/encode_outputs.safetensors::*_normalized", UNIT),
    ("model/encode_outputs.safetensors::eval_forward.*_features", UNIT),
    ("model/encode_outputs.safetensors::*", RAW),
    ("model/train_forward.safetensors::*_scale", within(3e-6, 1e-6)),
    ("model/train_forward.safetensors::*", UNIT),
    ("model/losses.json::[bn]*", EXACT),
    ("model/losses.json::*", LOSS),
    ("model/grads.safetensors::*", GRADIENT),
    ("model/grads_summary.json::*/shape", EXACT),
    ("model/grads_summary.json::*", _gradient_norm),
    ("model/pos_embed.safetensors::image.*", INPUT),
    ("model/pos_embed.safetensors::image_raw_tokens_sum.*", _sum_over_patches),
    ("model/pos_embed.safetensors::*", RAW),
    ("model/distributed.safetensors::rank[0-9]*", INPUT),
    ("model/distributed.safetensors::*", GRADIENT),
    ("model/distributed.json::world_size", INPUT),
    ("model/distributed.json::ddp_*", NOTE),
    ("model/distributed.json::*/grad_max_residual_after_ratio", NOTE),
    ("model/distributed.json::*grad_l2/*", _gradient_norm),
    ("model/distributed.json::*grad_ratio_to_single_process/*", within(1e-5)),
    ("model/distributed.json::*_loss", LOSS),
    ("model/distributed.json::*/total", LOSS),
    ("model/student_after_step.safetensors::*", _student_after_step),
    ("model/teacher_after_step.safetensors::*", within(6e-7)),
    ("model/optimizer.json::largest_teacher_difference_if_ema_ran_after_the_optimizer", NOTE),
    ("model/optimizer.json::kind", NOTE),
    ("model/optimizer.json::clamp/input", INPUT),
    ("model/optimizer.json::teacher_*/before", INPUT),
    ("model/optimizer.json::clamp/output", within(6e-7)),
    ("model/optimizer.json::teacher_*/after", within(6e-7)),
    ("model/optimizer.json::student_*_after", within(2e-6)),
    ("model/optimizer.json::logged/*loss", LOSS),
    ("model/optimizer.json::logged/*scale", within(6e-7)),
    ("model/optimizer.json::*names", EXACT),
    ("model/optimizer.json::*", FLOAT64),
    ("model/trajectory.json::steps/*loss", within(2e-4)),
    ("model/trajectory.json::steps/*scale", within(1e-5)),
    ("model/trajectory.json::steps/*", FLOAT64),
    ("model/trajectory.json::*_final/*/l2", within(1e-6, 2e-3)),
    ("model/trajectory.json::*_final/*/sum", _final_sum),
    ("model/trajectory.json::*_fp32_vs_fp64*", NOTE),
    ("model/trajectory.json::*", INPUT),
    # checkpoint
    ("checkpoint/ViT-*.json::model", INPUT),
    ("checkpoint/ViT-*.json::*", EXACT),
    ("checkpoint/ema_format_config.json::*", INPUT),
    ("checkpoint/ema_format_outputs.safetensors::image", INPUT),
    ("checkpoint/ema_format_outputs.safetensors::text", INPUT),
    ("checkpoint/ema_format_outputs.safetensors::*", UNIT),
    ("checkpoint/expect.json::*/segmentation_loader_returns", NOTE),
    ("checkpoint/expect.json::*_equals", INPUT),
    ("checkpoint/expect.json::*/model", INPUT),
    ("checkpoint/expect.json::*/key_prefix", INPUT),
    ("checkpoint/expect.json::*", EXACT),
    ("checkpoint/format.json::*/required", EXACT),
    ("checkpoint/format.json::*", NOTE),
    ("checkpoint/*.pt::*", EXACT),
    # schedules
    ("schedules/schedules.json::*/lr", FLOAT64),
    ("schedules/schedules.json::*/value", FLOAT64),
    ("schedules/schedules.json::*", INPUT),
    # text
    ("text/records.json::*", INPUT),
    ("text/samples.json::errors/*", NOTE),
    ("text/samples.json::*/output", EXACT),
    ("text/samples.json::*/outputs/*", EXACT),
    ("text/samples.json::*", INPUT),
    ("text/split_caption.json::*/input", INPUT),
    ("text/split_caption.json::*", EXACT),
    ("text/statistics.json::*/n_candidates", INPUT),
    ("text/statistics.json::*/k", INPUT),
    ("text/statistics.json::*/draws", INPUT),
    ("text/statistics.json::*/seed", INPUT),
    ("text/statistics.json::*", EXACT),
    ("text/tokenizer.json::ftfy", NOTE),
    ("text/tokenizer.json::regex", NOTE),
    ("text/tokenizer.json::*/text", INPUT),
    ("text/tokenizer.json::*", EXACT),
    ("text/tokenizer_ids.safetensors::*", EXACT),
    # retrieval
    ("retrieval/features.safetensors::*.similarity", within(3e-5, 1e-6)),
    ("retrieval/features.safetensors::*", INPUT),
    ("retrieval/metrics.json::*/reference_metrics/*", _retrieval_metric),
    ("retrieval/metrics.json::*/tie_bounds/*", within(1e-5)),
    ("retrieval/metrics.json::*/logit_scale", INPUT),
    ("retrieval/metrics.json::*/image_ids_in_loader_order", INPUT),
    ("retrieval/metrics.json::*/caption_image_id", INPUT),
    ("retrieval/metrics.json::*/num_equal_neighbours_in_rows", NOTE),
    ("retrieval/metrics.json::*", EXACT),
    # classification
    ("classification/classifier.safetensors::image_features", INPUT),
    ("classification/classifier.safetensors::targets", INPUT),
    ("classification/classifier.safetensors::token_ids", EXACT),
    ("classification/classifier.safetensors::classifier", UNIT),
    ("classification/classifier.safetensors::logits", within(5e-4)),
    ("classification/expect.json::min_gap_*", within(1e-3)),
    ("classification/expect.json::top[15]*", EXACT),
    ("classification/expect.json::*", INPUT),
    # transforms
    ("transforms/transforms.safetensors::*png_bytes", INPUT),
    ("transforms/transforms.safetensors::*uint8_hwc", _preprocessed(EXACT, within(1.0))),
    ("transforms/transforms.safetensors::*", _preprocessed(within(1e-6), within(ONE_LEVEL))),
    ("transforms/transforms.json::pillow", NOTE),
    ("transforms/transforms.json::torchvision", NOTE),
    ("transforms/transforms.json::resized_wh/*/output_wh", EXACT),
    ("transforms/transforms.json::resized_wh/*", INPUT),
    ("transforms/transforms.json::mean", FLOAT64),
    ("transforms/transforms.json::std", FLOAT64),
    ("transforms/transforms.json::*/sha256_uint8_hwc", _preprocessed(EXACT, NOTE)),
    ("transforms/transforms.json::*sum", _sum_over_pixels),
    ("transforms/transforms.json::*/channel_*", _preprocessed(within(1e-6), within(ONE_LEVEL))),
    ("transforms/transforms.json::*", EXACT),
]
