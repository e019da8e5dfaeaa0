"""`cosmos-eval show attention`: what it draws, that its files are whole and safe, and what it refuses."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from cosmos_core.attention_maps import AttentionMaps, attention_maps
from cosmos_core.dense import patch_features
from cosmos_core.errors import RequestError
from cosmos_core.token_words import Word
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.toybox import captions, make_scene, render
from cosmos_eval.models import load_model
from cosmos_eval.models.abilities import require_attention_reader
from cosmos_eval.models.base import AttentiveModel
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.models.similarity_maps import similarity_maps
from cosmos_eval.show.attention import LAST_BLOCKS, pixels_of_input, read_maps, show_attention, shown_words
from cosmos_eval.show.attention_figure import band, maps_figure, overlay, words_note, wrap_words
from cosmos_eval.show.attention_page import maps_page
from tests.helpers.patch_models import PatchModel, noise

SCRIPT = '<script>alert("x")</script> & <img src=http://e.example/x.png>'


@pytest.fixture(scope="module")
def toybox():
    return load_model("cosmos:toybox")


@pytest.fixture
def image_file(tmp_path) -> Path:
    path = tmp_path / "wide.png"
    Image.fromarray(noise(48, 80)).save(path)
    return path


class PlacedPatches(PatchModel):
    """Similarity that is known: the patch in the second row's third column is the text's own vector."""

    def encode_patches(self, x, attention="vanilla"):
        made = torch.zeros(len(x), 3, 4, 2)
        made[..., 1] = 1
        made[:, 1, 2] = torch.tensor([2.0, 0.0])
        return made

    def encode_text(self, texts):
        return torch.tensor([[3.0, 0.0]] * len(texts))


def run(out: Path, *arguments: str) -> int:
    return run_command(["show", "attention", "--out", str(out), *arguments])


class Page(HTMLParser):
    """Tags, addresses and words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.said: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


def test_a_scene_needs_no_files_and_speaks_for_itself(tmp_path, capsys):
    assert run(tmp_path, "--model", "cosmos:toybox", "--scene", "3") == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "toybox test scene 3, 4 x 4 patches: cross-attention",
        f"Image: {tmp_path}/attention.png",
        f"Page: {tmp_path}/attention.html",
    ]
    with Image.open(tmp_path / "attention.png") as image:
        image.load()
        assert image.format == "PNG"
    page = Page((tmp_path / "attention.html").read_text(encoding="utf-8"))
    assert not page.open
    for word in captions(make_scene(0, "test", 3)).full[0].replace(",", " ").split():
        assert word in page.said


def test_both_kinds_stand_side_by_side_for_every_text(tmp_path, image_file, capsys):
    texts = ["--text", "a red ring", "--text", "blue"]
    kinds = ["--kind", "attention", "--kind", "similarity", "--last-block", "csa", "--last-block", "naclip"]
    assert (
        run(tmp_path / "out", "--model", "cosmos:toybox", "--image", str(image_file), *texts, *kinds, "--size", "96")
        == 0
    )
    assert "wide.png, 6 x 6 patches: cross-attention; similarity, csa; similarity, naclip" in capsys.readouterr().out
    page = Page((tmp_path / "out" / "attention.html").read_text(encoding="utf-8"))
    assert page.tags.count("img") == 1 + 2 * 4  # the bar of colours; an image and three maps for each text
    assert {"a", "red", "ring", "blue"} <= set(page.said)


