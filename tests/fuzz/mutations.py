"""What happens to files: on disks, in transfers, in editors, and by intent. Equal for equal generators."""

import random
import re
from collections.abc import Callable

Mutation = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    b"-1", b"0", b"1e999", b"-1e999", b"NaN", b"Infinity", b".inf", b"1.5", b"4294967296", b"9" * 20, b"9" * 300,
    b"9" * 301, b"9" * 5000, b"0x1F", b"1_000", b"'7'", b"true", b"null",
)  # fmt: skip
VALUES = (
    b"null", b"true", b"[]", b"{}", b'""', b"3", b'["a", ["b"]]', b'{"a": {"b": 1}}', b"2024-13-45", b"2024-01-01",
    b'"\\ud800"', b'"\\u0000"', b"*a", b"!!python/name:os.system", b"~", b"- - -",
)  # fmt: skip
WHOLE = (
    b"", b"\0" * 64, b"\xef\xbb\xbf", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    b"<!DOCTYPE html><html><title>404</title></html>", b"[" * 50_000, b'{"a":' * 50_000, b"- " * 3_000, b"null", b"[]",
    b"{}", b"0", b"a: &a [*a]\n", b"PK\x03\x04", b"\x80\x04.", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff",
    b"\n".join(b"%c: &%c [%s]" % (c + 1, c + 1, b", ".join([b"*%c" % c] * 10)) for c in range(97, 106)),
)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_PAIR = re.compile(rb'"(?:[^"\\]|\\.)*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|-?[\d.]+)\s*,')
_LINE = re.compile(rb"(?m)^[ ]*[\w.]+:.*\n")
_STRING = re.compile(rb'"(?:[^"\\\n]|\\.)*"|: [^\n{\[]+')


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8)) if content else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def replace_bytes(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.choice((1, 2, 4, 16))) + content[at + rng.choice((0, 1, 4, 16)) :]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def splice(content: bytes, rng: random.Random) -> bytes:
    """A piece of the file at another place of it, as blocks of a disk that were mixed up."""
    start, to = rng.randrange(len(content) + 1), rng.randrange(len(content) + 1)
    piece = content[start : start + rng.choice((4, 64, 512))]
    return content[:to] + piece + content[to + rng.choice((0, len(piece))) :]


def zero(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    length = rng.choice((1, 16, 512))
    return content[:at] + bytes(len(content[at : at + length])) + content[at + length :]


def append(content: bytes, rng: random.Random) -> bytes:
    return content + rng.choice((b"\0", b"\n", content, rng.randbytes(64)))


def inflate_number(content: bytes, rng: random.Random) -> bytes:
    return _swap(_NUMBER, content, rng, NUMBERS)


def swap_type(content: bytes, rng: random.Random) -> bytes:
    return _swap(_STRING, content, rng, VALUES)


def nest(content: bytes, rng: random.Random) -> bytes:
    """A value in many brackets."""
    depth = rng.choice((2, 90, 99, 101, 900, 20_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return _swap(_STRING, content, rng, (opening * depth + b"1" + closing * depth,))


def repeat_key(content: bytes, rng: random.Random) -> bytes:
    pairs = list(_PAIR.finditer(content)) or list(_LINE.finditer(content))
    if not pairs:
        return flip_bits(content, rng)
    pair = rng.choice(pairs)
    return content[: pair.end()] + pair[0] + content[pair.end() :]


def other_content(content: bytes, rng: random.Random) -> bytes:
    return rng.choice((*WHOLE, rng.randbytes(rng.choice((1, 64, 4096))), b"\xef\xbb\xbf" + content))


def other_encoding(content: bytes, rng: random.Random) -> bytes:
    return content.decode("latin-1").encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig")))


def _swap(pattern: re.Pattern[bytes], content: bytes, rng: random.Random, by: tuple[bytes, ...]) -> bytes:
    places = list(pattern.finditer(content))
    if not places:
        return flip_bits(content, rng)
    place = rng.choice(places)
    return content[: place.start()] + rng.choice(by) + content[place.end() :]


BINARY: tuple[Mutation, ...] = (flip_bits, flip_bits, replace_bytes, cut, splice, zero, append, other_content)
TEXT: tuple[Mutation, ...] = (
    *BINARY, inflate_number, inflate_number, swap_type, swap_type, nest, repeat_key, other_encoding,
)  # fmt: skip


def mutate(content: bytes, rng: random.Random, is_text: bool) -> tuple[str, bytes]:
    """The name of what happened, and the file after it."""
    mutation = rng.choice(TEXT if is_text else BINARY)
    return mutation.__name__, mutation(content, rng)
