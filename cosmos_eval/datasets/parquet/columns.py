"""Which columns of a table are images, labels and captions: those that a definition names, or with usual names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow
from pyarrow import types

from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.parquet.table_file import TableFile

IMAGE_NAMES = (
    "image",
    "img",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "image_bytes",
    "image_path",
    "file_name",
    "filename",
    "path",
)
LABEL_NAMES = ("label", "labels", "cls", "class", "fine_label", "target", "category")
CAPTION_NAMES = ("caption", "captions", "text", "texts", "sentence", "sentences", "txt")
POSITIVE_NAMES = ("positive", "positives", "positive_caption", "true_caption", *CAPTION_NAMES)
NEGATIVE_NAMES = (
    "negative", "negatives", "negative_caption", "negative_captions", "false_caption", "hard_negative", "foil",
)  # fmt: skip
SUBSET_NAMES = ("subset",)


@dataclass(frozen=True)
class ImageColumns:
    """Where the images of a table are: encoded bytes, or paths of files."""

    name: str
    bytes_leaf: str | None
    path_leaf: str | None
    """The name of each file; with bytes beside it, only a name for messages and checks."""


def find_image_column(table: TableFile, option: str | None, checker: DatasetChecker) -> ImageColumns:
    """Return the column of images: `option`, or the one that is found by its type, then by its name.

    Columns that `datasets` describes as images come first, then structs of bytes, then bytes, then texts (paths).

    Raises:
        DataProblems: no such column, several that may be meant, or one of another type.
    """
    schema = table.schema
    if option is not None:
        return _image_columns(require_column(table, "image_column", option, checker), table, checker)
    features = table.features()
    described = [name for name, feature in features.items() if _is_image_feature(feature) and name in schema.names]
    structs = [field.name for field in schema if _is_bytes_struct(field.type)]
    binary = [field.name for field in schema if _is_binary(field.type)]
    named_texts = [field.name for field in schema if field.name.lower() in IMAGE_NAMES and is_text(field.type)]
    candidates = described or structs or binary or named_texts
    if not candidates:
        where = f"{table.path}{_with_columns(schema)}"
        checker.refuse(f"finds no column of images in {where}; name it in dataset.image_column")
    usual = [name for name in candidates if name.lower() in IMAGE_NAMES]
    name = _only_one(usual or candidates, "images", "image_column", table, checker)
    return _image_columns(name, table, checker)


def find_columns(
    table: TableFile, option_name: str, usual_names: Sequence[str], checker: DatasetChecker, several: bool = False
) -> list[str]:
    """Return the columns that an option names, or the one with a usual name.

    Args:
        option_name: the option: a text, or a list of texts.
        usual_names: names of the column where the option is not given.
        several: also take columns that are numbered, such as caption_0, caption_1, ..., in the order of their numbers.

    Raises:
        DataProblems: no such column, or several columns with usual names.
    """
    option = checker.options.get(option_name)
    if option is not None:
        names = [option] if isinstance(option, str) else list(option)
        if not names:
            checker.refuse(f"has an empty list in dataset.{option_name}; name the columns, or leave it out")
        return [require_column(table, option_name, name, checker) for name in names]
    columns = table.schema.names
    found = [name for name in columns if name.lower() in usual_names]
    if several and not found:
        numbered = [
            (int(match[2]), name)
            for name in columns
            if (match := re.fullmatch(r"([a-z_]+?)_?(\d{1,4})", name.lower())) and match[1] in usual_names
        ]
        if numbered:
            return [name for _, name in sorted(numbered)]
    if not found:
        usual = ", ".join(usual_names[:4])
        checker.refuse(
            f"finds none of the columns {usual}, ... in {table.path}{_with_columns(table.schema)}; name it in "
            f"dataset.{option_name}"
        )
    what = option_name.removesuffix("s").removesuffix("_column") + "s"
    return [_only_one(found, what, option_name, table, checker)]


def require_column(table: TableFile, option_name: str, name: str, checker: DatasetChecker) -> str:
    """Return the name of a column, which must be there once."""
    times = table.schema.names.count(name)
    if times != 1:
        problem = "no column" if not times else f"{times} columns"
        checker.refuse(
            f"has {problem} {name!r} in {table.path}{_with_columns(table.schema)}; see dataset.{option_name}"
        )
    return name


def is_text(column_type: Any) -> bool:
    """Whether values of a column are texts."""
    if types.is_dictionary(column_type):
        column_type = column_type.value_type
    return bool(types.is_string(column_type) or types.is_large_string(column_type) or _is_view(column_type, "string"))


def is_text_list(column_type: Any) -> bool:
    """Whether values of a column are lists of texts."""
    is_list = types.is_list(column_type) or types.is_large_list(column_type) or types.is_fixed_size_list(column_type)
    return bool(is_list and is_text(column_type.value_type))


def is_integer(column_type: Any) -> bool:
    """Whether values of a column are whole numbers."""
    return bool(types.is_integer(column_type))


def describe_type(table: TableFile, name: str) -> str:
    """Return the type of a column for a message."""
    return str(table.schema.field(name).type)[:80]


def _image_columns(name: str, table: TableFile, checker: DatasetChecker) -> ImageColumns:
    column_type = table.schema.field(name).type
    if _is_bytes_struct(column_type):
        path_leaf = f"{name}.path" if "path" in [field.name for field in column_type] else None
        return ImageColumns(name, f"{name}.bytes", path_leaf)
    if _is_binary(column_type):
        return ImageColumns(name, name, None)
    if not is_text(column_type):
        checker.refuse(
            f"cannot use the column {name!r} of {table.path} as images: it holds {describe_type(table, name)}; images "
            "are bytes (binary), a struct of bytes and path, or paths (string)"
        )
    return ImageColumns(name, None, name)


def _only_one(names: Sequence[str], what: str, option_name: str, table: TableFile, checker: DatasetChecker) -> str:
    if len(names) > 1:
        checker.refuse(
            f"has {len(names)} columns that may be the {what} in {table.path}: {format_names(names)}; name one in "
            f"dataset.{option_name}"
        )
    return require_column(table, option_name, names[0], checker)


def _with_columns(schema: pyarrow.Schema) -> str:
    return f" (columns: {format_names(schema.names)})" if schema.names else " (it has no columns)"


def _is_image_feature(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "Image"


def _is_binary(column_type: Any) -> bool:
    return bool(types.is_binary(column_type) or types.is_large_binary(column_type) or _is_view(column_type, "binary"))


def _is_bytes_struct(column_type: Any) -> bool:
    """Whether values are structs with a field `bytes`, as `datasets` writes images."""
    return bool(types.is_struct(column_type)) and any(
        field.name == "bytes" and _is_binary(field.type) for field in column_type
    )


def _is_view(column_type: Any, kind: str) -> bool:
    is_view = getattr(types, f"is_{kind}_view", None)  # of later versions of pyarrow
    return bool(is_view is not None and is_view(column_type))
