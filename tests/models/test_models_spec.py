"""Model specs: parsing, slugs and the list of forms, all without torch."""

import subprocess
import sys
from dataclasses import replace

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.models.spec import KINDS, ModelSpec, list_models, parse_spec, slug


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cosmos:vitb16-merged30m", ModelSpec("", "cosmos", "vitb16-merged30m", selector="teacher")),
        ("cosmos:runs/exp1/last.pt#student", ModelSpec("", "cosmos", "runs/exp1/last.pt", selector="student")),
        ("cosmos:/a#b/last.pt#teacher", ModelSpec("", "cosmos", "/a#b/last.pt", selector="teacher")),
        ("cosmos:untrained-toybox?seed=7", ModelSpec("", "cosmos", "untrained-toybox", selector="teacher", seed=7)),
        ("open_clip:ViT-B-16/openai", ModelSpec("", "open_clip", "ViT-B-16", rest="openai")),
        ("open_clip:ViT-B-16//data/x.pt", ModelSpec("", "open_clip", "ViT-B-16", rest="/data/x.pt")),
        ("open_clip:ViT-B-16/runs/a/x.pt", ModelSpec("", "open_clip", "ViT-B-16", rest="runs/a/x.pt")),
        ("open_clip:RN50/a#b/x.pt", ModelSpec("", "open_clip", "RN50", rest="a#b/x.pt")),
        ("open_clip:RN50/x.pt#gelu", ModelSpec("", "open_clip", "RN50", rest="x.pt", selector="gelu")),
        ("open_clip:RN50//a#b/x#quickgelu", ModelSpec("", "open_clip", "RN50", rest="/a#b/x", selector="quickgelu")),
        ("hf:google/siglip-base-patch16-224", ModelSpec("", "hf", "google/siglip-base-patch16-224")),
        ("hf:C:\\models\\clip", ModelSpec("", "hf", "C:\\models\\clip")),
        ("python:package.module:factory", ModelSpec("", "python", "package.module", rest="factory")),
        ("embeddings:out/vectors", ModelSpec("", "embeddings", "out/vectors")),
        ("st:clip-ViT-B-32", ModelSpec("", "st", "clip-ViT-B-32")),
        (
            "st:org/name?text-prompt=query&revision=v1",
            ModelSpec("", "st", "org/name", options={"text-prompt": "query", "revision": "v1"}),
        ),
    ],
)
def test_every_form_of_the_contract_is_parsed(text, expected):
    parsed = parse_spec(text)
    assert parsed == replace(expected, text=text)


@pytest.mark.parametrize("text", ["", "toybox", "runs/last.pt", "clip:ViT-B-16", "openclip:ViT-B-16/openai"])
def test_an_unknown_kind_is_refused_in_one_line_that_lists_the_kinds(text):
    with pytest.raises(RequestError) as refusal:
        parse_spec(text)
    assert "\n" not in str(refusal.value)
    assert all(f"{kind}:" in str(refusal.value) for kind in KINDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosmos:", "has nothing after the colon"),
        ("cosmos:x.pt#pupil", "#student"),
        ("cosmos:#student", "#student"),
        ("cosmos:untrained-toybox?sed=1", "seed=NUMBER"),
        ("cosmos:untrained-toybox?seed=one", "seed=NUMBER"),
        ("open_clip:ViT-B-16", "open_clip:ARCH/TAG"),
        ("open_clip:/openai", "open_clip:ARCH/TAG"),
        ("open_clip:RN50/x.pt#quick_gelu", "#gelu or #quickgelu"),
        ("open_clip:RN50/#gelu", "#gelu or #quickgelu"),
        ("open_clip:RN50-quickgelu/x.pt#gelu", "both activations"),
        ("python:module", "python:package.module:factory"),
        ("python:a b:factory", "python:package.module:factory"),
        ("python:/tmp/file.py:factory", "python:package.module:factory"),
        ("python:module:lambda x", "python:package.module:factory"),
    ],
)
def test_a_spec_without_a_part_is_refused_with_the_form(text, message):
    with pytest.raises(RequestError, match=message.replace("?", r"\?").replace("#", r"\#")):
        parse_spec(text)


