"""Known differences to published figures: checked when read, and never part of a fingerprint."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.protocol.benchmark import list_benchmarks, load_benchmark
from cosmos_eval.protocol.definition_checks import check_suite
from cosmos_eval.protocol.fingerprint import protocol_fingerprint
from cosmos_eval.protocol.known_differences import KnownDifference
from cosmos_eval.protocol.source import read_source
from cosmos_eval.published.figures import published

FINGERPRINTS = Path(__file__).with_name("fingerprints.json")
MINE = """\
name: mine
version: 1
task: retrieval
dataset: {reader: jsonl, path: mine.jsonl}
metrics: {primary: text_to_image_recall@1}
"""


def define(tmp_path: Path, text: str, name: str = "mine") -> Path:
    path = tmp_path / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_fingerprints_of_shipped_definitions_do_not_change():
    """`fingerprints.json` has every version that was ever shipped: add new ones, never change one."""
    known = json.loads(FINGERPRINTS.read_text(encoding="utf-8"))
    benchmarks = [load_benchmark(name) for name in list_benchmarks()]
    current = {f"{benchmark.name} {benchmark.version}": benchmark.fingerprint for benchmark in benchmarks}
    assert len(known) >= 85
    assert {name: known[name] for name in current if name in known} == {
        name: fingerprint for name, fingerprint in current.items() if name in known
    }
    assert sum(name in known for name in current) >= 80


def test_known_differences_do_not_enter_the_fingerprint(tmp_path):
    plain = load_benchmark(define(tmp_path, MINE))
    annotated = load_benchmark(define(tmp_path, f'{MINE}published:\n  - {{why: "half precision", points: 0.1}}\n'))
    assert plain.published == ()
    assert annotated.published == (KnownDifference("half precision", 0.1),)
    assert annotated.fingerprint == plain.fingerprint
    shipped = load_benchmark("coco-val2017-retrieval")
    assert shipped.published
    assert protocol_fingerprint(replace(shipped, published=())) == shipped.fingerprint


def test_a_definition_has_the_known_differences_of_its_base_unless_it_gives_its_own(tmp_path):
    base = f'{MINE}published:\n  - {{why: "of the base"}}\n'
    define(tmp_path, base, "below")
    override = 'base: below\nname: above\npublished:\n  - {why: "its own", paper: SCLIP, metric: "*/iou"}\n'
    above = define(tmp_path, "base: below\nname: above\n", "above")
    assert load_benchmark(above).published == (KnownDifference("of the base"),)
    assert load_benchmark(define(tmp_path, override, "above")).published == (
        KnownDifference("its own", 0, "SCLIP", "*/iou"),
    )


@pytest.mark.parametrize(
    ("published_", "message"),
    [
        ("published: 0.1", ":6: published must be a list, not 0.1"),
        ("published: [half]", ":6: a known difference is a map with the keys why, points, paper, metric, inferred"),
        ("published:\n  - {points: 0.1}", ":7: the key 'why' is missing in a known difference"),
        ("published:\n  - {why: x, point: 0.1}", ":7: unknown key 'point' in a known difference; did you mean points?"),
        ("published:\n  - {why: ''}", ":7: why must be a text, not ''"),
        ("published:\n  - {why: x, paper: 3}", ":7: paper must be a text, not 3"),
        ("published:\n  - {why: x, points: -0.1}", ":7: points are percentage points from 0 to 100, not -0.1"),
        ("published:\n  - {why: x, points: true}", ":7: points are percentage points from 0 to 100, not True"),
        ("published:\n  - {why: x, points: much}", ":7: points are percentage points from 0 to 100, not 'much'"),
        ("published:\n  - {why: x, points: .nan}", ":7: points are percentage points from 0 to 100, not nan"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, published_, message):
    with pytest.raises(RequestError) as caught:
        load_benchmark(define(tmp_path, f"{MINE}{published_}\n"))
    assert str(caught.value) == f"{tmp_path / 'mine.yaml'}{message}"


def test_a_suite_names_papers_by_the_start_of_their_name(tmp_path):
    suite = "benchmarks: [toybox-retrieval]\n"
    assert check_suite(read_source(define(tmp_path, suite)))["published"] == ()
    assert check_suite(read_source(define(tmp_path, f"published: [COSMOS]\n{suite}")))["published"] == ("COSMOS",)
    with pytest.raises(RequestError, match="yaml:1: published must list starts of names of papers, not 3"):
        check_suite(read_source(define(tmp_path, f"published: [3]\n{suite}")))


def test_a_difference_applies_to_the_papers_and_metrics_that_it_names():
    general = KnownDifference("why")
    specific = KnownDifference("why", 1.0, "SCLIP", "*/accuracy")
    assert general.applies_to("any paper", "top1")
    assert specific.applies_to("SCLIP (ECCV 2024)", "swap_obj/accuracy")
    assert not specific.applies_to("SCLIP (ECCV 2024)", "accuracy")
    assert not specific.applies_to("COSMOS", "swap_obj/accuracy")


def test_every_shipped_difference_applies_to_a_published_figure():
    """Only for benchmarks with published figures: COSMOS's classification by dataset is not among those collected."""
    frame = published(secondary=True)
    for name in list_benchmarks():
        figures = frame[frame["benchmark"] == name]
        for difference in load_benchmark(name).published if len(figures) else ():
            papers_and_metrics = zip(figures["paper"], figures["metric"], strict=True)
            assert any(difference.applies_to(*figure) for figure in papers_and_metrics), (name, difference)


def test_every_benchmark_with_published_figures_has_known_differences():
    frame = published()
    without = {name for name in frame["benchmark"].unique() if not load_benchmark(name).published}
    assert not without
