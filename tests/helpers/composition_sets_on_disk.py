"""Write the benchmarks of composition that are not perception data in their authors' formats, with a few images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosmos_eval.datasets.perception.crepe import BOX, COMPOUNDS, SYSTEMATICITY_COLUMNS
from tests.helpers.datasets_on_disk import write_image, write_json
from tests.helpers.perception_on_disk import write_csv

LABELS = (("square", "white", "plate"), ("round", "white", "plate"), ("tall", "green", "tree"))
PRESENT = ((1, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 0))
DIFFICULT = ((1, 1, 0), (1, 1, 0), (1, 0, 0), (1, 1, 0))
"""Four images. The first class is on two of four difficult images, the second on one of three, the third on none."""


def cola_single(root: Path, name: str) -> None:
    """GQA's names are texts and its images files; CLEVR's are attributes and an object, its images in a folder; PACO's
    rows have no objects."""
    folder, path = {
        "GQA": ("gqa_images", "visual_genome/{}.jpg"),
        "CLEVR": ("clevr_images/valA", "CLEVR_CoGenT_v1.0/images/valA/{}.jpg"),
        "PACO": ("paco_images", "val2017/{}.jpg"),
    }[name]
    labels: list[Any] = [" ".join(words) for words in LABELS]
    if name == "CLEVR":
        labels = [[list(words[:-1]), words[-1]] for words in LABELS]
    rows = []
    for i, (present, difficult) in enumerate(zip(PRESENT, DIFFICULT, strict=True)):
        objects = [] if name == "PACO" else [{"plate": ["white"]}]
        rows.append([path.format(i), *objects, list(present), list(difficult)])
        write_image(root / "cola" / folder / f"{i}.jpg", seed=i)
    write_json(root / f"cola/COLA_singleobjects_benchmark_{name}.json", {"labels": labels, "data": rows})


def crepe_systematicity(root: Path, training: str) -> None:
    """Two regions in each table; the second row has no hard negatives of one word."""
    for t, compounds in enumerate(COMPOUNDS):
        rows = []
        for j in range(2):
            number = 2 * t + j + 1
            rows.append(
                {
                    "region_id": number, "image_id": number, "caption": f"a red path {number}",
                    **dict(zip(BOX, (1, 2, 6, 5), strict=True)),
                    "valid_hard_negs_atom": str([f"a blue path {number} {k}" for k in range(0 if j else 2)]),
                    "valid_hard_negs_comp": str([f"a red mall {number} {k}" for k in range(3 + j)]),
                    "valid_hard_negs_combined": str([f"a blue mall {number} {k}" for k in range(4)]),
                }
            )  # fmt: skip
            write_image(root / f"visual_genome/{'VG_100K_2' if j else 'VG_100K'}/{number}.jpg", seed=number)
        name = f"syst_vg_hard_negs_{compounds}_compounds_in_{training}.csv"
        write_csv(root / "crepe/syst_hard_negatives" / name, ["", "region_id", *SYSTEMATICITY_COLUMNS], rows)


def negbench_retrieval(root: Path, name: str) -> None:
    """Three images of two captions each; the paths are those of another machine."""
    rows = [
        {
            "filepath": f"/data/coco/images/val2017/{i:012d}.jpg", "image_id": i,
            "captions": str([f"A dog {i}. There's no cat.", f"It's \"dog\" {i}, and no cat."]),
            "positive_objects": "['dog']", "negative_objects": "['cat']",
        }
        for i in range(1, 4)
    ]  # fmt: skip
    write_csv(root / f"negbench/{name}.csv", rows[0], rows)
    for i in range(1, 4):
        write_image(root / f"coco/images/val2017/{i:012d}.jpg", seed=i)


NEGATED = "COCO_val_negated_retrieval_llama3.1_rephrased_affneg_true"
WRITE: dict[str, Callable[[Path], None]] = {
    "cola-single-gqa": lambda root: cola_single(root, "GQA"),
    "cola-single-clevr": lambda root: cola_single(root, "CLEVR"),
    "cola-single-paco": lambda root: cola_single(root, "PACO"),
    "crepe-systematicity-cc12m": lambda root: crepe_systematicity(root, "cc12m"),
    "crepe-systematicity-yfcc": lambda root: crepe_systematicity(root, "yfcc"),
    "crepe-systematicity-laion": lambda root: crepe_systematicity(root, "laion"),
    "negbench-coco-retrieval": lambda root: negbench_retrieval(root, "COCO_val_retrieval"),
    "negbench-coco-negated-retrieval": lambda root: negbench_retrieval(root, NEGATED),
}
NAMES = tuple(WRITE)