def test_images_of_the_page_are_whole_and_inside_it(tmp_path):
    assert run(tmp_path, "--model", "cosmos:toybox", "--scene", "0", "--text", SCRIPT) == 0
    text = (tmp_path / "attention.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert SCRIPT in "".join(page.said)
    assert "script" in page.said  # as a word with its weight
    assert len(page.addresses) == 3
    for address in page.addresses:
        kind, content = address.split(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            image.load()
    assert not re.search(r"https?://", re.sub(r"https?://e\.example/", "", text))  # the one in the text is text


def test_attention_is_the_model_s_own(toybox):
    pixels = render(make_scene(0, "test", 1), 256)
    texts = ["a red ring", "two objects on teal"]
    maps = read_maps(toybox, "scene", Image.fromarray(pixels), texts, ("attention",), ())
    x = toybox.preprocess(Image.fromarray(pixels))[None].expand(2, -1, -1, -1)
    with torch.no_grad():
        own = attention_maps(toybox.core, x, toybox.tokenize(texts))
    for i, text in enumerate(maps.texts):
        (patches,) = text.maps
        assert patches.values.sum() == pytest.approx(1)
        np.testing.assert_allclose(patches.values, own.patches[i].numpy(), atol=1e-6)
        assert (patches.shown.min(), patches.shown.max()) == (0, 1)
        assert [word.text for word in text.words] == text.text.split()
        assert [word.weight for word in text.words] == pytest.approx(own.tokens[i, 1 : 1 + len(text.words)].tolist())
        assert {0.0, 1.0} <= {round(word.shown, 6) for word in text.words}
        assert f"{100 * own.tokens[i, 1 : 1 + len(text.words)].sum():.0f} %" in words_note(text)


def test_the_adapter_names_words_and_gives_the_same_for_a_text_alone_and_beside_a_longer_one(toybox):
    assert isinstance(toybox, AttentiveModel)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    alone = toybox.attention_maps(x[:1], ["red ring"])
    beside = toybox.attention_maps(x, ["red ring", "a small striped purple circle at top left on teal"])
    assert alone.words[0] == beside.words[0] == (Word("red", range(1, 2)), Word("ring", range(2, 3)))
    assert alone.word_weights(0) == pytest.approx(beside.word_weights(0), rel=1e-4, abs=1e-7)
    torch.testing.assert_close(alone.patches[0], beside.patches[0])
    assert not alone.patches.requires_grad


def test_similarity_is_the_cosine_of_each_patch(toybox):
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    texts = ["red ring", "teal", "a star"]
    maps = similarity_maps(toybox, x, texts, "csa")
    assert maps.shape == (2, 3, 4, 6)
    with torch.no_grad():
        patches = patch_features(toybox.core.visual, x, "csa")
    rows = toybox.encode_text(texts)
    for b, n, row, column in ((0, 0, 0, 0), (1, 2, 3, 5), (0, 1, 2, 4)):
        expected = F.cosine_similarity(patches[b, row, column], rows[n], dim=0)
        assert maps[b, n, row, column].item() == pytest.approx(expected.item(), abs=1e-5)


def test_an_open_clip_model_has_similarity_by_itself():
    import open_clip

    from cosmos_eval.models.open_clip import OpenClipModel

    torch.manual_seed(0)
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    model = OpenClipModel(
        open_clip.CLIP(**config), open_clip.SimpleTokenizer(context_length=16), ImagePreprocess(32), arch="tiny",
        config=config, spec="open_clip:tiny/x", source="x", activation_source="user",
    )  # fmt: skip
    maps = read_maps(model, "noise", Image.fromarray(noise(40, 60)), ["a dog"], ("similarity",), LAST_BLOCKS, 48)
    assert [(one.name, one.values.shape) for one in maps.texts[0].maps] == [
        ("similarity, vanilla", (6, 6)),
        ("similarity, csa", (6, 6)),
    ]
    assert maps.texts[0].words == ()
    with pytest.raises(RequestError, match="no cross-attention poolers"):
        require_attention_reader(model)


def test_a_model_of_one_s_own_is_shown_by_similarity(tmp_path, image_file):
    shown = show_attention(PlacedPatches(), tmp_path, image=image_file, texts=["anything"], attentions=["vanilla"])
    (text,) = shown.maps.texts
    expected = np.zeros((3, 4))
    expected[1, 2] = 1
    np.testing.assert_array_equal(text.maps[0].shown, expected)
    np.testing.assert_array_equal(text.maps[0].values, expected)
    np.testing.assert_allclose(shown.maps.pixels.astype(int), noise(48, 80).astype(int), atol=1)


def test_the_lit_patch_is_drawn_where_it_is():
    shown = np.zeros((3, 4))
    shown[1, 2] = 1
    painted = overlay(np.full((48, 64, 3), 128, np.uint8), shown, 64).astype(int).sum(-1)
    row, column = np.unravel_index(painted.argmax(), painted.shape)
    assert (row // 16, column // 16) == (1, 2)
    assert painted.shape == (48, 64)


def test_words_have_three_colours():
    assert [band(value) for value in (0, 0.33, 0.34, 0.66, 0.67, 1)] == [0, 0, 1, 1, 2, 2]


def test_a_word_that_was_cut_off_is_named_without_a_value(tmp_path):
    text = " ".join(["red"] * 45)  # a context of 40 has room for 38
    shown = show_attention("cosmos:toybox", tmp_path, scene=0, texts=[text])
    (maps,) = shown.maps.texts
    assert [word.weight is None for word in maps.words] == [False] * 38 + [True] * 7
    assert "7 words beyond the model's context" in words_note(maps)
    assert maps_page(shown.maps).count('title="not read"') == 7


def test_words_that_weigh_alike_are_all_low():
    attended = AttentionMaps(
        torch.ones(1, 1, 1), torch.full((1, 4), 0.25), ((Word("a", range(1, 2)), Word("b", range(2, 3))),)
    )
    assert [word.shown for word in shown_words(attended, 0)] == [0, 0]


def test_lines_of_words_are_never_wider_than_the_figure():
    words = tuple(Word("w" * (1 + i), range(i, i + 1)) for i in range(1, 38))
    attended = AttentionMaps(torch.ones(1, 1, 1), torch.rand(1, 40), (words,))
    places = list(wrap_words(shown_words(attended, 0), 4.0))
    assert all(left + wide <= 4.0 + 1e-9 for _, left, wide in places)
    assert len({line for line, _, _ in places}) > 5


def test_signs_that_begin_formulas_or_lack_a_glyph_are_drawn(toybox, tmp_path, recwarn):
    show_attention(toybox, tmp_path, scene=0, texts=["cost $5 and $\\frac$ 猫 on teal \U0001f408"])
    assert not [one for one in recwarn if "Glyph" in str(one.message)]
    maps = read_maps(toybox, "a $b$", Image.new("RGB", (64, 64)), ["$x$"], ("attention",), ())
    maps_figure(maps).canvas.draw()


def test_what_the_model_sees_is_cropped_and_scaled_as_for_it():
    preprocess = ImagePreprocess(32)
    image = Image.fromarray(noise(48, 80))
    expected = image.resize((53, 32), Image.Resampling.BICUBIC).crop((10, 0, 42, 32))
    np.testing.assert_allclose(
        pixels_of_input(preprocess(image), preprocess).astype(int), np.asarray(expected).astype(int), atol=2
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--image FILE, or a toybox test scene with --scene N"),
        (["--scene", "0", "--image", "a.jpg"], "one of the two"),
        (["--scene", "-1"], "--scene"),
        (["--image", "absent.jpg", "--text", "a"], "absent.jpg"),
        (["--image", "NOT_AN_IMAGE", "--text", "a"], "not.png: it is not an image, or of a format that is not read"),
        (["--image", "IMAGE"], "at least one --text"),
        (["--scene", "0", "--text", "  "], "--text is empty"),
        (["--scene", "0", "--text", "a", "--text", ""], "--text 2 of 2 is empty"),
        (["--scene", "0", "--text", "&nbsp;"], "has no word in the context"),
        (["--scene", "0", "--kind", "heat"], "unknown kind 'heat'"),
        (["--scene", "0", "--kind", "similarity", "--last-block", "sharp"], "'sharp'"),
        (["--scene", "0", "--size", "9"], "smaller than a patch"),
        (["--scene", "0", "--kind", "similarity", "--size", "9"], "smaller than a patch"),
        (["--scene", "0", "--device", "abacus"], "abacus"),
        (["--scene", "0", "--model", "python:tests.helpers.tiny_models:Colours"], "gives no features of patches"),
        (
            ["--scene", "0", "--model", "python:tests.helpers.tiny_models:Colours", "--kind", "attention"],
            "no cross-attention",
        ),
    ],
)
def test_a_bad_request_is_one_line_and_exit_2(tmp_path, image_file, capsys, arguments, said):
    (tmp_path / "not.png").write_text("not an image")
    places = {"IMAGE": str(image_file), "NOT_AN_IMAGE": str(tmp_path / "not.png")}
    arguments = [places.get(argument, argument) for argument in arguments]
    assert run(tmp_path / "out", "--model", "cosmos:toybox", *arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_vectors_and_patches_of_another_space_are_refused(tmp_path, image_file):
    class OtherSpace(PlacedPatches):
        def encode_text(self, texts):
            return torch.ones(len(texts), 5)

    with pytest.raises(RequestError, match="both in one space"):
        show_attention(OtherSpace(), tmp_path, image=image_file, texts=["a"])
    with pytest.raises(RequestError, match="leave --size out"):
        show_attention(PlacedPatches(), tmp_path, image=image_file, texts=["a"], size=64)


def test_broken_weights_are_refused(tmp_path, image_file):
    class Broken(PlacedPatches):
        def encode_text(self, texts):
            return torch.full((len(texts), 2), float("nan"))

    with pytest.raises(RequestError, match="similarity, vanilla is not finite"):
        show_attention(Broken(), tmp_path, image=image_file, texts=["a"])
