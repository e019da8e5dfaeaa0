"""Kinds of data, by which definitions, tasks and readers refer to data classes without importing them."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosmos_eval.datasets.data import Data


@dataclass(frozen=True)
class DataKind:
    """One kind of data. A task takes one kind; a reader returns one or several."""

    name: str
    """Its name in messages and in the table of readers."""
    class_path: str
    """`module:class` of the data class, a subclass of `cosmos_eval.datasets.data.Data`."""
    count_names: tuple[str, ...]
    """Keys that `expected` of a definition may have: those of `Data.counts`, and counts that readers add."""
    options: tuple[str, ...] = ()
    """Options of a definition that only this kind of data has (`Data.with_options`)."""

    @property
    def data_class(self) -> "type[Data]":
        """The data class, imported on access."""
        module, _, name = self.class_path.partition(":")
        data_class: Any = getattr(importlib.import_module(module), name)
        return data_class


RETRIEVAL = DataKind("retrieval", "cosmos_eval.datasets.data:RetrievalData", ("images", "texts"), ("distractors",))
CLASSIFICATION = DataKind(
    "classification",
    "cosmos_eval.datasets.data:ClassificationData",
    ("images", "classes"),
    ("candidates_without_images",),
)
MULTILABEL = DataKind(
    "multilabel", "cosmos_eval.datasets.data:MultilabelData", ("images", "classes", "labels", "undecided")
)
SEGMENTATION = DataKind("segmentation", "cosmos_eval.datasets.data:SegmentationData", ("images", "classes"))
PERCEPTION = DataKind("perception", "cosmos_eval.datasets.data:PerceptionData", ("images", "items", "rows"))
MULTIPLE_CHOICE = DataKind("multiple-choice", "cosmos_eval.datasets.data:ChoiceData", ("images", "items"))
MULTILINGUAL_RETRIEVAL = DataKind(
    "multilingual-retrieval",
    "cosmos_eval.datasets.data:MultilingualRetrievalData",
    ("images", "texts", "languages"),
)
