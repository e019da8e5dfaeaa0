"""Tokenizers of `hf:` models, and what is done to a text before them."""

import string
from collections.abc import Callable
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr
from cosmos_eval.models.hf_families import Family
from cosmos_eval.models.tokenizer_checks import check_end_token, check_vocabulary_size

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
LEGACY_END_TOKEN = 2
"""`eos_token_id` in CLIP configurations that were written before transformers used that id. For this value transformers
pools at the largest id of each text, as it did for all models then."""
IMAGE_TOKEN = "<image>"
"""The token that BLIP-2's processor adds to the vocabulary, to stand for images; the text tower cannot embed it."""


def load_tokenizer(
    name: str, family: Family, config: Any, spec: str, options: dict[str, Any]
) -> tuple[Any, Callable[[str], str]]:
    """Load the tokenizer of a model.

    Args:
        name: folder or hub id.
        family: the family of the configuration.
        config: transformers' configuration of the model.
        options: of `from_pretrained`.

    Returns:
        the tokenizer, and the function to apply to each text before it.

    Raises:
        RequestError: the tokenizer belongs to another model, or its configuration is wrong. Exceptions of transformers
            pass through.
    """
    tokenizer, clean = _read_tokenizer(name, family, options)
    max_length = tokenizer.model_max_length
    if isinstance(max_length, bool) or not isinstance(max_length, int | float):
        raise RequestError(
            f"{spec}: model_max_length in tokenizer_config.json must be a number, got {short_repr(max_length)}; "
            "correct it, or remove it"
        )
    if not family.pads_to_context:
        # The towers pool the first token, or count positions from it, so padding must come last.
        tokenizer.padding_side = "right"
    vocabulary = tokenizer.get_vocab()
    text_config = getattr(config, family.text_part)
    if IMAGE_TOKEN in vocabulary:
        clean = split_image_token
    largest_id = max(number for word, number in vocabulary.items() if word != IMAGE_TOKEN)
    check_vocabulary_size(largest_id + 1, text_config.vocab_size, spec)
    if family.end_token:
        end_token = text_config.eos_token_id
        check_end_token(
            lambda texts: tokenizer(texts, return_tensors="pt")["input_ids"],
            None if family.legacy_end_token and end_token == LEGACY_END_TOKEN else end_token,
            spec,
        )
    return tokenizer, clean


def _read_tokenizer(name: str, family: Family, options: dict[str, Any]) -> tuple[Any, Callable[[str], str]]:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except ImportError:  # SiglipTokenizer needs sentencepiece; tokenizer.json holds the same vocabulary
        tokenizer = PreTrainedTokenizerFast.from_pretrained(name, **options)
    if not family.lower_case:  # as most; the file need not be read
        return tokenizer, str
    return tokenizer, cleaning_of(family, str(get_tokenizer_config(name, **options).get("tokenizer_class", "")))


def cleaning_of(family: Family, class_name: str) -> Callable[[str], str]:
    """Return what is applied to every text before the tokenizer.

    Args:
        family: of the configuration.
        class_name: of the tokenizer.
    """
    if not family.lower_case:
        return str
    # SiglipTokenizer cleans texts in its Python code, so tokenizer.json alone lacks that step; cleaning a text twice
    # changes nothing. The other tokenizers (Gemma's in SigLIP 2) belong to models that were trained on lower-case text,
    # and do not convert texts to lower case themselves.
    return canonicalize if class_name.startswith("SiglipTokenizer") else str.lower


def split_image_token(text: str) -> str:
    """Make words of `IMAGE_TOKEN`, as a tokenizer without this token reads it."""
    return text.replace(IMAGE_TOKEN, "< image >")


def canonicalize(text: str) -> str:
    """Clean a text as in the training of SigLIP: lower case, no punctuation, single spaces."""
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())
