"""Zero-shot evaluation of CLIP-like vision-language models."""

from cosmos_core.lazy import lazy_exports

__version__ = "0.1.0"
__all__ = ["evaluate", "load_model"]

__getattr__, __dir__ = lazy_exports(__name__, {"evaluate": "cosmos_eval.runner", "load_model": "cosmos_eval.models"})
