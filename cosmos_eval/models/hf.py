"""`hf:`: transformers' CLIP and SigLIP (SigLIP 2 of fixed resolution included), from the hub or a folder.

Everything comes from the files beside the weights: resize, crop, mean and deviation from the image processor, run by
Pillow as at training; vocabulary, context and padding from tokenizer and configuration. Remote code is never run, and
weights that transformers would fill with random numbers (it only warns) are refused.
"""

import json
import re
import string
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.image_files import to_rgb
from cosmos_core.short_repr import short_repr
from cosmos_eval.models import digest as identity
from cosmos_eval.models.activation import activation_of
from cosmos_eval.models.base import as_rows, no_patches, one_line
from cosmos_eval.models.hf_files import check_folder, check_weights, is_whole, refuse_other_family
from cosmos_eval.models.hub import NOT_FETCHED, quiet_hub
from cosmos_eval.models.spec import ModelSpec
from cosmos_eval.models.tokenizer_checks import refuse_other_end, refuse_other_vocabulary

_DECIDING = ("do_", "size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std", "default_to_square")


class ProcessorPreprocess:
    """A transformers image processor as a function of one image; picklable."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: Image.Image) -> Tensor:
        """(3, H, W) float32."""
        return self.processor(images=to_rgb(image), return_tensors="pt")["pixel_values"][0]

    def settings(self) -> dict[str, Any]:
        """What decides the pixels, as JSON values."""
        own = json.loads(json.dumps(self.processor.to_dict(), default=str))
        return {key: value for key, value in sorted(own.items()) if key.startswith(_DECIDING)}


class HfModel:
    """A transformers dual encoder with its processor and tokenizer, ready to encode."""

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        preprocess: ProcessorPreprocess,
        *,
        clean: Callable[[str], str] = str,
        spec: str,
        source: str,
        device: str | torch.device = "cpu",
    ) -> None:
        """`clean` is done to every text before the tokenizer sees it."""
        self.network = network.to(device).float().eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.clean = clean
        self.preprocess = preprocess
        self.spec = spec
        self.source = source
        self.device = torch.device(device)
        self.family: str = network.config.model_type
        self.context_length: int = network.config.text_config.max_position_embeddings

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        rows = _pooled(self.network.get_image_features(pixel_values=x.to(self.device)))
        return as_rows(rows, len(x), f"{self.spec}: encode_image")

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        inputs = {key: value.to(self.device) for key, value in self._inputs(list(texts)).items()}
        return as_rows(_pooled(self.network.get_text_features(**inputs)), len(texts), f"{self.spec}: encode_text")

    def check_patches(self) -> NoReturn:
        """RequestError: there are no features of patches here."""
        raise no_patches(self.spec, "of transformers' models only the pooled features are read")

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        self.check_patches()

    def tokenize(self, texts: list[str]) -> Tensor:
        """(B, L) ids. SigLIP pools the last position of the whole context and needs every text padded to it."""
        return self._inputs(texts)["input_ids"]

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the context, its special tokens counted."""
        whole = self.tokenizer([self.clean(text) for text in texts], truncation=False, padding=False, verbose=False)
        return [len(ids) > self.context_length for ids in whole["input_ids"]]

    def _inputs(self, texts: list[str]) -> dict[str, Tensor]:
        siglip = self.family == "siglip"
        tokens = self.tokenizer(
            [self.clean(text) for text in texts],
            padding="max_length" if siglip else "longest",
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        )
        # SigLIP was trained without a padding mask, whatever the tokenizer offers.
        wanted = ("input_ids",) if siglip else ("input_ids", "attention_mask")
        return {key: tokens[key] for key in wanted}

    @cached_property
    def digest(self) -> str:
        config = self.network.config.to_dict()
        drop = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
        return identity.model_digest(
            self.network.state_dict(),
            _without(json.loads(json.dumps(config, default=str)), drop) | {"activation": activation_of(self.network)},
            {"identity": identity.tokenizer_identity(self.tokenize, self.tokenizer.get_vocab())},
            self.preprocess.settings(),
        )

    def describe(self) -> dict[str, Any]:
        settings = self.preprocess.settings()
        size = settings.get("size") or {}
        vision = self.network.config.vision_config
        return {
            "arch": f"{self.family} {vision.num_hidden_layers}x{vision.hidden_size}/{vision.patch_size}",
            "activation": activation_of(self.network),
            "tokenizer": type(self.tokenizer).__name__,
            "context_length": self.context_length,
            "text_case": identity.text_case(self.tokenize),
            "padding": "max_length" if self.family == "siglip" else "longest",
            "image_size": vision.image_size,  # the processor was checked to make just that
            "resize": ("squash" if "height" in size else "shortest") if _resizes(settings) else "none",
            "resize_to": size,
            "interpolation": _interpolation(settings),
            "mean": settings.get("image_mean"),
            "std": settings.get("image_std"),
            "parameters": identity.count_parameters(list(self.network.parameters())),
            "source": self.source,
        }


