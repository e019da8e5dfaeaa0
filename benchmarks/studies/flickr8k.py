"""Train the `flickr8k` preset from scratch, a few minutes at a time, and evaluate it during training.

    python -m benchmarks.studies.flickr8k --data-root DIR [--rows cosmos] [--minutes 5] [--set key=value] [--out DIR]
        [--quick]

DIR has train-0000.tar to train-0005.tar and test-0000.tar (each sample is KEY.jpg and KEY.json in PixelProse's format),
and Karpathy's dataset_flickr8k.json. They are read in place; test images are unpacked to a temporary folder. The
command stops after `--minutes` with a checkpoint, and the same command continues. When all rows are finished, it writes
the curve and the table. Rows are those of the ablation: with several rows, `--set device=cuda` and a batch that fits
into memory, this is the ablation on a GPU.
"""

import argparse
import json
import os
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.studies.ablation import rows
from benchmarks.studies.ablation.__main__ import HERE, head
from cosmos_core.errors import RequestError
from cosmos_core.progress import Silent
from cosmos_core.train import Callback, Run, train

if TYPE_CHECKING:
    from cosmos_core.config import TrainConfig

PRESET = "flickr8k"
SHARDS = "train-{0000..0005}.tar"
QUICK = ("steps=6", "batch_size=8", "warmup=2", "eval_every=3", "eval_limit=40", "log_every=1", "threads=1")
RECORD = "record.json"


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    for name in options.rows if not options.report else ():
        if not train_row(options, rows.row(name)):
            print("stopped after --minutes; the same command continues")
            return
    from benchmarks.studies.flickr8k_report import write_report
    from cosmos_eval.results.environment import environment

    results = options.results or (options.out if options.quick else HERE / "results")
    figures = write_report([options.out / name for name in options.rows], results)
    print(f"table and curve: {results / 'flickr8k.md'}")
    print(json.dumps({"name": "flickr8k", "ratios": {}, "figures": figures, "environment": environment()}))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    shared = os.environ.get("COSMOS_SHARED_DIR")
    root = Path(shared) / "real" / "flickr8k" if shared else None
    parser = argparse.ArgumentParser(
        "python -m benchmarks.studies.flickr8k",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-root", type=Path, default=root, help="default: real/flickr8k below COSMOS_SHARED_DIR")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in rows.ROWS], default=["cosmos"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=5, help="stop after this time; 0: when all rows are finished")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of every row")
    parser.add_argument("--out", type=Path, default=Path("runs/flickr8k"))
    parser.add_argument("--results", type=Path, help="folder for table and curve (default: results/; --quick: --out)")
    parser.add_argument("--report", action="store_true", help="only write table and curve of what is trained")
    parser.add_argument("--quick", action="store_true", help="six steps and 40 test images, to test the script")
    options = parser.parse_args(arguments)
    options.until = time.monotonic() + 60 * options.minutes if options.minutes else None
    if not options.report and (options.data_root is None or not (options.data_root / "test-0000.tar").is_file()):
        raise RequestError(f"no test-0000.tar in {options.data_root}; give --data-root or set COSMOS_SHARED_DIR")
    return options


def train_row(options: argparse.Namespace, row: rows.Row) -> bool:
    """Train a row until it is finished or the time is over; return whether it is finished."""
    from cosmos_core.config import load_preset
    from cosmos_core.files import atomic_write_text
    from cosmos_core.signals import Interrupted
    from cosmos_eval.results.environment import environment
    from cosmos_eval.training.evaluator import EvaluateEvery

    folder = options.out / row.name
    changes = [*(QUICK if options.quick else ()), *options.set, *row.changes]
    if is_finished(folder):
        print(f"{row.name}: finished, kept")
        return True
    with unpacked_test_split(options.data_root) as test_root:
        paths = [f"data={options.data_root / SHARDS}", f"eval_data_root={test_root}", f"out={folder}"]
        config = load_preset(PRESET, [f"name={row.name}", f"seed={options.seed}", *changes, *paths])
        record = {
            "commit": head(),
            "config": portable_config(config, changes),
            "environment": environment("cuda" if config.device == "auto" else config.device),
        }
        atomic_write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
        callbacks = [EvaluateEvery(config, NoteReporter()), Deadline(options.until)]
        try:
            train(config, callbacks=callbacks, reporter=NoteReporter())
        except Interrupted as stop:
            if stop.number != signal.SIGUSR1:
                raise
            print(f"{row.name}: {stop}")
    return is_finished(folder)


def is_finished(folder: Path) -> bool:
    from cosmos_core.checkpoint import read_file

    last = folder / "last.pt"
    if not last.is_file():
        return False
    content = read_file(last)
    return bool(content["step"] == content["steps"])


def portable_config(config: "TrainConfig", changes: list[str]) -> dict[str, object]:
    """Return the settings without paths of this machine, and the changes to the preset."""
    values = json.loads(json.dumps(config.to_dict()))
    return {**values, "data": SHARDS, "eval_data_root": "", "out": "", "changes": changes}


@contextmanager
def unpacked_test_split(root: Path) -> Iterator[Path]:
    """Create a temporary data root in the layout that flickr8k-test-retrieval reads."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "flickr8k"
        with tarfile.open(root / "test-0000.tar") as archive:
            images = [member for member in archive if member.name.endswith(".jpg")]
            archive.extractall(folder / "images", members=images, filter="data")
        (folder / "dataset_flickr8k.json").symlink_to((root / "dataset_flickr8k.json").resolve())
        yield Path(name)


class Deadline(Callback):
    """Stops the training after the first step beyond a time, with the signal that a batch system would send."""

    def __init__(self, until: float | None) -> None:
        self.until = until

    def is_due(self, step: int, ends_epoch: bool) -> bool:
        return self.until is not None and time.monotonic() >= self.until

    def on_step(self, run: Run) -> None:
        if run.step < run.steps:
            signal.raise_signal(signal.SIGUSR1)


class NoteReporter(Silent):
    """A reporter that prints notes and no progress."""

    def note(self, line: str) -> None:
        print(line, flush=True)


if __name__ == "__main__":
    try:
        main()
    except RequestError as error:
        sys.exit(f"flickr8k: {error}")
