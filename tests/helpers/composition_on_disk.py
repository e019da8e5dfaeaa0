"""Write the further compositional benchmarks in their authors' formats, with a few small images each."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cosmos_eval.datasets.perception.crepe import COLUMNS as CREPE_COLUMNS
from cosmos_eval.datasets.perception.crepe import COMPLEXITIES, FOILS
from cosmos_eval.datasets.perception.negbench import COLUMNS as NEGBENCH_COLUMNS
from cosmos_eval.datasets.perception.sugarcrepe_pp import SUBSETS as SCPP_SUBSETS
from cosmos_eval.datasets.perception.valse import PIECES
from tests.helpers.datasets_on_disk import write_image, write_json
from tests.helpers.perception_on_disk import winoground, winoground_rows, write_csv, write_lines


def image_bytes(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def coco_images(root: Path, count: int = 10) -> list[str]:
    names = [f"{i:012d}.jpg" for i in range(1, count + 1)]
    for i, name in enumerate(names):
        write_image(root / "coco/images/val2017" / name, seed=i)
    return names


def sugarcrepe_pp(root: Path) -> None:
    """Two rows in each of the five files, each of an image of its own."""
    names = iter(coco_images(root))
    for subset in SCPP_SUBSETS:
        rows = [
            {
                "id": j, "filename": next(names), "caption": f"right {subset} {j}", "caption2": f"same {subset} {j}",
                "negative_caption": f"wrong {subset} {j}",
            }
            for j in range(2)
        ]  # fmt: skip
        write_json(root / f"sugarcrepe_pp/{subset}.json", rows)


def bivlc(root: Path) -> None:
    """Four rows, as `datasets` writes them: images are structs of bytes and path."""
    kinds = ("replace", "replace", "swap", "add")
    rows = {
        "image": [{"bytes": image_bytes(i), "path": None} for i in range(4)],
        "caption": [f"a dog {i}" for i in range(4)],
        "negative_caption": [f"a cat {i}" for i in range(4)],
        "negative_image": [{"bytes": image_bytes(10 + i), "path": None} for i in range(4)],
        "type": list(kinds),
        "subtype": ["obj", "att", "obj", "att"],
    }
    path = root / "bivlc/test-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), path)


def cola(root: Path) -> None:
    address = "https://example.org/vg_gqa_images/{}.jpg"
    rows = [[address.format(2 * i), f"red cup {i}", address.format(2 * i + 1), f"blue cup {i}"] for i in range(4)]
    write_json(root / "cola/COLA_multiobjects_matching_benchmark.json", rows)
    for i in range(8):
        write_image(root / f"cola/images/{i}.jpg", seed=i)


def colorswap(root: Path) -> None:
    rows = [
        {
            "id": i, "caption_1": f"a yellow hat, a white dress {i}", "caption_2": f"a white hat, a yellow dress {i}",
            "image_1": f"images/img_{i}_1.png", "image_2": f"images/img_{i}_2.png", "image_source": "midjourney",
            "caption_source": "human" if i < 3 else "model",
        }
        for i in range(4)
    ]  # fmt: skip
    write_json(root / "colorswap/test.json", rows)
    for i in range(4):
        for k in (1, 2):
            write_image(root / f"colorswap/images/img_{i}_{k}.png", seed=2 * i + k)


def valse_row(piece: str, j: int, votes: int) -> dict[str, Any]:
    return {
        "dataset": "SWiG", "original_split": "test", "dataset_idx": f"{piece}_{j}.jpg", "linguistic_phenomena": "a",
        "image_file": f"{piece}_{j}.jpg", "caption": f"There are {piece} {j}.", "classes": "a", "classes_foil": "b",
        "mturk": {"foil": 3 - votes, "caption": votes, "other": 0}, "foil": f"There are no {piece} {j}.",
    }  # fmt: skip


def valse(root: Path) -> None:
    """In each file two valid foils and one that is not; one image lies in the folder of its dataset."""
    for i, piece in enumerate(PIECES):
        rows = {f"{piece}_{j}": valse_row(piece, j, votes) for j, votes in enumerate((3, 2, 1))}
        write_json(root / f"valse/{piece}.json", rows)
        for j in range(2):
            folder = root / ("valse/images/SWiG" if j else "valse/images")
            write_image(folder / f"{piece}_{j}.jpg", seed=2 * i + j)


def crepe(root: Path) -> None:
    """One row in each table; the images of Visual Genome are in one of two folders."""
    number = 0
    for foil in FOILS:
        for complexity in COMPLEXITIES:
            number += 1
            row = {
                "image_id": number, "caption": f"a cat on {number}", "x": 1, "y": 2, "width": 6, "height": 5,
                "hard_negs": str([f"a dog on {number}, {k}" for k in range(5)]),
            }  # fmt: skip
            name = f"prod_vg_hard_negs_{foil}_complexity_{complexity}.csv"
            write_csv(root / "crepe/prod_hard_negatives" / foil / name, ["", *CREPE_COLUMNS], [row])
            write_image(root / f"visual_genome/{'VG_100K' if number % 2 else 'VG_100K_2'}/{number}.jpg", seed=number)


WHATSUP_WORDS = {
    "a": {"on": "on", "under": "under", "left_of": "to the left of", "right_of": "to the right of"},
    "b": {"in-front_of": "in front of", "behind": "behind", "left_of": "to the left of", "right_of": "to the right of"},
}


def whatsup(root: Path, part: str) -> None:
    """Two sets of four photos; the right caption is the first."""
    name = "controlled_images" if part == "a" else "controlled_clevr"
    rows = []
    for thing in ("mug", "book"):
        captions = {key: f"A {thing} {words} a table" for key, words in WHATSUP_WORDS[part].items()}
        for key, right in captions.items():
            path = f"{name}/{thing}_{key}_table.jpeg"
            options = [right, *(caption for caption in captions.values() if caption != right)]
            rows.append({"image_path": f"data/{path}", "caption_options": options})
            write_image(root / "whatsup" / path, seed=len(rows))
    write_json(root / f"whatsup/{name}_dataset.json", rows)


def spatial(root: Path, name: str, objects: str) -> None:
    words = (
        ["on the left", "on the right", "at the top", "at the bottom"]
        if objects == "one"
        else ["to the left of a cat", "to the right of a cat", "above a cat", "below a cat"]
    )
    if name == "vg":
        words = words if objects == "one" else [*words[:2], "in front of a cat", "on top of a cat"]
        for i in range(4):
            write_image(root / f"whatsup/vg_images/{i + 1}.jpg", seed=i)
    else:
        coco_images(root)
    rows = [[i + 1, f"A photo of a dog {word}", f"A photo of a dog not {word}"] for i, word in enumerate(words)]
    write_json(root / f"whatsup/{name}_qa_{objects}_obj.json", rows)


def vsr(root: Path, split: str) -> None:
    relations = ("in front of", "facing", "on", "deep in", "on")
    rows = [
        {
            "image": f"{i:012d}.jpg", "image_link": "http://images.cocodataset.org/train2017/x.jpg",
            "caption": f"The cat is {relation} the bed {i}.", "label": i % 2, "relation": relation, "subj": "cat",
            "obj": "bed", "annotator_id": 2, "vote_true_validator_id": "[2]", "vote_false_validator_id": "[]",
        }
        for i, relation in enumerate(relations)
    ]  # fmt: skip
    write_lines(root / f"vsr/{split}/test.jsonl", rows)
    for i in range(len(relations)):
        write_image(root / f"vsr/images/{i:012d}.jpg", seed=i)


def negbench(root: Path, name: str) -> None:
    folder = {"COCO_val": "coco/images/val2017", "VOC2007": "VOCdevkit/VOC2007/JPEGImages"}[name]
    templates = ("hybrid", "negative", "positive", "hybrid")
    rows = [
        {
            "image_path": f"data/somewhere/val/{i:06d}.jpg", "correct_answer": i,
            **{f"caption_{k}": f"There is no {k}, but {i}." for k in range(4)}, "correct_answer_template": template,
        }
        for i, template in enumerate(templates)
    ]  # fmt: skip
    write_csv(root / f"negbench/{name}_mcq_llama3.1_rephrased.csv", NEGBENCH_COLUMNS, rows)
    for i in range(len(templates)):
        write_image(root / folder / f"{i:06d}.jpg", seed=i)


def chexpert(root: Path, name: str) -> None:
    """Three images whose files have one name, as CheXpert's have; the paths are those of another machine."""
    rows = [
        {
            "correct_answer": i % 2, "caption_0": f"It shows {i}.", "caption_1": f"It does not show {i}.",
            "image_path": f"/a/train/chexpert/valid/patient{i}/study1/view1_frontal.jpg",
        }
        for i in range(3)
    ]  # fmt: skip
    write_csv(root / f"negbench/{name}.csv", ["correct_answer", "caption_0", "caption_1", "image_path"], rows)
    for i in range(3):
        write_image(root / f"CheXpert-v1.0-small/valid/patient{i}/study1/view1_frontal.jpg", seed=i)


