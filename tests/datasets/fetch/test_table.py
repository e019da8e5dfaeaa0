"""The table of sources: it is checked on reading, every benchmark has its recipe, and paths fit the definitions."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.fetch.heirs import inherited_recipes
from cosmos_eval.datasets.fetch.plan import read_paths
from cosmos_eval.datasets.fetch.table import DOWNLOADS, PREPARE, SOURCES, Artifact, Source, Unpack, load_table
from cosmos_eval.datasets.mmseg.prepare import PREPARABLE
from cosmos_eval.datasets.perception.aro_order import CAPTIONS_OF
from cosmos_eval.datasets.stream.plan import plan_stream
from cosmos_eval.protocol.benchmark import Benchmark, list_benchmarks, load_benchmark
from cosmos_eval.protocol.folders import shipped_files
from cosmos_eval.protocol.task_registry import task_info

SMALL = {
    "artifacts": {
        "shards": {
            "path": "wds/shards",
            "terms": "MIT",
            "provides": ["wds/shards/test/nshards.txt"],
            "sources": [{"name": "hub", "kind": "hub", "address": "a/b", "files": ["test/*"], "revision": "abcdef1"}],
        },
        "zip": {
            "terms": "MIT",
            "provides": ["pictures"],
            "unpack": {"format": "zip", "into": "."},
            "sources": [{"name": "publisher", "kind": "http", "address": "https://host/pictures.zip", "size": 5}],
        },
    },
    "recipes": [{"benchmarks": ["one", "two"], "artifacts": ["shards", "zip"], "prepare": ["context"]}],
    "not_used": [{"address": "https://host/other.zip", "reason": "layout not known"}],
}


def read(tmp_path, value):
    path = tmp_path / f"{abs(hash(str(value)))}.yaml"  # another name each time: what was read is kept
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return load_table(path)


def changed(keys, value):
    """SMALL with one value replaced; DELETE takes the key away."""
    copy = yaml.safe_load(yaml.safe_dump(SMALL))
    place = copy
    for key in keys[:-1]:
        place = place[key]
    if value is DELETE:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return copy


DELETE = object()


def test_a_table_is_read(tmp_path):
    table = read(tmp_path, SMALL)
    assert list(table.recipes) == ["one", "two"]
    shards, archive = table.recipes["one"].artifacts
    assert shards.sources[0] == Source("hub", "hub", "a/b", files=("test/*",), revision="abcdef1")
    assert (shards.landing(shards.sources[0]), shards.unpacking(shards.sources[0])) == ("wds/shards", None)
    assert archive.unpacking(archive.sources[0]) == Unpack("zip")
    assert archive.landing(archive.sources[0]) == f"{DOWNLOADS}/host/pictures.zip"
    assert table.recipes["two"].how == "automatic"
    assert table.not_used == {"https://host/other.zip": "layout not known"}


HUB = ("artifacts", "shards", "sources", 0)
HTTP = ("artifacts", "zip", "sources", 0)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ((*HUB, "kind"), "torrent", "kind cannot be 'torrent'"),
        ((*HUB, "kind"), "manual", "a manual source says what to do"),
        ((*HUB, "revision"), "main", "7 to 40 digits"),
        ((*HUB, "address"), "https://huggingface.co/a/b", "must be owner/name"),
        ((*HUB, "files"), [], "files are missing"),
        ((*HUB, "fils"), ["x"], "unknown key 'fils'; did you mean files?"),
        ((*HUB, "restricted_copy"), True, "needs the publisher's own way"),
        ((*HUB, "restricted_copy"), "yes", "restricted_copy cannot be 'yes'"),
        ((*HUB, "convert"), "rot13", "convert cannot be 'rot13'"),
        ((*HTTP, "address"), "ftp://host/pictures.zip", "a URL with http or https"),
        ((*HTTP, "size"), True, "size cannot be True"),
        ((*HTTP, "size"), 0, "must be above 0"),
        ((*HTTP, "about_size"), 5, "give one of them"),
        ((*HTTP, "checksums"), {"sha256": "abc"}, "64 hexadecimal digits"),
        ((*HTTP, "checksums"), {"crc": "abc"}, "checksums cannot be 'crc'"),
        ((*HTTP, "steps"), ["walk"], "steps are for manual sources"),
        ((*HTTP, "kind"), "drive", "needs its file_name"),
        (("artifacts", "zip", "unpack"), DELETE, "the artifact needs a path"),
        (("artifacts", "zip", "unpack", "format"), "rar", "format cannot be 'rar'"),
        (("artifacts", "zip", "unpack", "format"), "nested", "names, with only, the one member"),
        (("artifacts", "zip", "unpack", "into"), "../up", "not a path below the data root"),
        (("artifacts", "zip", "provides"), ["/etc"], "not a path below the data root"),
        (("artifacts", "zip", "provides"), [], "at least one path"),
        (("artifacts", "zip", "terms"), DELETE, "the key terms is missing"),
        (("recipes", 0, "artifacts"), ["shard"], "no artifact 'shard'; did you mean shards?"),
        (("recipes", 0, "artifacts"), ["shards"], "no recipe needs the artifact zip"),
        (("recipes", 0, "prepare"), ["coffee"], "prepare cannot be 'coffee'"),
        (("recipes", 0, "benchmarks"), ["one", "one"], "one has a recipe already"),
        (("recipes",), "none", "recipes cannot be 'none'"),
    ],
)
def test_what_cannot_be_fetched_is_refused_with_its_line(tmp_path, keys, value, message):
    with pytest.raises(RequestError) as refused:
        read(tmp_path, changed(keys, value))
    assert message in str(refused.value)
    assert ".yaml:" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_shipped_benchmark_has_a_recipe_and_no_other():
    assert set(load_table().recipes) == set(shipped_files())
    assert set(PREPARE) == set(PREPARABLE)


def definition(folder: Path, name: str, **value) -> dict[str, Path]:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, **value}), encoding="utf-8")
    return {name: path}


@pytest.mark.parametrize(
    ("changes", "is_inherited"),
    [
        ({}, True),
        ({"prompts": {"templates": ["{c}"]}, "dataset": {"expected": {"images": 3}, "layout": "voc20"}}, True),
        ({"dataset": {"path": "one"}}, True),
        ({"dataset": {"path": "elsewhere"}}, False),
        ({"dataset": {"reader": "image-folder"}}, False),
        ({"dataset": {"split": "train"}}, False),
        ({"base": "three"}, False),
    ],
)
def test_a_definition_takes_the_row_of_its_base_if_it_reads_the_same_data(tmp_path, changes, is_inherited):
    files = definition(tmp_path, "one", dataset={"reader": "mmseg", "layout": "voc21", "path": "one"})
    files |= definition(tmp_path, "three", base="one") | definition(tmp_path, "four", **{"base": "one"} | changes)
    recipes = {"one": read(tmp_path, SMALL).recipes["one"]}
    inherited = inherited_recipes(recipes, files)
    assert list(inherited) == (["four", "three"] if is_inherited else ["three"])
    assert inherited["three"] == replace(recipes["one"], benchmark="three")


def test_a_users_definition_takes_the_row_of_the_one_whose_data_it_reads(tmp_path):
    (path,) = definition(tmp_path, "mine", base="voc20-maskclip", version=2).values()
    of_a_base = load_benchmark(path)
    assert (of_a_base.same_data_as, of_a_base.settings["attention"]) == ("voc20-maskclip", "maskclip")
    assert load_table().recipe_of(of_a_base).artifacts == load_table().recipes["voc20"].artifacts
    files = definition(tmp_path, "a", base="b") | definition(tmp_path, "b", base="a")
    with pytest.raises(RequestError, match=r"b.yaml:\d: a has this definition as its own base"):
        load_benchmark(files["a"])
    (path,) = definition(tmp_path, "mine", base="mnist-wds", version=2).values()
    table = load_table()
    assert table.recipe_of(load_benchmark(path)) == table.recipes["mnist-wds"]
    assert plan_stream(load_benchmark(path), tmp_path, asked=True).sources[0].artifact == "mnist-wds"


def is_below(path: str, folder: str) -> bool:
    return folder != "." and f"{path}/".startswith(f"{folder}/")


def test_what_is_fetched_lies_where_the_definition_reads_it():
    for name, recipe in load_table().recipes.items():
        # the order sets are made of the captions of another benchmark
        definitions = [load_benchmark(one) for one in (name, CAPTIONS_OF.get(name, name))]
        read = [path for one in definitions for paths in read_paths(one.dataset) for path in paths]
        for artifact in recipe.artifacts:
            for path in artifact.provides:
                assert any(is_below(path, folder) for folder in read), (name, path, read)


def test_every_path_that_a_definition_reads_is_provided_or_made():
    for name, recipe in load_table().recipes.items():
        provided = [path for artifact in recipe.artifacts for path in artifact.provides]
        dataset = load_benchmark(name).dataset
        for paths in read_paths({key: value for key, value in dataset.items() if key != "labels"}):
            assert any(is_below(path, folder) or path == folder for path in provided for folder in paths), (name, paths)


def landing_places(artifact: Artifact) -> list[str]:
    return [artifact.landing(source) for source in artifact.sources if source.kind != "manual"]


def test_shards_are_fetched_without_their_training_part_and_mirrors_land_in_the_same_place():
    table = load_table()
    sets = [name for name in list_benchmarks() if load_benchmark(name).dataset["reader"] == "wds"]
    probes = [name for name in sets if load_benchmark(name).task == "probe"]
    sets = [name for name in sets if name not in probes]
    assert sets
    for name in sets:
        (artifact,) = table.recipes[name].artifacts
        benchmark = load_benchmark(name)
        (path, *_) = benchmark.dataset["path"]
        hub = [source for source in artifact.sources if source.kind == "hub"]
        assert hub, name
        assert set(landing_places(artifact)) == {path}
        class_files = [file for key, file in CLASS_FILES.items() if reads_from_dataset(benchmark, key)]
        for source in hub:
            assert source.files == ("test/*", *class_files), name
    assert probes
    for name in probes:
        test, train = table.recipes[name].artifacts
        (source,) = train.sources
        assert (test,) == table.recipes[name.removesuffix("-probe")].artifacts
        assert source.files == ("train/*",)
        assert (source.address, source.revision, train.path) == (
            test.sources[0].address,
            test.sources[0].revision,
            test.path,
        )
        assert train.provides == (f"{train.path}/train/nshards.txt",)


CLASS_FILES = {"class_names": "classnames.txt", "templates": "zeroshot_classification_templates.txt"}


def reads_from_dataset(benchmark: Benchmark, key: str) -> bool:
    """Whether class names or templates are those of the files beside the shards."""
    return "class_names" in task_info(benchmark.task).prompt_keys and benchmark.prompts.get(key, "dataset") == "dataset"


def test_parts_of_one_archive_land_as_one_file_and_no_other_artifacts_share_one():
    by_place: dict[str, set[str]] = {}
    for artifact in load_table().artifacts.values():
        for source in artifact.sources:
            if source.kind in ("http", "drive"):
                by_place.setdefault(artifact.landing(source), set()).add(source.address)
    assert all(len(addresses) == 1 for addresses in by_place.values())
    karpathy = [artifact for name, artifact in load_table().artifacts.items() if name.startswith("karpathy-")]
    assert len({tuple(landing_places(artifact)) for artifact in karpathy}) == 1
    assert len({artifact.provides for artifact in karpathy}) == 3


def test_reading_the_table_imports_nothing_heavy():
    code = (
        "import sys; from cosmos_eval.datasets.fetch import plan, plan_text, table; table.load_table(); "
        "print([one for one in ('torch', 'pandas', 'requests', 'huggingface_hub') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert SOURCES.stat().st_size < 200_000
