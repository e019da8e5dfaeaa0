"""Shuffle the words of captions by the four rules of ARO's Order sets (Yuksekgonul et al., ICLR 2023).

The authors' code draws without a seed, so that each run has other shuffles. Here each caption has its own random
generator, seeded with the seed and the caption: its shuffles are the same on every machine and do not depend on the
other captions.
"""

import hashlib
import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cosmos_core.errors import RequestError

Tagged = Sequence[tuple[str, str]]
"""(token, part of speech) of each token of a caption, with the tags of the Penn Treebank (NN, JJ, VBZ, ...)."""
Tagger = Callable[[str], Tagged]

NOUNS = frozenset(("NN", "NNS", "NNP", "NNPS"))
ADJECTIVES = frozenset(("JJ", "JJR", "JJS"))
TAGGED_RULES = ("nouns and adjectives", "all but nouns and adjectives")
PLAIN_RULES = ("within trigrams", "trigrams")
MAX_WORDS = 30
"""Longer captions are cut after this number of words."""

_REMOVED = re.compile(r"[.!\"()*#:;~]")
_TOKENS = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


def clean(caption: str) -> str:
    """Return the caption in lower case with single spaces, without . ! " ( ) * # : ; ~, and with at most 30 words."""
    return " ".join(_REMOVED.sub(" ", caption.lower()).split()[:MAX_WORDS])


def shuffle_caption(caption: str, seed: int, tagged: Tagged | None = None) -> list[str]:
    """Return the shuffles of one caption: by all four rules with `tagged`, else by the last two.

    Rule 1 shuffles the nouns among their positions, and the adjectives among theirs; rule 2 shuffles all other tokens
    among theirs; rule 3 shuffles the tokens inside each trigram; rule 4 shuffles the trigrams. A shuffle may equal the
    caption by chance; the reader deals with that.
    """
    rng = random.Random(f"{seed} {caption}")
    shuffles = []
    if tagged is not None:
        tokens = [token for token, _ in tagged]
        nouns = [i for i, (_, tag) in enumerate(tagged) if tag in NOUNS]
        adjectives = [i for i, (_, tag) in enumerate(tagged) if tag in ADJECTIVES]
        others = [i for i in range(len(tokens)) if i not in {*nouns, *adjectives}]
        with_nouns_shuffled = _shuffle_positions(tokens, nouns, rng)
        shuffles.append(_shuffle_positions(with_nouns_shuffled, adjectives, rng))
        shuffles.append(_shuffle_positions(tokens, others, rng))
    tokens = _TOKENS.findall(caption)
    trigrams = [tokens[i : i + 3] for i in range(0, len(tokens), 3)]
    shuffled_inside = [rng.sample(trigram, len(trigram)) for trigram in trigrams]
    shuffles.append(list(itertools.chain.from_iterable(shuffled_inside)))
    shuffles.append(list(itertools.chain.from_iterable(rng.sample(trigrams, len(trigrams)))))
    return [clean(" ".join(shuffle)) for shuffle in shuffles]


def build_shuffle_file(
    captions: Iterable[tuple[str, str]], seed: int = 0, tagger: Tagger | None = None, tagger_name: str = ""
) -> dict[str, Any]:
    """Shuffle captions; return the content of the file that the reader `aro-order` reads.

    Args:
        captions: (image, caption), the image by its path below the folder of images.
        tagger: from a caption to its tokens with their tags; None for the two rules that need no tags.
        tagger_name: its name and version, which are part of the data's identity.

    Raises:
        RequestError: the tagger returns something else than pairs of texts.
    """
    items = []
    for image, caption in captions:
        tagged = None if tagger is None else _check_tags(tagger(caption), caption, tagger_name)
        items.append({"image": image, "caption": clean(caption), "shuffles": shuffle_caption(caption, seed, tagged)})
    rules = PLAIN_RULES if tagger is None else (*TAGGED_RULES, *PLAIN_RULES)
    return {"tagger": tagger_name, "seed": seed, "rules": list(rules), "items": items}


def format_shuffle_file(content: dict[str, Any]) -> str:
    """Return the file as JSON, with one item per line."""
    head = json.dumps({**content, "items": []}, ensure_ascii=False)
    items = ",\n".join(json.dumps(item, ensure_ascii=False) for item in content["items"])
    return f"{head.removesuffix('[]}')}[\n{items}\n]}}\n"


def is_unchanged(shuffle: str, caption: str) -> bool:
    """Whether a shuffle equals the caption, spaces aside.

    Taggers split "cat," and "man's" into tokens, which are joined with spaces. CLIP's tokenizer splits them in the same
    way, so that the model sees the same text.
    """
    return "".join(shuffle.split()) == "".join(caption.split())


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of the content of a file, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _shuffle_positions(tokens: Sequence[str], positions: Sequence[int], rng: random.Random) -> list[str]:
    """Return the tokens with those at `positions` exchanged at random."""
    shuffled = list(tokens)
    for position, source in zip(positions, rng.sample(positions, len(positions)), strict=True):
        shuffled[position] = tokens[source]
    return shuffled


def _check_tags(tagged: Any, caption: str, tagger_name: str) -> Tagged:
    """Return what a tagger returned, as pairs; RequestError if it is something else."""
    try:
        pairs = [(token, tag) for token, tag in tagged]
    except (TypeError, ValueError):
        pairs = [(None, None)]
    if not all(isinstance(token, str) and isinstance(tag, str) for token, tag in pairs):
        raise RequestError(
            f"the tagger {tagger_name} returned {tagged!r} for {caption!r}; it must return pairs of a token and its tag"
        )
    return pairs
