"""The page `results/speed.md`: one section for each benchmark and machine, which the next run replaces."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.output import describe_environment

INTRODUCTION = """# Speed compared with clip-benchmark

The command in each section wrote this section, on the machine named there, with random weights and generated data. Two
implementations run in turns in one tree of processes. A ratio is printed only if both give the same figures.
`load before` is the load average of the machine before the start, which comes from other programs."""
PACKAGES = ("torch", "open_clip_torch", "clip-benchmark", "numpy")


def print_and_write(
    title: str, lines: Sequence[str], record: Mapping[str, Any], out: Path | None, arguments: Sequence[str] | None
) -> None:
    """Print the tables of a benchmark and, as the last line, its record; also write a section of the page `out`."""
    text = "\n".join(lines)
    print(text)
    if out:
        write_section(out, title, text, arguments, record)
    print(json.dumps(record))


def write_section(
    path: Path, title: str, text: str, arguments: Sequence[str] | None, record: Mapping[str, Any]
) -> None:
    """Write one section of a page; sections of other benchmarks, machines and options stay as they are.

    Args:
        arguments: the command line of the benchmark; None: that of this process.
        record: the last line that it prints, with `name` (its script in `benchmarks/`) and `environment`.
    """
    environment = record["environment"]
    hardware = environment["hardware"]
    machine = hardware.get("gpu", hardware["cpu"])
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = shlex.join(["python", f"benchmarks/{record['name']}.py", *words])
    options = [word for i, word in enumerate(words) if "--out" not in (word, *words[i - 1 : i])]  # without the page
    heading = f"{title} ({' '.join([*options, machine])})"
    section = f"Made by `{command}` on {date.today()}: {describe_environment(environment, PACKAGES)}.\n\n{text}"
    sections = read_sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[heading] = section
    parts = [INTRODUCTION, *(f"## {name}\n\n{body}" for name, body in sections.items())]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def read_sections(page: str) -> dict[str, str]:
    """Return the sections of a page by their headings, in order."""
    sections = {}
    for part in f"\n{page}".split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        sections[heading.strip()] = body.strip()
    return sections