def _interpolation(settings: dict[str, Any]) -> str:
    """The name of Pillow's filter; `resample` may be null where images are only cropped."""
    return _RESAMPLE.get(settings.get("resample"), "unknown") if _resizes(settings) else "none"


def _resizes(settings: dict[str, Any]) -> bool:
    return bool(settings.get("do_resize", True))


_RESAMPLE: dict[Any, str] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def load_hf(spec: ModelSpec, device: str | torch.device = "cpu") -> HfModel:
    """Load what an `hf:` spec names. A folder is read with nothing fetched; a hub id is fetched unless it is in the
    cache.

    Raises:
        RequestError: no such folder or hub id, another kind of model, files that are missing, damaged or Git LFS
            pointers, missing or left-over weights, another model's tokenizer, a processor that makes images of another
            size than the model takes.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # progress is ours to show

    folder = local_folder(spec)
    if folder is not None:
        check_folder(folder, spec.text)
    name = str(folder) if folder is not None else spec.name
    options: dict[str, Any] = {"local_files_only": folder is not None, "trust_remote_code": False}
    try:
        with nullcontext() if folder is not None else quiet_hub():
            config = AutoConfig.from_pretrained(name, **options)
            refuse_other_family(config.model_type, spec.text)
            network, report = AutoModel.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
            processor = AutoImageProcessor.from_pretrained(name, backend="pil", **options)
            tokenizer, clean = checked_tokenizer(spec, name, config, options)
    except RequestError:
        raise
    except Exception as error:
        where = "the folder" if folder is not None else "the cache, and the hub cannot be reached for it"
        raise RequestError(f"{spec.text}: not readable from {where}: {one_line(error)}") from error
    cached = cached_folder(spec.name) if folder is None else None
    if cached is not None:
        check_weights(cached, spec.text)
    _refuse_partial(spec, report)
    _refuse_broken(spec, network)
    preprocess = ProcessorPreprocess(processor)
    _refuse_other_size(spec, preprocess, config.vision_config.image_size)
    source = folder.resolve().name if folder is not None else spec.name
    return HfModel(network, tokenizer, preprocess, clean=clean, spec=spec.text, source=source, device=device)


def check_hf(spec: ModelSpec, fetch: bool = False) -> str:
    """What can be said of an `hf:` spec without its weights: see `cosmos_eval.models.preflight`."""
    folder = local_folder(spec)
    if folder is None:
        cached = cached_folder(spec.name)
        folder = cached if cached is not None and is_whole(cached) else None
    if folder is None:
        if not fetch:
            return NOT_FETCHED
        from transformers import AutoConfig

        try:
            with quiet_hub():
                config = AutoConfig.from_pretrained(spec.name, trust_remote_code=False)
        except Exception as error:
            raise RequestError(
                f"{spec.text}: not readable from the cache, and the hub cannot be reached for it: {one_line(error)}"
            ) from error
        refuse_other_family(config.model_type, spec.text)
        return ""
    check_folder(folder, spec.text, check=False)
    from transformers import AutoConfig

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
        checked_tokenizer(spec, str(folder), config, options)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{spec.text}: not readable from the folder: {one_line(error)}") from error
    return ""


def local_folder(spec: ModelSpec) -> Path | None:
    """The folder that a spec names, None for a hub id; RequestError where it is neither."""
    folder = user_path(spec.name)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise RequestError(
            f"{spec.text}: {spec.name} is a file; hf: takes the folder that it lies in, of save_pretrained"
        )
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", spec.name):
        raise RequestError(f"{spec.text}: there is no folder {spec.name}; give a folder of save_pretrained or a hub id")
    return None


def cached_folder(name: str) -> Path | None:
    """The folder of a hub id in the local cache, None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no hub id, which the hub's own check tells
        return None
    return Path(config).parent if isinstance(config, str) else None


