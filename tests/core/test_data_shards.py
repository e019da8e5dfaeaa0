"""Shards: the layouts, the ways to a shard, and what becomes of a damaged one."""

import gzip
import io
import json
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cosmos_core.data.samples import BrokenSample, Sample
from cosmos_core.data.shard_samples import explain_unreadable_record
from cosmos_core.data.shards import LostSamples, UnreadSample, entries, parse_record, read_cached_index
from cosmos_core.data.sources import ShardList, expand_shards, set_shard_names
from cosmos_core.errors import RequestError
from cosmos_core.text_crop import candidate_sentences
from tests.core.test_data import image_bytes, numbered_shard, write_shard
from tests.core.wrong_files import WRONG_FILES

DREAMLIP = {"raw_caption": ["raw"], "longIB_captions": ["one", "two"]}
PIXELPROSE = {"original_caption": "alt text", "caption": "One. Two."}
LAYOUTS = {
    "0001.png": image_bytes(1),
    "0001.json": json.dumps(DREAMLIP).encode(),
    "sub/0002.jpg": image_bytes(2, "JPEG"),
    "sub/0002.json": json.dumps(PIXELPROSE).encode(),
    "0003.txt": b"Plain one. Plain two",
    "0003.webp": image_bytes(3, "WEBP"),
    "0004.PNG": image_bytes(4),
    "0004.json": json.dumps({"width": 20}).encode(),
    "0004.txt": b"metadata beside a caption",
    "0004.seg.png": b"a map of something",
    "0005.txt": b"no image",
    "0006.png": image_bytes(6),
    "0006.json": b"{not json",
    "0007.npy": b"no sample",
    "__info__/x.json": b"{}",
}
READ = [
    ("a/0001", image_bytes(1), DREAMLIP),
    ("a/sub/0002", image_bytes(2, "JPEG"), PIXELPROSE),
    ("a/0003", image_bytes(3, "WEBP"), "Plain one. Plain two"),
    ("a/0004", image_bytes(4), "metadata beside a caption"),
    ("a/0005", None, "no image"),
    "words: a/0006: its json is not JSON: line 1 column 2: Expecting property name enclosed in double quotes",
]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address that a server of this machine gives it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_every_layout_is_read_the_same_by_file_pipe_and_http(site: tuple[Path, str]):
    folder, address = site
    path = write_shard(folder / "a.tar", LAYOUTS)
    write_shard(folder / "b.tar.gz", LAYOUTS, "w:gz")
    for url in (str(path), str(folder / "b.tar.gz"), f"pipe:cat '{path}'", f"{address}/a.tar"):
        assert [read_or_reason(entry) for entry in entries(url, "a")] == READ, url


def read_or_reason(entry: UnreadSample) -> Sample | str:
    try:
        return entry.read()
    except BrokenSample as error:
        return str(error)


@pytest.mark.parametrize(
    ("record", "sentences"),
    [
        ({"caption": "Raw.", "longIB_captions": ["One", "Two"], "url": "x"}, ["Raw.", "One", "Two"]),
        ({"caption": "Raw.", "raw_caption": ["R"], "longIB_captions": ["One"]}, ["R", "One"]),
        ({"original_caption": "Alt. Text", "vlm_caption": "A dog. It runs"}, ["Alt. Text", "A dog", "It runs"]),
        ({"original_caption": "Alt. Text", "caption": "A dog. It runs", "url": "x"}, ["Alt. Text", "A dog", "It runs"]),
        ({"caption": "A dog. It runs", "status": "success", "key": "1"}, ["A dog", "It runs"]),
    ],
)
def test_records_as_img2dataset_writes_them_keep_all_their_captions(record: dict, sentences: list[str]):
    assert candidate_sentences(parse_record({"json": json.dumps(record).encode(), "txt": b"Raw."})) == sentences


def test_a_part_and_a_place_in_it_are_what_counting_gives(tmp_path: Path):
    path = numbered_shard(tmp_path / "a.tar", range(11))
    whole = [entry.read() for entry in entries(str(path), "a")]
    for url in (str(path), f"pipe:cat '{path}'"):
        for part, skip in ((0, 0), (1, 0), (2, 2), (0, 9)):
            found = [entry.read() for entry in entries(url, "a", part, 3, skip)]
            assert found == whole[part::3][skip:]


def test_of_a_local_shard_only_headers_are_read_before_a_sample_is(tmp_path: Path):
    path = numbered_shard(tmp_path / "a.tar", range(3))
    found = list(entries(str(path), "a"))
    assert not any(b"Picture number" in pickle.dumps(entry) for entry in found)
    assert found[2].read()[2] == "Picture number 2. Second sentence"


