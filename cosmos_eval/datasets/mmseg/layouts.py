"""Where the eight datasets of SCLIP's protocol keep images, masks and lists: as mmsegmentation's guide has them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """One dataset below its own folder (the option `path`)."""

    dataset: str
    """The class in mmsegmentation's registry."""
    images: str
    masks: str
    split: str | None = None
    """A list of names without ending; None: every image of the folder."""
    made_by: str | None = None
    """What `cosmos-eval data prepare` calls these masks, where it can make them."""
    also: tuple[int, ...] = ()
    """Other numbers of images in circulation, taken beside the expected one."""


CONTEXT_ALSO = (5105,)
"""VOC2010's list val has 5,105 images; the annotations that mmsegmentation converts have 5,104 of them."""


def _voc(dataset: str) -> Layout:
    return Layout(dataset, "JPEGImages", "SegmentationClass", "ImageSets/Segmentation/val.txt")


def _context(dataset: str) -> Layout:
    masks, split = "SegmentationClassContext", "ImageSets/SegmentationContext/val.txt"
    return Layout(dataset, "JPEGImages", masks, split, made_by="context", also=CONTEXT_ALSO)


LAYOUTS: dict[str, Layout] = {
    "voc21": _voc("PascalVOCDataset"),
    "voc20": _voc("PascalVOC20Dataset"),
    "context60": _context("PascalContextDataset"),
    "context59": _context("PascalContextDataset59"),
    "coco-object": Layout("COCOObjectDataset", "images/val2017", "annotations/val2017", made_by="coco-object"),
    "coco-stuff164k": Layout("COCOStuffDataset", "images/val2017", "annotations/val2017", made_by="coco-stuff"),
    "ade20k": Layout("ADE20KDataset", "images/validation", "annotations/validation"),
    "cityscapes": Layout("CityscapesDataset", "leftImg8bit/val", "gtFine/val", made_by="cityscapes"),
}
"""Layout -> where its parts lie. The option `layout` takes these names."""
