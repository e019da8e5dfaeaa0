"""Images of the HTML report: embedded within a budget, made smaller, and named where they are left out."""

import os

import pytest
from PIL import Image

from cosmos_eval.page.images import embed, shrink
from cosmos_eval.page.report import LARGEST, put_together, write_report
from tests.helpers.report_folder import data_of, fingerprint_of, noise, one, write


@pytest.fixture(autouse=True)
def shipped(monkeypatch):
    monkeypatch.setattr("cosmos_eval.page.geometry.shipped_fingerprint", fingerprint_of)


def test_images_beyond_the_budget_are_named_and_folders_take_turns(tmp_path):
    for name in ("a/1", "a/2", "a/3", "b/1"):
        noise(tmp_path / f"{name}.png")
    size = len(shrink(tmp_path / "a" / "1.png")[0])
    kept, left_out = embed(tmp_path, int(2.5 * size))
    assert [one.path for one in kept] == ["a/1.png", "b/1.png"]
    assert left_out == ["a: 2 more images, no room"]
    assert embed(tmp_path, 0) == ([], ["a: 3 more images, no room", "b: 1 more image, no room"])


def test_a_image_is_made_smaller_and_loses_what_else_its_file_tells(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    exif[0x0112] = 6  # lies on its side, and stays there: no model sees it turned
    Image.new("RGB", (1000, 4000), "red").save(tmp_path / "high.jpg", exif=exif)
    (found,), _ = embed(tmp_path, 10**6)
    assert (found.width, found.height) == (400, 1600)
    import base64

    assert b"taken at home" not in base64.b64decode(found.source.split(",")[1])


def test_what_is_no_image_is_named_and_label_maps_links_and_hidden_files_are_passed_over(tmp_path):
    (tmp_path / "broken.png").write_text("<svg onload=alert(1)>")
    for name in ("masks/1.png", ".cache/1.png", ".hidden.png", "evaluations/curve.png"):
        noise(tmp_path / name, 8)
    (tmp_path / "evaluations" / "curve.csv").write_text("step")
    os.mkfifo(tmp_path / "pipe.png")  # whoever opens it waits forever
    (tmp_path / "link.png").symlink_to(tmp_path / "masks" / "1.png")
    kept, left_out = embed(tmp_path, 10**6, with_curves=False)
    assert kept == []
    assert [one.path for one in embed(tmp_path, 10**6)[0]] == ["evaluations/curve.png"]
    assert left_out == ["broken.png: not a readable image (UnidentifiedImageError)"]


def test_a_name_that_is_no_text_does_not_stop_the_page(tmp_path):
    write(tmp_path, one("m", "flowers", 0.5))
    noise(tmp_path / "caf\udce9.png", 8)  # a byte that is not UTF-8
    page = write_report(tmp_path)
    assert page.images == 1
    assert data_of(page.path)["images"][0]["path"] == "caf\udce9.png"


def test_where_data_fill_the_page_images_give_way(tmp_path):
    noise(tmp_path / "1.png", 500)
    done = put_together(
        tmp_path, {"title": "t", "models": [], "groups": [], "curves": [], "x": "x" * LARGEST}, [], tmp_path / "r.html"
    )
    assert done.images == 0
    assert done.left_out == ["the folder itself: 1 more image, no room"]
