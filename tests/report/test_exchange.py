"""Others' tools read what we write, and we read what they write."""

import csv
import json
import shutil
import subprocess
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import list_benchmarks, load_benchmark, read_suite
from cosmos_eval.published.references import read_references
from cosmos_eval.report.board import PUBLISHED, make_board
from cosmos_eval.report.exchange_clip_benchmark import clip_benchmark_files, read_clip_benchmark
from cosmos_eval.report.exchange_model_index import model_index_files
from cosmos_eval.report.exchange_names import benchmarks_of, dataset_names
from cosmos_eval.report.exchange_open_clip import known_columns, read_open_clip
from cosmos_eval.report.latex import board_latex
from cosmos_eval.results.sections import BenchmarkSection
from cosmos_eval.results.store import write_result, write_samples
from cosmos_eval.tasks.outcome import Metric
from tests.helpers.boards import HOSTILE, SUITE, references_of_toybox, results_of_toybox
from tests.results.test_results import make_result


def measured(name: str, metrics: dict[str, float], spec: str = "open_clip:ViT-B-16/openai", **changes):
    """A result of a shipped benchmark."""
    one, base = load_benchmark(name), make_result(warnings=())
    return replace(
        base,
        benchmark=BenchmarkSection(name, one.version, one.task, one.fingerprint),
        model=replace(base.model, spec=spec),
        metrics={key: Metric(value, value - 0.01, value + 0.01, 100) for key, value in metrics.items()},
        primary=next(iter(metrics)),
        **changes,
    )


