"""The table says what the collected facts say: the same addresses, revisions, sizes and checksums, none left out."""

import csv
import inspect
import os
import re
from pathlib import Path

import pytest
import torchvision

from cosmos_eval.datasets.fetch.table import SOURCES, Source, load_table
from cosmos_eval.datasets.fetch.table_reader import read_table
from cosmos_eval.protocol.benchmark import load_suite
from tests.datasets.fetch import facts_of_texts

SHARED = Path(os.environ.get("COSMOS_SHARED_DIR", Path(__file__).resolve().parents[4] / "shared"))
FACTS = SHARED / "data_sources.csv"
URL = re.compile(r"https?://[^\s,;)]+")
REPOSITORY = re.compile(r"^[\w.-]+/[\w.-]+(?= \[| parquet|$)")


SAME_DATA = {
    "flickr30k-wds": "flickr30k-test-retrieval",
    "flickr8k-wds": "flickr8k-test-retrieval",
    "fer2013-wds": "fer2013",
    **facts_of_texts.SAME_DATA,
}
"""Benchmarks that read shards which the facts list as copies for another benchmark."""
NOT_COLLECTED = {
    "clip-benchmark/wds_mscoco_captions": "README of clip-benchmark 1.6.2",
    "clip-benchmark/wds_voc2007_multilabel": "README of clip-benchmark 1.6.2",
    "https://objectnet.dev/download.html": "README files that tell how to get ObjectNet",
}
"""Addresses without a row in the facts, and where they were read."""
COMPOSITION = {
    benchmark.name
    for benchmark in load_suite("composition-all")
    if benchmark.name not in {one.name for one in load_suite("compositional")}
}
"""Benchmarks read in the authors' repositories, whose places the facts don't have."""
LOCK = "public code that pins the revisions of DataComp's evaluation sets (the same as pins the mirrors in the facts)"
TREE = "stored page of the hub with the folder's commit"
READ_ELSEWHERE = {
    "djghosh/wds_wilds-camelyon17_test": ("157c1d6aa24705e912c7c47d0e373bc659972f79", LOCK),
    "djghosh/wds_dollar_street_test": ("aa6a7c031443ef35b029866c5cc85f87515510f6", LOCK),
    "djghosh/wds_wilds-fmow_test": ("f203cf5ce7a878f8fb4eac7ed6d79a3f54111929", LOCK),
    "djghosh/wds_geode_test": ("f673de07da95709b2d2298a415e5a58302029830", LOCK),
    "djghosh/wds_wilds-iwildcam_test": ("325d5685431b89c94c1fc5732d914b1a04950426", LOCK),
    "clip-benchmark/wds_vtab-diabetic_retinopathy": ("95099a4", TREE),
    "clip-benchmark/wds_vtab-dmlab": ("b59ea17", TREE),
    "clip-benchmark/wds_vtab-dsprites_label_orientation": ("3973569", TREE),
    "clip-benchmark/wds_vtab-dsprites_label_x_position": (None, "benchmark/webdatasets.txt of LAION-AI/CLIP_benchmark"),
    "clip-benchmark/wds_vtab-smallnorb_label_azimuth": ("7816890", TREE),
    "clip-benchmark/wds_vtab-smallnorb_label_elevation": ("94364b7", TREE),
}
"""Addresses without a row in the facts, with the revision, and where both were read."""
GTSRB_TRAIN = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/GTSRB-Training_fixed.zip"
"""Another one, of torchvision, with the checksum that stands there."""


def rows() -> list[dict[str, str]]:
    if not FACTS.is_file():
        pytest.skip("the collected facts (data_sources.csv) are not on this machine")
    with FACTS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def addresses(row: dict[str, str]) -> set[str]:
    """All addresses of a row, alternatives in its note included."""
    found = {match.rstrip(".:") for text in (row["address"], row["note"]) for match in URL.findall(text)}
    for match in list(found):
        if hub := re.match(r"https://huggingface\.co/datasets/([\w.-]+/[\w.-]+)", match):
            found.add(hub[1])
    if repository := REPOSITORY.match(row["address"]):
        found.add(repository[0])
    found |= {one for one in ("google-deepmind/svo_probes",) if f"of {one}" in row["address"]}
    return found | {"https://github.com/google-deepmind/svo_probes" for one in found if "deepmind/svo" in one}


def sizes(row: dict[str, str]) -> tuple[int | None, int | None]:
    """The exact size of a row, or the one that is about right (the larger of a range)."""
    text = row["size_bytes"]
    numbers = [int(number) for number in re.findall(r"\d{3,}", text)]
    if not numbers:
        return None, None
    return (None, max(numbers)) if text.startswith(("~", "over")) else (numbers[0], None)


def checksums(row: dict[str, str]) -> dict[str, str]:
    text = row["checksum"].replace("git blob sha1", "git")
    return dict(re.findall(r"\b(sha256|md5|git) ([0-9a-f]{32,64})\b", text))


def revision(row: dict[str, str]) -> str | None:
    found = re.match(r"[0-9a-f]{7,40}", row["revision"])
    return found[0] if found else None


def facts(source: Source) -> tuple:
    return (source.size, source.about_size), dict(source.checksums), source.revision


