"""`open_clip:ARCH/X`: a model of open_clip, X a tag of its registry or a checkpoint file.

The weights' own configuration decides the activation. open_clip builds what ARCH says and only warns when the weights
were trained otherwise (ViT-B-16 with the tag openai: four points of ImageNet lost); here the tag's configuration is
applied, a file that says otherwise than ARCH is refused, and the activation that a result records is read from the
built modules. A file that says nothing (OpenAI's weights saved again) where ARCH is trained both ways needs the user's
word: `ARCH-quickgelu/PATH`, `ARCH/PATH#quickgelu` or `ARCH/PATH#gelu`.
"""

import difflib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from torch import Tensor

from cosmos_core.byte_pairs import fast
from cosmos_core.dense import patch_features, refuse_tower
from cosmos_core.errors import RequestError
from cosmos_core.text_tower import causal_text
from cosmos_eval.models import digest as identity
from cosmos_eval.models.activation import activation_of
from cosmos_eval.models.base import as_patches, as_rows, one_line
from cosmos_eval.models.hub import quiet_hub
from cosmos_eval.models.open_clip_files import file_says, peek
from cosmos_eval.models.open_clip_network import build, fill
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.models.spec import QUICK, ModelSpec
from cosmos_eval.models.trimmed import TrimmedText


class OpenClipModel:
    """An open_clip network with its tokenizer and preprocessing, ready to encode."""

    def __init__(
        self,
        network: torch.nn.Module,
        tokenizer: Any,
        preprocess: ImagePreprocess,
        *,
        arch: str,
        config: dict[str, Any],
        spec: str,
        source: str,
        activation_source: str,
        device: str | torch.device = "cpu",
    ) -> None:
        """`config` is open_clip's model configuration with the `quick_gelu` that was built; `source` a tag or a file
        name; `activation_source` who said which activation: registry tag, file, user or architecture."""
        self.network = network.to(device).float().eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.arch = arch
        self.config = config
        self.spec = spec
        self.source = source
        self.activation_source = activation_source
        self.device = torch.device(device)

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        rows = self.network.encode_image(x.to(self.device))  # type: ignore[operator]
        return as_rows(rows, len(x), f"{self.spec}: encode_image")

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        rows = self.network.encode_text(self.tokenizer(list(texts)).to(self.device))  # type: ignore[operator]
        return as_rows(rows, len(texts), f"{self.spec}: encode_text")

    @cached_property
    def trimmed_text(self) -> TrimmedText | None:
        """For texts that are cut behind the token that is read; None where the tower must see whole contexts."""
        tower = causal_text(self.network)
        return None if tower is None else TrimmedText(fast(self.tokenizer), tower, self.device)

    @torch.no_grad()
    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        self.check_patches()
        patches = patch_features(self.network.visual, x.to(self.device), attention)
        return as_patches(patches, len(x), f"{self.spec}: encode_patches")

    def check_patches(self) -> None:
        """RequestError where the image tower has no features of patches; one line."""
        refuse_tower(self.network.visual, self.spec)

    @cached_property
    def digest(self) -> str:
        return identity.model_digest(
            self.network.state_dict(),
            {**self.config, "activation": activation_of(self.network)},
            {"identity": identity.tokenizer_identity(self.tokenizer, _vocabulary(self.tokenizer))},
            self.preprocess.describe(),
        )

    def describe(self) -> dict[str, Any]:
        context_length = self.tokenizer(["a"]).shape[1]
        return {
            "arch": self.arch,
            "activation": activation_of(self.network),
            "activation_source": self.activation_source,
            "tokenizer": type(self.tokenizer).__name__,
            "context_length": context_length,
            "text_case": identity.text_case(self.tokenizer),
            "padding": identity.text_padding(self.tokenizer, context_length),
            **self.preprocess.describe(),
            "parameters": identity.count_parameters(list(self.network.parameters())),
            "source": self.source,
        }


