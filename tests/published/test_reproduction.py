"""Measured beside published: each verdict at its very edge, and which of several results decides."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval.protocol.benchmark import list_suites, read_suite
from cosmos_eval.protocol.known_differences import KnownDifference
from cosmos_eval.published.comparison import measure
from cosmos_eval.published.figures import published
from cosmos_eval.published.reproduce import reproduce
from cosmos_eval.published.tables import render
from cosmos_eval.published.targets import MISSED, NOT_RUN, REPRODUCED, WITHIN, Cell, Target, same_model
from cosmos_eval.results.sections import BenchmarkSection, DatasetSection
from cosmos_eval.tasks.outcome import Metric
from tests.helpers.reproductions import COCO, FLICKR, I2T, MODEL, PRINTED, T2I, measured


def target(printed: str = "68.0", *points: float, **changes) -> Target:
    differences = tuple(KnownDifference("because", one) for one in points)
    base = Target("P", "m", MODEL, COCO, I2T, printed, False, "COCO, R@1", "readme", differences)
    return replace(base, **changes)


def cells(results, **options) -> dict[tuple[str, str], Cell]:
    found = reproduce("paper-retrieval", results, models=[MODEL], **options)
    return {(cell.target.benchmark, cell.target.metric): cell for cell in found.cells}


@pytest.mark.parametrize(
    ("printed", "points", "difference", "verdict"),
    [
        ("68.0", (), "0", REPRODUCED),
        ("68.0", (), "0.05", REPRODUCED),  # half of the last digit may be rounded either way
        ("68.0", (), "-0.05", REPRODUCED),
        ("68.0", (), "0.050001", MISSED),
        ("68.0", (), "-0.050001", MISSED),
        ("68.0", (0.1,), "0.050001", WITHIN),
        ("68.0", (0.1,), "0.15", WITHIN),
        ("68.0", (0.1,), "-0.15", WITHIN),
        ("68.0", (0.1,), "0.150001", MISSED),
        ("68.0", (0.1, 0.2), "0.35", WITHIN),  # known differences add up
        ("68.0", (0.1, 0.2), "-0.350001", MISSED),
        ("68", (), "0.5", REPRODUCED),
        ("68", (), "0.500001", MISSED),
        ("59.63", (0.2,), "0.005", REPRODUCED),
        ("59.63", (0.2,), "0.005001", WITHIN),
        ("59.63", (0.2,), "-0.205", WITHIN),
        ("59.63", (0.2,), "-0.205001", MISSED),
    ],
)
def test_the_verdict_turns_at_half_of_the_last_digit_and_at_the_tolerance(printed, points, difference, verdict):
    assert target(printed, *points).verdict(Decimal(difference)) == verdict


@pytest.mark.parametrize(
    ("off", "verdict"),
    [
        ("0", REPRODUCED),
        ("0.05", REPRODUCED),
        ("-0.05", REPRODUCED),
        ("0.0501", WITHIN),
        ("0.15", WITHIN),
        ("-0.15", WITHIN),
        ("0.1501", MISSED),
        ("-0.1501", MISSED),
        ("20", MISSED),
    ],
)
def test_results_get_the_verdict_of_their_definition_at_its_edges(off, verdict):
    """COCO's definition grants 0.1 points for half precision, and 68.0 is rounded to 0.05."""
    found = cells([measured(off={I2T: off})])
    cell = found[COCO, I2T]
    assert cell.target.printed == PRINTED[COCO, I2T] == "68.0"
    assert (cell.target.rounding, cell.target.tolerance) == (Decimal("0.05"), Decimal("0.15"))
    assert cell.measured[0].difference == Decimal(off)
    assert cell.verdict == verdict
    assert found[COCO, T2I].verdict == REPRODUCED
    assert found[FLICKR, I2T].verdict == NOT_RUN


def test_an_error_in_the_last_bits_does_not_move_a_figure_over_an_edge():
    result = measured()
    metric = result.metrics[I2T]
    edge = 0.6805 + 2e-16
    assert edge > 0.6805
    result = replace(result, metrics={**result.metrics, I2T: replace(metric, value=edge)})
    assert cells([result])[COCO, I2T].verdict == REPRODUCED


@given(st.floats(0, 1), st.sampled_from([1, 2]))
def test_whatever_is_printed_of_a_measurement_is_reproduced_by_it(value, decimals):
    printed = f"{100 * value:.{decimals}f}"
    result = replace(measured(), metrics={I2T: Metric(value, 0.0, 1.0, 5000)})
    difference = measure(target(printed), result, True, ()).difference
    assert target(printed).verdict(difference) == REPRODUCED
    assert target(printed).verdict(difference + Decimal(11).scaleb(-decimals - 1)) == MISSED  # 1.1 of the last digit