def test_pickled_members_are_never_opened(tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    members = {
        "1.png": image_bytes(1),
        "1.txt": b"words",
        "1.pkl": pickle.dumps(Bomb()),
        "1.pyd": pickle.dumps(Bomb()),
    }
    path = write_shard(tmp_path / "a.tar", members)
    assert [entry.read()[0] for entry in entries(str(path), "a")] == ["a/1"]
    assert not (tmp_path / "ran").exists()


def lost(url: str, expected: int = 0) -> tuple[int, LostSamples]:
    """Samples before the shard broke off, and what is said of the rest."""
    *whole, last = entries(url, "a", expected=expected)
    assert isinstance(last, LostSamples)
    assert not any(isinstance(entry, LostSamples) for entry in whole)
    with pytest.raises(BrokenSample, match=r"^shard: shard .* cannot be read"):
        last.read()
    assert "\n" not in last.reason
    return len(whole), last


@pytest.mark.parametrize(
    "content",
    [b"", b"this is not a tar file" * 100, gzip.compress(b"nor is this" * 100)],
    ids=["empty", "text", "gzip"],  # by themselves they would hold the time of collection, which workers must agree on
)
def test_a_file_that_is_no_tar_is_lost_as_a_whole(tmp_path: Path, content: bytes):
    path = tmp_path / "bad.tar"
    path.write_bytes(content)
    for url in (str(path), f"pipe:cat '{path}'"):
        given, rest = lost(url, expected=50)
        assert (given, rest.samples) == (0, 50)


def test_of_a_shard_cut_short_the_whole_samples_are_read_and_the_rest_is_counted(tmp_path: Path):
    """Six members of three samples; each has a header of 512 bytes and one block of content."""
    whole = write_shard(
        tmp_path / "cut.tar", {f"{i}.{kind}": b"x" * 512 for i in range(3) for kind in ("png", "txt")}
    ).read_bytes()
    path = tmp_path / "cut.tar"
    for size, samples in ((5 * 512, 1), (5 * 512 + 100, 1), (9 * 512 + 100, 2), (11 * 512 + 300, 2)):
        path.write_bytes(whole[:size])
        for url in (str(path), f"pipe:cat '{path}'"):
            given, rest = lost(url, expected=10)
            assert (given, rest.samples) == (samples, 10 - samples), (size, url)
    damaged = bytearray(whole)
    damaged[4 * 1024 : 4 * 1024 + 512] = b"?" * 512  # the header of the third sample's image
    path.write_bytes(damaged)
    for url in (str(path), f"pipe:cat '{path}'"):
        given, rest = lost(url, expected=10)
        assert given + rest.samples == 10


def test_a_command_that_fails_loses_the_rest_even_where_the_archive_looks_whole(tmp_path: Path):
    path = numbered_shard(tmp_path / "a.tar", range(3))
    assert "exit 3" in lost(f"pipe:cat '{path}'; exit 3")[1].reason
    assert lost("pipe:exit 1")[0] == 0


def test_a_command_is_ended_when_its_shard_is_no_longer_read(tmp_path: Path):
    path = numbered_shard(tmp_path / "a.tar", range(3))
    stream = entries(f"pipe:echo $$ > '{tmp_path}/pid'; while true; do cat '{path}'; done", "a")
    assert next(stream).read()[0] == "a/0000"
    stream.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_address_that_answers_with_an_error_is_lost(site: tuple[Path, str]):
    assert lost(f"{site[1]}/nothing.tar")[0] == 0


def test_a_shard_that_changes_is_indexed_anew(tmp_path: Path):
    path = numbered_shard(tmp_path / "a.tar", range(3))
    first = read_cached_index(str(path))
    assert first is read_cached_index(str(path))
    numbered_shard(path, range(30))
    assert first is not None
    assert len(first.samples) == 3
    assert len(read_cached_index(str(path)).samples) == 30  # type: ignore[union-attr]


def test_a_named_pipe_in_place_of_a_shard_that_was_read_is_not_waited_for(tmp_path: Path):
    path = numbered_shard(tmp_path / "a.tar", range(2))
    first, second = entries(str(path), "a")
    first.read()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BrokenSample, match="a named pipe"):
        second.read()


def test_a_shard_that_shrinks_under_the_run_breaks_samples_not_the_run(tmp_path: Path):
    path = numbered_shard(tmp_path / "a.tar", range(3))
    last = list(entries(str(path), "a"))[-1]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BrokenSample, match="shorter than when the run started"):
        last.read()


