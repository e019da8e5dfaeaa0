"""The settings of a segmentation protocol (SCLIP, Wang et al., ECCV 2024): defaults and checks."""

from typing import Any

from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.protocol.source import Keys, Source

ATTENTIONS = ("vanilla", "csa", "maskclip", "clearclip", "naclip", "raw")
"""Variants of the image tower's last attention block; described in `cosmos_core.dense`."""
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
"""All settings with their default values.

- `attention`: one of `ATTENTIONS`.
- `short_side`, `long_side`: images are resized so that the short side has `short_side` pixels and the long side at most
  `long_side`; `short_side: null` leaves images as they are.
- `crop`, `stride`: size and step of the sliding window in pixels; `crop: 0` takes the whole image as one window.
- `logit_scale`: factor of the cosines before the softmax.
- `background`: whether class 0 is the background, for pixels of none of the other classes. Both thresholds need it.
- `prob_thd`: pixels whose best class has a lower probability become class 0.
- `area_thd`: classes that cover at most this share of the foreground of an image are dropped from its label map.
- `pamr_steps`, `pamr_dilations`: refinement of the logits (`pamr.py`); 0 steps turns it off.
"""


def read_settings(source: Source) -> dict[str, Any]:
    """The section `segmentation` of a definition, with defaults filled in.

    Raises:
        RequestError: an unknown setting, or a value of the wrong type or out of range; names file and line.
    """
    section = source.value.get("segmentation", {})
    for key in section:
        if key not in SETTINGS:
            raise source.refuse(
                ("segmentation", key), f"unknown key {short_repr(key)} in segmentation{near(str(key), SETTINGS)}"
            )
    settings = {**SETTINGS, **section}

    def refuse(key: str, requirement: str) -> Exception:
        keys: Keys = ("segmentation", key)
        return source.refuse(keys, f"{key} must be {requirement}, not {short_repr(settings[key])}")

    if settings["attention"] not in ATTENTIONS:
        raise refuse("attention", f"one of {', '.join(ATTENTIONS)}")
    for key, least in (("long_side", 1), ("crop", 0), ("stride", 1), ("pamr_steps", 0)):
        if not _is_whole(settings[key], least):
            raise refuse(key, f"a whole number of at least {least}")
    short_side = settings["short_side"]
    if short_side is not None and not (_is_whole(short_side, 1) and short_side <= settings["long_side"]):
        raise refuse("short_side", "a whole number of pixels, at most long_side")
    if settings["stride"] > settings["crop"] > 0:
        raise refuse("stride", "at most crop, since pixels between the windows would be left out")
    if not _is_number(settings["logit_scale"]) or settings["logit_scale"] <= 0:
        raise refuse("logit_scale", "a number above 0")
    if not _is_number(settings["prob_thd"]) or not 0 <= settings["prob_thd"] <= 1:
        raise refuse("prob_thd", "a probability (0 to 1)")
    area_thd = settings["area_thd"]
    if area_thd is not None and (not _is_number(area_thd) or not 0 <= area_thd < 1):
        raise refuse("area_thd", "a share of the foreground: at least 0 and below 1")
    if not isinstance(settings["background"], bool):
        raise refuse("background", "true or false")
    if not settings["background"] and (settings["prob_thd"] or area_thd is not None):
        raise refuse("background", "true if prob_thd or area_thd is set, since both assign pixels to class 0")
    dilations = settings["pamr_dilations"]
    if not isinstance(dilations, list) or not dilations or not all(_is_whole(dilation, 1) for dilation in dilations):
        raise refuse("pamr_dilations", "a list of whole numbers of at least 1")
    # `40` and `40.0` in a definition are the same protocol: the fingerprint is computed from these floats.
    numbers = {key: float(settings[key]) for key in ("logit_scale", "prob_thd")}
    return {**settings, **numbers, "area_thd": None if area_thd is None else float(area_thd)}


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    is_nan = value != value
    return isinstance(value, int | float) and not isinstance(value, bool) and not is_nan