def test_nothing_measured_is_not_run_and_nothing_is_missed():
    found = reproduce("paper-retrieval", [])
    assert {cell.verdict for cell in found.cells} == {NOT_RUN}
    assert len(found.cells) == 40  # ten checkpoints, two sets, two directions
    assert not found.missed
    assert not reproduce("paper-retrieval", [measured(spec="cosmos:toybox")]).missed


def test_one_missed_figure_is_enough():
    found = reproduce("paper-retrieval", [measured(), measured(FLICKR, off={T2I: "-0.2501"})])
    assert found.missed
    counts = {verdict: found.count(verdict) for verdict in (REPRODUCED, WITHIN, MISSED, NOT_RUN)}
    assert counts == {REPRODUCED: 3, WITHIN: 0, MISSED: 1, NOT_RUN: 36}


def test_float32_decides_over_other_precisions_of_the_same_weights():
    found = cells([measured(precision="bf16", off="1"), measured(), measured(precision="fp16", off="-1")])[COCO, I2T]
    assert [(one.precision, one.verdict, one.decides) for one in found.measured] == [
        ("fp32", REPRODUCED, True),
        ("bf16", MISSED, False),
        ("fp16", MISSED, False),
    ]
    assert found.verdict == REPRODUCED
    assert found.measured[1].notes == ("bf16: the float32 result decides",)


def test_another_precision_decides_where_it_stands_alone_and_says_so():
    found = cells([measured(precision="bf16", off="1")])[COCO, I2T]
    assert found.verdict == MISSED
    assert found.measured[0].notes == ("bf16: run it with --precision fp32 before you conclude",)


def test_of_two_checkpoints_with_one_name_both_are_shown_and_the_worse_decides():
    one, other = measured(digest="1" * 64), measured(digest="2" * 64, off="-3")
    for results in ([one, other], [other, one]):
        found = cells(results)[COCO, I2T]
        assert [(m.digest[0], m.verdict, m.decides) for m in found.measured] == [
            ("1", REPRODUCED, True),
            ("2", MISSED, True),
        ]
        assert found.verdict == MISSED
        assert "2 different weights have this name; these are 11111111" in found.measured[0].notes


def test_another_checkpoint_on_another_benchmark_is_noted_too():
    found = cells([measured(digest="1" * 64), measured(FLICKR, digest="2" * 64)])
    assert found[COCO, I2T].measured[0].notes == ("2 different weights have this name; these are 11111111",)
    assert found[FLICKR, I2T].measured[0].notes == ("2 different weights have this name; these are 22222222",)
    # elsewhere it is nobody's business
    found = cells([measured(digest="1" * 64), replace(measured(digest="2" * 64), benchmark=other_benchmark())])
    assert found[COCO, I2T].measured[0].notes == ()


def other_benchmark() -> BenchmarkSection:
    return BenchmarkSection("toybox-retrieval", 1, "retrieval", "f" * 64)


def test_float32_of_one_checkpoint_does_not_silence_another():
    results = [measured(digest="1" * 64), measured(digest="2" * 64, precision="bf16", off="-3")]
    assert cells(results)[COCO, I2T].verdict == MISSED


def test_of_the_same_measurement_twice_the_newest_counts():
    old, new = measured(off="5", started="2026-01-01"), measured(started="2026-02-01")
    for results in ([old, new], [new, old]):
        found = cells(results)[COCO, I2T]
        assert len(found.measured) == 1
        assert found.verdict == REPRODUCED


def test_weights_that_nobody_can_identify_are_never_taken_for_the_same():
    found = cells([measured(digest=""), measured(digest="", off="5")])[COCO, I2T]
    assert sorted(one.verdict for one in found.measured) == [MISSED, REPRODUCED]
    assert "2 different weights have this name; these have no digest" in found.measured[0].notes


def test_other_data_and_incomplete_data_are_noted():
    full = {"images": 5000, "texts": 25014}
    part = DatasetSection("e" * 64, n={**full, "images": 4998}, n_expected=full)
    found = cells([measured(), measured(dataset=part)])[COCO, I2T]
    notes = [note for one in found.measured for note in one.notes]
    assert "on 4,998 of 5,000 images" in notes
    assert "on the data eeeeeeee; there are results on other data" in notes
    lost = replace(part, n={**full, "left_out": 7})
    assert "7 items left out" in cells([measured(dataset=lost)])[COCO, I2T].measured[0].notes


def test_limited_results_are_refused():
    with pytest.raises(RequestError, match=rf"{MODEL} on {COCO}: made with --limit 64, so not compared"):
        cells([measured(limit=64)])
    found = cells([measured(limit=64), measured(FLICKR)])
    assert found[COCO, I2T].verdict == NOT_RUN
    assert "--limit 64" in found[COCO, I2T].refused[0]
    assert found[FLICKR, I2T].verdict == REPRODUCED
    assert cells([measured(limit=64, off="9"), measured()])[COCO, I2T].verdict == REPRODUCED


