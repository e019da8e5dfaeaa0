"""Long and fine-grained captions: every definition on a small set in its authors' files; counts; bad files."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.long_captions.captioned import rejoin_sentences
from cosmos_eval.protocol.benchmark import load_benchmark, load_suite
from tests.helpers.stand_ins import Constant, Given
from tests.helpers.text_sets_on_disk import COUNT, SENTENCES, WRITERS, long_caption, write_sharegpt4v

JOINED = "a red house stands by a river. 2. 5 boats pass. the sky is grey. Number 1 is written on it"
"""`long_caption(1)` as LoTLIP and FLAIR write it, by hand."""
COUNTS = {
    "docci": (COUNT, COUNT),
    "docci-fg": (COUNT, 3 * COUNT),
    "iiw": (6, 6),
    "iiw-fg": (6, 18),
    "urban1k": (COUNT, COUNT),
    "dci": (COUNT, COUNT),
    "dci-short": (COUNT, COUNT),
    "sharegpt4v-1k": (COUNT, COUNT),
    "sharegpt4v-10k": (COUNT, COUNT),
    "sharegpt4v-1k-longclip": (COUNT, COUNT),
    "flickr30k-cn-test-retrieval": (COUNT, 5 * COUNT),
    "flickr8k-cn-test-retrieval": (COUNT, 5 * COUNT),
}
PUBLISHED = {
    "docci": {"images": 5000, "texts": 5000},
    "docci-fg": {"images": 5000},
    "iiw": {"images": 100 + 400 + 112, "texts": 612},
    "iiw-fg": {},
    "urban1k": {"images": 1000, "texts": 1000},
    "dci": {"images": 7805, "texts": 7805},
    "dci-short": {"images": 7805, "texts": 7805},
    "sharegpt4v-1k": {"images": 1000, "texts": 1000},
    "sharegpt4v-10k": {"images": 10000, "texts": 10000},
    "sharegpt4v-1k-longclip": {"images": 1000, "texts": 1000},
}
"""What the authors say, and nothing where it was not read."""


def small(name, **options):
    benchmark = load_benchmark(name)
    dataset = {key: value for key, value in benchmark.dataset.items() if key != "expected"}
    if "first" in dataset:
        dataset["first"] = COUNT
    return replace(benchmark, dataset={**dataset, **options})


@pytest.mark.parametrize("name", COUNTS)
def test_each_definition_reads_its_authors_files_and_measures(name, tmp_path):
    WRITERS[name](tmp_path)
    benchmark = small(name)
    data = datasets.load(benchmark, tmp_path)
    assert (len(data.images), len(data.texts)) == COUNTS[name]
    tasks.validate(benchmark, data)
    axes = dict(zip([image.key for image in data.images], np.eye(len(data.images)), strict=True))
    of_text = {text: axes[data.images[i].key] for text, i in zip(data.texts, data.image_of_text, strict=True)}
    assert len(of_text) == len(data.texts)  # no two texts are equal, or no model could be perfect
    perfect = tasks.run(benchmark, data, Given(axes, of_text)).metrics
    constant = tasks.run(benchmark, data, Constant()).metrics
    assert perfect["image_to_text_recall@1"].value == perfect["text_to_image_recall@1"].value == 1
    assert constant["image_to_text_recall@1"].value == pytest.approx(1 / len(data.images))
    assert constant["text_to_image_recall@1"].value == pytest.approx(1 / len(data.images))


def test_the_suite_expects_the_counts_that_the_authors_give():
    suite = {benchmark.name: benchmark.dataset.get("expected", {}) for benchmark in load_suite("long-captions")}
    assert suite == PUBLISHED


def test_captions_are_joined_as_lotlip_and_flair_do():
    assert rejoin_sentences(long_caption(1)) == JOINED
    assert rejoin_sentences("one. two</s>three\n\n") == "one. two. three"


def test_what_each_set_takes_as_the_caption(tmp_path):
    expected = {
        "docci": (1, long_caption(COUNT + 1)),  # images of the train split come first and are not candidates
        "iiw": (1, JOINED),
        "urban1k": (1, "A busy street, number 1."),
        "dci": (1, f"Short caption 1. {JOINED}"),
        "dci-short": (1, "Short caption 1."),
        "sharegpt4v-1k": (1, JOINED),
        "sharegpt4v-1k-longclip": (1, ". ".join(SENTENCES) + ". Number 1 is written on it. "),
        "flickr30k-cn-test-retrieval": (5, "一 条 狗, 1.0"),
    }
    for name, (position, text) in expected.items():
        folder = tmp_path / name
        WRITERS[name](folder)
        assert datasets.load(small(name), folder).texts[position] == text, name
    assert datasets.load(small("dci"), tmp_path / "dci").texts[0] == "Short caption 0"  # no extra caption


def test_flair_leaves_the_folder_images_of_sa1b_out(tmp_path):
    write_sharegpt4v(tmp_path, with_images_folder=False)
    data = datasets.load(small("sharegpt4v-1k"), tmp_path)
    assert [image.key for image in data.images][:2] == ["sa_000000/sa_0.jpg", "sa_000000/sa_1.jpg"]


def spoil(name, root, path, text):
    WRITERS[name](root)
    (root / path).write_text(text)
    return small(name)


@pytest.mark.parametrize(
    ("name", "path", "text", "line"),
    [
        ("docci", "docci/docci_descriptions.jsonlines", "{\n", "docci_descriptions.jsonlines:1: not JSON"),
        ("docci", "docci/docci_descriptions.jsonlines", "[1]\n", "docci_descriptions.jsonlines:1: it must be a map"),
        (
            "docci",
            "docci/docci_descriptions.jsonlines",
            '{"split": "train"}\n',
            "has no record with split 'test' in .*docci_descriptions",
        ),
        (
            "docci",
            "docci/docci_descriptions.jsonlines",
            '{"split": "test", "image_file": "a.jpg", "description": ""}\n',
            ":1: description: it must be a text that is not blank",
        ),
        ("docci-fg", "docci/annotations/test_annotations.json", "[]", "it must be a map, such as"),
        ("docci-fg", "docci/annotations/test_annotations.json", "{}", "a map with the list 'annotations'"),
        (
            "docci-fg",
            "docci/annotations/test_annotations.json",
            '{"annotations": [{"image": "../x.jpg", "caption": "a"}]}',
            "names an image outside its folder",
        ),
        ("iiw", "imageinwords/IIW-400/data.jsonl", '{"IIW": "a"}\n', "IIW-400/data.jsonl:1: image: it must be a text"),
        ("iiw", "imageinwords/IIW-400/data.jsonl", "]\n", "IIW-400/data.jsonl:1: not JSON"),
        ("urban1k", "Urban1k/caption/900.txt", "a\n", "has 1 file in .*caption without a partner in .*image: 900"),
        ("urban1k", "Urban1k/caption/221.txt", "\n", "no caption in the first line of .*221.txt"),
        ("dci", "dci/densely_captioned_images/splits.json", "[]", "must be a map from split to names"),
        (
            "dci",
            "dci/densely_captioned_images/splits.json",
            '{"a": ["../x.json"]}',
            "must be a map from split to names",
        ),
        ("dci", "dci/densely_captioned_images/splits.json", '{"a": ["9.json"]}', "1 file of splits.json .* 9.json"),
        ("dci", "dci/densely_captioned_images/annotations/3.json", "{}", "3.json: image: it must be a text"),
        (
            "dci",
            "dci/densely_captioned_images/annotations/3.json",
            '{"image": "sa_3.jpg", "short_caption": "a"}',
            "3.json: extra_caption must be a text",
        ),
        ("sharegpt4v-1k", "share4v/share4v_sam_10k.json", "[]", "a list of at least 6 records .* found a list of 0"),
        ("sharegpt4v-1k", "share4v/share4v_sam_10k.json", "{}", "a list of at least 6 records .* found no list"),
        (
            "sharegpt4v-1k",
            "share4v/share4v_sam_10k.json",
            json.dumps([{"image": "a.jpg"}] * 6),
            "record 0 of .*: it needs conversations",
        ),
        (
            "flickr30k-cn-test-retrieval",
            "flickr30k/flickr30k_test_zh.txt",
            "image,caption\na.png,x\n",
            "zh.txt:2: a line is",
        ),
        ("flickr30k-cn-test-retrieval", "flickr30k/flickr30k_test_zh.txt", "image,caption\n", "has no captions in"),
    ],
)
def test_broken_files_are_refused_in_one_line(name, path, text, line, tmp_path):
    benchmark = spoil(name, tmp_path, path, text)
    with pytest.raises(RequestError, match=line) as caught:
        datasets.load(benchmark, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", COUNTS)
def test_missing_data_are_named_with_what_to_download(name, tmp_path):
    with pytest.raises(RequestError, match="which is not there") as caught:
        datasets.load(small(name), tmp_path)
    assert load_benchmark(name).dataset["needs"] in str(caught.value)


def test_options_that_contradict_are_refused(tmp_path):
    WRITERS["docci"](tmp_path)
    WRITERS["dci"](tmp_path)
    docci = small("docci")
    options = {key: value for key, value in docci.dataset.items() if key != "split"}
    with pytest.raises(RequestError, match=r"needs both dataset.split_key and dataset.split"):
        datasets.load(replace(docci, dataset=options), tmp_path)
    with pytest.raises(RequestError, match="it must be long or short"):
        datasets.load(small("dci", caption="middle"), tmp_path)


def test_toybox_long_has_one_long_caption_for_each_image():
    benchmark = load_benchmark("toybox-long")
    data = datasets.load(replace(benchmark, dataset={**benchmark.dataset, "scenes": 40, "expected": {}}))
    assert len(data.texts) == len(set(data.texts)) == len(data.images) == 40
    assert min(text.count(". ") for text in data.texts) >= 3
    assert all(text.endswith(".") for text in data.texts)
    wrong = replace(benchmark, dataset={**benchmark.dataset, "captions": "short"})
    with pytest.raises(RequestError, match="is complete or long"):
        datasets.load(wrong)
