"""docs/reproduce.md: suites, definitions and figures are those of the code, and so are the sizes of differences."""

import re
from pathlib import Path

import pytest
import yaml

from cosmos_eval.protocol.benchmark import list_suites, load_benchmark, read_suite
from cosmos_eval.published.figures import OPEN_CLIP_PAPER, published
from cosmos_eval.published.reproduce import REPRODUCED, reproduce

DOCS = (Path(__file__).parents[2] / "docs/reproduce.md").read_text(encoding="utf-8")
HF = {
    "hf:openai/clip-vit-base-patch16": "open_clip:ViT-B-16/openai",
    "hf:openai/clip-vit-base-patch32": "open_clip:ViT-B-32/openai",
    "hf:openai/clip-vit-large-patch14": "open_clip:ViT-L-14/openai",
    "hf:laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "open_clip:ViT-B-32/laion2b_s34b_b79k",
    "hf:laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K": "open_clip:ViT-B-16/datacomp_xl_s13b_b90k",
    "hf:laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K": "open_clip:ViT-B-32/datacomp_xl_s13b_b90k",
    "hf:google/siglip-base-patch16-224": "open_clip:ViT-B-16-SigLIP/webli",
}
"""The same weights in two libraries."""


def largest_difference(benchmark: str, first: str, second: str, metrics: str = "") -> tuple[float, int]:
    """Return the largest difference of two papers for the same weights, in points, and the number of shared figures."""
    frame = published()
    frame = frame[(frame["benchmark"] == benchmark) & (frame["spec"] != "")]
    frame = frame[frame["metric"].str.fullmatch(metrics or ".*")]
    frame = frame.assign(spec=frame["spec"].replace(HF))
    sides = [
        frame[frame["paper"].str.startswith(paper)].set_index(["spec", "metric"])["value"] for paper in (first, second)
    ]
    shared = (100 * (sides[0] - sides[1])).abs().dropna()
    return round(shared.max(), 2), len(shared)


def allowed_points(benchmark: str, paper: str, metric: str) -> float:
    """Return the sum of the known differences of a figure, in points."""
    differences = load_benchmark(benchmark).published
    return sum(difference.points for difference in differences if difference.applies_to(paper, metric))


def test_suites_with_figures_are_named():
    rows = re.findall(r"^\| (`.*?) \|", DOCS, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row)}
    with_figures = {name for name in list_suites() if read_suite(name).published and reproduce(name, []).cells}
    assert with_figures <= named
    assert len({cell.target.spec for cell in reproduce("open-clip", []).cells}) == 116  # "116 models"
    assert len({cell.target.spec for cell in reproduce("compositional", []).cells}) == 30  # "thirty models"


def test_its_yaml_is_what_definitions_say():
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    first, second = yaml.safe_load(block)["published"]
    shipped = load_benchmark("coco-val2017-retrieval").published[0]
    assert (shipped.paper, shipped.points, shipped.why) == (first["paper"], first["points"], first["why"])
    of_pets = load_benchmark("pets-vtab").published
    assert (second["metric"], second["why"]) in [(difference.metric, difference.why) for difference in of_pets]


def test_its_python_runs():
    (block,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    *lines, last = block.strip().splitlines()
    names: dict = {}
    exec(compile("\n".join(lines), "docs/reproduce.md", "exec"), names)
    expression, _, said = last.partition("  # ")
    assert eval(expression, names).tolist() == [said]


def test_the_number_of_rows_is_right():
    frame = published(secondary=True, unmapped=True)
    table = frame["paper"] == OPEN_CLIP_PAPER
    assert f"{(~table).sum():,} rows" in DOCS
    assert f"{frame.loc[table, 'model'].nunique()} models on 38 datasets" in DOCS
    assert len({paper.partition(" ")[0] for paper in frame["paper"]} - {"SigLIP"}) == 26  # SigLIP 2 is the 27th


@pytest.mark.parametrize(
    ("benchmark", "one", "other", "metrics", "largest"),
    [
        ("coco-karpathy-retrieval", "open_clip", "vl_compo", "", 0.08),
        ("flickr30k-test-retrieval", "open_clip", "vl_compo", "", 0.20),
        ("mmvp-vlm", "MMVP", "vl_compo", "macro_image_score", 1.52),
        ("mmvp-vlm", "MMVP", "vl_compo", ".*/image_score", 6.67),
        ("winoground", "vl_compo", "MIEB", "", 0.5),
        ("sugarcrepe", "vl_compo", "MIEB", "accuracy", 0.27),
        ("sugarcrepe", "SugarCrepe", "vl_compo", "swap_obj/accuracy", 0.25),
    ],
)
def test_two_papers_differ_for_the_same_weights_as_the_page_says_and_within_the_tolerance(
    benchmark, one, other, metrics, largest
):
    difference, count = largest_difference(benchmark, one, other, metrics)
    assert count > 0
    assert difference == largest
    metric = metrics.replace(".*", "Texts") or "text_to_image_recall@1"
    rounding = 0.05 if one == "MMVP" else 0.005
    assert difference <= max(allowed_points(benchmark, paper, metric) for paper in (one, other)) + rounding


def test_swap_obj_had_246_rows_in_the_paper_and_has_245_now():
    frame = published()
    swap_obj = frame[(frame["metric"] == "swap_obj/accuracy") & (frame["spec"] == "open_clip:ViT-L-14/openai")]
    printed = dict(zip(swap_obj["paper"].str.partition(" ")[0], swap_obj["printed"], strict=True))
    assert printed == {"SugarCrepe": f"{100 * 148 / 246:.2f}", "vl_compo": f"{100 * 148 / 245:.2f}"}


def test_a_random_subset_of_sun397_has_the_standard_error_of_the_page():
    drawn, all_ = 19850, 108754
    deviation = (0.5 * 0.5 / drawn * (1 - drawn / all_)) ** 0.5
    assert round(200 * deviation, 1) == 0.6
    assert allowed_points("sun397-full", "COSMOS", "top1") == 0.6


def test_verdicts_are_the_four_that_are_described():
    assert REPRODUCED == "reproduced"
    for verdict in ("reproduced", "within", "missed", "not run"):
        assert f"- **{verdict}**: " in DOCS