def countbench(root: Path) -> None:
    """Six rows, of which one has no image and one does not have its number."""
    texts = ("Three red cups", "a set of two cats", "TWO dogs", "five birds", "10 keys", "three or three pens")
    rows = {
        "image": [{"bytes": image_bytes(i), "path": None} if i != 3 else None for i in range(6)],
        "text": list(texts),
        "image_url": [f"https://example.org/{i}.jpg" for i in range(6)],
        "number": [3, 2, 2, 5, 10, 3],
    }
    path = root / "countbench/train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(rows), path)


def winoground_tags(root: Path) -> None:
    winoground(root)
    tags = (["Non Minimal", "Unusual Text"], [], ["Unusual Text"])
    content = {str(row["id"]): tag for row, tag in zip(winoground_rows(), tags, strict=True)}
    write_json(root / "winoground/new_tag_assignments.json", content)


WRITE: dict[str, Callable[[Path], None]] = {
    "sugarcrepe-pp": sugarcrepe_pp,
    "winoground-tags": winoground_tags,
    "bivlc": bivlc,
    "bivlc-subtypes": bivlc,
    "cola-multi": cola,
    "colorswap": colorswap,
    "valse": valse,
    "valse-texts": valse,
    "crepe-productivity": crepe,
    "whatsup-a": lambda root: whatsup(root, "a"),
    "whatsup-b": lambda root: whatsup(root, "b"),
    "whatsup-coco-one": lambda root: spatial(root, "coco", "one"),
    "whatsup-coco-two": lambda root: spatial(root, "coco", "two"),
    "whatsup-gqa-one": lambda root: spatial(root, "vg", "one"),
    "whatsup-gqa-two": lambda root: spatial(root, "vg", "two"),
    "vsr-random": lambda root: vsr(root, "random"),
    "vsr-zeroshot": lambda root: vsr(root, "zeroshot"),
    "negbench-coco": lambda root: negbench(root, "COCO_val"),
    "negbench-voc2007": lambda root: negbench(root, "VOC2007"),
    "negbench-chexpert": lambda root: chexpert(root, "chexpert_binary_mcq"),
    "negbench-chexpert-control": lambda root: chexpert(root, "chexpert_binary_mcq_control"),
    "countbench": countbench,
}
NAMES = tuple(WRITE)


def write_all(root: Path) -> Path:
    for write in dict.fromkeys(WRITE.values()):
        write(root)
    return root
