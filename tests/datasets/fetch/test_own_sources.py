"""Where a user's own definition says that its data are: read, planned and fetched as the table's are."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.fetch.fetching import fetch
from cosmos_eval.datasets.fetch.hub_sizes import ask_for_sizes
from cosmos_eval.datasets.fetch.manifest import fetched_parts, read_manifest
from cosmos_eval.datasets.fetch.plan import make_fetch_plan
from cosmos_eval.datasets.fetch.plan_text import describe_plan
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark
from tests.helpers.fetch_sources import FAST, HUB, Internet, contents, image_bytes, small_internet, zip_bytes
from tests.helpers.hub_server import COMMIT
from tests.helpers.tables_on_disk import structs, write_table

DIGEST = "ab" * 32


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with small_internet(tmp_path / "definitions") as served:
        yield served


def definition(folder: Path, fetch: Any = None, name: str = "mine", **dataset: Any) -> Benchmark:
    value: dict[str, Any] = {
        "name": name,
        "version": 1,
        "task": "classification",
        "dataset": {"reader": "image-folder", "path": "pets", **dataset},
        "prompts": {"class_names": "dataset", "templates": ["{c}"]},
        "metrics": {"primary": "top1"},
    }
    if fetch is not None:
        value["fetch"] = fetch
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return load_benchmark(path)


def pets_zip() -> bytes:
    return zip_bytes({f"{kind}/{i}.jpg": image_bytes(i) for i, kind in enumerate(("cat", "dog"))})


@pytest.fixture
def hub_definition(tmp_path: Path, internet: Internet) -> Benchmark:
    """A definition of a hub dataset with two shards of the split test; the hub has them, a script and other splits."""
    origin = tmp_path / "origin"
    for i in range(4):
        split, shard = ("test", i) if i < 2 else ("train", i - 2)
        columns = {"image": structs(2, 2 * i), "label": [0, 1]}
        name = f"data/{split}-{shard:05d}-of-00002.parquet"
        write_table(origin / name, columns, class_names=["cat", "dog"])
        internet.hub.put(name, (origin / name).read_bytes())
    internet.hub.put("pets.py", b"raise SystemExit('loading scripts never run')")
    return own_hub_definition(tmp_path / "own")


def own_hub_definition(folder: Path, name: str = "hub-pets", **options: Any) -> Benchmark:
    value = {
        "name": name,
        "version": 1,
        "task": "classification",
        "dataset": {"reader": "hf-dataset", "repository": HUB, "revision": COMMIT, **options},
        "prompts": {"class_names": "dataset", "templates": ["{c}"]},
        "metrics": {"primary": "top1"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return load_benchmark(path)


def test_a_section_becomes_artifacts_with_their_mirrors_and_checksums(tmp_path):
    mine = definition(
        tmp_path,
        [
            {
                "url": "https://example.org/pets.zip",
                "mirrors": ["http://mirror.org/p.zip"],
                "sha256": DIGEST.upper(),
                "size": 10,
                "unpack": {"format": "zip", "into": "pets"},
                "terms": "CC BY 4.0",
            },
            {"hub": "somebody/pets", "revision": COMMIT, "files": ["test/*"], "path": "wds/pets"},
            {"url": "https://drive.google.com/uc?id=1kX2iC-_", "path": "lists/val.txt"},
        ],
    )
    archive, hub, drive = mine.fetch
    assert [(one.name, one.kind, one.address, one.size, dict(one.checksums)) for one in archive.sources] == [
        ("url", "http", "https://example.org/pets.zip", 10, {"sha256": DIGEST}),
        ("mirror-1", "http", "http://mirror.org/p.zip", 10, {"sha256": DIGEST}),
    ]
    assert (archive.provides, archive.terms) == (("pets",), "CC BY 4.0")
    assert (hub.path, hub.sources[0].kind, hub.sources[0].files) == ("wds/pets", "hub", ("test/*",))
    assert (drive.sources[0].kind, drive.landing(drive.sources[0])) == ("drive", "lists/val.txt")


def test_where_data_come_from_is_not_in_the_fingerprint(tmp_path):
    plain = definition(tmp_path / "a")
    assert (
        definition(tmp_path / "b", [{"url": "https://example.org/a.zip", "path": "a.zip"}]).fingerprint
        == plain.fingerprint
    )


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"path": "a"}, "has an address: url, or hub"),
        ({"url": "https://e.org/a", "hub": "a/b", "path": "a"}, "has an address: url, or hub"),
        ({"url": "https://e.org/a"}, "has path, where the files belong"),
        (
            {"url": "https://e.org/a", "path": "a", "unpack": {"format": "zip", "into": "b"}},
            "has path, where the files",
        ),
        ({"url": "ftp://e.org/a", "path": "a"}, "not an address that begins with https"),
        ({"url": "file:///etc/passwd", "path": "a"}, "not an address that begins with https"),
        ({"url": "https://e.org/a b", "path": "a"}, "not an address that begins with https"),
        ({"url": "https://[::1/a", "path": "a"}, "not an address that begins with https"),
        ({"url": "https://e.org:x/a", "path": "a"}, "not an address that begins with https"),
        ({"url": "https://me:secret@e.org/a", "path": "a"}, "with a user or a password"),
        ({"url": "https://e.org/", "path": "a"}, "names no file"),
        ({"url": 5, "path": "a"}, "url cannot be 5"),
        ({"url": "https://e.org/a", "path": "../a"}, "not a path below the data root"),
        ({"url": "https://e.org/a", "path": "/a"}, "not a path below the data root"),
        ({"url": "https://e.org/a", "path": "."}, "not a path of data below the data root"),
        ({"url": "https://e.org/a", "path": "a\0"}, "not a path of data below the data root"),
        ({"url": "https://e.org/a", "path": ".COSMOS-eval/fetched.json"}, "not a path of data below the data root"),
        ({"url": "https://e.org/a", "path": "a", "provides": ["../b"]}, "not a path below the data root"),
        ({"url": "https://e.org/a.zip", "unpack": {"format": "zip"}}, "the key into is missing"),
        ({"url": "https://e.org/a.zip", "unpack": {"format": "rar", "into": "a"}}, "format cannot be 'rar'"),
        ({"url": "https://e.org/a.zip", "unpack": {"format": "none", "into": "a"}}, "unpacks nothing"),
        ({"url": "https://e.org/a.zip", "unpack": "zip"}, "unpack cannot be 'zip'"),
        ({"url": "https://e.org/a", "path": "a", "sha256": 12}, "write its digits between quotes"),
        ({"hub": "a/b", "path": "a", "files": ["*"], "revision": 1234567}, "write its digits between quotes"),
        ({"url": "https://e.org/a", "path": "a", "sha256": "abc"}, "sha256 has 64 hexadecimal digits"),
        ({"url": "https://e.org/a", "path": "a", "size": -1}, "size must be above 0"),
        ({"url": "https://e.org/a", "path": "a", "mirrors": ["x"]}, "not an address that begins with https"),
        ({"url": "https://e.org/a", "path": "a", "revision": COMMIT}, "unknown key 'revision'"),
        ({"url": "https://e.org/a", "path": "a", "convert": "fer2013-shards"}, "unknown key 'convert'"),
        ({"hub": "a/b", "path": "a"}, "which files it needs"),
        ({"hub": "../b", "path": "a", "files": ["*"]}, "hub is owner/name"),
        ({"hub": "a/b", "path": "a", "files": ["*"], "revision": "main"}, "7 to 40 digits of a commit"),
        ("https://e.org/a", "cannot be 'https://e.org/a'"),
    ],
)
def test_a_part_that_cannot_be_fetched_is_refused_with_its_line(tmp_path, part, message):
    with pytest.raises(RequestError) as refused:
        definition(tmp_path, [part])
    text = str(refused.value)
    assert message in text, text
    assert text.startswith(f"{tmp_path / 'mine.yaml'}:")
    assert "\n" not in text
    assert "secret" not in text


def test_empty_and_double_sections_are_refused(tmp_path):
    for section, message in (
        ([], "fetch is empty"),
        ({"url": "https://e.org/a", "path": "a"}, "fetch must be a list"),
        ([{"url": f"https://e.org/{i}", "path": "a"} for i in range(2)], "parts 1 and 2 of fetch have one path"),
    ):
        with pytest.raises(RequestError, match=message):
            definition(tmp_path, section)


def test_an_archive_of_an_own_definition_becomes_what_its_reader_reads(internet: Internet, tmp_path: Path):
    internet.server.files["pets.zip"] = pets_zip()
    digest = hashlib.sha256(pets_zip()).hexdigest()
    part = {"url": internet.url("pets.zip"), "sha256": digest, "unpack": {"format": "zip", "into": "pets"}}
    mine, root = definition(tmp_path / "own", [part]), tmp_path / "data"
    text = "\n".join(describe_plan(make_fetch_plan([mine], root)))
    assert "size not known" in text
    assert "terms: not stated here" in text
    assert fetch(make_fetch_plan([mine], root), network=FAST).failed == ()
    assert datasets.load(mine, root).counts() == {"images": 2, "classes": 2}
    again = make_fetch_plan([mine], root)
    assert (again.fetched, len(again.there)) == ((), 1)
    (entry,) = fetched_parts(mine, root).values()
    assert (entry["sha256"], entry["address"]) == (digest, internet.url("pets.zip"))


def test_a_wrong_checksum_of_an_own_definition_leaves_nothing(internet: Internet, tmp_path: Path):
    internet.server.files["pets.zip"] = pets_zip()
    part = {"url": internet.url("pets.zip"), "sha256": "0" * 64, "unpack": {"format": "zip", "into": "pets"}}
    (line,) = fetch(make_fetch_plan([definition(tmp_path / "own", [part])], tmp_path / "data"), network=FAST).failed
    assert "its sha256 is" in line
    assert contents(tmp_path / "data") == {}


def test_equal_parts_of_two_definitions_are_fetched_once_and_different_ones_at_one_place_are_refused(
    internet, tmp_path
):
    internet.server.files["pets.zip"] = pets_zip()
    part = {"url": internet.url("pets.zip"), "unpack": {"format": "zip", "into": "pets"}}
    both = [definition(tmp_path / "own", [part], name) for name in ("one", "two")]
    (planned,) = make_fetch_plan(both, tmp_path).fetched
    assert planned.benchmarks == ("one", "two")
    other = definition(tmp_path / "own", [{**part, "sha256": DIGEST}], "three")
    with pytest.raises(RequestError, match="one and three fetch different files"):
        make_fetch_plan([*both, other], tmp_path)


def test_addresses_that_differ_in_their_query_alone_are_two_files(internet: Internet, tmp_path: Path):
    parts = [
        {"url": internet.url(f"download?id={i}"), "unpack": {"format": "zip", "into": f"pets/{i}"}} for i in range(2)
    ]
    first, second = definition(tmp_path, parts).fetch
    assert first.landing(first.sources[0]) != second.landing(second.sources[0])


def test_a_definition_that_changes_the_prompts_of_a_shipped_one_needs_its_data(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: cifar10\nname: mine\nversion: 1\nprompts: {templates: ['a {c}']}\n")
    (planned,) = make_fetch_plan([load_benchmark(path)], tmp_path).fetched
    assert planned.artifact.name == make_fetch_plan([load_benchmark("cifar10")], tmp_path).fetched[0].artifact.name
    path.write_text("base: cifar10\nname: mine\nversion: 1\ndataset: {path: elsewhere}\n")
    assert make_fetch_plan([load_benchmark(path)], tmp_path).without_source == (
        ("mine", load_benchmark(path).dataset["needs"]),
    )


def test_a_hub_dataset_is_planned_without_network_and_sized_when_asked(internet, hub_definition, tmp_path, monkeypatch):
    plan = make_fetch_plan([hub_definition], tmp_path / "data")
    assert internet.hub.server.requests == []
    text = "\n".join(describe_plan(plan))
    assert "size not known" in text
    assert "files: *test*.parquet; how many and how large is known once the hub is asked" in text
    files = [body for name, body in internet.hub.files.items() if name.startswith("data/test")]
    assert ask_for_sizes(plan).download.size == sum(map(len, files))
    internet.hub.token = "hf_secret"  # gated: what the hub does not tell is left as it is
    assert ask_for_sizes(plan) == plan


def test_the_split_of_a_hub_dataset_is_fetched_and_read(internet, hub_definition, tmp_path):
    root = tmp_path / "data"
    assert fetch(make_fetch_plan([hub_definition], root), network=FAST).failed == ()
    folder = f"hf/somebody--wds_tiny/{COMMIT}/data"
    assert sorted(contents(root)) == [f"{folder}/test-0000{i}-of-00002.parquet" for i in range(2)]
    assert datasets.load(hub_definition, root).counts() == {"images": 4, "classes": 2}
    assert make_fetch_plan([hub_definition], root).fetched == ()
    (entry,) = fetched_parts(hub_definition, root).values()
    assert (entry["revision"], entry["files"]) == (COMMIT, 2)
    train = own_hub_definition(tmp_path / "own", "train", split="train")
    assert fetch(make_fetch_plan([train], root), network=FAST).failed == ()
    assert len(contents(root)) == 4
    assert len(read_manifest(root)) == 2


def test_a_shard_that_was_deleted_is_fetched_again_and_the_others_are_not(internet, hub_definition, tmp_path):
    root = tmp_path / "data"
    fetch(make_fetch_plan([hub_definition], root), network=FAST)
    before = contents(root)
    (root / sorted(before)[1]).unlink()
    internet.hub.server.requests.clear()
    assert fetch(make_fetch_plan([hub_definition], root), network=FAST).failed == ()
    assert contents(root) == before
    assert internet.hub.server.starts("content/data/test-00000-of-00002.parquet") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "no Parquet files of the split 'dev'"),
        ({"config": "large"}, "no Parquet files of the configuration 'large'"),
        ({"repository": "somebody/else"}, "has no dataset somebody/else"),
        ({"revision": "f" * 40}, "has no such revision"),
    ],
)
def test_a_hub_dataset_without_what_is_asked_for_is_one_line(internet, hub_definition, tmp_path, options, message):
    mine = own_hub_definition(tmp_path / "own", "other", **options)
    (line,) = fetch(make_fetch_plan([mine], tmp_path / "data"), network=FAST).failed
    assert message in line
    assert "\n" not in line
    assert contents(tmp_path / "data") == {}


def test_a_repository_with_a_script_only_is_told_where_its_parquet_files_are(internet, hub_definition, tmp_path):
    for name in [name for name in internet.hub.files if name.endswith(".parquet")]:
        del internet.hub.server.files[f"content/{name}"]
    (line,) = fetch(make_fetch_plan([hub_definition], tmp_path / "data"), network=FAST).failed
    assert "give the commit of refs/convert/parquet" in line
