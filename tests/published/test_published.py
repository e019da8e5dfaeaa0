"""Published figures: the file is what the collected tables say, and every row of it names what exists."""

import csv
from pathlib import Path

import pytest

from cosmos_eval.models.spec import parse_spec
from cosmos_eval.models.spec_kinds.flair import RELEASED_FLAIR
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.published.figures import COLUMNS, published
from cosmos_eval.report.exchange_open_clip import MEAN_OF
from tests.tools import published_numbers
from tests.tools.published_words import benchmarks_of, spec_of

COSMOS = "COSMOS (CVPR 2025, arXiv 2412.01814)"


def row_of(**wanted: str) -> dict:
    frame = published(secondary=True)
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0].to_dict()


def test_the_file_is_what_the_script_makes_of_the_collected_tables():
    folder = published_numbers.shared()
    tables = [folder / f"{name}.csv" for name in published_numbers.TABLES]
    if not all(table.is_file() for table in tables):
        pytest.skip(f"no collected tables in {folder}")
    assert published_numbers.OUT.read_text(encoding="utf-8") == published_numbers.make(*tables)


def test_open_clips_table_is_what_the_script_makes_of_it():
    table = published_numbers.shared() / "openclip_results.csv"
    if not table.is_file():
        pytest.skip(f"no table in {table.parent}")
    assert published_numbers.OUT_38.read_text(encoding="utf-8") == published_numbers.make_open_clip(table)


def test_every_model_and_every_column_of_open_clips_38_is_mapped():
    frame = published(unmapped=True)
    frame = frame[frame["paper"].str.startswith("open_clip 38")]
    assert frame["model"].nunique() == 121
    columns = frame.groupby("as_printed")["benchmark"].first()
    assert columns[columns == ""].index.str.removesuffix(", main metric").tolist() == [
        "Average perf. on 38 datasets",
    ]
    assert len(columns) == 39
    assert frame.loc[frame["benchmark"] == "coco-karpathy-retrieval", "metric"].unique().tolist() == [
        "image_to_text_recall@1 & text_to_image_recall@1"
    ]
    assert set(frame.loc[frame["spec"] == "", "model"]) == {
        "ViT-B-32 laion400m_e31", "ViT-B-32 laion400m_e32", "RN50 cc12m", "RN101 yfcc15m", "RN50 yfcc15m",
    }  # fmt: skip


def collected(tmp_path: Path, *figures: str, of_table: str = "53.1") -> str:
    """What the script makes of COSMOS rows with these figures of I2T on COCO, the first of a released checkpoint."""
    header = ("paper", "model", "arch", "pretraining_data", "benchmark", "metric", "value", "source")
    models = ["COSMOS cosmos_vitb16_cc3m", *(f"other {i}" for i in range(len(figures) - 1))]
    own = [
        (COSMOS, m, "ViT-B/16", "CC3M", "COCO retrieval", "I2T R@1", f, "readme")
        for m, f in zip(models, figures, strict=True)
    ]
    rest = [(b, m, "1.5") for b, m in published_numbers.OF_TABLE.values()][1:]
    own += [(COSMOS, models[0], "ViT-B/16", "CC3M", b, m, f, "notes, unverified") for b, m, f in rest]
    columns = ("file", *published_numbers.OF_TABLE)
    for name, rows in (("a", [header, *own]), ("b", [columns, ("cosmos_vitb16_cc3m.pt", of_table, *["1.5"] * 4)])):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(rows)
    return published_numbers.make(tmp_path / "a", tmp_path / "b")


def test_a_zero_that_was_lost_at_the_end_is_printed_again_and_secondary_figures_are_marked(tmp_path):
    rows = list(csv.DictReader(collected(tmp_path, "53.1", "68").splitlines()))
    assert [row["printed"] for row in rows] == ["53.1", "68.0", "1.5", "1.5", "1.5", "1.5"]
    assert [row["secondary"] for row in rows] == ["", "", "yes", "yes", "yes", "yes"]
    assert rows[0]["spec"] == "cosmos:vitb16-cc3m"


def test_tables_that_disagree_and_figures_that_are_no_percentages_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cosmos_vitb16_cc3m, COCO retrieval I2T R@1: 53.2"):
        collected(tmp_path, "53.1", of_table="53.2")
    with pytest.raises(ValueError, match="other 0, COCO retrieval: 680 is not a percentage"):
        collected(tmp_path, "53.1", "680")


def test_every_figure_is_a_fraction_with_a_source_and_the_decimals_that_were_printed():
    frame = published(secondary=True, unmapped=True)
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) > 1700
    assert frame["value"].between(0, 1).all()
    assert (frame["source"].str.len() > 10).all()
    assert set(frame["decimals"]) == {1, 2}
    shown = [f"{100 * value:.{decimals}f}" for value, decimals in zip(frame["value"], frame["decimals"], strict=True)]
    assert shown == frame["printed"].tolist()
    assert ((frame["benchmark"] == "") == (frame["metric"] == "")).all()


