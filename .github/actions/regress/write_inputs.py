"""Write the images and texts that benchmarks need, for a program of another environment that computes their embeddings.

`inputs.json` has `images`, a list of `{"id", "file"}`, and `texts`, a list of strings. A file of a dataset is named
where it lies; any other image (rendered, in a tar, a crop) is written as PNG below `images/`. Open them with Pillow and
`convert("RGB")`. How to write the embeddings: docs/cache.md, "Evaluate on another machine, without the weights".

    VENV/bin/python write_inputs.py --suite toybox --data-root data --out inputs
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_eval import FileImage, evaluate


class Inputs:
    """A model with random embeddings that writes down what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.texts: dict[str, None] = {}

    def preprocess(self, image: Any) -> torch.Tensor:
        raise RequestError("this benchmark needs pixels; leave it out, as embeddings are one vector for each image")

    encode_image = encode_text = preprocess  # an adapter needs them; with the two methods below they are not called

    def read_image_embeddings(self, images: Sequence[Any]) -> torch.Tensor:
        for image in images:
            if self.digests.setdefault(image.key, image.digest()) != image.digest():
                raise RequestError(f"two benchmarks call different images {image.key!r}; measure them in two jobs")
            if image.key not in self.files:
                self.files[image.key] = self.file_of(image)
        return torch.randn(len(images), 8)

    def file_of(self, image: Any) -> str:
        if isinstance(image, FileImage):
            return str(Path(image.path).resolve())
        path = self.folder / "images" / f"{len(self.files):06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.load().save(path, compress_level=1)
        return str(path.resolve())

    def read_text_embeddings(self, texts: Sequence[str]) -> torch.Tensor:
        self.texts.update(dict.fromkeys(texts))
        return torch.randn(len(texts), 8)


def write_inputs(benchmarks: Sequence[str], data_root: Path, folder: Path) -> Path:
    """Write `inputs.json` of benchmarks and suites to `folder`, and return its path.

    Raises:
        RequestError: missing data, two images of one name, or a benchmark that needs more than one vector for an image.
    """
    inputs = Inputs(folder)
    evaluate(inputs, benchmarks, data_root, cache=False, device="cpu")
    images = [{"id": key, "file": file} for key, file in inputs.files.items()]
    atomic_write_text(folder / "inputs.json", json.dumps({"images": images, "texts": list(inputs.texts)}, indent=1))
    return folder / "inputs.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", "--benchmark", dest="benchmarks", action="append", required=True)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        print(write_inputs(arguments.benchmarks, arguments.data_root, arguments.out))
    except RequestError as error:
        print(f"write_inputs: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
