"""Texts of results without the folders of the machine that made them, for tables and pages that are published.

RESULT.json keeps model specs as they were given: the machine that made them needs them.
"""

import re
from typing import Any

from cosmos_core.printable import printable

# In a spec the path begins behind the kind, a `=`, or a `/` (ARCH//path), may contain spaces; `https://` is not a path.
_IN_SPEC = re.compile(r"(^|[:=]|(?<=[^:/])/)(/(?!/)[^?#&]+)")
_IN_TEXT = re.compile(r"""(^|[\s:=('"`,;\[]|(?<=[^:/\s])/)(/(?!/)[^\s?#&:;,'"`()\[\]]*/[^\s?#&:;,'"`()\[\]]+)""")
_HOMES = re.compile(r"/(home|Users)/[^/]+|/root|/?")


def portable_spec(spec: str) -> str:
    """A model spec whose absolute paths are cut to the folder and file: `cosmos:/home/me/run/last.pt` is
    `cosmos:run/last.pt`."""
    return printable(_IN_SPEC.sub(lambda match: match[1] + shortened(match[2]), spec))


def portable_text(text: str) -> str:
    """A message or remark whose absolute paths are cut likewise, in one line."""
    return printable(_IN_TEXT.sub(lambda match: match[1] + shortened(match[2]), " ".join(text.split())))


def portable_values(value: Any) -> Any:
    """A record of plain values with every text in it as `portable_text`; keys stay."""
    if isinstance(value, str):
        return portable_text(value) if "/" in value else value
    if isinstance(value, dict):
        return {key: portable_spec(item) if key == "spec" else portable_values(item) for key, item in value.items()}
    return [portable_values(item) for item in value] if isinstance(value, list | tuple) else value


def shortened(path: str) -> str:
    """The last name of an absolute path; a file is given with its folder, unless that is a home folder."""
    folder, _, name = path.rstrip("/").rpartition("/")
    is_file = "." in name[1:]
    return name if not is_file or _HOMES.fullmatch(folder) else f"{folder.rpartition('/')[2]}/{name}"
