"""Captions and class names in several languages: the layouts, clip-benchmark's own loaders, and bad files."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import MultilingualRetrievalData, datasets
from cosmos_eval.datasets.languages.words import languages_of, resolve_languages
from cosmos_eval.protocol.benchmark import load_benchmark, load_suite
from tests.helpers.stand_ins import random_images
from tests.helpers.text_sets_on_disk import COUNT, MULTILINGUAL, write_images

CAPTIONS = {"xm3600-all-captions": 2}
"""Captions of an image in a language, of those that do not have one."""
EXPECTED = {
    "multilingual-coco": {"images": 1000, "texts": 11 * 1000, "languages": 11},
    "xtd10": {"images": 1000, "texts": 11 * 1000, "languages": 11},
    "xm3600": {"images": 3600, "texts": 36 * 3600, "languages": 36},
    "xm3600-all-captions": {"images": 3600, "texts": 261_375, "languages": 36},
    "xtd200": {"images": 1000, "texts": 201 * 1000, "languages": 201},
    "flickr30k-200": {"languages": 201},
}


def small(name, languages=None):
    benchmark = load_benchmark(name)
    dataset = {key: value for key, value in benchmark.dataset.items() if key != "expected"}
    return replace(benchmark, dataset={**dataset, **({"languages": languages} if languages else {})})


@pytest.mark.parametrize("name", MULTILINGUAL)
def test_each_layout_is_read_in_all_of_its_languages(name, tmp_path):
    benchmark = small(name)
    languages = benchmark.dataset["languages"]
    MULTILINGUAL[name](tmp_path, languages)
    data = datasets.load(benchmark, tmp_path)
    per_image = CAPTIONS.get(name, 1)
    counts = {"images": COUNT, "texts": COUNT * len(languages) * per_image, "languages": len(languages)}
    assert data.counts() == counts
    assert load_benchmark(name).dataset["expected"] == EXPECTED[name]
    assert list(data.languages) == languages
    for number, language in enumerate(languages):
        texts = data.texts_in(number)
        assert data.image_of_text[texts].tolist() == np.repeat(np.arange(COUNT), per_image).tolist()
        assert all(data.texts[j].startswith(language) for j in texts.tolist())


MODULES = {
    "multilingual-coco": ("multilingual_mscoco", "Multilingual_MSCOCO", "multilingual_mscoco"),
    "xtd10": ("xtd10", "XTD10", "xtd10"),
    "xm3600": ("crossmodal3600", "Crossmodal3600", "xm3600"),
    "xtd200": ("xtd200", "XTD200", "xtd200"),
    "flickr30k-200": ("flickr30k_200", "Flickr30k_200", "flickr30k-200"),
}
"""Our benchmark -> clip-benchmark's module and class, and the folder of its images."""


@pytest.mark.parametrize("name", MODULES)
def test_languages_images_and_captions_are_those_of_clip_benchmarks_own_loader(name, tmp_path, monkeypatch):
    from importlib import import_module

    module_name, class_name, folder = MODULES[name]
    module = import_module(f"clip_benchmark.datasets.{module_name}")
    benchmark = small(name)
    assert sorted(benchmark.dataset["languages"]) == sorted(module.SUPPORTED_LANGUAGES)
    languages = benchmark.dataset["languages"][:3]
    MULTILINGUAL[name](tmp_path, languages)
    if folder == "xtd10":  # the same files in another folder
        (tmp_path / "xtd10").symlink_to(tmp_path / "multilingual_mscoco")
    if hasattr(module, "_get_lines"):  # it fetches line by line what is on disk here
        root = tmp_path / benchmark.dataset["image_names"][0].partition("/")[0]
        root = root if root.is_dir() else tmp_path / folder

        def get_lines(url):
            (path,) = list(root.rglob(url.rpartition("/")[2]))
            return path.read_text(encoding="utf-8").splitlines()

        monkeypatch.setattr(module, "_get_lines", get_lines)
    data = datasets.load(small(name, languages), tmp_path)
    for number, language in enumerate(languages):
        module.create_annotation_file(str(tmp_path), language)
        theirs = getattr(module, class_name)(tmp_path, tmp_path / module.OUTPUT_FILENAME_TEMPLATE.format(language))
        ours = data.texts_in(number).tolist()
        assert len(theirs) == len(ours) == COUNT
        for j, (path, caption) in zip(ours, theirs.data, strict=True):
            assert caption == data.texts[j]
            assert path.endswith(data.images[data.image_of_text[j]].key)