def checked_tokenizer(
    spec: ModelSpec, name: str, config: Any, options: dict[str, Any]
) -> tuple[Any, Callable[[str], str]]:
    """The tokenizer of the files, and what must be done to a text before it; RequestError where it is another
    model's."""
    tokenizer, clean = _tokenizer(name, config.model_type, options)
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float):
        raise RequestError(
            f"{spec.text}: model_max_length in tokenizer_config.json must be a number, got {short_repr(longest)}; "
            "mend it, or take it out"
        )
    refuse_other_vocabulary(max(tokenizer.get_vocab().values()) + 1, config.text_config.vocab_size, spec.text)
    if config.model_type == "clip":
        end = config.text_config.eos_token_id
        # 2 stands in configurations from before the id was looked at; transformers then takes the largest id
        refuse_other_end(
            lambda texts: tokenizer(texts, return_tensors="pt")["input_ids"], None if end == 2 else end, spec.text
        )
    return tokenizer, clean


def _tokenizer(name: str, family: str, options: dict[str, Any]) -> tuple[Any, Callable[[str], str]]:
    """The tokenizer of the files, and what must be done to a text before it."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except ImportError:  # SigLIP's own class wants sentencepiece; tokenizer.json holds the same vocabulary
        tokenizer = PreTrainedTokenizerFast.from_pretrained(name, **options)
    if family != "siglip":
        return tokenizer, str
    # SigLIP's own class cleans texts in Python, where no vocabulary file says so; it costs nothing to do it twice. All
    # others (Gemma's, of SigLIP 2) belong to models that were trained on lower-case text, and do not say so either.
    declared = str(get_tokenizer_config(name, **options).get("tokenizer_class", ""))
    return tokenizer, canonical if declared.startswith("SiglipTokenizer") else str.lower


def canonical(text: str) -> str:
    """SigLIP's text as at training: lower case, no punctuation, single spaces."""
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _refuse_partial(spec: ModelSpec, report: dict[str, Any]) -> None:
    for kind, what in (
        ("missing_keys", "lacks"),
        ("unexpected_keys", "has besides"),
        ("mismatched_keys", "misfits in"),
    ):
        # position_ids are counted, not learnt; old files carry them
        keys = sorted(str(key) for key in report.get(kind, ()) if not str(key).endswith("position_ids"))
        if keys:
            raise RequestError(
                f"{spec.text}: the weights file {what} {len(keys)} of the model's tensors: {', '.join(keys[:3])}; "
                "it belongs to another configuration"
            )


def _refuse_broken(spec: ModelSpec, network: Any) -> None:
    """RequestError naming the first weights with NaN or infinite values."""
    bad = next((key for key, value in network.named_parameters() if not torch.isfinite(value).all()), None)
    if bad:
        raise RequestError(f"{spec.text}: the weights are broken: {bad} holds NaN or infinite values")


def _refuse_other_size(spec: ModelSpec, preprocess: ProcessorPreprocess, image_size: int) -> None:
    try:
        pixels = preprocess(Image.new("RGB", (40, 30)))
        shape, is_finite = tuple(pixels.shape), bool(torch.isfinite(pixels).all())
    except Exception as error:
        raise RequestError(
            f"{spec.text}: the processor fails on an image: {one_line(error)}; mend preprocessor_config.json"
        ) from error
    if not is_finite:  # else the first image of a dataset would be blamed
        raise RequestError(
            f"{spec.text}: the processor makes pixels that are NaN or infinite; mend image_std, image_mean or "
            "rescale_factor in preprocessor_config.json"
        )
    if shape != (3, image_size, image_size):
        raise RequestError(
            f"{spec.text}: the processor makes images of {shape[-2]}x{shape[-1]} and the model takes "
            f"{image_size}x{image_size}; mend size or crop_size in preprocessor_config.json"
        )


def _pooled(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output


def _without(tree: Any, names: tuple[str, ...]) -> Any:
    if isinstance(tree, dict):
        return {key: _without(value, names) for key, value in tree.items() if key not in names}
    return tree
