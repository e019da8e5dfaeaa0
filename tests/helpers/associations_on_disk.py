"""Write WinoGAViL and CUB-200-2011 in their authors' formats, with a few small images each."""

import json
from pathlib import Path

from tests.helpers.datasets_on_disk import write_image
from tests.helpers.perception_on_disk import write_csv

WINOGAVIL_HEADER = (
    "", "candidates", "cue", "associations", "score_fool_the_ai", "num_associations", "num_candidates",
    "solvers_jaccard_mean", "solvers_jaccard_std", "ID",
)  # fmt: skip
FIVE = ["eagle", "teepee", "factory", "metal", "ash"]
TEN = [*FIVE, "tea party", "music", "siren", "board", "game"]
ITEMS = (
    (FIVE, "bald", ["eagle", "ash"]),
    (FIVE, "Indoor", ["teepee", "factory"]),
    (TEN, "colorful", ["tea party", "game", "music"]),
    (TEN, "sailors", ["music", "siren"]),
)
"""(candidates, cue, associations) of each row."""
BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Bobolink")


def winogavil_rows() -> list[dict[str, str]]:
    return [
        {
            "": str(i), "candidates": json.dumps(candidates), "cue": cue, "associations": json.dumps(associations),
            "score_fool_the_ai": "67", "num_associations": str(len(associations)),
            "num_candidates": str(len(candidates)), "solvers_jaccard_mean": "1.0", "solvers_jaccard_std": "0.0",
            "ID": str(i),
        }
        for i, (candidates, cue, associations) in enumerate(ITEMS)
    ]  # fmt: skip


def winogavil(root: Path) -> None:
    """Four items, with images as the authors' script (.png) and as the hub's archive (.jpg) name them."""
    write_csv(root / "winogavil/winogavil_dataset.csv", WINOGAVIL_HEADER, winogavil_rows())
    for i, name in enumerate(TEN):
        write_image(root / f"winogavil/images/{name}.{'png' if i % 2 else 'jpg'}", seed=i)


def cub(root: Path) -> Path:
    """Three classes with two test images and one training image each; ids are not in the order of the splits."""
    folder = root / "cub200/CUB_200_2011"
    images = [(bird, f"{bird}/{bird[4:]}_{k:04d}.jpg") for bird in BIRDS for k in range(3)]
    for i, (_, name) in enumerate(images):
        write_image(folder / "images" / name, seed=i)
    lists = {
        "images": [name for _, name in images],
        "classes": list(BIRDS),
        "image_class_labels": [str(BIRDS.index(bird) + 1) for bird, _ in images],
        "train_test_split": ["1" if i % 3 == 1 else "0" for i in range(len(images))],
    }
    for name, values in lists.items():
        lines = [f"{i} {value}\n" for i, value in enumerate(values, start=1)]
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    return folder
