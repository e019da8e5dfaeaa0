"""Where samples come from: tables, annotations, records, several sources at once, and what is refused."""

import gzip
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from cosmos_core.config import TrainConfig
from cosmos_core.data import BrokenSample, Sample, buffered, load_image, open_loader
from cosmos_core.data.sources import Records, ShardList, build_sources, parts_per_shard
from cosmos_core.data.tables import coco_captions, csv_pairs
from cosmos_core.errors import RequestError
from cosmos_core.objectives.base import Views
from tests.conftest import SHARED
from tests.core.test_data import image_bytes, numbered_shard, samples
from tests.core.test_data_loader import CONFIG, IMAGES, TOKENIZER, VIEWS, batches, in_epochs, rows, shard_folder
from tests.core.wrong_files import WRONG_FILES


def test_a_csv_row_is_a_sample_and_its_path_counts_from_the_file(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(image_bytes(1))
    absolute = tmp_path / "images" / "a.png"
    rows = f'title,size,filepath\n"Two, of them. ""Here""\non two lines",3,images/a.png\nÄ,4,{absolute}\n,5,\n'
    (tmp_path / "pairs.csv").write_text(rows, encoding="utf-8")
    table = csv_pairs(tmp_path / "pairs.csv", "filepath", "title")
    assert list(table) == [
        ("pairs.csv/1", absolute, 'Two, of them. "Here"\non two lines'),
        ("pairs.csv/2", absolute, "Ä"),
        ("pairs.csv/3", None, ""),
    ]


def test_a_tsv_file_has_tabs_and_columns_are_named_by_the_configuration(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(image_bytes(1))
    (tmp_path / "pairs.tsv").write_text("file\twords\n" + "a.png\tOne, two\n" * 8)
    config = replace(CONFIG, data=str(tmp_path / "pairs.tsv"), csv_image="file", csv_caption="words")
    (batch,) = batches(config, 1)
    assert sorted(batch.keys) == [f"pairs.tsv/{i}" for i in range(1, 9)]
    with pytest.raises(RequestError, match=r"no column 'filepath'; it has file, words: set csv_image and csv_caption"):
        batches(replace(config, csv_image="filepath"), 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"filepath,title\n1,2,3\n", "is not a table"),
        (b"filepath,title\na,\xff\xfe\n", "is not a table"),
        (b"", "has no column 'filepath'; it is empty$"),
        (b"filepath,title\n", "has a header and no rows"),
        (b"filepath,title", "has a header and no rows"),
        (b"filepath,title,title\na,b,c\n", "has the column 'title' twice"),
        (b"file\x1b[2J,title\na,b\n", r"it has file\\x1b\[2J, title"),
        ("filepath,title\na,b\n".encode("utf-16"), "not a text file in UTF-8 .UTF-16"),
        (gzip.compress(b"filepath,title\na,b\n", mtime=0), r"is compressed \(gzip\): unpack it first"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, reason: str):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=reason) as caught:
        csv_pairs(path, "filepath", "title")
    assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match=r"cannot read .*none\.csv"):
        csv_pairs(tmp_path / "none.csv", "filepath", "title")


@pytest.mark.parametrize("content", WRONG_FILES)
def test_what_stands_in_place_of_a_table_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(RequestError) as caught:
        csv_pairs(tmp_path / "pairs.csv", "image", "caption")
    assert f"pairs.csv {WRONG_FILES[content]}" in str(caught.value)


def coco_file(folder: Path) -> str:
    (folder / "images").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (folder / "images" / name).write_bytes(image_bytes(1))
    content = {
        "images": [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("abc")],
        "annotations": [{"image_id": i % 2, "caption": f"Caption {i}. It has two sentences"} for i in range(10)],
    }
    (folder / "captions.json").write_text(json.dumps(content))
    return f"coco:{folder}/captions.json,{folder}/images"


def test_all_captions_of_a_coco_image_are_one_record(tmp_path: Path):
    source = coco_file(tmp_path)
    table = coco_captions(tmp_path / "captions.json", tmp_path / "images")
    assert len(table) == 2  # c.png has no caption
    key, image, record = table[0]
    assert (key, image) == ("captions.json/a.png", tmp_path / "images" / "a.png")
    assert record == {"captions": [f"Caption {i}. It has two sentences" for i in range(0, 10, 2)]}
    (batch,) = batches(replace(CONFIG, data=source, batch_size=2), 1)
    assert set(batch.keys) == {"captions.json/a.png", "captions.json/b.png"}


