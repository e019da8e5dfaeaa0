"""The layouts of the eight datasets of SCLIP's protocol: folders and lists, as in mmsegmentation's guide."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Paths of one dataset below its folder, which the option `path` gives."""

    dataset: str
    """Name of the class in mmsegmentation's registry."""
    images: str
    masks: str
    split: str | None = None
    """A list of file names without ending; None: every image of the folder."""
    prepare_name: str | None = None
    """The name by which `cosmos-eval data prepare` makes these masks; None if it cannot."""
    other_counts: tuple[int, ...] = ()
    """Numbers of images of other published lists, accepted besides the expected one."""


CONTEXT_COUNTS = (5105,)
"""VOC2010's list val has 5,105 images; the annotations that mmsegmentation's guide converts have 5,104 of them."""


def _voc(dataset: str) -> Layout:
    return Layout(dataset, "JPEGImages", "SegmentationClass", "ImageSets/Segmentation/val.txt")


def _context(dataset: str) -> Layout:
    masks, split = "SegmentationClassContext", "ImageSets/SegmentationContext/val.txt"
    return Layout(dataset, "JPEGImages", masks, split, prepare_name="context", other_counts=CONTEXT_COUNTS)


LAYOUTS: dict[str, Layout] = {
    "voc21": _voc("PascalVOCDataset"),
    "voc20": _voc("PascalVOC20Dataset"),
    "context60": _context("PascalContextDataset"),
    "context59": _context("PascalContextDataset59"),
    "coco-object": Layout("COCOObjectDataset", "images/val2017", "annotations/val2017", prepare_name="coco-object"),
    "coco-stuff164k": Layout("COCOStuffDataset", "images/val2017", "annotations/val2017", prepare_name="coco-stuff"),
    "ade20k": Layout("ADE20KDataset", "images/validation", "annotations/validation"),
    "cityscapes": Layout("CityscapesDataset", "leftImg8bit/val", "gtFine/val", prepare_name="cityscapes"),
}
"""Name of a layout, as the option `layout` has it -> its paths."""
