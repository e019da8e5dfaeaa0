"""The page `results/speed.md`: a section for each benchmark and machine, written in the place of the one before."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.printed import ran_on

INTRODUCTION = """# Speed beside clip-benchmark

Each section is written by the command it names, on the machine it names, with random weights and generated data. Where
there are two sides they run in turns in one tree of processes, and must give the same figures before a ratio is told.
`load before` is the machine's load average at the start, of whatever else ran there."""
PACKAGES = ("torch", "open_clip_torch", "clip-benchmark", "numpy")


def tell(
    title: str, lines: Sequence[str], record: Mapping[str, Any], out: Path | None, arguments: Sequence[str] | None
) -> None:
    """Print what a benchmark found and, last, its record; write it into the page `out`, if any."""
    text = "\n".join(lines)
    print(text)
    if out:
        write_section(out, title, text, arguments, record)
    print(json.dumps(record))


def write_section(
    path: Path, title: str, text: str, arguments: Sequence[str] | None, record: Mapping[str, Any]
) -> None:
    """Put what a benchmark found into a page of several; sections of other machines and options stay as they are.

    Args:
        arguments: of its command line; None are those of this process.
        record: its last line, with its name in `benchmarks/` and the environment.
    """
    found = record["environment"]
    hardware = found["hardware"]
    machine = hardware.get("gpu", hardware["cpu"])
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = shlex.join(["python", f"benchmarks/{record['name']}.py", *given])
    options = [word for i, word in enumerate(given) if "--out" not in (word, *given[i - 1 : i])]
    heading = f"{title} ({' '.join([*options, machine])})"
    section = f"Made by `{command}` on {date.today()}: {ran_on(found, PACKAGES)}.\n\n{text}"
    sections = read_sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[heading] = section
    parts = [INTRODUCTION, *(f"## {name}\n\n{body}" for name, body in sections.items())]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def read_sections(page: str) -> dict[str, str]:
    """By heading, in their order."""
    found = {}
    for part in f"\n{page}".split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        found[heading.strip()] = body.strip()
    return found
