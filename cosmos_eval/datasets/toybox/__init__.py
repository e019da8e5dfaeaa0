"""toybox: the embedded world. A dataset that is made, not downloaded; this page is its datasheet.

**Motivation.** Every task of the project, training included, must run on a machine without datasets, GPU or network,
and be worth running there: scenes whose captions, masks and compositional negatives are right by construction,
because all of them are made from the same list of objects.

**Composition.** A scene holds 1 to 4 objects (35, 35, 18 and 12 %) on a background. An object has one of 6 shapes, 8
colours, 2 sizes, 3 textures (the words are in `words.py`) and a place: one of four corners, or the centre where it is
alone. No two objects of a scene agree in both colour and shape, and none overlap. A background has one of 6 muted
colours and 5 patterns. Not named by any caption: small shifts, turns and shades, and, in half of the scenes, up to
five specks or short lines.
- Words: `captions(scene)` has a terse raw caption, two complete descriptions, a short partial one and three of
  several sentences; `record(scene)` is DreamLIP's structure (13.5 sentences a scene on average, none above 14 tokens
  but for the complete descriptions, which have at most 38). 56 words in all, each one token of CLIP's vocabulary.
- Masks: `mask` (background 0, shapes 1 to 6: 12 % of the pixels belong to objects), `colour_mask` (background 0,
  colours 1 to 8) and `instances`, exact at any size. The segmentation benchmark asks for colours: a patch of 8 pixels
  shows the colour of what it lies on, while a shape is seen from further off.
- `negatives(scene)`: one of each of SugarCrepe's seven kinds, the two swaps only where there are two objects that
  allow it.
- Classification: `single_object_scene`, one large object of each of 48 classes ("red circle") among specks; balanced.

**How it is made.** `make_scene(seed, split, index)` draws the content, `render` and the masks draw the pixels at any
size with numpy and Pillow alone; no fonts, no files. Chance comes from streams that Python and numpy promise not to
change (`dice.py`). Rendering takes about 0.25 ms a scene at 64 pixels. `VERSION` changes when images, words or
splits do.

**Truth.** `is_true(text, scene)` reads a sentence as words, without knowing how it was made, and holds it against the
content. Every caption is true of its scene and every negative false; tests ask for it over arbitrary seeds.

**Splits.** The content of a scene (what captions can speak of, see `Scene.signature`) is hashed into a hundred
buckets, of which train has 80, val 10 and test 10; drawing goes on until the content falls to the split. So the same
content cannot occur in two splits, whatever the seeds. Within a split it can recur: 15 of the first 1,000 test scenes
of seed 0, all with one object. Evaluation leaves these out (`distinct_scenes`); of the 1,000 test scenes' 2,000
complete descriptions 99.2 % are true of exactly one of them (all that give the number of objects, and 98.3 % of the
others).

**Counts of the in-memory benchmarks (test, seed 0).** Retrieval: 1,000 images, 2,000 captions. Classification: 48 x
20 images. Perception: 1,000 images; replace_obj, replace_att, replace_rel, add_obj and add_att 1,000 items each,
swap_obj 673, swap_att 664. Segmentation: 400 images, background and 8 colours.

**Known limits.** Left and right are in the captions: a horizontal flip in training makes them false. Added negatives
are longer than their positives (SugarCrepe's are, too), so that a model which prefers short texts gains from them
without looking; in the other five kinds true and false captions have the same words or evenly drawn ones. All shapes
and colours occur in all splits in every combination: toybox does not measure how a model does on pairs that it never
saw. A scene's language is regular and its vocabulary tiny; numbers on toybox say how well a small model has learnt
toybox, and nothing about photographs.

On the disk: `prepare` writes the same content in the formats of real datasets.
"""

from cosmos_eval.datasets.toybox.batches import TrainRecords, train_records
from cosmos_eval.datasets.toybox.contrasts import KINDS, Negative, negatives
from cosmos_eval.datasets.toybox.drawing import colour_mask, instances, mask, render
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
    Speck,
    Thing,
    make_scene,
    single_object_scene,
    split_of,
)
from cosmos_eval.datasets.toybox.sentences import Captions, captions, record
from cosmos_eval.datasets.toybox.truth import is_true
from cosmos_eval.datasets.toybox.words import CLASSES, SHAPES
from cosmos_eval.datasets.toybox.writing import prepare

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
    "Speck",
    "Thing",
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
