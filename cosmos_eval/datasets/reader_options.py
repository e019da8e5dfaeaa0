"""Options that several readers take."""

from cosmos_eval.datasets.reader import ALLOW, APPLY, NAMES, SWITCH, TEXT

LEAVE_OUT = {"leave_out_missing": SWITCH}
"""With it, items whose images are missing are counted and left out; without it, a missing image is a problem."""

EXIF = {"exif": APPLY}
"""With it, the EXIF orientation of images is applied; without it, it is ignored, as torchvision does."""

CANDIDATES = {"candidates_without_images": ALLOW}
"""With it, classes may have no image and still are candidates; without it, such a class is a problem."""

TABLE_COLUMNS = {
    "image_column": TEXT,
    "image_id_column": TEXT,
    "label_column": TEXT,
    "caption_columns": NAMES,
    "positive_column": TEXT,
    "negative_columns": NAMES,
    "negative_image_column": TEXT,
    "subset_column": TEXT,
    "group_columns": NAMES,
}
"""Names of columns; without them, columns are found by their type and usual names."""
DISTRACTORS = {"distractors": ALLOW}
"""With it, images may have no caption and texts no image and still are candidates; without it, they are a problem."""

KIND_OPTIONS = {**CANDIDATES, **DISTRACTORS}
"""Options of readers that only some kinds of data have (`DataKind.options`)."""