def test_limited_results_of_other_models_are_nobodys_business():
    assert cells([measured(limit=64, spec="cosmos:toybox")])[COCO, I2T].verdict == NOT_RUN


def test_a_result_of_another_protocol_is_not_compared():
    found = cells([measured(fingerprint="9" * 64)])[COCO, I2T]
    assert found.verdict == NOT_RUN
    assert "version 1 (99999999) of the protocol" in found.refused[0]


def test_a_result_without_the_metric_is_not_compared():
    result = measured()
    found = cells([replace(result, metrics={T2I: result.metrics[T2I]})])
    assert (found[COCO, I2T].verdict, found[COCO, T2I].verdict) == (NOT_RUN, REPRODUCED)
    assert found[COCO, I2T].refused == (f"{MODEL} on {COCO}: has no {I2T}; run it again",)


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        ("cosmos:vitb16-merged30m#teacher", True),
        ("cosmos:weights/cosmos_vitb16_merged30m.pt", True),
        ("cosmos:vitb16-merged30m#student", False),
        ("cosmos:weights/cosmos_vitb16_merged30m.pt#student", False),
        ("cosmos:vitb16-cc3m", False),
        ("cosmos:weights/vitb16-merged30m.pt", False),
    ],
)
def test_a_released_checkpoint_is_known_by_its_name_and_its_file(spec, same):
    assert (same_model(spec) == same_model(MODEL)) is same
    found = cells([measured(spec=spec)])[COCO, I2T]
    assert found.verdict == (REPRODUCED if same else NOT_RUN)
    if same:
        assert found.measured[0].notes == (f"measured as {spec}",)


def test_a_tag_decides_the_activation_however_the_architecture_is_written():
    quick, plain = "open_clip:ViT-B-16-quickgelu/metaclip_fullcc", "open_clip:ViT-B-16/metaclip_fullcc"
    assert same_model(quick) == same_model(plain)
    assert same_model("open_clip:ViT-B-16/openai") != same_model("open_clip:ViT-B-32/openai")
    assert same_model("hf:a/b") == "hf:a/b"
    assert same_model("no kind at all") == "no kind at all"


def test_results_of_a_copy_are_taken_where_they_are_named():
    copy, other = "cosmos:runs/copy=1/last.pt", "cosmos:runs/other/last.pt"
    results = [measured(spec=copy), measured(spec=other, off="5", digest="2" * 64)]
    assert cells(results)[COCO, I2T].verdict == NOT_RUN
    found = reproduce("paper-retrieval", results, models=[f"{MODEL}={copy}"])
    assert found.count(REPRODUCED) == 2
    assert found.measured_as == {same_model(MODEL): [copy]}
    assert found.cells[0].measured[0].notes == (f"measured as {copy}",)
    # results under the published name are not mixed in
    found = reproduce("paper-retrieval", [*results, measured(off="9", digest="3" * 64)], models=[f"{MODEL}={copy}"])
    assert [one.spec for one in found.cells[0].measured] == [copy]
    # two copies may be named
    found = reproduce("paper-retrieval", results, models=[f"{MODEL}={copy}", f"{MODEL}={other}"])
    assert found.count(MISSED) == 2


def test_only_the_models_that_are_named_are_compared():
    found = reproduce("paper-retrieval", [], models=["cosmos:vitb16-cc3m", "cosmos:vitb32-cc3m#teacher"])
    assert {cell.target.spec for cell in found.cells} == {"cosmos:vitb16-cc3m", "cosmos:vitb32-cc3m"}


def test_requests_that_cannot_be_carried_out_say_why():
    with pytest.raises(RequestError, match="there is no suite 'paper-retreival'; did you mean paper-retrieval"):
        reproduce("paper-retreival", [])
    with pytest.raises(RequestError, match=r"the suite toybox has no published figures; these have: .*sclip"):
        reproduce("toybox", [])
    with pytest.raises(RequestError, match="figures of cosmos:toybox in paper-retrieval; they are known of cosmos"):
        reproduce("paper-retrieval", [], models=["cosmos:toybox"])
    with pytest.raises(RequestError, match="of an unknown kind"):
        reproduce("paper-retrieval", [], models=["vitb16-merged30m"])


