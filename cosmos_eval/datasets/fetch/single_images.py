"""Images whose single addresses stand in a table, each of another server (SVO-Probes).

Nothing is known of these servers. Only public addresses are asked, each once; what is not an image is not kept; and
those that are gone are counted, since a number on the rest is not the number of a paper.
"""

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

from cosmos_core.errors import RequestError
from cosmos_core.image_files import decode_image
from cosmos_core.text_files import read_text
from cosmos_eval.datasets.fetch.addresses import is_private
from cosmos_eval.datasets.fetch.digesting import file_digests
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.manifest import ManifestFile
from cosmos_eval.datasets.fetch.transfer import Network, Remote, download
from cosmos_eval.progress import Reporter

COLUMNS = (("pos_image_id", "pos_url"), ("neg_image_id", "neg_url"))
"""Of SVO-Probes' table: the id of an image, which is its name on disk, and its address."""
MAX_TABLE_BYTES = 200 * 10**6
MAX_IMAGE_BYTES = 50 * 10**6
THREADS = 16
"""The addresses are of many servers, most of which are slow or gone."""
SECONDS = 15.0
DEAD = "dead.txt"


@dataclass(frozen=True)
class SingleImages:
    """What came of a table of addresses."""

    folder: Path
    files: tuple[ManifestFile, ...]
    dead: int
    """Addresses that gave no image."""


def fetch_single_images(table: Path, staging: Path, network: Network, reporter: Reporter) -> SingleImages:
    """Fetch each image of a table to `staging/images` as `<image id>.jpg`.

    After a kill, images that are there and addresses that were dead are not asked again.

    Raises:
        RequestError: the table is not there, or has not the columns.
        FetchError: kind "disk".
    """
    addresses = read_addresses(table)
    folder, dead_list = staging / "images", staging / DEAD
    folder.mkdir(parents=True, exist_ok=True)
    dead = set(dead_list.read_text(encoding="utf-8").split()) if dead_list.exists() else set()
    network = replace(network, timeout=min(network.timeout, SECONDS), max_bytes=MAX_IMAGE_BYTES)
    stop = Event()
    left = {name: url for name, url in addresses.items() if name not in dead and not (folder / f"{name}.jpg").exists()}
    with (
        ThreadPoolExecutor(THREADS, "fetch-image") as pool,
        reporter.task(f"images of {table.name}", len(addresses), "images") as advance,
        dead_list.open("a", encoding="utf-8") as dead_stream,
    ):
        advance(len(addresses) - len(left))
        futures = {
            pool.submit(fetch_image, url, folder / f"{name}.jpg", network, stop): name for name, url in left.items()
        }
        try:
            for future in as_completed(futures):
                if not future.result():
                    dead.add(futures[future])
                    dead_stream.write(f"{futures[future]}\n")
                    dead_stream.flush()
                advance(1, f"{len(dead):,} dead")
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise
    return SingleImages(folder, tuple(_manifest_files(folder, addresses)), len(dead))


def read_addresses(table: Path) -> dict[str, str]:
    """Image id -> address.

    Raises:
        RequestError: unreadable, no such columns, or an id that is not a number.
    """
    if not table.is_file():
        raise RequestError(f"{table} is not there, which has the addresses of the images; fetch it first")
    rows = csv.DictReader(io.StringIO(read_text(table, MAX_TABLE_BYTES), newline=""))
    addresses: dict[str, str] = {}
    for row in _rows(rows, table):
        for id_column, url_column in COLUMNS:
            name, url = row.get(id_column), row.get(url_column)
            if name is None or url is None:
                raise RequestError(f"{table} has no columns {id_column} and {url_column}; fetch it again")
            if not name.strip().isdecimal():
                raise RequestError(f"{table}:{rows.line_num}: {id_column} is {name!r:.40}, expected a number")
            addresses.setdefault(name.strip(), url.strip())
    return addresses


def _rows(reader: "csv.DictReader[str]", table: Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise RequestError(f"{table}:{reader.line_num}: {error}; fetch it again") from error


def fetch_image(url: str, path: Path, network: Network, stop: Event) -> bool:
    """Fetch one image; whether there is one.

    Raises:
        FetchError: kind "disk".
    """
    if stop.is_set() or not is_asked(url):
        return False
    unchecked = path.with_suffix(".unchecked")
    try:
        download(Remote(url), unchecked, network=network)
    except FetchError as error:
        if error.kind == "disk":
            raise
        return False
    try:
        decode_image(unchecked.read_bytes())
    except Exception:  # Pillow raises anything for what is damaged; also a page, or an image of too many pixels
        unchecked.unlink()
        return False
    unchecked.replace(path)
    return True


def is_asked(url: str) -> bool:
    """Whether an address is one of the public internet; redirects are looked at by `download`."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not is_private(url)
    except ValueError:
        return False


def _manifest_files(folder: Path, addresses: dict[str, str]) -> Iterator[ManifestFile]:
    for path in sorted(folder.iterdir()):
        if path.suffix == ".jpg":
            url = addresses.get(path.stem, "")
            yield ManifestFile(path.name, url, path.stat().st_size, file_digests(path, {}).sha256)
        elif path.is_dir():
            path.rmdir()
        else:
            path.unlink()  # what is not an image, and what was not received to its end
