"""Find out which image files can be decoded completely; files downloaded from old web addresses often cannot.

A file is decoded once in a process: the plan, the check and the reader need the result one after the other.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.image_files import NotAnImage, max_pixels, open_image, orientation_of, to_rgb, turn
from cosmos_core.text_files import open_regular
from cosmos_eval.datasets.decoders import is_exif_applied
from cosmos_eval.progress import Reporter, report_if_slow

WORKERS = 8
"""Threads that decode; decoders release Python's global lock."""

_results: dict[tuple[str, int, int, bool, int], "DecodingResult"] = {}
"""(path, time of change, size, whether EXIF is applied, limit of pixels) -> result."""
_lock = threading.Lock()


@dataclass(frozen=True)
class DecodingResult:
    """The result of decoding one file."""

    size: tuple[int, int] = (0, 0)
    """Width and height."""
    problem: str = ""
    """Why it cannot be used, as the end of a sentence that begins with the file's name; empty if it can."""


def decode_all(folder: Path, files: Mapping[str, str], reporter: Reporter) -> dict[str, DecodingResult]:
    """Decode every file completely, as the engine does; progress is shown if it takes more than a moment.

    Args:
        files: any key -> path below the folder.

    Returns:
        The same keys -> result.
    """
    results = {}
    turned = is_exif_applied()  # a context variable, which threads do not inherit
    with (
        report_if_slow(reporter, "decoding images", len(files), "images") as advance,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        try:
            decoded = pool.map(lambda file: _decode_once(folder / file, turned), files.values())
            for key, result in zip(files, decoded, strict=True):
                results[key] = result
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)
    return results


def _decode_once(path: Path, turned: bool) -> DecodingResult:
    """Return the stored result for the file, or decode it if there is none or the file has changed."""
    try:
        status = path.stat()
    except OSError:
        return DecodingResult(problem="does not exist")
    key = (str(path), status.st_mtime_ns, status.st_size, turned, max_pixels())
    with _lock:
        result = _results.get(key)
    if result is None:
        result = _decode(path, turned)
        with _lock:
            _results[key] = result
    return result


def _decode(path: Path, turned: bool) -> DecodingResult:
    try:
        with open_regular(path) as file:
            image = open_image(file.read())
    except FileNotFoundError:
        return DecodingResult(problem="does not exist")
    except NotAnImage:
        return DecodingResult(problem="is not an image")
    except RequestError as error:
        return DecodingResult(problem=f"cannot be decoded: {error}")
    except Exception:  # for a removed image, servers often answer with an HTML page
        return DecodingResult(problem="is not an image")
    with image:
        try:
            return DecodingResult(turn(to_rgb(image), orientation_of(image) if turned else 1).size)
        except RequestError as error:
            return DecodingResult(problem=f"cannot be decoded: {error}")
        except Exception:  # decoders raise anything for damaged files
            return DecodingResult(problem="cannot be decoded to its end")
