"""Datasets in clip-benchmark's WebDataset form: tar shards with a picture and a label (or captions) a sample."""

import re
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.base import ClassificationData, Data, Picture, RetrievalData, decode
from cosmos_eval.datasets.clip_benchmark import disarmed
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.folders import templates_by_class
from cosmos_eval.datasets.survey import Survey

PICTURES = ("webp", "png", "jpg", "jpeg")
"""The endings that clip-benchmark looks for, in its order."""
_SAMPLE = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
"""A member's sample and ending, as webdataset tells them apart: the ending begins at the first full stop."""


@dataclass(frozen=True)
class TarPicture(Picture):
    """A picture inside an uncompressed tar file."""

    key: str
    path: Path
    offset: int
    size: int

    def content(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise RequestError(f"cannot read the picture {self.key} in {self.path}: {error.strerror}") from error
        if len(content) != self.size:
            raise RequestError(f"the picture {self.key} in {self.path} is cut short; fetch the shard again")
        return content

    def encoded(self, content: bytes) -> bytes:
        return content

    def load(self) -> Image.Image:
        return decode(self.content(), f"{self.key} in {self.path}")


def read_wds(benchmark: Any, data_root: Path) -> Data:
    """The samples of all shards in order, with `.cls` (a class index) or, for retrieval, `.txt` (a caption a line).

    Layout (clip-benchmark's, datasets `wds/...`): `path/<split>/nshards.txt`, `path/<split>/0.tar`, ..., and for
    classification `path/classnames.txt` and `path/zeroshot_classification_templates.txt`, which its builder reads; a
    definition's own `prompts` come before them. Every shard that nshards.txt announces must be there.

    Options: `path` (folder), `split` (test).

    Raises:
        DataProblems: files or shards missing (named), a broken shard, a sample without picture or label, a label that
            is no number, counts not as expected.
    """
    survey = Survey(benchmark, data_root)
    part = survey.options.get("split", "test")
    (root,) = survey.there(survey.place("path", "folder", holding=f"{part}/nshards.txt"))
    split = root / part
    shards = _shards(split, survey)
    words = benchmark.words()
    if benchmark.task == "classification":
        for file, given in (
            ("classnames.txt", words.class_names),
            ("zeroshot_classification_templates.txt", words.templates),
        ):
            if given is None and not (root / file).is_file():
                survey.missing(str(root / file))
    survey.stop_if_any()
    label = "cls" if benchmark.task == "classification" else "txt"
    pictures: list[Picture] = []
    labels: list[str] = []
    for shard in shards:
        for picture, content in _samples(shard, label, survey):
            pictures.append(picture)
            labels.append(content)
    survey.pictures_in = split
    if benchmark.task == "retrieval":
        captions = [text.splitlines() for text in labels]
        return survey.finish(
            RetrievalData(
                pictures=pictures,
                texts=[caption for some in captions for caption in some],
                text_picture=np.repeat(np.arange(len(pictures), dtype=np.int64), [len(some) for some in captions]),
            )
        )
    class_names, templates = words.class_names, words.templates
    if class_names is None or templates is None:
        built = _built(root, split.name, survey)
        class_names = built.classes if class_names is None else class_names
        templates = built.templates if templates is None else templates
    if isinstance(class_names, dict):
        survey.refuse("gives prompts.class_names as a map; here it is a list, in class order")
    names = list(class_names)
    return survey.finish(
        ClassificationData(
            pictures=pictures,
            labels=np.array([_class_index(text, pictures[i], survey) for i, text in enumerate(labels)], dtype=np.int64),
            class_names=names,
            templates=templates_by_class(templates, names, survey),
        )
    )


def _shards(split: Path, survey: Survey) -> list[Path]:
    """The tar files that nshards.txt announces; missing ones are noted."""
    counted = split / "nshards.txt"
    if not counted.is_file():
        survey.missing(str(counted))
        return []
    text = counted.read_text(encoding="utf-8", errors="replace").strip()
    if not text.isdecimal() or int(text) < 1:
        survey.add(f"finds {text[:20]!r} in {counted}, which must be the number of shards")
        return []
    shards = [split / f"{i}.tar" for i in range(int(text))]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        found = len(shards) - len(missing)
        survey.add(
            f"needs {len(shards):,} shards in {split}, found {found:,}; missing: {first(missing)}{survey.hint()}"
        )
    return shards


def _samples(shard: Path, label: str, survey: Survey) -> list[tuple[Picture, str]]:
    """Every sample of a shard: its picture, and its label's text."""
    stat = shard.stat()
    try:
        members = _members(shard, stat.st_size, stat.st_mtime_ns)
    except (tarfile.TarError, OSError, EOFError) as error:
        survey.refuse(f"cannot read the shard {shard}: {error}; fetch it again")
    samples: list[tuple[Picture, str]] = []
    for name, parts in members.items():
        ending = next((one for one in PICTURES if one in parts), None)
        if ending is None or label not in parts:
            lacks = "a picture (" + ", ".join(PICTURES) + ")" if ending is None else f".{label}"
            survey.refuse(f"finds the sample {name} without {lacks} in {shard}")
        offset, size = parts[ending]
        picture = TarPicture(f"{shard.stem}/{name}.{ending}", shard, offset, size)
        content = TarPicture(f"{name}.{label}", shard, *parts[label]).content()
        samples.append((picture, content.decode("utf-8", errors="replace")))
    return samples


@lru_cache(maxsize=1024)
def _members(shard: Path, size: int, changed: int) -> dict[str, dict[str, tuple[int, int]]]:
    """Sample -> ending -> (offset, size), read from the headers alone; remembered while the file stays as it is."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            match = _SAMPLE.match(member.name)
            if not member.isreg() or match is None:
                continue
            parts = samples.setdefault(match[1], {})
            ending = match[2].lower()
            if ending in parts:
                raise tarfile.TarError(f"{member.name} is in it twice")
            if member.offset_data + member.size > size:
                raise tarfile.TarError(f"it ends within {member.name}")
            parts[ending] = (member.offset_data, member.size)
    return samples


def _built(root: Path, split: str, survey: Survey) -> Any:
    """Clip-benchmark's own dataset object, for the class names and templates that it reads; never iterated."""
    from clip_benchmark.datasets.builder import build_wds_dataset

    try:
        with disarmed():
            return build_wds_dataset(root.name, transform=None, split=split, data_dir=str(root))
    except RequestError:
        raise
    except Exception as error:  # someone else's code on someone's files
        survey.refuse(f"cannot be read by clip-benchmark from {root}: {error}")


def _class_index(text: str, picture: Picture, survey: Survey) -> int:
    if not text.strip().isdecimal():
        survey.refuse(f"finds the label {text[:20]!r} of {picture.key}, which must be a class index from 0")
    return int(text)