def written(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        assert Path(name).name == name
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_clip_benchmarks_own_build_reads_every_file(tmp_path):
    from clip_benchmark.cli import main_build

    board = make_board(results_of_toybox())
    folder = written(tmp_path / "json", clip_benchmark_files(board))
    main_build(Namespace(files=[str(folder)], output=str(tmp_path / "all.csv")))
    with (tmp_path / "all.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * 5 - 1 + 1
    built = {(row["model"], row["benchmark"]): row for row in rows}
    for cell in board.cells.itertuples():
        column = board.columns.loc[cell.column]
        row = built[board.rows.at[cell.row, "label"], column["benchmark"]]
        theirs = {"top1": "acc1", "text_to_image_recall@5": "image_retrieval_recall@5"}
        name = theirs.get(column["metric"])
        if name is not None:
            assert float(row[name]) == cell.value
    assert sum(bool(row["acc1"]) for row in rows) == 2
    # and what they built, we read
    references = read_clip_benchmark(tmp_path / "all.csv")
    ours = make_board(results_of_toybox(), references)
    label = f"{printable(HOSTILE[0])} 00000000"
    assert label in set(ours.rows.loc[ours.of_kind(PUBLISHED), "label"])


def test_what_we_write_for_clip_benchmark_we_read_back_to_the_bit(tmp_path):
    board = make_board(results_of_toybox(), suite=read_suite(SUITE))
    folder = written(tmp_path, clip_benchmark_files(board))
    again = make_board(results_of_toybox(), read_clip_benchmark(folder))
    values = {
        (row.label.rpartition(" ")[0], column): cell.value
        for row in again.rows.loc[again.of_kind(PUBLISHED)].itertuples()
        for column in again.columns.index
        if (cell := again.cell(row.Index, column)) is not None
    }
    measured_values = {
        (again.rows.at[cell.row, "label"], cell.column): cell.value
        for cell in again.cells.itertuples()
        if cell.row not in again.of_kind(PUBLISHED)
    }
    assert values == measured_values


def test_a_file_of_ours_is_held_to_its_protocol(tmp_path):
    result = measured("cifar10", {"top1": 0.9})
    files = clip_benchmark_files(make_board([result]))
    old = replace(result, benchmark=replace(result.benchmark, fingerprint="0" * 64))
    board = make_board([old], read_clip_benchmark(written(tmp_path, files)))
    assert board.of_kind(PUBLISHED) == []
    assert "another protocol" in board.remarks[0]


def test_the_same_benchmark_has_clip_benchmarks_name_and_another_keeps_ours():
    def record(result) -> dict:
        (text,) = clip_benchmark_files(make_board([result])).values()
        return json.loads(text)

    one = record(measured("imagenet1k", {"top1": 0.6834, "mean_per_class": 0.683}))
    assert (one["dataset"], one["task"], one["language"]) == ("imagenet1k", "zeroshot_classification", "en")
    assert (one["model"], one["pretrained"]) == ("ViT-B-16", "openai")
    assert one["metrics"] == {"acc1": 0.6834, "mean_per_class_recall": 0.683}
    assert record(measured("cifar10-vtab", {"top1": 0.9}))["dataset"] == "wds/vtab/cifar10"
    one = record(measured("coco-karpathy-retrieval", {"text_to_image_recall@5": 0.5, "image_to_text_recall@5": 0.7}))
    assert one["dataset"] == "mscoco_captions"
    assert one["metrics"] == {"image_retrieval_recall@5": 0.5, "text_retrieval_recall@5": 0.7}
    assert record(measured("coco-val2017-retrieval", {"text_to_image_recall@1": 0.5}))["dataset"].startswith("coco-")
    assert record(measured("caltech101-cosmos", {"top1": 0.5}))["dataset"] == "caltech101-cosmos"
    assert record(measured("cifar10-probe", {"top1": 0.5}))["task"] == "probe"  # fitted, so not zeroshot_probe
    changed = measured("cifar10-vtab", {"top1": 0.6})
    changed = replace(changed, benchmark=replace(changed.benchmark, fingerprint="0" * 64))
    assert record(changed)["dataset"] == "cifar10-vtab"  # somebody's own definition of that name


def test_each_file_of_sugarcrepe_is_a_dataset_there():
    result = measured("sugarcrepe", {"accuracy": 0.8, "swap_obj/accuracy": 0.6, "add_att/accuracy": 0.7})
    records = [json.loads(text) for text in clip_benchmark_files(make_board([result])).values()]
    assert {one["dataset"]: one["metrics"].get("text_acc") for one in records} == {
        "sugarcrepe": None, "sugar_crepe/swap_obj": 0.6, "sugar_crepe/add_att": 0.7,
    }  # fmt: skip


def test_limited_results_are_not_exported():
    board = make_board([measured("cifar10", {"top1": 0.9}, limit=10)])
    assert clip_benchmark_files(board) == {}
    assert model_index_files(board) == {}


def test_names_that_differ_in_small_letters_only_are_two_files():
    one, two = (measured("cifar10", {"top1": value}, "python:m:f") for value in (0.5, 0.6))
    board = make_board([
        replace(one, model=replace(one.model, label="Model", digest="1" * 64)),
        replace(two, model=replace(two.model, label="model", digest="1" * 8 + "2" * 56)),
    ])  # fmt: skip
    for files in (clip_benchmark_files(board), model_index_files(board)):
        assert len({name.lower() for name in files}) == 2


def test_clip_benchmarks_names_are_names_of_clip_benchmark():
    from clip_benchmark.datasets.builder import dataset_collection

    known = {name for names in dataset_collection.values() for name in names} | {"winoground", "caltech101", "cars"}
    known |= {"cifar10", "cifar100", "food101", "sun397", "dtd", "pets", "flowers", "eurosat", "fer2013", "imagenet-o"}
    for ours, theirs in dataset_names().items():
        assert ours in list_benchmarks()
        assert theirs.removeprefix("wds/") in known, (ours, theirs)
    assert benchmarks_of("wds/imagenet1k") == ["imagenet1k-wds", "imagenet1k"]
    assert benchmarks_of("imagenet1k") == ["imagenet1k"]
    assert benchmarks_of("caltech101") == ["caltech101-clip-benchmark"]
    assert benchmarks_of("crossmodal3600") == []


def their_file(**changes) -> str:
    """A result as clip-benchmark's `eval` writes it."""
    record = {
        "dataset": "mscoco_captions", "model": "ViT-B-32", "pretrained": "laion2b_e16", "task": "zeroshot_retrieval",
        "metrics": {"image_retrieval_recall@5": 0.6467, "text_retrieval_recall@5": 0.7956}, "language": "en",
    }  # fmt: skip
    return json.dumps(record | changes)


def test_results_of_clip_benchmark_become_reference_rows(tmp_path):
    (tmp_path / "coco.json").write_text(their_file())
    metrics = {"acc1": 0.6565, "acc5": float("nan"), "mean_per_class_recall": 0.6563}
    task = "zeroshot_classification"
    (tmp_path / "in.json").write_text(their_file(dataset="wds/imagenet1k", task=task, metrics=metrics))
    (tmp_path / "probe.json").write_text(their_file(task="linear_probe", metrics={"lp_acc1": 0.7}))
    (tmp_path / "cn.json").write_text(their_file(language="cn"))
    crepe = {"image_acc": 1.0, "text_acc": 0.61, "acc": 0.61}
    (tmp_path / "crepe.json").write_text(
        their_file(dataset="sugar_crepe/swap_obj", task="image_caption_selection", metrics=crepe)
    )
    frame = read_references([str(tmp_path)])
    assert len(frame) == 7
    assert {(row.benchmark, row.metric): row.value for row in frame.itertuples()} == {
        ("coco-karpathy-retrieval", "text_to_image_recall@5"): 0.6467,
        ("coco-karpathy-retrieval", "image_to_text_recall@5"): 0.7956,
        ("imagenet1k-wds", "top1"): 0.6565, ("imagenet1k-wds", "mean_per_class"): 0.6563,
        ("imagenet1k", "top1"): 0.6565, ("imagenet1k", "mean_per_class"): 0.6563,
        ("sugarcrepe", "swap_obj/accuracy"): 0.61,
    }  # fmt: skip
    board = make_board([measured("imagenet1k", {"top1": 0.6})], frame)
    assert board.rows["label"].tolist() == ["open_clip:ViT-B-16/openai", "ViT-B-32 laion2b_e16"]
    assert board.rows.at[1, "source"] == tmp_path.name
    alone = make_board([measured("imagenet1k", {"top1": 0.6})], read_references([str(tmp_path / "in.json")]))
    assert alone.rows.at[1, "source"] == "in.json"


def test_the_files_of_a_model_in_one_folder_are_one_row(tmp_path):
    results = [measured("imagenet1k", {"top1": 0.6}), measured("cifar10-vtab", {"top1": 0.9})]
    folder = written(tmp_path, clip_benchmark_files(make_board(results)))
    assert len(list(folder.glob("*.json"))) == 2
    board = make_board(results, read_clip_benchmark(folder))
    (row,) = board.of_kind(PUBLISHED)
    assert sorted(board.cells.loc[board.cells["row"] == row, "value"]) == [0.6, 0.9]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.json", "{", "is not JSON"),
        ("x.json", "[]", "is not a result of clip-benchmark"),
        ("x.json", their_file(metrics=[1]), "is not a result of clip-benchmark"),
        ("x.json", their_file(model=None), "is not a result of clip-benchmark"),
        ("x.json", "[" * 100_000, "is not JSON"),
        ("x.json", their_file(metrics={"text_retrieval_recall@1": 52.4}), "x.json: .* is 52.4, not a fraction"),
        ("x.csv", "a,b\n1,2\n", "x.csv is neither the CSV of clip-benchmark's build"),
        ("x.csv", "", "x.csv is neither"),
        ("x.csv", "dataset,model,pretrained,task,language\nimagenet1k,m\n", "is not a result of clip-benchmark"),
        ("x.csv", "name,pretrained,ImageNet 1k\nA,b,1.5\n", "x.csv:2: ImageNet 1k is '1.5', not a fraction"),
        ("x.csv", "name,pretrained,ImageNet 1k\nA,b,best\n", "'best', not a fraction"),
        ("x.csv", "name,pretrained,ImageNet 1k\nA,b\n", "x.csv:2: 2 values for 3 columns"),
    ],
)
def test_a_reference_that_cannot_be_read_is_refused_by_name(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=said):
        read_references([str(tmp_path / name)])


def test_an_absent_reference_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(RequestError, match="no reference 'papers'"):
        read_references(["papers"])
    with pytest.raises(RequestError, match="no JSON files"):
        read_references([str(tmp_path)])


OPEN_CLIP = """\
name,pretrained,params (M),FLOPs (B),Average perf. on 38 datasets,ImageNet 1k,Caltech-101,FMoW,Flickr,MSCOCO
ViT-B-16,openai,149.62,41.09,0.5626,0.6834,0.8901,0.0000,0.7218,0.4275
ViT-B-16,laion400m_e32,149.62,41.09,0.5621,0.6705,,0.1546,0.7458,0.4688
"""


def test_open_clips_tables_become_reference_rows(tmp_path):
    path = tmp_path / "openclip_results.csv"
    path.write_text(OPEN_CLIP)
    frame = read_references([str(path)])
    assert {(row.model, row.benchmark, row.metric): (row.value, row.decimals) for row in frame.itertuples()} == {
        ("ViT-B-16 openai", "imagenet1k-wds", "top1"): (0.6834, 2),
        ("ViT-B-16 openai", "imagenet1k", "top1"): (0.6834, 2),
        ("ViT-B-16 openai", "caltech101-vtab", "mean_per_class"): (0.8901, 2),
        ("ViT-B-16 laion400m_e32", "imagenet1k-wds", "top1"): (0.6705, 2),
        ("ViT-B-16 laion400m_e32", "imagenet1k", "top1"): (0.6705, 2),
        ("ViT-B-16 openai", "fmow-wds", "worst region/top1"): (0.0, 2),
        ("ViT-B-16 laion400m_e32", "fmow-wds", "worst region/top1"): (0.1546, 2),
        ("ViT-B-16 openai", "DataComp, mean of 38", "average"): (0.5626, 2),
        ("ViT-B-16 laion400m_e32", "DataComp, mean of 38", "average"): (0.5621, 2),
    }
    path.write_text("name,pretrained,Flickr image retr. R@1,MSCOCO text retr. R@10\nViT-B-16,openai,0.6216,0.8462\n")
    frame = read_open_clip(path)
    assert frame[["benchmark", "metric"]].to_numpy().tolist() == [
        ["flickr30k-test-retrieval", "text_to_image_recall@1"],
        ["coco-karpathy-retrieval", "image_to_text_recall@10"],
    ]


def test_open_clips_columns_are_benchmarks_and_metrics_of_ours():
    from cosmos_eval.protocol.task_registry import task_info
    from cosmos_eval.published.figures import published

    ours = published()
    ours = set(zip(ours["benchmark"], ours["metric"], strict=True))
    for column, found in known_columns().items():
        for benchmark, metric in found:
            definition = load_benchmark(benchmark)
            assert task_info(definition.task).reports(metric, definition.metrics), column
    # the package's own figures read the same columns in the same way
    assert {("pets-vtab", "mean_per_class"), ("imagenet1k", "top1"), ("food101-wds", "top1")} <= ours
    both = {one for found in known_columns().values() for one in found} & ours
    assert len(both) == 37 + 1 + 12  # ImageNet is two of our benchmarks; R@1, R@5 and R@10 both ways of two sets


def test_the_model_index_is_one_that_the_hub_reads():
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard_data import model_index_to_eval_results

    board = make_board(results_of_toybox())
    files = model_index_files(board)
    assert len(files) == 4
    seen = {}
    for name, text in files.items():
        assert Path(name).name == name
        card = ModelCard(f"---\n{text}---\n# A model\n")
        label, results = model_index_to_eval_results(yaml.safe_load(text)["model-index"])
        assert card.data.model_name == label
        assert card.data.eval_results == results
        for one in results:
            seen[label, one.dataset_name, one.dataset_config, one.metric_name] = one
    for cell in board.cells.itertuples():
        column = board.columns.loc[cell.column]
        if not column["headline"]:
            continue
        label = " ".join(board.rows.at[cell.row, "label"].split())
        config = f"v{column['version']}-{column['fingerprint'][:8]}"
        one = seen[label, column["benchmark"], config, column["title"].removeprefix(f"{column['benchmark']} ")]
        assert one.metric_value == cell.value
        assert one.metric_args == {"low": cell.low, "high": cell.high, "n": cell.n}
        assert one.dataset_revision == column["dataset"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Results on disk."""
    import pandas as pd

    runs = tmp_path_factory.mktemp("runs")
    for number, result in enumerate(results_of_toybox()):
        place = runs / str(number)
        samples = write_samples(place, pd.DataFrame({"key": ["a"]}))
        write_result(place, replace(result, samples=samples))
    return runs


def test_the_command_writes_every_format(folder, tmp_path, capsys):
    formats = "md,csv,tex,html,json,clip-benchmark,model-index"
    out = tmp_path / "tables"
    command = ["leaderboard", str(folder), "--format", formats, "--suite", SUITE, "--out", str(out)]
    assert run_command([*command, "--reference", "paper"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == (out / "leaderboard.md").read_text().strip()
    tables = {f"leaderboard.{ending}" for ending in ("md", "csv", "tex", "html", "json")}
    assert {path.name for path in out.iterdir()} == {*tables, "clip-benchmark", "model-index"}
    assert len(list((out / "clip-benchmark").iterdir())) == 15
    assert "mean of four families" in said.out
    assert "No published value" in said.out
    assert json.loads((out / "leaderboard.json").read_text())["suite"] == SUITE
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run_command([*command, "--reference", "paper"]) == 0
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_what_the_command_prints_in_json_is_json(folder, tmp_path, capsys):
    assert run_command(["leaderboard", str(folder), "--format", "json", "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "cosmos-eval leaderboard"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "xls"], "no table format 'xls'"),
        (["--format", ","], "names no format"),
        (["--suite", "toybx"], "did you mean toybox"),
        (["--suite", "paper-retrieval"], "belongs to the suite paper-retrieval; there are results of toybox-"),
        (["--reference", "nowhere.csv"], "no reference 'nowhere.csv'"),
        (["--secondary"], "--secondary is for --reference paper"),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(folder, arguments, said, capsys):
    before = set(folder.rglob("*"))
    assert run_command(["leaderboard", str(folder), *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert set(folder.rglob("*")) == before


def test_published_rows_alone_are_a_table_that_says_so(folder, tmp_path, capsys):
    options = ["--suite", "paper-retrieval", "--reference", "paper", "--format", "md", "--out", str(tmp_path)]
    assert run_command(["leaderboard", str(folder), *options]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "# Leaderboard\n\nPercent, with 95 % intervals in brackets; nothing measured. –: not measured.\n"
    )
    assert "| 68.0 " in out


TEX = next(filter(None, map(shutil.which, ("lualatex", "xelatex", "tectonic", "pdflatex"))), None)


@pytest.mark.skipif(TEX is None, reason="no TeX is installed here")
def test_the_latex_compiles(tmp_path):
    board = make_board(results_of_toybox(), references_of_toybox(), read_suite(SUITE))
    (tmp_path / "table.tex").write_text(board_latex(board), encoding="utf-8")
    fonts = r"\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}" if "pdflatex" in str(TEX) else ""
    (tmp_path / "page.tex").write_text(
        rf"\documentclass{{article}}{fonts}\usepackage{{booktabs}}\begin{{document}}\input{{table}}\end{{document}}"
    )
    options = [] if "tectonic" in str(TEX) else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([str(TEX), *options, "page.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
