"""The maps of an image as one self-contained HTML page: its images are embedded, nothing is fetched."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from cosmos_eval.results.portable import portable_text
from cosmos_eval.show.attention import Maps, PatchMap, ShownWord, TextMaps
from cosmos_eval.show.attention_figure import BANDS, band, overlay, span, words_note

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222; }
h2 { font-size: 1.1em; margin: 2em 0 .5em; }
.maps { display: flex; flex-wrap: wrap; gap: 1em; }
body { overflow-wrap: anywhere; }
figure { margin: 0; max-width: 100%; } figure img { width: 16em; max-width: 100%; display: block; }
figcaption { font-size: .85em; }
.words span { display: inline-block; padding: .1em .35em; margin: .15em .1em; border-radius: .2em; text-align: center; }
.words small { display: block; font-size: .7em; line-height: 1.2; }
.unread { color: #999; }
.bar { width: 16em; max-width: 100%; display: block; height: 1em; }
"""


def maps_page(maps: Maps) -> str:
    """The whole page; texts are escaped."""
    title = escape(portable_text(f"{maps.model}, {maps.image}"))
    style = STYLE + "".join(f".{name} {{ background: {colour}; }}\n" for name, colour in BANDS)
    ramp = overlay(np.full((8, 128, 3), 128, np.uint8), np.linspace(0, 1, 128)[None], 128)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>Each map is scaled to [0, 1] by its own minimum and maximum, which are given below it:</p>
<img class="bar" src="{data_uri(ramp)}" alt="colours from 0 to 1"><p>0 lowest … 1 highest</p>
{"".join(section(text, maps.pixels) for text in maps.texts)}</body>
</html>
"""


def section(text: TextMaps, pixels: np.ndarray) -> str:
    """One text: the image, the maps, the words."""
    figures = [figure_html(pixels, "input of the model"), *(map_figure(pixels, patch_map) for patch_map in text.maps)]
    words = ""
    if text.words:
        legend = " ".join(f'<span class="{name}">{name}</span>' for name, _ in BANDS)
        listed = " ".join(word_span(word) for word in text.words)
        words = f'<p>{escape(words_note(text))}.</p>\n<p class="words">{listed}</p>\n<p class="words">{legend}</p>\n'
    return f'<h2>“{escape(text.text)}”</h2>\n<div class="maps">\n{"".join(figures)}</div>\n{words}'


def map_figure(pixels: np.ndarray, patch_map: PatchMap) -> str:
    height, width = patch_map.values.shape
    return figure_html(
        overlay(pixels, patch_map.shown), f"{patch_map.name}: {span(patch_map)}, {height} × {width} patches"
    )


def figure_html(pixels: np.ndarray, caption: str) -> str:
    text = escape(caption)
    return f'<figure><img src="{data_uri(pixels)}" alt="{text}"><figcaption>{text}</figcaption></figure>\n'


def word_span(word: ShownWord) -> str:
    """A word in the colour of its third with its value below; a tooltip gives the raw weight."""
    if word.weight is None:
        return f'<span class="unread" title="not read">{escape(word.text)}<small>–</small></span>'
    tokens = "1 token" if word.tokens == 1 else f"{word.tokens} tokens"
    return (
        f'<span class="{BANDS[band(word.shown)][0]}" title="weight {word.weight:.5f}, {tokens}">'
        f"{escape(word.text)}<small>{word.shown:.2f}</small></span>"
    )


def data_uri(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as a PNG inside the page."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
