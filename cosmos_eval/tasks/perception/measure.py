"""Evaluates perception and composition; protocol and tie rule are described in `cosmos_eval.tasks.perception`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.engine.match_logits import match_logits
from cosmos_eval.engine.scores import Scores
from cosmos_eval.engine.task_engine import TaskEngine
from cosmos_eval.engine.truncation import truncated_alike
from cosmos_eval.metrics.bootstrap import Estimator
from cosmos_eval.metrics.item_accuracy import (
    compute_correctness,
    dot_products,
    item_metric_names,
    list_item_pairs,
    number_pairs,
)
from cosmos_eval.metrics.item_correctness import ItemCorrectness
from cosmos_eval.metrics.paraphrase_accuracy import TEXT_ONLY, score_text_only
from cosmos_eval.metrics.proportion import estimate_proportion
from cosmos_eval.metrics.text_classification import (
    auroc_estimator,
    mean_of_estimators,
    placements,
    score_each_text,
)
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    require_equal_lengths,
    require_valid_index,
)
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.perception import AUROC, reported_metrics


def validate(benchmark: Benchmark, data: PerceptionData) -> None:
    """Check that perception can be evaluated on this data.

    Raises:
        RequestError: an item without its images or texts, numbers of images and texts without a rule, lists of
            different lengths, or a primary metric that is not reported.
    """
    require_equal_lengths(
        benchmark,
        images_of_items=len(data.item_images),
        texts_of_items=len(data.item_texts),
        subsets_of_items=len(data.subsets),
        **{f"parts_of_{group}": len(parts) for group, parts in data.groups.items()},
        **{f"{kind}s_of_items": len(names) for kind, names in data.sets.items()},
    )
    rules = _rules_for(benchmark, data)
    if not rules:
        m, n = data.item_images.shape[1], data.item_texts.shape[1]
        right = f", {data.right_texts} of them right" if data.right_texts != 1 else ""
        raise RequestError(
            f"{benchmark.name}: there is no rule for items of {plural(m, 'image')} and {plural(n, 'text')}{right}; "
            "make items of one image and several texts, several images and one text, two of both, or one image with "
            "two right texts and a wrong one"
        )
    each_text = _judges_each_text(benchmark)
    if each_text and (data.item_images.shape[1], data.item_texts.shape[1]) != (1, 2):
        raise RequestError(f"{benchmark.name}: metrics.each_text is for items of one image and two texts; leave it out")
    if data.sets and len(rules) > 1:
        raise RequestError(f"{benchmark.name}: has sets of items with several rules; make sets of items of one rule")
    for image_of_item in data.item_images.T:
        require_valid_index(benchmark, image_of_item, len(data.images), "item", "image")
    for text_of_item in data.item_texts.T:
        require_valid_index(benchmark, text_of_item, len(data.texts), "item", "text")
    subsets_and_parts = [*data.subsets, *(part for parts in data.groups.values() for part in parts)]
    groups = [group for group, parts in data.groups.items() if any(parts) and not _is_tag(group, parts)]
    sets = [kind for kind, names in data.sets.items() if any(names)]
    primary_metric(benchmark, reported_metrics(_distinct(subsets_and_parts), rules, groups, sets, each_text), rules[0])


def run(benchmark: Benchmark, data: PerceptionData, engine: TaskEngine, seed: int = 0) -> Outcome:
    """Evaluate a model on a benchmark of perception or composition.

    With `metrics.least: n` of a definition, subsets with fewer than n items have no metric of their own and are left
    out of the means over subsets. Intervals resample images: an item belongs to its first image, and images cut from
    one photo belong to that photo; a pair or set of items belongs to the photo of its first item.

    `samples` has one row per item:

    - `item`: its index in the dataset
    - `subset`, and `group NAME` for each group: the subset, and the part of the group
    - `set KIND` for each kind of sets: the item's pair or set, empty if it has none
    - `image`: key of its first image
    - `whole`: key of the image that the first image is cut from (its own key if it is whole), the unit that intervals
      and paired tests resample
    - `scores`: similarity of each image with each text, image by image
    - `margin`, `correct`, `expected` for its rule (with several rules, or with `each_text`, `RULE_margin`, ...): the
      smallest lead of a right score over a wrong one, whether the rule holds strictly (0 or 1; `threshold_accuracy`,
      the mean of both texts, also 0.5), and its expectation under ties.

    Args:
        seed: seed of the bootstrap resampling.
    """
    scores = engine.score(data.images, data.texts)
    item_images, item_texts = torch.from_numpy(data.item_images), torch.from_numpy(data.item_texts)
    m, n = item_images.shape[1], item_texts.shape[1]
    item_scores = scores.of_pairs(list_item_pairs(item_images, item_texts)).view(-1, m, n)
    each_side = bool(benchmark.metrics.get("each_side", False))
    pairs = number_pairs(item_images, item_texts)
    rules = compute_correctness(item_scores, pairs, right_texts=data.right_texts, each_side=each_side)
    if data.right_texts == 2 and (text_only := _compare_texts(scores, item_texts)) is not None:
        rules[TEXT_ONLY] = text_only
    each_text = _judges_each_text(benchmark)
    if each_text and (logits := match_logits(engine, scores, item_scores[:, 0, :])) is not None:
        rules |= score_each_text(logits)

    whole_images = {whole: i for i, whole in enumerate(dict.fromkeys(image.parent_key for image in data.images))}
    unit_of_image = np.array([whole_images[image.parent_key] for image in data.images])
    measured = Measured(len(whole_images))
    least = int(benchmark.metrics.get("least", 1))
    for suffix in ("", "_expected"):
        for rule, correctness in rules.items():
            values = (correctness.expected if suffix else correctness.strict).numpy()
            per_pair = None if correctness.per_pair is None else correctness.per_pair[1 if suffix else 0].numpy()
            _measure_rule(measured, _RuleValues(data, unit_of_image, values, per_pair), f"{rule}{suffix}", least)
        for kind, names in data.sets.items():
            _measure_sets(measured, f"{kind}_{next(iter(rules))}{suffix}", names, rules, suffix, data, unit_of_image)
    if each_text:
        _measure_auroc(measured, data, item_scores[:, 0, :].double().numpy(), unit_of_image, least)
    metrics = measured.metrics(seed)

    first_images = [data.images[i] for i in data.item_images[:, 0].tolist()]
    samples = pd.DataFrame(
        {
            "item": np.arange(len(first_images)),
            "subset": np.array(data.subsets, dtype=object),
            **{f"group {group}": np.array(parts, dtype=object) for group, parts in data.groups.items()},
            **{f"set {kind}": np.array(names, dtype=object) for kind, names in data.sets.items()},
            "image": [image.key for image in first_images],
            "whole": [image.parent_key for image in first_images],
            "scores": item_scores.flatten(1).tolist(),
            **_rule_columns(rules, named=len(rules) > 1 or each_text),
        }
    )
    features = {"images": scores.image_features, "texts": scores.text_features}
    return Outcome(
        metrics=metrics,
        samples=samples,
        primary=primary_metric(benchmark, metrics, next(iter(rules))),
        warnings=(*collapse_warnings(features, truncated_alike(engine, "texts")), *_left_out_warnings(data)),
    )


@dataclass(frozen=True)
class _RuleValues:
    """What one rule, strict or in expectation, gives for each item."""

    data: PerceptionData
    unit_of_image: np.ndarray
    """(N,) int64, the unit that intervals resample: the whole image that each image is, or is cut from."""
    values: np.ndarray
    """(I,) in [0, 1]."""
    per_pair: np.ndarray | None
    """(I, 2) in [0, 1] for `match_accuracy`, which judges the two images of an item separately: the first must be
    called a match, the second must not. None for other rules."""

    def select(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, classes and units behind the metric of some items.

        The metric is the mean over each class, averaged over the classes. There is one class, except with `per_pair`:
        there class 0 is the matches and class 1 the non-matches. Each class has each pair of an image and a text once,
        because SVO-Probes' authors drop repeated pairs: a match recurs in the items of several non-matches.

        Args:
            items: (J,) indices of items.

        Returns:
            Three arrays of one length; J without `per_pair`.
        """
        if self.per_pair is None:
            one_class = np.zeros(len(items), dtype=np.int64)
            return self.values[items], one_class, self.unit_of_image[self.data.item_images[items, 0]]
        values, classes, units = [], [], []
        for side in range(2):
            pairs = np.stack([self.data.item_images[items, side], self.data.item_texts[items, 0]], axis=1)
            _, first_of_pair = np.unique(pairs, axis=0, return_index=True)
            distinct_items = items[np.sort(first_of_pair)]
            values.append(self.per_pair[distinct_items, side])
            classes.append(np.full(len(distinct_items), side))
            units.append(self.unit_of_image[self.data.item_images[distinct_items, side]])
        return np.concatenate(values), np.concatenate(classes), np.concatenate(units)


