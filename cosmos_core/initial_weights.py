"""Starting a training from existing weights: which architecture they have, what is copied, what begins anew.

This package reads no model specs. The caller of `train` resolves the setting `init`, and passes what it found.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import open_clip
import torch
from torch import Tensor

from cosmos_core.configs import POOLER_HEADS, Config, checked, preset
from cosmos_core.errors import RequestError
from cosmos_core.fsdp import copy_whole
from cosmos_core.model import COSMOS
from cosmos_core.objectives.base import CROSS_ATTENTION
from cosmos_core.rank_agreement import digest_of
from cosmos_core.run_state import portable_source
from cosmos_core.short_repr import short_repr

MAY_BE_NEW = (*CROSS_ATTENTION, "distill_logit_scale")
"""Beginnings of the names of parameters that a plain CLIP lacks, and that then have the random weights of the seed."""


@dataclass(frozen=True)
class InitialWeights:
    """Weights under the names of a COSMOS, with their architecture."""

    source: str
    """The spec, for people."""
    config: Config
    state: Mapping[str, Tensor]
    """Names of `COSMOS.state_dict()`; those that begin as in `MAY_BE_NEW` may be absent."""

    @property
    def has_poolers(self) -> bool:
        return any(name.startswith(CROSS_ATTENTION) for name in self.state)


LoadInitial = Callable[[], InitialWeights]
"""Loads the weights when they are needed: not where a run is resumed."""


def complete_config(config: Config | str, poolers: bool = True) -> dict[str, Any]:
    """A model's configuration by dotted keys, with open_clip's defaults; without the pooler heads if not `poolers`."""
    given = preset(config) if isinstance(config, str) else checked(config)
    values: dict[str, Any] = {"embed_dim": given["embed_dim"], "quick_gelu": bool(given.get("quick_gelu", False))}
    for part, kind in (("vision_cfg", open_clip.CLIPVisionCfg), ("text_cfg", open_clip.CLIPTextCfg)):
        defaults = kind()
        own = {item.name: getattr(defaults, item.name) for item in fields(kind)} | given[part]
        if not own.get("pool_type"):
            own["pool_type"] = getattr(defaults, "pool_type", None)
        if own.get("pool_type") == "eos":  # `checked` has seen that the end token is the largest id: the same position
            own["pool_type"] = "argmax"
        own["attn_pooler_heads"] = given[part].get("attn_pooler_heads", POOLER_HEADS) if poolers else None
        own.pop("eos_id", None)
        values |= {f"{part}.{key}": list(value) if isinstance(value, tuple) else value for key, value in own.items()}
    return values


def require_same_architecture(config: Config | str, initial: InitialWeights) -> None:
    """RequestError that names the first keys in which a training's model and the initial weights differ."""
    ours, theirs = (complete_config(settings, initial.has_poolers) for settings in (config, initial.config))
    differing = [key for key in theirs if ours.get(key) != theirs[key]]
    if differing:
        shown = "; ".join(
            f"{key} {short_repr(ours.get(key))} in the model and {short_repr(theirs[key])} in init"
            for key in differing[:3]
        )
        others = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RequestError(
            f"init={initial.source} has another architecture than model: {shown}{others}; set model= (empty) to take "
            "that of init"
        )


@torch.no_grad()
def start_from(networks: Iterable[COSMOS], initial: InitialWeights) -> dict[str, Any]:
    """Copy weights into networks that have the random weights of the seed.

    Returns:
        The entry of checkpoints: source, digest of the weights, and the names of parameters that begin anew.

    Raises:
        RequestError: a weight is missing, left over, of another shape or not finite.
    """
    new: list[str] = []
    for network in networks:
        current = network.state_dict()
        left_over = [name for name in initial.state if name not in current]
        missing = [name for name in current if name not in initial.state]
        new = [name for name in missing if name.startswith(MAY_BE_NEW)]
        wrong = [*left_over, *(name for name in missing if name not in new)]
        wrong += [name for name, value in initial.state.items() if name in current and not fits(value, current[name])]
        if wrong:
            raise RequestError(f"init={initial.source} does not fit the model: {', '.join(wrong[:3])}")
        for name, value in initial.state.items():
            copy_whole(current[name], value)
    return {"source": portable_source(initial.source), "digest": digest_of(dict(initial.state)), "new": new}


def fits(value: Tensor, parameter: Tensor) -> bool:
    return value.shape == parameter.shape and bool(torch.isfinite(value).all())


def describe_start(entry: Mapping[str, Any]) -> str:
    """What a run starts from, in one line."""
    new = entry["new"]
    groups = list(dict.fromkeys(next(part for part in MAY_BE_NEW if name.startswith(part)).strip(".") for name in new))
    begins = f"; these are not in it and begin with random weights: {', '.join(groups)}" if new else ""
    return f"starting from {entry['source']} (weights {entry['digest']}){begins}"