def test_coco_sources_that_are_not_there_are_named(tmp_path: Path):
    (tmp_path / "bad.json").write_text('{"images": []}')
    for source, reason in {
        "coco:captions.json": "write coco:ANNOTATIONS.json,IMAGES_FOLDER",
        f"coco:{tmp_path}/bad.json,{tmp_path}/none": "no folder",
        f"coco:{tmp_path}/none.json,{tmp_path}": "cannot read .*none.json",
        f"coco:{tmp_path}/bad.json,{tmp_path}": "is not COCO's caption file .* KeyError 'annotations'",
    }.items():
        with pytest.raises(RequestError, match=reason):
            build_sources(replace(CONFIG, data=source), None)


def test_without_weights_all_shards_are_one_list_and_all_records_another(tmp_path: Path):
    (tmp_path / "x").mkdir()
    pattern = shard_folder(tmp_path / "x", [4, 4])
    other = numbered_shard(tmp_path / "other.tar", range(4))
    found, weights = build_sources(
        replace(CONFIG, data=f"{pattern}::toybox::{other}::{coco_file(tmp_path)}"), samples(5)
    )
    assert weights == []
    records, shards = found
    assert isinstance(records, Records)
    assert isinstance(shards, ShardList)
    assert shards.names == ["s-00.tar", "s-01.tar", "other.tar"]
    assert [key for key, _, _ in records.data] == [
        *(f"key{i}" for i in range(5)),
        "captions.json/a.png",
        "captions.json/b.png",
    ]


def test_records_that_are_handed_in_are_all_the_data_unless_the_sources_name_them(tmp_path: Path):
    shard = numbered_shard(tmp_path / "0.tar", range(8))
    for data, kinds in {"": [Records], str(shard): [Records], f"{shard}::toybox": [Records, ShardList]}.items():
        found, _ = build_sources(replace(CONFIG, data=data), samples(8))
        assert [type(source) for source in found] == kinds


def test_no_data_is_refused(tmp_path: Path):
    empty = numbered_shard(tmp_path / "0.tar", [])
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
    for data, reason in {
        "": "no training data: set data=SHARDS$",
        "toybox": "pass toybox's records to train",
        str(empty): "no samples in it$",
        f"{tmp_path}/bad.tar": "no samples in it; shard .*bad.tar cannot be read as a tar file",
        f"pipe:cat '{empty}'::toybox": "no training data",
    }.items():
        with pytest.raises(RequestError, match=reason):
            open_loader(replace(CONFIG, data=data), VIEWS, TOKENIZER)
    with pytest.raises(RequestError, match="unknown number of samples: set samples or data_weights"):
        open_loader(replace(CONFIG, data=f"pipe:cat '{empty}'::toybox", steps=3), VIEWS, TOKENIZER, samples(8))
    with pytest.raises(RequestError, match="no samples in it"):
        open_loader(CONFIG, VIEWS, TOKENIZER, [])


