"""Text towers of transformers in open_clip's models: built from a configuration that is a file of its own.

open_clip's configuration only names them (`hf_model_name`, such as xlm-roberta-base). Their own `config.json` comes
from the cache or the hub, or lies in the folder of the model. Weights are not needed: the checkpoint has them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_eval.models.hub import offline_hub, quiet_hub

TEXT_CONFIG = "config.json"


def find_text_config(folder: Path, text_config: Mapping[str, Any]) -> Path | None:
    """The folder if it holds the configuration of its text tower of transformers; None to take it from cache or hub."""
    if not text_config.get("hf_model_name") or not (folder / TEXT_CONFIG).is_file():
        return None
    from open_clip.hf_configs import arch_dict

    try:
        content = read_json(folder / TEXT_CONFIG)
    except RequestError:
        return None  # perhaps of something else; the configuration by name is the right one in any case
    is_text_tower = isinstance(content, dict) and content.get("model_type") in arch_dict
    return folder if is_text_tower and "auto_map" not in content else None


@contextmanager
def text_library(text_config: Mapping[str, Any], online: bool) -> Iterator[None]:
    """The setting in which transformers builds a text tower or tokenizer: no code of others, no needless downloads.

    Args:
        online: whether its configuration may be downloaded.
    """
    if not text_config.get("hf_model_name") and not text_config.get("hf_tokenizer_name"):
        yield
        return
    from transformers import dynamic_module_utils

    seconds = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # or transformers would ask on the terminal whether to run code
    try:
        with quiet_hub() if online else offline_hub():
            yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = seconds


def advise_on_text_tower(text_config: Mapping[str, Any], is_folder: bool) -> str:
    """What to do if a text tower of transformers cannot be built, as the end of a message; empty for other towers."""
    name = text_config.get("hf_model_name")
    if not name:
        return ""
    place = f"put that {TEXT_CONFIG} into the folder" if is_folder else "copy the cache (HF_HOME)"
    return (
        f"; its text tower needs the configuration of {name}: fetch it on a connected machine with "
        f"hf download {name} {TEXT_CONFIG}, and {place}"
    )
