"""Damaged files of other encoders: read, or refused in one line, whatever their readers raise."""

import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.models.embeddings import EmbeddingsModel, write_embeddings
from cosmos_eval.models.open_clip_files import read_open_clip_checkpoint


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_damage_anywhere_is_read_or_refused_in_one_line(tmp_path: Path, zipped: bool):
    path = tmp_path / "damaged.pt"
    torch.save({f"layer{i}": torch.ones(3) for i in range(20)}, path, _use_new_zipfile_serialization=zipped)
    whole, generator = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(generator.choice([1, 10])):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            read_open_clip_checkpoint(path)
        except RequestError as refusal:
            refused += 1
            assert "\n" not in str(refusal)  # noqa: PT017
    assert refused > 30


def broken_archives() -> dict[str, bytes]:
    plain, compressed = io.BytesIO(), io.BytesIO()
    np.save(plain, np.ones(3))
    np.savez_compressed(compressed, ids=np.array(["a"] * 500), embeddings=np.ones((500, 2), np.float32))
    flipped = bytearray(compressed.getvalue())
    flipped[200:260] = bytes(60)
    # methods and flags of the first entry in the directory at the end
    start = compressed.getvalue().index(b"PK\x01\x02")
    method, locked = bytearray(compressed.getvalue()), bytearray(compressed.getvalue())
    method[start + 10] = 99
    locked[start + 8] |= 1
    return {"an array": plain.getvalue(), "flipped": flipped, "another method": method, "encrypted": locked}


@pytest.mark.parametrize("kind", broken_archives())
def test_vectors_in_a_file_that_is_no_whole_archive_are_refused_in_one_line(tmp_path: Path, kind: str):
    write_embeddings(tmp_path, ["a"], np.ones((1, 2), np.float32), ["t"], np.ones((1, 2), np.float32))
    assert zipfile.is_zipfile(tmp_path / "images.npz")
    (tmp_path / "images.npz").write_bytes(broken_archives()[kind])
    with pytest.raises(RequestError, match=r"cannot read .*images\.npz: .*savez") as caught:
        EmbeddingsModel(tmp_path)
    assert "\n" not in str(caught.value)
