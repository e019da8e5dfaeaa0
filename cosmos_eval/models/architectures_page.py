"""The page `docs/architectures.md`: which architectures of open_clip can do which task.

python -m cosmos_eval.models.architectures_page docs/architectures.md

Each image tower is built without memory (on torch's meta device) and asked; nothing is decided by its name. It takes a
few minutes.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cosmos_core.dense import require_supported_tower, supported_attentions
from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_eval.models.open_clip_compat import list_architectures, model_config, why_no_dual_encoder
from cosmos_eval.models.open_clip_network import build

INTRODUCTION = """# Architectures of open_clip

<!-- Written by `python -m cosmos_eval.models.architectures_page docs/architectures.md`. -->

What `open_clip:ARCH/TAG` and `open_clip:ARCH/PATH` can do, for each architecture of open_clip's registry. Models in a
folder (`open_clip:local-dir:DIR`) or on the hub (`open_clip:hf-hub:ORG/NAME`) can do what their image tower can.
`cosmos-eval show model SPEC` says the same of one model, with the reason for what it cannot do.

- **scores**: retrieval, classification, perception and every other task that scores images with texts.
- **segmentation**: the attention variants of the tower's last block for which it gives features of patches
  ([segmentation.md](segmentation.md)).
- **from the hub**: what is fetched besides the weights when the model is first loaded, or taken from the cache: the
  tokenizer, and the configuration (not the weights) of a text tower of transformers. A folder may hold both."""
SMALL_TEXT = {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 1, "layers": 1}
"""A text tower in place of an architecture's own, whose configuration may be on the hub; the image tower is asked."""
COLUMNS = ("architecture", "image tower", "input", "scores", "segmentation", "from the hub")


@dataclass(frozen=True)
class Architecture:
    """What is known of an architecture of the registry."""

    name: str
    image_tower: str
    """Library and class."""
    image_size: str
    refusal: str
    """Why it is not a model of images and texts that can be read; empty if it is one."""
    attentions: tuple[str, ...]
    """Attention variants for which it gives features of patches."""
    no_patches: str
    """Why it gives none; empty if it does."""
    hub_files: tuple[str, ...]
    """What is fetched besides the weights."""

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        scores = f"no: {self.refusal}" if self.refusal else "yes"
        segmentation = ", ".join(self.attentions) or f"no: {self.no_patches or self.refusal}"
        return (
            f"`{self.name}`",
            self.image_tower,
            self.image_size,
            scores,
            segmentation,
            ", ".join(self.hub_files) or "-",
        )


def ask_architecture(name: str) -> Architecture:
    """Build the image tower of an architecture without memory, and ask what it can do."""
    config = model_config(name)
    assert config is not None, name
    text = config["text_cfg"]
    hub_files = [f"configuration of `{text['hf_model_name']}`"] if text.get("hf_model_name") else []
    hub_files += [f"tokenizer `{text['hf_tokenizer_name']}`"] if text.get("hf_tokenizer_name") else []
    size = config["vision_cfg"].get("image_size", 224)
    image_size = " x ".join(map(str, size)) if isinstance(size, list | tuple) else str(size)
    refusal = why_no_dual_encoder(config)
    if refusal:
        return Architecture(name, "-", image_size, refusal, (), "", tuple(hub_files))
    tower, attentions, reason = ask_image_tower(json.dumps(config["vision_cfg"] | {"image_size": 0}), name)
    return Architecture(name, tower, image_size, "", attentions, reason, tuple(hub_files))


_ASKED: dict[str, tuple[str, tuple[str, ...], str]] = {}


def ask_image_tower(settings: str, name: str) -> tuple[str, tuple[str, ...], str]:
    """Library and class of an image tower, its attention variants, and why it has none.

    Args:
        settings: the tower's settings but for the size of images; towers with equal ones are built once.
        name: an architecture with this tower.
    """
    if settings not in _ASKED:
        with torch.device("meta"):
            visual: Any = build(name, {}, name, device="meta", text_cfg=SMALL_TEXT).visual
        reason = ""
        try:
            require_supported_tower(visual, name)
        except RequestError as error:
            reason = str(error).removeprefix(f"{name} gives no features of patches: ").partition("; ")[0]
        trunk = getattr(visual, "trunk", None)
        tower = f"timm `{type(trunk).__name__}`" if trunk is not None else f"open_clip `{type(visual).__name__}`"
        _ASKED[settings] = tower, supported_attentions(visual), reason
    return _ASKED[settings]


def write_page(architectures: Sequence[Architecture]) -> str:
    """The whole page, in Markdown."""
    scoring = [a for a in architectures if not a.refusal]
    segmenting = [a for a in architectures if a.attentions]
    reasons = Counter(a.no_patches for a in scoring if not a.attentions)
    without = "; ".join(f"{count} because {reason}" for reason, count in reasons.most_common())
    lines = [
        INTRODUCTION,
        "",
        f"open_clip {version('open_clip_torch')} has {len(architectures)} architectures: {len(scoring)} give scores, "
        f"{len(segmenting)} segmentation." + (f" Without segmentation: {without}." if without else ""),
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
    ]
    return "\n".join([*lines, *(f"| {' | '.join(a.cells())} |" for a in architectures)]) + "\n"


def main() -> None:
    """Write the page again."""
    names = list_architectures()
    architectures = []
    for number, name in enumerate(names, 1):
        print(f"\r{number} of {len(names)} architectures", end="", file=sys.stderr)
        architectures.append(ask_architecture(name))
    print(file=sys.stderr)
    atomic_write_text(Path(sys.argv[1]), write_page(architectures))


if __name__ == "__main__":
    main()
