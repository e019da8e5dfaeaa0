"""The two datasets of SCLIP's protocol that mmsegmentation lacks, added to its registry."""

from typing import Any, ClassVar

from cosmos_eval.datasets.mmseg.placeholder import import_mmseg

_mmseg = import_mmseg()
_PascalVOCDataset: Any = _mmseg.PascalVOCDataset
_BaseSegDataset: Any = _mmseg.BaseSegDataset
_voc, _stuff = _mmseg.PascalVOCDataset.METAINFO, _mmseg.COCOStuffDataset.METAINFO
THINGS = 80
"""Number of COCO's object classes ("things"); COCO-Stuff lists them first."""


class PascalVOC20Dataset(_PascalVOCDataset):
    """VOC2012 without its background: pixels of label 0 are ignored and the other classes are numbered from 0."""

    METAINFO: ClassVar[dict[str, Any]] = {"classes": _voc["classes"][1:], "palette": _voc["palette"][1:]}

    def __init__(self, reduce_zero_label: bool = True, **kwargs: Any) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)


class COCOObjectDataset(_BaseSegDataset):
    """COCO's 80 object classes on a background (GroupViT, Xu et al., CVPR 2022): masks `*_instanceTrainIds.png`.

    The colours of the classes are those of COCO-Stuff; the background is black.
    """

    METAINFO: ClassVar[dict[str, Any]] = {
        "classes": ("background", *_stuff["classes"][:THINGS]),
        "palette": [[0, 0, 0], *_stuff["palette"][:THINGS]],
    }

    def __init__(self, img_suffix: str = ".jpg", seg_map_suffix: str = "_instanceTrainIds.png", **kwargs: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)


def find_dataset_class(name: str) -> Any:
    """Return a dataset class of mmsegmentation's registry; the registry has the two classes above, too."""
    from mmseg.registry import DATASETS

    for added in (PascalVOC20Dataset, COCOObjectDataset):
        # SCLIP's own code may have been imported in this process: it registers other classes under these two names
        if DATASETS.get(added.__name__) is not added:
            DATASETS.register_module(module=added, force=True)
    return DATASETS.get(name)
