"""The kinds of data, for definitions, tasks and readers: what they are called and counted by. Imports nothing heavy."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosmos_eval.datasets.data import Data


@dataclass(frozen=True)
class DataKind:
    """One kind of data: a task takes one, a reader makes one or several."""

    name: str
    """As tables of readers and messages call it."""
    where: str
    """`module:class` of the data class (a subclass of `cosmos_eval.datasets.data.Data`)."""
    counted: tuple[str, ...]
    """What `expected` of a definition may count: the keys of `Data.counts`, and counts that readers note themselves."""
    options: tuple[str, ...] = ()
    """Options of definitions that only such data understand (`Data.with_options`)."""

    @property
    def data_class(self) -> "type[Data]":
        """The class, imported when it is asked for."""
        module, _, name = self.where.partition(":")
        found: Any = getattr(importlib.import_module(module), name)
        return found


RETRIEVAL = DataKind("retrieval", "cosmos_eval.datasets.data:RetrievalData", ("images", "texts"))
CLASSIFICATION = DataKind(
    "classification",
    "cosmos_eval.datasets.data:ClassificationData",
    ("images", "classes"),
    ("candidates_without_images",),
)
SEGMENTATION = DataKind("segmentation", "cosmos_eval.datasets.data:SegmentationData", ("images", "classes"))
PERCEPTION = DataKind("perception", "cosmos_eval.datasets.data:PerceptionData", ("images", "items", "rows"))
