"""Tables of images and captions on disk: CSV and TSV files, and COCO's caption annotations."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmos_core.data.samples import Sample
from cosmos_core.data.shard_samples import IMAGE_EXTENSIONS
from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_core.printable import one_line, printable
from cosmos_core.short_repr import short_list
from cosmos_core.tar_files import compression
from cosmos_core.text_files import impostor_of, open_regular

NO_ROWS_MESSAGE = "{} has a header and no rows; give a table with samples"


class CaptionTable(Sequence[Sample]):
    """Rows of (key, path of an image, captions); images are read when they are drawn."""

    def __init__(
        self,
        name: str,
        folder: Path,
        image_paths: Any,
        captions: Any,
        keys: Sequence[str] | None = None,
        path: Path | None = None,
    ) -> None:
        self.path = path
        """The file that the rows were read from."""
        self.name, self.folder, self.image_paths, self.captions, self.keys = name, folder, image_paths, captions, keys

    def __len__(self) -> int:
        return len(self.image_paths)

    def __getitem__(self, index: Any) -> Any:
        image_path, caption = to_python(self.image_paths[index]), to_python(self.captions[index])
        key = f"{self.name}/{self.keys[index] if self.keys is not None else index + 1}"
        return key, self.folder / image_path if image_path else None, caption


def to_python(value: Any) -> Any:
    """A value of an Arrow column as Python's."""
    return value.as_py() if hasattr(value, "as_py") else value


def csv_pairs(path: Path, image: str, caption: str) -> CaptionTable:
    """A CSV or TSV file (`find_delimiter`): one sample a row, keyed by file name and row number (from 1).

    Args:
        image: column of the image's path, absolute or relative to the file's folder.
        caption: column of the caption.

    Raises:
        RequestError: no such file or column, or not a table in UTF-8.
    """
    import pyarrow
    from pyarrow import csv as arrow

    try:
        require_utf8_text(path)
        delimiter = find_delimiter(path, (image, caption))
        header = first_line(path, delimiter)
        repeated = [name for name in (image, caption) if header.count(name) > 1]
        if repeated:
            raise RequestError(f"{path} has the column {repeated[0]!r} twice; leave one of them")
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
        missing_columns = [name for name in (image, caption) if name not in header]
        if missing_columns:
            advice = (
                f"it has {printable(short_list(header))}: set csv_image and csv_caption" if header else "it is empty"
            )
            raise RequestError(f"{path} has no column {missing_columns[0]!r}; {advice}") from error
        if not has_more_lines(path, 1):
            raise RequestError(NO_ROWS_MESSAGE.format(path)) from error
        refuse_unclosed_quotes(path, delimiter, image)
        raise RequestError(f"{path} is not a table: {one_line(error)}") from error
    if not table.num_rows:
        raise RequestError(NO_ROWS_MESSAGE.format(path))
    if has_more_lines(path, table.num_rows + 1):
        refuse_unclosed_quotes(path, delimiter, image)
    return CaptionTable(
        path.name, path.parent, table[image].combine_chunks(), table[caption].combine_chunks(), path=path
    )


def find_delimiter(path: Path, columns: Sequence[str]) -> str:
    """Tab for a name that ends in .tsv, else a comma; but tab if commas give none of these columns and there are tabs.

    open_clip separates the columns of its .csv files by tabs, unless told otherwise.
    """
    if path.suffix.lower() == ".tsv":
        return "\t"
    by_comma, by_tab = (first_line(path, delimiter) for delimiter in (",", "\t"))
    return "\t" if len(by_tab) > 1 and not set(columns) & set(by_comma) else ","


def require_utf8_text(path: Path) -> None:
    """RequestError if the first bytes show that a file is not UTF-8 text; arrow would report a strange header
    instead."""
    with open_regular(path) as file:  # refuses a named pipe, on which arrow would block forever
        start = file.read(1024)
    if impostor := impostor_of(start):
        raise RequestError(f"{path} is {impostor}")
    if compressed_by := compression(start):
        raise RequestError(f"{path} is compressed ({compressed_by}): unpack it first")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start:
        raise RequestError(f"{path} is not a text file in UTF-8 (UTF-16, perhaps); save it as UTF-8")


def has_more_lines(path: Path, rows: int) -> bool:
    """Whether a file has more lines than `rows` (with the header): then some cell has several lines."""
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(2**20), b"")) > rows


def refuse_unclosed_quotes(path: Path, delimiter: str, image: str) -> None:
    """RequestError if a cell swallows whole rows: a caption begins with a quote that was not doubled.

    A cell in quotes may have several lines. These are judged to be rows if the quote never closes, if they have tabs
    (in a TSV file), or if they have as many cells as the header, with an image file in the image column.
    """
    first_line_of_row = 1
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            header = next(reader, [])
            index = header.index(image) if image in header else 0
            first_line_of_row = reader.line_num + 1
            for row in reader:
                inner_lines = [line for cell in row if "\n" in cell for line in cell.splitlines()[1:]]
                inner_cells = [line.split(delimiter) for line in inner_lines]
                swallowed = any(
                    len(row_cells) == len(header) and is_image_file(row_cells[index]) for row_cells in inner_cells
                )
                if swallowed or (delimiter == "\t" and any(len(row_cells) > 1 for row_cells in inner_cells)):
                    raise RequestError(
                        f"{path}: a quote that opens in line {first_line_of_row} does not close there and takes all up "
                        f"to line {reader.line_num} into one cell: write the cell in quotes, and a quote in it twice"
                    )
                first_line_of_row = reader.line_num + 1
        except csv.Error as error:
            raise RequestError(
                f"{path}: a quote that opens in line {first_line_of_row} does not close ({error}): write the cell in "
                "quotes, and a quote in it twice"
            ) from error


def is_image_file(cell: str) -> bool:
    return Path(cell.strip()).suffix.lower().lstrip(".") in (*IMAGE_EXTENSIONS, "gif", "bmp", "tif", "tiff")


def first_line(path: Path, delimiter: str) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            return next(csv.reader(file, delimiter=delimiter), [])
        except csv.Error:  # a cell of more than 128 KiB: no header
            return []


def coco_captions(annotations: Path, folder: Path) -> CaptionTable:
    """COCO's caption annotations: one sample for each image that has captions, all of them in one record.

    Raises:
        RequestError: no such file or folder, or a file of another layout.
    """
    if not folder.is_dir():
        raise RequestError(f"training data coco:{annotations},{folder}: no folder {folder}")
    try:
        content = read_json(annotations)
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        captions: dict[Any, list[str]] = {}
        for row in content["annotations"]:
            captions.setdefault(row["image_id"], []).append(row["caption"])
        captioned_images = [(names[image_id], texts) for image_id, texts in captions.items()]
    except RequestError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise RequestError(
            f"{annotations} is not COCO's caption file (images with id and file_name, annotations with image_id and "
            f"caption): {type(error).__name__} {one_line(error)}"
        ) from error
    files = [name for name, _ in captioned_images]
    return CaptionTable(
        annotations.name, folder, files, [{"captions": texts} for _, texts in captioned_images], files, annotations
    )
