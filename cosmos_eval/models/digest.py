"""A model's identity: the same digest means the same vectors for the same input, whatever the spec said."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# Case, punctuation, repair of broken text, entities, emoji, a long text that is cut, the empty text: whatever a
# tokenizer does to these it does to captions. Their ids stand for the tokenizer in the digest.
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


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over every tensor's name, dtype, shape and bytes, in the order of the names; about a second for a
    ViT-B/16."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # memory as it lies, without a copy where the tensor is contiguous and on the CPU already; view() to bytes
        # because numpy knows no bfloat16
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_identity(tokenize: Callable[[list[str]], Tensor], vocabulary: Mapping[str, int] | None = None) -> str:
    """SHA-256 of what the tokenizer does to the probes and, where there is one, of its vocabulary.

    Each probe is tokenized by itself, so that padding to the longest of a batch does not enter.
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
    """SHA-256 (64 hex digits) over weights, architecture, tokenizer and preprocessing; the last three are JSON
    values."""
    parts = {
        "weights": weights_digest(tensors),
        "architecture": architecture,
        "tokenizer": tokenizer,
        "preprocessing": preprocessing,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def text_case(tokenize: Callable[[list[str]], Tensor]) -> str:
    """What the tokenizer does to letters: "kept", "lower" (capitals make no difference) or "canonical" (nor does
    punctuation).

    Found by trying, since configurations are silent about it more often than not.
    """

    def same(first: str, second: str) -> bool:
        return tokenize([first]).tolist() == tokenize([second]).tolist()

    if not same("A Photo of a CAT", "a photo of a cat"):
        return "kept"
    return "canonical" if same("a photo, of a cat.", "a photo of a cat") else "lower"


def text_padding(tokenize: Callable[[list[str]], Tensor], context_length: int) -> str:
    """ "max_length" when every text fills the context, "longest" when a batch is padded to its longest text."""
    return "max_length" if tokenize(["a"]).shape[1] == context_length else "longest"


def count_parameters(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
