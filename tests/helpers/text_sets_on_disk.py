"""Small sets in several languages and with long captions, in the files of their authors."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COUNT = 6
SENTENCES = ("a red house stands by a river", "2.5 boats pass", "the sky is grey")


def write_images(folder: Path, names: Sequence[str]) -> None:
    """Different images of 8 x 8 pixels."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name, quality=95)


def long_caption(i: int) -> str:
    return ". ".join(SENTENCES) + f".\nNumber {i} is written on it. "


def write_caption_files(root: Path, folder: str, languages: Sequence[str], names_file: str, file_name: str) -> None:
    """A file of captions for each language beside one of image names."""
    names = [f"COCO_val2014_{i:012d}.jpg" for i in range(COUNT)]
    write_images(root / folder / "images", names)
    (root / folder / names_file).parent.mkdir(parents=True, exist_ok=True)
    (root / folder / names_file).write_text("".join(f"{name}\n" for name in names))
    for language in languages:
        path = root / folder / file_name.replace("{language}", language)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{language}: ein Bild, Nummer {i}\n" for i in range(COUNT)), encoding="utf-8")


def write_xtd10(root: Path, languages: Sequence[str]) -> None:
    """The three folders of the repository of XTD-10."""
    folders = {"de": "MIC", "fr": "MIC", "jp": "STAIR"}
    for language in languages:
        file_name = f"{folders.get(language, 'XTD10')}/test_1kcaptions_{{language}}.txt"
        write_caption_files(root, "multilingual_mscoco", [language], "XTD10/test_image_names.txt", file_name)


def write_xm3600(root: Path, languages: Sequence[str]) -> None:
    keys = [f"{i:016x}" for i in range(COUNT)]
    write_images(root / "xm3600/images", [f"{key}.jpg" for key in keys])
    with (root / "xm3600/captions.jsonl").open("w", encoding="utf-8") as file:
        for i, key in enumerate(keys):
            captions = {
                language: {"caption": [f"{language} first {i}", f"{language} second {i}"], "caption/tokenized": []}
                for language in languages
            }
            file.write(json.dumps({"image/key": key, "image/locale": "en", **captions}, ensure_ascii=False) + "\n")


def write_flickr_zh(root: Path, name: str, folder: str) -> None:
    names = [f"{1000 + i}.jpg" for i in range(COUNT)]
    write_images(root / name / folder, names)
    lines = [f"{one},一 条 狗, {i}.{j}" for i, one in enumerate(names) for j in range(5)]
    (root / name / f"{name}_test_zh.txt").write_text("image,caption\n" + "\n".join(lines) + "\n", encoding="utf-8")


def write_docci(root: Path) -> None:
    names = [f"{split}_{i:05d}.jpg" for split in ("train", "test") for i in range(COUNT)]
    write_images(root / "docci/images", names)
    lines = [
        {
            "type": "DOCCI",
            "split": name[:-10],
            "example_id": name[:-4],
            "image_file": name,
            "description": long_caption(i),
        }
        for i, name in enumerate(names)
    ]
    (root / "docci/docci_descriptions.jsonlines").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_fine_grained(root: Path, path: str, folder: str, names: Sequence[str]) -> None:
    """FLAIR's annotations: several captions of each image."""
    write_images(root / folder, names)
    records = [
        {"image": name, "image_id": i, "caption_id": 3 * i + j, "caption": f"{sentence} {i}"}
        for i, name in enumerate(names)
        for j, sentence in enumerate(SENTENCES)
    ]
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(json.dumps({"annotations": records}))


