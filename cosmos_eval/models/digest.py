"""The digest of a model: equal digests mean equal embeddings for the same input, whatever the specs were.

Feature caches and stored results are keyed by it, so what is hashed, and in which order, must never change.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

PROBES = (
    "a photo of a cat",
    "A Photo of a CAT.",
    "a photo of a cat.",
    "",
    "two red cubes, left of 3.50 kg of blue_spheres (not 4)!",
    "it's the dog's ball; isn't it?",
    "caf\u00e9 na\u00efve \u00fcber stra\u00dfe",
    "schÃ¶n &amp;amp; gut &lt;b&gt;",
    "  many   spaces\tand\nlines  ",
    "\u732b\u306e\u5199\u771f \U0001f431",
    "supercalifragilisticexpialidocious pneumonoultramicroscopic",
    "<start_of_text> end marker <end_of_text> after",
    " ".join(f"word{i} and the thing number {i}" for i in range(60)),
)
"""Texts whose ids represent the tokenizer in the digest. They show how it treats case, punctuation, broken encodings,
HTML entities, emoji, a text that is truncated, and the empty text."""


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor, sorted by name; a ViT-B/16 takes about a second."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # No copy is made of a tensor that is contiguous and on the CPU. It is viewed as bytes because numpy has no
        # bfloat16.
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_identity(tokenize: Callable[[list[str]], Tensor], vocabulary: Mapping[str, int] | None = None) -> str:
    """SHA-256 over the ids of the probes and, if there is one, over the vocabulary.

    Args:
        tokenize: B texts -> (B, L) ids. It is called with one probe at a time, so that padding to the longest text of a
            batch does not influence the digest.
        vocabulary: word -> id.
    """
    digest = hashlib.sha256()
    for probe in PROBES:
        digest.update(json.dumps(tokenize([probe]).tolist()).encode())
    if vocabulary is not None:
        for word, index in sorted(vocabulary.items()):
            digest.update(f"{index} {word}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def model_digest(
    tensors: Mapping[str, Tensor],
    architecture: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
) -> str:
    """SHA-256, as 64 hex digits, over all that determines a model's embeddings.

    Args:
        tensors: the state dict of the network.
        architecture: JSON values.
        tokenizer: JSON values, `tokenizer_identity` among them.
        preprocessing: JSON values.
    """
    parts = {
        "weights": weights_digest(tensors),
        "architecture": architecture,
        "tokenizer": tokenizer,
        "preprocessing": preprocessing,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def text_case(tokenize: Callable[[list[str]], Tensor]) -> str:
    """How a tokenizer treats case: "kept", "lower" (ignored), or "canonical" (punctuation is ignored too).

    The tokenizer is tried on a few texts, because most configurations do not say.
    """

    def has_equal_ids(first: str, second: str) -> bool:
        return tokenize([first]).tolist() == tokenize([second]).tolist()

    if not has_equal_ids("A Photo of a CAT", "a photo of a cat"):
        return "kept"
    return "canonical" if has_equal_ids("a photo, of a cat.", "a photo of a cat") else "lower"


def text_padding(tokenize: Callable[[list[str]], Tensor], context_length: int) -> str:
    """ "max_length" if every text is padded to the context, "longest" if a batch is padded to its longest text."""
    return "max_length" if tokenize(["a"]).shape[1] == context_length else "longest"


def count_parameters(tensors: Sequence[Tensor]) -> int:
    """The number of values in all tensors together."""
    return sum(tensor.numel() for tensor in tensors)
