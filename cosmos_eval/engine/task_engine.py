"""What tasks know of the engine."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.scores import Scores


class TaskEngine(Protocol):
    """What a task may ask of the engine. Features have unit length, in float32, in the order of the inputs."""

    def image_features(self, images: Sequence[ImageSource]) -> Tensor: ...

    def text_features(self, texts: Sequence[str], language: str | None = None) -> Tensor: ...

    def score(
        self,
        images: Sequence[ImageSource],
        texts: Sequence[str],
        rerank: int | None = None,
        language: str | None = None,
    ) -> Scores: ...

    def score_pairs(self, images: Sequence[ImageSource], texts: Sequence[str], pairs: Tensor) -> Tensor: ...