@pytest.mark.parametrize(
    ("spec", "folder"),
    [
        ("cosmos:toybox", "cosmos-toybox"),
        ("cosmos:/home/me/runs/exp1/last.pt", "cosmos-exp1-last"),
        ("cosmos:/home/me/runs/exp1/last.pt#student", "cosmos-exp1-last-student"),
        ("cosmos:untrained-toybox?seed=3", "cosmos-untrained-toybox-seed3"),
        ("cosmos:../last.pt", "cosmos-last"),
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", "open_clip-ViT-B-16-laion2b_s34b_b88k"),
        ("open_clip:ViT-B-16//data/exp/epoch_3.pt", "open_clip-ViT-B-16-exp-epoch_3"),
        ("open_clip:ViT-B-16//data/exp/epoch_3.pt#gelu", "open_clip-ViT-B-16-exp-epoch_3-gelu"),
        ("hf:google/siglip-base-patch16-224", "hf-google-siglip-base-patch16-224"),
        ("hf:/models/clip v2/", "hf-models-clip-v2"),
        ("python:package.module:factory", "python-package.module-factory"),
        ("embeddings:/", "embeddings-root"),
        ("st:org/name?text-prompt=query&image-prompt=document", "st-org-name-t-query-i-document"),
        ("embeddings:..", "embeddings-root"),
    ],
)
def test_a_slug_is_a_plain_folder_name_without_this_machines_folders(spec, folder):
    assert slug(spec) == folder


def test_a_slug_stays_short():
    assert len(slug("cosmos:" + "x" * 300)) == 80


def test_the_list_names_every_kind_and_the_ten_released_checkpoints():
    lines = list_models()
    assert {line.spec.partition(":")[0] for line in lines} == set(KINDS)
    assert sum(line.spec.startswith(("cosmos:vitb16-", "cosmos:vitb32-")) for line in lines) == 10
    assert all(line.needs and line.about for line in lines)
    for line in lines:
        parse_spec(line.spec.replace("seed=N", "seed=0"))


def test_specs_slugs_and_the_list_import_nothing_heavy():
    code = (
        "import sys; from cosmos_eval.models import load_model, parse_spec; "
        "from cosmos_eval.models.spec import list_models, slug; list_models(); slug('hf:a/b'); parse_spec('cosmos:x'); "
        "print(sorted({'torch', 'numpy', 'pandas', 'open_clip', 'transformers', 'PIL'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("hf:a?b", "a?b", {}),
        ("hf:a?b?processor=fast", "a?b", {"processor": "fast"}),
        ("hf:a?revision=v1.0&scorer=itm", "a", {"revision": "v1.0", "scorer": "itm"}),
        ("cosmos:runs/a?b.pt", "runs/a?b.pt", {}),
        ("cosmos:runs/a?b.pt#student?scorer=cross", "runs/a?b.pt", {"scorer": "cross"}),
        ("flair:a?b=c.pt?scorer=clip", "a?b=c.pt", {"scorer": "clip"}),
    ],
)
def test_a_question_mark_belongs_to_the_name_unless_an_option_of_the_kind_follows(text, name, options):
    spec = parse_spec(text)
    assert (spec.name, spec.options) == (name, options)
    assert spec.revision == options.get("revision", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf:a?processor=fast&colour=red", "has the option 'colour'; the options are processor, max-num-patches"),
        ("hf:a?revision=v1&revision=v2", "has the option revision twice"),
        ("hf:a?revision=../x", r"has the option revision as '\.\./x'"),
        ("open_clip:hf-hub:a/b?revision=v1&scorer=clip", "has the option 'scorer'; the options are revision"),
        ("open_clip:hf-hub:a/b?rev=v1", r"names no repository of the hub; .*\?revision="),
        ("cosmos:x.pt?scorer=itm", "has the option scorer as 'itm'"),
        ("cosmos:x.pt?scorer=cross&seed=3", "has the option 'seed'; the options are scorer"),
    ],
)
def test_options_after_a_known_one_must_be_known_too(text, message):
    with pytest.raises(RequestError, match=message):
        parse_spec(text)
