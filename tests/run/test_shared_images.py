"""Retrieval and perception on COCO's images in one run: every image is encoded once."""

from pathlib import Path

import pytest

from cosmos_eval.models import load_model
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.datasets_on_disk import write_json
from tests.helpers.perception_on_disk import small, sugarcrepe

NAMES = (139, 285, 632)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    sugarcrepe(tmp_path)
    content = {
        "images": [{"id": name, "file_name": f"{name:012d}.jpg"} for name in NAMES],
        "annotations": [{"id": i, "image_id": name, "caption": f"image {name}"} for i, name in enumerate(NAMES)],
    }
    write_json(tmp_path / "coco/annotations/captions_val2017.json", content)
    return tmp_path


def test_an_image_of_coco_is_encoded_once_for_retrieval_and_sugarcrepe(coco: Path):
    model = load_model("cosmos:untrained-toybox?seed=3")
    encode, seen = model.encode_image, []

    def counted(x):
        seen.append(len(x))
        return encode(x)

    model.encode_image = counted
    names = ("coco-val2017-retrieval", "sugarcrepe")
    together = evaluate(model, [small(name) for name in names], coco)
    assert seen == [len(NAMES)]
    apart = [evaluate(model, [small(name)], coco)[0] for name in names]
    assert seen == [len(NAMES)] * 3
    for one, other in zip(together, apart, strict=True):
        assert {name: metric.value for name, metric in one.metrics.items()} == pytest.approx(
            {name: metric.value for name, metric in other.metrics.items()}, abs=1e-4
        )
