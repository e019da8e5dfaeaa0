"""Streamed data that are damaged, hostile or cannot be had, and what cannot be streamed: one line, nothing is lost."""

import io

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.image_facts import PLAIN
from cosmos_eval.datasets.stream.images import StreamedImage
from cosmos_eval.datasets.stream.source import StreamSource, parse_address
from tests.helpers.file_server import Handler, Request
from tests.helpers.hub_server import COMMIT
from tests.helpers.streamed_shards import (
    Batchwise,
    World,
    features,
    run,
)


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
