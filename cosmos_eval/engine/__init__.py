"""Rows of features by item: batching, sharing, devices and precision behind one door."""

from cosmos_core.lazy import lazy_exports

__all__ = ["Engine", "Features", "resolve_device", "resolve_precision"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Engine": "cosmos_eval.engine.features",
        "Features": "cosmos_eval.engine.features",
        "resolve_device": "cosmos_eval.engine.precision",
        "resolve_precision": "cosmos_eval.engine.precision",
    },
)