def test_flickr_in_chinese_is_read_as_clip_benchmark_reads_it(tmp_path):
    from clip_benchmark.datasets.flickr import Flickr

    from tests.helpers.text_sets_on_disk import write_flickr_zh

    write_flickr_zh(tmp_path, "flickr8k", "Flicker8k_Dataset")
    benchmark = load_benchmark("flickr8k-cn-test-retrieval")
    options = dict(benchmark.dataset)
    assert options.pop("expected") == load_benchmark("flickr30k-cn-test-retrieval").dataset["expected"]
    data = datasets.load(replace(benchmark, dataset=options), tmp_path)
    theirs = Flickr(str(tmp_path), str(tmp_path / "flickr8k/flickr8k_test_zh.txt")).data
    assert [(image.key, data.texts[5 * i : 5 * i + 5]) for i, image in enumerate(data.images)] == theirs


def test_the_word_lists_are_those_of_clip_benchmarks_own_loader(tmp_path, monkeypatch):
    from clip_benchmark.datasets import babel_imagenet, builder

    class Pictures:
        """In place of ImageNet's images, which the loader of words does not look at."""

        def __init__(self, idxs=None, **options):
            self.idxs = idxs

    monkeypatch.setattr(babel_imagenet, "BabelImageNet", Pictures)
    monkeypatch.setattr(builder, "ImageNet", Pictures)
    babel = {one.code: one for one in languages_of(load_benchmark("babel-imagenet"))}
    assert len(babel) == 90
    for code in [*list(babel)[::9], "de", "en"]:
        theirs = builder.build_dataset("babel_imagenet", root=str(tmp_path), language=code)
        ours = babel[code]
        assert (list(ours.classes), list(ours.class_names)) == (theirs.idxs, theirs.classes), code
        assert list(ours.templates) == theirs.templates
    assert (len(babel["de"].class_names), len(babel["en"].class_names)) == (738, 1000)
    for code in ("br", "fy", "la"):  # they have no prompts, and clip-benchmark fails
        with pytest.raises(KeyError):
            builder.build_dataset("babel_imagenet", root=str(tmp_path), language=code)
    imagenet = {one.code: one for one in languages_of(load_benchmark("imagenet1k-multilingual"))}
    counts = {"ar": 55, "cn": 80, "it": 49, "jp": 37}
    for code, templates in counts.items():
        theirs = builder.build_dataset("imagenet1k", root=str(tmp_path), language=code)
        assert list(imagenet[code].class_names) == theirs.classes
        assert list(imagenet[code].templates) == theirs.templates
        assert (len(theirs.classes), len(theirs.templates)) == (1000, templates)
    assert list(imagenet) == list(counts)


def test_the_suite_has_every_set_once():
    names = [benchmark.name for benchmark in load_suite("multilingual")]
    assert set(EXPECTED) - set(names) == {"xtd10", "xm3600-all-captions"}  # the same images and captions again
    assert {"babel-imagenet", "imagenet1k-multilingual"} < set(names)