def _measure_rule(measured: Measured, rule_values: _RuleValues, name: str, least: int) -> None:
    """Add all metrics of one rule: over the items of each subset and of each part of a group, the means over subsets
    and over the parts of each group, and over all items.

    Args:
        name: the metric over all items, such as `accuracy_expected`.
        least: subsets and parts with fewer items are left out, unless all have fewer.
    """
    data = rule_values.data
    for group, part_of_item in {"": data.subsets, **data.groups}.items():
        part_names = _distinct(part_of_item)
        if group and not part_names:
            continue  # no item belongs to any part of this group
        item_counts = Counter(part_of_item)
        measured_parts = [part for part in part_names if item_counts[part] >= least] or part_names
        labels = np.array(part_of_item, dtype=object)
        selected = [rule_values.select(np.flatnonzero(labels == part)) for part in measured_parts]
        for part, (values, classes, units) in zip(measured_parts, selected, strict=True):
            if f"{part}/{name}" not in measured.values:  # a part of a group may have the name of a subset
                _add_mean(measured, f"{part}/{name}", values, classes, units)
        if _is_tag(group, part_of_item):
            continue
        # The mean over parts of the mean over their classes is a mean over all pairs of a part and a class.
        class_count = 1 + max(int(classes.max()) for _, classes, _ in selected)
        part_and_class = np.concatenate([i * class_count + classes for i, (_, classes, _) in enumerate(selected)])
        all_values = np.concatenate([values for values, _, _ in selected])
        all_units = np.concatenate([units for _, _, units in selected])
        macro_name = f"{group}/macro_{name}" if group else f"macro_{name}"
        measured.mean_per_class(macro_name, all_values, part_and_class, all_units)
    _add_mean(measured, name, *rule_values.select(np.arange(len(rule_values.values))))


