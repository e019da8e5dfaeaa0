"""Archives: what comes out of honest ones, and that hostile or damaged ones leave nothing and say why in one line."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosmos_eval.datasets.fetch import archive_members, unpack
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.moving import move_tree
from cosmos_eval.datasets.fetch.table import Unpack
from cosmos_eval.datasets.fetch.unpack import unpack_archive
from tests.helpers.fetch_sources import contents, tar_bytes, zip_bytes

FILES = {"top/a.txt": b"a" * 3000, "top/deep/b.txt": b"b", "other/c.png": b"c" * 10}


def unpacked(root: Path, content: bytes, rule: Unpack, name: str = "x.zip"):
    """Unpack below `root / "data"`; what is there afterwards."""
    archive = root / name
    archive.write_bytes(content)
    unpack_archive(archive, rule, root / "data", root / "data/.cosmos-eval/x", "0" * 64)
    return contents(root / "data")


def refusal(root: Path, content: bytes, rule: Unpack, kind: str = "archive", name: str = "x.zip") -> str:
    with pytest.raises(FetchError) as refused:
        unpacked(root, content, rule, name)
    assert refused.value.kind == kind, refused.value
    line = str(refused.value)
    assert "\n" not in line
    assert contents(root / "data") == {}
    if kind == "archive":
        assert not (root / "data/.cosmos-eval/x").exists()
    return line


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("zip", zip_bytes(FILES)),
        ("tar", tar_bytes(FILES)),
        ("tar", tar_bytes(FILES, "w:gz")),
        ("tar", tar_bytes(FILES, "w:bz2")),
        ("tar", tar_bytes(FILES, "w:xz")),
        ("nested", zip_bytes({"readme": b"x", "inner/all.tar.gz": tar_bytes(FILES, "w:gz")})),
    ],
    ids=["zip", "tar", "gz", "bz2", "xz", "nested"],
)
def test_every_format_gives_the_same_files(tmp_path, kind, content):
    only = ("inner/*.tar.gz",) if kind == "nested" else ()
    assert unpacked(tmp_path, content, Unpack(kind, "set", only)) == {
        f"set/{name}": body for name, body in FILES.items()
    }
    assert not (tmp_path / "data/.cosmos-eval/x").exists()


def test_a_gz_is_one_file_with_the_name_of_the_archive(tmp_path):
    content = gzip.compress(b"labels" * 100)
    assert unpacked(tmp_path, content, Unpack("gz", "raw"), "t10k-labels.gz") == {"raw/t10k-labels": b"labels" * 100}


def test_only_what_is_wanted_comes_out_and_nothing_of_macos(tmp_path):
    files = {**FILES, "__MACOSX/top/._a.txt": b"x", "top/._a.txt": b"x", "top/.DS_Store": b"x"}
    assert sorted(unpacked(tmp_path, zip_bytes(files), Unpack("zip", "."))) == sorted(FILES)
    (tmp_path / "2").mkdir()
    assert list(unpacked(tmp_path / "2", zip_bytes(files), Unpack("zip", ".", ("top/*.txt",)))) == [
        "top/a.txt",
        "top/deep/b.txt",
    ]
    (tmp_path / "3").mkdir()
    flat = unpacked(tmp_path / "3", tar_bytes(files), Unpack("tar", "images", ("*.txt",), flatten=True))
    assert flat == {"images/a.txt": b"a" * 3000, "images/b.txt": b"b"}


def test_files_that_are_there_stay_beside_new_ones(tmp_path):
    (tmp_path / "data/top").mkdir(parents=True)
    (tmp_path / "data/top/mine.txt").write_bytes(b"mine")
    assert unpacked(tmp_path, zip_bytes(FILES), Unpack("zip")) == {**FILES, "top/mine.txt": b"mine"}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "C:\\x", "..\\x", "a\\..\\..\\x"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_leaves_its_folder_is_refused(tmp_path, kind, name):
    pack = zip_bytes if kind == "zip" else tar_bytes
    line = refusal(tmp_path, pack({"good/a": b"a", name: b"x"}), Unpack(kind, "set", ("good/*",)))
    assert "out of" in line
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["x.zip"]


def test_a_member_in_the_folder_of_the_manifest_is_refused(tmp_path):
    for name in (".cosmos-eval/fetched.json", "a/.Cosmos-Eval/x"):
        line = refusal(tmp_path, zip_bytes({"good/a": b"a", name: b"x"}), Unpack("zip"))
        assert "in the folder that only fetching writes to" in line


def tar_of(*members: tuple[str, bytes, dict[str, object]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content, fields in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in fields.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("link", "target"),
    [("link", "/etc/passwd"), ("link", "../../secret"), ("a/b/link", "../../../secret"), ("link", "")],
)
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_out_of_a_tar_is_refused(tmp_path, link, target, kind):
    content = tar_of(("a/file", b"x", {}), (link, b"", {"type": kind, "linkname": target}))
    assert "leads out of its folder" in refusal(tmp_path, content, Unpack("tar"))


def test_a_link_within_an_archive_becomes_a_copy(tmp_path):
    content = tar_of(
        ("a/file", b"x", {}),
        ("a/soft", b"", {"type": tarfile.SYMTYPE, "linkname": "../a/file"}),
        ("b/hard", b"", {"type": tarfile.LNKTYPE, "linkname": "a/file"}),
    )
    assert unpacked(tmp_path, content, Unpack("tar")) == {"a/file": b"x", "a/soft": b"x", "b/hard": b"x"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    missing = tar_of(("soft", b"", {"type": tarfile.SYMTYPE, "linkname": "nothing"}))
    (tmp_path / "2").mkdir()
    assert "which it does not have" in refusal(tmp_path / "2", missing, Unpack("tar"))


def test_a_file_below_a_link_is_not_written_through_it(tmp_path):
    content = tar_of(
        ("out", b"", {"type": tarfile.SYMTYPE, "linkname": "elsewhere"}),
        ("out/file", b"x", {}),
        ("elsewhere/kept", b"y", {}),
    )
    line = refusal(tmp_path, content, Unpack("tar"))
    assert "out" in line


def zip_with(name: str, content: bytes, mode: int = 0, encrypted: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content)
    packed = bytearray(stream.getvalue())
    if encrypted:
        packed[6] |= 1
        packed[packed.index(b"PK\1\2") + 8] |= 1
    return bytes(packed)


def test_links_devices_and_encryption_in_a_zip_are_refused(tmp_path):
    assert "leads out" in refusal(tmp_path, zip_with("l", b"/etc/passwd", stat.S_IFLNK | 0o777), Unpack("zip"))
    assert "is not a file" in refusal(tmp_path, zip_with("d", b"", stat.S_IFBLK | 0o666), Unpack("zip"))
    assert "is encrypted" in refusal(tmp_path, zip_with("e", b"x" * 20, encrypted=True), Unpack("zip"))
    pipe = tar_of(("p", b"", {"type": tarfile.FIFOTYPE}))
    assert "a named pipe" in refusal(tmp_path, pipe, Unpack("tar"))
    device = tar_of(("p", b"", {"type": tarfile.CHRTYPE}))
    assert "a device" in refusal(tmp_path, device, Unpack("tar"))


def test_a_bomb_is_refused_by_what_it_says_and_by_what_comes_out(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_members, "ALLOWANCE", 10_000)
    zeros = bytes(5_000_000)
    for name, kind, content in (
        ("x.zip", "zip", zip_bytes({"zeros": zeros})),
        ("x.tgz", "tar", tar_bytes({"zeros": zeros}, "w:gz")),
        ("x.gz", "gz", gzip.compress(zeros)),
    ):
        assert "times its size" in refusal(tmp_path, content, Unpack(kind), name=name)
    # a zip that lies about its size: Python's zipfile gives no more than was announced, and then the checksum is wrong
    lying = bytearray(zip_bytes({"zeros": zeros}))
    entry = lying.index(b"PK\1\2")
    lying[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    assert "is damaged" in refusal(tmp_path, bytes(lying), Unpack("zip"))
    unwanted = tar_bytes({"zeros": zeros, "a": b"a"}, "w:gz")
    assert "times its size" in refusal(tmp_path, unwanted, Unpack("tar", only=("a",)))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_that_is_cut_short_anywhere_is_refused(tmp_path, mode):
    noise = {f"n/{i}": os.urandom(700) for i in range(5)}
    whole = tar_bytes(noise, mode)
    for end in range(1, len(whole) - (9000 if mode == "w" else 0), max(1, len(whole) // 9)):
        assert "damaged" in refusal(tmp_path, whole[:end], Unpack("tar"))


def test_a_damaged_zip_is_refused(tmp_path):
    whole = zip_bytes({"a": os.urandom(5000)})
    assert "damaged" in refusal(tmp_path, whole[:-30], Unpack("zip"))
    flipped = bytearray(whole)
    flipped[2000] ^= 1
    assert "damaged" in refusal(tmp_path, bytes(flipped), Unpack("zip"))
    assert "damaged" in refusal(tmp_path, b"<html>", Unpack("zip"))
    assert "damaged" in refusal(tmp_path, b"", Unpack("tar"))
    assert "has no member nothing/*" in refusal(tmp_path, whole, Unpack("zip", only=("nothing/*",)))
    assert "is empty" in refusal(tmp_path, zip_bytes({}), Unpack("zip"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_for_one_file_are_refused(tmp_path):
    flat = zip_bytes({"a/1.jpg": b"a", "b/1.jpg": b"b"})
    assert "two members for 1.jpg" in refusal(tmp_path, flat, Unpack("zip", flatten=True))
    both = tar_of(("x", b"1", {}), ("x/y", b"2", {}))
    assert "a file and a folder of one name" in refusal(tmp_path, both, Unpack("tar"))
    long = tar_of(("n" * 300, b"1", {}))
    assert "name that is too long" in refusal(tmp_path, long, Unpack("tar"))


def test_a_full_disk_is_told_before_a_zip_is_unpacked(tmp_path, monkeypatch):
    usage = unpack.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert "make room" in refusal(tmp_path, zip_bytes(FILES), Unpack("zip"), "disk")


def test_after_a_kill_whole_files_are_kept_and_another_archive_starts_anew(tmp_path, monkeypatch):
    archive, staging = tmp_path / "x.zip", tmp_path / "data/.cosmos-eval/x"
    archive.write_bytes(zip_bytes(FILES))
    write, calls = unpack._write_member, []

    def killed_at_the_third(member, path, unfinished, reader):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(path.name)
        return write(member, path, unfinished, reader)

    monkeypatch.setattr(unpack, "_write_member", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        unpack_archive(archive, Unpack("zip"), tmp_path / "data", staging, "1" * 64)
    monkeypatch.undo()
    assert contents(tmp_path / "data") == {}
    first = staging / "files/top/a.txt"
    identity = first.stat().st_ino
    unpack_archive(archive, Unpack("zip"), tmp_path / "data", staging, "1" * 64)
    assert contents(tmp_path / "data") == FILES
    assert (tmp_path / "data/top/a.txt").stat().st_ino == identity  # kept, not written again
    (tmp_path / "2").mkdir()
    (staging / "files/stale").mkdir(parents=True)
    (staging / "state.json").write_text('{"archive": "1"}')
    unpack_archive(archive, Unpack("zip"), tmp_path / "2", staging, "2" * 64)
    assert contents(tmp_path / "2") == FILES


def test_a_kill_between_two_moves_loses_nothing(tmp_path, monkeypatch):
    archive, staging = tmp_path / "x.zip", tmp_path / "data/.cosmos-eval/x"
    archive.write_bytes(zip_bytes(FILES))
    (tmp_path / "data").mkdir()
    moves = []

    def killed(source, target):
        if len(moves) == 1:
            raise KeyboardInterrupt
        moves.append(target)
        return move_tree(source, target)

    monkeypatch.setattr("cosmos_eval.datasets.fetch.moving.move_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        unpack_archive(archive, Unpack("zip"), tmp_path / "data", staging, "1" * 64)
    monkeypatch.undo()
    archive.unlink()  # everything is in the staging folder already
    archive.write_bytes(b"")
    unpack_archive(archive, Unpack("zip"), tmp_path / "data", staging, "1" * 64)
    assert contents(tmp_path / "data") == FILES


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/top").write_bytes(b"mine")
    with pytest.raises(FetchError, match="in the way") as refused:
        unpacked(tmp_path, zip_bytes(FILES), Unpack("zip"))
    assert refused.value.kind == "disk"
    assert (tmp_path / "data/top").read_bytes() == b"mine"


def test_moving_to_another_disk_copies_beside_the_target_first(tmp_path, monkeypatch):
    import errno

    source, target = tmp_path / "source", tmp_path / "target/set"
    (source / "deep").mkdir(parents=True)
    (source / "deep/a").write_bytes(b"a")
    replace = Path.replace

    def other_disk(self, to):
        if self.is_relative_to(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", other_disk)
    move_tree(source, target)
    assert contents(target) == {"deep/a": b"a"}
    assert sorted(path.name for path in target.parent.iterdir()) == ["set"]
    assert not source.exists()


@settings(max_examples=60, deadline=None)
@example(position=342, value=1, kind="zip")  # an offset before the file, to which nothing can seek
@example(position=546, value=0, kind="zip")  # a member without a name, for which zipfile raises an IndexError
@given(
    position=st.integers(0, 4000),
    value=st.integers(0, 255),
    kind=st.sampled_from(["zip", "tar", "tgz", "nested"]),
)
def test_any_changed_byte_gives_the_files_or_one_line(tmp_path_factory, position, value, kind):
    root = tmp_path_factory.mktemp("changed")
    inner = tar_bytes(FILES, "w:gz")
    packed = {"zip": zip_bytes(FILES), "tar": tar_bytes(FILES), "tgz": inner, "nested": zip_bytes({"i.tgz": inner})}
    content = bytearray(packed[kind])
    content[position % len(content)] = value
    rule = Unpack({"tgz": "tar"}.get(kind, kind), only=("i.tgz",) if kind == "nested" else ())
    failure: FetchError | None = None
    files: dict[str, bytes] = {}
    try:
        files = unpacked(root, bytes(content), rule)
    except FetchError as error:
        failure = error
    if failure is not None:
        assert "\n" not in str(failure)
        assert failure.kind == "archive"
        assert contents(root / "data") == {}
    assert all(".." not in name for name in files)
    assert not [path for path in root.iterdir() if path.name not in ("data", "x.zip")]
