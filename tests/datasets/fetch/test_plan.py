"""What is planned to be fetched: in order, once, without what is there, and no restricted copy that nobody accepted."""

import socket
from pathlib import Path

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.fetch.plan import Amount, FetchPlan, make_fetch_plan
from cosmos_eval.datasets.fetch.plan_text import amount_text, describe_plan, size_text
from cosmos_eval.datasets.fetch.table import load_table
from cosmos_eval.protocol.benchmark import load_benchmark


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a plan must not use the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def plan(root: Path, *names: str, **options) -> FetchPlan:
    return make_fetch_plan([load_benchmark(name) for name in names], root, **options)


def fetched(made: FetchPlan) -> dict[str, list[str]]:
    return {one.artifact.name: [source.name for source in one.sources] for one in made.fetched}


def put(root: Path, *paths: str, content: str = "x") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)


def test_what_two_benchmarks_share_is_fetched_once_and_counted_once(tmp_path):
    made = plan(tmp_path, "coco-val2017-retrieval", "sugarcrepe")
    assert list(fetched(made))[:2] == ["coco-val2017", "coco-captions-val2017"]
    assert fetched(made)["coco-val2017"] == ["publisher", "aws"]
    (images,) = [one for one in made.fetched if one.artifact.name == "coco-val2017"]
    assert images.benchmarks == ("coco-val2017-retrieval", "sugarcrepe")
    # val2017.zip, annotations_trainval2017.zip and the seven files of SugarCrepe
    files = 158863 + 484593 + 176843 + 361126 + 312629 + 154665 + 57569
    assert made.download == Amount(815585330 + 252907541 + files, True)
    # of the annotations only the captions are kept
    assert made.kept == Amount(815585330 + 3900000 + files, False)
    assert made.disk_needed.size == made.kept.size + 815585330 + 252907541


def test_an_archive_of_which_two_parts_are_needed_counts_once(tmp_path):
    made = plan(tmp_path, "coco-karpathy-retrieval", "flickr30k-test-retrieval")
    assert {"karpathy-coco", "karpathy-flickr30k"} <= set(fetched(made))
    assert made.download == Amount(6645013297 + 36745453, True)


def test_what_is_there_is_left_out_also_at_another_place_that_the_benchmark_reads(tmp_path):
    put(tmp_path, "coco/val2017/1.jpg")  # not coco/images/val2017
    made = plan(tmp_path, "coco-val2017-retrieval")
    assert list(fetched(made)) == ["coco-captions-val2017"]
    assert [one.name for one in made.there] == ["coco-val2017"]
    put(tmp_path, "coco/annotations/captions_val2017.json")
    made = plan(tmp_path, "coco-val2017-retrieval")
    assert made.fetched == made.by_hand == ()
    assert describe_plan(made) == ["already there: coco-val2017, coco-captions-val2017", "nothing to fetch"]


def test_an_empty_folder_or_file_is_not_there(tmp_path):
    (tmp_path / "coco/images/val2017").mkdir(parents=True)
    put(tmp_path, "coco/annotations/captions_val2017.json", content="")
    assert len(plan(tmp_path, "coco-val2017-retrieval").fetched) == 2


@pytest.mark.parametrize(("count", "is_there"), [("2", True), ("3", False), ("", False), ("many", False), ("0", False)])
def test_shards_are_there_when_all_that_are_announced_are(tmp_path, count, is_there):
    root = "wds_cars"  # the second place that the definition names
    put(tmp_path, *[f"{root}/{file}" for file in ("test/0.tar", "test/1.tar", "classnames.txt")])
    put(tmp_path, f"{root}/zeroshot_classification_templates.txt")
    put(tmp_path, f"{root}/test/nshards.txt", content=count)
    made = plan(tmp_path, "cars-wds")
    assert (made.fetched == ()) == is_there
    (tmp_path / root / "classnames.txt").unlink()
    assert len(plan(tmp_path, "cars-wds").fetched) == 1


