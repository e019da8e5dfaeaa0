"""Fetched files that no reader reads as they are: ImageNet's validation images in parquet, FER2013 in shards.

The images are written as their bytes are, into the folders that the publisher's own archive makes, so that the readers,
and with them the fingerprints and numbers, are those of the original layout.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cosmos_core.printable import plural
from cosmos_core.tar_files import MOST_CONTENT, LocalBytes, TarError, is_side_file, members
from cosmos_core.text_files import parse_integer, read_lines
from cosmos_eval.datasets.dataset_checks import is_outside_folder
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.table import Artifact
from cosmos_eval.datasets.fetch.transfer import Fetched
from cosmos_eval.datasets.fetch.unpack import CHECK_EVERY, Unpacked, complete_in_staging, require_room
from cosmos_eval.progress import Reporter, report_if_slow

MOST_ROWS = 10_000_000
MOST_IMAGE_BYTES = 64 * 10**6
MOST_ROW_GROUP_BYTES = 4 * 10**9
"""Uncompressed; the hub's own converter makes row groups of 100 to 1,000 images."""
ROWS_AT_ONCE = 64
JPEG = b"\xff\xd8\xff"
IMAGE_STARTS = (JPEG, b"\x89PNG\r\n\x1a\n", b"RIFF")
VALIDATION_NAME = re.compile(r"(ILSVRC2012_val_\d{8})(?:_(n\d{8}))?\.JPEG")
"""The hub's copy has the wnid in the names of files; the publisher's archive has not."""
Converted = tuple[PurePosixPath, bytes]
"""Path below the converted folder, content."""


def convert(
    name: str,
    files: Sequence[Fetched],
    artifact: Artifact,
    data_root: Path,
    staging: Path,
    before_move: Callable[[], None],
    reporter: Reporter,
) -> Unpacked:
    """Convert fetched files to what an artifact provides.

    Args:
        name: one of `cosmos_eval.datasets.fetch.table.CONVERSIONS`.
        staging: a folder of this artifact's own for what is not complete.
        before_move: called when all was converted, before a file is where readers look.

    Raises:
        FetchError: kind "archive": not what is expected; nothing of it is where a reader looks. Kind "disk".
    """
    conversions: dict[str, tuple[Callable[..., Iterator[Converted]], Path]] = {
        "imagenet-parquet": (imagenet_images, data_root / artifact.provides[0]),
        "fer2013-shards": (fer2013_images, (data_root / artifact.provides[0]).parent),
    }
    read, target = conversions[name]
    digest = hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest()
    total = sum(file.size for file in files)

    def write(folder: Path) -> Unpacked:
        images = read([file.path for file in files], artifact)
        return _write_all(images, folder, total, artifact.name, reporter)

    return complete_in_staging(staging, digest, target, write, before_move)


