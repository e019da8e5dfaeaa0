"""The table of sources: it is checked on reading, every benchmark has its recipe, and paths fit the definitions."""

import subprocess
import sys

import pytest
import yaml

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.fetch.plan import read_paths
from cosmos_eval.datasets.fetch.table import DOWNLOADS, PREPARE, SOURCES, Artifact, Source, Unpack, load_table
from cosmos_eval.datasets.mmseg.prepare import PREPARABLE
from cosmos_eval.datasets.perception.aro_order import CAPTIONS_OF
from cosmos_eval.protocol.benchmark import list_benchmarks, load_benchmark
from cosmos_eval.protocol.folders import shipped_files

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
    made = {"coco-object": ["coco_object"]}  # masks by `data prepare`
    for name, recipe in load_table().recipes.items():
        provided = [path for artifact in recipe.artifacts for path in artifact.provides]
        provided += made.get(name.removesuffix("-csa"), [])
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
    assert len(sets) == 35
    class_files_of = dict.fromkeys(("coco-captions-wds", "flickr30k-wds", "flickr8k-wds", "fer2013-wds"), ())
    class_files_of["voc2007-multilabel-wds"] = ("classnames.txt",)  # its templates are the definition's
    for name in sets:
        (artifact,) = table.recipes[name].artifacts
        (path, *_) = load_benchmark(name).dataset["path"]
        hub = [source for source in artifact.sources if source.kind == "hub"]
        assert len(hub) == (1 if name in class_files_of else 2)
        assert set(landing_places(artifact)) == {path}
        for source in hub:
            class_files = class_files_of.get(name, ("classnames.txt", "zeroshot_classification_templates.txt"))
            assert source.files == ("test/*", *class_files)
            assert source.revision is None or 7 <= len(source.revision) <= 40
    assert len(probes) == 6
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
