"""Evaluates retrieval in several languages; protocol and tie rule: `cosmos_eval.tasks.multilingual_retrieval`."""

import numpy as np
import pandas as pd
import torch

from cosmos_eval.datasets.data import MultilingualRetrievalData
from cosmos_eval.engine.task_engine import TaskEngine
from cosmos_eval.engine.truncation import truncated_alike
from cosmos_eval.metrics.ranks import expected_hit, expected_rank
from cosmos_eval.models.abilities import require_languages
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    require_no_problems,
)
from cosmos_eval.tasks.languages import TruncatedByLanguage, add_languages
from cosmos_eval.tasks.multilingual_retrieval import reported_metrics
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.retrieval.measure import PRIMARY, cutoffs
from cosmos_eval.tasks.retrieval.queries import rank_queries


def validate(benchmark: Benchmark, data: MultilingualRetrievalData) -> None:
    """Check that multilingual retrieval can be evaluated on this data.

    Raises:
        RequestError: what `MultilingualRetrievalData.problems` finds (an image without a caption in a language, a code
            that is not a code), bad cut-offs, or a primary metric that is not reported.
    """
    require_no_problems(benchmark, data)
    primary_metric(benchmark, reported_metrics({"k": cutoffs(benchmark)}, data.languages), PRIMARY)


def run(benchmark: Benchmark, data: MultilingualRetrievalData, engine: TaskEngine, seed: int = 0) -> Outcome:
    """Evaluate a model on a benchmark of multilingual retrieval, in both directions in each language.

    `samples` has one row per language and query:

    - `language`: its code
    - `direction`: `image_to_text` or `text_to_image`
    - `query`: the image's key, or the text's index in the dataset
    - `image`: key of the image that the query belongs to, the unit that intervals and paired tests resample
    - `rank`: expected rank of the best positive
    - `hit@k`: probability in [0, 1] that a positive is among the first k.

    Args:
        seed: seed of the bootstrap resampling.
    """
    ks = cutoffs(benchmark)
    image_keys = np.array([image.key for image in data.images], dtype=object)
    require_languages(getattr(engine, "model", None), data.languages, benchmark.name)
    truncated = TruncatedByLanguage(engine)
    frames: list[pd.DataFrame] = []
    collapsed: list[str] = []
    for number, language in enumerate(data.languages):
        text_indices = data.texts_in(number)
        scores = engine.score(data.images, [data.texts[j] for j in text_indices.tolist()], language=language)
        truncated.finish(language)
        image_of_text = torch.from_numpy(np.ascontiguousarray(data.image_of_text[text_indices]))
        text = torch.arange(len(text_indices))
        queries_of = {
            "image_to_text": rank_queries(scores.image_to_text(), image_of_text, text, len(text)),
            "text_to_image": rank_queries(scores.text_to_image(), text, image_of_text, len(data.images)),
        }
        names_of = {"image_to_text": image_keys, "text_to_image": text_indices.astype(str).astype(object)}
        image_of = {"image_to_text": np.arange(len(data.images)), "text_to_image": image_of_text.numpy()}
        for direction, queries in queries_of.items():
            columns = {f"hit@{k}": expected_hit(queries.rank_counts, k).numpy() for k in ks}
            frames.append(
                pd.DataFrame(
                    {
                        "language": language,
                        "direction": direction,
                        "query": names_of[direction],
                        "image": image_keys[image_of[direction]],
                        "rank": expected_rank(queries.rank_counts).numpy(),
                        **columns,
                        "image index": image_of[direction],
                        "language index": number,
                    }
                )
            )
        features = {f"texts in {language}": scores.text_features}
        if not number:
            features = {"images": scores.image_features, **features}
        collapsed += collapse_warnings(features, [f"{name} in {language}" for name in truncated_alike(engine, "texts")])
    samples = pd.concat(frames, ignore_index=True)
    measured = Measured(len(data.images))
    for direction in dict.fromkeys(samples["direction"]):
        of_direction = samples[samples["direction"] == direction]
        image, language_index = (of_direction[f"{name} index"].to_numpy() for name in ("image", "language"))
        for k in ks:
            values = of_direction[f"hit@{k}"].to_numpy()
            add_languages(measured, f"{direction}_recall@{k}", values, language_index, image, data.languages)
    metrics = measured.metrics(seed)
    return Outcome(
        metrics=metrics,
        samples=samples.drop(columns=["image index", "language index"]),
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=(*collapsed, *truncated.warnings()),
    )
