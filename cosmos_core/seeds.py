"""Seeds and random generators: one generator for each sample, independent of the process that uses it."""

import hashlib
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Generator = random.Random | torch.Generator
else:
    Generator = Any


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from the text of `parts`, equal on every machine and in every process (Python's hash() is not)."""
    text = "\x1f".join(str(part) for part in parts)
    content = text.encode("utf-8", "surrogatepass")  # file names that are not Unicode contain lone surrogates
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") >> 1


def sample_generator(seed: int, epoch: int | str, key: str, purpose: str) -> random.Random:
    """The generator of one sample in one epoch; `purpose` separates the draws of image and captions.

    It depends neither on the worker that loads a sample nor on its position in a batch, so the number of workers has no
    effect.
    """
    return random.Random(derive_seed(seed, epoch, key, purpose))


def as_random(generator: Generator) -> random.Random:
    """A `random.Random` unchanged; for a `torch.Generator`, a new one seeded by its next draw.

    Raises:
        TypeError: anything else, such as None: global generators are never used instead.
    """
    if isinstance(generator, random.Random):
        return generator
    import torch

    if isinstance(generator, torch.Generator):
        return random.Random(int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device)))
    raise TypeError(f"a random.Random or torch.Generator is needed, got {type(generator).__name__}")
