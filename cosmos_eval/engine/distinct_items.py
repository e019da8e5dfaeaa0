"""Features of the images and texts of a benchmark, each distinct one encoded once, and how many texts are truncated."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cosmos_core.devices import send
from cosmos_core.printable import plural
from cosmos_eval.cache.cached_features import EncodedBatches
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.encoding import encode_images, encode_texts
from cosmos_eval.engine.image_loading import compute_digests
from cosmos_eval.engine.text_batches import TextInputs, consecutive_batches, prepare_texts
from cosmos_eval.engine.truncation import are_truncated_alike, find_truncated_texts
from cosmos_eval.engine.unit_features import find_distinct, image_name, text_name
from cosmos_eval.models.abilities import in_language
from cosmos_eval.profiling import phase

if TYPE_CHECKING:
    from cosmos_eval.engine.engine import Engine


def encode_distinct_images(engine: "Engine", images: Sequence[ImageSource]) -> Tensor:
    """Return the features of images (`Engine.image_features`), each distinct content encoded once."""
    if engine.is_precomputed:
        return engine.precomputed_features(engine.model.read_image_embeddings, images, image_name, "images")
    engine.compare_decoders(images, engine.decoder)
    with phase("reading"):
        digests = compute_digests(images, engine.reporter)
    first_positions, distinct_index = find_distinct(digests)
    distinct_images = [images[i] for i in first_positions]
    engine.store_names("images", [image.key for image in images], digests)
    if engine.resized is not None:
        decoded_count = sum(digest not in engine.resized for digest in digests)
        if decoded_count:
            verb = "is" if decoded_count == 1 else "are"
            decoded = f"{decoded_count:,} of {plural(len(digests), 'image')}"
            engine.reporter.note(f"{decoded} {verb} not in {engine.resized.folder} and {verb} decoded")

    def encode(missing: list[int]) -> EncodedBatches:
        plan = consecutive_batches(len(missing), engine.batch_size)
        batches = ([distinct_images[missing[i]] for i in members] for members in plan)
        return engine.encode_planned(encode_images, None, batches, plan, "images")

    features = engine.cached_images.get_or_encode([digests[i] for i in first_positions], encode)
    return features[send(distinct_index, features.device)]


def encode_distinct_texts(engine: "Engine", texts: Sequence[str], language: str | None = None) -> Tensor:
    """Return the features of texts (`Engine.text_features`), each distinct one encoded once.

    Args:
        language: of the texts, for a model that is told it; else None.
    """
    if hasattr(engine.model, "read_text_embeddings"):
        engine.text_counts.add(None, torch.arange(len(texts)), None, alike=False)
        return engine.precomputed_features(engine.model.read_text_embeddings, texts, text_name, "texts")
    # Texts are grouped twice. Equal strings are tokenized once; then, strings with equal tokens are encoded once.
    string_positions, string_index = find_distinct(texts)
    strings = [texts[j] for j in string_positions]
    with phase("tokens"):
        inputs = prepare_texts(engine.model, strings, engine.batch_size, engine.reporter, language)
        count_texts(engine, strings, string_index, inputs, language)
    engine.store_names("texts", strings, inputs.keys)
    key_positions, key_index = find_distinct(inputs.keys)

    def encode(missing: list[int]) -> EncodedBatches:
        missing_strings = [key_positions[i] for i in missing]  # as indices in `strings`
        plan = inputs.batches(missing_strings)
        batches_of_strings = ([missing_strings[i] for i in members] for members in plan)
        batches = (([strings[j] for j in batch], inputs.build_input(batch)) for batch in batches_of_strings)
        return engine.encode_planned(encode_texts, (inputs.lengths is not None, language), batches, plan, "texts")

    features = engine.cached_texts.get_or_encode([inputs.keys[i] for i in key_positions], encode)
    return features[send(key_index[string_index], features.device)]


def count_texts(
    engine: "Engine",
    texts: Sequence[str],
    distinct_index: Tensor,
    inputs: TextInputs | None = None,
    language: str | None = None,
) -> None:
    """Count the N texts of the benchmark and those among them that the model truncates.

    `texts` are the M distinct ones, `distinct_index` (N,) int64 has the index of each text among them, `inputs` is None
    if the model gets the texts as parts of pairs, and `language` is that which the model is told.
    """
    context_length = inputs.context_length if inputs else 0
    context_length = context_length or int(getattr(engine.model, "context_length", None) or 0)
    model, lengths = engine.model, inputs.lengths if inputs else None
    is_truncated = in_language(model, language, find_truncated_texts)(model, texts, lengths, context_length)
    keys = inputs.keys if inputs else texts
    alike = in_language(model, language, are_truncated_alike)(model, texts, keys, is_truncated)
    engine.text_counts.add(is_truncated, distinct_index, context_length or None, alike)
