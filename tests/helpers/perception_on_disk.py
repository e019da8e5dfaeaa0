"""Write the perception and compositional benchmarks in their published formats, with a few small images each."""

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cosmos_eval.datasets.perception.mmvp import PATTERNS
from cosmos_eval.datasets.perception.sugarcrepe import SUBSETS
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark
from tests.helpers.datasets_on_disk import write_image, write_json

SVO_HEADER = (
    "index", "sentence", "pos_triplet", "neg_triplet", "pos_url", "neg_url", "pos_image_id", "neg_image_id",
    "subj_neg", "verb_neg", "obj_neg",
)  # fmt: skip
TYPES = ("Orientation", "Presence", "State", "Quantity", "Spatial", "Color", "Structural Character", "Text", "Camera")


def small(name: str, **dataset: Any) -> Benchmark:
    """Return the shipped definition without its counts and with other options."""
    benchmark = load_benchmark(name)
    options = {key: value for key, value in benchmark.dataset.items() if key != "expected"}
    return replace(benchmark, dataset={**options, **dataset})


def sugarcrepe(root: Path) -> None:
    """Write two rows in each file, for three images of COCO."""
    for i, name in enumerate((139, 285, 632)):
        write_image(root / f"coco/images/val2017/{name:012d}.jpg", seed=i)
    for i, subset in enumerate(SUBSETS):
        rows = {
            str(j): {
                "filename": f"{(139, 285, 632)[(i + j) % 3]:012d}.jpg",
                "caption": f"right {subset} {j}",
                "negative_caption": f"wrong {subset} {j}",
            }
            for j in range(2)
        }
        write_json(root / f"sugarcrepe/{subset}.json", rows)


def svo_rows() -> list[dict[str, Any]]:
    """Six rows that are items, two of each kind, and three that are not: repeated, of two kinds, of no kind."""
    kinds = ("subj_neg", "verb_neg", "obj_neg")

    def row(i: int, sentence: str, right: int, wrong: int, *differs: str) -> dict[str, Any]:
        urls = {f"{side}_url": f"http://example.org/{side}/{i}.jpg" for side in ("pos", "neg")}
        triplets = {"pos_triplet": "girl,sit,grass", "neg_triplet": "dog,sit,grass"}
        flags = {kind: kind in differs for kind in kinds}
        ids = {"pos_image_id": right, "neg_image_id": wrong}
        return {"index": i, "sentence": sentence, **triplets, **urls, **ids, **flags}

    rows = [row(i, f"A girl sits, number {i}.", 10 + i, 20 + i, kinds[i % 3]) for i in range(6)]
    repeated = {**rows[0], "index": 6, "neg_triplet": "cat,sit,grass"}
    return [*rows, repeated, row(7, "Two.", 10, 21, "subj_neg", "obj_neg"), row(8, "None.", 10, 22)]


def write_csv(path: Path, header: Iterable[str], rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(header), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def svo(root: Path) -> None:
    write_csv(root / "svo_probes/svo_probes.csv", SVO_HEADER, svo_rows())
    for i in range(6):
        write_image(root / f"svo_probes/images/{10 + i}.{'png' if i % 2 else 'jpg'}", seed=10 + i)
        write_image(root / f"svo_probes/images/{20 + i}.jpg", seed=20 + i)


def mmvp_rows() -> list[dict[str, Any]]:
    return [
        {"Question ID": i + 1, "Type": TYPES[i // 30], "Statement": f"statement, {i + 1}"}
        for i in range(30 * len(PATTERNS))
    ]


def mmvp(root: Path) -> None:
    rows = mmvp_rows()
    write_csv(root / "MMVP_VLM/Questions.csv", rows[0], rows)
    for i, row in enumerate(rows):
        write_image(root / f"MMVP_VLM/MLLM_VLM Images/{row['Type']}/{i + 1}.jpg", seed=i, size=4)


def winoground_rows() -> list[dict[str, Any]]:
    tags = (("Noun", "Series", "Object"), ("Noun", "", "Object"), ("Scope, Preposition", "", "Relation"))
    return [
        {
            "id": i, "image_0": f"ex_{i}_img_0", "image_1": f"ex_{i}_img_1", "caption_0": f"old kisses young {i}",
            "caption_1": f"young kisses old {i}", "tag": tag, "secondary_tag": second, "collapsed_tag": collapsed,
            "num_main_preds": 1,
        }
        for i, (tag, second, collapsed) in enumerate(tags)
    ]  # fmt: skip


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def winoground(root: Path) -> None:
    write_lines(root / "winoground/examples.jsonl", winoground_rows())
    for row in winoground_rows():
        for k in range(2):
            write_image(root / f"winoground/images/{row[f'image_{k}']}.png", seed=2 * int(row["id"]) + k)


def aro_rows(by: str) -> list[dict[str, Any]]:
    """The same box of an image twice, another box of it, and a box of another image."""
    boxes = ((0, 0, 8, 8), (0, 0, 8, 8), (2, 4, 10, 6), (1, 1, 4, 4))
    parts: tuple[Any, ...] = ("on", "on", "under", "on")
    if by == "attributes":
        parts = (["white", "tall"], ["white", "tall"], ["old", "red"], ["white", "tall"])
    key = "relation_name" if by == "relation" else "attributes"
    return [
        {
            "image_id": i, "image_path": f"{7 if i < 3 else 8}.jpg", "true_caption": f"the cat is {i} the mat",
            "false_caption": f"the mat is {i} the cat", key: part,
            **dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), box, strict=True)),
        }
        for i, (box, part) in enumerate(zip(boxes, parts, strict=True))
    ]  # fmt: skip


def aro(root: Path) -> None:
    write_json(root / "aro/visual_genome_relation.json", aro_rows("relation"))
    write_json(root / "aro/visual_genome_attribution.json", aro_rows("attributes"))
    write_image(root / "aro/images/7.jpg", seed=7, size=12)
    write_image(root / "aro/images/8.jpg", seed=8, size=12)


def order_items(folder: str = "") -> list[dict[str, Any]]:
    captions = ("a red cat on a mat", "a mat under a cat")
    return [
        {"image": f"{folder}{i}.jpg", "caption": caption, "shuffles": [f"{caption} {k}" for k in range(4)]}
        for i, caption in enumerate(captions)
    ]


def order(root: Path) -> None:
    write_json(root / "aro/coco_order.json", {"tagger": "python:mine:tag 1.0", "items": order_items("val2014/")})
    write_json(root / "aro/flickr30k_order.json", order_items())
    for i in range(2):
        write_image(root / f"coco/images/val2014/{i}.jpg", seed=30 + i)
        write_image(root / f"flickr30k/flickr30k-images/{i}.jpg", seed=40 + i)


WRITE: dict[str, Callable[[Path], None]] = {
    "sugarcrepe": sugarcrepe,
    "svo-probes": svo,
    "mmvp-vlm": mmvp,
    "winoground": winoground,
    "aro-relation": aro,
    "aro-attribution": aro,
    "aro-coco-order": order,
    "aro-flickr30k-order": order,
}
NAMES = tuple(WRITE)


def write_all(root: Path) -> Path:
    for write in (sugarcrepe, svo, mmvp, winoground, aro, order):
        write(root)
    return root
