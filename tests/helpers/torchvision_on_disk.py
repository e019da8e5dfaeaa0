"""Write torchvision's datasets in the layouts that clip-benchmark's builder reads, with a few small images each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io

from tests.helpers.datasets_on_disk import write_image, write_json


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def food101(root: Path) -> None:
    meta = {"apple_pie": ["apple_pie/2", "apple_pie/1"], "baby_back_ribs": ["baby_back_ribs/3"]}
    write_json(root / "food-101/meta/test.json", meta)
    for i, name in enumerate(["apple_pie/1", "apple_pie/2", "baby_back_ribs/3"]):
        write_image(root / f"food-101/images/{name}.jpg", seed=i)


def pets(root: Path) -> None:
    write_lines(root / "oxford-iiit-pet/annotations/test.txt", "Abyssinian_1 1 1 1", "american_bulldog_2 2 2 1")
    for name in ("Abyssinian_1", "american_bulldog_2"):
        write_image(root / f"oxford-iiit-pet/images/{name}.jpg")


def dtd(root: Path) -> None:
    write_lines(root / "dtd/dtd/labels/test1.txt", "braided/b_1.jpg", "banded/a_1.jpg")
    for name in ("braided/b_1.jpg", "banded/a_1.jpg"):
        write_image(root / "dtd/dtd/images" / name)


def aircraft(root: Path) -> None:
    write_lines(root / "fgvc-aircraft-2013b/data/variants.txt", "707-320", "A340-500 X")
    write_lines(root / "fgvc-aircraft-2013b/data/images_variant_test.txt", "0000002 A340-500 X", "0000001 707-320")
    for name in ("0000001", "0000002"):
        write_image(root / f"fgvc-aircraft-2013b/data/images/{name}.jpg")


def sun397(root: Path) -> None:
    write_lines(root / "SUN397/ClassName.txt", "/a/abbey", "/a/apartment_building/outdoor")
    for name in ("a/apartment_building/outdoor/sun_b", "a/abbey/sun_c", "a/abbey/sun_a"):
        write_image(root / f"SUN397/{name}.jpg")


def cars(root: Path) -> None:
    base = root / "stanford_cars"
    for name in ("00001.jpg", "00002.jpg"):
        write_image(base / "cars_test" / name)
    annotations = np.array([("00002.jpg", 2), ("00001.jpg", 1)], dtype=[("fname", object), ("class", int)])
    scipy.io.savemat(base / "cars_test_annos_withlabels.mat", {"annotations": annotations})
    (base / "devkit").mkdir()
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
    scipy.io.savemat(base / "devkit/cars_meta.mat", {"class_names": names})


SMALL: dict[str, tuple[Callable[[Path], None], list[str], list[int], list[str]]] = {
    "food101": (
        food101,
        [f"food-101/images/{name}.jpg" for name in ("apple_pie/2", "apple_pie/1", "baby_back_ribs/3")],
        [0, 0, 1],
        ["apple pie", "baby back ribs"],
    ),
    "pets": (
        pets,
        [f"oxford-iiit-pet/images/{name}.jpg" for name in ("Abyssinian_1", "american_bulldog_2")],
        [0, 1],
        ["Abyssinian", "American Bulldog"],
    ),
    "dtd": (
        dtd,
        [f"dtd/dtd/images/{name}.jpg" for name in ("braided/b_1", "banded/a_1")],
        [1, 0],
        ["banded", "braided"],
    ),
    "fgvc_aircraft": (
        aircraft,
        [f"fgvc-aircraft-2013b/data/images/{name}.jpg" for name in ("0000002", "0000001")],
        [1, 0],
        ["707-320", "A340-500 X"],
    ),
    "sun397": (
        sun397,
        [f"SUN397/a/{name}.jpg" for name in ("abbey/sun_a", "abbey/sun_c", "apartment_building/outdoor/sun_b")],
        [0, 0, 1],
        ["abbey", "apartment building outdoor"],
    ),
    "cars": (
        cars,
        [f"stanford_cars/cars_test/{name}.jpg" for name in ("00002", "00001")],
        [1, 0],
        ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"],
    ),
}


def caltech101(root: Path) -> None:
    folder = root / "caltech101/101_ObjectCategories"
    for name, count in (("BACKGROUND_Google", 2), ("Faces", 3), ("accordion", 4)):
        for i in range(1, count + 1):
            write_image(folder / name / f"image_{i:04d}.jpg", seed=hash((name, i)) % 1000)


def gtsrb(root: Path, last: int = 42) -> None:
    rows = [f"{label:05d}.ppm;0;0;0;0;0;0;{label}" for label in [*range(42), last]]
    write_lines(root / "gtsrb/GT-final_test.csv", "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId", *rows)
    for row in rows:
        write_image(root / "gtsrb/GTSRB/Final_Test/Images" / row.split(";")[0])


def class_folders(folder: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        write_image(folder / name / f"{name}_1.png", seed=i)


def mnist(root: Path) -> None:
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    for part in ("t10k", "train"):
        pixels = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
        header = np.array([0x803, 10, 28, 28], dtype=">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = np.array([0x801, 10], dtype=">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + bytes(reversed(range(10))))


def stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    write_lines(folder / "class_names.txt", "airplane", "bird", "car")
    for part in ("test", "train", "unlabeled"):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 96), dtype=np.uint8)
        (folder / f"{part}_X.bin").write_bytes(pixels.tobytes())
        (folder / f"{part}_y.bin").write_bytes(bytes([2, 3, 1]))


FACES = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
MORE: dict[str, tuple[Callable[[Path], None], list[int], str]] = {
    "country211": (
        lambda root: class_folders(root / "country211/test", [f"{i:03d}" for i in range(211)]),
        list(range(211)),
        "Andorra",
    ),
    "eurosat": (
        lambda root: class_folders(root / "eurosat/2750", [f"Kind{i}" for i in range(10)]),
        list(range(10)),
        "annual crop land",
    ),
    "gtsrb": (gtsrb, list(range(43)), "red and white circle 20 kph speed limit"),
    "renderedsst2": (
        lambda root: class_folders(root / "rendered-sst2/test", ["negative", "positive"]),
        [0, 1],
        "negative",
    ),
    "mnist": (mnist, list(reversed(range(10))), "0"),
    "stl10": (stl10, [1, 2, 0], "airplane"),
    "fer2013": (lambda root: class_folders(root / "test", FACES), list(range(7)), "angry"),
}