@pytest.mark.parametrize("content", WRONG_FILES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_what_stands_in_place_of_a_shard_is_named_once_with_what_to_do(
    tmp_path: Path, content: bytes, pack: Callable[[bytes], bytes]
):
    path = tmp_path / "s.tar"
    path.write_bytes(pack(content))
    with pytest.raises(RequestError) as caught:
        open_loader(replace(CONFIG, data=str(path)), VIEWS, TOKENIZER)
    assert f"cannot be read as a tar file: it {WRONG_FILES[content]}" in str(caught.value)
    assert "write it again" not in str(caught.value)


def test_an_archive_that_turns_out_empty_stops_the_run(tmp_path: Path):
    empty = numbered_shard(tmp_path / "0.tar", [])
    with pytest.raises(RequestError, match="too few samples for 8 lanes"):
        batches(replace(CONFIG, data=str(empty), samples=8), 1)


def test_samples_in_an_epoch_are_counted_or_as_the_configuration_says(tmp_path: Path):
    pattern = shard_folder(tmp_path, [7, 13])

    def length(samples_set: int, data: str, records: list[Sample] | None = None, **more) -> int:
        config = replace(CONFIG, data=data, samples=samples_set, **more)
        return open_loader(config, VIEWS, TOKENIZER, records).samples_per_epoch

    assert length(0, pattern) == 20
    assert length(12, pattern) == 12
    assert length(0, "", samples(9)) == 9
    assert length(8, "", samples(9)) == 8
    assert length(99, "", samples(9)) == 9  # a preset's number, and fewer scenes
    assert length(0, f"{pattern}::toybox", samples(9)) == 29
    assert length(0, f"{pattern}::toybox", samples(9), data_weights="1::1") == 29
    assert length(50, f"{pattern}::toybox", samples(9), data_weights="1::1") == 50


@pytest.mark.parametrize(
    ("shards", "lanes", "parts"),
    [(6, 16, 8), (1, 16, 16), (16, 16, 1), (280, 16, 1), (3, 4, 4), (1, 64, 64), (5, 1, 1)],
)
def test_few_shards_are_cut_so_that_lanes_get_as_many_parts_each(shards: int, lanes: int, parts: int):
    assert parts_per_shard(shards, lanes) == parts


def test_a_plain_iterable_is_mixed_in_a_buffer_and_read_again_in_each_epoch():
    class Stream:
        def __iter__(self):
            return iter(samples(20))

    loader = open_loader(CONFIG, VIEWS, TOKENIZER, Stream())
    found = list(islice(loader.batches(), 4))
    assert [(batch.epoch, batch.ends_epoch) for batch in found] == [(0, False), (0, True), (1, False), (1, True)]
    assert len({key for batch in found[:2] for key in batch.keys}) == 16
    assert found[0].keys != found[2].keys
    listed = {key: rest for batch in batches(CONFIG, 2, samples(20)) for key, *rest in rows(batch)}
    assert all(listed[key] == rest for batch in found[:2] for key, *rest in rows(batch) if key in listed)
    with pytest.raises(RequestError, match="cannot be resumed"):
        next(loader.batches({"0": {}}))


def test_an_iterator_that_is_used_up_says_so_in_the_next_epoch():
    endless = open_loader(CONFIG, VIEWS, TOKENIZER, iter(samples(8))).batches()
    assert next(endless).ends_epoch
    with pytest.raises(RequestError, match=r"no whole batch of 8 in epoch 1, .* exhausted"):
        next(endless)
    broken = [(key, b"none", record) for key, _, record in samples(9)]
    with pytest.raises(RequestError, match="in epoch 0, 9 samples skipped, the first because image: cannot decode"):
        next(open_loader(CONFIG, VIEWS, TOKENIZER, iter(broken)).batches())


def test_a_buffer_loses_nothing_and_mixes():
    stream: list[Sample] = [(str(i), None, "x") for i in range(100)]
    mixed = list(buffered(iter(stream), random.Random(0), size=10))
    assert mixed != stream
    assert sorted(mixed) == sorted(stream)  # type: ignore[type-var]


class Lazy(Sequence):
    """Samples made when they are read, like rendered scenes."""

    made = 0

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index):
        self.made += 1
        return samples(40)[index]


def test_records_are_made_when_they_are_drawn_and_not_before():
    lazy = Lazy()
    found = batches(CONFIG, 2, lazy)
    assert lazy.made == 16
    assert [batch.keys for batch in found] == [batch.keys for batch in batches(CONFIG, 2, samples(40))]
    start = found[-1].state
    lazy.made = 0
    batches(CONFIG, 1, lazy, start)
    assert lazy.made == 8  # nothing is made again to find the place


@pytest.mark.skipif(not (SHARED / "real" / "coco").is_dir(), reason="no real images here")
def test_real_coco_images_give_every_image_once_an_epoch():
    folder = SHARED / "real" / "coco"
    config = replace(
        CONFIG, data=f"coco:{folder}/annotations/captions_val2017.json,{folder}/images/val2017", batch_size=53
    )
    (epoch,) = in_epochs(batches(config, 3))
    keys = [key for batch in epoch for key in batch.keys]
    assert len(keys) == len(set(keys)) == 159
    assert not any(batch.broken for batch in epoch)


