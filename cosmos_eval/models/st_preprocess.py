"""Image preprocessing of `st:` models: what sentence-transformers makes of an image, in worker processes.

CLIP-like models take pixels of one shape. A multimodal language model takes a conversation with the image in it:
tokens, patches and grids whose number depends on the size of the image. These pass through the engine as one vector,
whose beginning says how long the parts are.
"""

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cosmos_core.errors import RequestError
from cosmos_core.image_files import to_rgb
from cosmos_eval.models.python_adapter import as_request_error

PIXELS = "pixel_values"
_EXACT = (torch.float32, torch.int64, torch.int32, torch.uint8, torch.bool)
"""Types whose values float32 holds exactly; whole numbers up to 2^24, and no token, grid or count is larger."""
_PROBE_SIZES = ((48, 64), (97, 64))


def without_networks(module: nn.Module) -> Any:
    """A copy of an input module that preprocesses as the original does, without its weights: workers receive it."""
    from transformers import PreTrainedModel

    memo = {id(part): _ConfigOnly(part.config) for part in module.modules() if isinstance(part, PreTrainedModel)}
    return copy.deepcopy(module, dict(memo))


class _ConfigOnly(nn.Module):
    """What preprocessing reads of a network."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config


class StPreprocess:
    """The input module of a model as a callable on one image: (3, H, W) float32; picklable.

    Args:
        module: of `without_networks`.
        prompt: what the model is told of each image; None for nothing.
        task: `query` or `document`, by which some models choose modules or templates.
    """

    def __init__(self, module: Any, spec: str, prompt: str | None, task: str | None) -> None:
        self.module = module
        self.spec = spec
        self.prompt, self.task = prompt, task

    def features(self, images: Sequence[Image.Image]) -> dict[str, Any]:
        """What the library makes of images: tensors and other values by name.

        Raises:
            RequestError: the library fails, as on an image of extreme shape.
        """
        options = {"task": self.task} if self.task else {}
        with as_request_error(f"{self.spec}: preprocess", out_of_memory_too=True):
            return dict(self.module.preprocess([to_rgb(image) for image in images], prompt=self.prompt, **options))

    def __call__(self, image: Image.Image) -> Tensor:
        return self.features([image])[PIXELS][0]

    def reads_prompt(self) -> bool:
        """Whether the prompt changes what the network is given of an image."""
        image = _noise(_PROBE_SIZES[0])
        with_prompt = self.features([image])
        without = StPreprocess(self.module, self.spec, None, self.task).features([image])
        return any(
            isinstance(value, Tensor) and not torch.equal(value, without[name]) for name, value in with_prompt.items()
        )

    def features_size(self) -> tuple[int, int]:
        """Height and width of the pixels that it makes of every image."""
        height, width = self(Image.new("RGB", (40, 30))).shape[-2:]
        return height, width

    def batches(self, x: Tensor) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """The tensors that the network takes for a batch of `__call__`, and which images of the batch they are."""
        yield list(range(len(x))), {PIXELS: x}


class PackedStPreprocess(StPreprocess):
    """The input module of a model whose tensors have another size for each image: one vector for each image.

    Args:
        layout: name, type and number of dimensions of each tensor.
        can_join: whether the tensors of several images are those of each, joined, where all have the same sizes.
    """

    lengths_differ = True

    def __init__(self, plain: StPreprocess, layout: Sequence[tuple[str, torch.dtype, int]], can_join: bool) -> None:
        super().__init__(plain.module, plain.spec, plain.prompt, plain.task)
        self.layout = tuple(layout)
        self.can_join = can_join

    def __call__(self, image: Image.Image) -> Tensor:
        """(sizes of each tensor, then its values, as far as `layout` goes) as one float32 vector."""
        features = self.features([image])
        tensors = []
        for name, dtype, dimensions in self.layout:
            value = features.get(name)
            if not isinstance(value, Tensor) or value.dtype != dtype or value.ndim != dimensions:
                raise RequestError(
                    f"{self.spec}: its processor gives no {name} of {dimensions} dimensions for this image"
                )
            tensors.append(value)
        sizes = [size for value in tensors for size in value.shape]
        return torch.cat([torch.tensor(sizes, dtype=torch.float32), *(value.float().flatten() for value in tensors)])

    def batches(self, x: Tensor) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Images of the same sizes together: nothing is padded, so nothing can depend on the other images."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        header = sum(dimensions for _, _, dimensions in self.layout)
        for position, sizes in enumerate(x[:, :header].long().tolist()):
            groups[(*sizes, 0 if self.can_join else position)].append(position)
        for (*sizes, _), members in groups.items():
            yield members, self._join(x[members], sizes, header)

    def _join(self, rows: Tensor, sizes: Sequence[int], start: int) -> dict[str, Tensor]:
        """The tensors of images with the same sizes, from their vectors (n, length)."""
        tensors: dict[str, Tensor] = {}
        remaining = list(sizes)
        for name, dtype, dimensions in self.layout:
            shape, remaining = remaining[:dimensions], remaining[dimensions:]
            count = int(np.prod(shape))
            values = rows[:, start : start + count].reshape(len(rows) * shape[0], *shape[1:])
            tensors[name] = values.to(dtype)
            start += count
        return tensors


def make_st_preprocess(
    module: Any, spec: str, prompt: str | None, task: str | None
) -> tuple[StPreprocess, dict[str, Any]]:
    """The preprocessing of an input module, and what it passes to the network for every image, such as the modality.

    Raises:
        RequestError: the processor fails on an image, or gives something else for images of another size.
    """
    plain = StPreprocess(module, spec, prompt, task)
    probes = [plain.features([_noise(size)]) for size in _PROBE_SIZES]
    names = [[(name, value.dtype, value.ndim) for name, value in probe.items() if isinstance(value, Tensor)]
             for probe in probes]  # fmt: skip
    constants = {name: value for name, value in probes[0].items() if not isinstance(value, Tensor)}
    first, second = ({name: probe[name] for name, _, _ in layout} for probe, layout in zip(probes, names, strict=True))
    if names[0] != names[1] or not names[0] or any(dimensions == 0 for _, _, dimensions in names[0]):
        raise RequestError(f"{spec}: its processor gives {names[0]} for an image and {names[1]} for another")
    inexact = [name for name, dtype, _ in names[0] if dtype not in _EXACT]
    if inexact or not all(bool(torch.isfinite(value).all()) for value in first.values()):
        raise RequestError(
            f"{spec}: its processor makes values that are NaN, infinite or of an unknown type "
            f"({', '.join(inexact) or PIXELS}); correct the settings of the image processor"
        )
    if list(first) == [PIXELS] and first[PIXELS].ndim == 4 and first[PIXELS].shape == second[PIXELS].shape:
        return plain, constants
    twice = plain.features([_noise(_PROBE_SIZES[0])] * 2)
    return PackedStPreprocess(plain, names[0], _is_joined(first, twice)), constants


def _is_joined(single: Mapping[str, Tensor], twice: Mapping[str, Any]) -> bool:
    """Whether the tensors of an image twice are those of the image, one after the other."""
    return all(torch.equal(torch.cat([value, value]), twice[name]) for name, value in single.items())


def _noise(size: tuple[int, int]) -> Image.Image:
    """Noise of the given height and width."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
