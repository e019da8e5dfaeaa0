"""toybox: the embedded world."""

from cosmos_eval.datasets.toybox.batches import TrainRecords, render_many, train_records
from cosmos_eval.datasets.toybox.drawing import instances, mask, render
from cosmos_eval.datasets.toybox.scenes import (
    SPLITS,
    VERSION,
    Background,
    Scene,
    Speck,
    Thing,
    make_scene,
    single_object_scene,
    split_of,
)
from cosmos_eval.datasets.toybox.sentences import Captions, captions, record
from cosmos_eval.datasets.toybox.words import CLASSES, SHAPES, vocabulary

__all__ = [
    "CLASSES",
    "SHAPES",
    "SPLITS",
    "VERSION",
    "Background",
    "Captions",
    "Scene",
    "Speck",
    "Thing",
    "TrainRecords",
    "captions",
    "instances",
    "make_scene",
    "mask",
    "record",
    "render",
    "render_many",
    "single_object_scene",
    "split_of",
    "train_records",
    "vocabulary",
]
