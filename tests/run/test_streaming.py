"""Data that are evaluated while they are downloaded: the numbers of data on disk, on a bounded disk."""

import os
import time

import pytest
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.results.store import read_result
from tests.helpers.file_server import Handler, Request
from tests.helpers.hub_server import COMMIT
from tests.helpers.processes import wait_until
from tests.helpers.streamed_shards import (
    IN_SHARD,
    KINDS,
    SHARDS,
    Batchwise,
    Notes,
    define,
    features,
    require_equal,
    run,
    world,
)


@pytest.mark.parametrize("exif", [{}, {"exif": "apply"}], ids=["plain", "upright"])
@pytest.mark.parametrize("kind", KINDS)
def test_streamed_data_give_the_numbers_of_data_on_disk(tmp_path, kind, exif):
    with world(tmp_path, kind) as served:
        disk = run(served.on_disk(**exif), tmp_path / "a")
        assert served.downloads() == []
        streamed = run(served.streamed(**exif), tmp_path / "b")
        require_equal(disk, streamed, tmp_path)
        assert served.downloads() == [f"{i}.tar" for i in range(SHARDS)]
    assert any("EXIF orientation" in line for line in streamed.warnings)
    assert len({*features(tmp_path / "b")}) == SHARDS * IN_SHARD - 1
    fetched = streamed.environment.fetched[f"tiny-{kind}"]
    assert (fetched["streamed"], fetched["revision"], fetched["source"]) == (True, COMMIT, "definition")
    assert fetched["files"] == SHARDS + (1 if kind == "retrieval" else 3)
    assert [path.name for path in (tmp_path / "b").iterdir() if path.name.startswith(".")] == [".embeddings"]


def test_what_is_streamed_is_done_for_data_on_disk_and_the_other_way_round(served, tmp_path):
    notes = Notes()
    first = run(served.streamed(), tmp_path / "a")
    served.forget()
    again = run(served.streamed(), tmp_path / "a", reporter=notes)
    disk = run(served.on_disk(), tmp_path / "a", reporter=notes)
    assert [line for line in notes.lines if "already done" in line] == ["tiny-classification: already done, kept"] * 2
    assert again == disk == first
    assert served.downloads() == []  # what the shards hold is recorded
    run(served.on_disk(), tmp_path / "b")
    encoded = Batchwise.encoded
    run(served.streamed(), tmp_path / "b", reporter=notes)
    assert notes.lines[-1] == "tiny-classification: already done, kept"
    assert Batchwise.encoded == encoded  # cached features are shared


def test_a_shard_whose_features_and_samples_are_known_is_not_downloaded_again(served, tmp_path):
    cache = tmp_path / "cache"
    first = run(served.streamed(), tmp_path / "a", cache=cache)
    served.forget()
    second = run(served.streamed(), tmp_path / "b", cache=cache)
    assert (second.metrics, second.identity, served.downloads()) == (first.metrics, first.identity, [])
    (record,) = [path for path in (cache / "streamed").iterdir() if "3/s21.jpg" in path.read_text()]
    record.write_bytes(record.read_bytes().replace(b"s21", b"s99"))  # damaged: it is not believed
    third = run(served.streamed(), tmp_path / "c", cache=cache)
    assert (third.identity, served.downloads(), Batchwise.encoded) == (first.identity, ["3.tar"], 34)
    for path in cache.rglob("pictures-*"):
        path.unlink()
    served.forget()
    fourth = run(served.streamed(), tmp_path / "d", cache=cache)
    assert (fourth.metrics, len(served.downloads()), Batchwise.encoded) == (first.metrics, SHARDS, 68)


def test_without_a_feature_cache_the_numbers_are_the_same(served, tmp_path):
    with_cache = run(served.streamed(), tmp_path / "a")
    without = run(served.streamed(), tmp_path / "b", cache=False)
    nowhere = run(served.streamed(), None, cache=False)
    assert with_cache.metrics == without.metrics == nowhere.metrics
    assert not (tmp_path / "b/.embeddings").exists()


def test_at_most_three_shards_are_on_disk_at_any_time(served, tmp_path, monkeypatch):
    most, out = [0], tmp_path / "out"

    def count() -> None:
        for folder in out.glob(".stream*/test"):
            # in one look: between two a shard may go and the next one come
            names = os.listdir(folder)  # noqa: PTH208
            most[0] = max(most[0], sum(name.endswith((".tar", ".tar.part")) for name in names))

    answer = served.hub.server.faults

    def counting(request: Request, handler: Handler) -> bool:
        count()
        return answer(request, handler)

    served.hub.server.faults = counting
    encode = Batchwise.encode_image

    def encode_beside_downloads(self: Batchwise, x: Tensor) -> Tensor:
        wait_until(lambda: (count(), most[0] > 1)[1])  # the first batch comes before the second shard
        time.sleep(0.05)
        count()
        return encode(self, x)

    monkeypatch.setattr(Batchwise, "encode_image", encode_beside_downloads)
    run(served.streamed(), out)
    assert 2 <= most[0] <= 3
    assert not [*out.glob(".stream*")]