def test_the_folder_around_imagenet_proves_nothing_and_its_class_folders_do(tmp_path):
    put(tmp_path, "imagenet/ILSVRC2012_img_val.tar")
    assert fetched(plan(tmp_path, "imagenet1k")) == {"imagenet-val": ["hub"]}
    put(tmp_path, "imagenet/n01440764/1.JPEG")
    assert plan(tmp_path, "imagenet1k").fetched == ()


RESTRICTED = [
    ("flickr30k-test-retrieval", "nlphuji-flickr30k", "flickr30k-images"),
    ("flickr30k-val-retrieval", "openflamingo-flickr30k", "flickr30k-images"),
    ("flickr8k-test-retrieval", "jbrownlee-flickr8k", "flickr8k-images"),
    ("fer2013", "clip-benchmark-fer2013", "fer2013"),
    ("imagenet1k-wds", "djghosh-imagenet1k", "imagenet1k-wds"),
    ("fer2013-wds", "clip-benchmark-fer2013", "fer2013-wds"),
    ("flickr30k-wds", "clip-benchmark-flickr30k", "flickr30k-wds"),
    ("flickr8k-wds", "clip-benchmark-flickr8k", "flickr8k-wds"),
]


def test_every_restricted_copy_is_tried_here():
    artifacts = load_table().artifacts.values()
    assert {name for _, _, name in RESTRICTED} == {
        artifact.name for artifact in artifacts if any(source.restricted_copy for source in artifact.sources)
    }


@pytest.mark.parametrize(("benchmark", "source", "artifact"), RESTRICTED)
def test_a_restricted_copy_needs_its_name_and_accepted_terms(tmp_path, benchmark, source, artifact):
    made = plan(tmp_path, benchmark)
    assert artifact not in fetched(made)
    assert artifact in [one.artifact.name for one in made.by_hand]
    assert made.incomplete == (benchmark,)
    lines = "\n".join(describe_plan(made))
    assert f"--source {source} --accept-terms {benchmark}" in lines
    terms, own_way = load_table().artifacts[artifact].terms, load_table().artifacts[artifact].manual[0].address
    assert terms in lines
    assert own_way in lines

    with pytest.raises(RequestError) as refused:  # the name alone
        plan(tmp_path, benchmark, sources=[source])
    assert terms in str(refused.value)
    assert own_way in str(refused.value)
    assert f"add --accept-terms {benchmark}" in str(refused.value)
    with pytest.raises(RequestError, match=f"needs the copy to take as well: --source .*{source}"):  # the terms alone
        plan(tmp_path, benchmark, accepted_terms=[benchmark])
    with pytest.raises(RequestError, match="that benchmark is not asked for"):  # of another benchmark
        plan(tmp_path, benchmark, sources=[source], accepted_terms=["cifar10"])

    made = plan(tmp_path, benchmark, sources=[source], accepted_terms=[benchmark])
    assert fetched(made)[artifact] == [source]
    (planned,) = [one for one in made.fetched if one.artifact.name == artifact]
    assert planned.accepted_terms == (benchmark,)
    lines = "\n".join(describe_plan(made))
    assert terms in lines
    assert own_way in lines
    assert f"terms accepted for {benchmark}" in lines


def test_no_restricted_copy_and_no_single_address_is_planned_by_itself(tmp_path):
    made = plan(tmp_path, *[name for name in load_table().recipes if not name.startswith("toybox")])
    for one in made.fetched:
        assert all(source.is_automatic for source in one.sources)
        assert one.accepted_terms == ()
    by_hand = {one.artifact.name for one in made.by_hand}
    assert by_hand == {one.name for one in load_table().artifacts.values() if not one.automatic}
    assert by_hand >= {"fer2013-wds", "flickr30k-wds", "flickr8k-wds", "imagenet1k-wds"}  # others have open copies


def test_single_addresses_only_by_their_own_option_and_again_if_some_are_there(tmp_path):
    assert list(fetched(plan(tmp_path, "svo-probes"))) == ["svo-table"]
    put(tmp_path, "svo_probes/images/1.jpg", "svo_probes/svo_probes.csv")
    assert plan(tmp_path, "svo-probes").fetched == ()
    made = plan(tmp_path, "svo-probes", sources=["svo-image-urls"])
    assert fetched(made) == {"svo-images": ["svo-image-urls"]}
    assert made.download == Amount(0, False, 1)


