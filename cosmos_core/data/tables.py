"""Tables of pictures and captions on disk: CSV and TSV files, and COCO's caption annotations."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmos_core.data.samples import Sample
from cosmos_core.data.shard_samples import PICTURES
from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_core.printable import one_line, printable
from cosmos_core.short_repr import short_list
from cosmos_core.tar_files import compression
from cosmos_core.text_files import impostor_of, open_regular

NO_ROWS = "{} has a header and no rows; give a table with samples"


class Table(Sequence[Sample]):
    """Rows of (key, path of a picture, captions), pictures left unread until they are drawn."""

    def __init__(
        self,
        name: str,
        folder: Path,
        pictures: Any,
        captions: Any,
        keys: Sequence[str] | None = None,
        path: Path | None = None,
    ) -> None:
        self.path = path
        """The file that holds the rows."""
        self.name, self.folder, self.pictures, self.captions, self.keys = name, folder, pictures, captions, keys

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: Any) -> Any:
        picture, caption = plain(self.pictures[place]), plain(self.captions[place])
        key = f"{self.name}/{self.keys[place] if self.keys is not None else place + 1}"
        return key, self.folder / picture if picture else None, caption


def plain(value: Any) -> Any:
    """A value of an Arrow column as Python's."""
    return value.as_py() if hasattr(value, "as_py") else value


def csv_pairs(path: Path, image: str, caption: str) -> Table:
    """A CSV file, or a TSV file by its name: one sample a row, keyed by file name and row number (from 1).

    Args:
        image: column of the picture's path, absolute or relative to the file's folder.
        caption: column of the caption.

    Raises:
        RequestError: no such file or column, or a file that is not a table in UTF-8.
    """
    import pyarrow
    from pyarrow import csv as arrow

    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        refuse_other_formats(path)
        header = first_line(path, delimiter)
        twice = [name for name in (image, caption) if header.count(name) > 1]
        if twice:
            raise RequestError(f"{path} has the column {twice[0]!r} twice; leave one of them")
        table = arrow.read_csv(
            path,
            parse_options=arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow.ConvertOptions(
                column_types={image: pyarrow.string(), caption: pyarrow.string()},
                include_columns=list(dict.fromkeys([image, caption])),
                strings_can_be_null=False,
            ),
        )
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error
    except pyarrow.ArrowException as error:
        missing = [name for name in (image, caption) if name not in header]
        if missing:
            it_has = (
                f"it has {printable(short_list(header))}: set csv_image and csv_caption" if header else "it is empty"
            )
            raise RequestError(f"{path} has no column {missing[0]!r}; {it_has}") from error
        if not has_more_lines(path, 1):
            raise RequestError(NO_ROWS.format(path)) from error
        refuse_open_quotes(path, delimiter, image)
        raise RequestError(f"{path} is not a table: {one_line(error)}") from error
    if not table.num_rows:
        raise RequestError(NO_ROWS.format(path))
    if has_more_lines(path, table.num_rows + 1):
        refuse_open_quotes(path, delimiter, image)
    return Table(path.name, path.parent, table[image].combine_chunks(), table[caption].combine_chunks(), path=path)


def refuse_other_formats(path: Path) -> None:
    """RequestError for a file that is no text in UTF-8 by its first bytes, which would be told as an odd header."""
    with open_regular(path) as file:  # arrow would wait for ever for what a named pipe never brings
        start = file.read(1024)
    if impostor := impostor_of(start):
        raise RequestError(f"{path} is {impostor}")
    if packed := compression(start):
        raise RequestError(f"{path} is compressed ({packed}): unpack it first")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start:
        raise RequestError(f"{path} is not a text file in UTF-8 (UTF-16, perhaps); save it as UTF-8")


def has_more_lines(path: Path, rows: int) -> bool:
    """Whether a file has more lines than it gave rows, its header among them: then some row has several lines."""
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(2**20), b"")) > rows


def refuse_open_quotes(path: Path, delimiter: str, image: str) -> None:
    """RequestError where a quote takes whole rows into one cell: it is part of a caption, and nobody doubled it.

    A cell in quotes may have several lines. They are taken for rows where the quote never closes, where they have tabs
    (in a TSV file), or where they have as many cells as the header and the file of an image among them.
    """
    begun = 1
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            header = next(reader, [])
            place = header.index(image) if image in header else 0
            begun = reader.line_num + 1
            for row in reader:
                inner = [line for cell in row if "\n" in cell for line in cell.splitlines()[1:]]
                cells = [line.split(delimiter) for line in inner]
                swallowed = any(len(own) == len(header) and is_image_file(own[place]) for own in cells)
                if swallowed or (delimiter == "\t" and any(len(own) > 1 for own in cells)):
                    raise RequestError(
                        f"{path}: a quote that opens in line {begun} does not close there and takes all up to line "
                        f"{reader.line_num} into one cell: write the cell in quotes, and a quote in it twice"
                    )
                begun = reader.line_num + 1
        except csv.Error as error:
            raise RequestError(
                f"{path}: a quote that opens in line {begun} does not close ({error}): write the cell in quotes, and a "
                "quote in it twice"
            ) from error


def is_image_file(cell: str) -> bool:
    return Path(cell.strip()).suffix.lower().lstrip(".") in (*PICTURES, "gif", "bmp", "tif", "tiff")


def first_line(path: Path, delimiter: str) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            return next(csv.reader(file, delimiter=delimiter), [])
        except csv.Error:  # a cell of more than 128 KiB: no header
            return []


def coco_captions(annotations: Path, folder: Path) -> Table:
    """COCO's caption annotations: one sample a picture that has captions, all of them as one record.

    Raises:
        RequestError: no such file or folder, or a file of another layout.
    """
    if not folder.is_dir():
        raise RequestError(f"training data coco:{annotations},{folder}: no folder {folder}")
    try:
        content = read_json(annotations)
        names = {picture["id"]: str(picture["file_name"]) for picture in content["images"]}
        captions: dict[Any, list[str]] = {}
        for row in content["annotations"]:
            captions.setdefault(row["image_id"], []).append(row["caption"])
        pictures = [(names[number], texts) for number, texts in captions.items()]
    except RequestError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise RequestError(
            f"{annotations} is not COCO's caption file (images with id and file_name, annotations with image_id and "
            f"caption): {type(error).__name__} {one_line(error)}"
        ) from error
    files = [name for name, _ in pictures]
    return Table(annotations.name, folder, files, [{"captions": texts} for _, texts in pictures], files, annotations)
