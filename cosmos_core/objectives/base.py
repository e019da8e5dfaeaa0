"""What the loop asks of an objective: which views it wants, which networks it runs, and its loss."""

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
"""Parameters of what makes cross-modal features, by how their names begin."""


@dataclass(frozen=True)
class Views:
    """What the loader makes of a sample."""

    images: MultiCrop
    captions: int
    """Captions drawn."""
    kept_captions: int | None = None
    """Of the drawn captions only the first so many are used; None: all."""


class Objective(nn.Module):
    """A loss over the features of student and teacher. Called on every rank with the features of its own samples.

    Gradients, those of the objective's own parameters among them, are such that their mean over ranks is the gradient
    of one process with the whole batch. Parameters are trained like the student's: averaged over ranks, clipped, with
    weight decay by the same rule of names and dimensions (`cosmos_core.schedule.is_decayed`). They and the buffers are
    in every checkpoint and are the same bits when a run goes on. Their initial values come from the run's seed.

    Settings of its own are parameters of the constructor beside `world`, each with a type and a default; the setting
    `objective_options` gives them.

        def __init__(self, world: World | None = None, *, init_bias: float = -10.0) -> None:
            super().__init__(world)
            self.bias = nn.Parameter(torch.tensor(init_bias))

    Only tensors may be in its state. Buffers that `forward` changes must be the same on all ranks; a step that is left
    out, since its loss or gradient is not finite, does not change them.
    """

    needs_teacher: ClassVar[bool] = True
    """Whether the loss reads the averaged teacher's features (of the two global crops and the first two captions)."""
    cross_attention: ClassVar[bool] = True
    """Whether the student's cross-modal features are computed; where not, the poolers have no gradient."""
    second_temperature: ClassVar[bool] = True
    """Whether the loss reads `distill_logit_scale`."""

    def __init__(self, world: World | None = None) -> None:
        super().__init__()
        self.world = world or World()
        self.collectives = Collectives(self.world)

    @classmethod
    def unused(cls, name: str) -> bool:
        """Whether the student's parameter `name` gets no gradient: freeze it, so that DDP does not wait for it."""
        if name == "distill_logit_scale":
            return not cls.second_temperature
        return not cls.cross_attention and name.startswith(CROSS_ATTENTION)

    @classmethod
    def views(cls, images: MultiCrop, captions: int) -> Views:
        """What the loader must make, from the configured views: all of them unless an objective needs fewer.

        Asked of the class, before a run begins and where one is only planned.

        Raises:
            RequestError: the configuration lacks views that the objective needs.
        """
        return Views(images, captions)

    def forward(self, student: "Features", teacher: "Features | None", batch_size: int) -> Losses:
        """Losses of one step from unit features, view-major; `batch_size` is this rank's number of samples."""
        raise NotImplementedError

    def update_average(self, momentum: float) -> None:
        """Called whenever the student is averaged into the teacher, with the share of the teacher that stays.

        Does nothing: what only weighs the loss, as a bias or a temperature does, needs no average, for it is never
        evaluated. An objective whose teacher has parts of its own, such as a projection head, averages them here
        (`cosmos_core.ema.average`), from trained parameters into ones with `requires_grad=False`.
        """


def two_global_crops(name: str, images: MultiCrop) -> MultiCrop:
    """`images`, checked; RequestError where it does not make two global crops."""
    if images.global_crops != 2:
        raise RequestError(f"objective {name} needs views.global_crops=2, got {images.global_crops}")
    return images


def global_views(name: str, images: MultiCrop) -> MultiCrop:
    """The two global crops that `images` would draw, without the local ones."""
    return replace(two_global_crops(name, images), local_crops=0)


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
