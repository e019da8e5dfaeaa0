"""What fetching reads: archives, the table of sources, the manifest, own sections, converted files, label maps."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.fetch.convert import convert
from cosmos_eval.datasets.fetch.manifest import (
    ManifestEntry,
    ManifestFile,
    add_to_manifest,
    fetched_parts,
    read_manifest,
)
from cosmos_eval.datasets.fetch.partial import Partial, Validator
from cosmos_eval.datasets.fetch.single_images import read_addresses
from cosmos_eval.datasets.fetch.table import Unpack
from cosmos_eval.datasets.fetch.table_reader import read_table
from cosmos_eval.datasets.fetch.unpack import unpack_archive
from cosmos_eval.datasets.mmseg.prepare_context import read_label_map
from cosmos_eval.progress import Silent
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.datasets.fetch.test_convert import FER, IMAGENET, fetched, validation_name, write_rows, write_shards
from tests.fuzz.running import Target
from tests.helpers.fetch_sources import contents, image_bytes, published_files, tar_bytes, zip_bytes
from tests.helpers.fetch_sources import write_table as write_sources
from tests.helpers.perception_on_disk import SVO_HEADER, svo_rows, write_csv

FILES = {"a/one.txt": b"one" * 50, "a/two.txt": b"two", "b/three.bin": bytes(range(256)) * 8}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OWN = f"""name: pets
version: 1
task: classification
dataset: {{reader: image-folder, path: pets}}
prompts: {{class_names: dataset, templates: ["a {{c}}"]}}
metrics: {{primary: top1}}
fetch:
  - url: https://example.org/pets.zip
    mirrors: ["http://example.net/p.zip"]
    sha256: {"ab" * 32}
    size: 1000
    unpack: {{format: zip, into: pets, only: ["a/*"], flatten: true}}
    provides: [pets/dog]
    terms: CC BY 4.0
  - {{hub: somebody/pets, revision: {COMMIT}, files: ["test/*"], path: wds/pets}}
