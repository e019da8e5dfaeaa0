"""Data built in Python: what constructors accept and refuse, names of images, fingerprints, the short repr."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import (
    ChoiceData,
    ClassificationData,
    MultilabelData,
    PerceptionData,
    RetrievalData,
    SegmentationData,
    make_benchmark,
)
from cosmos_eval.datasets import dataset_fingerprint
from cosmos_eval.datasets.memory_images import as_image_sources
from tests.helpers.memory_data import pixels


def pil(count: int = 4) -> list[Image.Image]:
    return [Image.fromarray(array) for array in pixels()[:count]]


def test_files_are_named_below_their_common_folder_or_root_and_never_by_a_path_of_this_machine(tmp_path, monkeypatch):
    for name in ("cats/1.png", "cats/2.png", "dogs/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pil(1)[0].save(tmp_path / name)
    paths = [tmp_path / "cats/1.png", str(tmp_path / "cats/2.png"), tmp_path / "cats/../dogs/1.png"]
    keys = ["cats/1.png", "cats/2.png", "dogs/1.png"]
    assert [source.key for source in as_image_sources(paths)] == keys
    assert [source.key for source in as_image_sources(paths[:2])] == ["1.png", "2.png"]
    prefix = tmp_path.name
    assert [source.key for source in as_image_sources(paths[:1], root=tmp_path.parent)] == [f"{prefix}/cats/1.png"]
    assert [source.key for source in as_image_sources(paths[:2], names=["a", "b"])] == ["a", "b"]
    monkeypatch.chdir(tmp_path)
    relative = as_image_sources(["cats/1.png"])
    monkeypatch.chdir("/")  # a path means what it meant when it was given
    assert relative[0].load().size == (16, 16)
    with pytest.raises(RequestError, match="is not below root="):
        as_image_sources(paths, root=tmp_path / "cats")


def test_images_in_every_mode_have_the_pixels_that_a_file_of_them_has(tmp_path):
    colour = pil(1)[0]
    deep = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))
    for i, image in enumerate([colour, colour.convert("L"), colour.quantize(8), colour.convert("RGBA"), deep]):
        path = tmp_path / f"{i}.png"
        image.save(path)
        in_file, in_memory = as_image_sources([path, image])
        assert np.array_equal(np.asarray(in_file.load()), np.asarray(in_memory.load())), image.mode
    (grey,) = as_image_sources([np.asarray(colour.convert("L"))])
    assert grey.load().mode == "RGB"


def test_undecoded_images_of_the_library_datasets_are_bytes_or_paths(tmp_path):
    path = tmp_path / "a.png"
    pil(1)[0].save(path)
    structs = [{"bytes": path.read_bytes(), "path": None}, {"bytes": None, "path": str(path)}, path]
    assert len({source.digest() for source in as_image_sources(structs, names=list("abc"))}) == 1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("cats.png", r"images must be a list, not 'cats\.png'"),
        (pil(1)[0], "images must be a list, not a Image"),
        (None, "images must be a list of images, not None"),
        ([None], "the image 000000 is None"),
        ([torch.zeros(3, 8, 8)], "a Tensor of shape .*leave ToTensor out"),
        ([np.zeros((8, 8, 3))], "an array of float64, 8 x 8 x 3; give uint8"),
        ([np.zeros((3, 8, 9), dtype=np.uint8)], "an array of shape 3 x 8 x 9; give"),
        ([b"no image"], "cannot decode the image 000000"),
    ],
)
def test_other_things_than_images_are_refused(images, message):
    with pytest.raises(RequestError, match=message) as refusal:
        as_image_sources(images)[0].load()
    assert "\n" not in str(refusal.value)


def test_a_truncated_lazy_image_is_refused_when_it_is_handed_over(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RequestError, match="cannot decode the image 000000"):
        as_image_sources([Image.open(path)])


def test_labels_are_indices_or_names_and_templates_any_form_of_a_definition():
    by_name = ClassificationData.from_lists(pil(), ["b", "a", "b", "a"])
    by_index = ClassificationData.from_lists(pil(), torch.tensor([1, 0, 1, 0]), ["a", "b"])
    assert by_name.labels.tolist() == [1, 0, 1, 0] == by_index.labels.tolist()
    assert dataset_fingerprint(by_name) == dataset_fingerprint(by_index)
    assert by_name.templates == ["a photo of a {c}."]
    assert ClassificationData.from_lists(pil(), [0] * 4, ["a"], ["one {}"]).templates == ["one {c}"]
    assert len(ClassificationData.from_lists(pil(), [0] * 4, ["a"], "openai-80").templates) == 80
    own = ClassificationData.from_lists(pil(), [0, 1, 0, 1], ["a", "b"], {"b": ["two"], "a": ["one {c}"]})
    assert own.templates == [["one {c}"], ["two"]]
    assert ClassificationData.from_lists(pil(), [7] * 4, "imagenet1k").class_names[7] == "rooster"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ClassificationData.from_lists(pil(), [0, 1]), "ClassificationData: .*give class_names, in order"),
        (lambda: ClassificationData.from_lists(pil(), [0, 1], ["a", "b"]), "got 4 images and 2 labels"),
        (lambda: ClassificationData.from_lists(pil(), ["a", "c"] * 2, ["a", "b"]), r"labels\[1\] is 'c', .*not among"),
        (lambda: ClassificationData.from_lists(pil(), ["a", 1, "b", 0], ["a", "b"]), r"labels\[1\] is 1, and others"),
        (lambda: ClassificationData.from_lists(pil(), ["a"] * 4, ["a", "a"]), "the name of several classes"),
        (lambda: ClassificationData.from_lists(pil(), [0] * 4, ["a"], ["x"]), "templates: the template 'x'"),
        (
            lambda: ClassificationData.from_lists(pil(), [0] * 4, ["a", "b"], {"a": ["x"]}),
            "no templates for 1 class: b",
        ),
        (
            lambda: ClassificationData.from_lists(pil(), [0] * 4, ["a"], "openai-81"),
            "templates: unknown set 'openai-81'",
        ),
        (lambda: ClassificationData.from_lists(pil(), [0] * 4, ["a"], names=["x"]), "got 1 name for 4 images"),
        (lambda: MultilabelData.from_lists(pil(), [[0], [1]], ["a", "b"]), "got 4 images and 2 labels"),
        (lambda: MultilabelData.from_lists(pil(), [[0]] * 3 + [[5]], ["a", "b"]), r"labels\[3\] has the label 5"),
        (lambda: MultilabelData.from_lists(pil(), np.zeros(4), ["a"]), "must have 2 dimensions"),
        (lambda: MultilabelData.from_lists(pil(), np.eye(4, 3).tolist(), ["a", "b", "c"]), r"numpy.array\(labels\)"),
        (lambda: MultilabelData.from_lists(pil(), [[True, False]] * 4, ["a", "b"]), r"numpy.array\(labels\)"),
        (
            lambda: ClassificationData.from_lists(pil(), [None, "a", "b", "a"]),
            "labels that are not names, such as None",
        ),
        (lambda: ClassificationData.from_lists(pil(), [0] * 4, ["a"], names=5), "names must be a list, not 5"),
        (lambda: RetrievalData.from_pairs(pil(), ["a"] * 4, names=5), "names must be a list, not 5"),
        (lambda: make_benchmark(ClassificationData.from_lists(pil(), [0] * 4, ["a"], name=5)), "is a text, not 5"),
        (lambda: RetrievalData.from_pairs(pil(), ["a"] * 3), "got 4 images and 3 captions"),
        (lambda: RetrievalData.from_pairs(pil(), ["a", "b", ["c", 3], "d"]), r"captions\[2\]\[1\] must be a text"),
        (lambda: RetrievalData.from_pairs(pil(), ["a"], [(0, 1)]), "pairs has a text outside 0 to 0"),
        (lambda: PerceptionData.from_lists(pil(), ["a"] * 4, ["b"] * 3), "4 positives, 3 negatives"),
        (lambda: ChoiceData.from_lists(pil(), [["a", "b"]] * 4, [2] * 4), "item 0 has 2 candidates, .*counted from 0"),
        (lambda: ChoiceData.from_lists([pil(2)], [["a", "b"]], [0]), "item 0 has 2 images and 2 texts"),
        (lambda: SegmentationData.from_lists(pil(1), [np.full((16, 16), 9)], ["a"]), "000000 has the labels 9"),
        (lambda: SegmentationData.from_lists(pil(1), [np.zeros((16, 16))], ["a"]), "an array of float64"),
        (lambda: SegmentationData.from_lists(pil(1), pil(1), ["a"]), "mode RGB; give an array"),
        (lambda: SegmentationData.from_lists(pil(1), ["none.png"], ["a"]), "1 of 1 mask is not there"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(build, message):
    with pytest.raises(RequestError, match=message) as refusal:
        build()
    assert "\n" not in str(refusal.value)


def test_an_image_that_is_given_several_times_is_one_image_of_several_captions():
    first, second = pil(2)
    data = RetrievalData.from_pairs([first, second, first], ["a", "b", "c"])
    assert (len(data.images), data.image_of_text.tolist()) == (2, [0, 1, 0])
    grouped = RetrievalData.from_pairs([first, second], [["a", "c"], "b"])
    assert len(grouped.images) == 2
    items = PerceptionData.from_lists([first, first], ["a", "b"], ["c", "d"])
    assert items.counts() == {"images": 1, "items": 2}
    choices = ChoiceData.from_lists([[first, second], [second, first]], ["a", "b"], [0, 0])
    assert choices.pairs[:, 0].tolist() == [0, 1, 1, 0]


def test_multilabel_rows_names_and_tables_are_the_same_data():
    names = MultilabelData.from_lists(pil(), [["a"], ["a", "b"], [], ["b"]], undecided=[[], [], ["a"], []])
    table = MultilabelData.from_lists(pil(), np.array([[1, 0], [1, 1], [-1, 0], [0, 1]]), ["a", "b"])
    assert names.labels.tolist() == table.labels.tolist()
    assert dataset_fingerprint(names) == dataset_fingerprint(table)
    assert MultilabelData.from_lists(pil(), np.full((4, 1), 300), ["a"]).problems()


def test_masks_are_arrays_images_or_files(tmp_path):
    mask = np.eye(16, dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / "m.png")
    given = [mask, Image.fromarray(mask), tmp_path / "m.png", torch.from_numpy(mask)]
    data = SegmentationData.from_lists(pil(), given, ["a", "b"])
    assert len({one.digest() for one in data.masks}) == 1
    assert data.palette == [(0, 0, 0), (128, 0, 0)]


class Squares:
    """A dataset of torchvision's form."""

    classes = ("red", "green")

    def __init__(self, fail: bool = False) -> None:
        self.fail = fail
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        self.asked.append(i)
        if self.fail:
            raise KeyError("lost")
        return pil()[i], i % 2


