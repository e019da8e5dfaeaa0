"""What the readers of long captions share: images in the order of their first record, and how captions are joined."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cosmos_eval.datasets.data import RetrievalData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_sources import FileImage

_SENTENCE_END = re.compile(r"\n|</s>|[.]")


def rejoin_sentences(caption: str) -> str:
    """Return a caption as the code of LoTLIP (Wu et al., NeurIPS 2024) and FLAIR (Xiao et al., CVPR 2025) writes it.

    It is cut at full stops, line ends and `</s>`, and the parts that are not blank are joined by ". ": there is no line
    end and no last full stop, and "2.5" becomes "2. 5".
    """
    return ". ".join(part.strip() for part in _SENTENCE_END.split(caption) if part.strip())


def build_retrieval(
    checker: DatasetChecker, folder: Path, captioned: Iterable[tuple[str, Sequence[str]]]
) -> RetrievalData:
    """Return the data of images and their captions; an image that occurs several times is one with all its captions.

    Args:
        folder: of the images.
        captioned: name of an image below the folder, and captions of it.

    Raises:
        DataProblems: no image, or a name that leads out of the folder.
    """
    captions: dict[str, list[str]] = {}
    for name, texts in captioned:
        captions.setdefault(name, []).extend(texts)
    names = list(captions)
    if not names:
        checker.refuse("has no image with a caption in its files")
    checker.check_images(folder, names)
    counts = [len(texts) for texts in captions.values()]
    return RetrievalData(
        images=[FileImage(name, folder / name) for name in names],
        texts=[text for texts in captions.values() for text in texts],
        image_of_text=np.repeat(np.arange(len(names), dtype=np.int64), counts),
    )


def require_text(value: object, what: str, checker: DatasetChecker) -> str:
    """Return a value that must be a text that is not blank.

    Args:
        what: where it is, for the message.

    Raises:
        DataProblems: it is something else.
    """
    if not isinstance(value, str) or not value.strip():
        checker.refuse(f"cannot use {what}: it must be a text that is not blank")
    return value