def _measure_sets(
    measured: Measured,
    name: str,
    set_of_item: Sequence[str],
    rules: dict[str, ItemCorrectness],
    suffix: str,
    data: PerceptionData,
    unit_of_image: np.ndarray,
) -> None:
    """Add the share of sets of items of which all are right.

    Ties of different items are independent, so that the expectation of a set is the product of its items'.
    """
    correctness = next(iter(rules.values()))
    values = (correctness.expected if suffix else correctness.strict).numpy()
    sets = _distinct(set_of_item)
    if not sets:
        return
    members = np.array(set_of_item, dtype=object)
    items = [np.flatnonzero(members == one) for one in sets]
    units = unit_of_image[data.item_images[[of_set[0] for of_set in items], 0]]
    measured.mean(name, np.array([values[of_set].prod() for of_set in items]), units)


def _compare_texts(scores: Scores, item_texts: torch.Tensor) -> ItemCorrectness | None:
    """Judge items of two right texts and a wrong one by their texts alone; None for a model without text embeddings."""
    if scores.text_features is None or not scores.averages_prompts:
        return None
    first, second, wrong = item_texts.T
    # Each pair in ascending order, so that equal pairs of texts have equal similarities.
    pairs = torch.stack([torch.stack(pair, dim=1) for pair in ((first, second), (first, wrong), (second, wrong))], 1)
    pairs = pairs.sort(dim=-1).values.reshape(-1, 2)
    return score_text_only(dot_products(scores.text_features, scores.text_features, pairs).view(-1, 3))


def _add_mean(measured: Measured, name: str, values: np.ndarray, classes: np.ndarray, units: np.ndarray) -> None:
    if classes.any():
        measured.mean_per_class(name, values, classes, units)
    else:
        measured.mean(name, values, units)


