"""The definitions of docs/own_data.md with several labels, right answers and positives: every command, two models."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clip_benchmark.datasets.builder import build_dataset
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.results.store import read_results
from tests.helpers.documents import block

OWN_DATA = (Path(__file__).resolve().parents[2] / "docs/own_data.md").read_text(encoding="utf-8")
NAMES = ("my-gallery", "my-pets-multilabel", "my-questions")
MODELS = ("python:own_oracle:build", "python:own_oracle:build_random")
IMAGES = 20
ORACLE = '''
"""A model that knows which texts are right for which image, and one with random features; images are known by sight."""
import json
import zlib
from pathlib import Path
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

FOLDER = Path(__file__).parent

class Oracle:
    digest = "oracle"

    def __init__(self):
        self.images_of_text = json.loads((FOLDER / "images_of_text.json").read_text())
        paths = [FOLDER / "pets/photos" / f"{i}.jpg" for i in range(20)]
        self.known = torch.stack([self.preprocess(Image.open(path).convert("RGB")).flatten() for path in paths])

    def preprocess(self, image):
        return pil_to_tensor(image).float() / 255

    def encode_image(self, x):
        return torch.eye(20)[torch.cdist(x.flatten(1), self.known).argmin(1)]

    def encode_text(self, texts):
        rows = torch.full((len(texts), 20), 1e-3)
        for row, text in zip(rows, texts):
            row[self.images_of_text.get(text, [])] = 1
        return rows

class Random(Oracle):
    digest = "random"

    def encode_text(self, texts):
        seeds = [torch.Generator().manual_seed(zlib.crc32(text.encode())) for text in texts]
        return torch.stack([torch.randn(20, generator=seed) for seed in seeds])

build, build_random = Oracle, Random
'''


def lines_for(name: str) -> list[dict]:
    """The lines of the document, then lines of the same forms up to twenty images."""
    shown = {"my-gallery": '"images": []', "my-pets-multilabel": '"undecided"', "my-questions": '"answer"'}
    lines = [json.loads(line) for line in block(OWN_DATA, "json", shown[name]).splitlines()]
    named = {image for line in lines for image in [*line.get("images", []), line.get("image")]}
    for i in range(IMAGES):
        image = f"photos/{i}.jpg"
        if image in named:
            continue
        lines.append(
            {
                "my-gallery": {"image": image, "captions": [f"pet number {i}"]},
                "my-pets-multilabel": {"image": image, "labels": [["dog"], ["cat", "sofa"], []][i % 3]},
                "my-questions": {"image": image, "captions": ["a dog", f"a cat {i}", "a bird"], "answer": i % 3},
            }[name]
        )
    return lines


def images_of_text() -> dict[str, list[int]]:
    """Each text of the three benchmarks -> the images that it is right for."""
    found: dict[str, set[int]] = {}
    for name in NAMES:
        for line in lines_for(name):
            images = line.get("images", [line.get("image")])
            if name == "my-pets-multilabel":
                right = [(f"a photo of a {label}.", images[0]) for label in line["labels"]]
            elif name == "my-gallery":
                right = [(caption, image) for caption in line["captions"] for image in images]
            elif "caption" in line:
                right = [(line["caption"], images[line["answer"]])]
            else:
                answers = line["answer"] if isinstance(line["answer"], list) else [line["answer"]]
                right = [(line["captions"][answer], images[0]) for answer in answers]
            for text, image in right:
                found.setdefault(text, set()).add(int(Path(image).stem))
    return {text: sorted(images) for text, images in found.items()}


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> Iterator[Path]:
    """The folder of the documents, with `own_oracle` importable."""
    root = tmp_path_factory.mktemp("own")
    folder = root / "pets"
    (folder / "photos").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.jpg")
    for name in NAMES:
        text = block(OWN_DATA, "yaml", f"name: {name}\n").replace("pets.jsonl", f"{name}.jsonl")
        (folder / f"{name}.yaml").write_text(text)
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(line) for line in lines_for(name)))
    (root / "own_oracle.py").write_text(ORACLE)
    (root / "images_of_text.json").write_text(json.dumps(images_of_text()))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        yield folder


def run(pets: Path, out: Path, *options: str, models=MODELS[:1], names=NAMES) -> int:
    words = [word for model in models for word in ("--model", model)]
    words += [word for name in names for word in ("--benchmark", str(pets / f"{name}.yaml"))]
    return run_command(["run", *words, "--device", "cpu", "--workers", "0", *options, "--out", str(out)])


@pytest.fixture(scope="module")
def measured(pets, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    assert run(pets, out, models=MODELS) == 0
    return out


@pytest.mark.parametrize("name", NAMES)
def test_data_check_counts_the_documents_data(pets, name, capsys):
    assert run_command(["data", "check", str(pets / f"{name}.yaml"), "--deep"]) == 0
    assert "20 images" in capsys.readouterr().out


def test_a_perfect_model_is_right_everywhere_and_every_metric_has_an_interval(measured):
    results = read_results(measured)
    assert len(results) == 6
    for result in results:
        for metric in result.metrics.values():
            assert metric.low <= metric.value <= metric.high
        metric = result.metrics[result.primary]
        assert metric.low < metric.high
        if result.model.spec == MODELS[0]:
            assert metric.value == 1
        else:
            assert metric.value < 0.75


def test_finished_results_are_kept(pets, measured, capsys):
    before = {path: path.stat().st_mtime_ns for path in measured.rglob("RESULT.json")}
    assert run(pets, measured) == 0
    assert {path: path.stat().st_mtime_ns for path in measured.rglob("RESULT.json")} == before


def test_a_limit_is_measured_and_marked(pets, tmp_path):
    assert run(pets, tmp_path, "--limit", "8") == 0
    results = read_results(tmp_path)
    assert [result.limit for result in results] == [8] * 3
    assert all(result.dataset.n["images"] <= 8 for result in results)


def test_the_leaderboard_and_the_report_show_all(measured, tmp_path, capsys):
    assert run_command(["leaderboard", str(measured)]) == 0
    table = capsys.readouterr().out
    for name in NAMES:
        assert name in table
    assert "mAP" in table
    assert run_command(["report", str(measured), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in NAMES)


def test_regress_finds_the_drop_of_each_task(measured, tmp_path, capsys):
    folders = {
        read_results(path)[0].model.spec: path for path in {file.parents[1] for file in measured.rglob("RESULT.json")}
    }
    good, bad = (str(folders[model]) for model in MODELS)
    assert run_command(["regress", good, bad, "--json", str(tmp_path / "answer.json")]) == 1
    answer = json.loads((tmp_path / "answer.json").read_text())
    verdicts = {(test["benchmark"], test["metric"]): test["verdict"] for test in answer["tests"]}
    assert set(verdicts) == {
        ("my-gallery", "image_to_text_recall@1"),
        ("my-gallery", "text_to_image_recall@1"),
        ("my-pets-multilabel", "mean_average_precision"),
        ("my-questions", "accuracy"),
    }
    assert set(verdicts.values()) == {"regression"}
    assert answer["not_comparable"] == []
    assert {test["baseline"] for test in answer["tests"]} == {1.0}
    capsys.readouterr()
    of_class = ["--benchmark", "my-pets-multilabel", "--metric", "dog/average_precision"]
    assert run_command(["regress", good, good, *of_class]) == 0
    assert "dog/AP" in capsys.readouterr().out


def make_npy(row) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(row))
    return stream.getvalue()


def write_shards(root: Path, rows: list, names: str = "aeroplane\nbird\ncat\n") -> Path:
    folder = root / "wds_mine"
    (folder / "test").mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "test/0.tar", "w") as tar:
        for i, row in enumerate(rows):
            stream = io.BytesIO()
            Image.new("RGB", (6, 5), (i, 0, 0)).save(stream, "png")
            content = row if isinstance(row, bytes) else make_npy(row)
            for name, data in ((f"s{i}.png", stream.getvalue()), (f"s{i}.npy", content)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (folder / "test/nshards.txt").write_text("1")
    (folder / "classnames.txt").write_text(names)
    (folder / "dataset_type.txt").write_text("multilabel")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    return folder


def shards_definition(root: Path):
    text = "name: mine\nversion: 1\ntask: multilabel\ndataset: {reader: wds, path: wds_mine}\n"
    text += "prompts: {class_names: dataset, templates: dataset}\nmetrics: {primary: mean_average_precision}\n"
    (root / "mine.yaml").write_text(text)
    return load_benchmark(root / "mine.yaml")


@pytest.mark.filterwarnings("ignore:.*shardshuffle")
def test_shards_have_the_labels_that_clip_benchmark_reads(tmp_path):
    rows = [np.array([1, 0, 1], np.float32), np.array([0, 0, 0], np.int64), np.array([True, True, False])]
    folder = write_shards(tmp_path, rows)
    data = datasets.load(shards_definition(tmp_path))
    assert data.labels.tolist() == [[1, 0, 1], [0, 0, 0], [1, 1, 0]]
    theirs = build_dataset("wds/mine", root=str(folder), transform=lambda image: image, split="test")
    assert [np.asarray(label).astype(int).tolist() for _, label in theirs] == data.labels.tolist()
    assert (theirs.classes, theirs.templates) == (data.class_names, data.templates)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def object_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Trap(), 1, 2], dtype=object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1, 0], "2 labels of 0/s0.png for 3 class names"),
        ([[1, 0, 1]], "has 1 x 3 numbers"),
        ([0.5, 0, 1], "needs a row with 1, 0 or -1"),
        ([np.nan, 0, 1], "needs a row with 1, 0 or -1"),
        (np.array(["a", "b", "c"]), "not a numpy array of numbers"),
        (b"", "not a numpy array of numbers"),
        (b"1 0 1", "not a numpy array of numbers"),
        (make_npy([1, 0, 1])[:-4], "not a numpy array of numbers"),
        (make_npy(np.zeros(3)).replace(b"(3,)", b"(9**99,)"), "not a numpy array of numbers"),
        (object_array(), "elements of type object"),
        (np.zeros(0), "needs a row"),
    ],
)
def test_rows_that_are_no_labels_are_refused_in_one_line_and_nothing_is_unpickled(tmp_path, row, reason):
    write_shards(tmp_path, [row])
    with pytest.raises(RequestError) as caught:
        datasets.load(shards_definition(tmp_path))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        (
            "my-pets-multilabel",
            '{"image": "photos/0.jpg", "labels": ["horse"]}',
            "'horse' is not among the class names",
        ),
        ("my-pets-multilabel", '{"image": "photos/0.jpg", "labels": [3]}', "3 is not from 0 to 2"),
        ("my-pets-multilabel", '{"image": "photos/0.jpg", "labels": 3}', "'labels' must be a list of classes, not 3"),
        ("my-pets-multilabel", '{"image": "photos/0.jpg", "labels": [""]}', "'labels' must be a class name or a class"),
        ("my-pets-multilabel", '{"image": "photos/0.jpg", "labels": [], "ignore": {}}', "'ignore' must be a list"),
        ("my-pets-multilabel", '{"image": "photos/0.jpg"}', "the key 'labels' is missing"),
        ("my-questions", '{"image": "photos/0.jpg", "captions": ["a", "b"], "answer": 2}', "from 0 to 1, or a list"),
        ("my-questions", '{"image": "photos/0.jpg", "captions": ["a", "b"], "answer": true}', "not true"),
        ("my-questions", '{"image": "photos/0.jpg", "captions": ["a", "b"], "answer": []}', "not []"),
        ("my-questions", '{"image": "photos/0.jpg", "captions": ["a", "b"], "answer": [0, 1]}', "needs a wrong one"),
        ("my-questions", '{"image": "photos/0.jpg", "captions": ["a"], "answer": 0}', "1 image and 1 caption"),
        ("my-questions", '{"images": ["photos/0.jpg", "../x.jpg"], "caption": "a", "answer": 0}', "leads out of"),
        ("my-questions", '{"images": ["photos/0.jpg", 3], "caption": "a", "answer": 0}', "'images' must be a text or"),
        ("my-gallery", '{"images": ["photos/0.jpg", "/x.jpg"], "captions": ["a"]}', "leads out of"),
        ("my-gallery", '{"images": [], "captions": ["a"]}', "has no line"),
        ("my-gallery", '{"image": "photos/0.jpg", "captions": []}', "no image with a caption"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(pets, tmp_path, name, line, reason):
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "photos").symlink_to(pets / "photos")
    (folder / f"{name}.yaml").write_text(
        (pets / f"{name}.yaml").read_text().replace(", expected: {images: 20, classes: 3}", "")
    )
    (folder / f"{name}.jsonl").write_text(line)
    with pytest.raises(RequestError) as caught:
        datasets.load(load_benchmark(folder / f"{name}.yaml"))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_distractors_need_the_option(pets, tmp_path):
    text = (pets / "my-gallery.yaml").read_text().replace(", distractors: allow", "")
    (pets / "strict.yaml").write_text(text.replace("my-gallery\n", "strict\n"))
    with pytest.raises(RequestError, match=r"distractors: allow"):
        datasets.load(load_benchmark(pets / "strict.yaml"))
    (pets / "other.yaml").write_text(
        (pets / "my-questions.yaml").read_text().replace("path:", "distractors: allow, path:")
    )
    with pytest.raises(RequestError, match="multiple-choice has no images and texts that are candidates only"):
        load_benchmark(pets / "other.yaml")
