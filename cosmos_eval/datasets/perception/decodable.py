"""Which files are images that can be decoded to the end; those that an address from the web once gave often are not.

A file is decoded once in a process: a plan, a check and the reading of the data ask for it in turn.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.image_files import NotAnImage, max_pixels, open_image, orientation_of, to_rgb, turn
from cosmos_core.text_files import open_regular
from cosmos_eval.datasets.decoders import exif_is_applied
from cosmos_eval.progress import Reporter, after_a_while

WORKERS = 8
"""Threads that decode; decoders release the lock."""

_known: dict[tuple[str, int, int, bool, int], "Decoded"] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Decoded:
    """What came of decoding one file."""

    size: tuple[int, int] = (0, 0)
    """Width and height."""
    problem: str = ""
    """Why it cannot be shown, to be put behind its name."""


def decode_all(folder: Path, files: Mapping[str, str], reporter: Reporter) -> dict[str, Decoded]:
    """Decode every file of `files` (any key -> its name below the folder) in full, as the engine does; progress is
    shown where that takes longer than a person waits without wondering."""
    found = {}
    turned = exif_is_applied()  # threads have a context of their own
    with (
        after_a_while(reporter, "decoding images", len(files), "images") as advance,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        try:
            decoded = pool.map(lambda file: _decoded(folder / file, turned), files.values())
            for key, one in zip(files, decoded, strict=True):
                found[key] = one
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def _decoded(path: Path, turned: bool) -> Decoded:
    try:
        state = path.stat()
    except OSError:
        return Decoded(problem="is not there")
    key = (str(path), state.st_mtime_ns, state.st_size, turned, max_pixels())
    with _lock:
        known = _known.get(key)
    if known is None:
        known = _decode(path, turned)
        with _lock:
            _known[key] = known
    return known


def _decode(path: Path, turned: bool) -> Decoded:
    try:
        with open_regular(path) as file:
            image = open_image(file.read())
    except FileNotFoundError:
        return Decoded(problem="is not there")
    except NotAnImage:
        return Decoded(problem="is no image")
    except RequestError as error:
        return Decoded(problem=f"cannot be decoded: {error}")
    except Exception:  # dead addresses often answer with a page
        return Decoded(problem="is no image")
    with image:
        try:
            return Decoded(turn(to_rgb(image), orientation_of(image) if turned else 1).size)
        except RequestError as error:
            return Decoded(problem=f"cannot be decoded: {error}")
        except Exception:  # decoders raise whatever a broken file makes them stumble over
            return Decoded(problem="cannot be decoded to its end")
