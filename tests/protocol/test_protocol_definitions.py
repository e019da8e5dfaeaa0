"""Definitions and suites: shipped ones are valid, and a mistake in a user's own is named with file and line."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.reader_registry import reader_info
from cosmos_eval.protocol.benchmark import Benchmark, list_benchmarks, list_suites, load_benchmark, load_suite
from cosmos_eval.protocol.fingerprint import protocol_fingerprint
from cosmos_eval.protocol.folders import DEFINITIONS
from cosmos_eval.protocol.source import read_source
from cosmos_eval.protocol.task_registry import task_info
from tests.helpers.datasets_on_disk import define

GOOD = """\
name: cats
version: 1
task: classification
dataset:
  reader: image-folder
  path: images
prompts:
  templates: ["a photo of a {c}."]
metrics: {primary: top1}
"""


def refusal(tmp_path: Path, text: str) -> str:
    """The message, without the path, with which a definition is refused."""
    path = tmp_path / "cats.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError) as caught:
        load_benchmark(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_every_shipped_definition_loads_and_no_two_share_a_fingerprint():
    fingerprints = {name: load_benchmark(name).fingerprint for name in list_benchmarks()}
    assert len(fingerprints) >= 20
    assert len(set(fingerprints.values())) == len(fingerprints)
    assert all(len(fingerprint) == 64 for fingerprint in fingerprints.values())


UNCOUNTED = {
    "docci-fg",
    "iiw-fg",
    "flickr30k-200",
    "winogavil",
    "negbench-coco-retrieval",
    "negbench-coco-negated-retrieval",
}
"""Their files were not seen, and no one prints how many images or texts they have: `source` says so."""
CREPE_SYSTEMATICITY = {f"crepe-systematicity-{training}" for training in ("cc12m", "laion", "yfcc")}
"""Multiple choice whose number of rows was never published."""


def test_every_shipped_definition_has_a_summary_a_source_and_expected_counts_or_says_why_not():
    for name in list_benchmarks():
        benchmark = load_benchmark(name)
        assert benchmark.summary, name
        assert benchmark.source, name
        says_why = "No number of rows was read" in benchmark.source or name in UNCOUNTED
        assert benchmark.dataset.get("expected") or says_why, name
        assert ("not read anywhere" in benchmark.source) <= (name in UNCOUNTED), name
        assert benchmark.folder is None, name


def test_suites_list_definitions_in_their_order():
    paper_suites = [f"paper-{task}" for task in ("retrieval", "classification", "segmentation", "perception")]
    assert set(list_suites()) >= {"toybox", *paper_suites, "paper", "quick"}
    toybox_tasks = ["retrieval", "classification", "segmentation", "segmentation", "perception"]
    assert [benchmark.task for benchmark in load_suite("toybox")] == toybox_tasks
    expected = [benchmark.name for suite in paper_suites for benchmark in load_suite(suite)]
    assert [benchmark.name for benchmark in load_suite("paper")] == expected
    for suite in list_suites():
        assert load_suite(suite)


def test_definitions_have_the_published_counts():
    def expected(name: str) -> dict[str, int]:
        return load_benchmark(name).dataset["expected"]

    assert expected("coco-val2017-retrieval") == {"images": 5000, "texts": 25014}
    assert expected("coco-karpathy-retrieval") == {"images": 5000, "texts": 25010}
    assert expected("flickr30k-test-retrieval") == {"images": 1000, "texts": 5000}
    assert expected("flickr30k-val-retrieval") == {"images": 1014, "texts": 5070}
    assert expected("caltech101-cosmos")["images"] == 5677
    assert expected("caltech101-vtab")["images"] == 6085
    assert expected("sun397-full")["images"] == 108754


def test_loading_definitions_imports_neither_torch_nor_numpy():
    code = (
        "import sys; from cosmos_eval.protocol.benchmark import list_benchmarks, load_benchmark\n"
        "for name in list_benchmarks(): load_benchmark(name)\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'open_clip', 'clip_benchmark') if m in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"


def test_an_unknown_name_suggests_similar_ones():
    with pytest.raises(RequestError, match="did you mean coco-val2017-retrieval"):
        load_benchmark("coco-val2017-retreival")
    with pytest.raises(RequestError, match="toybox is a suite"):
        load_benchmark("toybox")
    with pytest.raises(RequestError, match="did you mean paper-retrieval"):
        load_suite("paper-retreival")
    with pytest.raises(RequestError, match="no definition"):
        load_benchmark("nowhere.yaml")


def test_the_folder_of_a_users_definition_is_its_data_root(tmp_path: Path):
    path = tmp_path / "cats.yaml"
    path.write_text(GOOD, encoding="utf-8")
    benchmark = load_benchmark(path)
    assert benchmark.folder == tmp_path
    assert benchmark.resolve_prompts().templates == ("a photo of a {c}.",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("reader: image-folder", "reader: image-foldr"),
            ":5: unknown reader 'image-foldr'; did you mean",
        ),
        (("reader: image-folder", "reader: csv"), ":5: unknown reader 'csv'; known: coco-captions, karpathy, "),
        (("  path: images", "  pth: images"), ":6: unknown key 'pth' in dataset; did you mean path"),
        (("  path: images\n", ""), ":4: the key 'path' is missing in dataset"),
        (("version: 1", "version: one"), ":2: version must be a whole number, not 'one'"),
        (("version: 1", "version: true"), ":2: version must be a whole number, not True"),
        (("version: 1", "version: 0"), ":2: version must be at least 1"),
        (
            ("task: classification", "task: clasification"),
            ":3: unknown task 'clasification'; did you mean",
        ),
        (("task: classification", "task: retrieval"), ":3: the reader image-folder gives data for classification"),
        (("primary: top1", "primary: top2"), ":9: unknown metric 'top2' of classification; did you mean top"),
        (("primary: top1", "k: [1]"), ":9: unknown key 'k' in metrics; for classification it takes primary"),
        (("metrics: {primary: top1}\n", ""), ":1: the key 'metrics' is missing"),
        (('templates: ["a photo of a {c}."]', 'templates: ["a photo."]'), ":8: templates: the template 'a photo.'"),
        (('templates: ["a photo of a {c}."]', "templates: openai-81"), ":8: templates: unknown set 'openai-81'"),
        (('templates: ["a photo of a {c}."]', "class_names: [a]"), ":7: the key 'templates' is missing in prompts"),
        (("name: cats", "name: ../cats"), ":1: the name '../cats' must be"),
        (("name: cats", "name: cats\nname: dogs"), ":2: 'name' is given twice"),
        (("name: cats", "name: [cats"), ":2: not YAML"),
        (("  path: images", "  path: images\n  expected: {pictures: 3}"), ":7: unknown key 'pictures' in expected"),
        (
            ("  path: images", "  path: images\n  expected: {images: 3, texts: 3}"),
            ":7: unknown key 'texts' in expected; for classification it counts images, classes",
        ),
        (("  path: images", "  path: images\n  expected: {images: 0}"), ":7: expected images must be at least 1"),
        (("name: cats", "preprocessing: centre\nname: cats"), ":1: unknown key 'preprocessing'"),
        (("name: cats", 'name: cats\nsummary: "half \\ud83d"'), ":2: half a character"),
        (("  path: images", "  path: 3"), ":6: path must be a text, not 3"),
        (("name: cats", "naem: cats"), ":1: unknown key 'naem'; did you mean name"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, change: tuple[str, str], message: str):
    assert change[0] in GOOD
    assert refusal(tmp_path, GOOD.replace(*change)).startswith(message)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text", "a: !!python/object/apply:os.system [true]\n", "\x00"])
def test_files_that_are_not_a_definition_are_refused(tmp_path: Path, text: str):
    assert refusal(tmp_path, text)


def test_a_primary_metric_must_be_among_the_cut_offs(tmp_path: Path):
    text = "name: a\nversion: 1\ntask: retrieval\ndataset: {reader: jsonl, path: a.jsonl}\n"
    assert "unknown metric" in refusal(tmp_path, text + "metrics: {primary: text_to_image_recall@5, k: [1, 10]}\n")
    assert "smallest first" in refusal(tmp_path, text + "metrics: {primary: text_to_image_recall@1, k: [10, 1]}\n")
    assert "at least 1" in refusal(tmp_path, text + "metrics: {primary: text_to_image_recall@1, k: [0, 1]}\n")
    huge = refusal(tmp_path, text + f"metrics: {{primary: text_to_image_recall@1, k: [1, {10**20}]}}\n")
    assert huge.startswith(":5: a number of k is too large; it is at most 2,147,483,647")


def test_the_fingerprint_depends_on_prompts_but_not_on_paths(tmp_path: Path):
    def fingerprint(path: str = "a", template: str = "a {c}", **options: object) -> str:
        dataset = {"reader": "image-folder", "path": path, **options}
        return define(tmp_path, "classification", dataset, {"templates": [template]}).fingerprint

    assert fingerprint() == fingerprint(path="b") == fingerprint(expected={"images": 3}) == fingerprint(template="a {}")
    assert fingerprint() != fingerprint(template="the {c}")


def test_a_named_set_and_its_words_have_one_fingerprint(tmp_path: Path):
    dataset = {"reader": "image-folder", "path": "a"}
    named = define(tmp_path, "classification", dataset, {"templates": "simple-7"})
    words = named.resolve_prompts().templates
    assert words is not None
    assert len(words) == 7
    listed = define(tmp_path, "classification", dataset, {"templates": list(words)})
    assert named.fingerprint == listed.fingerprint


def test_default_cut_offs_are_1_5_and_10(tmp_path: Path):
    dataset = {"reader": "jsonl", "path": "a.jsonl"}
    assert define(tmp_path, "retrieval", dataset).metrics["k"] == [1, 5, 10]


@pytest.mark.parametrize(
    ("task", "primary", "is_reported"),
    [
        ("perception", "group_scores", False),
        ("perception", "swap/accuracy", True),
        ("perception", "macro_accuracy_expected", True),
        ("perception", "swap/group", False),
        ("retrieval", "text_to_image_median_rank", True),
        ("retrieval", "recall@1", False),
    ],
)
def test_a_primary_metric_is_one_that_the_task_reports(tmp_path: Path, task: str, primary: str, is_reported: bool):
    text = f"name: a\nversion: 1\ntask: {task}\ndataset: {{reader: jsonl, path: a.jsonl}}\n"
    text += f"metrics: {{primary: {primary}}}\n"
    if is_reported:
        (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
        assert load_benchmark(tmp_path / "a.yaml").metrics["primary"] == primary
    else:
        assert f":5: unknown metric '{primary}' of {task}" in refusal(tmp_path, text)


@pytest.mark.parametrize("name", list_benchmarks())
def test_the_fingerprint_of_a_loaded_definition_can_be_computed_again(name: str):
    benchmark = load_benchmark(name)
    assert protocol_fingerprint(benchmark) == benchmark.fingerprint
    assert protocol_fingerprint(replace(benchmark, fingerprint="", folder=None)) == benchmark.fingerprint
    assert protocol_fingerprint(replace(benchmark, version=99)) != benchmark.fingerprint
    assert protocol_fingerprint(replace(benchmark, metrics={"primary": "x"})) != benchmark.fingerprint


def test_a_definition_in_memory_has_the_fingerprint_of_its_file(tmp_path: Path):
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    dataset = {"reader": "image-folder", "path": "a"}
    prompts = {"class_names": "names.txt", "templates": ["a {}"]}
    from_file = define(tmp_path, "classification", dataset, prompts)
    words = from_file.resolve_prompts()
    resolved = {"class_names": words.class_names, "templates": words.templates}
    in_memory = Benchmark("mine", 1, "classification", {**dataset, "path": "b"}, {"primary": "top1"}, resolved)
    assert protocol_fingerprint(in_memory) == from_file.fingerprint
    assert (
        protocol_fingerprint(replace(in_memory, prompts={**resolved, "templates": ["the {}"]})) != from_file.fingerprint
    )
    with pytest.raises(RequestError, match="definition's own folder"):
        protocol_fingerprint(replace(from_file, folder=None))
    from_file = define(tmp_path, "retrieval", {"reader": "jsonl", "path": "a.jsonl"})
    in_memory = Benchmark("mine", 1, "retrieval", {"reader": "jsonl"}, {"primary": from_file.metrics["primary"]})
    assert protocol_fingerprint(in_memory) == from_file.fingerprint


@pytest.mark.parametrize("change", [{"dataset": {"reader": "none"}}, {"metrics": {"primary": Path("x")}}])
def test_a_definition_in_memory_with_invalid_values_is_refused_in_one_line(change: dict[str, object]):
    with pytest.raises(RequestError) as caught:
        protocol_fingerprint(replace(load_benchmark("toybox-retrieval"), **change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_shipped_definitions_count_what_their_task_counts_and_name_paths_alike():
    for name in list_benchmarks():
        benchmark = load_benchmark(name)
        counted, known = set(benchmark.dataset.get("expected", {})), set(task_info(benchmark.task).kind.count_names)
        # for some perception datasets the number of images was never published, nor how many labels VOC's images have
        is_partly_counted = benchmark.task in ("perception", "multilabel") or name in {*UNCOUNTED, *CREPE_SYSTEMATICITY}
        assert counted == known or (is_partly_counted and counted < known), name
        if benchmark.dataset["reader"] == "wds":
            folder = benchmark.dataset["path"][1]
            assert benchmark.dataset["path"] == [f"wds/{folder}", folder]
            assert name.removesuffix("-probe").endswith("-vtab" if folder.startswith("wds_vtab-") else "-wds")


def test_a_users_file_may_have_the_name_of_the_shipped_definition_that_it_overrides(tmp_path: Path):
    path = tmp_path / "sugarcrepe.yaml"
    path.write_text("name: mine\nbase: sugarcrepe\ndataset: {leave_out_missing: true}\n", encoding="utf-8")
    mine, shipped = load_benchmark(path), load_benchmark("sugarcrepe")
    assert mine.dataset == {**shipped.dataset, "leave_out_missing": True}
    path.write_text("name: mine\nbase: sugar\n", encoding="utf-8")
    with pytest.raises(RequestError, match="there is no definition 'sugar'; did you mean"):
        load_benchmark(path)
    based_on_itself = tmp_path / "mine.yaml"
    based_on_itself.write_text("name: mine\nbase: mine\n", encoding="utf-8")
    with pytest.raises(RequestError, match="there is no definition 'mine'"):
        load_benchmark(based_on_itself)


def test_a_suite_of_every_family_has_every_task_that_toybox_has_data_for():
    for name in list_suites():
        summary = read_source(DEFINITIONS / "suites" / f"{name}.yaml").value["summary"]
        if "family" in summary:
            assert {benchmark.task for benchmark in load_suite(name)} == set(reader_info("toybox").kinds), name


def test_with_another_reader_or_task_the_options_of_the_base_are_dropped(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nbase: imagenet1k\ndataset: {reader: image-folder, path: im}\n", encoding="utf-8")
    assert load_benchmark(path).dataset == {"reader": "image-folder", "path": "im"}  # no `labels` of the base
    path.write_text(
        "name: mine\nbase: imagenet1k\ntask: retrieval\ndataset: {reader: jsonl, path: a.jsonl}\n"
        "metrics: {primary: text_to_image_recall@1}\n",
        encoding="utf-8",
    )
    assert load_benchmark(path).prompts == {}


def test_an_error_in_the_base_names_the_base(tmp_path: Path):
    (tmp_path / "first.yaml").write_text(
        "name: first\nversion: 1\ntask: retrieval\ndataset: {reader: jsonl, path: a.jsonl, colour: red}\n"
        "metrics: {primary: text_to_image_recall@1}\n",
        encoding="utf-8",
    )
    (tmp_path / "mine.yaml").write_text("name: mine\nbase: first\n", encoding="utf-8")
    with pytest.raises(RequestError, match=r"mine\.yaml:1: unknown key 'colour' in dataset.* \(from its base first\)"):
        load_benchmark(tmp_path / "mine.yaml")


def test_a_name_too_long_for_a_file_name_is_refused(tmp_path: Path):
    assert "shorten it" in refusal(tmp_path, GOOD.replace("cats", "é" * 101))
    assert "more than 200 bytes" in refusal(tmp_path, GOOD.replace("cats", "n" * 201))