@pytest.mark.parametrize(
    ("name", "path", "text", "line"),
    [
        ("xtd200", "xtd200/deu_Latn.txt", "a\nb\n", "has 2 captions in .*deu_Latn.txt for the 6 images of"),
        ("xtd200", "xtd200/test_image_names.txt", "../a.jpg\n" * 6, "names an image outside its folder"),
        ("xm3600", "xm3600/captions.jsonl", "{\n", "captions.jsonl:1: not JSON"),
        ("xm3600", "xm3600/captions.jsonl", "{}\n", "captions.jsonl:1: it has no image/key"),
        ("xm3600", "xm3600/captions.jsonl", '{"image/key": "a"}\n', ":1: a has no list of captions in de"),
        ("xm3600", "xm3600/captions.jsonl", '{"image/key": "a", "de": {"caption": []}}\n', "no list of captions in de"),
        ("xm3600", "xm3600/captions.jsonl", "\n", "has no line in"),
    ],
)
def test_broken_files_are_refused_in_one_line(name, path, text, line, tmp_path):
    languages = ["deu_Latn", "fra_Latn"] if name == "xtd200" else ["de", "fr"]
    MULTILINGUAL[name](tmp_path, languages)
    (tmp_path / path).write_text(text)
    with pytest.raises(RequestError, match=line) as caught:
        datasets.load(small(name, languages), tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path):
    MULTILINGUAL["xtd200"](tmp_path, ["deu_Latn"])
    with pytest.raises(RequestError, match=r"the file \S*xtd200/fra_Latn.txt, which is not there .*nllb-clip"):
        datasets.load(small("xtd200", ["deu_Latn", "fra_Latn"]), tmp_path)
    others = ["ace_Arab", "fra_Latn", "ita_Latn"]
    with pytest.raises(
        RequestError, match=r"xtd200/ace_Arab.txt and those of 2 other languages, which is not"
    ) as caught:
        datasets.load(small("xtd200", ["deu_Latn", *others]), tmp_path)
    assert str(caught.value).count("xtd200 needs") == 1  # of 200 languages it was a line for each
    (tmp_path / "xtd200/images" / "COCO_val2014_000000000003.jpg").unlink()
    with pytest.raises(RequestError, match=r"needs 6 images .*, found 5; missing: COCO_val2014_000000000003.jpg"):
        datasets.load(small("xtd200", ["deu_Latn"]), tmp_path)
    with pytest.raises(RequestError, match="list of different language codes"):
        datasets.load(small("xtd200", ["deu_Latn", "deu_Latn"]), tmp_path)
    benchmark = small("xtd200", ["deu_Latn"])
    for wrong in ("captions.txt", "x/{language}.txt"):
        with pytest.raises(RequestError, match=r"dataset.file_name must be a file's name with {language}"):
            datasets.load(replace(benchmark, dataset={**benchmark.dataset, "file_name": wrong}), tmp_path)


def write_own(folder, lines, languages=None):
    write_images(folder, ["a.png", "b.png"])
    (folder / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "own.yaml").write_text(
        "name: own\nversion: 1\ntask: multilingual-retrieval\ndataset: {reader: jsonl, path: own.jsonl}\n"
        "metrics: {primary: de/image_to_text_recall@1, k: [1]}\n"
    )
    return load_benchmark(folder / "own.yaml")


