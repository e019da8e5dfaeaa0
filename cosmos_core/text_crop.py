"""Text-crop (COSMOS, arXiv 2412.01814, section 3.1): sampled sentences of long captions, as global and local texts."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.seeds import Generator, as_random

Record = Mapping[str, Any] | Sequence[str] | str

DREAMLIP_FIELDS = (
    "raw_caption",
    "shortIB_captions",
    "shortSV_captions",
    "shortLLA_captions",
    "longIB_captions",
    "longSV_captions",
    "longLLA_captions",
)
MODES = ("textcrop", "random", "short", "long", "raw")
PIXELPROSE_MODES = ("textcrop", "random", "raw")
MOST_SENTENCES = 5
_SENTENCE_END = re.compile(r"\n|</s>|\.")


def split_caption(text: str) -> list[str]:
    """Cut a caption at newlines, `</s>` and every period; pieces are stripped and empty ones dropped.

    Periods inside numbers and abbreviations cut too ("3.50", "Dr. X"); question and exclamation marks do not. The
    original trains with this rule, so it is kept.
    """
    return [piece for piece in (part.strip() for part in _SENTENCE_END.split(text)) if piece]


def sample_sentences(sentences: Sequence[str], count: int, generator: random.Random) -> list[str]:
    """Draw `count` sentences without repetition; where there are too few, all of them in order as often as they fit,
    then a draw for the rest.

    Raises:
        RequestError: no sentences to draw from.
    """
    if not sentences:
        raise RequestError("no sentence to draw a caption from; drop the record or give it a caption")
    if count <= len(sentences):
        return generator.sample(sentences, count)
    times, rest = divmod(count, len(sentences))
    return list(sentences) * times + generator.sample(sentences, rest)


def is_pixelprose(record: Record) -> bool:
    return isinstance(record, Mapping) and "original_caption" in record


def candidate_sentences(record: Record, mode: str = "textcrop", key: str | None = None) -> list[str]:
    """The sentences that captions are drawn from, in the original's order, so that equal seeds draw equal captions.

    Args:
        record: DreamLIP (`raw_caption`, `shortIB_captions`, ..., lists of strings), PixelProse (`original_caption`
            whole, `caption` split into sentences), or plain: one string, a list of strings, or either under `caption`
            or `captions`; a plain string is split, listed strings are not.
        mode: `textcrop` and `random` draw from everything, `short` and `long` from those DreamLIP fields (short with
            the raw caption), `raw` from the caption that came with the image.
        key: what an error calls the record; by default its own `__key__`, if it has one.

    Raises:
        RequestError: an unknown layout, a mode that the layout does not have, or nothing in its fields; names the
            record. An empty string counts as a sentence, as in the original; `has_words` detects records of empty
            strings.
    """
    mode = mode.removesuffix("_pixelprose")
    if key is None and isinstance(record, Mapping):
        key = record.get("__key__")
    name = f"record {key}" if key is not None else "this record"
    if is_pixelprose(record):
        if mode not in PIXELPROSE_MODES:
            raise RequestError(f"{name} has the PixelProse layout, which has no mode {mode!r}; use textcrop")
        assert isinstance(record, Mapping)
        sentences = [_text(record["original_caption"], name)]
        if mode != "raw":
            sentences += split_caption(_text(record.get("caption"), name))
    elif isinstance(record, Mapping) and any(field in record for field in DREAMLIP_FIELDS):
        sentences = [text for field in _dreamlip_fields(mode) for text in _texts(record.get(field), name)]
    else:
        captions = record
        if isinstance(record, Mapping):
            captions = record.get("captions", record.get("caption"))
            if captions is None:
                raise RequestError(
                    f"{name} has none of the fields raw_caption, original_caption, captions, caption; "
                    f"it has: {', '.join(map(str, record)) or 'nothing'}"
                )
        sentences = split_caption(captions) if isinstance(captions, str) and mode != "raw" else _texts(captions, name)
    if not sentences:
        raise RequestError(f"{name} has no words to draw a caption from (mode {mode}); drop it or give it a caption")
    return sentences


def has_words(record: Record, mode: str = "textcrop", key: str | None = None) -> bool:
    """Whether any caption of a record is more than white space; RequestError as for `candidate_sentences`."""
    return any(text.strip() for text in candidate_sentences(record, mode, key))


class TextCrop:
    """Draws k captions of a record: two global ones of 1 to 5 sentences each, then k - 2 local ones of one sentence.

    The draws come in the original's order (both sentence counts, global 0, global 1, locals), so that
    `random.Random(s)` gives the original's strings under `random.seed(s)`. Sentences are joined by ". " without a final
    period; one draw repeats no sentence while there are enough, different draws may share some. The other modes draw k
    sentences from the fields that `candidate_sentences` names.

    Args:
        k: captions for each record; at least 2 for text-crop, at least 1 otherwise.
        mode: one of textcrop, random, short, long, raw.

    Raises:
        RequestError: an unknown mode or too small a k; when called, a record without captions (named by `key`).
    """

    def __init__(self, k: int = 8, mode: str = "textcrop") -> None:
        self.mode = mode
        base = mode.removesuffix("_pixelprose")
        if base not in MODES or (base != mode and base not in PIXELPROSE_MODES):
            raise RequestError(f"unknown caption mode {mode!r}; there are: {', '.join(MODES)}")
        minimum = 2 if base == "textcrop" else 1
        if k < minimum:
            raise RequestError(f"caption mode {mode} needs at least {minimum} captions a sample, got {k}")
        self.k = k

    def __call__(self, record: Record, generator: Generator, key: str | None = None) -> list[str]:
        draw = as_random(generator)
        sentences = candidate_sentences(record, self.mode, key)
        if not self.mode.startswith("textcrop"):
            return sample_sentences(sentences, self.k, draw)
        counts = [draw.randint(1, MOST_SENTENCES), draw.randint(1, MOST_SENTENCES)]
        captions = [". ".join(sample_sentences(sentences, count, draw)) for count in counts]
        return captions + sample_sentences(sentences, self.k - 2, draw)


def _dreamlip_fields(mode: str) -> tuple[str, ...]:
    if mode == "raw":
        return DREAMLIP_FIELDS[:1]
    if mode == "short":  # the raw caption counts as a short one
        return DREAMLIP_FIELDS[:4]
    return DREAMLIP_FIELDS[4:] if mode == "long" else DREAMLIP_FIELDS


def _text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RequestError(f"{name} has a caption that is not text but {type(value).__name__}")
    return value


def _texts(value: Any, name: str) -> list[str]:
    if value is None or isinstance(value, str):
        return [value] if value else []
    if not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise RequestError(f"{name} has a caption list that is not a list of texts")
    return list(value)
