"""`python:` adapters: the documented example runs, and wrong returns are refused in one line."""

import hashlib
import pickle
import re
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import evaluate
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.models import load_model, python
from cosmos_eval.models.base import Model
from cosmos_eval.models.spec import parse_spec


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function that writes source code as a module in the current directory and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    written = []

    def write(source, name="adapter_under_test"):
        (tmp_path / f"{name}.py").write_text(source)
        written.append(name)
        sys.modules.pop(name, None)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def documented_example():
    lines = python.__doc__.split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("    import torch"))
    last = max(i for i, line in enumerate(lines) if line.startswith("    "))
    return textwrap.dedent("\n".join(lines[first : last + 1]))


def test_the_documented_example_is_about_twenty_lines_and_tells_colours_apart(module):
    source = documented_example()
    assert sum(bool(line.strip()) for line in source.split("\n")) <= 20
    module(source, "colours")
    model = load_model("python:colours:build")
    assert isinstance(model, Model)
    assert model.digest == hashlib.sha256(b"colours-1").hexdigest()
    batch = torch.stack([model.preprocess(Image.new("RGB", (50, 40), colour)) for colour in ("red", "blue")])
    images = torch.nn.functional.normalize(model.encode_image(batch), dim=-1)
    texts = torch.nn.functional.normalize(model.encode_text(["a blue thing", "Red , red"]), dim=-1)
    assert (images @ texts.T).argmax(dim=1).tolist() == [1, 0]
    assert pickle.loads(pickle.dumps(model.preprocess))(Image.new("RGB", (3, 3))).shape == (3, 32, 32)


ADAPTER = """
import torch
class Adapter:
    {extra}
    def preprocess(self, image):
        return torch.zeros(3, 4, 4)
    def encode_image(self, x):
        return {image}
    def encode_text(self, texts):
        return {text}
def factory({arguments}):
    return Adapter()
"""


def adapter(extra="pass", image="x.mean((2, 3))", text="torch.ones(len(texts), 3)", arguments=""):
    return ADAPTER.format(extra=extra, image=image, text=text, arguments=arguments)


def test_without_a_digest_it_is_empty_so_that_nothing_is_cached(module):
    assert load_model(f"python:{module(adapter())}:factory").digest == ""
    assert load_model(f"python:{module(adapter(extra='digest = None'))}:factory").digest == ""


def test_a_run_tells_that_a_model_without_a_digest_is_measured_again(module, tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(
        "{base: toybox-retrieval, name: small, dataset: {scenes: 2, expected: {images: 2, texts: 4}}}"
    )
    source = adapter(image="x.mean((2, 3)) + 1")
    command = ["run", "--model", f"python:{module(source)}:factory", "--benchmark", "small.yaml", "--out", "runs"]
    assert run_command(command) == 0
    assert "measured again" not in capsys.readouterr().err
    assert run_command(command) == 0
    assert "small: measured again: the model has no digest" in capsys.readouterr().err


def test_embeddings_become_float32_without_gradients(module):
    name = module(adapter(text="torch.ones(len(texts), 3, dtype=torch.float64, requires_grad=True) * 2"))
    embeddings = load_model(f"python:{name}:factory").encode_text(["a", "b"])
    assert embeddings.dtype == torch.float32
    assert not embeddings.requires_grad


def test_a_factory_with_a_parameter_device_receives_it(module):
    name = module(adapter(arguments="device").replace("return Adapter()", "a = Adapter(); a.device = device; return a"))
    assert load_model(f"python:{name}:factory", device="cpu").device == torch.device("cpu")


def test_the_model_has_methods_for_stored_embeddings_only_if_the_adapter_has_them(module):
    assert not hasattr(load_model(f"python:{module(adapter())}:factory"), "read_image_embeddings")
    method = "def read_image_embeddings(self, images): return torch.ones(len(images), 3)"
    model = load_model(f"python:{module(adapter(extra=method))}:factory")
    assert model.read_image_embeddings(["p", "q"]).shape == (2, 3)
    assert not hasattr(model, "read_text_embeddings")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[1.0]] * len(texts)", "returned list"),
        ("torch.ones(3)", r"returned shape \(3,\) for 2 inputs"),
        ("torch.ones(1, 3)", r"returned shape \(1, 3\) for 2 inputs"),
        ("torch.ones(2, 0)", r"returned shape \(2, 0\)"),
        ("torch.ones(2, 3, dtype=torch.int64)", "returned torch.int64"),
        ("torch.ones(2, 3).to_sparse()", "returned a sparse tensor"),
        ("torch.ones(2, 3, device='meta')", "returned a meta tensor"),
    ],
)
def test_a_wrong_return_is_refused_in_one_line_that_names_the_method(module, text, message):
    model = load_model(f"python:{module(adapter(text=text))}:factory")
    with pytest.raises(RequestError, match=f"factory: encode_text {message}") as refusal:
        model.encode_text(["a", "b"])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module_anywhere", "cannot import .*no_such_module_anywhere"),
        ("def factory(:", "cannot import .*SyntaxError"),
        ("factory = 3", "has no function 'factory'"),
        ("def factory(): raise OSError('weights\\nare gone')", r"factory\(\) failed: OSError: weights are gone"),
        ("def factory(): return object()", "without preprocess, encode_image, encode_text"),
        ("import sys; sys.exit('no licence')", "cannot import .*SystemExit: no licence"),
        ("def factory(): raise MemoryError", "out of memory while building the model on cpu"),
        (adapter(extra="digest = 5"), "digest is a int"),
        (adapter(extra="digest = property(lambda self: 1 / 0)"), "digest failed: ZeroDivisionError"),
        (adapter(extra="device = 'abacus'"), "device failed: RuntimeError"),
        (adapter().replace("torch.zeros(3, 4, 4)", "image"), "preprocess returned Image; return a float tensor"),
        (adapter().replace("torch.zeros(3, 4, 4)", "torch.zeros(4, 4, 3)"), r"preprocess returned .*\(4, 4, 3\)"),
        (adapter().replace("torch.zeros(3, 4, 4)", "1 / 0"), r"preprocess failed: ZeroDivisionError.*grey image"),
    ],
)
def test_a_wrong_module_or_adapter_is_refused_in_one_line(module, source, message):
    with pytest.raises(RequestError, match=message) as refusal:
        load_model(f"python:{module(source)}:factory")
    assert "\n" not in str(refusal.value)


