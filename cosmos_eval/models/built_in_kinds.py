"""The built-in kinds of model spec, by the word before the colon. Imports neither torch nor model libraries."""

from cosmos_eval.models.kinds import ModelKind
from cosmos_eval.models.spec_kinds.cosmos import COSMOS
from cosmos_eval.models.spec_kinds.embeddings import EMBEDDINGS
from cosmos_eval.models.spec_kinds.flair import FLAIR
from cosmos_eval.models.spec_kinds.hf import HF
from cosmos_eval.models.spec_kinds.open_clip import OPEN_CLIP
from cosmos_eval.models.spec_kinds.python import PYTHON
from cosmos_eval.models.spec_kinds.st import ST

BUILT_IN: dict[str, ModelKind | str] = {
    "cosmos": COSMOS,
    "open_clip": OPEN_CLIP,
    "hf": HF,
    "flair": FLAIR,
    "st": ST,
    "python": PYTHON,
    "embeddings": EMBEDDINGS,
}
"""Word before the colon -> the kind, or its `module:name`, or the `module:name` of a class that makes an adapter, as in
a plug-in (see `spec.model_kind`). A new kind is an adapter module and a line here."""
