"""Zero-shot evaluation of CLIP-like vision-language models."""

from cosmos_core.lazy import lazy_exports

__version__ = "0.1.0"
__all__ = ["DataKind", "ModelKind", "ReaderInfo", "TaskInfo", "evaluate", "load_model", "to_frame"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "DataKind": "cosmos_eval.datasets.kinds",
        "ModelKind": "cosmos_eval.models.kinds",
        "ReaderInfo": "cosmos_eval.datasets.reader",
        "TaskInfo": "cosmos_eval.protocol.task_info",
        "evaluate": "cosmos_eval.run.evaluate",
        "load_model": "cosmos_eval.models",
        "to_frame": "cosmos_eval.report.frame",
    },
)
