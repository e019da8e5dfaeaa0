"""Data that are evaluated while they are downloaded: the numbers of data on disk, on a bounded disk."""

import io
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval import evaluate
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.fetch.transfer import Network
from cosmos_eval.datasets.image_facts import PLAIN
from cosmos_eval.datasets.stream.images import StreamedImage
from cosmos_eval.datasets.stream.source import StreamSource, parse_address
from cosmos_eval.progress import Silent
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import read_result
from tests.helpers.fetch_sources import Internet, image_bytes, small_internet, tar_bytes
from tests.helpers.file_server import Handler, Request
from tests.helpers.hub_server import COMMIT, HubServer, serving_hub
from tests.helpers.rank_runs import HERE, start
from tests.helpers.tiny_models import Colours

SHARDS, IN_SHARD = 5, 7
NAMES = ("cat", "dog", "fox")
KINDS = ("classification", "multilabel", "retrieval")
SMALL = {"classnames.txt": "\n".join(NAMES).encode(), "zeroshot_classification_templates.txt": b"a photo of a {c}.\n"}


class Batchwise(Colours):
    """Features hang a little on what else is in the batch: other batches would give other bits."""

    digest = "ba7c4" * 12
    spec = "python:tests.run.test_streaming:Batchwise"
    encoded = 0

    def encode_image(self, x: Tensor) -> Tensor:
        type(self).encoded += len(x)
        return super().encode_image(x) + 1e-5 * x.mean()


class Other(Batchwise):
    digest = "07e43" * 12


def npy(row: list[int]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(row))
    return stream.getvalue()


def label(kind: str, number: int) -> tuple[str, bytes]:
    """Suffix and content of the label of an image."""
    if kind == "classification":
        return "cls", str(number % 3).encode()
    if kind == "multilabel":
        return "npy", npy([int(number % 3 == 0), int(number % 2), (1, -1, 0, 0, 0)[number % 5]])
    return "txt", f"caption {number}\nanother of {number}".encode()


def turned_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.open(io.BytesIO(image_bytes(99))).save(stream, "jpeg", exif=exif)
    return stream.getvalue()


def dataset_files(kind: str) -> dict[str, bytes]:
    """Five shards of seven images: one is there twice, in two shards, and one has an EXIF orientation."""
    shards = {}
    for shard in range(SHARDS):
        members = {}
        for i in range(IN_SHARD):
            number = shard * IN_SHARD + i
            content = image_bytes(3 if number == 20 else number)
            suffix, text = label(kind, number)
            members[f"s{number}.jpg"] = turned_jpeg() if number == 9 else content
            members[f"s{number}.{suffix}"] = text
        shards[f"test/{shard}.tar"] = tar_bytes(members)
    return {**shards, "test/nshards.txt": str(SHARDS).encode(), **({} if kind == "retrieval" else SMALL)}


PRIMARY = {"classification": "top1", "multilabel": "mean_average_precision", "retrieval": "text_to_image_recall@1"}


