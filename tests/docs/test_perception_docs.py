"""docs/perception.md: its table and commands are those of the definitions and the code, and its definition runs."""

import re
from pathlib import Path

import pytest

from cosmos_eval import datasets
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.datasets.perception.aro_order import CAPTIONS_OF, FILES
from cosmos_eval.protocol.benchmark import load_benchmark, load_suite
from tests.helpers import perception_on_disk as on_disk
from tests.helpers.datasets_on_disk import write_image, write_json

DOCS = (Path(__file__).parents[2] / "docs/perception.md").read_text(encoding="utf-8")


def test_the_tables_have_every_benchmark_with_counts_paths_and_primary_metric():
    lines = re.findall(r"^\| (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*) \| (.*)\|$", DOCS, re.MULTILINE)
    rows = {name: row for names, row in lines for name in re.findall(r"`([a-z0-9-]+)`", names)}
    assert set(rows) == {benchmark.name for benchmark in load_suite("composition-all")}
    compositional = [benchmark.name for benchmark in load_suite("compositional")]
    assert list(rows)[: len(compositional)] == compositional
    for name, row in rows.items():
        benchmark = load_benchmark(name)
        expected = benchmark.dataset.get("expected", {})
        count = expected.get("items") or expected.get("rows")
        assert (f"{count:,}" if count else "") in row.split("|")[0], name
        assert count or not row.split("|")[0].strip(), name
        assert f"`{benchmark.metrics['primary']}`" in row.split("|")[2], name
        assert Path(benchmark.dataset["path"][0]).parts[0] in row, name
        if name in compositional:
            assert benchmark.dataset["path"][0] in row, name
            if "images" in benchmark.dataset:
                assert benchmark.dataset["images"][0] in row, name


def test_the_number_of_relations_left_out_is_that_of_the_definition():
    assert f"without {len(load_benchmark('aro-relation').dataset['symmetric'])} names" in " ".join(DOCS.split())


def test_the_commands_exist():
    assert set(re.findall(r"data prepare ([a-z0-9-]+) --data-root", DOCS)) == set(FILES) == set(CAPTIONS_OF)
    for name, path in FILES.items():
        assert load_benchmark(name).dataset["path"][0] == path
    assert all(f"`{name}`" in DOCS for name in CAPTIONS_OF.values())


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """The definition of the page, with the count of the test data."""
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    path = tmp_path / "my-sugarcrepe.yaml"
    path.write_text(text.replace("leave_out_missing: true", "leave_out_missing: true, expected: {items: 14}"))
    return path


def test_the_definition_leaves_out_missing_images(tmp_path: Path, definition: Path, capsys):
    on_disk.sugarcrepe(tmp_path)
    (tmp_path / "coco/images/val2017/000000000139.jpg").unlink()
    data = datasets.load(load_benchmark(definition), tmp_path)
    assert isinstance(data, PerceptionData)
    assert len(data.item_images) + len(data.left_out) == 14
    assert run_command(["data", "check", str(definition)]) == 0
    said = capsys.readouterr().out.splitlines()
    left = len(data.left_out)
    assert said[0] == f"ready    my-sugarcrepe: 2 images, {14 - left} items, {left} left out"
    assert said[1].startswith(f"left out my-sugarcrepe: {left} items: replace_obj 0: 000000000139.jpg does not exist; ")
    assert said[1].endswith(f"; and {left - 3} more")


def test_shuffles_by_the_command_without_a_tagger(tmp_path: Path, capsys, monkeypatch):
    known = load_benchmark("flickr30k-test-retrieval")
    monkeypatch.setitem(known.dataset, "expected", {"images": 1, "texts": 2})
    monkeypatch.setattr("cosmos_eval.protocol.benchmark.load_benchmark", lambda name: known)
    sentences = [{"raw": "A red cat sits on the small mat."}, {"raw": "Two cats!"}]
    image = {"filename": "a.jpg", "split": "test", "sentences": sentences}
    write_json(tmp_path / "flickr30k/dataset_flickr30k.json", {"images": [image]})
    write_image(tmp_path / "flickr30k/flickr30k-images/a.jpg")
    assert run_command(["data", "prepare", "aro-flickr30k-order", "--data-root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    path = tmp_path / FILES["aro-flickr30k-order"]
    assert said.startswith(f"2 items written to {path}, shuffled by the rules: within trigrams, trigrams\n")
    assert "dataset: {shuffles: 2}" in said
    monkeypatch.undo()
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "{name: mine, base: aro-flickr30k-order, dataset: {shuffles: 2, expected: {items: 2}}}", encoding="utf-8"
    )
    data = datasets.load(load_benchmark(mine), tmp_path)
    assert isinstance(data, PerceptionData)
    assert data.item_texts.shape[1] == 3
