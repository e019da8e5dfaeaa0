"""SVO-Probes and MMVP-VLM: perception benchmarks whose items are rows of a CSV file."""

from pathlib import Path
from typing import Any

import pytest

from cosmos_eval.datasets.perception.mmvp import PATTERNS
from tests.helpers import perception_on_disk as on_disk
from tests.helpers.datasets_on_disk import write_image
from tests.helpers.perception_reading import load, refusal, shown


def test_svo_has_the_items_of_the_authors_notebook(tmp_path: Path):
    on_disk.svo(tmp_path)
    data = load("svo-probes", tmp_path)
    assert [shown(data, i) for i in range(6)] == [
        ([str(10 + i), str(20 + i)], [f"A girl sits, number {i}."]) for i in range(6)
    ]
    assert data.subsets == ["subject", "verb", "object"] * 2
    assert data.left_out == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentence": "  "}, "svo_probes.csv:3: has an empty sentence"),
        ({"pos_image_id": "x7"}, "finds 'x7' for 'pos_image_id' in "),
        ({"verb_neg": "maybe"}, "finds 'maybe' for 'verb_neg' in "),
    ],
)
def test_a_row_of_svo_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, str], message: str):
    on_disk.svo(tmp_path)
    rows = on_disk.svo_rows()
    rows[1] |= changes
    on_disk.write_csv(tmp_path / "svo_probes/svo_probes.csv", on_disk.SVO_HEADER, rows)
    refused = refusal("svo-probes", tmp_path)
    assert all(part in refused for part in message.split(": ")), refused


def test_a_table_without_a_column_or_with_a_truncated_row_is_refused(tmp_path: Path):
    on_disk.svo(tmp_path)
    path = tmp_path / "svo_probes/svo_probes.csv"
    on_disk.write_csv(path, [column for column in on_disk.SVO_HEADER if column != "obj_neg"], on_disk.svo_rows())
    assert "finds no column 'obj_neg' in" in refusal("svo-probes", tmp_path)
    on_disk.svo(tmp_path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]) + "5,A girl", encoding="utf-8")
    assert "finds 2 cells for 11 columns in" in refusal("svo-probes", tmp_path)
    on_disk.svo(tmp_path)
    assert "needs 12 rows, found 9" in refusal("svo-probes", tmp_path, expected={"rows": 12})


def test_two_files_for_one_image_are_refused(tmp_path: Path):
    on_disk.svo(tmp_path)
    write_image(tmp_path / "svo_probes/images/10.png")
    assert "finds 1 image twice in" in refusal("svo-probes", tmp_path)


def test_mmvp_pairs_rows_and_takes_the_pattern_from_their_position(tmp_path: Path):
    on_disk.mmvp(tmp_path)
    data = load("mmvp-vlm", tmp_path)
    assert shown(data, 0) == (
        ["Orientation/1.jpg", "Orientation/2.jpg"],
        ["a photo of statement, 1", "a photo of statement, 2"],
    )
    assert shown(data, 134)[0] == ["Camera/269.jpg", "Camera/270.jpg"]
    assert data.subsets == [pattern for pattern in PATTERNS for _ in range(15)]


def test_the_odd_statement_belongs_to_the_first_image_in_either_order(tmp_path: Path):
    """As in the official script, which takes the images in the order of the rows."""
    on_disk.mmvp(tmp_path)
    rows = on_disk.mmvp_rows()
    rows[:2] = rows[1::-1]
    on_disk.write_csv(tmp_path / "MMVP_VLM/Questions.csv", rows[0], rows)
    assert shown(load("mmvp-vlm", tmp_path), 0) == (
        ["Orientation/2.jpg", "Orientation/1.jpg"],
        ["a photo of statement, 1", "a photo of statement, 2"],
    )


@pytest.mark.parametrize("folder", ["MMVP_VLM_Images", "MLLM_VLM_Images"])
def test_the_folder_of_images_may_have_the_name_in_the_readme(tmp_path: Path, folder: str):
    on_disk.mmvp(tmp_path)
    (tmp_path / "MMVP_VLM/MLLM_VLM Images").rename(tmp_path / "MMVP_VLM" / folder)
    assert len(load("mmvp-vlm", tmp_path).images) == 270
    (tmp_path / "MMVP_VLM" / folder).rename(tmp_path / "MMVP_VLM/else")
    assert "MLLM_VLM Images or " in refusal("mmvp-vlm", tmp_path)


