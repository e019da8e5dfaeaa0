"""Small JSON files of trials, written atomically."""

import json
from pathlib import Path
from typing import Any

from cosmos_core.files import atomic_write_text


def read(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, or None if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write(path: Path, record: dict[str, Any]) -> None:
    atomic_write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
