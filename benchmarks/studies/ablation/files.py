"""The small JSON files that legs leave behind: whole or absent."""

import json
from pathlib import Path
from typing import Any

from cosmos_core.files import atomic_write_text


def read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write(path: Path, record: dict[str, Any]) -> None:
    atomic_write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
