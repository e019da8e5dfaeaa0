"""Images at single addresses (SVO-Probes): each asked once, the dead counted, private addresses never asked."""

from pathlib import Path

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.fetch import single_images
from cosmos_eval.datasets.fetch.single_images import fetch_single_images, is_asked, read_addresses
from cosmos_eval.progress import Silent
from tests.helpers.fetch_sources import FAST, contents, image_bytes
from tests.helpers.file_server import serving
from tests.helpers.perception_on_disk import SVO_HEADER, svo_rows, write_csv


def write_table(path: Path, address: str) -> Path:
    rows = []
    for row in svo_rows()[:3]:
        urls = {f"{side}_url": f"{address}/{row[f'{side}_image_id']}.jpg" for side in ("pos", "neg")}
        rows.append({**row, **urls})
    write_csv(path, SVO_HEADER, rows)
    return path


def test_images_come_once_and_the_dead_are_counted(tmp_path, monkeypatch):
    files = {f"{name}.jpg": image_bytes(name) for name in (10, 11, 20)}
    files["21.jpg"] = b"<html>this picture is gone</html>"
    files["22.jpg"] = image_bytes(22)[:300]  # damaged
    with serving(files) as server:
        table = write_table(tmp_path / "svo.csv", server.address)
        monkeypatch.setattr(single_images, "is_private", lambda url: False)
        images = fetch_single_images(table, tmp_path / "staging", FAST, Silent())
        assert images.dead == 3
        assert contents(images.folder) == {f"{name}.jpg": image_bytes(name) for name in (10, 11, 20)}
        assert next((file.name, file.url) for file in images.files) == ("10.jpg", server.url("10.jpg"))
        asked = len(server.requests)
        again = fetch_single_images(table, tmp_path / "staging", FAST, Silent())
        assert (again.dead, len(again.files), len(server.requests)) == (3, 3, asked)


def test_private_addresses_and_other_schemes_are_never_asked(tmp_path):
    with serving({f"{name}.jpg": image_bytes(name) for name in (10, 11, 12, 20, 21, 22)}) as server:
        images = fetch_single_images(write_table(tmp_path / "svo.csv", server.address), tmp_path / "s", FAST, Silent())
        assert (images.files, images.dead, server.requests) == ((), 6, [])
    for url in ("file:///etc/passwd", "ftp://1.1.1.1/x", "http://10.0.0.1/x", "http://[::1]/", "http://[", "", "x"):
        assert not is_asked(url)
    assert is_asked("https://1.1.1.1/x.jpg")


def test_an_id_that_is_no_number_or_a_table_without_addresses_is_refused(tmp_path):
    rows = [{**svo_rows()[0], "pos_image_id": "../../x"}]
    write_csv(tmp_path / "svo.csv", SVO_HEADER, rows)
    with pytest.raises(RequestError, match="expected a number"):
        read_addresses(tmp_path / "svo.csv")
    write_csv(tmp_path / "svo.csv", ("a",), [{"a": 1}])
    with pytest.raises(RequestError, match="has no columns"):
        read_addresses(tmp_path / "svo.csv")
    with pytest.raises(RequestError, match="fetch it first"):
        read_addresses(tmp_path / "nothing.csv")