def test_the_message_about_a_missing_module_names_the_folder_searched(module, tmp_path):
    with pytest.raises(RequestError, match=r"cannot import nowhere.*looked in"):
        load_model("python:nowhere.at_all:factory")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{'weights': torch.ones(1)}", "'weights' is not a JSON value: TypeError"),
        ("{'layers': {'depth': [1, float('nan')]}}", "'layers' is not a JSON value"),
        ("{'notes': chr(0xD800)}", "'notes' is not a JSON value"),
        ("{'arch': 12}", "'arch' is a int; make it a string"),
        ("{'activation': ['gelu']}", "'activation' is a list; make it a string"),
        ("{3: 'layers'}", "the key 3 is a int"),
        ("['arch']", "is a list; make it a dictionary"),
        ("None", "is a NoneType; make it a dictionary"),
        ("1 / 0", "describe failed: ZeroDivisionError"),
    ],
)
def test_a_description_that_no_result_can_hold_is_refused_when_the_model_is_loaded(module, returned, message):
    name = module(adapter(extra=f"def describe(self): return {returned}"))
    with pytest.raises(RequestError, match=message) as refusal:
        load_model(f"python:{name}:factory")
    assert "\n" not in str(refusal.value)


def test_a_description_is_read_once_when_the_model_is_loaded(module):
    good = "def describe(self): return {'arch': 'mine', 'activation': None, 'depth': 3}"
    model = load_model(f"python:{module(adapter(extra=good))}:factory")
    model.describe()["arch"] = "another"
    described = model.describe()
    assert (described["arch"], described["activation"], described["depth"]) == ("mine", None, 3)


def test_digests_that_begin_alike_become_different_hashes_and_never_a_path(module):
    digests = []
    for digest in ("colours-1", "colours-2", "../../x", "../../y", "färben"):
        digests.append(load_model(f"python:{module(adapter(extra=f'digest = {digest!r}'))}:factory").digest)
    assert len({digest[:8] for digest in digests}) == len(digests)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    assert load_model(f"python:{module(adapter(extra=chr(39) * 2))}:factory").digest == ""
    assert load_model(f"python:{module(adapter(extra='digest = str()'))}:factory").digest == ""


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("encode_image", lambda model: model.encode_image(torch.zeros(2, 3, 4, 4))),
        ("encode_text", lambda model: model.encode_text(["a", "b"])),
        ("read_image_embeddings", lambda model: model.read_image_embeddings(["a", "b"])),
    ],
)
def test_an_exception_of_an_adapter_becomes_one_line_that_names_the_method(module, method, call):
    raising = f"""def {method}(self, *_):
        raise KeyError('no\\nkey')"""
    source = adapter().replace(f"def {method}(", f"def _{method}(").replace("    pass\n", f"    {raising}\n")
    model = load_model(f"python:{module(source)}:factory")
    with pytest.raises(RequestError, match=f"factory: {method} failed: KeyError: ") as refusal:
        call(model)
    assert "\n" not in str(refusal.value)


