"""docs/segmentation.md: its table and commands are those of the definitions and the code, and its definition runs."""

import re
from pathlib import Path

from cosmos_eval.datasets.mmseg.layouts import LAYOUTS
from cosmos_eval.datasets.mmseg.prepare import PREPARABLE
from cosmos_eval.protocol.benchmark import list_suites, load_benchmark, load_suite
from tests.helpers.segmentation_on_disk import NAMES, write_segmentation

DOCS = (Path(__file__).parents[2] / "docs/segmentation.md").read_text(encoding="utf-8")


def test_the_table_has_every_benchmark_with_its_counts_and_folders():
    section = DOCS.partition("\n## Where the files go\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*)\|$", section, re.MULTILINE))
    assert set(rows) == set(NAMES)
    for name, row in rows.items():
        benchmark, layout = load_benchmark(name), LAYOUTS[name]
        expected = benchmark.dataset["expected"]
        assert row.startswith(f"{expected['images']:,}, {expected['classes']}"), name
        assert ("with background" in row) == benchmark.settings["background"], name
        if "the same" not in row:
            assert benchmark.dataset["path"][0] in row, name
            for part in (layout.images, layout.masks, layout.split or ""):
                assert part in row, name


def test_every_suite_of_a_papers_attention_is_in_the_table_with_its_benchmarks_endings():
    rows = re.findall(r"^\| (`.*?`) \| `([a-z]+)`", DOCS.partition("\n## ")[0], re.MULTILINE)
    described = {}
    for names, attention in rows:
        suite, *ending = re.findall(r"`([a-z-]+)`", names)
        described[suite] = {(f"{name}{ending[0] if ending else f'-{suite}'}", attention) for name in NAMES}
    for suite, benchmarks in described.items():
        assert {(one.name, one.settings["attention"]) for one in load_suite(suite)} == benchmarks
    of_segmentation = {name for name in list_suites() if {one.task for one in load_suite(name)} == {"segmentation"}}
    assert of_segmentation - {"paper-segmentation"} == described.keys()


def test_every_dataset_whose_masks_can_be_made_is_shown():
    assert tuple(sorted(re.findall(r"data prepare ([a-z-]+) --data-root", DOCS))) == tuple(sorted(PREPARABLE))


def test_the_example_definition_reads_data_in_this_layout(tmp_path: Path):
    from cosmos_eval import datasets, tasks

    _, text = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    (tmp_path / "my-streets.yaml").write_text(text, encoding="utf-8")
    write_segmentation(tmp_path, "cityscapes").rename(tmp_path / "my-streets")
    benchmark = load_benchmark(tmp_path / "my-streets.yaml")
    data = datasets.load(benchmark, tmp_path)
    tasks.validate(benchmark, data)
    assert len(data.images) == 3
