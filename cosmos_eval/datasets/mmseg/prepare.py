"""`cosmos-eval data prepare NAME` for segmentation masks; NAME is a dataset or one of its benchmarks."""

from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.suggestions import near
from cosmos_eval.datasets.fetch.table import load_table
from cosmos_eval.datasets.mmseg.mask_files import PreparedMasks
from cosmos_eval.progress import Reporter, Silent

PREPARABLE = ("coco-object", "coco-stuff", "cityscapes", "context")


def prepare_masks(
    name: str, data_root: Path, out: Path | None = None, reporter: Reporter | None = None
) -> PreparedMasks:
    """Make the masks that a dataset's publisher does not provide; existing masks are kept.

    Args:
        name: one of `PREPARABLE`, or a benchmark, whose recipe in the table of sources names the step.
        data_root: the folder with the publisher's files.
        out: the data root to write to; None is `data_root`.

    Raises:
        RequestError: an unknown name, or missing or damaged files; names the files and where they belong.
    """
    from cosmos_eval.datasets.mmseg.prepare_cityscapes import prepare_cityscapes
    from cosmos_eval.datasets.mmseg.prepare_coco import prepare_coco_object, prepare_coco_stuff
    from cosmos_eval.datasets.mmseg.prepare_context import prepare_context

    recipe = load_table().recipes.get(name)
    if recipe is not None and recipe.artifacts and not recipe.prepare:
        raise RequestError(f"{name} is read as published, so no masks are made; check it with `cosmos-eval data check`")
    functions = {
        "coco-object": prepare_coco_object,
        "coco-stuff": prepare_coco_stuff,
        "cityscapes": prepare_cityscapes,
        "context": prepare_context,
    }
    step = recipe.prepare[0] if recipe is not None and recipe.prepare else name
    if step not in functions:
        raise RequestError(f"cannot prepare {name!r}{near(name, ['toybox', *PREPARABLE])}")
    if not data_root.is_dir():
        raise RequestError(f"the folder {data_root} does not exist; give the folder of the datasets with --data-root")
    return functions[step](data_root, out or data_root, reporter or Silent())
