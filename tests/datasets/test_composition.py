"""The readers of further compositional benchmarks: what they read, and their messages about wrong files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.perception.countbench import replace_number
from tests.helpers.composition_on_disk import WRITE, valse_row
from tests.helpers.datasets_on_disk import define, replace_content
from tests.helpers.perception_on_disk import small


def load(name: str, root: Path, **dataset):
    WRITE[name](root)
    return datasets.load(small(name, **dataset), root)


def texts_of(data, item: int) -> list[str]:
    return [data.texts[j] for j in data.item_texts[item]]


def keys_of(data, item: int) -> list[str]:
    return [data.images[i].key for i in data.item_images[item]]


def refusal(name: str, root: Path, **dataset) -> str:
    with pytest.raises(RequestError) as caught:
        datasets.load(small(name, **dataset), root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sugarcrepe_pp_has_two_right_captions(tmp_path: Path):
    data = load("sugarcrepe-pp", tmp_path)
    assert texts_of(data, 0) == ["right replace_att 0", "same replace_att 0", "wrong replace_att 0"]
    assert (data.right_texts, data.groups["of two"][0], data.groups["of two"][-1]) == (2, "replace", "swap")


def test_bivlc_has_the_images_of_both_columns(tmp_path: Path):
    data = load("bivlc", tmp_path)
    name = "test-00000-of-00001.parquet"
    assert (keys_of(data, 1), texts_of(data, 1)) == ([f"{name}:1", f"{name}:1:negative_image"], ["a dog 1", "a cat 1"])
    assert len({image.digest() for image in data.images}) == 8
    assert data.subsets == ["replace", "replace", "swap", "add"]


def test_bivlc_subtypes_are_a_group_of_two_columns(tmp_path: Path):
    data = load("bivlc-subtypes", tmp_path)
    assert dict(data.groups) == {"type subtype": ["replace obj", "replace att", "swap obj", "add att"]}
    assert "has no column 'x'" in refusal("bivlc-subtypes", tmp_path, group_columns=["x"])
    assert "must hold texts" in refusal("bivlc-subtypes", tmp_path, group_columns=["image"])


def test_cola_has_the_file_names_of_the_addresses(tmp_path: Path):
    data = load("cola-multi", tmp_path)
    assert (keys_of(data, 1), texts_of(data, 1)) == (["2.jpg", "3.jpg"], ["red cup 1", "blue cup 1"])


def test_valse_has_valid_foils_only(tmp_path: Path):
    data = load("valse", tmp_path)
    assert (keys_of(data, 1), data.subsets[1]) == (["SWiG/existence_1.jpg"], "existence")
    assert texts_of(data, 1) == ["There are existence 1.", "There are no existence 1."]
    assert datasets.check(small("valse", expected={"rows": 33}), tmp_path).problems == ()


def test_crepe_cuts_the_region_and_looks_in_both_folders(tmp_path: Path):
    data = load("crepe-productivity", tmp_path)
    assert [keys_of(data, i) for i in (0, 1)] == [["VG_100K/1.jpg[1,2,6,5]"], ["VG_100K_2/2.jpg[1,2,6,5]"]]
    assert texts_of(data, 0) == ["a cat on 1", *(f"a dog on 1, {k}" for k in range(5))]
    assert (data.subsets[0], data.groups["foil"][9], data.groups["complexity"][9]) == ("atom 4", "swap", "4")
    assert data.images[0].load().size == (6, 5)


def test_whatsup_has_pairs_and_sets(tmp_path: Path):
    data = load("whatsup-b", tmp_path)
    assert data.subsets[:4] == ["front", "behind", "left", "right"]
    assert keys_of(data, 0) == ["controlled_clevr/mug_in-front_of_table.jpeg"]
    pairs, sets = data.sets["pair"], data.sets["set"]
    assert pairs[0] == pairs[1] != pairs[2] == pairs[3]
    assert len(set(sets[:4])) == 1
    assert sets[0] != sets[4]


def test_vsr_puts_the_text_that_fits_the_label_first(tmp_path: Path):
    data = load("vsr-random", tmp_path)
    false, true = "The cat is in front of the bed 0.", "The cat is facing the bed 1."
    assert texts_of(data, 0) == [f"{false} (False)", f"{false} (True)"]
    assert texts_of(data, 1) == [f"{true} (True)", f"{true} (False)"]
    assert data.subsets == ["projective", "orientation", "topological", "unallocated", "topological"]


def test_negbench_puts_the_answer_first(tmp_path: Path):
    data = load("negbench-coco", tmp_path)
    assert texts_of(data, 2) == [f"There is no {k}, but 2." for k in (2, 0, 1, 3)]
    assert keys_of(data, 2) == ["000002.jpg"]


def test_chexperts_images_have_their_path_from_the_split_on(tmp_path: Path):
    data = load("negbench-chexpert", tmp_path)
    assert keys_of(data, 1) == ["valid/patient1/study1/view1_frontal.jpg"]
    assert texts_of(data, 1) == ["It does not show 1.", "It shows 1."]
    assert data.subsets == ["caption_0", "caption_1", "caption_0"]


def test_countbench_leaves_out_rows_without_an_image_or_a_number(tmp_path: Path):
    data = load("countbench", tmp_path)
    assert data.left_out == ("row 3: has no image", "row 4: does not have the word 'ten'")
    assert data.subsets == ["three", "two", "two", "three"]
    assert texts_of(data, 0)[:3] == ["Three red cups", "Two red cups", "Four red cups"]
    assert [image.key.rpartition(":")[2] for image in data.images] == ["0", "1", "2", "5"]
    assert datasets.check(small("countbench", expected={"rows": 6}), tmp_path).problems == ()


def test_a_number_is_replaced_as_a_word_with_its_capitals():
    assert replace_number("TWO or two twofold", 2)[0] == "THREE or three twofold"
    assert len(replace_number("ten cups", 10)) == 8
    assert replace_number("often", 10) is None


def test_a_missing_photo_ends_its_pair_and_set(tmp_path: Path):
    WRITE["whatsup-a"](tmp_path)
    (tmp_path / "whatsup/controlled_images/mug_on_table.jpeg").unlink()
    data = datasets.load(small("whatsup-a", leave_out_missing=True), tmp_path)
    assert len(data.item_images) == 7
    assert data.sets["set"][:3] == ["", "", ""]
    assert data.sets["set"][3]
    assert data.sets["pair"][0] == ""
    assert data.sets["pair"][1]


def test_tags_are_groups_of_their_own(tmp_path: Path):
    data = load("winoground-tags", tmp_path)
    assert data.groups["Unusual Text"] == ["Unusual Text", "", "Unusual Text"]
    assert data.groups["No Tag"] == ["", "No Tag", ""]
    path = tmp_path / "winoground/new_tag_assignments.json"
    path.write_text('{"0": [], "1": []}')
    assert "finds no tags of 2" in refusal("winoground-tags", tmp_path)
    path.write_text('{"0": "hard"}')
    assert "tags of 0 in" in refusal("winoground-tags", tmp_path)


def scpp_row(**changes):
    return {"filename": "000000000001.jpg", "caption": "a", "caption2": "b", "negative_caption": "c", **changes}


VALSE_NO_VOTES = {key: value for key, value in valse_row("plurals", 0, 3).items() if key != "mturk"}
CREPE_FILE = "crepe/prod_hard_negatives/swap/prod_vg_hard_negs_swap_complexity_5.csv"
CREPE_HEAD = "image_id,caption,hard_negs,x,y,width,height\n"
COLA_FILE = "cola/COLA_multiobjects_matching_benchmark.json"
NEGBENCH_FILE = "negbench/COCO_val_mcq_llama3.1_rephrased.csv"
NEGBENCH_HEAD = "image_path,correct_answer,caption_0,caption_1,caption_2,caption_3,correct_answer_template\n"
CHEXPERT_FILE = "negbench/chexpert_binary_mcq.csv"
CHEXPERT_HEAD = "image_path,correct_answer,caption_0,caption_1\n"
VSR_ROW = {"image": "000000000000.jpg", "caption": "a", "label": 1, "relation": "on"}


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("sugarcrepe-pp", "sugarcrepe_pp/swap_obj.json", {"0": scpp_row()}, "finds no list of rows in"),
        ("sugarcrepe-pp", "sugarcrepe_pp/swap_obj.json", [scpp_row(caption2="")], "has an empty 'caption2' in row 0"),
        ("sugarcrepe-pp", "sugarcrepe_pp/swap_obj.json", None, "swap_obj.json, which is not there"),
        ("cola-multi", COLA_FILE, [["a.jpg", "a"]], "a row is image 1, caption 1"),
        ("cola-multi", COLA_FILE, [["..", "a", "b", "c"]], "outside its folder"),
        ("colorswap", "colorswap/test.json", [{"image_1": "a"}], "finds no 'image_2' (a text) in row 0 of"),
        ("valse", "valse/plurals.json", {"x": VALSE_NO_VOTES}, "finds no 'mturk' (a map) in row x of"),
        ("valse", "valse/plurals.json", [], "finds no map of rows in"),
        ("valse", "valse/plurals.json", None, "plurals.json, which is not there"),
        ("crepe-productivity", CREPE_FILE, None, "complexity_5.csv, which is not there"),
        ("crepe-productivity", CREPE_FILE, CREPE_HEAD + "1,a,\"['b']\",0,0,4,4\n", "finds 1 hard negative in"),
        ("crepe-productivity", CREPE_FILE, CREPE_HEAD + "1,a,print(1),0,0,4,4\n", "it must be a list of texts"),
        ("crepe-productivity", CREPE_FILE, CREPE_HEAD + "1,a,\"list('abcde')\",0,0,0,4\n", "must be a list of texts"),
        ("crepe-productivity", CREPE_FILE, CREPE_HEAD + "1,a,\"list('abcde')\",0,0,x,4\n", "'x' for 'width'"),
        ("crepe-productivity", CREPE_FILE, CREPE_HEAD + "1,a,[],0,0,9999999,4\n", "finds 0 hard negatives"),
        ("whatsup-a", "whatsup/controlled_images_dataset.json", [{"image_path": "a", "caption_options": ["a"]}],
         "they are 4 texts"),
        ("whatsup-a", "whatsup/controlled_images_dataset.json",
         [{"image_path": "a", "caption_options": ["a mug near it", "b", "c", "d"]}], "it must be one"),
        ("whatsup-coco-two", "whatsup/coco_qa_two_obj.json", [[1, "a"]], "a row is image id, right, wrong caption"),
        ("vsr-random", "vsr/random/test.jsonl", {**VSR_ROW, "label": 2}, "finds the label 2 in"),
        ("vsr-random", "vsr/random/test.jsonl", "{", "not JSON"),
        ("negbench-coco", NEGBENCH_FILE, NEGBENCH_HEAD + "a/000000.jpg,4,a,b,c,d,hybrid\n",
         "finds the answer 4 in"),
        ("negbench-coco", NEGBENCH_FILE, NEGBENCH_HEAD + "a/000000.jpg,0,a,b,c,d,\n",
         "has an empty 'correct_answer_template'"),
        ("negbench-chexpert", CHEXPERT_FILE, CHEXPERT_HEAD + "valid/a.jpg,2,a,b\n", "it must be 0 to 1"),
        ("negbench-chexpert", CHEXPERT_FILE, CHEXPERT_HEAD + "a/valid,0,a,b\n", "the folder train, valid or test"),
        ("negbench-chexpert", CHEXPERT_FILE, CHEXPERT_HEAD + "valid/../../a.jpg,0,a,b\n", "outside its folder"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, name: str, file: str, content, message: str):
    WRITE[name](tmp_path)
    replace_content(tmp_path / file, content)
    assert message in refusal(name, tmp_path)


@pytest.mark.parametrize("name", sorted(set(WRITE) - {"countbench", "bivlc", "bivlc-subtypes", "valse-texts"}))
def test_a_missing_image_is_named(tmp_path: Path, name: str):
    WRITE[name](tmp_path)
    first = keys_of(datasets.load(small(name), tmp_path), 0)[0].partition("[")[0]
    stem = first.rpartition("/")[2]
    for path in tmp_path.rglob(f"{stem}*"):
        path.unlink()
    assert stem in refusal(name, tmp_path)


def test_other_values_of_the_options_are_refused(tmp_path: Path):
    WRITE["whatsup-coco-one"](tmp_path)
    assert "has objects 'three'; known: one, two" in refusal("whatsup-coco-one", tmp_path, objects="three")
    assert "known: coco, visual-genome" in refusal("whatsup-coco-one", tmp_path, image_names="x")


def test_a_second_column_of_images_needs_one_wrong_caption_and_no_ids(tmp_path: Path):
    WRITE["bivlc"](tmp_path)
    two = ["negative_caption", "subtype"]
    assert "has 2 wrong captions in each row" in refusal("bivlc", tmp_path, negative_columns=two)
    assert "give one of them" in refusal("bivlc", tmp_path, image_id_column="caption")
    assert "give two columns" in refusal("bivlc", tmp_path, negative_image_column="image")
    assert "has no column 'x'" in refusal("bivlc", tmp_path, negative_image_column="x")


def test_countbench_needs_its_columns(tmp_path: Path):
    folder = tmp_path / "countbench"
    folder.mkdir()
    assert "finds no Parquet files in" in refusal("countbench", tmp_path)
    images = [{"bytes": b"x", "path": None}]
    pq.write_table(pa.table({"image": images, "text": ["two"], "number": ["2"]}), folder / "a.parquet")
    assert "needs whole numbers in the column 'number'" in refusal("countbench", tmp_path)
    pq.write_table(pa.table({"image": images, "text": ["two"], "number": [11]}), folder / "a.parquet")
    assert "finds the number 11" in refusal("countbench", tmp_path)


def test_a_users_own_definition_reads_pairs_of_images(tmp_path: Path):
    """The option is of the reader parquet, not of BiVLC alone."""
    WRITE["bivlc"](tmp_path)
    dataset = {
        "reader": "parquet", "path": "bivlc", "image_column": "image", "negative_image_column": "negative_image",
        "positive_column": "caption", "negative_columns": ["negative_caption"],
    }  # fmt: skip
    definition = define(tmp_path, "perception", dataset)
    assert datasets.load(definition, tmp_path).item_images.tolist() == [[i, 4 + i] for i in range(4)]