def test_lists_are_expanded_as_webdataset_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for i in range(12):
        write_shard(tmp_path / f"d-{i:03d}.tar", {})
    paths = [str(tmp_path / f"d-{i:03d}.tar") for i in range(12)]
    monkeypatch.setenv("WDS_HERE", str(tmp_path))
    assert expand_shards(f"{tmp_path}/d-{{000..011}}.tar") == paths
    assert expand_shards(f"{tmp_path}/d-*.tar") == paths
    assert expand_shards(f"file:{tmp_path}/d-{{003,001}}.tar") == [paths[3], paths[1]]
    assert expand_shards(f"file://{tmp_path}/d-003.tar") == [paths[3]]
    assert expand_shards("${HERE}/d-00{0..1}.tar") == paths[:2]
    assert expand_shards("pipe:curl -s host/{0..1}.tar") == ["pipe:curl -s host/0.tar", "pipe:curl -s host/1.tar"]
    assert expand_shards("https://host/{08..10}.tar") == [f"https://host/{i}.tar" for i in ("08", "09", "10")]


def test_what_is_not_there_is_named(tmp_path: Path):
    write_shard(tmp_path / "d-0.tar", {})
    for pattern, reason in {
        f"{tmp_path}/d-{{0..2}}.tar": r"d-1\.tar; 2 of 3 missing",
        f"{tmp_path}/nothing-*.tar": "no file",
        "s3://bucket/0.tar": "addresses that begin with s3: cannot be opened, .*pipe:COMMAND",
        "${NOWHERE}/0.tar": "WDS_NOWHERE|wds_NOWHERE",
        "d-{0..": "d-",
    }.items():
        with pytest.raises(RequestError, match=reason):
            expand_shards(pattern)


def test_keys_hold_as_much_of_the_address_as_tells_shards_apart():
    def names(*urls: str) -> list[str]:
        found = ShardList("", list(urls))
        set_shard_names([found])
        return found.names

    assert (
        names("/x/0.tar", "/x/1.tar") == ["0.tar", "1.tar"] == names("http://h/0.tar", "pipe:aws s3 cp s3://b/1.tar -")
    )
    assert names("/x/a/0.tar", "/x/b/0.tar") == ["a/0.tar", "b/0.tar"]
    assert names("/x/0.tar", "/x/0.tar") == ["0.tar", "0.tar#2"]


def test_a_image_and_its_caption_stand_together_in_any_order(tmp_path: Path):
    path = write_shard(tmp_path / "a.tar", {"b.txt": b"words", "b.jpg": b"1", "a.jpg": b"2", "a.txt": b"more"})
    assert [entry.read() for entry in entries(str(path), "s")] == [("s/b", b"1", "words"), ("s/a", b"2", "more")]


def test_a_link_in_a_shard_is_no_member(tmp_path: Path):
    (tmp_path / "secret.jpg").write_bytes(b"not of this data")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.jpg")
        archive.addfile(link)
        words = tarfile.TarInfo("1.txt")
        words.size = 5
        archive.addfile(words, io.BytesIO(b"words"))
    (entry,) = entries(str(tmp_path / "a.tar"), "s")
    with pytest.raises(BrokenSample, match=r"s/1: 1\.jpg is a symbolic link in the tar: pack with --dereference"):
        entry.read()


@pytest.mark.parametrize(
    ("extension", "content", "said"),
    [
        ("json", b"{", "its json is not JSON: line 1"),
        ("json", b'{"caption": "a", "n": ' + b"9" * 5000 + b"}", "a whole number of 5,000 digits"),
        ("json", b'{"caption": "a", "caption": "b"}', "it has 'caption' twice"),
        ("json", b'["a"]', "its json holds a list, not an object"),
        ("txt", b"caf\xe9", "its txt is not in UTF-8"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(tmp_path: Path, extension: str, content: bytes, said: str):
    write_shard(tmp_path / "a.tar", {"0.png": image_bytes(0), f"0.{extension}": content})
    (entry,) = entries(str(tmp_path / "a.tar"), "a")
    with pytest.raises(BrokenSample, match=said) as caught:
        entry.read()
    assert str(caught.value).startswith("words: ")


@pytest.mark.parametrize("content", WRONG_FILES)
def test_what_stands_in_place_of_a_caption_is_no_caption(content: bytes):
    assert parse_record({"txt": content}) == ""
    assert explain_unreadable_record({"txt": content}).startswith(f"its txt {WRONG_FILES[content]}")
    assert explain_unreadable_record({"json": b"null"}) == "its json holds null, not an object"