@pytest.mark.parametrize(
    ("rows_changed", "changes", "message"),
    [
        (slice(0, 2), None, "needs 30 statements of 'Orientation and Direction' (pattern 1) in "),
        (slice(268, 270), None, "needs 30 statements of 'Viewpoint and Perspective' (pattern 9) in "),
        (30, {"Type": "Orientation"}, "(pattern 1) in"),
        (3, {"Question ID": 1}, "has the question 1 twice, in lines 2 and 5 of "),
        (3, {"Question ID": 301}, "finds the pair 3 and 301 in "),
        (3, {"Question ID": "4b"}, "finds '4b' for 'Question ID' in "),
        (3, {"Statement": ""}, "has an empty 'Statement' in "),
        (3, {"Question ID": 400}, "missing: Orientation/400.jpg"),
    ],
)
def test_a_table_of_mmvp_that_does_not_fit_is_refused(
    tmp_path: Path, rows_changed: Any, changes: dict[str, Any] | None, message: str
):
    on_disk.mmvp(tmp_path)
    rows = on_disk.mmvp_rows()
    if changes is None:
        del rows[rows_changed]
    else:
        rows[rows_changed] |= changes
    on_disk.write_csv(tmp_path / "MMVP_VLM/Questions.csv", rows[0], rows)
    assert message in refusal("mmvp-vlm", tmp_path)


def test_rows_of_mmvp_in_another_order_are_refused(tmp_path: Path):
    """A check for odd and even alone would accept 3 and 2 as a pair."""
    on_disk.mmvp(tmp_path)
    rows = on_disk.mmvp_rows()
    rows[1], rows[3] = rows[3], rows[1]
    on_disk.write_csv(tmp_path / "MMVP_VLM/Questions.csv", rows[0], rows)
    message = refusal("mmvp-vlm", tmp_path)
    assert "finds the pair 1 and 4 in " in message
    assert "but 2, which belongs to 1, in line 5" in message


@pytest.mark.parametrize("name", ["svo-probes", "mmvp-vlm"])
@pytest.mark.parametrize("form", [{"encoding": "utf-8-sig"}, {"newline": "\r\n"}, {"newline": "\r"}])
def test_a_table_with_a_byte_order_mark_or_other_line_endings_is_the_same(
    tmp_path: Path, name: str, form: dict[str, str]
):
    on_disk.WRITE[name](tmp_path)
    path = next(tmp_path.rglob("*.csv"))
    before = load(name, tmp_path)
    text = path.read_text(encoding="utf-8")
    with path.open("w", encoding=form.get("encoding", "utf-8"), newline=form.get("newline")) as file:
        file.write(text)
    assert load(name, tmp_path).fingerprint == before.fingerprint


def test_a_quote_that_joins_rows_is_refused_and_a_cell_of_two_lines_is_read(tmp_path: Path):
    """Else two rows would be lost: the cell ends at the quote of a later row, whose other cells complete the row."""
    on_disk.svo(tmp_path)
    path = tmp_path / "svo_probes/svo_probes.csv"
    rows = [f"{i},A girl sits {i}.,t,t,u,u,1{i},2{i},True,False,False" for i in range(6)]
    rows[0], rows[2] = rows[0].replace("A girl", '"A girl'), rows[2].replace("A girl", '"A girl')
    path.write_text("\n".join([",".join(on_disk.SVO_HEADER), *rows]) + "\n")
    message = refusal("svo-probes", tmp_path)
    assert f"finds a quote in {path}:2 that is not closed in its cell, so that everything up to line 4" in message
    quoted = on_disk.svo_rows()
    quoted[0]["sentence"] = 'A girl\nsays "sit".'
    on_disk.write_csv(path, on_disk.SVO_HEADER, quoted)
    assert 'A girl\nsays "sit".' in load("svo-probes", tmp_path).texts


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path):
    on_disk.svo(tmp_path)
    path = tmp_path / "svo_probes/svo_probes.csv"
    path.write_text(path.read_text().replace("index,", "sentence,", 1))
    assert "finds the column 'sentence' twice in" in refusal("svo-probes", tmp_path)
