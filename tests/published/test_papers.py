"""Tables of papers that were typed off: they give the means that they print, and shares of our numbers of items."""

import csv

import pytest

from cosmos_eval.datasets.languages.words import languages_of
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.published.figures import published
from cosmos_eval.published.reproduce import reproduce
from cosmos_eval.report.exchange_open_clip import multilingual_column
from tests.published.test_multilingual_table import TABLE
from tests.tools.published_papers import JINA, LLM2CLIP, VALSE, PaperTable

MEANS_OF_LLM2CLIP = (
    "75.9 71.1 78.8 71.8 74.7 67.8 75.0 66.7 69.5 57.1 86.1 81.9 74.0 65.6 86.1 82.7 79.8 76.9 78.2 69.9 71.4 61.3 "
    "87.8 84.6 78.4 71.5 90.4 86.3 74.4 62.2 79.3 72.3 81.8 75.8 91.2 86.4 81.5 75.2 83.0 76.9"
)
"""`Avg` of its table 1, I2T and T2I of each row."""
NEGBENCH = {
    "negbench-coco": {"positive": 2032, "negative": 1870, "hybrid": 2012},
    "negbench-voc2007": {"positive": 682, "negative": 2121, "hybrid": 2228},
}
"""Questions of each kind in the definitions' `source`."""
SAME_WEIGHTS = {
    "hf:openai/clip-vit-base-patch16": "open_clip:ViT-B-16/openai",
    "hf:openai/clip-vit-large-patch14": "open_clip:ViT-L-14/openai",
}


def test_the_rows_of_llm2clip_have_the_printed_means():
    means = iter(MEANS_OF_LLM2CLIP.split())
    for model, figures in LLM2CLIP.figures.items():
        values = [float(figure) for figure in figures.split()]
        for way in (values[::2], values[1::2]):
            assert sum(way) / 5 == pytest.approx(float(next(means)), abs=0.061), model
    assert next(means, None) is None


def test_the_rows_of_jina_and_of_mm_shap_have_the_printed_means():
    printed = {"jina-embeddings-v4": (79.42, 89.46), "jina-clip-v2": (81.43, 84.87)}
    printed["nllb-clip-large-siglip"] = (82.07, 87.6)
    for (model, *_), figures in JINA.figures.items():
        values = [float(figure) for figure in figures.split()]
        assert (sum(values[:26]) / 26, sum(values[26:]) / 10) == pytest.approx(printed[model], abs=0.011)
    for model, figures in VALSE.figures.items():
        *pieces, mean = (float(figure) for figure in figures.split())
        assert sum(pieces) / 11 == pytest.approx(mean, abs=0.07), model


def test_jinas_figures_of_nllb_are_those_of_open_clips_table():
    """The protocol of the one is that of the other, and so of our definitions."""
    if not TABLE.is_file():
        pytest.skip("open_clip's table of multilingual retrieval is not on this machine")
    with TABLE.open(encoding="utf-8", newline="") as file:
        (row,) = (r for r in csv.DictReader(file) if (r["model"], r["version"]) == ("nllb-clip-large-siglip", "v1"))
    theirs = {key: float(value) for column, value in row.items() for key in multilingual_column(column)}
    frame = published()
    frame = frame[frame["paper"].str.startswith("jina") & (frame["model"] == "nllb-clip-large-siglip")]
    assert len(frame) == 26 + 10
    for figure in frame.to_dict("records"):
        assert theirs[figure["benchmark"], figure["metric"]] == pytest.approx(figure["value"], abs=0.6e-4), figure


def test_negbenchs_figures_are_shares_of_its_questions():
    frame = published()
    for benchmark, of_kind in NEGBENCH.items():
        total = sum(of_kind.values())
        assert load_benchmark(benchmark).dataset.get("expected", {"items": total}) == {"items": total}
        rows = frame[frame["benchmark"] == benchmark].to_dict("records")
        assert len(rows) == 5 * 4
        for row in rows:
            n = of_kind.get(row["metric"].partition("/")[0], total)
            assert 100 * round(row["value"] * n) / n == pytest.approx(100 * row["value"], abs=0.0051), row


