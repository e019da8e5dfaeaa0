"""`list readers NAME`, `list suites NAME` and `list templates`: every option in words, averages, the templates."""

from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.option_texts import KINDS, describe_options
from cosmos_eval.datasets.prompts import resolve_prompts
from cosmos_eval.datasets.reader import OPTION_KINDS
from cosmos_eval.datasets.reader_registry import BUILT_IN, reader_info


def test_every_option_of_every_reader_is_described():
    assert set(KINDS) == set(OPTION_KINDS)
    for name in BUILT_IN:
        for option in describe_options(reader_info(name)):
            assert option.text, f"{name} has the option {option.name}; describe it in its `about`"


def test_the_options_of_a_reader_are_listed(capsys):
    assert run_command(["list", "readers", "masks"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["images", "yes", "path", "folder of the images"] in rows
    info = reader_info("masks")
    assert [row[0] for row in rows] == [*info.required, *info.optional]
    assert run_command(["list", "readers", "mask"]) == 2
    assert "mask" in capsys.readouterr().err


def test_a_suite_is_shown_with_its_metrics_and_averages(capsys):
    assert run_command(["list", "suites", "datacomp-38"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0][:2] == ["suite", "datacomp-38"]
    metrics = {row[0]: row[1] for row in rows[1:39]}
    assert (metrics["food101-wds"], metrics["fmow-wds"]) == ("top1", "worst region/top1")
    assert metrics["flickr30k-test-retrieval"] == "image_to_text_recall@1, text_to_image_recall@1"
    assert rows[39][:2] == ["average", "DataComp, mean of 38"]
    assert rows[-1][0] == "published table"
    assert run_command(["list", "suites", "datacmp-38"]) == 2
    assert "datacomp-38" in capsys.readouterr().err


def test_templates_are_listed_and_shown(capsys):
    assert run_command(["list", "templates"]) == 0
    rows = dict(line.split("\t")[:2] for line in capsys.readouterr().out.splitlines())
    assert rows["openai-80"] == "80"
    assert rows["simple-7"] == "7"
    assert "clip-benchmark:eurosat" in rows
    for name in list(rows)[:6]:
        assert run_command(["list", "templates", name]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert tuple(shown) == tuple(resolve_prompts({"templates": name}, None).templates)
    assert run_command(["list", "templates", "openai"]) == 2
    assert "unknown set 'openai'" in capsys.readouterr().err