def sources_with_users() -> list[tuple[str, Source, set[str]]]:
    table = read_table(SOURCES)  # without the recipes that definitions inherit, which the facts do not list
    return [
        (
            artifact.name,
            source,
            {
                SAME_DATA.get(name, name.removesuffix("-probe"))
                for name, recipe in table.recipes.items()
                if artifact in recipe.artifacts
            }
            - COMPOSITION,
        )
        for artifact in table.artifacts.values()
        for source in artifact.sources
    ]


def test_each_source_is_as_the_facts_say():
    collected = rows()
    seen = 0
    for artifact, source, users in sources_with_users():
        if not users:
            continue
        if source.address == GTSRB_TRAIN:
            text = inspect.getsource(torchvision.datasets.GTSRB)
            assert all(part in text for part in (*source.address.rsplit("/", 1), source.checksums["md5"]))
            continue
        if source.address in NOT_COLLECTED:
            assert facts(source) == ((None, None), {}, None), "such figures need a row in the facts"
            continue
        if source.address in facts_of_texts.READ:
            assert facts(source) == facts_of_texts.READ[source.address][0]
            continue
        if source.address in READ_ELSEWHERE:
            assert source.revision == READ_ELSEWHERE[source.address][0]
            continue
        fitting = [row for row in collected if source.address in addresses(row)]
        if source.kind == "hub" and not fitting:  # torchvision gives the URL of a file of the hub
            fitting = [row for row in collected if f"/datasets/{source.address}/resolve/" in row["address"]]
        if source.kind == "manual" and "://" not in source.address:
            fitting = [row for row in collected if source.address in row["address"]]
        assert fitting, f"{artifact}: no row has {source.address}"
        assert all(row["role"] != "dead" for row in fitting), source.address
        assert _is_silent(source) or any(users <= set(row["benchmarks"].split(";")) for row in fitting), artifact
        expected = [(sizes(row), checksums(row), revision(row)) for row in fitting]
        if source.files == ("train/*",):  # another folder of the same repository: the rows' sizes are those of test
            assert source.revision in [of_row for _, _, of_row in expected]
            continue
        assert (facts(source) in expected) or _is_silent(source), (artifact, source.name, facts(source), expected)
        seen += 1
    assert seen > 130


def _is_silent(source: Source) -> bool:
    """A person's way without figures, such as a page that explains."""
    return source.kind == "manual" and facts(source) == ((None, None), {}, None)


def test_every_row_that_is_not_dead_is_used_or_has_a_reason():
    table = load_table()
    sources = [source for _, source, _ in sources_with_users()]
    used = {source.address for source in sources}
    told = " ".join(step for source in sources for step in source.steps)
    for row in rows():
        if row["role"] == "dead":
            assert not addresses({**row, "note": ""}) & (used | set(table.not_used)), row["address"]
            continue
        known = addresses(row) | {part for part in used if part in row["address"]}
        assert known & (used | set(table.not_used)), row["address"]
        for url in URL.findall(row["address"]):  # a row may have several
            is_used = any(f"/datasets/{one}/resolve/" in url for one in used) or url.rstrip(":") in used
            assert is_used or url in told or url in table.not_used, url
    for address, reason in table.not_used.items():
        assert address not in used, address
        assert len(reason) > 20


def test_gated_data_and_copies_of_restricted_data_are_marked():
    collected = rows()
    table = load_table()
    gated = {
        benchmark for row in collected if row["gated"] == "terms click" for benchmark in row["benchmarks"].split(";")
    }
    asked = {SAME_DATA.get(name, name) for name, recipe in table.recipes.items() if recipe.how == "token"}
    assert asked == {*gated, "winoground-tags"}, "the tags are open, Winoground is not"
    asks = {
        (benchmark, row["part"])
        for row in collected
        if row["role"] == "primary" and row["gated"] in ("login", "application")
        for benchmark in row["benchmarks"].split(";")
    }
    for row in collected:
        open_copy = row["gated"] == "no" and row["role"] in ("mirror", "alternative")
        restricted = any((benchmark, row["part"]) in asks for benchmark in row["benchmarks"].split(";"))
        for artifact in table.artifacts.values():
            for source in artifact.sources:
                if open_copy and restricted and source.address in addresses(row):
                    assert source.restricted_copy, source.address
    restricted = {source.name for _, source, _ in sources_with_users() if source.restricted_copy}
    assert restricted == {
        "clip-benchmark-imagenet1k",
        "djghosh-imagenet1k",
        "clip-benchmark-fer2013",
        "clip-benchmark-flickr30k",
        "clip-benchmark-flickr8k",
        "nlphuji-flickr30k",
        "openflamingo-flickr30k",
        "jbrownlee-flickr8k",
    }


def test_terms_are_those_of_the_facts():
    read = load_table()
    of_composition = {
        artifact.terms
        for artifact in read.artifacts.values()
        if {name for name, recipe in read.recipes.items() if artifact in recipe.artifacts} <= COMPOSITION
    }
    licences = {row["licence"].replace(" (memory)", "") for row in rows()}
    own = {"captions of COCO (CC BY 4.0)", "captions of Flickr30k", "not stated"} | facts_of_texts.TERMS
    own |= {"FMoW Challenge Public License", "Kaggle's competition rules; the copy does not ask for them"}
    assert {artifact.terms for artifact in read.artifacts.values()} <= licences | own | of_composition
