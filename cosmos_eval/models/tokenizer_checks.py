"""Whether a tokenizer is there and is this model's: a library's silent default would make every text the same.

transformers makes a tokenizer of two tokens where no file is there; one of another vocabulary works on ids that mean
other words. Both give numbers, and nobody learns why they are those of chance.
"""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import require_file

FILES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("sentencepiece.model",),
    ("tokenizer.model",),
)
"""Sets of files, each of which holds a whole vocabulary."""
SPARE = 1000
"""A table of embeddings may have this share of its rows more than the vocabulary has words: some are padded (mT5's has
12 rows more of 250,112, NLLB's 2 of 256,206)."""

PROBES = ("a", "zebra", "the quick brown fox jumps")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds all files of some tokenizer."""
    return any(all((folder / name).exists() for name in names) for names in FILES)


def require_tokenizer_files(folder: Path, spec: str) -> None:
    """RequestError unless a folder holds the files of a tokenizer, and none of them is a Git LFS pointer or a page."""
    present = [names for names in FILES if all((folder / name).exists() for name in names)]
    if not present:
        raise RequestError(
            f"{spec}: {folder} has no tokenizer: put tokenizer.json, or vocab.json and merges.txt, or spiece.model "
            "there (tokenizer.save_pretrained writes them)"
        )
    for name in present[0]:
        require_file(folder / name, "tokenizer")


def refuse_other_vocabulary(words: int, embeddings: int, spec: str) -> None:
    """RequestError unless a vocabulary of `words` ids belongs to a table of as many embeddings."""
    if words > embeddings:
        raise RequestError(
            f"{spec}: the tokenizer has ids up to {words - 1} and the model {embeddings} embeddings; "
            "it belongs to another model"
        )
    if embeddings - words > embeddings // SPARE:
        raise RequestError(
            f"{spec}: the tokenizer has a vocabulary of {words:,} and the model {embeddings:,} embeddings; "
            "it belongs to another model: put this model's tokenizer files there"
        )


def refuse_other_end(tokenize: Callable[[list[str]], Tensor], pooled_at: int | None, spec: str) -> None:
    """RequestError unless the token that a model pools at is the last one of each text.

    Args:
        tokenize: texts -> (B, L) ids, padded behind the end token.
        pooled_at: the id that the model looks for, the first of them counting; None where it takes the largest id.
    """
    ends = set()
    for text in PROBES:
        ids = tokenize([text])[0].tolist()
        end = max(ids) if pooled_at is None else pooled_at
        place = ids.index(end) if end in ids else 0
        ends.add(end)
        # what stands behind it is padding: one token, over and over
        if place == 0 or len(ends) > 1 or any(token != ids[-1] for token in ids[place + 1 :]):
            where = f"token {pooled_at}" if pooled_at is not None else f"the largest id ({max(ids)} in {text!r})"
            raise RequestError(
                f"{spec}: the model pools texts at {where}, which the tokenizer does not put at their end; "
                "it belongs to another model: put this model's tokenizer files there"
            )
