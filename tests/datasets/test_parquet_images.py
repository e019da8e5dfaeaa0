"""Images of parquet files: decoded once where they are read in order, in any order and process right."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.parquet import images as parquet_images
from tests.helpers.datasets_on_disk import define
from tests.helpers.parquet_reading import READER, load
from tests.helpers.tables_on_disk import encode_image, structs, write_table


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is kept of the images that were read, in a process that has not read any; a few rows are decoded at once."""
    monkeypatch.setattr(parquet_images, "BATCH_BYTES", 1500)
    monkeypatch.setattr(parquet_images, "_READING", parquet_images._Reading())
    return parquet_images._READING


def forty(root: Path, group: int) -> Path:
    return write_table(root / "data/a.parquet", {"image": structs(40), "text": list(map(str, range(40)))}, group)


def test_images_read_in_order_are_decoded_once_and_travel_to_other_processes(tmp_path: Path, reading, monkeypatch):
    forty(tmp_path, group=20)
    data = datasets.read(define(tmp_path, "retrieval", READER))
    assert reading.decoded_rows == 0  # listing reads no image but the first
    assert 1 < data.images[0].column.batch_rows[0] < 20
    for i, image in enumerate(data.images):
        assert image.content() == image.content() == encode_image(i)
    assert reading.decoded_rows == 40
    image = pickle.loads(pickle.dumps(data.images[33]))
    monkeypatch.setattr(parquet_images, "_READING", parquet_images._Reading())
    assert image.content() == encode_image(33)
    assert np.array_equal(np.asarray(image.load()), np.asarray(data.images[33].load()))


def test_images_read_by_threads_in_nearly_their_order_are_decoded_once(tmp_path: Path, reading):
    forty(tmp_path, group=40)
    images = datasets.read(define(tmp_path, "retrieval", READER)).images
    for i in range(10):
        for thread in range(4):  # as four threads that hash ten images each
            assert images[10 * thread + i].content() == encode_image(10 * thread + i)
    assert reading.decoded_rows == 40
    assert reading.ahead.size == 0


def test_images_in_any_order_are_right_and_what_is_kept_is_bounded(tmp_path: Path, reading):
    forty(tmp_path, group=40)
    images = datasets.read(define(tmp_path, "retrieval", READER)).images
    reading.ahead.most_bytes, reading.recent.most_bytes = 2000, 1000
    for i in np.random.default_rng(0).permutation(40).tolist() + list(range(39, -1, -1)):
        assert images[i].content() == encode_image(i)
        for kept in (reading.ahead, reading.recent):
            assert kept.size == sum(len(image) for image in kept.images.values()) <= kept.most_bytes


def test_a_forked_process_starts_anew(tmp_path: Path, reading):
    forty(tmp_path, group=40)
    images = datasets.read(define(tmp_path, "retrieval", READER)).images
    with reading.lock, ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(images[7].content).result(timeout=300) == encode_image(7)


def test_a_table_that_changes_after_it_was_hashed_is_refused(tmp_path: Path):
    path = write_table(tmp_path / "data/a.parquet", {"image": structs(3), "text": ["a", "b", "c"]})
    data = load(tmp_path)
    data.images[1].load()
    write_table(path, {"image": structs(3, start=5), "text": ["a", "b", "c"]})
    with pytest.raises(RequestError, match=r"the image a\.parquet:1.* was changed after it was hashed"):
        data.images[1].load()
    write_table(path, {"image": structs(1), "text": ["a"]})
    with pytest.raises(RequestError, match="row group 0 ends before its row 1"):
        data.images[1].load()
