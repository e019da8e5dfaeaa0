"""Checks that the files of a tokenizer exist, and that the tokenizer belongs to the model.

Without them, wrong files give plausible embeddings and results at chance level, and no error: transformers makes a
tokenizer of two tokens if there is no file, and the ids of another model's tokenizer stand for other words.
"""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import require_file

FILE_SETS = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("sentencepiece.model",),
    ("tokenizer.model",),
)
"""Sets of files, each of which holds a whole vocabulary."""
PADDING_DIVISOR = 1000
"""An embedding table of N rows may have up to N / 1000 rows more than the vocabulary has words, because some tables are
padded (by 12 of 250,112 rows in mT5, by 2 of 256,206 in NLLB)."""
END_TOKEN_PROBES = ("a", "zebra", "the quick brown fox jumps")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds all files of a tokenizer."""
    return _find_files(folder) is not None


def require_tokenizer_files(folder: Path, spec: str) -> None:
    """RequestError unless a folder holds the files of a tokenizer, and these are neither Git LFS pointers nor HTML."""
    names = _find_files(folder)
    if names is None:
        raise RequestError(
            f"{spec}: {folder} has no tokenizer: put tokenizer.json, or vocab.json and merges.txt, or spiece.model "
            "there (tokenizer.save_pretrained writes them)"
        )
    for name in names:
        require_file(folder / name, "tokenizer")


def _find_files(folder: Path) -> tuple[str, ...] | None:
    """The first set of files that is complete in a folder, None if there is none."""
    return next((names for names in FILE_SETS if all((folder / name).exists() for name in names)), None)


def check_vocabulary_size(vocabulary_size: int, embedding_count: int, spec: str) -> None:
    """RequestError if a vocabulary of this size does not fit an embedding table of `embedding_count` rows."""
    if vocabulary_size > embedding_count:
        raise RequestError(
            f"{spec}: the tokenizer has ids up to {vocabulary_size - 1} and the model {embedding_count} embeddings; "
            "it belongs to another model"
        )
    if embedding_count - vocabulary_size > embedding_count // PADDING_DIVISOR:
        raise RequestError(
            f"{spec}: the tokenizer has a vocabulary of {vocabulary_size:,} and the model {embedding_count:,} "
            "embeddings; it belongs to another model: put this model's tokenizer files there"
        )


def check_end_token(tokenize: Callable[[list[str]], Tensor], pooled_at: int | None, spec: str) -> None:
    """RequestError unless the tokenizer ends every text with the token at which the model pools.

    Args:
        tokenize: B texts -> (B, L) ids, padded after the end token.
        pooled_at: the id of that token; the model pools at its first occurrence. None if the model pools at the
            largest id of each text.
    """
    end_tokens = set()
    for text in END_TOKEN_PROBES:
        ids = tokenize([text])[0].tolist()
        end_token = max(ids) if pooled_at is None else pooled_at
        position = ids.index(end_token) if end_token in ids else 0
        end_tokens.add(end_token)
        # A right tokenizer puts it after at least one token, uses the same token for every text, and repeats one
        # padding token after it.
        has_text_after_end = any(token != ids[-1] for token in ids[position + 1 :])
        if position == 0 or len(end_tokens) > 1 or has_text_after_end:
            where = f"token {pooled_at}" if pooled_at is not None else f"the largest id ({max(ids)} in {text!r})"
            raise RequestError(
                f"{spec}: the model pools texts at {where}, which the tokenizer does not put at their end; "
                "it belongs to another model: put this model's tokenizer files there"
            )
