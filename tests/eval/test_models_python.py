"""`python:` adapters: the documented example really runs, wrong returns are refused in one line."""

import pickle
import sys
import textwrap

import pytest
import torch
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.models import load_model, python
from cosmos_eval.models.base import Model


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write source as a module of the current directory; gives its name."""
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
    assert model.digest == "colours-1"
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


def test_rows_become_float32_without_gradients(module):
    name = module(adapter(text="torch.ones(len(texts), 3, dtype=torch.float64, requires_grad=True) * 2"))
    rows = load_model(f"python:{name}:factory").encode_text(["a", "b"])
    assert rows.dtype == torch.float32
    assert not rows.requires_grad


def test_a_factory_that_takes_a_device_is_given_it(module):
    name = module(adapter(arguments="device").replace("return Adapter()", "a = Adapter(); a.device = device; return a"))
    assert load_model(f"python:{name}:factory", device="cpu").device == torch.device("cpu")


def test_rows_that_exist_already_are_offered_only_where_the_adapter_has_them(module):
    assert not hasattr(load_model(f"python:{module(adapter())}:factory"), "image_rows")
    rows = "def image_rows(self, pictures): return torch.ones(len(pictures), 3)"
    model = load_model(f"python:{module(adapter(extra=rows))}:factory")
    assert model.image_rows(["p", "q"]).shape == (2, 3)
    assert not hasattr(model, "text_rows")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[1.0]] * len(texts)", "returned list"),
        ("torch.ones(3)", r"returned shape \(3,\) for 2 inputs"),
        ("torch.ones(1, 3)", r"returned shape \(1, 3\) for 2 inputs"),
        ("torch.ones(2, 0)", r"returned shape \(2, 0\)"),
        ("torch.ones(2, 3, dtype=torch.int64)", "returned torch.int64"),
    ],
)
def test_a_wrong_return_is_refused_in_one_line_that_names_the_method(module, text, said):
    model = load_model(f"python:{module(adapter(text=text))}:factory")
    with pytest.raises(RequestError, match=f"factory: encode_text {said}") as refusal:
        model.encode_text(["a", "b"])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module_anywhere", "cannot import .*no_such_module_anywhere"),
        ("def factory(:", "cannot import .*SyntaxError"),
        ("factory = 3", "has no function 'factory'"),
        ("def factory(): raise OSError('weights\\nare gone')", r"factory\(\) failed: OSError: weights are gone"),
        ("def factory(): return object()", "without preprocess, encode_image, encode_text"),
        (adapter(extra="digest = 5"), "digest is a int"),
        (adapter().replace("torch.zeros(3, 4, 4)", "image"), "preprocess returned Image; return a float tensor"),
        (adapter().replace("torch.zeros(3, 4, 4)", "torch.zeros(4, 4, 3)"), r"preprocess returned .*\(4, 4, 3\)"),
        (adapter().replace("torch.zeros(3, 4, 4)", "1 / 0"), "preprocess failed on a grey picture: ZeroDivisionError"),
    ],
)
def test_a_module_that_does_not_do_is_refused_in_one_line(module, source, said):
    with pytest.raises(RequestError, match=said) as refusal:
        load_model(f"python:{module(source)}:factory")
    assert "\n" not in str(refusal.value)


def test_an_absent_module_says_where_it_was_looked_for(module, tmp_path):
    with pytest.raises(RequestError, match=r"cannot import nowhere.*looked in"):
        load_model("python:nowhere.at_all:factory")


def test_a_description_that_is_no_json_is_refused(module):
    bad = "def describe(self): return {'weights': torch.ones(1)}"
    with pytest.raises(RequestError, match="JSON"):
        load_model(f"python:{module(adapter(extra=bad))}:factory").describe()
    good = "def describe(self): return {'arch': 'mine', 'depth': 3}"
    described = load_model(f"python:{module(adapter(extra=good))}:factory").describe()
    assert (described["arch"], described["depth"]) == ("mine", 3)
