"""Zero-shot evaluation of CLIP-like vision-language models."""

from cosmos_core.lazy import lazy_exports

__version__ = "0.1.0"
__all__ = [
    "ChoiceData", "ClassificationData", "Data", "DataKind", "DatasetChecker", "FileImage", "Hits", "Measured",
    "ModelKind", "MultilabelData", "MultilingualRetrievalData", "Outcome", "PerceptionData", "ReaderInfo",
    "RetrievalData", "SegmentationData", "SplitData", "TaskInfo", "class_frame", "evaluate", "load_model",
    "make_benchmark", "to_frame",
]  # fmt: skip

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ChoiceData": "cosmos_eval.datasets.data",
        "ClassificationData": "cosmos_eval.datasets.data",
        "Data": "cosmos_eval.datasets.data",
        "DataKind": "cosmos_eval.datasets.kinds",
        "DatasetChecker": "cosmos_eval.datasets.dataset_checks",
        "FileImage": "cosmos_eval.datasets.image_sources",
        "Hits": "cosmos_eval.metrics.paired_samples",
        "Measured": "cosmos_eval.tasks.common",
        "ModelKind": "cosmos_eval.models.kinds",
        "MultilabelData": "cosmos_eval.datasets.data",
        "MultilingualRetrievalData": "cosmos_eval.datasets.data",
        "Outcome": "cosmos_eval.tasks.outcome",
        "PerceptionData": "cosmos_eval.datasets.data",
        "ReaderInfo": "cosmos_eval.datasets.reader",
        "RetrievalData": "cosmos_eval.datasets.data",
        "SegmentationData": "cosmos_eval.datasets.data",
        "SplitData": "cosmos_eval.datasets.data",
        "TaskInfo": "cosmos_eval.protocol.task_info",
        "class_frame": "cosmos_eval.report.class_frame",
        "evaluate": "cosmos_eval.run.evaluate",
        "load_model": "cosmos_eval.models",
        "make_benchmark": "cosmos_eval.run.in_memory",
        "to_frame": "cosmos_eval.report.frame",
    },
)