def load_open_clip(spec: ModelSpec, device: str | torch.device = "cpu") -> OpenClipModel:
    """Build what an `open_clip:` spec names. A tag's weights are fetched unless they are in the cache already.

    Raises:
        RequestError: unknown architecture or tag, no such file, a file that is not a checkpoint or would run code,
            weights of another architecture, size or activation, a file whose activation nobody tells, or a download
            that fails.
    """
    base, asked = _architecture(spec)
    tag_config = get_pretrained_cfg(base, spec.rest)
    preprocessing: dict[str, Any]
    if tag_config:
        quick = trained_with_quick_gelu(base, tag_config)
        if asked not in (None, quick):
            raise RequestError(
                f"{spec.text}: the weights {spec.rest} were trained with {'QuickGELU' if quick else 'GELU'}; "
                f"write open_clip:{base}/{spec.rest}"
            )
        path = Path(_fetch(spec, tag_config))
        preprocessing = {
            k: v for k, v in tag_config.items() if k in ("mean", "std", "interpolation", "resize_mode", "size")
        }
        source, decided_by = f"{spec.rest} of open_clip's registry", "registry tag"
        content = peek(path)
    else:
        path = Path(spec.rest).expanduser()
        if not path.is_file():
            tags = ", ".join(list_pretrained_tags_by_model(base)) or "none"
            raise RequestError(f"{spec.text}: {spec.rest!r} is neither a file nor a tag of {base}; its tags: {tags}")
        content = peek(path)
        quick, decided_by = _activation_of_file(spec, base, asked, path, content)
        preprocessing = _preprocessing_of_file(spec, base, path)
        source = path.name
    config = {**open_clip.get_model_config(base), "quick_gelu": quick}
    network = build(base, preprocessing, spec.text, quick_gelu=quick)
    fill(network, content["state_dict"], path, base, spec.text)
    built = activation_of(network)
    if quick != ("quick_gelu" in built) and _native(config):
        raise RuntimeError(f"asked open_clip for quick_gelu={quick} and got {built}")  # ours to mend, not the user's
    try:
        with quiet_hub() if config["text_cfg"].get("hf_tokenizer_name") else nullcontext():
            tokenizer = _tokenizer(base)
    except Exception as error:
        raise RequestError(f"{spec.text}: the tokenizer of {base} cannot be loaded: {one_line(error)}") from error
    return OpenClipModel(
        network,
        tokenizer,
        _image_preprocess(network),
        arch=base + (QUICK if quick and not base.endswith(QUICK) else ""),
        config=config,
        spec=spec.text,
        source=source,
        activation_source=decided_by,
        device=device,
    )


def trained_with_quick_gelu(base: str, tag_config: dict[str, Any]) -> bool:
    """The activation of a tag's weights, which the registry marks on the tag.

    An architecture that has QuickGELU in its own configuration without the suffix (roberta-ViT-B-32) keeps it: its tags
    are not marked, and were trained with what stands there.
    """
    return bool(tag_config.get("quick_gelu", False) or open_clip.get_model_config(base).get("quick_gelu", False))


def _architecture(spec: ModelSpec) -> tuple[str, bool | None]:
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
    if not _native(own):
        return {False}  # its towers bring their activation
    found = {bool(own.get("quick_gelu", False))}
    found |= {
        trained_with_quick_gelu(base, get_pretrained_cfg(base, tag)) for tag in list_pretrained_tags_by_model(base)
    }
    twin = base + QUICK
    return found | {True} if twin in open_clip.list_models() or list_pretrained_tags_by_model(twin) else found


def _activation_of_file(
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


@lru_cache(maxsize=4)
def _tokenizer(base: str) -> Any:
    return open_clip.get_tokenizer(base)


def _native(config: dict[str, Any]) -> bool:
    """Whether a tower is open_clip's own and so obeys `quick_gelu`; timm's and transformers' bring their activation."""
    return not ("timm_model_name" in config["vision_cfg"] and "hf_model_name" in config["text_cfg"])


def _fetch(spec: ModelSpec, tag_config: dict[str, Any]) -> str:
    try:
        with quiet_hub():
            return download_pretrained(tag_config)
    except Exception as error:
        raise RequestError(
            f"{spec.text}: the weights are not in the cache and cannot be fetched: {one_line(error)}; "
            f"fetch them on a connected machine, or give a file: open_clip:{spec.name}/PATH"
        ) from error


def _preprocessing_of_file(spec: ModelSpec, base: str, path: Path) -> dict[str, Any]:
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
    return dict(_CLIP)


_CLIP = {
    "mean": list(open_clip.OPENAI_DATASET_MEAN),
    "std": list(open_clip.OPENAI_DATASET_STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def _image_preprocess(network: torch.nn.Module) -> ImagePreprocess:
    settings = open_clip.get_model_preprocess_cfg(network)
    return ImagePreprocess(
        settings["size"],
        mean=settings["mean"],
        std=settings["std"],
        resize=settings["resize_mode"],
        interpolation=settings["interpolation"],
        fill=settings.get("fill_color", 0),
    )


def _vocabulary(tokenizer: Any) -> dict[str, int] | None:
    if hasattr(tokenizer, "encoder"):
        return tokenizer.encoder
    return tokenizer.tokenizer.get_vocab() if hasattr(tokenizer, "tokenizer") else None
