"""toybox: an embedded synthetic dataset, rendered from a seed and never downloaded. This page is its datasheet.

**Motivation.** Every task of the project, training included, must run on a machine without datasets, GPU or network,
and must give meaningful numbers there. All captions, masks and compositional negatives of a scene are made from the
same list of objects, so they are right by construction.

**Composition.** A scene has 1 to 4 objects (35, 35, 18 and 12 % of the scenes) on a background. An object has one of 6
shapes, 8 colours, 2 sizes and 3 textures (`words.py`) and a place: one of four corners, or the centre if it is alone.
No two objects of a scene have the same colour and shape, and no two overlap. A background has one of 6 muted colours
and one of 5 patterns. Small shifts, rotations and shades vary too, and half of the scenes have up to five specks or
short lines; no caption mentions these.
- Captions: `captions(scene)` has a terse raw caption, two complete descriptions, a short partial one, and three of
  several sentences; `record(scene)` has them in DreamLIP's structure (13.5 sentences for each scene on average, at most
  14 tokens each; complete descriptions have at most 38). There are 56 words in all, each one token of CLIP's
  vocabulary.
- Masks: `mask` (background 0, shapes 1 to 6; objects cover 12 % of the pixels), `colour_mask` (background 0, colours 1
  to 8) and `instances`, exact at any size. The segmentation benchmark asks for colours: a patch of 8 pixels shows the
  colour of an object, but too little of it to recognise its shape.
- Negatives: `negatives(scene)` has one of each of SugarCrepe's seven kinds; the two swaps only for scenes that have two
  objects that allow them.
- Classification: `single_object_scene`, one large object of one of 48 classes ("red circle") among specks; all classes
  have equally many images.

**Generation.** `make_scene(seed, split, index)` draws the content; `render` and the mask functions draw pixels at any
size with numpy and Pillow only, without fonts or files. Randomness comes only from streams that Python and numpy
promise not to change (`random_stream.py`). Rendering takes about 0.25 ms per scene at 64 pixels. `VERSION` changes when
images, words or splits change.

**Correctness.** `is_true(text, scene)` parses a caption without knowing how it was made and compares it with the scene.
Every caption is true of its scene and every negative is false; tests check this for arbitrary seeds.

**Splits.** The content of a scene (everything that captions can name, see `Scene.signature`) is hashed into a hundred
buckets, of which train has 80, val 10 and test 10. Scenes are drawn until the content is in a bucket of the split. So
the same content cannot occur in two splits, whatever their seeds. Within a split it can recur: in 15 of the first 1,000
test scenes of seed 0, all with one object. Evaluation leaves these out (`distinct_scenes`). Of the 2,000 complete
descriptions of the 1,000 test scenes, 99.2 % are true of exactly one scene (all of those that give the number of
objects, and 98.3 % of the others).

**Counts of the in-memory benchmarks (test, seed 0).** Retrieval: 1,000 images, 2,000 captions. Classification: 48 x 20
images. Perception: 1,000 images; replace_obj, replace_att, replace_rel, add_obj and add_att 1,000 items each, swap_obj
673, swap_att 664. Segmentation: 400 images, background and 8 colours.

**Known limits.** Captions name left and right, so a horizontal flip in training makes them false. Negatives of the two
add kinds are longer than their positives (as in SugarCrepe), so a model that prefers short texts profits without
looking at the image; in the other five kinds, true and false captions have the same words or uniformly drawn ones. All
shapes and colours occur in all splits in every combination: toybox does not measure how a model does on combinations
that it has never seen. The language is regular and the vocabulary tiny: numbers on toybox say how well a small model
has learnt toybox, and nothing about photographs.

`prepare` writes the same content to disk in the formats of real datasets.
"""

from cosmos_eval.datasets.toybox.caption_check import is_true
from cosmos_eval.datasets.toybox.captioning import Captions, captions, record
from cosmos_eval.datasets.toybox.drawing import colour_mask, instances, mask, render
from cosmos_eval.datasets.toybox.hard_negatives import KINDS, Negative, negatives
from cosmos_eval.datasets.toybox.prepare_toybox import prepare
from cosmos_eval.datasets.toybox.reader import (
    TEMPLATES,
    class_scenes,
    classification_data,
    distinct_scenes,
    perception_data,
    read_toybox,
    retrieval_data,
)
from cosmos_eval.datasets.toybox.scenes import (
    SPLITS,
    VERSION,
    Background,
    Scene,
    SceneObject,
    Speck,
    make_scene,
    single_object_scene,
    split_of,
)
from cosmos_eval.datasets.toybox.training_samples import TrainRecords, train_records
from cosmos_eval.datasets.toybox.words import CLASSES, SHAPES

__all__ = [
    "CLASSES",
    "KINDS",
    "SHAPES",
    "SPLITS",
    "TEMPLATES",
    "VERSION",
    "Background",
    "Captions",
    "Negative",
    "Scene",
    "SceneObject",
    "Speck",
    "TrainRecords",
    "captions",
    "class_scenes",
    "classification_data",
    "colour_mask",
    "distinct_scenes",
    "instances",
    "is_true",
    "make_scene",
    "mask",
    "negatives",
    "perception_data",
    "prepare",
    "read_toybox",
    "record",
    "render",
    "retrieval_data",
    "single_object_scene",
    "split_of",
    "train_records",
]