"""
WRITERS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "zip": ("zip", lambda: zip_bytes(FILES)),
    "tar": ("tar", lambda: tar_bytes(FILES)),
    "tgz": ("tar", lambda: tar_bytes(FILES, "w:gz")),
    "txz": ("tar", lambda: tar_bytes(FILES, "w:xz")),
    "tbz": ("tar", lambda: tar_bytes(FILES, "w:bz2")),
    "nested": ("nested", lambda: zip_bytes({"inner.tgz": tar_bytes(FILES, "w:gz")})),
}


def _in_new_folder(work: Callable[[Path, Path], None]) -> Callable[[Path], Any]:
    """A load that writes to a data root of its own: what is there afterwards, of which nothing may be if it refuses."""
    numbers = itertools.count()

    def load(folder: Path) -> Any:
        root = folder / f"data-{next(numbers)}"
        try:
            work(folder, root)
            return contents(root)
        except RequestError:
            if contents(root):
                raise AssertionError(f"refused, but there are {sorted(contents(root))[:3]}") from None
            raise
        finally:
            shutil.rmtree(root, ignore_errors=True)

    return load


def _archive(name: str) -> Target:
    kind, pack = WRITERS[name]
    rule = Unpack(kind, "set", ("inner.tgz",) if kind == "nested" else ())

    def make(folder: Path) -> list[Path]:
        (folder / name).write_bytes(pack())
        return [folder / name]

    def unpack(folder: Path, root: Path) -> None:
        unpack_archive(folder / name, rule, root, root / ".cosmos-eval/incomplete/x", "0" * 64)

    return Target(f"archive-{name}", make, _in_new_folder(unpack), weight=2)


def _make_imagenet(folder: Path) -> list[Path]:
    rows = [(image_bytes(i), validation_name(i + 1), i) for i in range(3)]
    return [write_rows(folder / "val.parquet", rows)]


def _convert(name: str, artifact: Any, *files: str) -> Callable[[Path], Any]:
    def work(folder: Path, root: Path) -> None:
        paths = [fetched(folder / file) for file in files]
        convert(name, paths, artifact, root, root / ".cosmos-eval/incomplete/x", lambda: None, Silent())

    return _in_new_folder(work)


def _make_fer(folder: Path) -> list[Path]:
    return write_shards(folder, [["0", "6", "3"]])


def _make_table(folder: Path) -> list[Path]:
    write_sources(folder / "sources.yaml", "http://127.0.0.1:1", published_files())
    return [folder / "sources.yaml"]


def _load_table(folder: Path) -> Any:
    return read_table(folder / "sources.yaml")  # `load_table` keeps what it read


def _make_manifest(folder: Path) -> list[Path]:
    for name in ("cifar100", "coco"):
        files = (ManifestFile(f"{name}.zip", f"https://example.org/{name}.zip", 10, "ab" * 32),)
        add_to_manifest(
            folder,
            ManifestEntry(
                name, "publisher", "https://example.org", COMMIT, "2026-01-01T00:00:00+00:00", "free", False, (),
                ("cifar100",), (f"{name}/images",), files,
            ),
        )  # fmt: skip
    return [folder / ".cosmos-eval/fetched.json"]


def _load_manifest(folder: Path) -> Any:
    return read_manifest(folder), fetched_parts(load_benchmark("cifar100"), folder)


def _make_partial(folder: Path) -> list[Path]:
    partial = Partial(folder / "a.zip", "https://example.org/a.zip")
    partial.begin(Validator('"tag"', "Thu, 01 Jan 1970 00:00:00 GMT", 100))
    partial.content.write_bytes(b"x" * 50)
    return [partial.record, partial.content]


def _load_partial(folder: Path) -> Any:
    return Partial(folder / "a.zip", "https://example.org/a.zip").read()


def _make_own(folder: Path) -> list[Path]:
    (folder / "pets.yaml").write_text(OWN, encoding="utf-8")
    return [folder / "pets.yaml"]


def _load_own(folder: Path) -> Any:
    benchmark = load_benchmark(folder / "pets.yaml")
    return benchmark.fingerprint, benchmark.fetch


def _make_addresses(folder: Path) -> list[Path]:
    rows = [
        {**row, **{f"{side}_url": f"https://example.org/{row[f'{side}_image_id']}.jpg" for side in ("pos", "neg")}}
        for row in svo_rows()
    ]
    write_csv(folder / "svo.csv", SVO_HEADER, rows)
    return [folder / "svo.csv"]


def _make_label_map(folder: Path) -> list[Path]:
    labels = np.random.default_rng(0).integers(0, 460, (9, 11)).astype(np.uint16)
    for name, compressed in (("a", True), ("b", False)):
        savemat(folder / f"{name}.mat", {"other": 1.5, "LabelMap": labels}, do_compression=compressed)
    return [folder / "a.mat", folder / "b.mat"]


def _load_label_map(folder: Path) -> Any:
    return [read_label_map(folder / f"{name}.mat").tobytes() for name in "ab"]


FER_FILES = ("0.tar", "classnames.txt", "nshards.txt")
TARGETS = [
    *(_archive(name) for name in WRITERS),
    Target("imagenet-parquet", _make_imagenet, _convert("imagenet-parquet", IMAGENET, "val.parquet"), weight=2),
    Target("fer2013-shards", _make_fer, _convert("fer2013-shards", FER, *FER_FILES), weight=2),
    Target("sources-table", _make_table, _load_table, weight=4),
    Target("own-sources", _make_own, _load_own, weight=4),
    Target("fetch-manifest", _make_manifest, _load_manifest, weight=2),
    Target("partial-download", _make_partial, _load_partial),
    Target("single-addresses", _make_addresses, lambda folder: read_addresses(folder / "svo.csv")),
    Target("context-label-map", _make_label_map, _load_label_map, weight=4),
]