PIXELS = """
    def preprocess(self, image):
        {body}
        return torch.zeros(3, 4, 4)
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if image.width == 9: raise ValueError('odd')", "image image-9: .*preprocess failed: ValueError: odd"),
        ("if image.width == 9: raise MemoryError", "image image-9: .*preprocess failed: MemoryError"),
        ("if image.width == 9: return None", "image image-9: .*preprocess returned NoneType"),
        ("return torch.zeros(3, 4, image.width)", "image image-9: .* 3x4x9 .* 3x4x8 .*image-8; return one shape"),
    ],
)
def test_errors_of_preprocess_name_the_image_with_and_without_workers(module, body, message, workers):
    source = adapter().replace("    def preprocess(self, image):\n        return torch.zeros(3, 4, 4)\n", "")
    model = load_model(f"python:{module(source.replace('    pass', PIXELS.format(body=body)))}:factory")
    images = [ArrayImage(f"image-{width}", np.zeros((8, width, 3), np.uint8)) for width in (8, 9, 10)]
    with pytest.raises(RequestError, match=message) as refusal:
        Engine(model, batch_size=3, workers=workers).image_features(images)
    assert "\n" not in str(refusal.value)
    assert "Traceback" not in str(refusal.value)


MODULE = """
import torch
class Adapter(torch.nn.Module):
    {extra}
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))
    def preprocess(self, image):
        return torch.zeros(3, 4, 4)
    def encode_image(self, x):
        return x.mean((2, 3)) * self.scale
    def encode_text(self, texts):
        return self.scale.expand(len(texts), 3)
def factory({arguments}):
    return Adapter()
"""


@pytest.mark.parametrize(
    ("extra", "arguments", "of_model", "of_weights"),
    [
        ("pass", "", "meta", "meta"),  # moved
        ("pass", "device", "meta", "cpu"),  # not moved: its factory has the parameter
        ("device = torch.device('cpu')", "", "cpu", "cpu"),  # its own device counts
        ("device = 'cpu'", "device", "cpu", "cpu"),
    ],
)
def test_a_module_is_moved_unless_it_or_its_factory_chooses_the_device(module, extra, arguments, of_model, of_weights):
    name = module(MODULE.format(extra=extra, arguments=arguments))
    model = load_model(f"python:{name}:factory", device="meta")  # the only other device that every machine has
    assert (model.device.type, model.adapter.scale.device.type) == (of_model, of_weights)
    assert Engine(model, precision="auto").device.type == of_model


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("extra", "kind"), [("pass", "cuda"), ("device = torch.device('cpu')", "cpu")])
def test_a_module_runs_where_its_model_says(module, extra, kind):
    model = load_model(f"python:{module(MODULE.format(extra=extra, arguments=''))}:factory", device="cuda")
    engine = Engine(model)
    assert engine.text_features(["a"]).device.type == kind
    assert engine.precision == ("bf16" if kind == "cuda" else "fp32")


def write_retrieval_definition(folder):
    """A retrieval benchmark of two images, each with a caption; returns the path of its definition."""
    for name in ("red", "blue"):
        Image.new("RGB", (8, 8), name).save(folder / f"{name}.png")
    lines = [f'{{"image": "{name}.png", "captions": ["a {name} thing"]}}\n' for name in ("red", "blue")]
    (folder / "d.jsonl").write_text("".join(lines))
    (folder / "d.yaml").write_text(
        "name: d\nversion: 1\ntask: retrieval\ndataset: {reader: jsonl, path: d.jsonl}\n"
        "metrics: {primary: text_to_image_recall@1, k: [1]}\nsource: own\n"
    )
    return folder / "d.yaml"


def test_evaluate_takes_the_object_that_the_factory_returns(module, tmp_path):
    module(documented_example(), "colours")
    build = python.find_factory(parse_spec("python:colours:build"))
    definition = write_retrieval_definition(tmp_path)
    (from_spec,) = evaluate("python:colours:build", definition)
    (from_object,) = evaluate(build(), definition)
    assert from_object.metrics == from_spec.metrics
    assert from_object.identity == from_spec.identity
    assert from_object.model.spec == "python:colours:Colours"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda build: type(build()), "the class Colours, not a model; call it"),
        (lambda build: build, "the function build, not a model; call it"),
        (
            lambda build: torch.nn.Linear(2, 2),
            "an object of class Linear without preprocess, encode_image, encode_text",
        ),
        (
            lambda build: 3,
            "an object of class int without preprocess, encode_image, encode_text; give a model spec such as",
        ),
        (lambda build: None, "an object of class NoneType without preprocess"),
    ],
)
def test_evaluate_refuses_what_is_not_a_model(module, tmp_path, make, reason):
    module(documented_example(), "colours")
    build = python.find_factory(parse_spec("python:colours:build"))
    with pytest.raises(RequestError, match=re.escape(reason)):
        evaluate(make(build), write_retrieval_definition(tmp_path))


def test_a_module_passed_to_evaluate_stays_on_its_device():
    class Adapter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1, device="meta"))

        preprocess = encode_image = encode_text = staticmethod(lambda x: torch.ones(3, 2, 2))

    assert python.as_model(Adapter(), "cpu").device.type == "meta"
