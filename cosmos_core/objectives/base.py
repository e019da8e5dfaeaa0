"""The interface of an objective: the views it needs, the networks it runs, and its loss."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from cosmos_core.collectives import Collectives
from cosmos_core.errors import RequestError
from cosmos_core.loss import Losses
from cosmos_core.views import MultiCrop
from cosmos_core.world import World

if TYPE_CHECKING:
    from cosmos_core.model import Features  # imports the towers of open_clip, which a configuration can do without

CROSS_ATTENTION = ("visual.attn_cross_pool.", "text_attn_cross_pool.", "image_token_mapping.", "text_token_mapping.")
"""Prefixes of the names of parameters that only cross-modal features use."""


@dataclass(frozen=True)
class Views:
    """The views that the loader makes of each sample."""

    images: MultiCrop
    captions: int
    """Captions drawn for each sample."""
    kept_captions: int | None = None
    """How many of the drawn captions are used, the first ones; None: all."""


class Objective(nn.Module):
    """A loss over the features of student and teacher. Called on every rank with the features of its own samples.

    The mean over ranks of its gradients, including those of its own parameters, must be the gradient of one process
    with the whole batch. Parameters are trained like the student's: averaged over ranks, clipped, with
    weight decay by the same rule of names and dimensions (`cosmos_core.schedule.is_decayed`). They and the buffers are
    in every checkpoint and are restored to the bit when a run is resumed. Their initial values depend on the run's
    seed.

    Its own settings are the parameters of its constructor other than `world`, each with a type and a default; the
    setting `objective_options` sets them.

        def __init__(self, world: World | None = None, *, init_bias: float = -10.0) -> None:
            super().__init__(world)
            self.bias = nn.Parameter(torch.tensor(init_bias))

    Its state dict may hold tensors only. Buffers that `forward` changes must be the same on all ranks; a step that is
    skipped because its loss or gradient is not finite does not change them.
    """

    needs_teacher: ClassVar[bool] = True
    """Whether the loss uses the EMA teacher's features (of the two global crops and the first two captions)."""
    cross_attention: ClassVar[bool] = True
    """Whether the student's cross-modal features are computed; if not, the poolers get no gradient."""
    second_temperature: ClassVar[bool] = True
    """Whether the loss uses `distill_logit_scale`."""
    logit_bias: ClassVar[str] = ""
    """Name of its parameter, of one number, that is added to the scaled cosines; other libraries keep it with the
    network, as `logit_bias`. Empty if there is none."""

    def __init__(self, world: World | None = None) -> None:
        super().__init__()
        self.world = world or World()
        self.collectives = Collectives(self.world)

    @classmethod
    def unused(cls, name: str) -> bool:
        """Whether the student's parameter `name` gets no gradient: it is frozen, so that DDP does not wait for it."""
        if name == "distill_logit_scale":
            return not cls.second_temperature
        return not cls.cross_attention and name.startswith(CROSS_ATTENTION)

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        """The views that the loader must make, given the configured ones: all of them unless an objective needs fewer.

        A class method, since a dry run asks for them without building the objective.

        Raises:
            RequestError: the configuration lacks views that the objective needs.
        """
        return Views(images, captions)

    def forward(self, student: "Features", teacher: "Features | None", batch_size: int) -> Losses:
        """Losses of one step from unit features, view-major; `batch_size` is this rank's number of samples."""
        raise NotImplementedError

    def update_average(self, momentum: float) -> None:
        """Called whenever the student is averaged into the teacher, with the share of the teacher that stays.

        Does nothing by default: parameters that only weigh the loss, such as a bias or a temperature, need no average,
        since they are never evaluated. An objective with modules on the teacher's side, such as a projection head,
        averages them here (`cosmos_core.ema.update_ema`): from trained parameters into ones with `requires_grad=False`.
        """


def require_two_global_crops(name: str, images: MultiCrop) -> MultiCrop:
    """Returns `images`; RequestError unless it makes two global crops."""
    if images.global_crops != 2:
        raise RequestError(f"objective {name} needs views.global_crops=2, got {images.global_crops}")
    return images


def global_views(name: str, images: MultiCrop) -> MultiCrop:
    """The two global crops that `images` would draw, without the local ones."""
    return replace(require_two_global_crops(name, images), local_crops=0)


def all_views(name: str, images: MultiCrop, captions: int) -> Views:
    """All configured views, for a loss that compares two global crops and two captions with the teacher's.

    Raises:
        RequestError: the configuration has other global crops, or too few captions.
    """
    if images.global_crops != 2 or captions < 2:
        raise RequestError(
            f"objective {name} needs views.global_crops=2 and captions of at least 2, "
            f"got {images.global_crops} and {captions}"
        )
    return Views(images, captions)
