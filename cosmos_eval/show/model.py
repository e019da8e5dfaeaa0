"""`show model`: how a model is loaded, and what it supports, before anything is measured with it.

Wrong numbers of a right model mostly come from its preprocessing, activation, padding or tokenizer. Here they are on
one page, as they were read from the model itself, not from its name. Every kind of model has them by the same methods:
`describe()`, `digest`, and, if it has more to say, `facts()` and `attentions` (`cosmos_eval.models.base`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_eval.models import load_model, parse_spec
from cosmos_eval.models.abilities import (
    has_features,
    has_method,
    has_similarity,
    is_pair_scorer,
    list_attentions,
    read_facts,
    require_attention_reader,
    require_patch_encoder,
)
from cosmos_eval.protocol.task_registry import TASKS

LABELS = {
    "arch": "architecture",
    "source": "weights",
    "parameters": "parameters",
    "activation": "activation",
    "activation_source": "activation known from",
    "image_size": "input size",
    "resize": "resize",
    "interpolation": "interpolation",
    "mean": "mean",
    "std": "std",
    "tokenizer": "tokenizer",
    "context_length": "context length",
    "padding": "padding",
    "text_case": "case",
    "embedding_width": "embedding width",
    "logit_scale": "logit scale",
    "logit_bias": "logit bias",
}
"""Keys of `describe()` and `facts()` -> their names, in the order in which they are printed. Those that a model does
not have are printed as unknown; keys that are not listed follow."""
OPTIONAL = ("activation_source", "logit_bias")
"""Keys that many models do not have; left out where they are absent."""


@dataclass(frozen=True)
class Answer:
    """Whether a model supports a task or a method."""

    what: str
    possible: bool
    text: str
    """How, or why not."""


@dataclass(frozen=True)
class ModelSheet:
    """What is known of a model that is loaded."""

    spec: str
    kind: str
    digest: str
    """Empty if the model has none."""
    facts: dict[str, Any]
    """JSON values by the keys of `LABELS`, and others."""
    answers: tuple[Answer, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        asked = [{"what": a.what, "possible": a.possible, "text": a.text} for a in self.answers]
        return {
            "spec": self.spec,
            "kind": self.kind,
            "digest": self.digest or None,
            **self.facts,
            "can_be_asked": asked,
        }

    def lines(self) -> list[str]:
        """The sheet as text, one fact a line."""
        rows = [("model", self.spec), ("kind", self.kind), ("digest", self.digest or "none: nothing is cached")]
        for key, label in LABELS.items():
            if key in self.facts or key not in OPTIONAL:
                rows.append((label, format_value(self.facts.get(key))))
        rows += [(key.replace("_", " "), format_value(v)) for key, v in self.facts.items() if key not in LABELS]
        width = max(len(label) for label, _ in rows)
        lines = [f"{label:<{width}}  {value}" for label, value in rows]
        for title, possible in (("Supports", True), ("Does not support", False)):
            chosen = [answer for answer in self.answers if answer.possible is possible]
            lines += ["", f"{title}:", *(f"  {answer.what}: {answer.text}" for answer in chosen)] if chosen else []
        return lines


def format_value(value: Any) -> str:
    """A JSON value for people: whole numbers with separators, others with six digits."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(format_value(item) for item in value)
    return str(value)


def inspect_model(spec: str, device: str = "cpu") -> ModelSheet:
    """Load a model and describe it; weights are downloaded if the spec names a model that is not in a cache.

    Raises:
        RequestError: the model cannot be loaded.
    """
    return describe_model(load_model(spec, device))


def describe_model(model: Any) -> ModelSheet:
    """Describe a model that is loaded. Its text tower encodes one short text, for the width of an embedding."""
    facts = {**model.describe(), **read_facts(model)}
    if "embedding_width" not in facts and has_method(model, "encode_text") and has_features(model):
        facts["embedding_width"] = int(model.encode_text(["a"]).shape[-1])
    if facts.get("logit_bias", 0) is None:
        del facts["logit_bias"]
    return ModelSheet(model.spec, parse_spec(model.spec).kind, model.digest or "", facts, list_answers(model))


def list_answers(model: Any) -> tuple[Answer, ...]:
    """What a model supports, and what not, with reasons; tasks of plug-ins included."""
    dense_tasks = [name for name, info in TASKS.available().items() if info.windows]
    other_tasks = [name for name, info in TASKS.available().items() if not info.windows]
    scores = _describe_scores(model)
    return (
        Answer(", ".join(other_tasks), bool(scores), scores or "it has no encoders of both sides and no score_pairs"),
        _ask(", ".join(dense_tasks), lambda: require_patch_encoder(model), _describe_attentions(model), model.spec),
        Answer(
            "scores of pairs (rerank: k)",
            is_pair_scorer(model),
            "its score_pairs" if is_pair_scorer(model) else "it has no score_pairs: it scores by embeddings alone",
        ),
        *(
            [Answer("languages of texts", True, "benchmarks that name languages tell it that of each text")]
            if has_method(model, "use_language")
            else []
        ),
        _ask("attention maps", lambda: require_attention_reader(model), "its cross-attention poolers", model.spec),
        Answer(
            "the feature cache",
            bool(model.digest),
            "by its digest" if model.digest else "it has no digest, so nothing is kept for later runs",
        ),
    )


def _describe_scores(model: Any) -> str:
    """How a model scores an image and a text; empty if it does not."""
    if is_pair_scorer(model):
        return "its score_pairs" + (", or rerank: k after its embeddings" if has_features(model) else "")
    if has_similarity(model):
        return "its own similarity of features"
    if not has_features(model):
        return ""
    is_stored = has_method(model, "read_image_embeddings")
    return "dot product of unit embeddings" + (", of the images and texts that are stored" if is_stored else "")


def _describe_attentions(model: Any) -> str:
    attentions = list_attentions(model)
    if attentions is None:
        return "its encode_patches; attention variants: those that the adapter accepts"
    return f"attention variants: {', '.join(attentions)}"


def _ask(what: str, require: Callable[[], Any], how: str, spec: str) -> Answer:
    """An answer from a function that raises RequestError where it is not possible."""
    try:
        require()
    except RequestError as error:
        return Answer(what, False, str(error).removeprefix(f"{spec} "))
    return Answer(what, True, how)