def test_several_models_download_once_each_and_share_what_the_shards_hold(served, tmp_path):
    definition, disk = str(served.streamed()), str(served.on_disk())
    models = [
        option for name in ("Batchwise", "Other") for option in ("--model", f"python:{Batchwise.__module__}:{name}")
    ]
    for path, out in ((disk, "a"), (definition, "b")):
        assert (
            run_command(["run", *models, "--benchmark", path, "--out", str(tmp_path / out), "--batch-size", "4"]) == 0
        )
    assert served.downloads() == sorted([f"{i}.tar" for i in range(SHARDS)] * 2)
    assert len(features(tmp_path / "a")) == 34
    by_model = [
        {path.parent.parent.name: read_result(path).metrics for path in (tmp_path / out).rglob("RESULT.json")}
        for out in "ab"
    ]
    assert len(by_model[0]) == 2
    assert by_model[0] == by_model[1]


@pytest.mark.parametrize(("limit", "expected", "shards"), [(2, True, 3), (5, True, 5), (2, False, 7), (100, True, 5)])
def test_a_limit_takes_the_images_that_it_takes_from_disk(served, tmp_path, limit, expected, shards):
    # 35 images: a limit of 2 takes 0 and 17, of the shards 0 and 2; without the expected number all are counted first
    counts = {} if expected else {"expected": {}}
    disk = run(served.on_disk(**counts), tmp_path / "a", limit=limit)
    streamed = run(served.streamed(**counts), tmp_path / "b", limit=limit)
    require_equal(disk, streamed, tmp_path)
    assert Batchwise.encoded == 2 * min(limit, 34)
    downloads = served.downloads()
    assert len(downloads) in ((3, 4, 5) if shards == 3 else (shards,))  # the next two may have begun
    assert limit != 2 or expected or downloads.count("2.tar") == 2


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_limit_of_other_kinds_of_data(tmp_path, kind):
    with world(tmp_path, kind) as served:
        disk = run(served.on_disk(), tmp_path / "a", limit=2)
        require_equal(disk, run(served.streamed(), tmp_path / "b", limit=2), tmp_path)


def test_a_folder_of_a_web_server_is_streamed(served, tmp_path):
    server, folder, cache = served.hub.server, "content/mirror/tiny", tmp_path / "b/.embeddings"
    for path, content in served.hub.files.items():
        server.files[f"{folder}/{path}"] = content
    streamed = run(served.streamed(server.url(f"{folder}/")), tmp_path / "b")
    require_equal(run(served.on_disk(), tmp_path / "a"), streamed, tmp_path)
    assert streamed.environment.fetched["tiny-classification"]["address"] == server.url(folder)

    served.forget()
    run(served.streamed(server.url(folder)), tmp_path / "c", cache=cache)
    # which version each shard is, and no more: what they hold is recorded
    assert [one.path for one in server.requests if one.path.endswith(".tar")] == [
        f"{folder}/test/{i}.tar" for i in range(SHARDS)
    ]
    server.files[f"{folder}/test/2.tar"] += bytes(1024)
    served.forget()
    changed = run(served.streamed(server.url(folder)), tmp_path / "d", cache=cache)
    assert (changed.identity, changed.timing.encoded["images"]) == (streamed.identity, 0)
    assert [one.path.rpartition("/")[2] for one in server.requests].count("2.tar") == 2
    assert len(server.requests) == SHARDS + 1 + 3

    del server.files[f"{folder}/test/nshards.txt"]
    with pytest.raises(RequestError, match=r"tiny/test/nshards.txt is not there \(404"):
        run(served.streamed(server.url(folder)), tmp_path / "e")


def test_data_on_disk_come_before_an_address(served, tmp_path):
    served.on_disk()
    definition = define(tmp_path / "disk", "classification", ["wds_tiny", served.address])
    run(definition, tmp_path / "a")
    assert served.hub.server.requests == []
    (tmp_path / "disk/wds_tiny/test/4.tar").unlink()
    run(definition, tmp_path / "b")
    assert len(served.downloads()) == SHARDS
