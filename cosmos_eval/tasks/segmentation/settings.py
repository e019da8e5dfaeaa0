"""The settings of a segmentation protocol (SCLIP, Wang et al., ECCV 2024), checked and filled in."""

from typing import Any

from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.protocol.source import Keys, Source

ATTENTIONS = ("vanilla", "csa", "clearclip", "naclip")
"""What the last block of the image's tower does; `cosmos_core.dense` says how."""
SETTINGS: dict[str, Any] = {
    "attention": "vanilla",
    "short_side": None,
    "long_side": 2048,
    "crop": 224,
    "stride": 112,
    "logit_scale": 40.0,
    "prob_thd": 0.0,
    "area_thd": None,
    "background": False,
    "pamr_steps": 0,
    "pamr_dilations": [8, 16],
}
"""Name -> value where a definition is silent. `short_side`: images are resized so that it has so many pixels and the
long side at most `long_side`; None: as they are. `crop` and `stride`: of the sliding window; crop 0 is the whole
image at once. `prob_thd`: pixels whose best class is less probable become class 0. `area_thd`: classes with at most
this share of the foreground are left out. `background`: class 0 is what is none of the others; both thresholds ask for
it."""


def check_segmentation(source: Source) -> dict[str, Any]:
    """The settings of a definition, every one of them there and of its type.

    Raises:
        RequestError: an unknown setting, or a value that cannot be; names file and line.
    """
    given = source.value.get("segmentation", {})
    for key in given:
        if key not in SETTINGS:
            raise source.refuse(
                ("segmentation", key), f"unknown key {short_repr(key)} in segmentation{near(str(key), SETTINGS)}"
            )
    found = {**SETTINGS, **given}

    def refuse(key: str, must: str) -> Exception:
        at: Keys = ("segmentation", key)
        return source.refuse(at, f"{key} must be {must}, not {short_repr(found[key])}")

    if found["attention"] not in ATTENTIONS:
        raise refuse("attention", f"one of {', '.join(ATTENTIONS)}")
    for key, least in (("long_side", 1), ("crop", 0), ("stride", 1), ("pamr_steps", 0)):
        if not _whole(found[key], least):
            raise refuse(key, f"a whole number from {least} on")
    if found["short_side"] is not None and not (
        _whole(found["short_side"], 1) and found["short_side"] <= found["long_side"]
    ):
        raise refuse("short_side", "a whole number of pixels, at most long_side")
    if found["stride"] > found["crop"] > 0:
        raise refuse("stride", "at most crop, or pixels between windows would be left out")
    if not _number(found["logit_scale"]) or found["logit_scale"] <= 0:
        raise refuse("logit_scale", "a number above 0")
    if not _number(found["prob_thd"]) or not 0 <= found["prob_thd"] <= 1:
        raise refuse("prob_thd", "a probability")
    if found["area_thd"] is not None and (not _number(found["area_thd"]) or not 0 <= found["area_thd"] < 1):
        raise refuse("area_thd", "a share of the foreground, below 1")
    if not isinstance(found["background"], bool):
        raise refuse("background", "true or false")
    if not found["background"] and (found["prob_thd"] or found["area_thd"] is not None):
        raise refuse("background", "true where prob_thd or area_thd is set: both give pixels to class 0")
    dilations = found["pamr_dilations"]
    if not isinstance(dilations, list) or not dilations or not all(_whole(one, 1) for one in dilations):
        raise refuse("pamr_dilations", "a list of whole numbers from 1 on")
    numbers = {key: float(found[key]) for key in ("logit_scale", "prob_thd")}
    area = None if found["area_thd"] is None else float(found["area_thd"])
    return {**found, **numbers, "area_thd": area}


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