def _measure_auroc(
    measured: Measured, data: PerceptionData, scores: np.ndarray, unit_of_image: np.ndarray, least: int
) -> None:
    """Add the area under the ROC curve of right texts against wrong ones: of each subset and part, their means, all.

    It is the mean share of pairs that a right text wins, and that a wrong one loses, so the interval of means applies
    to these, with units as units; of the two, the one that says less decides. This treats the share as the text's own,
    although it depends on the texts of the other kind; the bootstrap, which decides where there are many, does not.

    Args:
        scores: (I, 2) score of each item's image with its right and its wrong text.
        least: as for `_measure_rule`.
    """
    unit = unit_of_image[data.item_images[:, 0]]

    def add(name: str, estimator: Estimator, parts: Sequence[np.ndarray]) -> None:
        items, part = np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(items) for items in parts])
        shares = np.concatenate([placements(scores[items, 0], scores[items, 1]) for items in parts], axis=1)
        estimates = [estimate_proportion(share, unit[items], classes=part) for share in shares]
        evidence = min(estimates, key=lambda estimate: estimate.n_low)
        measured.share(name, estimator(np.ones(measured.images)), len(items), estimator, evidence)

    for group, part_of_item in {"": data.subsets, **data.groups}.items():
        labels = np.array(part_of_item, dtype=object)
        parts = {part: np.flatnonzero(labels == part) for part in _distinct(part_of_item)}
        measured_parts = {part: items for part, items in parts.items() if len(items) >= least} or parts
        estimators = []
        for part, items in measured_parts.items():
            estimators.append(auroc_estimator(scores[items, 0], scores[items, 1], unit[items]))
            if f"{part}/{AUROC}" not in measured.values:
                add(f"{part}/{AUROC}", estimators[-1], [items])
        if estimators and not _is_tag(group, part_of_item):
            name = f"{group}/macro_{AUROC}" if group else f"macro_{AUROC}"
            add(name, mean_of_estimators(estimators), list(measured_parts.values()))
    add(AUROC, auroc_estimator(scores[:, 0], scores[:, 1], unit), [np.arange(len(scores))])


def _rule_columns(rules: dict[str, ItemCorrectness], named: bool) -> dict[str, np.ndarray]:
    """Columns of `samples`: `margin`, `correct` and `expected`, with the rule's name before each if `named`."""
    columns = {}
    for name, correctness in rules.items():
        prefix = f"{name}_" if named else ""
        columns[f"{prefix}margin"] = correctness.margin.numpy()
        columns[f"{prefix}correct"] = correctness.strict.numpy()
        columns[f"{prefix}expected"] = correctness.expected.numpy()
    return columns


def _left_out_warnings(data: PerceptionData) -> tuple[str, ...]:
    """A warning if the reader left items out, such as those whose image is missing."""
    if not data.left_out:
        return ()
    count, total = len(data.left_out), len(data.left_out) + len(data.item_images)
    return (f"{count:,} of {plural(total, 'item')} left out, the first: {data.left_out[0]}",)


def _rules_for(benchmark: Benchmark, data: PerceptionData) -> tuple[str, ...]:
    """The rules for items with these numbers of images and texts."""
    if data.item_images.ndim != 2 or data.item_texts.ndim != 2:
        return ()
    each_side = bool(benchmark.metrics.get("each_side", False))
    rules = item_metric_names(data.item_images.shape[1], data.item_texts.shape[1], data.right_texts, each_side)
    return (*rules, TEXT_ONLY) if data.right_texts == 2 and rules else rules


def _judges_each_text(benchmark: Benchmark) -> bool:
    return bool(benchmark.metrics.get("each_text", False))


def _is_tag(group: str, parts: Sequence[str]) -> bool:
    """Whether a group is a tag, which items have or have not: its mean over parts would be that of its only part."""
    return _distinct(parts) == [group]


def _distinct(parts: Sequence[str]) -> list[str]:
    """The distinct names in order of first appearance, without the empty one, which means "none"."""
    return [part for part in dict.fromkeys(parts) if part]