def test_own_captions_in_jsonl(tmp_path):
    lines = [
        {"image": "a.png", "captions": {"de": ["ein Haus", "Haus"], "fr": "une maison"}},
        {"image": "b.png", "captions": {"fr": ["un chien"], "de": "ein Hund"}},
    ]
    data = datasets.load(write_own(tmp_path, lines), tmp_path)
    assert data.languages == ("de", "fr")
    assert [data.texts[j] for j in data.texts_in(0)] == ["ein Haus", "Haus", "ein Hund"]
    assert data.image_of_text[data.texts_in(1)].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"image": "a.png", "captions": ["ein Haus"]}], '"captions" must be a map from language to captions'),
        ([{"image": "a.png", "captions": {"de": []}}], "'de' must be a text or a list with at least one text"),
        (
            [{"image": "a.png", "captions": {"de": "x"}}, {"image": "b.png", "captions": {"fr": "y"}}],
            "own.jsonl:2: has other languages than the lines before it: de, fr",
        ),
        (
            [{"image": "a.png", "captions": {"de": "x"}}, {"image": "a.png", "captions": {"de": "y"}}],
            "own.jsonl:2: 'a.png' is the image of line 1, too",
        ),
        ([{"image": "a.png", "captions": {"d e/": "x"}}], "languages that are not codes"),
    ],
)
def test_broken_own_captions_are_refused(lines, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        datasets.load(write_own(tmp_path, lines), tmp_path)


def test_data_in_memory_are_checked_and_limited():
    images = random_images(4)
    captions = {"de": [f"Bild {i}" for i in range(4)], "fr": [[f"image {i}", f"encore {i}"] for i in range(4)]}
    data = MultilingualRetrievalData.from_captions(images, captions)
    part = data.subset(2)
    assert part.counts() == {"images": 2, "texts": 6, "languages": 2}
    assert [part.texts[j] for j in part.texts_in(1)] == ["image 0", "encore 0", "image 2", "encore 2"]
    assert part.image_of_text.tolist() == [0, 1, 0, 0, 1, 1]
    assert data.problems() == []
    with pytest.raises(RequestError, match="got 4 images and 1 caption in de"):
        MultilingualRetrievalData.from_captions(images, {"de": ["x"]})
    lacking = data.replaced(texts=data.texts[:-2], image_of_text=data.image_of_text[:-2])
    assert "8 texts" not in lacking.problems()[0]
    lacking = lacking.replaced(language_of_text=data.language_of_text[:-2])
    assert lacking.problems() == ["has 1 image without a caption in fr: image-3"]
    empty = data.replaced(texts=[" ", *data.texts[1:]])
    assert empty.observations() == ["1 of 12 captions is empty: de image-0"]


WRONG_WORDS = [
    ({}, "name a set"),
    ({"set": "imagnet"}, "did you mean imagenet"),
    ({"set": "imagenet", "only": ["de"]}, "only must have different languages of imagenet: ar, cn, it, jp"),
    ({"set": ["imagenet"]}, "there is no set .*; did you mean imagenet or babel-imagenet.$"),
    ({"set": "imagenet", "only": [["ar"]]}, "only must have different languages of imagenet: ar, cn, it, jp"),
    ({"set": "imagenet", "only": [False]}, "only must have different languages of imagenet: ar, cn, it, jp"),
    ({"only": ["ar"]}, "only chooses languages of a set: write set: imagenet or babel-imagenet beside it"),
    ({"set": "imagenet", "only": "ar"}, "only must be a list of languages of the set"),
    ({"own": {"zh/CN": {"class_names": ["a"]}}}, "'zh/CN' is not a code of a language; write letters, digits, - and _"),
    ({"own": ["sw"]}, "own must be a map from language"),
    ({"own": {True: {"class_names": ["a"]}}}, "True is not a code of a language; write it in quotes"),
    ({"own": {1: {"class_names": ["a"]}}}, "1 is not a code of a language; write it in quotes, such as 'no'"),
    ({"own": {"sw": ["a"]}}, "sw: must be a map with class_names"),
    ({"own": {"sw": {"class_names": "sw.txt"}}}, "sw: cannot read .*sw.txt"),
    ({"own": {"sw": {"class_names": "../sw.txt"}}}, "sw: the file ../sw.txt must be in the definition's own folder"),
    ({"own": {"sw": {"class_names": "swahili"}}}, "sw: 'swahili' must be a .txt or .json file"),
    ({"own": {"sw": {"class_names": ["a"], "templates": "openai-80"}}}, "sw: 'openai-80' must be a .txt or .json file"),
    ({"own": {"sw": {"class_names": ["a"], "templates": [5]}}}, "sw: templates must be a list of texts, or a .txt"),
    ({"own": {"sw": {"class_names": ["a", ""]}}}, "sw: name 2 of class_names must be a text that is not blank, not ''"),
    (
        {"own": {"sw": {"class_names": "empty.txt"}}},
        "sw: class_names of empty.txt must be a list of names, .* at least one",
    ),
    ({"own": {"sw": {"class_names": ["a"], "templates": ["x"]}}}, "sw: the template 'x' must have one place"),
    ({"set": "imagenet", "own": {"it": {"class_names": ["a"]}}}, "it of own is also in the set imagenet; leave it out"),
]


@pytest.mark.parametrize(("section", "message"), WRONG_WORDS)
def test_wrong_words_are_refused(section, message, tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(RequestError, match=message):
        resolve_languages(section, tmp_path, RequestError)


def test_reading_definitions_imports_neither_torch_nor_clip_benchmark():
    import subprocess

    code = (
        "import sys; from cosmos_eval.protocol.benchmark import load_benchmark; load_benchmark('babel-imagenet');"
        "assert not {'torch', 'clip_benchmark', 'pandas'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
