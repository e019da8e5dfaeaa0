"""What an `open_clip:` spec names: a tag of the registry, a file, or a folder with open_clip's own configuration.

The weights' own configuration decides the activation. open_clip builds what ARCH says and only warns when the weights
were trained otherwise (ViT-B-16 with the tag openai: four points of ImageNet lost); here the tag's configuration is
applied, and a file that says otherwise than ARCH is refused.
"""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_eval.models.base import one_line
from cosmos_eval.models.hub import offline_hub, quiet_hub
from cosmos_eval.models.open_clip_files import file_says, peek
from cosmos_eval.models.open_clip_folder import read_folder
from cosmos_eval.models.spec import LOCAL_DIR, QUICK, ModelSpec


@dataclass(frozen=True)
class Source:
    """A network to build and the weights to put into it."""

    build: str
    """What open_clip builds: an architecture, or `local-dir:FOLDER`."""
    arch: str
    """The architecture's name, for people."""
    config: dict[str, Any]
    """open_clip's model configuration, with the `quick_gelu` that is built."""
    preprocessing: dict[str, Any]
    """open_clip's `preprocess_cfg`."""
    path: Path
    """The file of weights."""
    content: dict[str, Any]
    """What `peek` found in it."""
    source: str
    """A tag, or a file's or folder's name, without the folders of this machine."""
    decided_by: str
    """Who said which activation: registry tag, file, user or architecture."""

    @property
    def quick_gelu(self) -> bool:
        return bool(self.config.get("quick_gelu", False))


def find_source(spec: ModelSpec, check: bool = True, online: bool = True) -> Source:
    """What a spec names. A tag's weights are fetched unless they are in the cache already.

    Args:
        check: compare the file with its checksums; see `cosmos_core.tensor_files.read_tensors`.
        online: whether the network may be asked for a tag's weights.

    Raises:
        RequestError: unknown architecture or tag, no such file or folder, a file that is not a checkpoint or would run
            code, another activation than asked for, a file whose activation nobody tells, or a download that fails.
    """
    if spec.name == LOCAL_DIR:
        return folder_source(spec, check)
    base, asked = architecture_of(spec)
    tag_config = get_pretrained_cfg(base, spec.rest)
    if not tag_config:
        return file_source(spec, base, asked, check)
    quick = activation_of_tag(spec, base, asked, tag_config)
    path = Path(fetch(spec, tag_config, online))
    keys = ("mean", "std", "interpolation", "resize_mode", "size")
    return Source(
        build=base,
        arch=named(base, quick),
        config={**open_clip.get_model_config(base), "quick_gelu": quick},
        preprocessing={key: value for key, value in tag_config.items() if key in keys},
        path=path,
        content=peek(path, check),
        source=f"{spec.rest} of open_clip's registry",
        decided_by="registry tag",
    )


def is_at_hand(spec: ModelSpec) -> bool:
    """Whether nothing has to be fetched for a spec's weights: a file or folder, or a tag whose file is in a cache.

    Raises:
        RequestError: unknown architecture.
    """
    if spec.name == LOCAL_DIR:
        return True
    base, asked = architecture_of(spec)
    tag_config = get_pretrained_cfg(base, spec.rest)
    if not tag_config:
        return True
    activation_of_tag(spec, base, asked, tag_config)
    if "file" in tag_config:
        return True
    hub = tag_config.get("hf_hub", "")
    if not hub:
        return (Path("~/.cache/clip").expanduser() / Path(tag_config.get("url", "")).name).is_file()
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, _, name = hub.rpartition("/")
    names = [name] if name else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    names += [f"{Path(one).stem}.safetensors" for one in names]
    return any(isinstance(try_to_load_from_cache(repository, one), str) for one in names)


def file_source(spec: ModelSpec, base: str, asked: bool | None, check: bool) -> Source:
    path = user_path(spec.rest)
    if not path.exists():
        tags = ", ".join(list_pretrained_tags_by_model(base)) or "none"
        raise RequestError(f"{spec.text}: {spec.rest!r} is neither a file nor a tag of {base}; its tags: {tags}")
    if (path / "open_clip_config.json").is_file():
        raise RequestError(f"{spec.text}: {path} is a folder of open_clip; write open_clip:{LOCAL_DIR}:{path}")
    content = peek(path, check)
    quick, decided_by = activation_of_file(spec, base, asked, path, content)
    return Source(
        build=base,
        arch=named(base, quick),
        config={**open_clip.get_model_config(base), "quick_gelu": quick},
        preprocessing=preprocessing_of_file(spec, base, path),
        path=path,
        content=content,
        source=path.name,
        decided_by=decided_by,
    )


def folder_source(spec: ModelSpec, check: bool) -> Source:
    folder = read_folder(user_path(spec.rest), spec.text)
    content = peek(folder.weights, check)
    folder.refuse_other_sizes(content["state_dict"], spec.text)
    config = {**folder.config, "quick_gelu": bool(folder.config.get("quick_gelu", False))}
    known = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    same = [name for name, own in known.items() if {**own, "quick_gelu": own.get("quick_gelu", False)} == config]
    return Source(
        build=f"{LOCAL_DIR}:{folder.path}",
        arch=same[0] if same else folder.described(),
        config=config,
        preprocessing=folder.preprocessing,
        path=folder.weights,
        content=content,
        source=folder.path.resolve().name,
        decided_by="file",
    )


def named(base: str, quick: bool) -> str:
    """The architecture's name with open_clip's suffix where it has QuickGELU."""
    return base + (QUICK if quick and not base.endswith(QUICK) else "")