def test_whatsups_figures_are_shares_of_its_items_pairs_and_sets():
    frame = published()
    frame = frame[frame["paper"].str.startswith("What'sUp")]
    assert len(frame) == 6 * 10
    for row in frame.to_dict("records"):
        n = load_benchmark(row["benchmark"]).dataset["expected"]["items"]
        n //= {"accuracy": 1, "pair_accuracy": 2, "set_accuracy": 4}[row["metric"]]
        assert 100 * round(row["value"] * n) / n == pytest.approx(100 * row["value"], abs=0.051), row


def test_babel_imagenets_figures_are_shares_of_the_images_of_its_classes():
    frame = published()
    frame = frame[frame["paper"].str.startswith("Babel-ImageNet")]
    assert len(frame) == 3 * 89
    sizes = {words.code: len(words.classes) for words in languages_of(load_benchmark("babel-imagenet"))}
    few = 0
    for row in frame.to_dict("records"):
        n = 50 * sizes[row["metric"].partition("/")[0]]
        assert 100 * round(row["value"] * n) / n == pytest.approx(100 * row["value"], abs=0.0051), row
        few += n < 5000  # where not every figure of two decimals is a share
    assert few


def test_figures_of_cola_vsr_and_countbench_are_shares_of_their_items():
    frame = published(secondary=True)
    for benchmark, count in (("cola-multi", 7), ("vsr-random", 1), ("countbench", 1)):
        (n,) = load_benchmark(benchmark).dataset["expected"].values()
        rows = frame[frame["benchmark"] == benchmark].to_dict("records")
        assert len(rows) == count
        for row in rows:
            share, half_a_digit = 100 * round(row["value"] * n) / n, 0.51 / 10 ** row["decimals"]
            assert share == pytest.approx(100 * row["value"], abs=half_a_digit), row


def test_secondary_figures_of_long_captions_are_those_that_other_papers_print():
    """CLIP's figures in them are LoTLIP's and LLM2CLIP's within 0.6 points, except one that the definition names."""
    frame = published(secondary=True)
    frame = frame[frame["benchmark"].isin(["dci", "urban1k"]) & (frame["spec"] != "")]
    frame = frame.assign(spec=frame["spec"].replace(SAME_WEIGHTS))
    own, told = (frame[frame["secondary"] == flag] for flag in (False, True))
    printed = own.set_index(["benchmark", "spec", "metric"])["value"]
    assert len(told) == 2 + 4 + 4 + 2
    others = []
    for row in told.to_dict("records"):
        if abs(row["value"] - printed[row["benchmark"], row["spec"], row["metric"]]) > 0.0061:
            others.append((row["paper"].partition(" ")[0], row["benchmark"], row["metric"]))
    noted = load_benchmark("urban1k").published
    assert others == [(note.paper, "urban1k", note.metric) for note in noted if note.paper != "LLM2CLIP"]


def test_another_number_of_figures_is_refused():
    table = PaperTable("A", "a paper, table 1", (("COCO", "T2I", "", ""),), {("CLIP", "", "", ""): "1.0 2.0"})
    with pytest.raises(ValueError, match="zip"):
        table.rows()


def test_suites_reproduce_the_new_tables():
    cells = reproduce("composition-all", []).cells
    papers = {cell.target.paper.partition(" ")[0]: cell.target.decides for cell in cells}
    assert papers["NegBench"]
    assert papers["What'sUp"]
    assert "urban1k" in {cell.target.benchmark for cell in reproduce("long-captions", []).cells}
    metrics = {cell.target.metric for cell in reproduce("multilingual", []).cells}
    assert "de/top1" in metrics
