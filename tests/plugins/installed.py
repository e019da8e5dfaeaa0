"""Installing distributions of plug-ins for a test, and the data that their benchmarks read."""

import contextlib
import csv
import io
import itertools
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

SOURCE = Path(__file__).parent / "distribution"
PACKAGE = "image_text_extras"
COLOURS = {"apple": (200, 40, 40), "lime": (60, 180, 60), "plum": (70, 60, 170)}


def build_wheel(folder: Path) -> Path:
    """The wheel of the distribution, by its own build system; nothing is downloaded."""
    from hatchling import build

    with contextlib.chdir(SOURCE):
        return folder / build.build_wheel(str(folder))


def put_before(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """On `sys.path`, and on that of processes that are started."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))


def forget() -> None:
    """Drop what was imported of the distribution, so that a test sees who imports it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def imported() -> list[str]:
    """The modules of the distribution that are imported."""
    return sorted(name for name in sys.modules if name.startswith(f"{PACKAGE}."))


def put_distribution(folder: Path, group: str, entries: str, source: str, name: str, version: str = "1.0") -> Path:
    """A distribution of one module `NAME_module`, as it lies in site-packages."""
    information = folder / f"{name}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{entries}\n")
    (folder / f"{name}_module.py").write_text(source)
    return folder


def write_fruit(root: Path, images: int = 24) -> Path:
    """`fruit.parquet`, `images/` and `pairs.csv`: noise over one of three colours, more of it than of colour."""
    draw = np.random.default_rng(0)
    names = [list(COLOURS)[i % 3] for i in range(images)]
    encoded = []
    for name in names:
        pixels = np.array(COLOURS[name]) + draw.normal(0, 60, (12, 12, 3)) + draw.normal(0, 45, 3)
        stream = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(stream, "PNG")
        encoded.append(stream.getvalue())
    structs = [{"bytes": content, "path": None} for content in encoded]
    pyarrow.parquet.write_table(pa.table({"image": structs, "label": names}), root / "fruit.parquet", row_group_size=10)
    (root / "images").mkdir()
    for i in range(images):
        (root / "images" / f"{i:02d}.png").write_bytes(encoded[i])
    pairs = [(i, j) for i, j in itertools.combinations(range(images), 2)][::4]
    with (root / "pairs.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["first", "second", "same"])
        rows.writerows([f"{i:02d}.png", f"{j:02d}.png", int(names[i] == names[j])] for i, j in pairs)
    return root