def _write_all(images: Iterator[Converted], folder: Path, total: int, name: str, reporter: Reporter) -> Unpacked:
    count, size, until_check, shown = 0, 0, 0, 0
    unfinished = folder.parent / "unfinished"
    with report_if_slow(reporter, f"converting {name}", max(1, total // 10**6), "MB") as advance:
        for path, content in images:
            if until_check <= 0:
                require_room(folder, len(content))
                until_check = CHECK_EVERY
            place = folder / path
            if not (place.is_file() and place.stat().st_size == len(content)):
                place.parent.mkdir(parents=True, exist_ok=True)
                unfinished.write_bytes(content)
                unfinished.replace(place)
            count, size, until_check = count + 1, size + len(content), until_check - len(content)
            if size // 10**6 > shown:
                advance(size // 10**6 - shown)
                shown = size // 10**6
    if not count:
        raise FetchError("archive", f"{name}: the files that were fetched hold no images; fetch from another source")
    return Unpacked(count, size)


def imagenet_images(paths: Sequence[Path], artifact: Artifact) -> Iterator[Converted]:
    """`<wnid>/ILSVRC2012_val_<number>.JPEG` of parquet files with the columns `image` (bytes, path) and `label`.

    Labels are indices in the order of the sorted wnids. Where the name of a file has its wnid, the two must agree: a
    copy in another order would give wrong folders, and numbers of chance.
    """
    from cosmos_eval.datasets.imagenet import imagenet_wnids

    wnids = imagenet_wnids()
    seen: set[str] = set()
    for path in paths:
        for row, (image, label) in enumerate(_parquet_rows(path)):
            where = f"{path.name}, row {row:,}"
            content, name = (image or {}).get("bytes"), str((image or {}).get("path") or "")
            match = VALIDATION_NAME.fullmatch(PurePosixPath(name).name)
            if not isinstance(content, bytes) or not content.startswith(IMAGE_STARTS):
                raise _refuse(where, "has no image")
            if len(content) > MOST_IMAGE_BYTES:
                raise _refuse(where, f"has an image of {len(content):,} bytes")
            if match is None:
                raise _refuse(where, f"names its image {name!r:.80}, not ILSVRC2012_val_00000001_n01751748.JPEG")
            if not isinstance(label, int) or not 0 <= label < len(wnids):
                raise _refuse(where, f"has the label {label!r:.20}, not 0 to {len(wnids) - 1}")
            if match[2] and match[2] != wnids[label]:
                raise _refuse(where, f"has the label {label} ({wnids[label]}) for {name}: labels in another order")
            if match[1] in seen:
                raise _refuse(where, f"has {match[1]} a second time")
            seen.add(match[1])
            yield PurePosixPath(wnids[label], f"{match[1]}.JPEG"), content


def _parquet_rows(path: Path) -> Iterator[tuple[Any, Any]]:
    """(image, label) of each row, a few at a time."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            if file.metadata.num_rows > MOST_ROWS:
                raise _refuse(path.name, f"has {plural(file.metadata.num_rows, 'row')}")
            for i in range(file.num_row_groups):
                size = file.metadata.row_group(i).total_byte_size
                if size > MOST_ROW_GROUP_BYTES:
                    raise _refuse(path.name, f"has a row group of {size:,} bytes")
            missing = {"image", "label"} - set(file.schema_arrow.names)
            if missing:
                raise _refuse(path.name, f"has no column {' or '.join(sorted(missing))}")
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=["image", "label"]):
                yield from zip(batch.column("image").to_pylist(), batch.column("label").to_pylist(), strict=True)
    except FetchError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _refuse(path.name, f"is damaged: {' '.join(str(error).split())[:150]}") from error


def fer2013_images(paths: Sequence[Path], artifact: Artifact) -> Iterator[Converted]:
    """`<class>/<sample>.<ending>` of shards with an image and a `.cls` for each sample.

    Class indices are in the order of the sorted folders, as the reader of class folders counts them; a list of class
    names beside the shards must agree with it.
    """
    classes = sorted(PurePosixPath(path).name for path in artifact.provides)
    for path in paths:
        if path.name == "classnames.txt":
            _check_class_names(read_lines(path), classes, path.name)
    seen: set[str] = set()
    for path in sorted((path for path in paths if path.suffix == ".tar"), key=_shard_number):
        for name, ending, label, content in _shard_samples(path):
            index = parse_integer(label.strip())
            if index is None or not 0 <= index < len(classes):
                raise _refuse(path.name, f"has the label {label!r:.20} for {name}, not 0 to {len(classes) - 1}")
            unique = f"{path.stem}-{name.replace('/', '-')}.{ending}"
            if unique in seen or is_outside_folder(unique):
                raise _refuse(path.name, f"has the sample {unique!r:.80} twice, or with an impossible name")
            seen.add(unique)
            yield PurePosixPath(classes[index], unique), content


def _check_class_names(names: Sequence[str], classes: Sequence[str], where: str) -> None:
    """`disgusted` is the class `disgust`: other words for one class begin alike."""
    named = [name.strip().lower() for name in names if name.strip()]
    if len(named) != len(classes) or any(a[:3] != b[:3] for a, b in zip(named, classes, strict=True)):
        raise _refuse(where, f"names the classes {', '.join(named)[:100]}, expected {', '.join(classes)}")


def _shard_samples(path: Path) -> Iterator[tuple[str, str, str, bytes]]:
    """(name, ending, label, image) of each sample of a shard."""
    try:
        with path.open("rb") as file:
            source = LocalBytes(file)
            name, image, label = "", None, None
            for member in members(source):
                if member.kind == "a folder" or is_side_file(member.name):
                    continue
                if member.refusal() or member.size > min(MOST_IMAGE_BYTES, MOST_CONTENT):
                    raise _refuse(path.name, f"has {member.name[:80]!r}, which is not an image of a dataset")
                stem, _, ending = member.name.partition(".")
                if stem != name:
                    name, image, label = stem, None, None
                content = source.at(member.offset, member.size)
                if ending == "cls":
                    label = content.decode("utf-8", "replace")
                elif content.startswith(IMAGE_STARTS):
                    image = (ending, content)
                if image is not None and label is not None:
                    yield name, image[0], label, image[1]
                    image = label = None
    except TarError as error:
        raise _refuse(path.name, f"is damaged: {error}") from error


def _shard_number(path: Path) -> tuple[int, str]:
    return (int(path.stem), "") if path.stem.isdecimal() else (0, path.stem)


def _refuse(where: str, problem: str) -> FetchError:
    return FetchError("archive", f"{where} {problem}; nothing of it was used, fetch it from another source")
