"""`cosmos-eval data prepare NAME`: which masks can be made, by the name of the dataset or of one of its benchmarks."""

from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.suggestions import near
from cosmos_eval.datasets.mmseg.making import Made
from cosmos_eval.progress import Reporter, Silent

PREPARABLE = ("coco-object", "coco-stuff", "cityscapes", "context")
ALIASES = {"coco-stuff164k": "coco-stuff", "context60": "context", "context59": "context"}
AS_PUBLISHED = ("voc21", "voc20", "ade20k")


def prepare(name: str, data_root: Path, out: Path | None = None, reporter: Reporter | None = None) -> Made:
    """Make the masks that a dataset's publisher leaves to its users; those that are there already are kept.

    Args:
        name: one of `PREPARABLE`.
        data_root: the folder that holds the sources.
        out: the data root to write; None is `data_root`.

    Raises:
        RequestError: an unknown name, sources missing or broken; one line that says what is needed where.
    """
    from cosmos_eval.datasets.mmseg.prepare_cityscapes import prepare_cityscapes
    from cosmos_eval.datasets.mmseg.prepare_coco import prepare_object, prepare_stuff
    from cosmos_eval.datasets.mmseg.prepare_context import prepare_context

    known = ALIASES.get(name.removesuffix("-csa"), name.removesuffix("-csa"))
    if known in AS_PUBLISHED:
        raise RequestError(f"{name} is read as it is published; nothing is to be made, see `cosmos-eval data check`")
    makers = dict(zip(PREPARABLE, (prepare_object, prepare_stuff, prepare_cityscapes, prepare_context), strict=True))
    if known not in makers:
        raise RequestError(f"cannot make {name!r}{near(name, ['toybox', *PREPARABLE])}")
    if not data_root.is_dir():
        raise RequestError(f"there is no folder {data_root}; say where the datasets are with --data-root")
    return makers[known](data_root, out or data_root, reporter or Silent())
