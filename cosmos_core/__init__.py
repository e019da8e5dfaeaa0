"""The COSMOS model (cross-modality self-distillation, arXiv 2412.01814) and its training."""

from cosmos_core.lazy import lazy_exports

__all__ = ["COSMOS", "CosmosLoss", "MultiCrop", "TextCrop", "load_checkpoint"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "COSMOS": "cosmos_core.model",
        "CosmosLoss": "cosmos_core.objectives.cosmos",
        "MultiCrop": "cosmos_core.views",
        "TextCrop": "cosmos_core.views",
        "load_checkpoint": "cosmos_core.checkpoint",
    },
)
