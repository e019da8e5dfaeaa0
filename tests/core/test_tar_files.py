"""The strict reader of tars: it reads what tarfile reads, and refuses what is not a whole tar with its place."""

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from cosmos_core.data.samples import BrokenSample
from cosmos_core.data.shards import LostSamples, entries, find_lone_end_blocks
from cosmos_core.tar_files import LocalBytes, Member, StreamBytes, TarError, is_side_file, members
from tests.core.wrong_files import WRONG_FILES

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
NAMES = ["a.jpg", "a.txt", "a folder/b.jpg", "n" * 90 + "/" + "m" * 80 + ".txt", "ü名.txt"]


def tar(contents: dict[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def read(content: bytes) -> list[Member]:
    return list(members(StreamBytes(io.BytesIO(content))))


def fault(content: bytes, tmp_path: Path) -> str:
    """What is said of a tar, which is the same of a file and of a stream."""
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    said = []
    for source in (StreamBytes(io.BytesIO(content)), LocalBytes(path.open("rb"))):
        with pytest.raises(TarError) as caught:
            list(members(source))
        said.append(str(caught.value))
    assert "\n" not in said[0]
    return said[1]


def header(name: bytes, size: bytes, kind: bytes = b"0", checksum: bool = True) -> bytes:
    """A ustar header whose size field is anything."""
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0"))
    block += b"00000000000\0" + b" " * 8 + kind + bytes(100) + b"ustar\00000" + bytes(247)
    block += bytes(512 - len(block))
    block[148:156] = b"%06o\0 " % (sum(block) if checksum else 1)
    return bytes(block)


TWO = {"a.jpg": b"1" * 600, "a.txt": b"words"}  # headers at 0 and 1,536; the end at 2,560


@pytest.mark.parametrize("kind", FORMATS)
def test_members_are_those_of_tarfile(tmp_path: Path, kind: int):
    content = tar({name: name.encode() * 100 for name in NAMES}, kind)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        theirs = [Member(one.name, one.offset_data, one.size) for one in archive]
    (tmp_path / "a.tar").write_bytes(content)
    assert [member.name for member in theirs] == NAMES
    assert read(content) == theirs
    with (tmp_path / "a.tar").open("rb") as file:
        assert list(members(LocalBytes(file))) == theirs
    source = StreamBytes(io.BytesIO(content))
    assert [source.at(one.offset, one.size) for one in members(source)] == [name.encode() * 100 for name in NAMES]


def test_what_gnu_tar_writes_is_read(tmp_path: Path):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"1" * 600)
    (folder / "b.jpg").hardlink_to(folder / "a.jpg")
    (folder / "c.jpg").symlink_to("a.jpg")
    with (folder / "d.bin").open("wb") as file:
        file.truncate(2**20)
        file.seek(2**19)
        file.write(b"x")
    command = ["tar", "--sort=name", "--sparse", "-cf", str(tmp_path / "a.tar"), "-C", str(folder), "."]
    for form in ("gnu", "pax"):
        subprocess.run([*command, f"--format={form}"], check=True)
        with (tmp_path / "a.tar").open("rb") as file:
            found = {member.name.removeprefix("./"): member for member in members(LocalBytes(file))}
        kinds = {name: member.kind for name, member in found.items() if name}
        link = "a hard link" if found["b.jpg"].kind else ""  # whichever of the two comes second
        assert kinds["a.jpg"] == ""
        assert (kinds["b.jpg"], kinds["c.jpg"], kinds["d.bin"]) == (link, "a symbolic link", "sparse")
        assert "--hard-dereference" in found["b.jpg"].refusal()
        assert found["d.bin"].refusal().endswith("pack without --sparse")


def test_a_damaged_header_is_told_with_its_place(tmp_path: Path):
    content = bytearray(tar(TWO))
    content[1536 + 10] ^= 0x55
    assert "the header at byte 1,536 is damaged (its checksum is wrong)" in fault(bytes(content), tmp_path)


def test_an_end_without_its_mark_is_told(tmp_path: Path):
    whole = tar(TWO)
    assert "breaks off at byte 2,560, without the two empty blocks" in fault(whole[:2560], tmp_path)
    assert "breaks off at byte 1,536" in fault(whole[:1536], tmp_path)  # at a border of members
    assert "breaks off at byte 1,536" in fault(whole[:1600], tmp_path)  # within a header
    assert len(read(whole[: 2560 + 512])) == 2  # one empty block: nothing is lost
    assert len(read(whole[: 2560 + 700])) == 2
    (tmp_path / "a.tar").write_bytes(whole[:900])
    with (
        (tmp_path / "a.tar").open("rb") as file,
        pytest.raises(TarError, match=r"within a\.jpg \(at byte 512, 600 bytes"),
    ):
        list(members(LocalBytes(file)))


def test_an_end_with_one_empty_block_is_noted_once_as_gnu_tar_does(tmp_path: Path):
    whole = tar(TWO)
    path = tmp_path / "a.tar"
    for end in (2560 + 1, 2560 + 512, 2560 + 700):
        path.write_bytes(whole[:end])
        for source in (StreamBytes(io.BytesIO(whole[:end])), LocalBytes(path.open("rb"))):
            noted: list[int] = []
            assert len(list(members(source, noted.append))) == 2
            assert noted == [2560]
        assert find_lone_end_blocks([str(path)]) == [str(path)]
    listed = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=False)
    assert "A lone zero block at 6" in listed.stderr
    for content in (whole, whole[: 2560 + 1024], whole[:2560], gzip.compress(whole[: 2560 + 512]), b""):
        path.write_bytes(content)
        assert find_lone_end_blocks([str(path), str(tmp_path / "no.tar")]) == []
    whole_end: list[int] = []
    list(members(StreamBytes(io.BytesIO(whole[: 2560 + 1024])), whole_end.append))
    assert whole_end == []


