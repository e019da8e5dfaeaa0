"""Transformed embeddings through the command line: cache, identity, folders, tables, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

import cosmos_eval
from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.models.embeddings import write_embeddings
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.feature_transforms import FeatureTransforms
from cosmos_eval.protocol.suite import Average, Suite
from cosmos_eval.published.reproduce import reproduce
from cosmos_eval.regress.compare import why_not_comparable
from cosmos_eval.report.board import make_board
from cosmos_eval.report.markdown import board_markdown
from cosmos_eval.results.merge import merge
from cosmos_eval.results.record import Result, identity
from cosmos_eval.results.store import read_model, read_result
from tests.engine.test_distributed_run import exit_codes, printed_messages
from tests.helpers.killing_runs import outcome
from tests.helpers.rank_runs import HERE, start, world
from tests.helpers.reproductions import COCO, MODEL, measured

OPTIONS = ["--truncate-dim", "6", "--center", "--quantize", "int8", "--dual-softmax", "100"]
FOLDER = "tiny-retrieval+dim6+center+int8+dsl100"
TITLE = "tiny-retrieval (dim 6, centered, int8, dual softmax 100)"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    world(folder)
    return folder


def command(root: Path, out: Path, *options: str, tasks=("retrieval",)) -> list[str]:
    benchmarks = [part for task in tasks for part in ("--benchmark", str(root / f"tiny-{task}.yaml"))]
    return ["run", "--model", f"{HERE}Batchwise", *benchmarks, "--out", str(out), "--batch-size", "4", *options]


@pytest.fixture(scope="module")
def out(root, tmp_path_factory) -> Path:
    """Results of a plain run, and of one with all transforms, in one folder."""
    folder = tmp_path_factory.mktemp("out") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSMOS_TEST_LOG", str(folder.parent / "log"))
        assert run_command(command(root, folder)) == 0
        assert run_command(command(root, folder, *OPTIONS)) == 0
    return folder


def stored(out: Path, name: str) -> Result:
    (path,) = out.glob(f"*/{name}/RESULT.json")
    return read_result(path)


def test_a_second_run_with_transforms_encodes_nothing_and_is_stored_beside_the_plain_one(out):
    plain, transformed = stored(out, "tiny-retrieval"), stored(out, FOLDER)
    assert plain.timing.encoded == {"images": 17, "texts": 34}
    assert transformed.timing.encoded == {"images": 0, "texts": 0}
    assert transformed.metrics != plain.metrics
    assert plain.benchmark.fingerprint == transformed.benchmark.fingerprint


def test_the_record_says_what_was_done_and_that_of_a_plain_run_nothing(out):
    plain, transformed = stored(out, "tiny-retrieval"), stored(out, FOLDER)
    assert "transforms" not in plain.record()
    record = transformed.record()["transforms"]
    assert record == {"truncate_dim": 6, "center": True, "quantize": "int8", "dual_softmax": 100.0}
    assert plain.identity != transformed.identity
    arguments = [plain.model.digest, plain.benchmark.fingerprint, plain.dataset.fingerprint, plain.precision, None]
    arguments += [plain.benchmark.scoring_version, plain.benchmark.plugins]
    assert identity(*arguments) == plain.identity
    assert identity(*arguments, FeatureTransforms(**record)) == transformed.identity
    identities = {identity(*arguments, FeatureTransforms(**{name: value})) for name, value in record.items()}
    assert len(identities | {plain.identity, transformed.identity}) == 6
    assert repr(transformed).startswith(f"Result({transformed.label} on {TITLE}: ")


def test_a_finished_result_is_kept_by_the_same_transforms_only(root, out, monkeypatch, capsys):
    monkeypatch.setenv("COSMOS_TEST_LOG", str(out.parent / "log"))
    before = stored(out, FOLDER)
    assert run_command(command(root, out, *OPTIONS)) == 0
    assert "already done, kept" in capsys.readouterr().err
    assert stored(out, FOLDER) == before
    assert run_command([*command(root, out.parent / "limited", *OPTIONS), "--limit", "9"]) == 0
    limited = stored(out.parent / "limited", FOLDER)
    assert (limited.limit, limited.dataset.n["images"]) == (9, 9)


def test_tables_have_a_column_of_their_own_for_transformed_embeddings(out, capsys):
    results = [stored(out, "tiny-retrieval"), stored(out, FOLDER)]
    board = make_board(results)
    assert len(board.rows) == 1
    headline = board.headline()
    assert headline["benchmark"].tolist() == ["tiny-retrieval"] * 2 + [TITLE] * 2
    text = board_markdown(board)
    assert f"## {TITLE}" in text
    assert not [remark for remark in board.remarks if "twice" in remark]
    frame = cosmos_eval.to_frame(results)
    assert set(frame["transforms"]) == {"", "dim 6, centered, int8, dual softmax 100"}
    assert cosmos_eval.to_frame(results, wide=True).shape[0] == 1
    for arguments in (["leaderboard"], ["report"], ["results", "list"]):
        assert run_command([*arguments, str(out)]) == 0
    assert "tiny-retrieval v1 (dim 6" in " ".join(capsys.readouterr().out.split())


def test_averages_of_a_suite_do_not_mix_plain_and_transformed(root, out):
    definition = load_benchmark(root / "tiny-retrieval.yaml")
    suite = Suite("some", (definition,), (Average("mean", ("tiny-retrieval",), "text_to_image_recall@1"),), "", ())
    results = [stored(out, "tiny-retrieval"), stored(out, FOLDER)]
    board = make_board(results, suite=suite)
    averages = board.columns[board.columns["kind"] == "average"]
    assert averages["title"].tolist() == ["mean", f"mean ({results[1].transforms.title})"]
    values = [board.cell(0, column).value for column in averages.index]
    assert values == [result.metrics["text_to_image_recall@1"].value for result in results]
    assert not [remark for remark in board.remarks if "left out" in remark]
    plain_only = make_board(results[:1], suite=suite)
    assert plain_only.columns["title"].tolist() == [title for title in board.columns["title"] if "dim 6" not in title]


def test_regress_compares_like_with_like(out, capsys):
    (folder,) = [path for path in out.iterdir() if not path.name.startswith(".") and path.is_dir()]
    assert list(read_model(folder)) == ["tiny-retrieval", TITLE]
    assert run_command(["regress", str(folder), str(folder)]) == 2  # too few images for a test
    assert TITLE in capsys.readouterr().out
    assert run_command(["regress", str(folder / "tiny-retrieval"), str(folder / FOLDER)]) == 2
    assert f"the baseline has tiny-retrieval; the candidate {TITLE}" in capsys.readouterr().err
    both = [str(folder / "tiny-retrieval"), str(folder / FOLDER)]
    assert run_command(["regress", *both, "--allow-transforms"]) == 2  # too few images for a test
    done = f"tiny-retrieval: done to the embeddings: nothing in the baseline, {TITLE[16:-1]} in the candidate"
    assert done in capsys.readouterr().out
    assert run_command(["regress", str(folder), both[0], "--allow-transforms"]) == 2
    assert "the baseline has two results of tiny-retrieval" in capsys.readouterr().err
    assert why_not_comparable(*(read_result(Path(path) / "RESULT.json") for path in both)).endswith(
        "--allow-transforms"
    )
    assert run_command(["results", "diff", str(folder / "tiny-retrieval"), str(folder / FOLDER)]) == 1
    assert "transforms.truncate_dim" in capsys.readouterr().out


def test_published_figures_are_not_compared_with_transformed_embeddings():
    results = [measured(transforms=FeatureTransforms(center=True))]
    refused = [line for cell in reproduce("paper-retrieval", results).cells for line in cell.refused]
    assert f"{MODEL} on {COCO}: its embeddings were transformed (centered), so not compared; run it without" in refused
    both = reproduce("paper-retrieval", [measured(), *results])
    assert both.count("reproduced") == 2


def test_merging_keeps_both(out, tmp_path):
    assert merge([out], tmp_path / "merged").copied == 2
    names = {path.parent.name for path in (tmp_path / "merged").glob("*/*/RESULT.json")}
    assert names == {"tiny-retrieval", FOLDER}


def test_two_ranks_give_the_samples_of_one_process(root, tmp_path):
    results = {}
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        run = command(root, folder / "out", *OPTIONS)
        assert exit_codes(start(run, ranks, folder / "output")) == [0] * ranks, printed_messages(
            folder / "output", ranks
        )
        results[ranks] = outcome(folder / "out")
    assert results[1] == results[2]


def test_every_task_that_scores_whole_embeddings_takes_transforms_of_embeddings(root, tmp_path, monkeypatch):
    monkeypatch.setenv("COSMOS_TEST_LOG", str(tmp_path / "log"))
    tasks = ("retrieval", "classification", "perception")
    options = ["--truncate-dim", "5", "--quantize", "binary"]
    assert run_command(command(root, tmp_path / "out", *options, tasks=tasks)) == 0
    assert {path.parent.name for path in tmp_path.glob("out/*/*/RESULT.json")} == {
        f"tiny-{task}+dim5+binary" for task in tasks
    }


@pytest.mark.parametrize(
    ("options", "task", "message"),
    [
        (["--center"], "segmentation", "tiny-segmentation: --center is not defined for it"),
        (["--dual-softmax", "100"], "perception", "tiny-perception: --dual-softmax is not defined for it"),
        (["--dual-softmax", "1000"], "retrieval", "dual_softmax must be a number above 0 and at most 300"),
        (["--quantize", "int4"], "retrieval", "quantize must be int8 or binary, got 'int4'"),
    ],
)
def test_what_is_not_defined_is_refused_in_one_line_before_anything_is_read(
    root, tmp_path, capsys, options, task, message
):
    assert run_command(command(root, tmp_path / "out", *options, tasks=(task,))) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval: ")]
    assert message in line
    assert not list(tmp_path.rglob("RESULT.json"))


def test_stored_embeddings_are_transformed_too(tmp_path):
    write_embeddings(
        tmp_path / "folder",
        ["a", "b"],
        [[1.0, 0.0, 3.0], [0.0, 1.0, 3.0]],
        ["first", "second"],
        [[1.0, 0.1, 3.0], [0.1, 1.0, 3.0]],
    )
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = cosmos_eval.RetrievalData.from_pairs(images, ["first", "second"], names=["a", "b"])
    (result,) = cosmos_eval.evaluate(f"embeddings:{tmp_path / 'folder'}", {"two": data}, truncate_dim=2, center=True)
    assert result.transforms == FeatureTransforms(truncate_dim=2, center=True)
    assert result.metrics["text_to_image_recall@1"].value == 1


def test_a_definition_may_transform_embeddings_and_is_then_another_protocol(root, tmp_path, monkeypatch):
    monkeypatch.setenv("COSMOS_TEST_LOG", str(tmp_path / "log"))
    content = yaml.safe_load((root / "tiny-retrieval.yaml").read_text())
    plain = load_benchmark(root / "tiny-retrieval.yaml")
    path = tmp_path / "tiny-retrieval.yaml"
    path.write_text(yaml.safe_dump({**content, "embeddings": {"truncate_dim": 6, "dual_softmax": 100}}))
    definition = load_benchmark(path)
    assert definition.fingerprint != plain.fingerprint
    assert replace(plain, embeddings={}).fingerprint == plain.fingerprint
    assert (
        run_command(["run", "--model", f"{HERE}Batchwise", "--benchmark", str(path), "--out", str(tmp_path / "a")]) == 0
    )
    options = ["--truncate-dim", "6", "--dual-softmax", "100"]
    assert run_command(command(root, tmp_path / "b", *options)) == 0
    by_definition, by_option = stored(tmp_path / "a", "tiny-retrieval"), stored(tmp_path / "b", "tiny-retrieval*")
    assert by_definition.metrics == by_option.metrics
    assert not by_definition.transforms
    with pytest.raises(RequestError, match=r"its definition transforms embeddings .* run it without --center$"):
        cosmos_eval.evaluate(f"{HERE}Batchwise", path, center=True)
    for bad, message in (({"dim": 3}, "no option 'dim'"), ({"truncate_dim": 0}, "truncate_dim must be")):
        path.write_text(yaml.safe_dump({**content, "embeddings": bad}))
        with pytest.raises(RequestError, match=rf"tiny-retrieval\.yaml:\d+: .*{message}"):
            load_benchmark(path)


def test_a_record_with_other_transforms_is_not_valid(out):
    text = json.dumps({**stored(out, FOLDER).record(), "transforms": {"whiten": True}, "checksum": "0" * 64})
    with pytest.raises(RequestError, match="transforms"):
        Result.from_json(text, "some file")
