"""Captions with their words in another order, by the four rules of ARO's Order sets (Yuksekgonul et al., ICLR 2023).

The authors' code draws without a seed, so that no two downloads are asked the same. Here each caption has a generator
of its own, seeded with the seed and the caption: the same shuffles on every machine, whatever else is shuffled.
"""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cosmos_core.errors import RequestError

Tagged = Sequence[tuple[str, str]]
"""The tokens of a caption, each with its part of speech in the Penn Treebank's letters (NN, JJ, VBZ, ...)."""
Tagger = Callable[[str], Tagged]

NOUNS = frozenset(("NN", "NNS", "NNP", "NNPS"))
ADJECTIVES = frozenset(("JJ", "JJR", "JJS"))
TAGGED_RULES = ("nouns and adjectives", "all but nouns and adjectives")
PLAIN_RULES = ("within trigrams", "trigrams")
WORDS = 30
"""What of a caption is kept, its beginning."""

_DROPPED = re.compile(r"[.!\"()*#:;~]")
_TOKENS = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


def clean(caption: str) -> str:
    """Lower case, without the marks . ! " ( ) * # : ; ~, single spaces, at most 30 words."""
    return " ".join(_DROPPED.sub(" ", caption.lower()).split()[:WORDS])


def shuffle_caption(caption: str, seed: int, tagged: Tagged | None = None) -> list[str]:
    """The shuffles of one caption: with tags by all four rules, without by the two that need none.

    1. nouns change places among themselves, and adjectives among themselves; 2. so does everything else; 3. the tokens
    of each three in a row; 4. the threes. A draw may leave a caption as it was; the reader deals with that.
    """
    draw = random.Random(f"{seed} {caption}")
    found = []
    if tagged is not None:
        tokens = [token for token, _ in tagged]
        nouns = [i for i, (_, tag) in enumerate(tagged) if tag in NOUNS]
        adjectives = [i for i, (_, tag) in enumerate(tagged) if tag in ADJECTIVES]
        others = [i for i in range(len(tokens)) if i not in {*nouns, *adjectives}]
        found += [_among(_among(tokens, nouns, draw), adjectives, draw), _among(tokens, others, draw)]
    tokens = _TOKENS.findall(caption)
    threes = [tokens[i : i + 3] for i in range(0, len(tokens), 3)]
    within = [draw.sample(three, len(three)) for three in threes]
    found += [[token for three in within for token in three]]
    found += [[token for three in draw.sample(threes, len(threes)) for token in three]]
    return [clean(" ".join(own)) for own in found]


def make_order(
    captions: Iterable[tuple[str, str]], seed: int = 0, tagger: Tagger | None = None, tagger_name: str = ""
) -> dict[str, Any]:
    """The content of a file of shuffles, which the reader `aro-order` reads.

    Args:
        captions: image (its path below the folder of images) and caption, as many of an image as it has.
        tagger: caption -> its tokens with their tags.
        tagger_name: its name and version; part of what the data are.

    Raises:
        RequestError: the tagger gives something else than pairs of texts.
    """
    items = []
    for image, caption in captions:
        tagged = None if tagger is None else _checked(tagger(caption), caption, tagger_name)
        items.append({"image": image, "caption": clean(caption), "shuffles": shuffle_caption(caption, seed, tagged)})
    rules = PLAIN_RULES if tagger is None else (*TAGGED_RULES, *PLAIN_RULES)
    return {"tagger": tagger_name, "seed": seed, "rules": list(rules), "items": items}


def written(content: dict[str, Any]) -> str:
    """The file's text: an item a line."""
    head = json.dumps({**content, "items": []}, ensure_ascii=False)
    rows = ",\n".join(json.dumps(item, ensure_ascii=False) for item in content["items"])
    return f"{head.removesuffix('[]}')}[\n{rows}\n]}}\n"


def unmoved(shuffle: str, caption: str) -> bool:
    """Whether a shuffle is the caption itself. Spaces do not count: taggers part "cat," and "man's" into tokens, which
    are joined with spaces, and CLIP's tokenizer parts them just so: the model sees one text."""
    return "".join(shuffle.split()) == "".join(caption.split())


def digest_of(content: bytes) -> str:
    """SHA-256 of a file of shuffles."""
    return hashlib.sha256(content).hexdigest()


def _among(tokens: Sequence[str], places: Sequence[int], draw: random.Random) -> list[str]:
    """The tokens with those at `places` in a random order."""
    found = list(tokens)
    for place, source in zip(places, draw.sample(places, len(places)), strict=True):
        found[place] = tokens[source]
    return found


def _checked(tagged: Any, caption: str, name: str) -> Tagged:
    try:
        pairs = [(token, tag) for token, tag in tagged]
    except (TypeError, ValueError):
        pairs = [(None, None)]
    if not all(isinstance(token, str) and isinstance(tag, str) for token, tag in pairs):
        raise RequestError(f"the tagger {name} gave {tagged!r} for {caption!r}; it gives pairs of a token and its tag")
    return pairs