def write_iiw(root: Path) -> None:
    parts = {
        "DOCCI_Test": ("docci", "image", "test_{:05d}"),
        "IIW-400": ("docci_aar", "image/key", "aar_test_{:05d}"),
        "DCI_Test": ("dci", "image", "sa_{}.jpg"),
    }
    for n, (part, (folder, key, pattern)) in enumerate(parts.items()):
        names = [pattern.format(10 * n + i) for i in range(2)]
        write_images(root / "imageinwords" / folder, [f"{name.removesuffix('.jpg')}.jpg" for name in names])
        path = root / "imageinwords" / part / "data.jsonl"
        path.parent.mkdir(parents=True)
        records = [{key: name, "IIW": long_caption(10 * n + i), "DOCCI": "other"} for i, name in enumerate(names)]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_urban1k(root: Path) -> None:
    write_images(root / "Urban1k/image", [f"{221 + i}.jpg" for i in range(COUNT)])
    (root / "Urban1k/caption").mkdir()
    for i in range(COUNT):
        (root / f"Urban1k/caption/{221 + i}.txt").write_text(f"A busy street, number {i}.\nnot read")


def write_dci(root: Path) -> None:
    base = root / "dci/densely_captioned_images"
    (base / "annotations").mkdir(parents=True)
    write_images(base / "photos", [f"sa_{i}.jpg" for i in range(COUNT)])
    for i in range(COUNT):
        record = {
            "image": f"sa_{i}.jpg",
            "short_caption": f"Short caption {i}.",
            "extra_caption": "" if i == 0 else long_caption(i),
            "mask_data": {},
        }
        (base / f"annotations/{i}.json").write_text(json.dumps(record))
    splits = {"train": ["0.json", "1.json", "2.json", "3.json"], "valid": ["4.json"], "test": ["5.json"]}
    (base / "splits.json").write_text(json.dumps(splits))


def write_sharegpt4v(root: Path, with_images_folder: bool = True) -> None:
    folder = "images/" if with_images_folder else ""
    write_images(root / "share4v", [f"sa_000000/{folder}sa_{i}.jpg" for i in range(COUNT)])
    records = [
        {
            "id": f"sa_{i}",
            "image": f"sa_000000/images/sa_{i}.jpg",
            "conversations": [{"from": "human", "value": "Describe."}, {"from": "gpt", "value": long_caption(i)}],
        }
        for i in range(COUNT)
    ]
    (root / "share4v/share4v_sam_10k.json").write_text(json.dumps(records))


def _docci_fg(root: Path) -> None:
    names = [f"test_{i:05d}.jpg" for i in range(COUNT)]
    write_fine_grained(root, "docci/annotations/test_annotations.json", "docci/images", names)


def _iiw_fg(root: Path) -> None:
    names = [f"{folder}/{i}.jpg" for folder in ("docci", "docci_aar", "dci") for i in range(2)]
    write_fine_grained(root, "imageinwords/finegrained_annotations.json", "imageinwords", names)


WRITERS: dict[str, Callable[[Path], None]] = {
    "docci": write_docci,
    "docci-fg": _docci_fg,
    "iiw": write_iiw,
    "iiw-fg": _iiw_fg,
    "urban1k": write_urban1k,
    "dci": write_dci,
    "dci-short": write_dci,
    "sharegpt4v-1k": write_sharegpt4v,
    "sharegpt4v-10k": write_sharegpt4v,
    "sharegpt4v-1k-longclip": write_sharegpt4v,
    "flickr30k-cn-test-retrieval": lambda root: write_flickr_zh(root, "flickr30k", "flickr30k-images"),
    "flickr8k-cn-test-retrieval": lambda root: write_flickr_zh(root, "flickr8k", "Flicker8k_Dataset"),
}
"""Benchmark of the task retrieval -> writes its layout with a few images."""
MULTILINGUAL: dict[str, Callable[[Path, Sequence[str]], None]] = {
    "multilingual-coco": write_xtd10,
    "xtd10": write_xtd10,
    "xm3600": write_xm3600,
    "xm3600-all-captions": write_xm3600,
    "xtd200": lambda root, languages: write_caption_files(
        root, "xtd200", languages, "test_image_names.txt", "{language}.txt"
    ),
    "flickr30k-200": lambda root, languages: write_caption_files(
        root, "flickr30k-200", languages, "filenames.txt", "{language}.txt"
    ),
}
"""Benchmark in several languages -> writes its layout in these."""
