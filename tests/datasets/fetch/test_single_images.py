"""Images at single addresses (SVO-Probes): each asked once, the dead counted, private addresses never asked."""

from pathlib import Path

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.fetch import single_images
from cosmos_eval.datasets.fetch.fetching import FetchReport, fetch
from cosmos_eval.datasets.fetch.manifest import fetched_parts, read_manifest
from cosmos_eval.datasets.fetch.plan import make_fetch_plan
from cosmos_eval.datasets.fetch.single_images import fetch_single_images, is_asked, read_addresses
from cosmos_eval.datasets.fetch.table import load_table
from cosmos_eval.progress import Silent
from cosmos_eval.protocol.benchmark import load_benchmark
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


def test_single_addresses_are_fetched_after_their_table_and_only_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(single_images, "is_private", lambda url: False)
    with serving({f"{name}.jpg": image_bytes(name) for name in (10, 11, 20, 21, 22)}) as server:
        table_file = write_table(tmp_path / "svo.csv", server.address)
        server.files["svo.csv"] = table_file.read_bytes()
        path = tmp_path / "sources.yaml"
        path.write_text(SOURCES.replace("ADDRESS", server.address), encoding="utf-8")
        benchmark, table = load_benchmark("svo-probes"), load_table(path)
        assert [one.artifact.name for one in make_fetch_plan([benchmark], tmp_path / "d", table=table).fetched] == [
            "table"
        ]
        plan = make_fetch_plan([benchmark], tmp_path / "data", sources=["urls"], table=table)
        assert fetch(plan, network=FAST) == FetchReport(("table", "images"), ())
    names = sorted(path.name for path in (tmp_path / "data/svo_probes/images").iterdir())
    assert names == ["10.jpg", "11.jpg", "20.jpg", "21.jpg", "22.jpg"]
    entry = read_manifest(tmp_path / "data")["images"]
    assert (entry["missing"], len(entry["files"])) == (1, 5)
    assert fetched_parts(benchmark, tmp_path / "data")["images"]["missing"] == 1


SOURCES = """
artifacts:
  images:
    terms: each its owner's
    path: svo_probes/images
    provides: [svo_probes/images]
    sources:
      - {name: publisher, kind: manual, address: "https://example.org", steps: [ask]}
      - {name: urls, kind: addresses, address: somebody/svo, files: [svo_probes/svo_probes.csv], by_name_only: true}
  table:
    terms: free
    path: svo_probes/svo_probes.csv
    provides: [svo_probes/svo_probes.csv]
    sources: [{name: publisher, kind: http, address: ADDRESS/svo.csv}]
recipes: [{benchmarks: [svo-probes], artifacts: [images, table]}]
not_used: []
"""


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
    (tmp_path / "svo.csv").write_text("a" * 200_000)
    with pytest.raises(RequestError, match="larger than field limit"):
        read_addresses(tmp_path / "svo.csv")
    with pytest.raises(RequestError, match="fetch it first"):
        read_addresses(tmp_path / "nothing.csv")