def define(folder: Path, kind: str, path: Any, **dataset: Any) -> Path:
    """A definition of the user's own; those of all folders are the same protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    value: dict[str, Any] = {"name": f"tiny-{kind}", "version": 1, "task": kind, "source": "made by a test"}
    value["dataset"] = {"reader": "wds", "path": path, "expected": {"images": SHARDS * IN_SHARD}, **dataset}
    value["metrics"] = {"primary": PRIMARY[kind]}
    if kind != "retrieval":
        value["prompts"] = {"class_names": "dataset", "templates": "dataset"}
    definition = folder / f"tiny-{kind}.yaml"
    definition.write_text(yaml.safe_dump(value), encoding="utf-8")
    return definition


@dataclass
class World:
    """One dataset on a hub, and on disk."""

    kind: str
    hub: HubServer
    folder: Path

    @property
    def address(self) -> str:
        return f"hf://datasets/{self.hub.repository}@{COMMIT}"

    def streamed(self, path: Any = None, **dataset: Any) -> Path:
        return define(self.folder / "streamed", self.kind, path or self.address, **dataset)

    def on_disk(self, **dataset: Any) -> Path:
        for path, content in self.hub.files.items():
            file = self.folder / "disk/wds_tiny" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return define(self.folder / "disk", self.kind, "wds_tiny", **dataset)

    def downloads(self) -> list[str]:
        """Shards that were asked for, sorted: two come at the same time."""
        paths = [one.path for one in self.hub.server.requests if one.path.startswith("content/test/")]
        return sorted(path.removeprefix("content/test/") for path in paths if path.endswith(".tar"))

    def forget(self) -> None:
        """Forget the requests so far."""
        self.hub.server.requests.clear()


@contextmanager
def world(folder: Path, kind: str) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, serving_hub(dataset_files(kind)) as hub:
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_TOKEN_PATH", "/nonexistent")
        patch.setenv("HF_ENDPOINT", hub.server.address)
        patch.setattr("cosmos_eval.run.streaming.Network", lambda: Network(timeout=5, retries=1, backoff=0.0))
        Batchwise.encoded = Other.encoded = 0
        yield World(kind, hub, folder)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, "classification") as made:
        yield made


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def run(definition: Path, out: Path, model: Any = None, **options: Any) -> Result:
    (result,) = evaluate(model or Batchwise(), definition, out=out, batch_size=4, **options)
    return result


def samples(out: Path) -> pd.DataFrame:
    return pd.read_parquet(next(out.rglob("samples.parquet")))


def features(out: Path) -> dict[str, bytes]:
    """Image key -> stored features."""
    from safetensors.numpy import load_file

    rows = {}
    for path in (out / ".embeddings").rglob("pictures-*"):
        arrays = load_file(path)
        rows.update(
            {key.tobytes().hex(): row.tobytes() for key, row in zip(arrays["keys"], arrays["rows"], strict=True)}
        )
    return rows


def require_equal(disk: Result, streamed: Result, folder: Path) -> None:
    """Everything that is measured and identified is the same, to the bit."""
    assert streamed.metrics == disk.metrics
    assert streamed.identity == disk.identity
    assert streamed.dataset == disk.dataset
    assert streamed.warnings == disk.warnings
    assert streamed.timing.encoded == disk.timing.encoded
    pd.testing.assert_frame_equal(samples(folder / "a"), samples(folder / "b"))
    assert features(folder / "a") == features(folder / "b")


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

    def count(*_: Any) -> None:
        most[0] = max(most[0], len([*out.glob(".stream*/test/*.tar"), *out.glob(".stream*/test/*.tar.part")]))

    answer = served.hub.server.faults

    def counting(request: Request, handler: Handler) -> bool:
        count()
        return answer(request, handler)

    served.hub.server.faults = counting
    encode = Batchwise.encode_image
    monkeypatch.setattr(Batchwise, "encode_image", lambda self, x: (time.sleep(0.05), count(), encode(self, x))[2])
    run(served.streamed(), out)
    assert 2 <= most[0] <= 3
    assert not [*out.glob(".stream*")]


def test_several_models_download_once_each_and_share_what_the_shards_hold(served, tmp_path):
    definition, disk = str(served.streamed()), str(served.on_disk())
    models = [option for name in ("Batchwise", "Other") for option in ("--model", f"python:{__name__}:{name}")]
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


def change(served: World, path: str, content: bytes | None) -> None:
    """Have the hub list a file and serve another one, or none."""
    answer = served.hub.server.faults

    def faulty(request: Request, handler: Handler) -> bool:
        if request.path != f"content/{path}":
            return answer(request, handler)
        handler.answer(404 if content is None else 200, content or b"")
        return True

    served.hub.server.faults = faulty


def flipped(content: bytes) -> bytes:
    return content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: None, "content/test/3.tar is not there (404 Not Found)"),
        (flipped, "is not the file that is expected: its sha256 is"),
        (lambda content: content[:-512], "bytes, expected"),
    ],
    ids=["404", "checksum", "size"],
)
def test_a_shard_that_cannot_be_had_is_one_line_and_nothing_is_lost(served, tmp_path, capsys, damage, reason):
    path, out = "test/3.tar", tmp_path / "out"
    healthy = served.hub.server.faults
    change(served, path, damage(served.hub.files[path]))
    command = ["run", "--model", f"python:{__name__}:Batchwise", "--benchmark", str(served.streamed())]
    assert run_command([*command, "--out", str(out), "--batch-size", "4"]) == 2
    printed = capsys.readouterr().err.splitlines()
    (line,) = [line for line in printed if line.startswith("cosmos-eval: ")]
    assert line.startswith("cosmos-eval: tiny-classification: http://127.0.0.1")
    assert reason in line.replace("resolve/" + COMMIT, "").replace("datasets/somebody/wds_tiny//", "content/")
    assert not [*out.glob(".stream*")]
    assert Batchwise.encoded == 20  # all distinct images of three shards
    served.hub.server.faults = healthy
    served.forget()
    assert run_command([*command, "--out", str(out), "--batch-size", "4"]) == 0
    assert served.downloads() == ["3.tar", "4.tar"]
    assert Batchwise.encoded == 34
    run(served.on_disk(), tmp_path / "a")
    assert features(tmp_path / "a") == features(out)


def test_a_dropped_connection_goes_on_where_it_was(served, tmp_path):
    served.hub.server.drop_after = [10**9, 10**9, 10**9, 3000]
    result = run(served.streamed(), tmp_path / "b")
    assert result.metrics == run(served.on_disk(), tmp_path / "a").metrics
    resumed = {request.path for request in served.hub.server.requests if request.start == 3000}
    assert len([path for path in resumed if path.startswith("content/test/")]) == 1


def hostile(kind: str) -> bytes:
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("../../s1.jpg" if kind == "outside" else "s1.jpg")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    return b"<html>sign in</html>" * 100 if kind == "page" else stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("outside", "leads out of the tar"), ("link", "is a symbolic link in the tar"), ("page", "it is an HTML page")],
)
def test_hostile_shards_are_refused_in_one_line(served, tmp_path, kind, reason):
    served.hub.put("test/1.tar", hostile(kind))
    with pytest.raises(RequestError, match=reason) as error:
        run(served.streamed(), tmp_path / "out")
    assert "(streamed from http://127.0.0.1" in str(error.value)
    assert "\n" not in str(error.value)
    assert not [*(tmp_path / "out").glob(".stream*")]


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


def test_an_image_that_was_streamed_cannot_be_opened_and_says_what_to_do(served, tmp_path):
    image = StreamedImage.known("0/s1.jpg", "https://host/0.tar", "00" * 16, PLAIN)
    assert image.digest() == "00" * 16
    for read in (image.load, image.content):
        with pytest.raises(RequestError, match=r"was streamed from https://host/0\.tar and is not on disk; fetch"):
            read()


def test_models_that_need_an_image_twice_are_refused(served, tmp_path):
    for options, reason in (
        ({"model": "python:tests.helpers.scoring_models:Pairs"}, "scores pairs"),
        ({"decoder": "draft"}, "leave --decoder out"),
    ):
        with pytest.raises(RequestError, match=reason):
            run(served.streamed(), tmp_path / "out", **options)
    assert served.downloads() == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("ftp://host/x", "has a scheme from which nothing is streamed"),
        ("https:///x", "must have a host"),
        ("https://host:99999/x", r"cannot be read as an address \(Port out of range"),
        ("https://host/x?token=1", "no query"),
        ("https://me:secret@host/x", "no query, fragment, user or password"),
        ("https://host/a/%2e%2e/b", "leads out of its folder"),
        ("hf://datasets/one", "names no dataset of the hub"),
        ("hf://datasets/a/b@/c", "has no revision behind @"),
        ("hf://datasets/a/b@main/../c", "a folder outside the repository"),
    ],
)
def test_an_address_that_cannot_be_streamed_is_refused_in_one_line(served, tmp_path, path, reason):
    with pytest.raises(RequestError, match=reason) as error:
        run(served.streamed(path), tmp_path / "out")
    assert "give https://HOST/FOLDER, or hf://datasets/OWNER/NAME@COMMIT/FOLDER" in str(error.value)
    assert served.hub.server.requests == []


def test_addresses_of_the_hub():
    assert parse_address("hf://datasets/a/b@v1/sub/dir/", "x") == StreamSource(
        "hub", "a/b", revision="v1", folder="sub/dir"
    )
    page = parse_address(f"https://huggingface.co/datasets/a/b/tree/{COMMIT}/sub", "x")
    assert page == StreamSource("hub", "a/b", revision=COMMIT, folder="sub")
    assert parse_address("https://huggingface.co/datasets/a/b", "x") == StreamSource("hub", "a/b")
    assert parse_address("https://host/a/", "x") == StreamSource("http", "https://host/a")


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with small_internet(tmp_path / "definitions") as served:
        yield served


def stream_command(internet: Internet, tmp_path: Path, *names: str, out: str = "out") -> list[str]:
    definitions = [option for name in names for option in ("--benchmark", str(internet.definition(name)))]
    root = ["--data-root", str(tmp_path / "data"), "--out", str(tmp_path / out)]
    return ["run", "--model", "python:tests.helpers.tiny_models:Colours", *definitions, *root, "--stream"]


def test_a_benchmark_of_the_table_is_streamed_and_a_fetched_one_is_read_from_disk(internet, tmp_path, capsys):
    command = stream_command(internet, tmp_path, "tiny-wds")
    assert run_command([*command, "--dry-run"]) == 0
    assert "tiny-wds: ready" in (line := capsys.readouterr().out)
    assert "streamed from https://huggingface.co/datasets/somebody/wds_tiny" in line
    assert internet.hub.server.requests == []
    assert run_command(command) == 0
    (streamed,) = [read_result(path) for path in (tmp_path / "out").rglob("RESULT.json")]
    part = streamed.environment.fetched["wds-tiny"]
    assert (part["revision"], part["files"], part["source"], part["streamed"]) == (COMMIT, 5, "clip-benchmark", True)
    assert not (tmp_path / "data").exists()
    assert run_command([*command[:-1], "--fetch", "--yes"]) == 0
    assert "already done, kept" in capsys.readouterr().err
    internet.hub.server.requests.clear()
    assert run_command(stream_command(internet, tmp_path, "tiny-wds", out="other")) == 0
    assert internet.hub.server.requests == []  # it is on disk now


def test_stream_refuses_what_is_not_in_shards_and_says_what_is(internet, tmp_path, capsys):
    assert run_command([*stream_command(internet, tmp_path, "tiny-sst2"), "--dry-run"]) == 2
    assert "fetch with `cosmos-eval data fetch " in capsys.readouterr().out
    assert run_command(stream_command(internet, tmp_path, "tiny-sst2", "tiny-wds")) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval: ")]
    assert "tiny-sst2 cannot be streamed: only WebDataset shards can (reader: wds)" in line
    assert "of those asked for, tiny-wds can be; for the rest leave --stream out and add --fetch" in line
    assert run_command([*stream_command(internet, tmp_path, "tiny-sst2", "tiny-wds"), "--skip-missing"]) == 0
    assert run_command([*stream_command(internet, tmp_path, "tiny-wds"), "--fetch"]) == 2
    assert "--fetch keeps the data and --stream does not" in capsys.readouterr().err


def started(
    served: World, out: Path, model: str, ranks: int = 1, pids: list[int] | None = None, **environment: str
) -> list[int]:
    """Exit codes of the command in processes of its own, whose ids are added to `pids`."""
    command = ["run", "--model", f"{HERE}{model}", "--benchmark", str(served.streamed()), "--out", str(out)]
    settings = {"HF_ENDPOINT": served.hub.server.address, "HF_TOKEN_PATH": "/nonexistent", **environment}
    processes = start([*command, "--batch-size", "4"], ranks, out.with_name(f"log-{out.name}-{model}"), **settings)
    if pids is not None:
        pids += [process.pid for process in processes]
    for process in processes:
        process.join(300)
    return [process.exitcode for process in processes]


def test_a_killed_run_goes_on_with_the_same_bits_and_leaves_no_shard(served, tmp_path):
    assert started(served, tmp_path / "whole", "Batchwise") == [0]
    out = tmp_path / "out"
    assert started(served, out, "Dying") == [-9]
    assert len([*out.glob(".stream*")]) == 1
    served.forget()
    assert started(served, out, "Batchwise") == [0]
    assert not [*out.glob(".stream*")]
    # two batches were stored, of the 7 images of shard 0 and the first of shard 1
    assert served.downloads() == ["1.tar", "2.tar", "3.tar", "4.tar"]
    assert features(out) == features(tmp_path / "whole")
    results = [read_result(next(folder.rglob("RESULT.json"))) for folder in (out, tmp_path / "whole")]
    assert results[0].metrics == results[1].metrics


def test_two_ranks_give_the_bits_of_one_and_only_rank_0_downloads(served, tmp_path):
    assert started(served, tmp_path / "one", "Batchwise") == [0]
    served.forget()
    assert started(served, tmp_path / "two", "Batchwise", ranks=2) == [0, 0]
    assert served.downloads() == [f"{i}.tar" for i in range(SHARDS)]
    assert features(tmp_path / "one") == features(tmp_path / "two")
    one, two = (read_result(next((tmp_path / name).rglob("RESULT.json"))) for name in ("one", "two"))
    assert (one.metrics, one.identity) == (two.metrics, two.identity)
    assert two.timing.ranks == 2
    shared = [(tmp_path / f"log-two-Batchwise/{rank}.keys").read_text().split() for rank in range(2)]
    assert all(len(keys) > 10 for keys in shared)


@pytest.mark.slow
def test_ten_kills_at_random_requests_end_with_the_same_bits_and_no_shard(served, tmp_path):
    assert started(served, tmp_path / "whole", "Batchwise") == [0]
    out, draw, answer = tmp_path / "out", random.Random(0), served.hub.server.faults
    killed = 0
    for _ in range(10):
        pids: list[int] = []
        left = [draw.randrange(1, 14)]

        def kill(request: Request, handler: Handler, left: list[int] = left, pids: list[int] = pids) -> bool:
            left[0] -= 1
            if left[0] == 0:
                os.kill(pids[0], signal.SIGKILL)
            return answer(request, handler)

        served.hub.server.faults = kill
        (code,) = started(served, out, "Batchwise", pids=pids)
        killed += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL)
        assert len([*out.glob(".stream*")]) <= 1
    served.hub.server.faults = answer
    assert started(served, out, "Batchwise") == [0]
    assert killed >= 5
    assert not [*out.glob(".stream*")]
    assert features(out) == features(tmp_path / "whole")
    results = [read_result(next(folder.rglob("RESULT.json"))) for folder in (out, tmp_path / "whole")]
    assert results[0].metrics == results[1].metrics
