"""Every figure of the answer key, from the stored embeddings of a real dual encoder.

The key is walked leaf by leaf: a figure that our side does not give fails the test, unless it stands in `NOT_OURS`.
"""

import fnmatch
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmos_eval import tasks
from cosmos_eval.datasets.data import ClassificationData, PerceptionData, RetrievalData
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.accuracy import expected_topk, mean_per_class
from cosmos_eval.metrics.ranks import RankCounts, expected_hit, expected_rank
from cosmos_eval.metrics.similarity import deduplicate_features
from cosmos_eval.models.embeddings import EmbeddingsModel, write_embeddings
from tests.helpers.feature_metrics import class_rank_counts_of_features, rank_counts_of_features
from tests.helpers.stand_ins import benchmark
from tests.oracles.pairs import Pairs, compare_pairs

KS = (1, 5, 10)
RETRIEVAL = ("flickr8k_test", "coco159")
CLASSIFICATION = ("cifar10_test2000", "imagenet1000")

NOT_OURS = {
    "*/formula": "words",
    "*_note": "words",
    "prompts": "words",
    "max_norm_error": "about the files",
    "*/clip_benchmark_gives/*": "an accident of a kernel's order",
    "*_agree": "their author's remark",
    "*/agree": "their author's remark",
    "*/evaluate_agrees": "their author's remark",
    "cross_check/agree_*": "their author's remark",
    "cross_check/open_clip_build_*": "needs the 80,000 prompt vectors, which are not stored",
    "*/clip_benchmark_first_index_argmax_gives": "what first-index argmax makes of a tie; ours is beside it",
}