def test_a_named_source_is_the_only_one(tmp_path):
    assert fetched(plan(tmp_path, "voc21")) == {"voc2012": ["oxford-thor", "publisher", "d2l", "brainchip"]}
    assert fetched(plan(tmp_path, "voc21", "cifar10", sources=["d2l"])) == {
        "voc2012": ["d2l"],
        "cifar10": ["publisher"],
    }
    made = plan(tmp_path, "imagenet1k", sources=["publisher"])
    assert [one.artifact.name for one in made.by_hand] == ["imagenet-val"]
    with pytest.raises(RequestError, match=r"has a source 'd2' .*did you mean d2l"):
        plan(tmp_path, "voc21", sources=["d2"])
    with pytest.raises(RequestError, match="nothing of it is a restricted copy"):
        plan(tmp_path, "voc21", accepted_terms=["voc21"])


def test_masks_are_made_unless_a_person_must_act_first(tmp_path):
    made = plan(tmp_path, "coco-object", "coco-stuff164k", "context60", "context59", "cityscapes")
    assert made.prepare == ("coco-object", "coco-stuff", "context")
    assert made.incomplete == ("cityscapes",)
    put(tmp_path, "cityscapes/leftImg8bit/val/a.png", "cityscapes/gtFine/val/a.png")
    assert plan(tmp_path, "cityscapes").prepare == ("cityscapes",)


def test_a_benchmark_that_the_table_does_not_know_is_told_with_its_note(tmp_path):
    definition = tmp_path / "mine.yaml"
    definition.write_text("base: cifar10\nname: mine\nversion: 1\ndataset: {path: disk, needs: ask Ann for the disk}\n")
    made = make_fetch_plan([load_benchmark(definition)], tmp_path)
    assert made.incomplete == ("mine",)
    assert describe_plan(made) == ["mine: nothing to fetch, since no source is known; it needs: ask Ann for the disk"]


def test_the_text_tells_what_is_not_sure(tmp_path):
    lines = describe_plan(plan(tmp_path, "dtd-vtab", "cars-wds", "coco-stuff164k", "winoground", "aro-relation"))
    text = "\n".join(lines)
    assert "clip-benchmark: not pinned" in text  # dtd-vtab
    assert "revision 25cfe61 is short" in text  # cars-wds
    assert text.count("over plain http, no checksum is known") == 1  # the maps; val2017.zip has a checksum
    assert "accept its terms at https://huggingface.co/datasets/facebook/winoground" in text
    assert "Google Drive refuses a file" in text
    assert "then made: masks, by 'data prepare coco-stuff'" in text
    assert any(line.startswith("download: about 2.95 GB and 4 of unknown size") for line in lines)
    for one in plan(tmp_path, "dtd-vtab").fetched:
        assert one.artifact.terms in text


def test_steps_name_the_folder_as_a_shell_takes_it():
    made = plan(Path("my data"), "cityscapes")
    text = "\n".join(describe_plan(made))
    assert "unzip gtFine_trainvaltest.zip 'gtFine/val/*' -d 'my data'/cityscapes" in text
    assert "{" not in text
    assert "`" not in text


def test_nothing_is_needed_for_what_the_program_renders(tmp_path):
    assert describe_plan(plan(tmp_path, "toybox-retrieval")) == ["nothing to fetch"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(502, "502 bytes"), (1648877, "1.65 MB"), (99620, "99.6 kB"), (815585330, "816 MB"), (999_600_000, "1.00 GB")],
)
def test_sizes_have_three_digits(size, text):
    assert size_text(size) == text


def test_amounts_say_what_is_not_known():
    assert amount_text(Amount(2000, True)) == "2.00 kB"
    assert amount_text(Amount(2000, False, 2)) == "about 2.00 kB and 2 of unknown size"
    assert amount_text(Amount(0, True, 2)) == "unknown size"
