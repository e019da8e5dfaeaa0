"""Class names and templates: named sets as their libraries have them, lists, and files beside a definition."""

import json
from pathlib import Path

import open_clip
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.prompts import resolve_prompts


def test_named_sets_are_the_libraries_own():
    prompts = resolve_prompts({"class_names": "imagenet1k", "templates": "openai-80"}, None)
    assert list(prompts.class_names or ()) == list(open_clip.IMAGENET_CLASSNAMES)
    assert list(prompts.templates or ()) == [function("{c}") for function in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert len(prompts.templates or ()) == 80
    assert len(resolve_prompts({"templates": "simple-7"}, None).templates or ()) == 7


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("food101", 1),
        ("cifar10", 18),
        ("cifar100", 18),
        ("sun397", 2),
        ("cars", 8),
        ("fgvc_aircraft", 2),
        ("dtd", 8),
        ("pets", 1),
        ("caltech101", 34),
        ("flowers", 1),
        ("imagenet1k", 80),
    ],
)
def test_template_counts_are_those_of_the_cosmos_code(name: str, count: int):
    assert len(resolve_prompts({"templates": f"clip-benchmark:{name}"}, None).templates or ()) == count


def test_prompts_that_the_dataset_brings_are_none():
    assert resolve_prompts({}, None).class_names is None
    assert resolve_prompts({"templates": "dataset", "class_names": "dataset"}, None).templates is None


def test_prompts_from_files_beside_the_definition(tmp_path: Path):
    (tmp_path / "names.txt").write_text("cat\n\n dog \n", encoding="utf-8")
    (tmp_path / "own.json").write_text(json.dumps({"cat": ["it purrs"], "dog": ["a {} barks"]}), encoding="utf-8")
    prompts = resolve_prompts({"class_names": "names.txt", "templates": "own.json"}, tmp_path)
    assert prompts.class_names == ("cat", "dog")
    assert prompts.templates == {"cat": ("it purrs",), "dog": ("a {c} barks",)}


@pytest.mark.parametrize("template", ["a photo", "{c} and {c}", "a {name}", "{c} {0}", "a {", "{c"])
def test_a_template_has_one_place_for_the_name(template: str):
    with pytest.raises(RequestError, match="one place for the class name"):
        resolve_prompts({"templates": [template]}, None)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"templates": []}, "must be a list of texts"),
        ({"templates": [3]}, "must be a list of texts"),
        ({"templates": {}}, "is empty"),
        ({"templates": "clip-benchmark:food102"}, "did you mean food101"),
        ({"class_names": [""]}, "must be a list of names"),
        ({"class_names": "imagenet"}, "did you mean imagenet1k"),
        ({"class_names": "/etc/names.txt"}, "own folder"),
        ({"class_names": "../names.txt"}, "own folder"),
        ({"class_names": "absent.txt"}, "cannot read"),
        ({"class_names": "broken.json"}, "line 1 column 7"),
    ],
)
def test_invalid_prompts_are_refused_in_one_line(tmp_path: Path, prompts: dict[str, object], message: str):
    (tmp_path / "broken.json").write_text('["a", ', encoding="utf-8")
    with pytest.raises(RequestError, match=message) as caught:
        resolve_prompts(prompts, tmp_path)
    assert "\n" not in str(caught.value)