def test_every_mapped_figure_is_of_a_benchmark_and_metric_that_exist():
    frame = published(secondary=True)
    for name, rows in frame.groupby("benchmark"):
        benchmark = load_benchmark(name)  # refuses an unknown name
        for metric in {part for printed in rows["metric"].unique() for part in printed.split(MEAN_OF)}:
            assert task_info(benchmark.task).reports(metric, benchmark.metrics), (name, metric)


def test_every_spec_names_a_model_that_can_be_had():
    import open_clip

    from cosmos_core.released import RELEASED

    tags = {f"{arch}/{tag}" for arch, tag in open_clip.list_pretrained()}
    specs = sorted(set(published(secondary=True, unmapped=True)["spec"]) - {""})
    assert len(specs) > 20
    for spec in specs:
        parsed = parse_spec(spec)
        if parsed.kind == "cosmos":
            assert parsed.name in RELEASED, spec
        elif parsed.kind == "open_clip":
            assert f"{parsed.name}/{parsed.rest}" in tags, spec
        else:
            assert parsed.kind == "hf" or (parsed.kind == "flair" and parsed.name in RELEASED_FLAIR), spec


def test_secondary_figures_are_left_out_unless_requested():
    assert not published()["secondary"].any()
    secondary = published(secondary=True)
    secondary = secondary[secondary["secondary"]]
    assert len(secondary) > 10
    assert secondary["source"].str.contains("secondary|unverified|aggregator").all()
    assert published(secondary=True, unmapped=True)["secondary"].sum() > len(secondary)


def test_the_readme_of_cosmos_is_there_as_printed():
    wanted = {"spec": "cosmos:vitb16-merged30m", "model": "COSMOS cosmos_vitb16_merged30m"}
    figures = {
        ("coco-val2017-retrieval", "image_to_text_recall@1"): "68.0",
        ("coco-val2017-retrieval", "text_to_image_recall@1"): "52.5",
        ("flickr30k-val-retrieval", "image_to_text_recall@1"): "92.9",
        ("flickr30k-val-retrieval", "text_to_image_recall@1"): "80.3",
        ("imagenet1k", "top1"): "57.6",
    }
    for (benchmark, metric), printed in figures.items():
        row = row_of(benchmark=benchmark, metric=metric, **wanted)
        assert (row["printed"], row["decimals"], row["paper"]) == (printed, 1, COSMOS)
        assert row["value"] == pytest.approx(float(printed) / 100, abs=1e-12)


def test_cocos_two_splits_and_flickrs_two_files_are_kept_apart():
    frame = published(secondary=True)
    papers = frame.groupby("benchmark")["paper"].unique()
    assert all(paper.startswith(("COSMOS", "FLAIR")) for paper in papers["coco-val2017-retrieval"])
    assert all(paper.startswith(("COSMOS", "FLAIR")) for paper in papers["flickr30k-val-retrieval"])
    for benchmark in ("coco-karpathy-retrieval", "flickr30k-test-retrieval"):
        assert all(paper.startswith(("open_clip", "vl_compo", "LLM2CLIP")) for paper in papers[benchmark])


def test_means_per_class_are_not_taken_for_top_1():
    frame = published()
    means = {"caltech101-vtab", "fgvc-aircraft-wds", "pets-vtab", "flowers-vtab"}
    datacomp = frame[frame["paper"].str.startswith("open_clip 38")]
    assert set(datacomp[datacomp["metric"] == "mean_per_class"]["benchmark"]) == means
    assert not (means & set(datacomp[datacomp["metric"] == "top1"]["benchmark"]))


def test_what_is_another_protocol_is_mapped_to_nothing():
    assert benchmarks_of("MIEB / mteb", "m", "mteb:Imagenet1kZeroShot [test]", "accuracy") == []  # one template
    assert benchmarks_of("MIEB / mteb", "m", "mteb:AROVisualRelation [test]", "text_acc") == []
    assert benchmarks_of("ResCLIP (CVPR 2025)", "NACLIP + ResCLIP", "PASCAL VOC21", "mIoU") == []
    assert benchmarks_of("ResCLIP (CVPR 2025)", "CLIP vanilla", "PASCAL VOC20", "mIoU") == []
    assert benchmarks_of("SCLIP (ECCV 2024)", "SCLIP (CSA, no PAMR)", "COCO-Stuff10k", "mIoU") == []
    assert benchmarks_of(COSMOS, "COSMOS", "SVO (as the post labels it)", "accuracy") == []


def test_rows_of_weights_in_the_wrong_activation_have_no_spec():
    gelu = ("open_clip retrieval suite", "ViT-B-32 laion400m_e32", "ViT-B-32")
    assert spec_of(*gelu, "LAION-400M (GELU config; see quickgelu row)") == ""
    assert spec_of(*gelu, "LAION-400M") == "open_clip:ViT-B-32/laion400m_e32"


def test_sources_are_places_that_a_reader_can_look_for():
    sources = published(secondary=True, unmapped=True)["source"]
    assert not sources.str.contains(r"\bid \d|^page ").any()
    assert (
        published_numbers.source_of("notes repo file id 12 (a post; secondary)")
        == "notes on the paper (a post; secondary)"
    )
    assert published_numbers.source_of("github:a/b README.md") == "github:a/b README.md"
