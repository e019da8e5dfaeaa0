"""Data classes: what readers return and tasks evaluate, one class for each kind of data."""

from cosmos_eval.datasets.data.base import Data
from cosmos_eval.datasets.data.choices import ChoiceData
from cosmos_eval.datasets.data.classification import ClassificationData
from cosmos_eval.datasets.data.multilabel import MultilabelData
from cosmos_eval.datasets.data.multilingual import MultilingualRetrievalData
from cosmos_eval.datasets.data.perception import PerceptionData
from cosmos_eval.datasets.data.retrieval import RetrievalData
from cosmos_eval.datasets.data.segmentation import IGNORED, SegmentationData
from cosmos_eval.datasets.data.splits import SplitData

__all__ = [
    "IGNORED", "ChoiceData", "ClassificationData", "Data", "MultilabelData", "MultilingualRetrievalData",
    "PerceptionData", "RetrievalData", "SegmentationData", "SplitData",
]  # fmt: skip
