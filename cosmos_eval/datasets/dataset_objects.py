"""Map-style dataset objects as data: torchvision's and torch's `Dataset`, and those of the library `datasets`.

Such an object has a length and gives item i by `[i]`: a tuple (image, target), or a dictionary with a column for each.
Images stay in the object and are asked for when they are needed, so that a dataset larger than memory can be used.
"""

from collections.abc import Mapping
from typing import Any

from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.memory_images import DatasetImage, SharedDataset, as_image_source, position_name
from cosmos_eval.progress import report_if_slow
from cosmos_eval.progress_display import choose_reporter


def read_items(dataset: Any, image_column: str, target_column: str) -> tuple[list[ImageSource], list[Any]]:
    """Return the images and the targets of a dataset object; it is read once now, and its images later again.

    Args:
        dataset: has `len` and `[i]`, which gives (image, target) or a dictionary.
        image_column: key of the image, where items are dictionaries.
        target_column: key of the label or the captions.

    Raises:
        RequestError: no such object, an item of another form, or an image that is not an image (as a tensor).
    """
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise RequestError(
            f"{type(dataset).__name__} is not a map-style dataset with len() and [i]; read an iterable one into lists, "
            "and use from_lists or from_pairs"
        )
    shared, count = SharedDataset(dataset), len(dataset)
    images: list[ImageSource] = []
    targets = []
    with report_if_slow(choose_reporter("auto"), "reading the dataset", count, "items") as advance:
        for i in range(count):
            item = shared[i]
            columns: tuple[Any, Any] = (0, 1)
            if isinstance(item, Mapping):
                columns = (image_column, target_column)
                missing = next((column for column in columns if column not in item), None)
                if missing is not None:
                    raise RequestError(
                        f"the dataset has no column {missing!r}{near(missing, list(item))}; its columns are "
                        f"{', '.join(map(str, item))}: name the right one, as in image_column='jpg'"
                    )
            elif not isinstance(item, tuple | list) or len(item) < 2:
                raise RequestError(f"the dataset gives {short_repr(item)} at {i}; it must give (image, target)")
            source = as_image_source(item[columns[0]], position_name(i))
            if isinstance(item[columns[0]], Image.Image):  # what is decoded would fill the memory
                source = DatasetImage(position_name(i), shared, i, columns[0])
            images.append(source)
            targets.append(item[columns[1]])
            advance(1)
    return images, targets


def find_class_names(dataset: Any, label_column: str) -> list[str] | None:
    """Return the class names that a dataset object carries: `classes` of torchvision, `features` of `datasets`."""
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping) and label_column in features:
        names = getattr(features[label_column], "names", None)
        if names:
            return list(names)
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, list | tuple) and classes:
        # ImageNet of torchvision has several synonyms for each class; the first one is its name
        return [name if isinstance(name, str) else name[0] for name in classes]
    return None
