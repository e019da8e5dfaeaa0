"""Caption splitting and sampling give the original's strings, draw by draw and in distribution."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import RequestError
from cosmos_core.text_crop import TextCrop, candidate_sentences, sample_sentences, split_caption
from tests.parity.golden import Pack


@pytest.fixture(scope="module")
def pack(parity_dir: Path) -> Pack:
    return Pack.at(parity_dir)


def record(pack: Pack, mode: str, index: int) -> dict[str, Any]:
    return pack.json("text/records.json")["pixelprose" if mode.endswith("_pixelprose") else "dreamlip"][index]


def split(pack: Pack) -> dict[str, Any]:
    return {f"{i}/output": split_caption(c["input"]) for i, c in enumerate(pack.json("text/split_caption.json"))}


def test_captions_are_split_alike(pack: Pack):
    pack.compare("text/split_caption.json", split(pack))


def seeded(pack: Pack, kind: str) -> dict[str, Any]:
    ours: dict[str, Any] = {}
    for i, case in enumerate(pack.json("text/samples.json")[kind]):
        crop = TextCrop(case["k"], case["mode"])
        content = record(pack, case["mode"], case["record"])
        ours[f"{kind}/{i}/output"] = crop(content, random.Random(case["seed"]))
    return ours


@pytest.mark.parametrize("kind", ["seeded", "other_modes"])
def test_a_seed_gives_the_original_strings(pack: Pack, kind: str):
    pack.compare("text/samples.json", seeded(pack, kind), only=f"{kind}/*")


def test_one_generator_through_many_records_gives_the_original_strings(pack: Pack):
    pack.compare("text/samples.json", sequences(pack), only="sequences/*")


def sequences(pack: Pack) -> dict[str, Any]:
    ours: dict[str, Any] = {}
    for i, case in enumerate(pack.json("text/samples.json")["sequences"]):
        crop, generator = TextCrop(case["k"], case["mode"]), random.Random(case["seed"])
        layout = "pixelprose" if case["mode"].endswith("_pixelprose") else "dreamlip"
        records = pack.json("text/records.json")[layout]
        for j in range(len(case["outputs"])):
            ours[f"sequences/{i}/outputs/{j}"] = crop(records[j % len(records)], generator)
    return ours


def test_sampling_from_a_list_gives_the_original_members(pack: Pack):
    pack.compare("text/samples.json", from_lists(pack), only="random_sample_from_list/*")


def from_lists(pack: Pack) -> dict[str, Any]:
    ours: dict[str, Any] = {}
    for i, case in enumerate(pack.json("text/samples.json")["random_sample_from_list"]):
        names = [f"s{j}" for j in range(case["n"])]
        ours[f"random_sample_from_list/{i}/output"] = sample_sentences(names, case["num"], random.Random(case["seed"]))
    return ours


def test_what_crashes_the_original_is_refused_in_one_line(pack: Pack):
    empty = {field: [] for field in record(pack, "textcrop", 0)}
    calls: dict[str, Callable[[], object]] = {
        "textcrop_k1": lambda: TextCrop(1),
        "empty_list": lambda: sample_sentences([], 3, random.Random(0)),
        "unknown_mode": lambda: TextCrop(4, "no such mode"),
        "all_lists_empty": lambda: TextCrop(8)(empty, random.Random(0), key="a record"),
        "long_mode_with_no_long_captions": lambda: TextCrop(2, "long")(
            {**empty, "raw_caption": ["words"]}, random.Random(0), key="a record"
        ),
    }
    assert set(calls) == set(pack.json("text/samples.json")["errors"])
    for name, call in calls.items():
        with pytest.raises(RequestError) as caught:
            call()
        assert "\n" not in str(caught.value), name


def counts_of(n: int, k: int, draws: int, seed: int) -> dict[str, dict[str, int]]:
    """What the pack counts, over many draws from one generator."""
    names = [f"w{i}" for i in range(n)]
    crop, generator = TextCrop(k), random.Random(seed)
    counts: dict[str, Counter[str]] = {
        name: Counter()
        for name in (
            "sentences_in_global_0",
            "sentences_in_global_1",
            "joint_sentence_counts",
            "max_repeats_of_one_sentence_in_global_0",
            "distinct_sentences_shared_by_both_globals",
            "repeated_locals_per_draw",
            "first_sentence_of_global_0",
            "first_local",
            "sentence_use_in_globals",
            "sentence_use_in_locals",
        )
    }
    for _ in range(draws):
        captions = crop(names, generator)
        first, second = (caption.split(". ") for caption in captions[:2])
        local = captions[2:]
        counts["sentences_in_global_0"][str(len(first))] += 1
        counts["sentences_in_global_1"][str(len(second))] += 1
        counts["joint_sentence_counts"][f"{len(first)},{len(second)}"] += 1
        counts["max_repeats_of_one_sentence_in_global_0"][str(max(Counter(first).values()))] += 1
        counts["distinct_sentences_shared_by_both_globals"][str(len(set(first) & set(second)))] += 1
        counts["first_sentence_of_global_0"][first[0]] += 1
        counts["sentence_use_in_globals"].update(first + second)
        counts["sentence_use_in_locals"].update(local)
        if local:
            counts["repeated_locals_per_draw"][str(len(local) - len(set(local)))] += 1
            counts["first_local"][local[0]] += 1
    return {name: dict(counter) for name, counter in counts.items()}


def statistics(pack: Pack) -> dict[str, Any]:
    ours: dict[str, Any] = {}
    for i, case in enumerate(pack.json("text/statistics.json")):
        counted = counts_of(case["n_candidates"], case["k"], case["draws"], case["seed"])
        for name, counter in counted.items():
            stored = case[name]
            ours |= {f"{i}/{name}/{value}": count for value, count in counter.items()}
            if not stored:
                assert not counter, f"{i}/{name}"
    return ours


def samples(pack: Pack) -> dict[str, Any]:
    return {**seeded(pack, "seeded"), **seeded(pack, "other_modes"), **sequences(pack), **from_lists(pack)}


FILES = {"text/split_caption.json": split, "text/samples.json": samples, "text/statistics.json": statistics}


def test_many_draws_give_the_stored_counts(pack: Pack):
    pack.compare("text/statistics.json", pack.ours("text/statistics.json", statistics))


def test_other_seeds_draw_from_the_same_distributions(pack: Pack):
    for i, case in enumerate(pack.json("text/statistics.json")):
        counted = counts_of(case["n_candidates"], case["k"], case["draws"] // 8, case["seed"] + 1)
        for name in ("sentences_in_global_0", "sentences_in_global_1", "first_sentence_of_global_0", "first_local"):
            stored = Counter(case[name])
            drawn = Counter(counted[name])
            assert set(drawn) <= set(stored), f"{i}/{name}"
            statistic = homogeneity(drawn, stored)
            freedom = max(1, len(stored) - 1)
            # a chi-square variable of any freedom lies above its mean by 8 standard deviations less than once in 10,000
            assert statistic < freedom + 8 * (2 * freedom) ** 0.5, f"{i}/{name}: {statistic:.1f} for {freedom}"


def homogeneity(a: Counter[str], b: Counter[str]) -> float:
    """Pearson's chi-square of two samples from one distribution."""
    total_a, total_b = sum(a.values()), sum(b.values())
    statistic = 0.0
    for value in a.keys() | b.keys():
        both = a[value] + b[value]
        for count, total in ((a[value], total_a), (b[value], total_b)):
            expected = both * total / (total_a + total_b)
            statistic += (count - expected) ** 2 / expected
    return statistic


def test_candidates_are_listed_in_the_original_order(pack: Pack):
    for content in pack.json("text/records.json")["dreamlip"]:
        in_order = [text for value in content.values() for text in value]
        assert candidate_sentences(content) == in_order