@pytest.fixture(scope="module")
def key(real_dir):
    return json.loads((real_dir / "lit" / "answer_key.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def stored(real_dir):
    def read(name: str) -> dict[str, Any]:
        with np.load(real_dir / "lit" / "embeddings" / f"{name}.npz", allow_pickle=False) as content:
            arrays = {field: content[field] for field in content.files}
        return {f: torch.from_numpy(a) if a.dtype.kind != "U" else a.tolist() for f, a in arrays.items()}

    return read


def leaves(tree: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from leaves(value, f"{at}/{name}" if at else name)
    else:
        yield at, tree


def assert_equal_to_key(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    found = dict(leaves(ours))
    wanted = {
        at: value for at, value in leaves(theirs) if not any(fnmatch.fnmatchcase(at, pattern) for pattern in NOT_OURS)
    }
    assert set(found) == set(wanted)
    for at, value in wanted.items():
        if isinstance(value, int | list | str):
            assert found[at] == value, at
        else:
            # Peers' figures and thresholds of gaps are float32 in the key.
            loose = "clip_benchmark" in at or "gap" in at or "margin" in at
            assert found[at] == pytest.approx(value, rel=1e-6 if loose else 1e-12, abs=1e-7 if loose else 1e-12), at


def constant(rows: Tensor) -> Tensor:
    same = torch.zeros_like(rows)
    same[:, 0] = 1
    return same


def of_queries(places: RankCounts, candidates: int, positives: list[int]) -> dict[str, Any]:
    """The key's figures of one direction."""
    better, negatives = places.above, places.tied - places.tied_positives
    rank, half = expected_rank(places), 1 + better + negatives / 2
    figures: dict[str, Any] = {
        "n_queries": len(rank),
        "n_candidates": candidates,
        "positives_per_query": positives,
        "mean_rank": rank.mean().item(),
        "median_rank": float(np.median(rank)),
        "mean_rank_half_ties": half.double().mean().item(),
        "median_rank_half_ties": float(np.median(half)),
        "mean_rank_ties_won": (better + 1).double().mean().item(),
        "mean_rank_ties_lost": (better + negatives + 1).double().mean().item(),
        "n_queries_with_tie": int((negatives > 0).sum()),
        "n_tied_negatives": int(negatives.sum()),
    }
    for k in KS:
        hit = expected_hit(places, k)
        figures[f"recall@{k}"] = {
            "value": hit.mean().item(),
            "expected_count": hit.sum().item(),
            "count_ties_won": int((better < k).sum()),
            "count_ties_lost": int((better + negatives < k).sum()),
            "count_expected_rank_within_k": int((rank <= k).sum()),
        }
    return figures


def gaps(queries: Tensor, candidates: Tensor, positive: Tensor) -> dict[str, Any]:
    """How near rivals come in float64, to know how hard the test is; `positive` is (Q, C)."""
    scores = queries.double() @ candidates.double().T
    best = scores.masked_fill(~positive, -torch.inf).amax(1, keepdim=True)
    gap = (scores - best).abs().masked_fill(positive, torch.inf)
    return {
        "smallest_nonzero_gap": gap[gap > 0].min().item(),
        "n_queries_with_negative_within_1e-6": int(((gap > 0) & (gap <= 1e-6)).any(1).sum()),
    }


def both_ways(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, dict[str, Any]]:
    text = torch.arange(len(texts))
    per_image = sorted(set(torch.bincount(owner).tolist()))
    return {
        "image_to_text": of_queries(rank_counts_of_features(images, texts, owner, text), len(texts), per_image),
        "text_to_image": of_queries(rank_counts_of_features(texts, images, text, owner), len(images), [1]),
    }


def chance(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of a direction where everything ties."""
    return {
        **{f"recall@{k}": figures[f"recall@{k}"]["value"] for k in KS},
        "expected_rank_of_first_positive": figures["mean_rank"],
        "rank_half_ties": figures["mean_rank_half_ties"],
    }


@pytest.mark.parametrize("name", RETRIEVAL)
def test_retrieval_equals_every_figure_of_the_key(name, key, stored):
    s = stored(name)
    images, texts, owner = s["image_embeddings"], s["text_embeddings"], s["text_image_index"]
    positive = torch.zeros(len(images), len(texts), dtype=torch.bool)
    positive[owner, torch.arange(len(texts))] = True
    real = both_ways(images, texts, owner)
    real["image_to_text"] |= gaps(images, texts, positive)
    real["text_to_image"] |= gaps(texts, images, positive.T)
    collapsed = both_ways(constant(images), constant(texts), owner)
    blind = both_ways(constant(images), texts, owner)
    agreement = {}
    for side, direction in (("image", "text_to_image"), ("text", "image_to_text")):
        for k in KS:
            recall = real[direction][f"recall@{k}"]
            agreement[f"{side}_retrieval_recall@{k}"] = {
                "clip_benchmark_evaluate": recall["value"],
                "clip_benchmark_recall_at_k_count": round(recall["expected_count"]),
                "ours_count": recall["expected_count"],
            }
    ours = {
        "n_images": len(images),
        "n_texts": len(texts),
        "real": real,
        "broken": {
            "collapsed": {"analytic": {direction: chance(figures) for direction, figures in collapsed.items()}},
            "constant_image": {
                "text_to_image_analytic": chance(blind["text_to_image"]),
                "image_to_text_random_order_expectation": chance(collapsed["image_to_text"]),
                "measured": blind,
            },
        },
        "clip_benchmark_agreement": agreement,
        "distinct_texts": len(set(s["texts"])),
        "distinct_image_vectors": len(deduplicate_features(images).features),
    }
    assert_equal_to_key(ours, key[name])


@pytest.mark.parametrize("name", RETRIEVAL)
def test_the_rank_of_every_single_query_is_the_stored_one(name, stored):
    s = stored(name)
    images, texts, owner = s["image_embeddings"], s["text_embeddings"], s["text_image_index"]
    text = torch.arange(len(texts))
    for block_bytes in (2**26, 2**17):
        to_text = expected_rank(rank_counts_of_features(images, texts, owner, text, block_bytes))
        to_image = expected_rank(rank_counts_of_features(texts, images, text, owner, block_bytes))
        assert torch.equal(to_text, s["rank_image_to_text"])
        assert torch.equal(to_image, s["rank_text_to_image"])


def of_pairs(pairs: Pairs, subsets: list[str]) -> dict[str, Any]:
    def group(rows: np.ndarray) -> dict[str, Any]:
        strict, expected = pairs.strict[rows], pairs.expected[rows]
        return {
            "n": len(rows),
            "correct": int(strict.sum()),
            "strict_accuracy": strict.mean().item(),
            "half_tie_accuracy": expected.mean().item(),
            "ties": int((pairs.right == pairs.wrong)[rows].sum()),
        }

    names = np.array(subsets)
    groups = {subset: group(np.flatnonzero(names == subset)) for subset in sorted(set(subsets))}
    return {
        "subsets": groups,
        "micro": group(np.arange(len(names))),
        "macro7_strict": float(np.mean([g["strict_accuracy"] for g in groups.values()])),
        "macro7_half": float(np.mean([g["half_tie_accuracy"] for g in groups.values()])),
    }


def smallest_margin(anchors: Tensor, right: Tensor, wrong: Tensor) -> float:
    return ((anchors.double() * (right.double() - wrong.double())).sum(1)).abs().min().item()


def test_sugarcrepe_equals_every_figure_of_the_key(key, stored):
    s = stored("sugarcrepe159")
    images, right, wrong = s["image_embeddings"], s["caption_embeddings"], s["negative_caption_embeddings"]
    real = of_pairs(compare_pairs(images, right, wrong), s["subset"])
    real["smallest_margin"] = smallest_margin(images, right, wrong)
    blind = of_pairs(compare_pairs(constant(images), right, wrong), s["subset"])
    blind["smallest_margin"] = smallest_margin(constant(images), right, wrong)
    collapsed = of_pairs(compare_pairs(*(constant(images) for _ in range(3))), s["subset"])["micro"]
    groups = {**real["subsets"], "all": real["micro"]}
    ours = {
        "n_rows": len(images),
        "n_images": len(deduplicate_features(images).features),
        "rows_with_identical_captions": int((right == wrong).all(1).sum()),
        "real": real,
        "broken": {
            "collapsed": {name: collapsed[name] for name in ("strict_accuracy", "half_tie_accuracy")},
            "constant_image": blind,
        },
        "clip_benchmark_agreement": {
            name: {"clip_benchmark_text_acc": group["strict_accuracy"]} for name, group in groups.items()
        },
    }
    assert_equal_to_key(ours, key["sugarcrepe159"])


def of_classes(features: Tensor, weights: Tensor, labels: Tensor, names: list[str] | None = None) -> dict[str, Any]:
    places = class_rank_counts_of_features(features, weights, labels)
    top1 = expected_topk(places, 1)
    figures: dict[str, Any] = {
        "n": len(labels),
        "n_classes": len(weights),
        "mean_per_class_recall": mean_per_class(top1, labels, len(weights)),
        "n_samples_whose_true_class_ties": int((places.tied > 1).sum()),
    }
    for k in (1, 5):
        hit = expected_topk(places, k)
        figures[f"top{k}"] = {
            "value": hit.mean().item(),
            "expected_count": hit.sum().item(),
            "count_ties_won": int((places.above < k).sum()),
            "count_ties_lost": int((places.above + places.tied <= k).sum()),
        }
    if names is not None:
        figures["recall_per_class"] = {
            name: {"recall": top1[labels == c].mean().item(), "n": int((labels == c).sum())}
            for c, name in enumerate(names)
        }
    return figures


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classification_equals_every_figure_of_the_key(name, key, stored):
    s = stored(name)
    features, weights, labels = s["image_embeddings"], s["class_weights"], s["labels"]
    few = name == "cifar10_test2000"
    real = of_classes(features, weights, labels, s["class_names"] if few else None)
    collapsed = of_classes(constant(features), constant(weights), labels)
    prediction = class_rank_counts_of_features(constant(features), constant(weights), labels).prediction
    peers = {
        "clip_benchmark_accuracy_top1": real["top1"]["value"],
        "clip_benchmark_accuracy_top5": real["top5"]["value"],
        "balanced_accuracy_score": real["mean_per_class_recall"],
        "sklearn_top1": real["top1"]["value"],
        "sklearn_top5": real["top5"]["value"],
    }
    ours = {
        "real": real,
        "broken": {
            "collapsed": {
                "top1": collapsed["top1"]["value"],
                "top5": collapsed["top5"]["value"],
                "mean_per_class_recall": collapsed["mean_per_class_recall"],
                "first_index_argmax_would_give_top1": (prediction == labels).double().mean().item(),
            },
            "constant_image": of_classes(constant(features), weights, labels),
        },
        "cross_check": peers,
    }
    if few:
        peers["clip_benchmark_evaluate"] = {
            "acc1": real["top1"]["value"],
            "acc5": real["top5"]["value"],
            "mean_per_class_recall": real["mean_per_class_recall"],
        }
        templates = [prompt.replace(s["class_names"][0], "{c}") for prompt in s["prompts"][0]]
        ours |= {"class_names": s["class_names"], "templates": templates}
    else:
        repeated = {n for n in s["class_names"] if s["class_names"].count(n) > 1}
        column = deduplicate_features(weights).column
        ours["identical_class_names"] = {
            n: (column == column[s["class_names"].index(n)]).nonzero()[:, 0].tolist() for n in sorted(repeated)
        }
    assert_equal_to_key(ours, key[name])


def no_pixels(ids: list[str]) -> list[ArrayImage]:
    return [ArrayImage(name, np.zeros((1, 1, 3), np.uint8)) for name in ids]


def engine(folder, ids, images, texts, text_rows) -> Engine:
    write_embeddings(folder, ids, images, texts, text_rows)
    return Engine(EmbeddingsModel(folder))


@pytest.mark.parametrize("name", RETRIEVAL)
def test_the_retrieval_task_gives_the_key_from_a_folder_of_embeddings(name, key, stored, tmp_path):
    s = stored(name)
    data = RetrievalData(no_pixels(s["image_ids"]), s["texts"], s["text_image_index"].numpy())
    outcome = tasks.run(
        benchmark("retrieval"),
        data,
        engine(tmp_path, s["image_ids"], s["image_embeddings"], s["texts"], s["text_embeddings"]),
    )
    for direction, figures in key[name]["real"].items():
        expected = {f"recall@{k}": figures[f"recall@{k}"]["value"] for k in KS}
        expected |= {"mean_rank": figures["mean_rank"], "median_rank": figures["median_rank"]}
        for metric, value in expected.items():
            assert outcome.metrics[f"{direction}_{metric}"].value == pytest.approx(value, abs=1e-9)
        of_direction = outcome.samples[outcome.samples["direction"] == direction]
        assert np.array_equal(of_direction["rank"], s[f"rank_{direction}"])
    assert outcome.warnings == ()


def test_the_classification_task_gives_the_key_from_prompts(key, stored, tmp_path):
    s = stored("cifar10_test2000")
    prompts = [prompt for own in s["prompts"] for prompt in own]
    data = ClassificationData(
        no_pixels(s["image_ids"]), s["labels"].numpy(), s["class_names"], key["cifar10_test2000"]["templates"]
    )
    some = engine(tmp_path, s["image_ids"], s["image_embeddings"], prompts, s["prompt_embeddings"].flatten(0, 1))
    figures = key["cifar10_test2000"]["real"]
    found = tasks.run(benchmark("classification"), data, some).metrics
    assert found["top1"].value == pytest.approx(figures["top1"]["value"], abs=1e-12)
    assert found["top5"].value == pytest.approx(figures["top5"]["value"], abs=1e-12)
    assert found["mean_per_class"].value == pytest.approx(figures["mean_per_class_recall"], abs=1e-12)


def test_the_perception_task_gives_the_key(key, stored, tmp_path):
    s = stored("sugarcrepe159")
    ids = list(dict.fromkeys(s["image_ids"]))
    data = PerceptionData.pairs(
        no_pixels(ids),
        np.array([ids.index(name) for name in s["image_ids"]]),
        s["caption"],
        s["negative_caption"],
        s["subset"],
    )
    texts = [*s["caption"], *s["negative_caption"]]
    rows = torch.cat([s["caption_embeddings"], s["negative_caption_embeddings"]])
    outcome = tasks.run(
        benchmark("perception"), data, engine(tmp_path, s["image_ids"], s["image_embeddings"], texts, rows)
    )
    real = key["sugarcrepe159"]["real"]
    expected = {f"{subset}/accuracy": group["strict_accuracy"] for subset, group in real["subsets"].items()}
    expected |= {"accuracy": real["micro"]["strict_accuracy"], "macro_accuracy": real["macro7_strict"]}
    for metric, value in expected.items():
        assert outcome.metrics[metric].value == pytest.approx(value, abs=1e-12)
        assert outcome.metrics[f"{metric}_expected"].value == pytest.approx(value, abs=1e-12)