LINES = [
    "filepath{0}title",
    'a.jpg{0}"starts with a quote only',
    "b.jpg{0}dog",
    'c.jpg{0}ends with one"',
    "d.jpg{0}cat",
]
MENDED = [LINES[0], 'a.jpg{0}"""starts with one"', LINES[2], 'c.jpg{0}"ends with one"""', LINES[4]]


@pytest.mark.parametrize(("name", "cell"), [("pairs.tsv", "\t"), ("pairs.csv", ",")])
def test_a_quote_that_takes_rows_into_one_caption_is_told_with_its_line(tmp_path: Path, name: str, cell: str):
    def read(lines: list[str]) -> list[str]:
        (tmp_path / name).write_text("\n".join(lines).format(cell) + "\n")
        table = csv_pairs(tmp_path / name, "filepath", "title")
        return [table[i][2] for i in range(len(table))]

    with pytest.raises(RequestError, match=r"a quote that opens in line 2 does not close there .* up to line 4 into"):
        read(LINES)
    with pytest.raises(RequestError, match=r"a quote that opens in line 2 does not close"):
        read([*LINES[:3], LINES[4]])  # up to the end of the file
    # the advice: the cell in quotes, and a quote in it twice
    assert read(MENDED) == ['"starts with one', "dog", 'ends with one"', "cat"]


def test_tabs_in_a_csv_file_are_read_as_open_clip_writes_them(tmp_path: Path):
    (tmp_path / "a.csv").write_text("filepath\ttitle\na.jpg\ta dog, a cat\n")
    assert csv_pairs(tmp_path / "a.csv", "filepath", "title")[0][2] == "a dog, a cat"
    with pytest.raises(RequestError, match="it has filepath, title: set csv_image and csv_caption"):
        csv_pairs(tmp_path / "a.csv", "path", "caption")
    (tmp_path / "b.csv").write_text("filepath,title\tor,title\nb.jpg,x,two\n")  # a tab in a name does not make it one
    assert csv_pairs(tmp_path / "b.csv", "filepath", "title")[0][2] == "two"


def test_a_caption_of_several_lines_stays_one(tmp_path: Path):
    (tmp_path / "a.tsv").write_text('filepath\ttitle\na.jpg\t"one\ntwo, three"\nb.jpg\t5" disk\n\n')
    table = csv_pairs(tmp_path / "a.tsv", "filepath", "title")
    assert [table[i][2] for i in range(len(table))] == ["one\ntwo, three", '5" disk']


def test_pipes_and_endless_ranges_are_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "a.tar")
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(RequestError, match=r"a\.tar is not a regular file"):
        build_sources(TrainConfig(data=str(tmp_path / "a.tar")), None)
    with pytest.raises(RequestError, match="more than 10,000,000 shards"):
        build_sources(TrainConfig(data=f"{tmp_path}/{{0..99999}}-{{0..99999}}.tar"), None)
    with pytest.raises(BrokenSample, match="named pipe"):
        load_image(tmp_path / "a.png", "a")


@pytest.mark.skipif(not (SHARED / "real" / "flickr8k").is_dir(), reason="no real images here")
def test_real_shards_give_every_training_sample_once_an_epoch(monkeypatch: pytest.MonkeyPatch):
    """Their order alone: making 6,000 views takes a minute."""
    from cosmos_core.data import samples as made

    monkeypatch.setattr(
        made.SampleViews, "__call__", lambda self, key, image, record, epoch: (key, [], [record["caption"]], ())
    )
    config = TrainConfig(model={}, data=f"{SHARED}/real/flickr8k/train-{{0000..0005}}.tar", batch_size=96, captions=3)
    loader = open_loader(config, Views(IMAGES, 3), lambda texts: TOKENIZER([""] * len(texts)))
    assert (loader.samples_per_epoch, loader.steps_per_epoch) == (6000, 62)
    keys = [key for batch in islice(loader.batches(), 62) for key in batch.keys]
    assert len(keys) == len(set(keys)) == 5952
    assert {key.partition("/")[0] for key in keys[:96]} == {f"train-{i:04d}.tar" for i in range(6)}
