"""What is done to embeddings after the fact: options of a run, recorded in its results, and part of their identity.

They apply to the unit embeddings of the model in this order, on features that the cache keeps untransformed:

1. `truncate_dim: d`: the first d dimensions, normalised again (Matryoshka representations, Kusupati et al., NeurIPS
   2022).
2. `center`: the mean embedding of each modality is subtracted, and the differences are normalised again (the modality
   gap of Liang et al., NeurIPS 2022, is the difference of the two means).
3. `quantize`: int8 or binary codes, as `quantize_embeddings` of sentence-transformers makes them.
4. `dual_softmax: t`: in retrieval, each score is multiplied with the softmax over all queries (Cheng et al.,
   arXiv:2109.04290).

`cosmos_eval.metrics.embedding_transforms` and `cosmos_eval.metrics.dual_softmax` have the formulas. This module imports
no torch: definitions and results need it too.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Self

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr

INT8, BINARY = "int8", "binary"
CODES = (INT8, BINARY)
OF_EMBEDDINGS = ("truncate_dim", "center", "quantize")
"""Options that a task can take whose scores are those of `engine.score`."""
OF_RETRIEVAL = (*OF_EMBEDDINGS, "dual_softmax")
"""Options of a task that ranks all candidates of all queries in both directions."""
LARGEST_SCALE = 300.0
"""Largest factor of the scores in the dual softmax. Scores are between -1 and 1, so that the smallest ratio of two
exponentials is exp(-600), and above it float64 (exp(-708)) keeps different scores apart."""
LARGEST_DIM = 10**6


@dataclass(frozen=True, kw_only=True)
class FeatureTransforms:
    """What is done to embeddings after the fact; false in a condition if nothing is.

    Raises:
        RequestError: a bad value; names the option.
    """

    truncate_dim: int | None = None
    """Number of dimensions that are kept; None keeps all."""
    center: bool = False
    """Whether the mean of each modality is subtracted."""
    quantize: str | None = None
    """int8, binary, or None."""
    dual_softmax: float | None = None
    """Factor of the scores in the softmax over queries, the inverse of its temperature; None: there is none."""

    def __post_init__(self) -> None:
        dim, scale = self.truncate_dim, self.dual_softmax
        if dim is not None:
            if not isinstance(dim, Integral) or isinstance(dim, bool) or not 1 <= dim <= LARGEST_DIM:
                raise RequestError(
                    f"truncate_dim must be a whole number from 1 to {LARGEST_DIM:,}, the number of dimensions to keep; "
                    f"got {short_repr(dim)}"
                )
            object.__setattr__(self, "truncate_dim", int(dim))
        if not isinstance(self.center, bool):
            raise RequestError(f"center must be true or false, got {short_repr(self.center)}")
        if self.quantize is not None and self.quantize not in CODES:
            raise RequestError(f"quantize must be {' or '.join(CODES)}, got {short_repr(self.quantize)}")
        if scale is not None:
            is_number = isinstance(scale, Real) and not isinstance(scale, bool) and math.isfinite(scale)
            if not is_number or not 0 < scale <= LARGEST_SCALE:
                raise RequestError(
                    f"dual_softmax must be a number above 0 and at most {LARGEST_SCALE:g}, the factor of the scores in "
                    f"the softmax (100 is usual); got {short_repr(scale)}"
                )
            object.__setattr__(self, "dual_softmax", float(scale))

    def __bool__(self) -> bool:
        return bool(self.record())

    def record(self) -> dict[str, Any]:
        """The options that are used, by name, as results record them; empty if none is."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, False)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The options of a result or a definition; RequestError as the constructor, or for an unknown option."""
        known = [field.name for field in fields(cls)]
        for name in record:
            if name not in known:
                raise RequestError(f"there is no option {short_repr(name)} of embeddings; known: {', '.join(known)}")
        return cls(**record)

    @property
    def title(self) -> str:
        """The options in words, for names in tables: `dim 128, centered, int8, dual softmax 100`."""
        return ", ".join(
            [
                *([f"dim {self.truncate_dim}"] if self.truncate_dim is not None else []),
                *(["centered"] if self.center else []),
                *([self.quantize] if self.quantize is not None else []),
                *([f"dual softmax {self.dual_softmax:.12g}"] if self.dual_softmax is not None else []),
            ]
        )

    @property
    def folder_suffix(self) -> str:
        """What follows the name of a benchmark in the name of a result's folder: `+dim128+int8`; empty if nothing."""
        words = self.title.replace("dual softmax ", "dsl").replace("dim ", "dim").replace("centered", "center")
        return "".join(f"+{word}" for word in words.split(", ") if word)

    @property
    def arguments(self) -> str:
        """The options as they are given on the command line."""
        return " ".join(
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {value:g}" if name in NUMBERS else f" {value}")
            for name, value in self.record().items()
        )

    def name_of(self, benchmark: str) -> str:
        """The name of a benchmark in tables: with the options, so that no table mixes them."""
        return f"{benchmark} ({self.title})" if self else benchmark

    def require_defined_for(self, benchmark: str, task: str, defined: Collection[str]) -> None:
        """Raise RequestError if a task does not define one of the options that are used.

        Args:
            benchmark, task: names, for the message.
            defined: `TaskInfo.transforms`.
        """
        wrong = [name for name in self.record() if name not in defined]
        if not wrong:
            return
        options = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        reason = (
            f"the task {task} does not compare whole embeddings of images and texts"
            if set(wrong) & set(OF_EMBEDDINGS)
            else f"the task {task} does not rank all candidates for all queries, as retrieval does"
        )
        raise RequestError(
            f"{benchmark}: {options} is not defined for it: {reason}; leave the option or the benchmark out"
        )


NUMBERS = ("truncate_dim", "dual_softmax")
NONE = FeatureTransforms()