def test_secondary_figures_are_shown_on_request_and_never_decides():
    plain, told = reproduce("paper", []), reproduce("paper", [], secondary=True)
    assert plain.secondary_left_out == len(told.cells) - len(plain.cells) == 4
    secondary = next(one.target for one in told.cells if one.target.secondary and one.target.benchmark == "cityscapes")
    result = replace(measured("cityscapes"), primary="miou", metrics={"miou": Metric(0.9, 0.8, 1.0, 500)})
    found = reproduce("paper", [result], secondary=True)
    cell = next(cell for cell in found.cells if cell.target == secondary)
    assert cell.measured[0].verdict == MISSED
    assert (found.count(MISSED), found.count(MISSED, deciding=False)) == (0, 1)
    assert not found.missed


def test_figures_of_an_inferred_protocol_are_shown_and_never_decide():
    """The source of COSMOS's mean IoUs does not say that they are with CSA."""
    result = replace(measured("voc20-csa"), primary="miou", metrics={"miou": Metric(0.1, 0.05, 0.2, 1449)})
    found = reproduce("paper-segmentation", [result])
    cell = next(cell for cell in found.cells if cell.target.benchmark == "voc20-csa" and cell.measured)
    assert not cell.target.decides
    assert not cell.target.secondary
    assert (cell.verdict, found.missed, found.count(MISSED, deciding=False)) == (MISSED, False, 1)
    text = render(found, "md", "runs")
    assert "inferred protocol, does not decide" in text
    assert "(missed)" in text
    # the same benchmark decides where the paper states the protocol
    assert all(one.target.decides for one in reproduce("sclip", []).cells)


def test_a_printed_mean_of_two_metrics_is_compared_with_their_mean():
    values = {"image_to_text_recall@1": 0.8, "text_to_image_recall@1": 0.6436}
    metrics = {name: Metric(value, value - 0.01, value + 0.01, 1000) for name, value in values.items()}
    result = replace(measured("flickr30k-test-retrieval"), primary="image_to_text_recall@1", metrics=metrics)
    result = replace(result, model=replace(result.model, spec="open_clip:ViT-B-16/openai"))
    found = reproduce("datacomp-38", [result], models=["open_clip:ViT-B-16/openai"])
    (cell,) = [cell for cell in found.cells if cell.measured]
    (row,) = cell.measured
    assert cell.target.printed == "72.18"
    assert (row.value, row.verdict) == (pytest.approx(0.7218), "reproduced")
    assert (row.low, row.high) == (pytest.approx(0.7118), pytest.approx(0.7318))


@pytest.mark.parametrize("suite", [name for name in list_suites() if read_suite(name).published])
def test_every_suite_with_papers_finds_their_figures(suite):
    papers = published(secondary=True)["paper"]
    for prefix in read_suite(suite).published:
        assert papers.str.startswith(prefix).any(), prefix
    found = reproduce(suite, [], secondary=True)
    assert found.cells
    for cell in found.cells:
        assert cell.target.tolerance >= cell.target.rounding > 0
        assert set(cell.target.benchmarks) <= {one.name for one in found.suite.benchmarks}
    printed = {average.name for average in found.suite.averages if average.printed}
    assert printed <= {cell.target.benchmark for cell in found.cells}


def test_every_suite_says_which_table_it_reproduces_or_why_none():
    for name in list_suites():
        suite = read_suite(name)
        assert suite.reproduces, name
        assert suite.reproduces.startswith("none") or suite.published, name


def test_every_benchmark_of_vtab_plus_has_figures_of_openais_models():
    found = reproduce("vtab-plus", [], models=["open_clip:ViT-B-16/openai"])
    assert {one.name for one in read_suite("vtab").benchmarks} < {one.name for one in found.suite.benchmarks}
    assert {cell.target.benchmark for cell in found.cells} == {one.name for one in found.suite.benchmarks}
    by_benchmark = {cell.target.benchmark: cell.target for cell in found.cells}
    dmlab = by_benchmark["dmlab-vtab"]
    assert (dmlab.printed, dmlab.metric, dmlab.decides) == ("15.90", "top1", True)
    assert by_benchmark["cifar100-vtab"].paper.startswith("open_clip 38-dataset")


def test_maskclip_as_others_print_it_never_decides():
    targets = [cell.target for cell in reproduce("maskclip", []).cells]
    assert len(targets) == 8
    assert not any(target.decides for target in targets)


def test_the_suites_of_open_clip_and_sclip_have_their_models():
    models = {cell.target.spec for cell in reproduce("open-clip", []).cells}
    assert len(models) == 116
    assert "open_clip:ViT-B-16/openai" in models
    found = reproduce("sclip", [])
    assert {cell.target.spec for cell in found.cells} == {"open_clip:ViT-B-16/openai"}
    assert {cell.target.benchmark: cell.target.printed for cell in found.cells}["voc21-csa"] == "59.63"
    assert any("the paper prints 59.1" in one.why for cell in found.cells for one in cell.target.differences)