class Columns(Squares):
    """A dataset of the form of the library `datasets`."""

    classes = ()

    def __init__(self, **features) -> None:
        super().__init__()
        self.features = features

    def __getitem__(self, i: int) -> dict[str, object]:
        return {"image": pil()[i], "label": i % 2, "caption": [f"caption {i}", f"square {i}"]}


class ClassLabel:
    names = ("red", "green")


def test_dataset_objects_give_the_data_of_their_lists():
    expected = ClassificationData.from_lists(pil(), [0, 1, 0, 1], ["red", "green"])
    for dataset in (Squares(), Columns(label=ClassLabel())):
        data = ClassificationData.from_dataset(dataset)
        assert dataset_fingerprint(data) == dataset_fingerprint(expected)
    captions = RetrievalData.from_dataset(Columns(), name="captions")
    assert dataset_fingerprint(captions) == dataset_fingerprint(
        RetrievalData.from_pairs(pil(), [[f"caption {i}", f"square {i}"] for i in range(4)])
    )


def test_dataset_objects_keep_their_images_and_what_is_random_or_fails_is_refused():
    dataset = Squares()
    data = ClassificationData.from_dataset(dataset)
    dataset.asked.clear()
    assert np.array_equal(np.asarray(data.images[2].load()), pixels()[2])
    assert dataset.asked == [2]

    class Random(Squares):
        def __getitem__(self, i):
            self.asked.append(i)
            return Image.new("RGB", (4, 4), (len(self.asked),) * 3), 0

    image = ClassificationData.from_dataset(Random()).images[0]
    image.digest()
    with pytest.raises(RequestError, match="leave random transforms out"):
        image.load()

    class Tensors(Squares):
        def __getitem__(self, i):
            return torch.zeros(3, 4, 4), 0

    for broken, message in (
        (Squares(fail=True), "the dataset fails at 0: KeyError"),
        (Tensors(), "leave ToTensor out"),
        (Columns(), "give class_names"),
        ([5], "it must give"),
        (iter(()), "not a map-style dataset"),
    ):
        with pytest.raises(RequestError, match=message):
            ClassificationData.from_dataset(broken)
    with pytest.raises(RequestError, match=r"no column 'labels'; did you mean label\?"):
        ClassificationData.from_dataset(Columns(), label_column="labels")


def test_data_are_shown_in_one_line(tmp_path: Path):
    data = ClassificationData.from_lists(pil(), [0, 1, 0, 1], ["a", "b"], name="mine")
    assert repr(data) == "ClassificationData('mine', 4 images, 2 classes)"
    fingerprint = dataset_fingerprint(data)
    assert repr(data.replaced(name="", fingerprint=fingerprint)) == (
        f"ClassificationData(4 images, 2 classes, fingerprint {fingerprint[:8]})"
    )
    assert repr(MultilabelData(pil(), None, ["a"], [])) == "MultilabelData(4 images)"  # broken data, too