def test_data_after_the_end_are_told(tmp_path: Path):
    assert "data follow the end of the archive, from byte 10,240 on" in fault(tar(TWO) + tar(TWO), tmp_path)
    assert "data follow the end" in fault(tar(TWO) + b"garbage", tmp_path)
    hole = tar(TWO)[:1536] + bytes(512) + tar(TWO)[2048:]  # a header that was never written
    assert "data follow the end of the archive, from byte 2,048 on" in fault(hole, tmp_path)
    assert "was never written to the end" in fault(tar(TWO) + bytes(2**21), tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header(b"a.jpg", b"-0000000512\0"), "it does not begin as a tar does"),
        (tar({"b": b""})[:512] + header(b"a.jpg", b"-0000000512\0"), "the header at byte 512 is damaged"),
        (tar({"b": b""})[:512] + header(b"a.jpg", b"\xff" * 11 + b"\0"), "its size is -"),
        (tar({"b": b""})[:512] + header(b"a.jpg", b"\x80" + b"\x7f" * 11), "within a.jpg"),
        (header(b"x", b"00000000017\0", b"x") + b"15 size=-00512\n".ljust(512, b"\0"), "gives the size '-00512'"),
        (header(b"x", b"00000000017\0", b"x") + b"99 size=512\n".ljust(512, b"\0"), "the pax header at byte 0"),
        (header(b"x", b"77777777777\0", b"x"), "bytes of names, which no writer makes"),
        (
            header(b"x", b"00000000013\0", b"g") + b"11 size=1\n\0".ljust(512, b"\0"),
            "the pax header at byte 0 is damaged",
        ),
        (header(b"x", b"00000000012\0", b"g") + b"10 size=1\n".ljust(512, b"\0"), "gives one name or size to all"),
        (tar({"b": b""})[:512] + header(b"../a.jpg", b"0"), "the name '../a.jpg' at byte 512 leads out"),
        (header(b"x", b"00000000012\0", b"L") + b"long-name".ljust(512, b"\0") + bytes(1024), "is damaged"),
    ],
)
def test_numbers_and_names_without_sense_are_told(tmp_path: Path, content: bytes, said: str):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with path.open("rb") as file, pytest.raises(TarError) as caught:
        list(members(LocalBytes(file)))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "it is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>" + b" " * 600, "it is an HTML page"),
        (gzip.compress(tar(TWO)), "it is compressed (gzip): unpack it first"),
        (b"PK\x03\x04" + bytes(600), "it is compressed (zip)"),
        (b"no tar at all" * 100, "it does not begin as a tar does"),
        *((content, f"it {said}") for content, said in WRONG_FILES.items()),
    ],
)
def test_what_is_no_tar_is_called_what_it_is(tmp_path: Path, content: bytes, said: str):
    assert said in fault(content, tmp_path)


def test_a_stream_that_ends_early_is_told_and_huge_sizes_take_no_memory():
    content = header(b"a.bin", b"\x80" + bytes(4) + b"\x7f" + bytes(6)) + b"x" * 5000
    with pytest.raises(TarError, match="breaks off"):
        read(content)
    (found,) = members_until_fault(content)
    assert found.refusal() == "has 35,747,322,042,253,312 bytes, more than 536,870,912"


def members_until_fault(content: bytes) -> list[Member]:
    found = []
    try:
        for member in members(StreamBytes(io.BytesIO(content))):
            found.append(member)
    except TarError:
        pass
    return found


def test_files_beside_the_data():
    assert all(
        map(is_side_file, ("__MACOSX/._a.jpg", "__MACOSX/d/a.jpg", "./._a.jpg", "d/.DS_Store", "__info__/x.json"))
    )
    assert not any(map(is_side_file, ("a.jpg", "./a.jpg", "__a.jpg", "d/__b__/a.jpg")))


