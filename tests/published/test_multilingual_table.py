"""open_clip's table of multilingual retrieval: means over languages, and its columns as references."""

import csv
import os
from pathlib import Path

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.published.figures import published
from cosmos_eval.published.references import read_file
from cosmos_eval.published.reproduce import reproduce
from cosmos_eval.report.exchange_open_clip import MEAN, multilingual_column

SHARED = Path(os.environ.get("COSMOS_SHARED_DIR", Path(__file__).resolve().parents[3] / "shared"))
TABLE = SHARED / "openclip_multilingual_retrieval_results.csv"
HALF_A_DIGIT = 0.51e-4


def table():
    if not TABLE.is_file():
        pytest.skip("open_clip's table of multilingual retrieval is not on this machine")
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_printed_means_are_means_over_our_languages_for_every_model():
    """The means that we report, computed from the table's own columns of single languages."""
    checked = 0
    for row in table():
        columns: dict[tuple[str, str], dict[str, float]] = {}
        for column, value in row.items():
            for benchmark, metric in multilingual_column(column):
                language, _, name = metric.rpartition("/")
                columns.setdefault((benchmark, name), {})[language or MEAN] = float(value)
        for (benchmark, name), by_language in columns.items():
            printed = by_language.pop(MEAN)
            assert sorted(by_language) == sorted(load_benchmark(benchmark).dataset["languages"]), (benchmark, name)
            assert sum(by_language.values()) / len(by_language) == pytest.approx(printed, abs=HALF_A_DIGIT)
            checked += 1
        single = [float(value) for column, value in row.items() if column.count(" ") == 2 and not column.endswith(MEAN)]
        assert len(single) == 6 * (36 + 11)
        assert sum(single) / len(single) == pytest.approx(float(row["avg"]), abs=HALF_A_DIGIT)
    assert checked == 123 * 3 * 6  # xtd10 reads the columns of multilingual-coco


def test_the_table_is_read_as_references():
    rows = table()
    frame = read_file(TABLE)
    assert len(frame) == len(rows) * (37 + 2 * 12) * 6
    first = frame[(frame["model"] == "nllb-clip-large-siglip mrl") & (frame["benchmark"] == "xm3600")]
    of = first.set_index("metric")
    assert of.loc["text_to_image_recall@1", "value"] == 0.6079
    assert of.loc["de/text_to_image_recall@1", "value"] == 0.7569
    for (benchmark, metric), _ in frame.groupby(["benchmark", "metric"]):
        definition = load_benchmark(benchmark)
        assert task_info(definition.task).reports(metric, definition.metrics), (benchmark, metric)


def test_a_small_table_is_read_and_a_broken_one_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("model,version,avg,crossmodal3600 text_retrieval_recall@5 avg\nViT,tag,0.5,0.25\n")
    (row,) = read_file(path).to_dict("records")
    assert (row["model"], row["benchmark"], row["metric"]) == ("ViT tag", "xm3600", "image_to_text_recall@5")
    path.write_text("model,version,avg,crossmodal3600 text_retrieval_recall@5 avg\nViT,tag,0.5,25\n")
    with pytest.raises(RequestError, match=r"table.csv:2: .*not a fraction"):
        read_file(path)


def test_the_published_rows_are_the_means_of_recall_at_1():
    frame = published()
    frame = frame[frame["paper"].str.startswith("open_clip multilingual")]
    assert len(frame) == 123 * 4
    expected = {}
    for row in table():
        for column, value in row.items():
            if column.endswith("recall@1 avg"):
                benchmark, metric = multilingual_column(column)[0]
                expected[f"{row['model']} {row['version']}", benchmark, metric] = f"{100 * float(value):.2f}"
    ours = {(m, b, k): p for m, b, k, p in frame[["model", "benchmark", "metric", "printed"]].itertuples(index=False)}
    assert ours == expected


def test_both_suites_have_figures_to_reproduce():
    multilingual = reproduce("multilingual", []).cells
    assert {cell.target.benchmark for cell in multilingual} == {"multilingual-coco", "xm3600", "babel-imagenet"}
    assert len({cell.target.spec for cell in multilingual}) == 111
    assert not [
        cell.target.spec for cell in multilingual if "nllb" in cell.target.spec
    ]  # its tokenizer is told a language
    long_captions = reproduce("long-captions", []).cells
    of_lotlip = [cell.target for cell in long_captions if cell.target.paper.startswith("LoTLIP")]
    assert {target.benchmark for target in of_lotlip} == {"dci", "iiw", "sharegpt4v-10k"}
    assert {target.spec for target in of_lotlip} == {"open_clip:ViT-B-16/openai", "open_clip:ViT-B-32/openai"}
    told = {cell.target.benchmark for cell in reproduce("long-captions", [], secondary=True).cells}
    assert told == {"dci", "iiw", "sharegpt4v-10k", "urban1k", "docci-fg"}


def test_lotlips_figures_are_shares_of_its_images():
    """A recall of 612 queries is a multiple of 1/612, of 7,805 one of 1/7805: the counts of our definitions."""
    frame = published()
    frame = frame[frame["paper"].str.startswith("LoTLIP")]
    assert len(frame) == 24
    for row in frame.to_dict("records"):
        n = load_benchmark(row["benchmark"]).dataset["expected"]["images"]
        hits = round(row["value"] * n)
        assert 100 * hits / n == pytest.approx(100 * row["value"], abs=0.0051), row