def activation_of_tag(spec: ModelSpec, base: str, asked: bool | None, tag_config: dict[str, Any]) -> bool:
    """Whether a tag's weights want QuickGELU; RequestError where the user asks for the other."""
    quick = trained_with_quick_gelu(base, tag_config)
    if asked not in (None, quick):
        raise RequestError(
            f"{spec.text}: the weights {spec.rest} were trained with {'QuickGELU' if quick else 'GELU'}; "
            f"write open_clip:{base}/{spec.rest}"
        )
    return quick


def is_native(config: dict[str, Any]) -> bool:
    """Whether a tower is open_clip's own and so obeys `quick_gelu`; timm's and transformers' bring their activation."""
    return not ("timm_model_name" in config["vision_cfg"] and "hf_model_name" in config["text_cfg"])


def trained_with_quick_gelu(base: str, tag_config: dict[str, Any]) -> bool:
    """The activation of a tag's weights, which the registry marks on the tag.

    An architecture that has QuickGELU in its own configuration without the suffix (roberta-ViT-B-32) keeps it: its tags
    are not marked, and were trained with what stands there.
    """
    return bool(tag_config.get("quick_gelu", False) or open_clip.get_model_config(base).get("quick_gelu", False))


def architecture_of(spec: ModelSpec) -> tuple[str, bool | None]:
    """Name of the configuration, and whether the user asks for QuickGELU: by the suffix -quickgelu, which is ARCH with
    another activation, or by #quickgelu; False by #gelu, None where nothing is asked."""
    known = open_clip.list_models()
    base = spec.name.removesuffix(QUICK)
    if base not in known:
        close = difflib.get_close_matches(base, [name for name in known if not name.endswith(QUICK)], n=5, cutoff=0.5)
        raise RequestError(
            f"{spec.text}: open_clip knows no architecture {spec.name!r}; near it: {', '.join(close) or 'none'}"
        )
    if base != spec.name or spec.selector == "quickgelu":
        return base, True
    return base, False if spec.selector == "gelu" else None


def known_activations(base: str) -> set[bool]:
    """Whether an architecture is known with QuickGELU (True), without (False) or both: by its own configuration, by a
    twin of the suffix -quickgelu, and by the registry's weights. RN50x4 is both: plain by name, while its only weights
    are of QuickGELU."""
    own = open_clip.get_model_config(base)
    if not is_native(own):
        return {False}  # its towers bring their activation
    found = {bool(own.get("quick_gelu", False))}
    found |= {
        trained_with_quick_gelu(base, get_pretrained_cfg(base, tag)) for tag in list_pretrained_tags_by_model(base)
    }
    twin = base + QUICK
    return found | {True} if twin in open_clip.list_models() or list_pretrained_tags_by_model(twin) else found


def activation_of_file(
    spec: ModelSpec, base: str, asked: bool | None, path: Path, content: dict[str, Any]
) -> tuple[bool, str]:
    """Whether a file's weights want QuickGELU, and who says so: file, user or architecture."""
    said = file_says(path, content)
    known = known_activations(base)
    own = bool(open_clip.get_model_config(base).get("quick_gelu", False))
    quick = own if asked is None else asked
    if "quick_gelu" in said:
        if said["quick_gelu"] != quick:
            right = f"{base}{QUICK}/{spec.rest}" if said["quick_gelu"] else f"{base}/{spec.rest}#gelu"
            raise RequestError(
                f"{spec.text}: {said['where']} says that the weights were trained with "
                f"{'QuickGELU' if said['quick_gelu'] else 'GELU'}; write open_clip:{right}"
            )
        return quick, "file"
    if asked is not None:
        return quick, "user"
    if len(known) > 1:
        raise RequestError(
            f"{spec.text}: {path.name} does not say whether it was trained with QuickGELU, and {base} exists with "
            f"and without; write open_clip:{base}/{spec.rest}#quickgelu (OpenAI's, and what began from them) or #gelu"
        )
    return quick, "architecture"


def fetch(spec: ModelSpec, tag_config: dict[str, Any], online: bool = True) -> str:
    try:
        with quiet_hub() if online else offline_hub():
            return download_pretrained(tag_config)
    except Exception as error:
        raise RequestError(
            f"{spec.text}: the weights are not in the cache and cannot be fetched: {one_line(error)}; "
            f"fetch them on a connected machine, or give a file: open_clip:{spec.name}/PATH"
        ) from error


def preprocessing_of_file(spec: ModelSpec, base: str, path: Path) -> dict[str, Any]:
    """Of the configuration beside the file, else what the registry's weights of this arch share, else CLIP's."""
    beside = file_says(path, {}).get("preprocessing")
    if beside:
        return beside
    keys = ("mean", "std", "interpolation", "resize_mode")
    registered = [get_pretrained_cfg(base, tag) for tag in list_pretrained_tags_by_model(base)]
    settings = {
        json.dumps({key: list(c[key]) if key in ("mean", "std") else c[key] for key in keys}) for c in registered
    }
    if len(settings) == 1:
        return json.loads(settings.pop())
    # Where they differ (ViT-L-14, ViT-H-14: one odd set of weights each) or are none, open_clip's training uses CLIP's.
    return dict(CLIP_PREPROCESSING)


CLIP_PREPROCESSING = {
    "mean": list(open_clip.OPENAI_DATASET_MEAN),
    "std": list(open_clip.OPENAI_DATASET_STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