# training's shards


def outcomes(url: str) -> list[str]:
    """The key of each sample of a shard, or why it cannot be used."""
    found = []
    for entry in entries(url, "s"):
        try:
            found.append(entry.read()[0])
        except BrokenSample as error:
            found.append(str(error))
    return found


def both(path: Path, content: bytes) -> list[list[str]]:
    """The outcomes of a file and of the same through a pipe."""
    path.write_bytes(content)
    return [outcomes(str(path)), outcomes(f"pipe:cat '{path}'")]


def test_gzip_shards_are_read_to_their_checksums(tmp_path: Path):
    packed = bytearray(gzip.compress(tar(TWO), mtime=0))
    assert both(tmp_path / "a.tar", bytes(packed)) == [["s/a"]] * 2
    half = len(tar(TWO)) // 2
    pieces = gzip.compress(tar(TWO)[:half]) + gzip.compress(tar(TWO)[half:])
    assert both(tmp_path / "a.tar", pieces) == [["s/a"]] * 2
    packed[-6] ^= 1
    for found in both(tmp_path / "a.tar", bytes(packed)):
        assert "CRC check failed" in found[-1]
    for found in both(tmp_path / "a.tar", gzip.compress(tar(TWO)) + b"garbage"):
        assert "cannot be read as a tar file" in found[-1]


def test_macos_files_folders_and_leading_dots_are_passed_over(tmp_path: Path):
    members_of = {
        "./": b"",
        "./._a.jpg": b"x",
        "./.DS_Store": b"x",
        "__MACOSX/._a.txt": b"x",
        "./a.jpg": b"1",
        "./a.txt": b"w",
    }
    assert both(tmp_path / "a.tar", tar(members_of)) == [["s/a"]] * 2


def test_members_that_stand_apart_are_told(tmp_path: Path):
    apart = {"a.jpg": b"1", "b.jpg": b"2", "a.txt": b"w", "b.txt": b"w", "c.jpg": b"3", "c.txt": b"w"}
    local, streamed = both(tmp_path / "a.tar", tar(apart))
    for found in (local[:4], streamed[2:4]):
        assert all("are not adjacent; pack them sorted by name (tar --sort=name)" in one for one in found)
    assert (local[4], streamed[4]) == ("s/c", "s/c")


def test_names_that_are_cut_at_a_dot_are_told(tmp_path: Path):
    cut = {f"im0.5_00{i}.{kind}": b"x" for i in range(3) for kind in ("jpg", "txt")}
    for found in both(tmp_path / "a.tar", tar(cut)):
        assert len(found) == 1
        assert "cut at the first dot (im0.5_000.jpg is sample im0), which loses 3 samples" in found[0]
    beside = {**TWO, "a.seg.png": b"map", "a.seg.json": b"{}"}  # of a sample that has an image of its own
    assert both(tmp_path / "a.tar", tar(beside)) == [["s/a"]] * 2
    assert "a.5.png is sample a" in both(tmp_path / "a.tar", tar({**TWO, "a.5.png": b"1", "a.5.txt": b"w"}))[0][1]


def test_samples_that_cannot_be_used_say_why(tmp_path: Path):
    content = tar(
        {"a.jpg": b"1", "a.cls": b"1", "b.jpg": b"1", "b.json": b'{"caption": null, "url": "u"}', "b.txt": b"w"}
    )
    for found in both(tmp_path / "a.tar", content):
        assert found == ["words: s/a: no member holds a caption (json or txt)", "s/b"]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("a.jpg", "a.jpg", "a.txt"):
            archive.addfile(tarfile.TarInfo(name))
    for found in both(tmp_path / "a.tar", stream.getvalue()):
        assert found == ["shard: s/a: a.jpg is in it twice"]


def test_a_shard_that_is_written_anew_while_it_is_read_breaks_its_samples(tmp_path: Path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar(TWO))
    (entry,) = entries(str(path), "s")
    path.write_bytes(tar({"b.jpg": b"2" * 600, "b.txt": b"other"}))
    os.utime(path, (0, 0))  # the clock of some file systems stands still for some milliseconds
    with pytest.raises(BrokenSample, match="changed after the run had read its index"):
        entry.read()


def test_a_broken_archive_still_gives_what_stands_before(tmp_path: Path):
    first = tar({**TWO, "b.jpg": b"2", "b.txt": b"w"})
    path = tmp_path / "a.tar"
    path.write_bytes(first + tar({"c.jpg": b"3", "c.txt": b"w"}))
    *whole, last = entries(str(path), "s", expected=2)
    assert [one.read()[0] for one in whole] == ["s/a"]
    assert isinstance(last, LostSamples)
    assert "data follow the end" in last.reason
